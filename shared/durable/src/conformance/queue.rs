//! The queue's promises.

use std::collections::HashSet;

use super::{Setup, bodies, now, receive, send};
use crate::queue::{MAX_BATCH, MAX_BODY_BYTES, MAX_DELAY_SECONDS, MAX_RECEIVES};
use crate::{Outgoing, QueueDepth, QueueError, Stage};

/// Runs the queue's suite.
pub async fn suite<S: Setup>(make: &impl AsyncFn() -> S) {
    sent_received_deleted(&make().await).await;
    what_is_sent_outlives_a_restart(&make().await).await;
    stages_are_apart(&make().await).await;
    not_deleted_comes_again(&make().await).await;
    stale_receipts_do_nothing(&make().await).await;
    delays(&make().await).await;
    released_comes_again(&make().await).await;
    too_many_receives_end_in_the_dead_letter_queue(&make().await).await;
    limits(&make().await).await;
    depth(&make().await).await;
    two_receivers_never_hold_one_message(&make().await).await;
}

const STAGE: Stage = Stage::Detect;

async fn sent_received_deleted(setup: &impl Setup) {
    let queue = setup.queue();
    assert!(queue.receive(STAGE, 10, 2).await.unwrap().is_empty());
    let text = "Zoë \u{1F600} \"\\\n\t";
    let before = now(setup);
    send(&*queue, STAGE, &["a", "b", text]).await;
    let messages = receive(&*queue, STAGE, 30).await;
    assert_eq!(bodies(&messages), [text, "a", "b"]);
    let ids: HashSet<_> = messages.iter().map(|m| &m.id).collect();
    assert_eq!(ids.len(), 3, "each has its own id");
    for message in &messages {
        assert_eq!(message.receives, 1);
        // Services keep milliseconds only.
        assert!(message.sent_at.as_millisecond() >= before.as_millisecond() && message.sent_at <= now(setup));
        queue.delete(STAGE, &message.receipt).await.unwrap();
    }
    setup.pass(31).await;
    assert!(receive(&*queue, STAGE, 2).await.is_empty(), "what was deleted is gone");
}

async fn what_is_sent_outlives_a_restart(setup: &impl Setup) {
    send(&*setup.queue(), STAGE, &["held", "waiting"]).await;
    let held = setup.queue().receive(STAGE, 1, 3).await.unwrap();
    setup.restart().await;
    let waiting = receive(&*setup.queue(), STAGE, 3).await;
    assert_eq!((held.len(), waiting.len()), (1, 1), "what is held stays hidden, what waits stays there");
    setup.queue().delete(STAGE, &held[0].receipt).await.unwrap();
    setup.pass(4).await;
    assert_eq!(bodies(&receive(&*setup.queue(), STAGE, 3).await), [waiting[0].body.as_str()]);
}

async fn stages_are_apart(setup: &impl Setup) {
    let queue = setup.queue();
    for stage in Stage::ALL {
        send(&*queue, stage, &[stage.as_str()]).await;
    }
    for stage in Stage::ALL {
        let messages = receive(&*queue, stage, 2).await;
        assert_eq!(bodies(&messages), [stage.as_str()]);
    }
}

async fn not_deleted_comes_again(setup: &impl Setup) {
    let queue = setup.queue();
    send(&*queue, STAGE, &["a"]).await;
    let first = receive(&*queue, STAGE, 3).await;
    setup.pass(1).await;
    assert!(receive(&*queue, STAGE, 3).await.is_empty(), "hidden for its visibility timeout");
    setup.pass(3).await;
    let second = receive(&*queue, STAGE, 3).await;
    assert_eq!(bodies(&second), ["a"]);
    assert_eq!((&second[0].id, second[0].receives), (&first[0].id, 2));
    assert_eq!(second[0].sent_at, first[0].sent_at);
    assert_ne!(second[0].receipt, first[0].receipt);
}

async fn stale_receipts_do_nothing(setup: &impl Setup) {
    let queue = setup.queue();
    send(&*queue, STAGE, &["a"]).await;
    let stale = receive(&*queue, STAGE, 2).await.remove(0).receipt;
    setup.pass(3).await;
    let fresh = receive(&*queue, STAGE, 4).await.remove(0).receipt;
    queue.delete(STAGE, &stale).await.unwrap();
    queue.release(STAGE, &stale, 0).await.unwrap();
    assert!(receive(&*queue, STAGE, 2).await.is_empty(), "a stale receipt does not show the message");
    setup.pass(5).await;
    assert_eq!(receive(&*queue, STAGE, 20).await.len(), 1, "a stale receipt does not delete it");
    queue.delete(STAGE, &fresh).await.unwrap();
    setup.pass(21).await;
    assert_eq!(receive(&*queue, STAGE, 2).await.len(), 1, "a receipt is stale once a later receive has another");
}

async fn delays(setup: &impl Setup) {
    let queue = setup.queue();
    let late = Outgoing { body: "late".into(), delay_seconds: 3 };
    queue.send(STAGE, vec![late, Outgoing::now("now".into())]).await.unwrap();
    assert_eq!(bodies(&receive(&*queue, STAGE, 60).await), ["now"]);
    setup.restart().await;
    setup.pass(4).await;
    let late = receive(&*setup.queue(), STAGE, 60).await;
    assert_eq!((bodies(&late), late[0].receives), (vec!["late"], 1));
}

async fn released_comes_again(setup: &impl Setup) {
    let queue = setup.queue();
    send(&*queue, STAGE, &["a"]).await;
    let first = receive(&*queue, STAGE, 600).await.remove(0);
    queue.release(STAGE, &first.receipt, 0).await.unwrap();
    let second = receive(&*queue, STAGE, 600).await.remove(0);
    assert_eq!((&second.id, second.receives), (&first.id, 2));
    queue.release(STAGE, &second.receipt, 3).await.unwrap();
    assert!(receive(&*queue, STAGE, 600).await.is_empty(), "released for later");
    setup.pass(4).await;
    assert_eq!(receive(&*queue, STAGE, 600).await.remove(0).receives, 3);
}

async fn too_many_receives_end_in_the_dead_letter_queue(setup: &impl Setup) {
    let queue = setup.queue();
    send(&*queue, STAGE, &["poison"]).await;
    for receives in 1..=MAX_RECEIVES {
        let message = receive(&*queue, STAGE, 600).await.remove(0);
        assert_eq!(message.receives, receives);
        queue.release(STAGE, &message.receipt, 0).await.unwrap();
    }
    assert!(queue.dead(STAGE, 10).await.unwrap().is_empty(), "not dead before it is asked for once more");
    send(&*queue, STAGE, &["good"]).await;
    assert_eq!(bodies(&receive(&*queue, STAGE, 600).await), ["good"], "the dead one costs no other its turn");
    setup.restart().await;
    let queue = setup.queue();
    let dead = queue.dead(STAGE, 10).await.unwrap();
    assert_eq!((bodies(&dead), dead[0].receives), (vec!["poison"], MAX_RECEIVES));
    assert_eq!(queue.depth(STAGE).await.unwrap().dead, 1);
    assert!(queue.dead(Stage::Enrich, 10).await.unwrap().is_empty(), "each queue has its own");
}

async fn limits(setup: &impl Setup) {
    let queue = setup.queue();
    let batch = |count: usize, bytes: usize| vec![Outgoing::now("x".repeat(bytes)); count];
    for count in [0, MAX_BATCH + 1] {
        let refused = queue.send(STAGE, batch(count, 1)).await;
        assert!(matches!(refused, Err(QueueError::BatchSize(n)) if n == count), "{refused:?}");
        let refused = queue.receive(STAGE, count, 2).await;
        assert!(matches!(refused, Err(QueueError::BatchSize(n)) if n == count), "{refused:?}");
    }
    for (count, bytes) in [(1, MAX_BODY_BYTES + 1), (2, MAX_BODY_BYTES / 2 + 1)] {
        let refused = queue.send(STAGE, batch(count, bytes)).await;
        assert!(matches!(refused, Err(QueueError::TooLarge(n)) if n == count * bytes), "{refused:?}");
    }
    let delay_seconds = MAX_DELAY_SECONDS + 1;
    let refused = queue.send(STAGE, vec![Outgoing { body: "x".into(), delay_seconds }]).await;
    assert!(matches!(refused, Err(QueueError::Delay(n)) if n == delay_seconds), "{refused:?}");
    assert!(receive(&*queue, STAGE, 2).await.is_empty(), "nothing of a refused batch was sent");

    queue.send(STAGE, batch(1, MAX_BODY_BYTES)).await.unwrap();
    queue.send(STAGE, batch(MAX_BATCH, 1)).await.unwrap();
    let lengths: HashSet<usize> = receive(&*queue, STAGE, 600).await.iter().map(|m| m.body.len()).collect();
    assert_eq!(lengths, HashSet::from([1, MAX_BODY_BYTES]));
}

async fn depth(setup: &impl Setup) {
    let queue = setup.queue();
    assert_eq!(queue.depth(STAGE).await.unwrap(), QueueDepth::default());
    send(&*queue, STAGE, &["a", "b", "c"]).await;
    queue.send(STAGE, vec![Outgoing { body: "d".into(), delay_seconds: 30 }]).await.unwrap();
    assert_eq!(queue.depth(STAGE).await.unwrap(), QueueDepth { ready: 4, in_flight: 0, dead: 0 });
    let held = queue.receive(STAGE, 1, 3).await.unwrap();
    assert_eq!(queue.depth(STAGE).await.unwrap(), QueueDepth { ready: 3, in_flight: 1, dead: 0 });
    queue.delete(STAGE, &held[0].receipt).await.unwrap();
    assert_eq!(queue.depth(STAGE).await.unwrap(), QueueDepth { ready: 3, in_flight: 0, dead: 0 });
    assert_eq!(queue.receive(STAGE, 1, 2).await.unwrap().len(), 1);
    setup.pass(3).await;
    assert_eq!(queue.depth(STAGE).await.unwrap(), QueueDepth { ready: 3, in_flight: 0, dead: 0 });
    assert_eq!(queue.depth(Stage::Respond).await.unwrap(), QueueDepth::default());
}

async fn two_receivers_never_hold_one_message(setup: &impl Setup) {
    let names: Vec<String> = (0..60).map(|i| format!("{i:02}")).collect();
    send(&*setup.queue(), STAGE, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let receivers: Vec<_> = (0..4)
        .map(|_| {
            let queue = setup.queue();
            tokio::spawn(async move { receive(&*queue, STAGE, 600).await })
        })
        .collect();
    let mut all = Vec::new();
    for receiver in receivers {
        all.extend(receiver.await.unwrap());
    }
    assert_eq!(bodies(&all), names, "each message once");
}
