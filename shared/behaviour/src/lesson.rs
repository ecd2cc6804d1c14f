//! What events teach, apart from the events: so that what one state has learned can be learned by another one.
//!
//! Two processes that know the same principal each learn what they see. Whoever writes second finds the other's
//! state in the store, and learns again, on top of it, what its own had learned: see
//! [`PrincipalState::relearn`](crate::PrincipalState::relearn).

use sentinel_model::Event;

use crate::{
    Learn, agent_family, api_name, network,
    rarity::{Risk, risk},
    sketch::hash,
    state::batch_hash,
};

/// What one event teaches: names as hashes, 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lesson {
    pub(crate) id: u32,
    pub(crate) seconds: i64,
    pub(crate) error: bool,
    pub(crate) read: bool,
    pub(crate) risky: bool,
    pub(crate) api: u32,
    pub(crate) service: u32,
    pub(crate) network: Option<u32>,
    pub(crate) agent: Option<u32>,
    pub(crate) region: Option<u32>,
    pub(crate) learn: Learn,
}

impl Lesson {
    /// What an event teaches, alerted or not.
    pub fn of(event: &Event, learn: Learn) -> Self {
        Self {
            id: hash(&event.id),
            seconds: event.time.as_second(),
            error: !event.outcome.is_success(),
            read: event.action.read_only.unwrap_or(false),
            risky: risk(event) >= Risk::Sensitive,
            api: hash(&api_name(event)),
            service: hash(&event.action.service),
            network: network(event).map(|network| hash(&network)),
            agent: event.network.user_agent.as_deref().map(|agent| hash(&agent_family(agent))),
            region: event.region.as_deref().map(hash),
            learn,
        }
    }
}

/// What the events of one batch taught of one principal.
#[derive(Debug, Clone, PartialEq)]
pub struct Lessons {
    pub(crate) batch: u32,
    pub(crate) events: Vec<Lesson>,
}

impl Lessons {
    /// None yet, of a batch of these events.
    pub fn of(batch: &[&Event]) -> Self {
        Self { batch: batch_hash(batch), events: Vec::new() }
    }

    /// Adds what one of the events taught.
    pub fn add(&mut self, lesson: Lesson) {
        self.events.push(lesson);
    }

    /// How many events taught something.
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// Whether one of the events was alerted.
    pub fn alerted(&self) -> bool {
        self.events.iter().any(|lesson| matches!(lesson.learn, Learn::Alerted { .. }))
    }
}
