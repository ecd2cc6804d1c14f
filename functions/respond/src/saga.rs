//! The saga's machinery: a response is taken from state to state, each written down before and after
//! whatever touches IAM, so that work cut at any point goes on from what is written.
//!
//! A step message, a timer or a redelivered alert all lead to [`Respond::drive`]. Before anything is done a
//! timer is set that comes back to it, so that even a message that ends in the dead-letter queue forgets
//! nothing; one lease for each account and key keeps two workers from the same call; and every write is
//! conditional on the version that was read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sentinel_durable::codec::CodecError;
use sentinel_durable::{Stage, TimerError, lease, outbox};
use sentinel_model::response::{Progress, Response, ResponseState, Step};
use sentinel_model::{Timestamp, time};
use sentinel_state::responses::{OwnCall, Responses, StoredResponse};
use sentinel_state::{Table, TableError, Write};
use tracing::{info, warn};

use crate::actions::Target;
use crate::config::{Config, ConfigError};
use crate::message::Work;
use crate::notify::Notification;
use crate::playbook::Playbooks;
use crate::ports::Ports;

/// Seconds that one worker may hold a key.
const LEASE_SECONDS: u32 = 60;
/// Seconds after which work that was cut is looked at again, whatever became of its message.
const WATCHDOG_SECONDS: i64 = 120;
/// State changes in one go, at most; more means two writers in each other's way.
const MAX_TURNS: usize = 16;
/// Most seconds between two tries of a passing failure.
const BACKOFF_CAP_SECONDS: i64 = 300;
/// Steps kept in a response's audit trail; those in the middle give way.
const STEPS_KEPT: usize = 400;

/// What can go wrong with a piece of work. All of it is worth another delivery.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The store.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The timer.
    #[error(transparent)]
    Timer(#[from] TimerError),
    /// A message that cannot be written.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A notice that cannot be written or read.
    #[error("a notice is not of the expected form: {0}")]
    Notice(#[from] serde_json::Error),
    /// Others kept changing the same response.
    #[error("response {0} kept changing")]
    Contended(String),
    /// The alert is not in the store.
    #[error("alert {0} is not in the store")]
    NoAlert(String),
}

impl WorkError {
    pub(crate) fn is_condition(&self) -> bool {
        matches!(self, Self::Table(e) if e.is_condition())
    }
}

/// The respond stage.
pub struct Respond {
    pub(crate) ports: Ports,
    pub(crate) config: Config,
    pub(crate) playbooks: Playbooks,
    /// What is put in the outbox.
    noted: Arc<outbox::Noted>,
    /// When waiting responses expire, by their ids, as this process has set their timers.
    waiting: Mutex<HashMap<String, Timestamp>>,
}

/// How a saga goes on after a state change.
pub(crate) enum Next {
    /// At once.
    Now,
    /// When this time has come.
    At(Timestamp),
}

impl Respond {
    /// Respond over its ports; an error when the mode needs an account and none is connected.
    pub fn new(mut ports: Ports, config: Config, playbooks: Playbooks) -> Result<Self, ConfigError> {
        config.check(ports.iam.as_ref())?;
        let noted = Arc::new(outbox::Noted::new(Arc::clone(ports.responses.table())));
        ports.responses = Responses::new(noted.clone());
        Ok(Self { ports, config, playbooks, noted, waiting: Mutex::default() })
    }

    /// The settings in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The store of responses.
    pub fn responses(&self) -> &Responses {
        &self.ports.responses
    }

    /// Whether the accounts behind IAM are simulated.
    pub fn is_simulated(&self) -> bool {
        self.ports.iam.is_simulated()
    }

    pub(crate) fn table(&self) -> &Arc<dyn Table> {
        self.ports.responses.table()
    }

    /// A name of one piece of work, for leases: never the same twice, so that a restarted process waits
    /// for what its predecessor may still be doing.
    #[allow(clippy::unused_self, reason = "leases belong to this worker; a worker name may come to be configured")]
    pub(crate) fn owner(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }

    /// Takes a response as far as it goes now.
    pub(crate) async fn drive(&self, account: &str, response_id: &str) -> Result<(), WorkError> {
        let Some(stored) = self.ports.responses.get(account, response_id).await? else { return Ok(()) };
        if !stored.response.state.is_under_way() {
            return self.settle(&stored.response).await;
        }
        self.watch(&step_work(&stored.response), response_id).await?;
        let name = format!("respond#{account}#{}", stored.response.access_key_id);
        let (table, clock) = (self.table().as_ref(), self.ports.clock.as_ref());
        let Some(held) = lease::acquire(table, &name, &self.owner(), clock, LEASE_SECONDS).await? else {
            // The timer above comes back should the holder have died.
            return Ok(());
        };
        let done = self.advance(account, response_id).await;
        lease::release(table, &held, clock).await?;
        done
    }

    /// Goes on with every response that is not at its end: for the start of a process and every few minutes,
    /// so that even what messages and timers lost is found again. Returns how many there are; one that fails
    /// is logged and stops no other.
    pub async fn resume_open(&self) -> Result<usize, WorkError> {
        let open = self.ports.responses.open().await?;
        // What others decided meanwhile waits no longer.
        self.waiting().retain(|waiting, _| open.iter().any(|(_, response_id)| response_id == waiting));
        for (account, response_id) in &open {
            if let Err(e) = self.drive(account, response_id).await {
                warn!(response = %response_id, error = %e, "response could not be resumed; it will be again");
            }
        }
        self.relay().await;
        Ok(open.len())
    }

    async fn advance(&self, account: &str, response_id: &str) -> Result<(), WorkError> {
        for _ in 0..MAX_TURNS {
            let Some(mut stored) = self.ports.responses.get(account, response_id).await? else { return Ok(()) };
            let turn = match stored.response.state {
                ResponseState::Approved => self.begin(&mut stored).await,
                ResponseState::Acting => self.resume_acting(&mut stored).await,
                ResponseState::Verifying => self.verify(&mut stored).await,
                ResponseState::Undoing => self.undo_turn(&mut stored).await,
                _ => return self.settle(&stored.response).await,
            };
            match turn {
                Ok(Next::Now) => {}
                Ok(Next::At(due)) => return self.wake_at(&stored.response, due).await,
                // Somebody changed it since it was read: look again.
                Err(e) if e.is_condition() => {}
                Err(e) => return Err(e),
            }
        }
        Err(WorkError::Contended(response_id.to_owned()))
    }

    /// Sets the one timer a response that is not under way may need, then forgets the other. What this process has
    /// set already it does not set again, unless it should have fired by now.
    async fn settle(&self, response: &Response) -> Result<(), WorkError> {
        let due = response.expires_at.filter(|_| response.state == ResponseState::AwaitingApproval);
        if let Some(due) = due {
            if due > self.ports.clock.now() && self.waiting().get(&response.response_id) == Some(&due) {
                return Ok(());
            }
            let work = Work::Expire {
                account: response.account.clone(),
                response_id: response.response_id.clone(),
                correlation_id: response.correlation_id.clone(),
            };
            let id = format!("{}.expire", response.response_id);
            self.ports.timer.set(&id, due, Stage::Respond, &work.body()?).await?;
        }
        self.ports.timer.cancel(&response.response_id).await?;
        // Noted last: what failed half-way is done again.
        match due {
            Some(due) => self.waiting().insert(response.response_id.clone(), due),
            None => self.waiting().remove(&response.response_id),
        };
        Ok(())
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<String, Timestamp>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the timer that comes back to work that is about to begin, whatever becomes of this process.
    pub(crate) async fn watch(&self, work: &Work, response_id: &str) -> Result<(), WorkError> {
        let due = time::plus_seconds(self.ports.clock.now(), WATCHDOG_SECONDS);
        Ok(self.ports.timer.set(response_id, due, Stage::Respond, &work.body()?).await?)
    }

    async fn wake_at(&self, response: &Response, due: Timestamp) -> Result<(), WorkError> {
        let body = step_work(response).body()?;
        Ok(self.ports.timer.set(&response.response_id, due, Stage::Respond, &body).await?)
    }

    /// Ends a wait for approval whose time is over.
    pub(crate) async fn expire(&self, account: &str, response_id: &str) -> Result<(), WorkError> {
        for _ in 0..MAX_TURNS {
            let Some(mut stored) = self.ports.responses.get(account, response_id).await? else { return Ok(()) };
            let now = self.ports.clock.now();
            let waits = stored.response.state == ResponseState::AwaitingApproval;
            if !waits || stored.response.expires_at.is_some_and(|at| now < at) {
                return self.settle(&stored.response).await;
            }
            stored.response.expires_at = None;
            self.turn(&mut stored.response, ResponseState::Expired, "approve", "expired", "Nobody decided in time.");
            match self.save(&mut stored, Vec::new()).await {
                Err(e) if e.is_condition() => {}
                done => return done,
            }
        }
        Err(WorkError::Contended(response_id.to_owned()))
    }

    /// Refuses a response that waits: its alert turned out to be none.
    pub(crate) async fn withdraw_response(&self, account: &str, response_id: &str) -> Result<(), WorkError> {
        for _ in 0..MAX_TURNS {
            let Some(mut stored) = self.ports.responses.get(account, response_id).await? else { return Ok(()) };
            if !matches!(stored.response.state, ResponseState::AwaitingApproval | ResponseState::Approved) {
                return Ok(());
            }
            stored.response.expires_at = None;
            let detail = "Later events showed that this was no alert.";
            self.turn(&mut stored.response, ResponseState::Refused, "approve", "refused", detail);
            match self.save(&mut stored, Vec::new()).await {
                Err(e) if e.is_condition() => {}
                done => {
                    done?;
                    return self.settle(&stored.response).await;
                }
            }
        }
        Err(WorkError::Contended(response_id.to_owned()))
    }

    /// Writes a changed response with whatever belongs to the same transaction, and its notice if its state
    /// is one that people are told of.
    pub(crate) async fn save(&self, stored: &mut StoredResponse, extra: Vec<Write>) -> Result<(), WorkError> {
        let mut writes = Responses::update(&stored.response, stored.version)?;
        writes.extend(extra);
        writes.extend(self.state_notice(&stored.response, stored.version)?);
        self.table().write(writes).await?;
        stored.version += 1;
        log_state(&stored.response);
        Ok(())
    }

    /// The notice of a response that has just come to a state that people are told of.
    pub(crate) fn state_notice(&self, response: &Response, version: u64) -> Result<Vec<Write>, WorkError> {
        let told = matches!(
            response.state,
            ResponseState::AwaitingApproval
                | ResponseState::Contained
                | ResponseState::Failed
                | ResponseState::Refused
                | ResponseState::Expired
                | ResponseState::Undone
                | ResponseState::UndoBlocked
                | ResponseState::Recorded
        );
        if !told {
            return Ok(Vec::new());
        }
        self.notices(&Notification::of_response(response, version, self.ports.clock.now())?)
    }

    /// Adds a line to the audit trail.
    pub(crate) fn note(&self, response: &mut Response, step: &str, outcome: &str, detail: impl Into<String>) {
        if response.steps.len() >= STEPS_KEPT {
            response.steps.remove(STEPS_KEPT / 2);
        }
        response.steps.push(Step {
            at: self.ports.clock.now(),
            step: step.to_owned(),
            outcome: outcome.to_owned(),
            detail: detail.into(),
        });
    }

    /// Changes the state, with its line in the audit trail.
    pub(crate) fn turn(
        &self,
        response: &mut Response,
        state: ResponseState,
        step: &str,
        outcome: &str,
        detail: impl Into<String>,
    ) {
        response.state = state;
        self.note(response, step, outcome, detail);
    }

    /// Ends a response in a state.
    pub(crate) async fn end(
        &self,
        stored: &mut StoredResponse,
        state: ResponseState,
        step: &str,
        detail: impl Into<String>,
    ) -> Result<Next, WorkError> {
        let outcome = match state {
            ResponseState::Failed => "failed",
            ResponseState::Refused | ResponseState::UndoBlocked => "refused",
            _ => "ok",
        };
        self.turn(&mut stored.response, state, step, outcome, detail);
        self.save(stored, Vec::new()).await?;
        Ok(Next::Now)
    }

    /// Puts the question (again) to a person: nothing has been done.
    pub(crate) async fn ask(
        &self,
        stored: &mut StoredResponse,
        step: &str,
        reasons: Vec<String>,
    ) -> Result<Next, WorkError> {
        let detail = reasons.join(" ");
        let response = &mut stored.response;
        response.reasons = reasons;
        response.decided_by = None;
        response.decided_at = None;
        response.progress = Progress::default();
        response.expires_at = Some(self.approval_ends());
        self.turn(response, ResponseState::AwaitingApproval, step, "waiting", detail);
        self.save(stored, Vec::new()).await?;
        Ok(Next::Now)
    }

    /// When a question put now expires.
    pub(crate) fn approval_ends(&self) -> Timestamp {
        time::plus_seconds(self.ports.clock.now(), self.config.approval_seconds)
    }

    /// Notes a passing failure of IAM and when to try again; `None` when there were too many.
    pub(crate) async fn setback(
        &self,
        stored: &mut StoredResponse,
        step: &str,
        reason: &str,
    ) -> Result<Option<Next>, WorkError> {
        let progress = &mut stored.response.progress;
        progress.setbacks += 1;
        if progress.setbacks >= self.config.max_attempts {
            return Ok(None);
        }
        let due = time::plus_seconds(self.ports.clock.now(), self.backoff(progress.setbacks));
        warn!(response = %stored.response.response_id, step, reason, "IAM call to be tried again");
        self.note(&mut stored.response, step, "waiting", format!("To be tried again at {due}: {reason}."));
        self.save_quietly(stored).await?;
        Ok(Some(Next::At(due)))
    }

    /// As [`save`](Self::save), for a change within a state.
    pub(crate) async fn save_quietly(&self, stored: &mut StoredResponse) -> Result<(), WorkError> {
        self.table().write(Responses::update(&stored.response, stored.version)?).await?;
        stored.version += 1;
        Ok(())
    }

    /// Seconds before try number `setbacks` + 1: doubling, never shorter than IAM's own delay.
    pub(crate) fn backoff(&self, setbacks: u32) -> i64 {
        (1_i64 << setbacks.min(10)).clamp(self.config.propagation_seconds, BACKOFF_CAP_SECONDS)
    }

    /// The record of a call that is about to be made, by which its event will be known as ours.
    pub(crate) fn own_call(&self, response: &Response, operation: &str) -> Result<Write, WorkError> {
        let call = OwnCall {
            response_id: response.response_id.clone(),
            access_key_id: response.access_key_id.clone(),
            operations: vec![operation.to_owned()],
            at: self.ports.clock.now(),
            writes: true,
            attempt: format!("{operation}-{}-{}", response.state, response.progress.attempts),
            event_id: None,
        };
        Ok(Responses::record_own_call(&response.account, &call)?)
    }

    pub(crate) async fn kill_switch_is_on(&self) -> Result<bool, WorkError> {
        Ok(self.ports.responses.kill_switch().await?.on)
    }

    /// Sends what this process put in the outbox. What fails here is sent by the worker's chores.
    pub(crate) async fn send_noted(&self) {
        if let Err(e) = outbox::send_fresh(self.table().as_ref(), self.ports.queue.as_ref(), self.noted.take()).await {
            warn!(error = %e, "outbox was not emptied; it will be by the next round");
        }
    }

    /// Sends all that lies in the outbox. What fails here is sent by the worker's chores.
    pub(crate) async fn relay(&self) {
        // That too lies there.
        self.noted.take();
        if let Err(e) = outbox::relay(self.table().as_ref(), self.ports.queue.as_ref()).await {
            warn!(error = %e, "outbox was not emptied; it will be by the next round");
        }
    }
}

/// The message that goes on with a response.
pub(crate) fn step_work(response: &Response) -> Work {
    Work::Step {
        account: response.account.clone(),
        response_id: response.response_id.clone(),
        correlation_id: response.correlation_id.clone(),
    }
}

/// What the action is carried out on; `None` until the owner was read.
pub(crate) fn target(response: &Response) -> Option<Target> {
    Some(Target {
        account: response.account.clone(),
        user_name: response.user_name.clone()?,
        user_arn: response.principal.clone(),
        access_key_id: response.access_key_id.clone(),
    })
}

/// Logs and counts a state that was reached.
pub(crate) fn log_state(response: &Response) {
    let (kind, state) = (response.kind.as_str(), response.state.as_str());
    info!(
        response = %response.response_id,
        account = %response.account,
        key = %response.access_key_id,
        kind,
        state,
        correlation_id = %response.correlation_id,
        "response"
    );
    sentinel_telemetry::metrics::action(kind, state);
}
