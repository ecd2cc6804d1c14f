//! Undo: puts back what the snapshot says, unless somebody changed the key since; then it stops and asks.

use sentinel_model::response::{Progress, ResponseState};
use sentinel_state::responses::{Responses, StoredResponse};

use crate::actions::{self, Action, Target};
use crate::saga::{Next, Respond, WorkError, target};

impl Respond {
    /// Undoing: one turn, from wherever it stands.
    pub(crate) async fn undo_turn(&self, stored: &mut StoredResponse) -> Result<Next, WorkError> {
        let (Some(action), Some(target)) = (actions::for_kind(stored.response.kind), target(&stored.response)) else {
            return self.end(stored, ResponseState::UndoBlocked, "undo", "The key's owner is not known.").await;
        };
        if stored.response.progress.called_at.is_some() {
            return self.verify_undo(stored, action, &target).await;
        }
        if let Some(due) = self.spreading(stored) {
            return Ok(Next::At(due));
        }
        if stored.response.progress.attempts == 0
            && let Some(next) = self.check_undo(stored).await?
        {
            return Ok(next);
        }
        let seen = match self.read_state(&stored.response, action, &target).await? {
            Ok(Some(seen)) => seen,
            Ok(None) => return self.blocked(stored, "Somebody deleted the key since.").await,
            Err(e) => return self.iam_failed(stored, "undo", &e).await,
        };
        if !action.in_force(&seen) {
            if stored.response.progress.attempts > 0 {
                return self.undo_called(stored, "The call that was intended had been made.").await;
            }
            return self.blocked(stored, "Somebody changed the key since: it is not as we left it.").await;
        }
        // Time has passed since it was asked for.
        if let Some(next) = self.undo_still_wanted(stored).await? {
            return Ok(next);
        }
        if stored.response.progress.attempts >= self.config.max_attempts {
            return self.blocked(stored, "Given up after too many attempts.").await;
        }
        self.intend(stored, ResponseState::Undoing, "undo", action).await?;
        self.call_undo(stored, action, &target).await
    }

    /// What must hold before an undo begins: that it is wanted, and still the same owner.
    async fn check_undo(&self, stored: &mut StoredResponse) -> Result<Option<Next>, WorkError> {
        if let Some(next) = self.undo_still_wanted(stored).await? {
            return Ok(Some(next));
        }
        let response = &stored.response;
        match self.read_owner(&response.account, &response.access_key_id, &response.response_id).await? {
            Ok(Some(owner)) if owner.user_arn == response.principal => Ok(None),
            Ok(Some(_)) => self.blocked(stored, "The key's owner is another one now.").await.map(Some),
            Ok(None) => self.blocked(stored, "The key does not exist any more.").await.map(Some),
            Err(e) => self.iam_failed(stored, "undo", &e).await.map(Some),
        }
    }

    /// What must hold before each call of an undo: no kill switch, and the right of whoever asked. `Some` when it does not.
    async fn undo_still_wanted(&self, stored: &mut StoredResponse) -> Result<Option<Next>, WorkError> {
        if self.kill_switch_is_on().await? {
            return self.undo_stopped(stored).await.map(Some);
        }
        let by = stored.response.undo_by.clone().unwrap_or_default();
        match self.still_may_decide(&stored.response, &by).await? {
            Ok(()) => Ok(None),
            Err(reason) => self.back_to_contained(stored, "refused", &reason).await.map(Some),
        }
    }

    async fn call_undo(
        &self,
        stored: &mut StoredResponse,
        action: &dyn Action,
        target: &Target,
    ) -> Result<Next, WorkError> {
        let Some(snapshot) = stored.response.snapshot.clone() else {
            return self.blocked(stored, "There is no snapshot to go back to.").await;
        };
        match action.undo(self.ports.iam.as_ref(), target, &snapshot).await {
            Ok(()) => self.undo_called(stored, "IAM took the call.").await,
            Err(e) => self.iam_failed(stored, "undo", &e).await,
        }
    }

    async fn undo_called(&self, stored: &mut StoredResponse, detail: &str) -> Result<Next, WorkError> {
        let response = &mut stored.response;
        response.progress.called_at = Some(self.ports.clock.now());
        response.progress.setbacks = 0;
        response.progress.reads = 0;
        self.note(response, "undo", "ok", detail);
        self.save_quietly(stored).await?;
        Ok(Next::Now)
    }

    async fn verify_undo(
        &self,
        stored: &mut StoredResponse,
        action: &dyn Action,
        target: &Target,
    ) -> Result<Next, WorkError> {
        if let Some(due) = self.next_read(stored) {
            return Ok(Next::At(due));
        }
        let seen = match self.read_state(&stored.response, action, target).await? {
            Ok(Some(seen)) => seen,
            Ok(None) => return self.blocked(stored, "Somebody deleted the key meanwhile.").await,
            Err(e) => return self.iam_failed(stored, "verify", &e).await,
        };
        let restored = stored.response.snapshot.as_ref().is_some_and(|before| action.restored(before, &seen));
        if !restored {
            let why = "The undo did not take, or somebody deactivated the key again.";
            return self.read_again(stored, ResponseState::UndoBlocked, why).await;
        }
        let response = &mut stored.response;
        let track = self.ports.responses.track(&response.account, &response.access_key_id, response.kind).await?;
        let count = Responses::count_undo(&response.account, &response.access_key_id, response.kind, &track)?;
        let detail = format!("Read back: {seen}, as the snapshot says. From now on this key needs approval.");
        response.verification = Some(seen);
        self.turn(response, ResponseState::Undone, "undo", "ok", detail);
        self.save(stored, vec![count]).await?;
        Ok(Next::Now)
    }

    async fn blocked(&self, stored: &mut StoredResponse, detail: &str) -> Result<Next, WorkError> {
        let detail = format!("{detail} The undo stops here: a person must decide.");
        self.end(stored, ResponseState::UndoBlocked, "undo", detail).await
    }

    async fn undo_stopped(&self, stored: &mut StoredResponse) -> Result<Next, WorkError> {
        let detail = "The kill switch is on: the undo was not carried out and must be asked for again.";
        self.back_to_contained(stored, "refused", detail).await
    }

    /// The undo was not carried out; what was contained still is, and is not told again.
    async fn back_to_contained(
        &self,
        stored: &mut StoredResponse,
        outcome: &str,
        detail: &str,
    ) -> Result<Next, WorkError> {
        stored.response.progress = Progress::default();
        stored.response.undo_by = None;
        self.turn(&mut stored.response, ResponseState::Contained, "undo", outcome, detail);
        self.save_quietly(stored).await?;
        Ok(Next::Now)
    }
}
