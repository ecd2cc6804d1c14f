//! Planning: from a raised alert to one response for each key it used, once for each alert and level.

use sentinel_durable::Stage;
use sentinel_model::message::AlertRaised;
use sentinel_model::response::{ActionKind, Mode, Progress, Response, ResponseState};
use sentinel_model::{Level, hash, time};
use sentinel_state::Write;
use sentinel_state::responses::{Asked, Responses, StoredResponse};
use tracing::warn;

use crate::actions;
use crate::guardrails::{self, Verdict};
use crate::iam::{IamError, KeyOwner};
use crate::message::Work;
use crate::notify::Notification;
use crate::playbook::Playbook;
use crate::ports::FoundAlert;
use crate::saga::{Respond, WorkError, log_state};
use crate::steps::{AUTOMATIC, Circumstances, STOPPED};

/// Tries of a conditional plan before it is left to redelivery.
const TRIES: usize = 8;
/// Tries of reading IAM before the plan is recorded as refused for want of an owner: about half an hour.
const MAX_PLAN_TRIES: u32 = 10;

/// What is to be planned.
struct Question<'a> {
    found: &'a FoundAlert,
    playbook: &'a Playbook,
    kind: ActionKind,
    access_key_id: &'a str,
    owner: Result<Option<KeyOwner>, IamError>,
    asked: Asked,
}

/// Whether a key is an IAM user's long-term one, a session's temporary one, or neither (IAM User Guide,
/// "IAM identifiers", unique id prefixes).
fn key_kind(access_key_id: &str, long_term: ActionKind) -> Option<ActionKind> {
    let plain = (16..=128).contains(&access_key_id.len()) && access_key_id.bytes().all(|b| b.is_ascii_alphanumeric());
    match access_key_id.get(..4) {
        Some("AKIA") if plain => Some(long_term),
        Some("ASIA") if plain => Some(ActionKind::RevokeSessions),
        _ => None,
    }
}

impl Respond {
    /// Plans what a raised alert calls for, and takes it as far as it goes now.
    pub(crate) async fn plan_alert(
        &self,
        found: &FoundAlert,
        raised: &AlertRaised,
        tries: u32,
    ) -> Result<(), WorkError> {
        let alert = &found.alert;
        if alert.level <= Level::Informational {
            return Ok(());
        }
        let mut postponed = false;
        for playbook in self.playbooks.for_alert(alert) {
            for key_use in &alert.key_uses {
                let Some(kind) = key_kind(&key_use.access_key_id, playbook.action) else { continue };
                postponed |= self.plan_key(found, playbook, kind, &key_use.access_key_id, tries).await?;
            }
        }
        if !postponed {
            return Ok(());
        }
        let due = time::plus_seconds(self.ports.clock.now(), self.backoff(tries + 1));
        let correlation_id = raised.correlation_id.clone();
        let work = Work::Plan { raised: raised.clone(), tries: tries + 1, correlation_id };
        let id = hash::derived_id("rp-", &[&raised.account, &raised.alert_id, raised.level.as_str()]);
        Ok(self.ports.timer.set(&id, due, Stage::Respond, &work.body()?).await?)
    }

    /// Plans for one key. `true` when IAM could not be read and it must be tried again.
    async fn plan_key(
        &self,
        found: &FoundAlert,
        playbook: &Playbook,
        kind: ActionKind,
        access_key_id: &str,
        tries: u32,
    ) -> Result<bool, WorkError> {
        let alert = &found.alert;
        let account = alert.account.as_str();
        for _ in 0..TRIES {
            // All that a plan is made from is a condition of its being written, or read again before it is acted on.
            let (about, key, now) =
                ((alert.alert_id.as_str(), alert.level), (kind, access_key_id), self.ports.clock.now());
            let asked = self.ports.responses.asked(account, about, key, now).await?;
            if let Some(answer) = &asked.answer {
                self.drive(account, &answer.response_id).await?;
                return Ok(false);
            }
            let id = asked.response_id.clone();
            let owner = if actions::for_kind(kind).is_some() {
                self.read_owner(account, access_key_id, &id).await?
            } else {
                Ok(None)
            };
            if let Err(e) = &owner
                && e.is_passing()
                && tries < MAX_PLAN_TRIES
            {
                warn!(alert = %alert.alert_id, error = %e, correlation_id = %alert.correlation_id, "IAM could not be read; planning waits");
                return Ok(true);
            }
            if self.mode_of(&playbook.name) != Mode::Observe {
                let correlation_id = alert.correlation_id.clone();
                let work = Work::Step { account: account.to_owned(), response_id: id.clone(), correlation_id };
                self.watch(&work, &id).await?;
            }
            let question = Question { found, playbook, kind, access_key_id, owner, asked };
            let is_new = question.asked.response.is_none();
            match self.write_plan(&question).await {
                // Nothing is under way, and without a timer there is none to forget.
                Ok(ResponseState::Observed) if is_new => return Ok(false),
                Ok(_) => {
                    self.drive(account, &id).await?;
                    return Ok(false);
                }
                // The same alert, another one or an undo came between: look again.
                Err(e) if e.is_condition() => {}
                Err(e) => return Err(e),
            }
        }
        Err(WorkError::Contended(alert.alert_id.clone()))
    }

    /// Writes the answer to one question: a new response, an old one planned again, or just which one it is. Returns
    /// the state in which the response is then.
    async fn write_plan(&self, question: &Question<'_>) -> Result<ResponseState, WorkError> {
        let alert = &question.found.alert;
        let (existing, track) = (question.asked.response.as_ref(), &question.asked.track);
        let (planned, mut writes) = self.planned(question, existing).await?;
        writes.push(Responses::put_answer(&planned, &alert.alert_id, alert.level)?);
        writes.push(Responses::check_track(&alert.account, question.access_key_id, question.kind, track));
        match existing {
            None => {
                writes.extend(Responses::create(&planned)?);
                writes.extend(self.state_notice(&planned, 0)?);
            }
            Some(before) if before.response == planned => {}
            Some(before) => {
                writes.extend(Responses::update(&planned, before.version)?);
                writes.extend(self.state_notice(&planned, before.version)?);
            }
        }
        self.table().write(writes).await?;
        if existing.is_none_or(|before| before.response.state != planned.state) {
            log_state(&planned);
        }
        Ok(planned.state)
    }

    /// The response as it should be now, and what else belongs to the transaction.
    async fn planned(
        &self,
        question: &Question<'_>,
        existing: Option<&StoredResponse>,
    ) -> Result<(Response, Vec<Write>), WorkError> {
        let again = existing.is_some_and(|before| used_again(before, question, self.config.propagation_seconds));
        if let Some(before) = existing
            && !before.response.state.may_be_planned_again()
            && !again
        {
            return Ok((before.response.clone(), Vec::new()));
        }
        let mut response = self.blank(question);
        let writes = if question.kind == ActionKind::RevokeSessions {
            self.plan_sessions(&mut response, question);
            Vec::new()
        } else {
            self.plan_action(&mut response, question, existing).await?
        };
        let Some(before) = existing else { return Ok((response, writes)) };
        let asks_already = before.response.state == ResponseState::AwaitingApproval;
        let only_to_ask = again && response.state != ResponseState::AwaitingApproval;
        if only_to_ask
            || before.response.state == response.state
            || (asks_already && response.state != ResponseState::Approved)
        {
            return Ok((before.response.clone(), Vec::new()));
        }
        // What is known of the past stays with the response.
        let past = before.response.clone();
        response.steps.splice(0..0, past.steps);
        response.own_events = past.own_events;
        response.changed = past.changed;
        response.snapshot = past.snapshot;
        response.verification = past.verification;
        Ok((response, writes))
    }

    fn blank(&self, question: &Question<'_>) -> Response {
        let alert = &question.found.alert;
        let owner = question.owner.as_ref().ok().and_then(|owner| owner.as_ref());
        Response {
            response_id: question.asked.response_id.clone(),
            kind: question.kind,
            state: ResponseState::Observed,
            mode: self.mode_of(&question.playbook.name),
            account: alert.account.clone(),
            principal: alert.principal.id.clone(),
            user_name: owner.map(|owner| owner.user_name.clone()),
            access_key_id: question.access_key_id.to_owned(),
            alert_id: alert.alert_id.clone(),
            incident_id: question.found.incident_id.clone(),
            playbook: question.playbook.name.clone(),
            reasons: Vec::new(),
            requested_at: self.ports.clock.now(),
            expires_at: None,
            decided_by: None,
            snapshot: None,
            verification: None,
            undo_count: question.asked.track.undo_count,
            steps: Vec::new(),
            own_events: Vec::new(),
            correlation_id: alert.correlation_id.clone(),
            decided_at: None,
            changed: false,
            undo_by: None,
            progress: Progress::default(),
        }
    }

    /// A temporary key: a person must revoke its sessions; the product says so and pretends nothing.
    fn plan_sessions(&self, response: &mut Response, question: &Question<'_>) {
        let principal = &question.found.alert.principal;
        let refused = guardrails::principal_refusals(principal, &self.config.own_roles);
        if !refused.is_empty() {
            let detail = refused.join(" ");
            response.reasons = refused;
            return self.turn(response, ResponseState::Refused, "plan", "refused", detail);
        }
        let role = principal.role.as_deref().unwrap_or(&principal.id);
        response.reasons = vec![
            "The key is a temporary one: it cannot be deactivated.".to_owned(),
            format!(
                "A person must revoke the sessions of {role}: deny what was issued before now by the condition \
                 aws:TokenIssueTime. They last up to 36 hours otherwise."
            ),
        ];
        let detail = response.reasons.join(" ");
        self.turn(response, ResponseState::Recorded, "plan", "ok", detail);
    }

    async fn plan_action(
        &self,
        response: &mut Response,
        question: &Question<'_>,
        existing: Option<&StoredResponse>,
    ) -> Result<Vec<Write>, WorkError> {
        let account = response.account.clone();
        let Asked { track, count, kill_switch, at, .. } = &question.asked;
        let circumstances = Circumstances {
            mode: response.mode,
            kill_switch: *kill_switch,
            undo_count: track.undo_count,
            earlier: existing.and_then(|before| earlier(&before.response)),
            actions_this_hour: count.actions,
        };
        let decision = self.decide(question.found, question.access_key_id, question.owner.clone(), circumstances);
        let detail = decision.reasons.join(" ");
        response.reasons = decision.reasons;
        if response.mode == Mode::Observe {
            let would = match decision.verdict {
                Verdict::Automatic => "It would be done without asking.",
                Verdict::Approval => "It would wait for approval.",
                Verdict::Refused => "It would be refused.",
            };
            let would = format!("Observe mode: nothing is done. {would}");
            response.reasons.insert(0, would.clone());
            self.turn(response, ResponseState::Observed, "plan", "ok", format!("{would} {detail}"));
            return Ok(Vec::new());
        }
        match decision.verdict {
            Verdict::Refused => {
                self.turn(response, ResponseState::Refused, "plan", "refused", detail);
                Ok(Vec::new())
            }
            Verdict::Approval => {
                response.expires_at = Some(self.approval_ends());
                self.turn(response, ResponseState::AwaitingApproval, "plan", "waiting", detail);
                if decision.cap_reached { self.tell_cap(response).await } else { Ok(Vec::new()) }
            }
            Verdict::Automatic => {
                response.decided_by = Some(AUTOMATIC.to_owned());
                response.decided_at = Some(*at);
                self.turn(response, ResponseState::Approved, "plan", "ok", detail);
                Ok(vec![Responses::count_action(&account, *at, count)?])
            }
        }
    }

    /// The notice that the cap is reached, unless it was sent this hour.
    async fn tell_cap(&self, response: &Response) -> Result<Vec<Write>, WorkError> {
        let now = self.ports.clock.now();
        let cap = self.config.hourly_cap;
        let notification = Notification::of_cap(&response.account, cap, now, &response.correlation_id);
        for notifier in &self.ports.notifiers {
            let told = self.ports.responses.notice(&response.account, &notification.id, notifier.name()).await?;
            if told.is_some() {
                return Ok(Vec::new());
            }
        }
        self.notices(&notification)
    }
}

/// Whether a contained key was used after its containment had spread, so that it cannot be in force any more.
fn used_again(before: &StoredResponse, question: &Question<'_>, propagation_seconds: i64) -> bool {
    let response = &before.response;
    let since = response.progress.called_at.unwrap_or(response.requested_at);
    let spread = time::plus_seconds(since, propagation_seconds);
    let uses = &question.found.alert.key_uses;
    response.state == ResponseState::Contained
        && uses
            .iter()
            .filter(|key_use| key_use.access_key_id == question.access_key_id)
            .any(|key_use| key_use.uses.iter().any(|used| used.time > spread))
}

const DENIED: &str = "A person denied this action for an earlier alert.";
const USED_AGAIN: &str = "The key had been contained and was used again after that: somebody must have activated it.";
const FAILED: &str = "An earlier try of this action failed.";
const EXPIRED: &str = "Nobody answered when this action was proposed for an earlier alert.";

/// What an earlier answer means for a new question. What asks already for such a reason goes on asking for it, however many
/// alerts come: only a person answers it.
fn earlier(before: &Response) -> Option<&'static str> {
    match before.state {
        ResponseState::Denied => Some(DENIED),
        ResponseState::Contained => Some(USED_AGAIN),
        ResponseState::Failed => Some(FAILED),
        ResponseState::Expired => Some(EXPIRED),
        ResponseState::AwaitingApproval => [DENIED, USED_AGAIN, FAILED, EXPIRED, STOPPED]
            .into_iter()
            .find(|standing| before.reasons.iter().any(|reason| reason == standing)),
        _ => None,
    }
}
