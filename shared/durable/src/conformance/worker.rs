//! What the worker promises over a queue.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_model::time::plus_seconds;
use tokio::sync::watch;

use super::{Setup, bodies, now, send};
use crate::queue::MAX_RECEIVES;
use crate::worker::{Handler, Settings, chores, drain, drain_all, run, run_chores, run_once};
use crate::{Message, Outcome, Outgoing, Queue, Stage, outbox};

/// Runs the worker's suite.
pub async fn suite<S: Setup>(make: &impl AsyncFn() -> S) {
    done_is_deleted_and_failed_comes_again_later(&make().await).await;
    a_panic_is_a_retry(&make().await).await;
    a_handler_that_miscounts_loses_nothing(&make().await).await;
    poison_ends_in_the_dead_letter_queue(&make().await).await;
    stages_are_drained_in_turn(&make().await).await;
    chores_fire_timers_and_send_the_outbox(&make().await).await;
    it_runs_until_shutdown(&make().await).await;
}

const STAGE: Stage = Stage::Detect;

/// Does what the body says: `fail`, `panic`, `short` (answers nothing), `pass STAGE` (sends on), or nothing.
#[derive(Default)]
struct Obedient {
    seen: Mutex<Vec<Message>>,
    queue: Option<Arc<dyn Queue>>,
}

impl Obedient {
    fn seen(&self) -> Vec<Message> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

#[async_trait]
impl Handler for Obedient {
    async fn handle(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for message in batch {
            self.seen.lock().unwrap().push(message.clone());
            match message.body.as_str() {
                "fail" => outcomes.push(Outcome::Retry("told to".into())),
                "panic" => panic!("told to"),
                "short" => return Vec::new(),
                "pass" => {
                    let queue = self.queue.as_ref().unwrap();
                    queue.send(Stage::Enrich, vec![Outgoing::now("passed".into())]).await.unwrap();
                    outcomes.push(Outcome::Done);
                }
                _ => outcomes.push(Outcome::Done),
            }
        }
        outcomes
    }
}

fn obedient() -> (Arc<Obedient>, Arc<dyn Handler>) {
    let handler = Arc::new(Obedient::default());
    (Arc::clone(&handler), handler)
}

/// One second before every retry, so that suites over real services end soon.
fn settings() -> Settings {
    Settings { retry_base_seconds: 1, retry_cap_seconds: 1, idle: Duration::from_millis(5), ..Settings::default() }
}

async fn done_is_deleted_and_failed_comes_again_later(setup: &impl Setup) {
    let (queue, (seen, handler)) = (setup.queue(), obedient());
    send(&*queue, STAGE, &["a", "fail", "b"]).await;
    drain(&*queue, STAGE, &handler, &settings()).await.unwrap();
    assert_eq!(bodies(&seen.seen()), ["a", "b", "fail"]);
    assert_eq!(drain(&*queue, STAGE, &handler, &settings()).await.unwrap(), 0, "not at once");
    setup.pass(2).await;
    assert_eq!(drain(&*queue, STAGE, &handler, &settings()).await.unwrap(), 1);
    let again = seen.seen();
    assert_eq!((bodies(&again), again[0].receives), (vec!["fail"], 2), "a failure costs no other message");
}

async fn a_panic_is_a_retry(setup: &impl Setup) {
    let (queue, (seen, handler)) = (setup.queue(), obedient());
    send(&*queue, STAGE, &["panic"]).await;
    assert_eq!(run_once(&*queue, STAGE, &handler, &settings()).await.unwrap(), 1);
    setup.pass(2).await;
    assert_eq!(run_once(&*queue, STAGE, &handler, &settings()).await.unwrap(), 1);
    assert_eq!(seen.seen().iter().map(|m| m.receives).collect::<Vec<_>>(), [1, 2]);
}

async fn a_handler_that_miscounts_loses_nothing(setup: &impl Setup) {
    let (queue, (seen, handler)) = (setup.queue(), obedient());
    send(&*queue, STAGE, &["short", "a"]).await;
    drain(&*queue, STAGE, &handler, &settings()).await.unwrap();
    setup.pass(2).await;
    drain(&*queue, STAGE, &handler, &settings()).await.unwrap();
    assert!(seen.seen().iter().any(|m| m.body == "short" && m.receives == 2));
    let depth = queue.depth(STAGE).await.unwrap();
    assert!(depth.ready + depth.in_flight >= 1, "{depth:?}");
}

async fn poison_ends_in_the_dead_letter_queue(setup: &impl Setup) {
    let (queue, (seen, handler)) = (setup.queue(), obedient());
    send(&*queue, STAGE, &["panic"]).await;
    for _ in 0..=MAX_RECEIVES {
        drain(&*queue, STAGE, &handler, &settings()).await.unwrap();
        setup.pass(2).await;
    }
    assert_eq!(seen.seen().len(), usize::try_from(MAX_RECEIVES).unwrap());
    assert_eq!(bodies(&queue.dead(STAGE, 10).await.unwrap()), ["panic"]);
}

async fn stages_are_drained_in_turn(setup: &impl Setup) {
    let queue = setup.queue();
    let first: Arc<dyn Handler> = Arc::new(Obedient { queue: Some(Arc::clone(&queue)), ..Obedient::default() });
    let (seen, last) = obedient();
    send(&*queue, STAGE, &["pass", "pass"]).await;
    // The later stage comes first in the list: what reaches it afterwards is handled all the same.
    let stages = [(Stage::Enrich, last), (STAGE, first)];
    assert_eq!(drain_all(&*queue, &stages, &settings()).await.unwrap(), 4);
    assert_eq!(bodies(&seen.seen()), ["passed", "passed"]);
}

async fn chores_fire_timers_and_send_the_outbox(setup: &impl Setup) {
    setup.timer().set("a", plus_seconds(now(setup), -1), STAGE, "due").await.unwrap();
    setup.table().write(vec![outbox::put("1", STAGE, "left").unwrap()]).await.unwrap();
    assert!(chores(&*setup.table(), &*setup.queue(), &*setup.timer()).await >= 1);
    let (seen, handler) = obedient();
    drain(&*setup.queue(), STAGE, &handler, &settings()).await.unwrap();
    assert_eq!(bodies(&seen.seen()), ["due", "left"]);
}

async fn it_runs_until_shutdown(setup: &impl Setup) {
    let (stop, stopped) = watch::channel(false);
    let (seen, handler) = obedient();
    let worker = tokio::spawn(run(setup.queue(), STAGE, handler, settings(), stopped.clone()));
    let every = Duration::from_millis(5);
    let others = tokio::spawn(run_chores(setup.table(), setup.queue(), setup.timer(), every, stopped));
    setup.timer().set("a", now(setup), STAGE, "due").await.unwrap();
    setup.pass(1).await;
    send(&*setup.queue(), STAGE, &["a"]).await;
    let mut all = Vec::new();
    for _ in 0..1000 {
        all.extend(seen.seen());
        if all.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bodies(&all), ["a", "due"]);
    stop.send(true).unwrap();
    let ends = async { (worker.await, others.await) };
    let (worker, others) = tokio::time::timeout(Duration::from_secs(10), ends).await.expect("they end at shutdown");
    worker.unwrap();
    others.unwrap();
}
