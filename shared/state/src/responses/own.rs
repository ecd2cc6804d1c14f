//! Our own calls, recorded before they are made, so that the events they cause are known as ours.
//!
//! An event is ours only when its issuer is our role and it matches a recorded call: service, operation and
//! time. A call that writes is recorded once for each attempt and can vouch for one event only, so that
//! somebody who holds our role cannot hide a second change behind it.

use sentinel_model::response::Response;
use sentinel_model::{Member, OwnRoles, Timestamp, time};
use serde::{Deserialize, Serialize};

use super::{Responses, response_key, sortable};
use crate::table::{Condition, Item, Key, Put, Query, SkRange, TableError, Write};

/// Seconds before the recorded time in which an event still matches (clocks differ).
const EARLY_SECONDS: i64 = 120;
/// Seconds after it (a call that hangs and is answered late).
const LATE_SECONDS: i64 = 300;
/// How long a call is remembered, in seconds: events may be replayed.
const KEPT_SECONDS: i64 = 90 * 24 * 3600;
/// Own events shown on a response.
const SHOWN_EVENTS: usize = 100;
/// Tries of a conditional change before it is left to redelivery.
const TRIES: usize = 8;
/// The one service whose calls are recorded so far.
const IAM: &str = "iam.amazonaws.com";

/// A call of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCall {
    /// The response it was made for.
    pub response_id: String,
    /// The key it concerned.
    pub access_key_id: String,
    /// Operations it makes, as CloudTrail names them.
    pub operations: Vec<String>,
    /// When it was recorded, just before it was made.
    pub at: Timestamp,
    /// Whether it changes something, so that it vouches for one event only.
    pub writes: bool,
    /// Tells the attempts of one response apart.
    pub attempt: String,
    /// The event it vouched for.
    pub event_id: Option<String>,
}

impl OwnCall {
    fn vouches_for(&self, member: &Member) -> bool {
        let from = time::plus_seconds(self.at, -EARLY_SECONDS);
        let to = time::plus_seconds(self.at, LATE_SECONDS);
        member.service == IAM
            && self.operations.contains(&member.action)
            && (from..=to).contains(&member.event.time)
            && (!self.writes || self.event_id.as_ref().is_none_or(|id| *id == member.event.id))
    }
}

impl Responses {
    /// The write that records a call of ours before it is made.
    pub fn record_own_call(account: &str, call: &OwnCall) -> Result<Write, TableError> {
        let sk = format!("{}#{}#{}", sortable(call.at), call.response_id, call.attempt);
        let put =
            Put::new(Key::new(own_pk(account), sk), call)?.expiring(Some(time::plus_seconds(call.at, KEPT_SECONDS)));
        Ok(Write::Put(put))
    }

    /// The recorded call that vouches for an event: one that already did, else the earliest that can.
    async fn own_call(&self, account: &str, member: &Member) -> Result<Option<(OwnCall, Item)>, TableError> {
        let from = sortable(time::plus_seconds(member.event.time, -LATE_SECONDS));
        let to = format!("{}~", sortable(time::plus_seconds(member.event.time, EARLY_SECONDS)));
        let mut query = Query::partition(own_pk(account), 100).range(SkRange::Between(from, to));
        let mut first = None;
        loop {
            let page = self.table.query(query.clone()).await?;
            for item in page.items {
                let call: OwnCall = item.decode()?;
                if !call.vouches_for(member) {
                    continue;
                }
                if call.event_id.as_ref() == Some(&member.event.id) {
                    return Ok(Some((call, item)));
                }
                first = first.or(Some((call, item)));
            }
            if page.next.is_none() {
                return Ok(first);
            }
            query = query.after(page.next);
        }
    }
}

/// Tells events that our own calls caused from those of somebody who holds our role.
#[derive(Clone)]
pub struct OwnActivity {
    responses: Responses,
    roles: OwnRoles,
}

impl OwnActivity {
    /// For calls made under these roles.
    pub fn new(responses: Responses, roles: OwnRoles) -> Self {
        Self { responses, roles }
    }

    /// Whether the event's issuer is our role.
    pub fn by_our_role(&self, member: &Member) -> bool {
        member.issuer.as_ref().is_some_and(|issuer| self.roles.contains(issuer))
    }

    /// Whether the event is ours: its issuer is our role and a recorded call vouches for it.
    pub async fn is_ours(&self, account: &str, member: &Member) -> Result<bool, TableError> {
        if !self.by_our_role(member) {
            return Ok(false);
        }
        Ok(self.responses.own_call(account, member).await?.is_some())
    }

    /// Binds the event to the call that vouches for it and shows it on the response. The same event again
    /// changes nothing. `false` when no call vouches for it (any more).
    pub async fn note_ours(&self, account: &str, member: &Member) -> Result<bool, TableError> {
        if !self.by_our_role(member) {
            return Ok(false);
        }
        let mut last = TableError::ConditionFailed(Vec::new());
        for _ in 0..TRIES {
            let Some((call, item)) = self.responses.own_call(account, member).await? else { return Ok(false) };
            let writes = self.binding(account, member, call, &item).await?;
            if writes.is_empty() {
                return Ok(true);
            }
            match self.responses.table.write(writes).await {
                Ok(()) => return Ok(true),
                Err(e) if e.is_condition() => last = e,
                Err(e) => return Err(e),
            }
        }
        Err(last)
    }

    async fn binding(
        &self,
        account: &str,
        member: &Member,
        mut call: OwnCall,
        item: &Item,
    ) -> Result<Vec<Write>, TableError> {
        let mut writes = Vec::new();
        if call.writes && call.event_id.is_none() {
            call.event_id = Some(member.event.id.clone());
            let put =
                Put::new(item.key.clone(), &call)?.when(Condition::Version(item.version)).expiring(item.expires_at);
            writes.push(Write::Put(put));
        }
        let Some(stored) = self.responses.table.get(&response_key(account, &call.response_id)).await? else {
            return Ok(writes);
        };
        let mut response: Response = stored.decode()?;
        let known = response.own_events.contains(&member.event.id);
        if !known && response.own_events.len() < SHOWN_EVENTS {
            response.own_events.push(member.event.id.clone());
            writes.extend(Responses::update(&response, stored.version)?);
        }
        Ok(writes)
    }
}

fn own_pk(account: &str) -> String {
    format!("{account}#OWN")
}
