//! Random runs: duplicates, reordering, crashes, throttling and IAM that lags, all at once.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sentinel_durable::Stage;
use sentinel_model::Level;
use sentinel_model::response::{Mode, ResponseState};

use super::world::*;
use crate::iam::KeyStatus;

const RUNS: u64 = 200;

async fn run(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let world = World::with(config(Mode::Automatic), rng.random_range(0..8), BTreeMap::new()).await;
    let mut raised = Vec::new();
    for i in 0..rng.random_range(1..4) {
        let mut found = alert(&format!("al-{i}"));
        found.alert.level = if rng.random_bool(0.5) { Level::High } else { Level::Critical };
        raised.push(world.raise(found).await);
    }
    world.faults.throttle_every.store(rng.random_range(0..9), Ordering::SeqCst);
    for _ in 0..rng.random_range(1..5) {
        world.faults.crash_after(rng.random_range(1..40));
        world.pass(rng.random_range(0..60)).await;
        world.faults.restart();
        let again = &raised[rng.random_range(0..raised.len())];
        world.send(again).await;
    }
    world.faults.throttle_every.store(0, Ordering::SeqCst);
    world.pass(1800).await;
    let response = world.response().await;
    assert_eq!(response.state, ResponseState::Contained, "seed {seed}: {:?}", response.steps);
    assert_eq!((world.status(KEY).await, world.changes(KEY).await), (KeyStatus::Inactive, 1), "seed {seed}");
    assert_eq!((world.status(OTHER_KEY).await, world.changes(OTHER_KEY).await), (KeyStatus::Active, 0), "seed {seed}");
    assert_eq!(world.distinct_notices().len(), raised.len() + 1, "seed {seed}: {:?}", world.titles());
    for message in &raised {
        let answers = world.respond.responses().of_alert(ACCOUNT, &message.alert_id).await.unwrap();
        assert_eq!(answers.len(), 1, "seed {seed}");
    }
    let depth = world.db.queue().depth(Stage::Respond).await.unwrap();
    assert_eq!((depth.ready, depth.in_flight), (0, 0), "seed {seed}");
    assert_eq!(world.respond.responses().hour_count(ACCOUNT, START.parse().unwrap()).await.unwrap().actions, 1);
}

#[tokio::test]
async fn random_faults_end_with_nothing_lost_and_nothing_doubled() {
    for seed in 0..RUNS {
        run(seed).await;
    }
}
