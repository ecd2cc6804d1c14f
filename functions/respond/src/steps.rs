//! The steps of an action: check again, snapshot, intend, call, read back until it is in force.
//!
//! The intent is written before the call, with the record by which the call's event is known as ours; what a
//! call did is written after it. A step that is resumed between the two first reads what is, and only calls
//! again when the earlier call did not take.

use sentinel_model::response::{ActionKind, Mode, Response, ResponseState};
use sentinel_model::time;
use sentinel_state::responses::{OwnCall, Responses, StoredResponse};
use serde_json::{Value, json};

use crate::actions::{self, Action, READ_OPERATIONS, Target};
use crate::decide;
use crate::guardrails::{self, Decision, Facts, Verdict};
use crate::iam::{IamError, KeyOwner};
use crate::ports::FoundAlert;
use crate::saga::{Next, Respond, WorkError, target};

/// What stands in `decided_by` when nobody was asked.
pub(crate) const AUTOMATIC: &str = "automatic";
pub(crate) const STOPPED: &str =
    "The kill switch is on: nothing was done. Once it is off, a person must approve again.";

/// What a decision needs beside the alert, the key and its owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    pub(crate) mode: Mode,
    pub(crate) kill_switch: bool,
    pub(crate) undo_count: u32,
    pub(crate) earlier: Option<&'a str>,
    pub(crate) actions_this_hour: u32,
}

impl Respond {
    /// How far a playbook may go: never further than the deployment.
    pub(crate) fn mode_of(&self, playbook: &str) -> Mode {
        let own = self.playbooks.iter().find(|p| p.name == playbook).and_then(|p| p.mode);
        own.map_or(self.config.mode, |mode| mode.min(self.config.mode))
    }

    /// Asks IAM who owns a key, after recording that we are about to.
    pub(crate) async fn read_owner(
        &self,
        account: &str,
        access_key_id: &str,
        response_id: &str,
    ) -> Result<Result<Option<KeyOwner>, IamError>, WorkError> {
        self.record_reading(account, access_key_id, response_id).await?;
        Ok(self.ports.iam.key_owner(account, access_key_id).await)
    }

    /// Reads what an action is about, after recording that we are about to.
    pub(crate) async fn read_state(
        &self,
        response: &Response,
        action: &dyn Action,
        target: &Target,
    ) -> Result<Result<Option<Value>, IamError>, WorkError> {
        self.record_reading(&response.account, &response.access_key_id, &response.response_id).await?;
        Ok(action.read(self.ports.iam.as_ref(), target).await)
    }

    async fn record_reading(&self, account: &str, access_key_id: &str, response_id: &str) -> Result<(), WorkError> {
        let call = OwnCall {
            response_id: response_id.to_owned(),
            access_key_id: access_key_id.to_owned(),
            operations: READ_OPERATIONS.map(str::to_owned).to_vec(),
            at: self.ports.clock.now(),
            writes: false,
            attempt: "read".to_owned(),
            event_id: None,
        };
        if self.ports.iam.is_connected() {
            self.table().write(vec![Responses::record_own_call(account, &call)?]).await?;
        }
        Ok(())
    }

    pub(crate) fn decide(
        &self,
        found: &FoundAlert,
        access_key_id: &str,
        owner: Result<Option<KeyOwner>, IamError>,
        now: Circumstances<'_>,
    ) -> Decision {
        guardrails::decide(&Facts {
            alert: &found.alert,
            false_positive: found.false_positive,
            access_key_id,
            owner,
            protected: &self.config.protected,
            own_roles: &self.config.own_roles,
            kill_switch: now.kill_switch,
            ask_always: now.mode == Mode::Approve,
            undo_count: now.undo_count,
            earlier: now.earlier,
            actions_this_hour: now.actions_this_hour,
            hourly_cap: self.config.hourly_cap,
            iam_simulated: self.ports.iam.is_simulated(),
        })
    }

    /// Approved: everything is checked again, the state before is kept, and the call is intended and made.
    pub(crate) async fn begin(&self, stored: &mut StoredResponse) -> Result<Next, WorkError> {
        let Some(action) = actions::for_kind(stored.response.kind) else {
            return self.end(stored, ResponseState::Failed, "plan", "Only a person can do this.").await;
        };
        if let Some(next) = self.check_again(stored).await? {
            return Ok(next);
        }
        let Some(target) = target(&stored.response) else {
            return self.end(stored, ResponseState::Failed, "snapshot", "The key's owner is not known.").await;
        };
        let seen = match self.read_state(&stored.response, action, &target).await? {
            Ok(Some(seen)) => seen,
            Ok(None) => {
                return self.end(stored, ResponseState::Refused, "snapshot", "The key does not exist any more.").await;
            }
            Err(e) => return self.iam_failed(stored, "snapshot", &e).await,
        };
        // After a failed verification our own change may be what is read now: the first snapshot stands.
        if !stored.response.changed {
            stored.response.snapshot = Some(seen.clone());
        }
        if action.in_force(&seen) {
            stored.response.verification = Some(seen);
            let detail = "It was in force already: nothing was changed.";
            return self.end(stored, ResponseState::Contained, "snapshot", detail).await;
        }
        self.note(&mut stored.response, "snapshot", "ok", format!("IAM said before the action: {seen}."));
        self.intend(stored, ResponseState::Acting, "act", action).await?;
        self.call(stored, action).await
    }

    /// What must hold just before the action: no kill switch, a mode that acts, the alert, its guardrails,
    /// and the right of whoever approved. `Some` when it does not.
    async fn check_again(&self, stored: &mut StoredResponse) -> Result<Option<Next>, WorkError> {
        if self.kill_switch_is_on().await? {
            return self.ask(stored, "check", vec![STOPPED.to_owned()]).await.map(Some);
        }
        let mode = self.mode_of(&stored.response.playbook);
        if mode == Mode::Observe {
            let detail = "The mode is observe now: nothing was done.";
            return self.end(stored, ResponseState::Observed, "check", detail).await.map(Some);
        }
        let (account, key) = (stored.response.account.clone(), stored.response.access_key_id.clone());
        let Some(found) = self.ports.alerts.read(&account, &stored.response.alert_id).await? else {
            let detail = "The alert is not in the store any more.";
            return self.end(stored, ResponseState::Failed, "check", detail).await.map(Some);
        };
        let owner = self.read_owner(&account, &key, &stored.response.response_id).await?;
        if let Err(e) = &owner
            && e.is_passing()
        {
            return self.iam_failed(stored, "check", e).await.map(Some);
        }
        let undo_count = stored.response.undo_count;
        let now = Circumstances { mode, kill_switch: false, undo_count, earlier: None, actions_this_hour: 0 };
        stored.response.user_name = owner.as_ref().ok().and_then(|o| o.as_ref()).map(|o| o.user_name.clone());
        let decision = self.decide(&found, &key, owner, now);
        if decision.verdict == Verdict::Refused {
            let detail = decision.reasons.join(" ");
            stored.response.reasons = decision.reasons;
            return self.end(stored, ResponseState::Refused, "check", detail).await.map(Some);
        }
        if stored.response.decided_by.as_deref() == Some(AUTOMATIC) {
            if decision.verdict == Verdict::Automatic {
                return Ok(None);
            }
            return self.ask(stored, "check", decision.reasons).await.map(Some);
        }
        let by = stored.response.decided_by.clone().unwrap_or_default();
        match self.still_may_decide(&stored.response, &by).await? {
            Ok(()) => Ok(None),
            Err(reason) => self.ask(stored, "check", vec![reason]).await.map(Some),
        }
    }

    /// What must still hold before a call is tried again, of all that needs no further call: no kill switch, a mode that
    /// acts, an alert that is one, and the right of whoever approved. `Some` when it does not.
    async fn still_wanted(&self, stored: &mut StoredResponse) -> Result<Option<Next>, WorkError> {
        if self.kill_switch_is_on().await? {
            return self.ask(stored, "act", vec![STOPPED.to_owned()]).await.map(Some);
        }
        let mode = self.mode_of(&stored.response.playbook);
        if mode == Mode::Observe {
            let detail = "The mode is observe now: it was not tried again.";
            return self.end(stored, ResponseState::Observed, "act", detail).await.map(Some);
        }
        let Some(found) = self.ports.alerts.read(&stored.response.account, &stored.response.alert_id).await? else {
            let detail = "The alert is not in the store any more.";
            return self.end(stored, ResponseState::Failed, "act", detail).await.map(Some);
        };
        let refused = guardrails::alert_refusals(&found.alert, found.false_positive);
        if !refused.is_empty() {
            let detail = refused.join(" ");
            stored.response.reasons = refused;
            return self.end(stored, ResponseState::Refused, "act", detail).await.map(Some);
        }
        let by = stored.response.decided_by.clone().unwrap_or_default();
        if by == AUTOMATIC {
            let asks = "The mode is approve now: every action waits for a person.".to_owned();
            return if mode == Mode::Approve { self.ask(stored, "act", vec![asks]).await.map(Some) } else { Ok(None) };
        }
        match self.still_may_decide(&stored.response, &by).await? {
            Ok(()) => Ok(None),
            Err(reason) => self.ask(stored, "act", vec![reason]).await.map(Some),
        }
    }

    /// Whether whoever decided still may; the sentence says why not.
    pub(crate) async fn still_may_decide(
        &self,
        response: &sentinel_model::response::Response,
        username: &str,
    ) -> Result<Result<(), String>, WorkError> {
        let Some(approver) = self.ports.approvers.current(username).await? else {
            return Ok(Err(format!("{username}, who decided, is not a user any more.")));
        };
        Ok(decide::may_decide(&approver, response)
            .map_err(|reason| format!("The decision of {username} does not count any more: {reason}")))
    }

    /// Writes down that a call is about to be made, with the record of it.
    pub(crate) async fn intend(
        &self,
        stored: &mut StoredResponse,
        state: ResponseState,
        step: &str,
        action: &dyn Action,
    ) -> Result<(), WorkError> {
        let response = &mut stored.response;
        response.state = state;
        response.progress.attempts += 1;
        response.progress.intended_at = Some(self.ports.clock.now());
        let attempt = response.progress.attempts;
        self.note(response, step, "waiting", format!("About to call {} (attempt {attempt}).", action.operation()));
        let own = self.own_call(response, action.operation())?;
        self.save(stored, vec![own]).await
    }

    /// Makes the call that was intended, and writes down how it went.
    async fn call(&self, stored: &mut StoredResponse, action: &dyn Action) -> Result<Next, WorkError> {
        if self.kill_switch_is_on().await? {
            return self.ask(stored, "act", vec![STOPPED.to_owned()]).await;
        }
        let Some(target) = target(&stored.response) else {
            return self.end(stored, ResponseState::Failed, "act", "The key's owner is not known.").await;
        };
        match action.act(self.ports.iam.as_ref(), &target).await {
            Ok(()) => self.called(stored, format!("IAM took {}.", action.operation())).await,
            Err(e) => self.iam_failed(stored, "act", &e).await,
        }
    }

    async fn called(&self, stored: &mut StoredResponse, detail: String) -> Result<Next, WorkError> {
        let response = &mut stored.response;
        response.changed = true;
        response.progress.called_at = Some(self.ports.clock.now());
        response.progress.setbacks = 0;
        response.progress.reads = 0;
        self.turn(response, ResponseState::Verifying, "act", "ok", detail);
        self.save(stored, Vec::new()).await?;
        Ok(Next::Now)
    }

    /// Acting, and the worker that intended the call is gone or was throttled: once an earlier call would be
    /// seen, look whether it took, else call again.
    pub(crate) async fn resume_acting(&self, stored: &mut StoredResponse) -> Result<Next, WorkError> {
        let (Some(action), Some(target)) = (actions::for_kind(stored.response.kind), target(&stored.response)) else {
            return self.end(stored, ResponseState::Failed, "act", "The key's owner is not known.").await;
        };
        if let Some(due) = self.spreading(stored) {
            return Ok(Next::At(due));
        }
        match self.read_state(&stored.response, action, &target).await? {
            Ok(Some(seen)) if action.in_force(&seen) => {
                return self.called(stored, "The call that was intended had been made: it is in force.".into()).await;
            }
            Ok(Some(_)) => {}
            Ok(None) => {
                return self.end(stored, ResponseState::Failed, "act", "Somebody deleted the key meanwhile.").await;
            }
            Err(e) => return self.iam_failed(stored, "act", &e).await,
        }
        // Time has passed since it was decided.
        if let Some(next) = self.still_wanted(stored).await? {
            return Ok(next);
        }
        if stored.response.progress.attempts >= self.config.max_attempts {
            let detail = format!("Given up after {} attempts.", stored.response.progress.attempts);
            return self.end(stored, ResponseState::Failed, "act", detail).await;
        }
        self.intend(stored, ResponseState::Acting, "act", action).await?;
        self.call(stored, action).await
    }

    /// When a call that was intended would be seen by reads, if that is still to come.
    pub(crate) fn spreading(&self, stored: &StoredResponse) -> Option<sentinel_model::Timestamp> {
        let intended = stored.response.progress.intended_at?;
        let due = time::plus_seconds(intended, self.config.propagation_seconds);
        (self.ports.clock.now() < due).then_some(due)
    }

    /// Verifying: read back after IAM's delay, until it is in force or there were too many reads.
    pub(crate) async fn verify(&self, stored: &mut StoredResponse) -> Result<Next, WorkError> {
        let (Some(action), Some(target)) = (actions::for_kind(stored.response.kind), target(&stored.response)) else {
            return self.end(stored, ResponseState::Failed, "verify", "The key's owner is not known.").await;
        };
        if let Some(due) = self.next_read(stored) {
            return Ok(Next::At(due));
        }
        let seen = match self.read_state(&stored.response, action, &target).await? {
            Ok(Some(seen)) => seen,
            Ok(None) => {
                stored.response.verification = Some(json!({ "status": "Deleted" }));
                let detail = "Read back: somebody deleted the key since, so it cannot be used.";
                return self.end(stored, ResponseState::Contained, "verify", detail).await;
            }
            Err(e) => return self.iam_failed(stored, "verify", &e).await,
        };
        stored.response.verification = Some(seen.clone());
        if action.in_force(&seen) {
            let detail = format!("Read back: {seen}. {}", action.blast_radius().sentence);
            return self.end(stored, ResponseState::Contained, "verify", detail).await;
        }
        self.read_again(stored, ResponseState::Failed, "It did not take, or somebody put it back.").await
    }

    /// When the next reading back is due, if that is still to come.
    pub(crate) fn next_read(&self, stored: &StoredResponse) -> Option<sentinel_model::Timestamp> {
        let progress = &stored.response.progress;
        let called = progress.called_at?;
        let waits = self.config.propagation_seconds * (1 + i64::from(progress.reads));
        let due = time::plus_seconds(called, waits);
        (self.ports.clock.now() < due).then_some(due)
    }

    /// Counts a reading back that did not show what it should; too many of them end in `otherwise`.
    pub(crate) async fn read_again(
        &self,
        stored: &mut StoredResponse,
        otherwise: ResponseState,
        why: &str,
    ) -> Result<Next, WorkError> {
        stored.response.progress.reads += 1;
        let reads = stored.response.progress.reads;
        if reads >= self.config.max_reads {
            let detail = format!("Read back {reads} times without effect. {why}");
            return self.end(stored, otherwise, "verify", detail).await;
        }
        self.note(&mut stored.response, "verify", "waiting", "Not seen in force yet: to be read back again.");
        self.save_quietly(stored).await?;
        let now = self.ports.clock.now();
        Ok(Next::At(self.next_read(stored).unwrap_or(time::plus_seconds(now, self.config.propagation_seconds))))
    }

    /// After an IAM call that failed: wait and try again, or end.
    pub(crate) async fn iam_failed(
        &self,
        stored: &mut StoredResponse,
        step: &str,
        e: &IamError,
    ) -> Result<Next, WorkError> {
        if e.is_passing()
            && let Some(next) = self.setback(stored, step, &e.to_string()).await?
        {
            return Ok(next);
        }
        let ended = match stored.response.state {
            ResponseState::Undoing => ResponseState::UndoBlocked,
            _ => ResponseState::Failed,
        };
        self.end(stored, ended, step, format!("{e}.")).await
    }

    /// Whether a kind can be carried out at all.
    pub(crate) fn can_act(kind: ActionKind) -> bool {
        actions::for_kind(kind).is_some()
    }
}
