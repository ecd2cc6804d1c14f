//! What people decide: approve, deny, undo. By an administrator who is not the principal concerned.
//!
//! In: a response's id and who decides. Out: the response as it stands then; the work itself follows by the
//! queue, where everything is checked once more.

use sentinel_durable::{Stage, outbox};
use sentinel_model::response::{Mode, Progress, Response, ResponseState};
use sentinel_state::responses::{KillSwitch, KillSwitchSetting, Responses, StoredResponse};
use sentinel_state::users::Role;
use sentinel_state::{TableError, Write};

use crate::ports::Approver;
use crate::saga::{Respond, WorkError, step_work};

/// Tries of a conditional change.
const TRIES: usize = 8;
/// Longest note or reason in characters.
pub const NOTE_LENGTH: usize = 2000;

/// Why a decision was not taken.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// There is no such response.
    #[error("there is no response {0}")]
    NotFound(String),
    /// This person may not decide it.
    #[error("{0}")]
    Forbidden(String),
    /// The response's state, the mode or the kill switch doesn't allow it.
    #[error("{0}")]
    Conflict(String),
    /// The store or the queue failed.
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl From<TableError> for DecideError {
    fn from(e: TableError) -> Self {
        Self::Work(e.into())
    }
}

/// A person's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Approve,
    Deny,
    Undo,
}

/// Whether a person may decide about a response; the sentence says why not.
pub fn may_decide(approver: &Approver, response: &Response) -> Result<(), String> {
    if approver.role < Role::Admin {
        return Err("only an administrator decides about responses.".to_owned());
    }
    let own_arn = approver.principals.iter().any(|p| p.eq_ignore_ascii_case(&response.principal));
    let last = response.principal.rsplit(['/', ':']).next().unwrap_or_default();
    let own_name = approver.username.eq_ignore_ascii_case(last)
        || response.user_name.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(&approver.username));
    if own_arn || own_name {
        return Err("nobody decides about a response that concerns their own principal.".to_owned());
    }
    Ok(())
}

impl Respond {
    /// Has a response that waits carried out. What follows is the worker's: the state is `approved` here.
    pub async fn approve(
        &self,
        response_id: &str,
        approver: &Approver,
        note: Option<&str>,
    ) -> Result<StoredResponse, DecideError> {
        self.decide_on(response_id, approver, note, Decision::Approve).await
    }

    /// Has a response that waits not carried out.
    pub async fn deny(
        &self,
        response_id: &str,
        approver: &Approver,
        note: Option<&str>,
    ) -> Result<StoredResponse, DecideError> {
        self.decide_on(response_id, approver, note, Decision::Deny).await
    }

    /// Has a contained response put back. The state is `undoing` here.
    pub async fn undo(
        &self,
        response_id: &str,
        approver: &Approver,
        note: Option<&str>,
    ) -> Result<StoredResponse, DecideError> {
        self.decide_on(response_id, approver, note, Decision::Undo).await
    }

    /// The kill switch as it stands.
    pub async fn kill_switch(&self) -> Result<KillSwitch, TableError> {
        self.ports.responses.kill_switch().await
    }

    /// Turns the kill switch on or off. On, no call that changes anything is made from the next one on: what
    /// is planned, approved or due waits for approval anew, an undo must be asked for again, and what was
    /// called already is still read back. Nothing is deleted, and turning it off starts nothing by itself.
    ///
    /// Who set it before, and why, stays with it. It is set all the same when that cannot be read, and by the
    /// last of two who set it at one moment: the log has every setting.
    pub async fn set_kill_switch(&self, on: bool, by: &str, reason: Option<&str>) -> Result<KillSwitch, TableError> {
        let before = self.kill_switch().await.unwrap_or_else(|e| {
            tracing::error!(error = %e, "earlier settings of the kill switch cannot be read: they are forgotten");
            KillSwitch::default()
        });
        let at = Some(self.ports.clock.now());
        let switch =
            before.then(KillSwitchSetting { on, by: Some(by.to_owned()), at, reason: reason.map(str::to_owned) });
        self.ports.responses.set_kill_switch(&switch).await?;
        tracing::warn!(on, by, reason, "kill switch set");
        Ok(switch)
    }

    async fn decide_on(
        &self,
        response_id: &str,
        approver: &Approver,
        note: Option<&str>,
        decision: Decision,
    ) -> Result<StoredResponse, DecideError> {
        if note.is_some_and(|note| note.chars().count() > NOTE_LENGTH) {
            return Err(DecideError::Conflict(format!("a note has at most {NOTE_LENGTH} characters")));
        }
        for _ in 0..TRIES {
            let Some(mut stored) = self.ports.responses.find(response_id).await? else {
                return Err(DecideError::NotFound(response_id.to_owned()));
            };
            may_decide(approver, &stored.response).map_err(DecideError::Forbidden)?;
            self.allows(&stored.response, decision).await?;
            let extra = self.apply(&mut stored.response, &approver.username, note, decision).await?;
            match self.save(&mut stored, extra).await {
                Ok(()) => {
                    self.relay().await;
                    return Ok(stored);
                }
                Err(e) if e.is_condition() => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(WorkError::Contended(response_id.to_owned()).into())
    }

    /// Whether state, time, mode and kill switch allow a decision.
    async fn allows(&self, response: &Response, decision: Decision) -> Result<(), DecideError> {
        let conflict = |reason: String| Err(DecideError::Conflict(reason));
        let wanted = match decision {
            Decision::Approve | Decision::Deny => ResponseState::AwaitingApproval,
            Decision::Undo => ResponseState::Contained,
        };
        if response.state != wanted {
            return conflict(format!("the response is {}, not {wanted}", response.state));
        }
        if decision == Decision::Deny {
            return Ok(());
        }
        if self.kill_switch_is_on().await? {
            return conflict("the kill switch is on: nothing is carried out".to_owned());
        }
        if decision == Decision::Undo {
            if !response.changed {
                return conflict("nothing was changed, so there is nothing to undo".to_owned());
            }
            return Ok(());
        }
        if response.expires_at.is_some_and(|at| at <= self.ports.clock.now()) {
            return conflict("the time to approve is over".to_owned());
        }
        if !Self::can_act(response.kind) || self.mode_of(&response.playbook) == Mode::Observe {
            return conflict("the mode is observe: nothing is carried out".to_owned());
        }
        Ok(())
    }

    /// Changes the response as decided; returns what belongs to the same transaction.
    async fn apply(
        &self,
        response: &mut Response,
        by: &str,
        note: Option<&str>,
        decision: Decision,
    ) -> Result<Vec<Write>, WorkError> {
        let now = self.ports.clock.now();
        let said = note.filter(|n| !n.is_empty()).map_or_else(String::new, |n| format!(" Note: {n}"));
        let (state, step, outcome, word) = match decision {
            Decision::Approve => (ResponseState::Approved, "approve", "ok", "Approved"),
            Decision::Deny => (ResponseState::Denied, "approve", "refused", "Denied"),
            Decision::Undo => (ResponseState::Undoing, "undo", "waiting", "Undo asked for"),
        };
        self.turn(response, state, step, outcome, format!("{word} by {by}.{said}"));
        if decision == Decision::Undo {
            response.undo_by = Some(by.to_owned());
        } else {
            response.decided_by = Some(by.to_owned());
            response.decided_at = Some(now);
            response.expires_at = None;
        }
        if decision == Decision::Deny {
            return Ok(Vec::new());
        }
        response.progress = Progress::default();
        let id = format!("{}.{}.{}", response.response_id, state, response.steps.len());
        let mut extra = vec![outbox::put(&id, Stage::Respond, &step_work(response).body()?)?];
        if decision == Decision::Approve {
            let count = self.ports.responses.hour_count(&response.account, now).await?;
            extra.push(Responses::count_action(&response.account, now, &count)?);
        }
        Ok(extra)
    }
}
