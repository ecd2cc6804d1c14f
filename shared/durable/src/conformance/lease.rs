//! What leases promise over a table.

use super::Setup;
use crate::lease::{acquire, release, renew};

/// Runs the leases' suite.
pub async fn suite<S: Setup>(make: &impl AsyncFn() -> S) {
    one_owner_at_a_time(&make().await).await;
    an_ended_lease_is_taken_over(&make().await).await;
    renewal_holds_it(&make().await).await;
    the_token_grows_at_every_grant(&make().await).await;
    one_of_many_gets_it(&make().await).await;
}

async fn one_owner_at_a_time(setup: &impl Setup) {
    let (table, clock) = (setup.table(), setup.clock());
    let lease = acquire(&*table, "work", "a", &*clock, 60).await.unwrap().expect("it is free");
    assert_eq!((lease.name.as_str(), lease.owner.as_str(), lease.token), ("work", "a", 1));
    assert!(acquire(&*table, "work", "b", &*clock, 60).await.unwrap().is_none());
    assert!(acquire(&*table, "other", "b", &*clock, 60).await.unwrap().is_some(), "another name is another lease");
    setup.restart().await;
    let table = setup.table();
    assert!(acquire(&*table, "work", "b", &*clock, 60).await.unwrap().is_none(), "it outlives a restart");
    release(&*table, &lease, &*clock).await.unwrap();
    assert!(acquire(&*table, "work", "b", &*clock, 60).await.unwrap().is_some(), "given back, it is free");
}

async fn an_ended_lease_is_taken_over(setup: &impl Setup) {
    let (table, clock) = (setup.table(), setup.clock());
    let old = acquire(&*table, "work", "a", &*clock, 2).await.unwrap().unwrap();
    setup.pass(3).await;
    let new = acquire(&*table, "work", "b", &*clock, 60).await.unwrap().expect("it has ended");
    assert!(new.token > old.token);
    assert!(renew(&*table, &old, &*clock, 60).await.unwrap().is_none(), "it has passed on");
    release(&*table, &old, &*clock).await.expect("giving back what has passed on is no error");
    assert!(acquire(&*table, "work", "c", &*clock, 60).await.unwrap().is_none(), "and frees nothing");
    assert!(renew(&*table, &new, &*clock, 60).await.unwrap().is_some());
}

async fn renewal_holds_it(setup: &impl Setup) {
    let (table, clock) = (setup.table(), setup.clock());
    let mut lease = acquire(&*table, "work", "a", &*clock, 3).await.unwrap().unwrap();
    for _ in 0..3 {
        setup.pass(2).await;
        lease = renew(&*table, &lease, &*clock, 3).await.unwrap().expect("still held");
        assert!(acquire(&*table, "work", "b", &*clock, 3).await.unwrap().is_none());
    }
    assert_eq!(lease.token, 1, "the grant is the same");
    setup.pass(4).await;
    assert!(renew(&*table, &lease, &*clock, 3).await.unwrap().is_some(), "ended, but nobody took it");
}

async fn the_token_grows_at_every_grant(setup: &impl Setup) {
    let (table, clock) = (setup.table(), setup.clock());
    let mut last = 0;
    for round in 0..4 {
        let lease = acquire(&*table, "work", "a", &*clock, 1).await.unwrap().unwrap();
        assert!(lease.token > last, "{} after {last}", lease.token);
        last = lease.token;
        match round {
            // Again by its owner, given back, or let end.
            0 => {}
            1 => release(&*table, &lease, &*clock).await.unwrap(),
            _ => setup.pass(2).await,
        }
    }
}

async fn one_of_many_gets_it(setup: &impl Setup) {
    let clock = setup.clock();
    let tasks: Vec<_> = (0..8)
        .map(|i| {
            let (table, clock) = (setup.table(), std::sync::Arc::clone(&clock));
            tokio::spawn(async move { acquire(&*table, "work", &i.to_string(), &*clock, 60).await.unwrap() })
        })
        .collect();
    let mut granted = 0;
    for task in tasks {
        granted += usize::from(task.await.unwrap().is_some());
    }
    assert_eq!(granted, 1);
}
