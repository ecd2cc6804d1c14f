//! Assigning stored alerts to incidents, as they come.
//!
//! In: an alert that is new or grew, or steps of lineage that are new. Out: the incident it belongs to, merged
//! with others where the alert or step shows them to be one. The alert's neighbourhood (alerts that share
//! its principal, a key, or a lineage within 24 hours) is read by links, and the same pure rules as for a
//! whole input decide ([`crate::incident`]). Links only ever appear, so adding each as it appears ends in
//! the same incidents as looking at everything at once.
//!
//! Writers do not lock: each writes what it knows (alert, links, steps) before it reads what others know, so of two
//! that run at once at least one sees both, and every change of an incident is conditional on what was read.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures::future::{try_join, try_join_all};
use sentinel_durable::contention::pause;
use sentinel_model::{
    Identity, Level, LineageEdge, Timestamp,
    incident::{AlertBrief, CHAIN_SECONDS},
    lineage, time,
};
use sentinel_state::{
    Condition, Table, TableError, Write,
    alerts::{Alerts, IncidentPointer, StoredAlert},
    incidents::{INCIDENT_CAP, Incidents, StoredIncident},
    lineage::Lineage,
};

use crate::{
    handler::{ATTEMPTS, EnrichError},
    incident, story,
};

/// Identities followed from one alert, in each direction.
const FOLLOWED: usize = 500;
/// Identities read side by side.
const READ_AT_ONCE: usize = 8;
/// Alerts read of one identity.
const ALERTS_OF_ONE: usize = 1000;
/// Incidents merged in one transaction; more take another round.
const MERGED_AT_ONCE: usize = 40;
/// Alerts that get their incident in one transaction; more take another round.
const POINTED_AT_ONCE: usize = 50;
/// Steps around an alert from which on some of them may not have been read.
const STEPS_OF_ONE: usize = sentinel_state::lineage::READ_CAP;
/// Alerts longer than a day are rare; steps this much further away (seconds) are read for them.
const SLACK: i64 = 86_400;

/// An alert's place: account and id.
type Ref = (String, String);

/// An alert of a neighbourhood: its brief, and the incident it was assigned to.
type Neighbour = (AlertBrief, Option<IncidentPointer>);

/// Grouping of the alerts of one batch, all of which are stored before it begins.
pub(crate) struct Grouping<'a> {
    table: &'a Arc<dyn Table>,
    alerts: &'a Alerts,
    incidents: &'a Incidents,
    lineage: &'a Lineage,
    written: Mutex<Written>,
}

/// What was written for the batch.
#[derive(Default)]
struct Written {
    /// Incidents by their versions: all that the batch changed is told in these.
    told: HashMap<IncidentPointer, u64>,
    /// Alerts that got their incident together with another one.
    pointed: HashSet<Ref>,
}

impl<'a> Grouping<'a> {
    /// Over its stores.
    pub(crate) fn new(
        table: &'a Arc<dyn Table>,
        alerts: &'a Alerts,
        incidents: &'a Incidents,
        lineage: &'a Lineage,
    ) -> Self {
        Self { table, alerts, incidents, lineage, written: Mutex::default() }
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings an alert that has just been stored into its incident.
    pub(crate) async fn assign_stored(&self, stored: &StoredAlert) -> Result<(), EnrichError> {
        let alert = &stored.alert;
        // The first of its versions that this process wrote: its brief is the first too, and as it was written.
        let is_new = stored.version == 1 && stored.incident_id.is_none() && alert.superseded_by.is_none();
        let is_new = is_new && !self.written().pointed.contains(&(alert.account.clone(), alert.alert_id.clone()));
        self.assign_from(&alert.account, &alert.alert_id, is_new.then(|| AlertBrief::of(alert))).await
    }

    /// Brings an alert into its incident.
    pub(crate) async fn assign(&self, account: &str, alert_id: &str) -> Result<(), EnrichError> {
        self.assign_from(account, alert_id, None).await
    }

    /// With the alert's `first` brief the first attempt reads neither that nor what cannot be there yet; what it writes
    /// is on the condition that it is so.
    async fn assign_from(
        &self,
        account: &str,
        alert_id: &str,
        mut first: Option<AlertBrief>,
    ) -> Result<(), EnrichError> {
        let mut attempt = 0;
        while attempt < ATTEMPTS {
            let began = Instant::now();
            match self.try_assign(account, alert_id, first.take()).await {
                Ok(Progress::Done) => return Ok(()),
                Ok(Progress::More) => {}
                Ok(Progress::Again) => {
                    attempt += 1;
                    pause(attempt, began.elapsed()).await;
                }
                Err(EnrichError::Table(e)) if e.is_condition() => {
                    attempt += 1;
                    pause(attempt, began.elapsed()).await;
                }
                Err(e) => return Err(e),
            }
        }
        Err(EnrichError::Contended(format!("the incident of alert {alert_id}")))
    }

    async fn try_assign(
        &self,
        account: &str,
        alert_id: &str,
        first: Option<AlertBrief>,
    ) -> Result<Progress, EnrichError> {
        let own: Ref = (account.to_owned(), alert_id.to_owned());
        let is_first = first.is_some();
        let (brief, pointer) = match first {
            Some(brief) => (brief, None),
            None => match self.alerts.briefs(std::slice::from_ref(&own)).await?.pop() {
                Some(read) => read,
                None => return Ok(Progress::Done),
            },
        };
        // What turned out to be no alert begins no incident; one that it is in is told anew without it.
        if brief.level < Level::Low || (brief.superseded && pointer.is_none()) {
            return Ok(Progress::Done);
        }
        let assigned = pointer.is_some();
        let mine = match &pointer {
            Some(pointer) => self.incidents.resolve(pointer).await?,
            None => None,
        };
        // What is in its incident already needs no look: a link between two others is found from one of them.
        let known: BTreeSet<Ref> = mine.iter().flat_map(StoredIncident::alerts).collect();
        // What is no alert links nothing.
        let (story, steps) = if brief.superseded { Default::default() } else { self.connected(&brief, &known).await? };
        let (mut found, mut more) = self.incidents_of(mine, &story).await?;
        let mut fresh: Vec<Ref> =
            story.iter().filter(|(_, p)| p.is_none()).map(|(b, _)| (b.account.clone(), b.alert_id.clone())).collect();
        if !assigned {
            // The alert itself first: whatever does not fit in this round, it does.
            fresh.insert(0, own.clone());
        }
        if fresh.len() > POINTED_AT_ONCE {
            fresh.truncate(POINTED_AT_ONCE);
            more = true;
        }
        if keep_within_cap(&mut found, &mut fresh, &own, assigned) {
            tracing::warn!(alert_id, "an incident is full: alerts after it begin another");
            more = false;
        }
        // An intruder's hundredth alert is told with the others that the batch changed, not once more for each of these.
        if let ([one], true, true) = (found.as_slice(), fresh.is_empty(), assigned)
            && self.written().told.get(&one.pointer()) == Some(&one.version)
        {
            return Ok(if more { Progress::More } else { Progress::Done });
        }
        // An alert that is alone and new needs nothing to be read again: all that is told was read before anything that
        // its write has conditions on.
        let alone =
            is_first && found.is_empty() && fresh.len() == 1 && brief.identifies_someone && steps.len() < STEPS_OF_ONE;
        let written =
            if alone { self.write_alone(&brief, steps, &own).await? } else { self.write(&found, &fresh).await? };
        Ok(match written {
            Progress::Done if more => Progress::More,
            other => other,
        })
    }

    /// The alerts that are connected to this one, those that are known to be left out, and the steps around it.
    async fn connected(
        &self,
        own: &AlertBrief,
        known: &BTreeSet<Ref>,
    ) -> Result<(Vec<Neighbour>, Vec<LineageEdge>), EnrichError> {
        let (around, steps) = self.neighbourhood(own, known).await?;
        if around.is_empty() {
            return Ok((around, steps));
        }
        let edges = lineage::condense(steps.iter().cloned());
        // The alert is the last position, its neighbours keep theirs.
        let mut briefs: Vec<AlertBrief> = around.iter().map(|(b, _)| b.clone()).collect();
        let place = briefs.len();
        briefs.push(own.clone());
        let components = incident::components(&briefs, &edges);
        let mine: HashSet<usize> =
            components.into_iter().find(|c| c.contains(&place)).unwrap_or_default().into_iter().collect();
        let story = around.into_iter().enumerate().filter(|(i, _)| mine.contains(i)).map(|(_, n)| n).collect();
        Ok((story, steps))
    }

    /// The alert's own incident and those of its neighbours, and whether some were left for later.
    async fn incidents_of(
        &self,
        mine: Option<StoredIncident>,
        story: &[Neighbour],
    ) -> Result<(Vec<StoredIncident>, bool), EnrichError> {
        let mut found: Vec<StoredIncident> = mine.into_iter().collect();
        let pointers: BTreeSet<(&str, &str)> = story
            .iter()
            .filter_map(|(_, p)| p.as_ref().map(|p| (p.account.as_str(), p.incident_id.as_str())))
            .collect();
        for (account, incident_id) in pointers {
            let pointer = IncidentPointer { account: account.into(), incident_id: incident_id.into() };
            if found.iter().any(|f| f.pointer() == pointer) {
                continue;
            }
            if let Some(stored) = self.incidents.resolve(&pointer).await?
                && !found.iter().any(|f| f.pointer() == stored.pointer())
            {
                if found.len() == MERGED_AT_ONCE {
                    return Ok((found, true));
                }
                found.push(stored);
            }
        }
        Ok((found, false))
    }

    /// Makes one incident of those found and the alerts that have none.
    async fn write(&self, found: &[StoredIncident], fresh: &[Ref]) -> Result<Progress, EnrichError> {
        let mut members: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (account, id) in found.iter().flat_map(StoredIncident::alerts).chain(fresh.iter().cloned()) {
            members.entry(account).or_default().insert(id);
        }
        let refs: Vec<Ref> =
            members.iter().flat_map(|(a, ids)| ids.iter().map(move |id| (a.clone(), id.clone()))).collect();
        let mut briefs = self.alerts.only_briefs(&refs).await?;
        briefs.sort_by(|a, b| (a.time, &a.alert_id).cmp(&(b.time, &b.alert_id)));
        let Some(account) = briefs.first().map(|b| b.account.clone()) else { return Ok(Progress::Done) };
        let steps = self.steps_told(&briefs).await?;
        let told = story::tell(&briefs.iter().collect::<Vec<_>>(), &story::Lineage::new(&steps));
        let merged = StoredIncident { incident: told, account, members, version: 0 };
        let name = merged.pointer();

        let (stays, goes): (Vec<_>, Vec<_>) = found.iter().partition(|f| f.pointer() == name);
        let condition = match stays.first() {
            Some(same) if goes.is_empty() && fresh.is_empty() && same.incident == merged.incident => {
                return Ok(Progress::Done);
            }
            Some(same) => Condition::Version(same.version),
            None => match self.incidents.item_of(&name).await? {
                None => Condition::Absent,
                // An earlier alert took the name away, and has given it back by an even earlier event.
                Some((version, false)) => Condition::Version(version),
                Some((_, true)) => return Ok(Progress::Again),
            },
        };
        let version = if let Condition::Version(before) = condition { before + 1 } else { 1 };
        let mut writes: Vec<Write> = vec![self.incidents.put(&merged, condition)?];
        for gone in goes {
            writes.push(self.incidents.bury(gone, &name)?);
        }
        for (account, id) in fresh {
            writes.push(self.alerts.point(account, id, &name)?);
        }
        self.table.write(writes).await?;
        let mut written = self.written();
        written.told.insert(name, version);
        written.pointed.extend(fresh.iter().cloned());
        drop(written);
        log_written(&merged, found.len());
        Ok(Progress::Done)
    }

    /// Makes an incident of one new alert. It fails where somebody has changed the alert, given it an incident or taken
    /// the incident's name since it was stored. `steps` are all steps around it.
    async fn write_alone(
        &self,
        brief: &AlertBrief,
        steps: Vec<LineageEdge>,
        own: &Ref,
    ) -> Result<Progress, EnrichError> {
        let (from, to) = story::told_times(brief.time, brief.time_last);
        let principal = Identity::Principal(brief.principal.clone());
        let steps = steps.into_iter().filter(|s| s.maker == principal && s.time >= from && s.time <= to);
        let steps = lineage::condense(steps);
        let (account, alert_id) = own;
        let merged = StoredIncident {
            incident: story::tell(&[brief], &story::Lineage::new(&steps)),
            account: account.clone(),
            members: [(account.clone(), [alert_id.clone()].into())].into(),
            version: 0,
        };
        let writes = vec![
            self.incidents.put(&merged, Condition::Absent)?,
            self.alerts.point(account, alert_id, &merged.pointer())?,
            self.alerts.check_first_brief(account, alert_id),
        ];
        self.table.write(writes).await?;
        log_written(&merged, 0);
        Ok(Progress::Done)
    }

    /// The steps that the story of these alerts tells.
    async fn steps_told(&self, briefs: &[AlertBrief]) -> Result<Vec<LineageEdge>, TableError> {
        let sorted: Vec<&AlertBrief> = briefs.iter().collect();
        let Some(first) = sorted.first().map(|b| b.time) else { return Ok(Vec::new()) };
        let last = sorted.iter().map(|b| b.time_last).max().unwrap_or(first);
        let (from, to) = story::told_times(first, last);
        let mut steps = Vec::new();
        for principal in story::principals(&sorted).into_iter().take(story::TOLD_PRINCIPALS) {
            steps.extend(self.lineage.steps_by(&Identity::Principal(principal), from, to).await?);
        }
        Ok(lineage::condense(steps))
    }

    /// The alerts that may be linked to this one, without those known, and the steps that may link them.
    async fn neighbourhood(
        &self,
        brief: &AlertBrief,
        known: &BTreeSet<Ref>,
    ) -> Result<(Vec<Neighbour>, Vec<LineageEdge>), EnrichError> {
        let own: Vec<Identity> = brief.identities().collect();
        let from = time::plus_seconds(brief.time, -2 * CHAIN_SECONDS - SLACK);
        let to = time::plus_seconds(brief.time_last, CHAIN_SECONDS + SLACK);
        let up = self.follow(&own, from, to, Direction::Up);
        let ((up, mut edges), (down, forward)) = try_join(up, self.follow(&own, from, to, Direction::Down)).await?;
        edges.extend(forward);
        let near = (time::plus_seconds(brief.time, -CHAIN_SECONDS), time::plus_seconds(brief.time_last, CHAIN_SECONDS));
        let mut refs = self.alerts_of(up.union(&down), near).await?;
        refs.remove(&(brief.account.clone(), brief.alert_id.clone()));
        let refs: Vec<Ref> = refs.into_iter().filter(|r| !known.contains(r)).collect();
        let mut around = self.alerts.briefs(&refs).await?;
        around.retain(|(b, _)| b.level >= Level::Low && !b.superseded);
        Ok((around, edges))
    }

    /// The identities from which steps lead to these (up), or to which steps lead from these (down), and those
    /// steps. The identities themselves are among them.
    async fn follow(
        &self,
        from_these: &[Identity],
        from: Timestamp,
        to: Timestamp,
        direction: Direction,
    ) -> Result<(BTreeSet<Identity>, Vec<LineageEdge>), TableError> {
        let mut seen: BTreeSet<Identity> = from_these.iter().cloned().collect();
        let mut open: VecDeque<Identity> = from_these.iter().cloned().collect();
        let mut edges = Vec::new();
        while !open.is_empty() {
            let reads = open.drain(..open.len().min(READ_AT_ONCE)).map(|identity| async move {
                match direction {
                    Direction::Up => self.lineage.steps_into(&identity, from, to).await,
                    Direction::Down => self.lineage.steps_by(&identity, from, to).await,
                }
            });
            for edge in try_join_all(reads).await?.into_iter().flatten() {
                let next: Vec<Identity> = match direction {
                    Direction::Up => edge.makers().collect(),
                    Direction::Down => vec![edge.made.clone()],
                };
                for identity in next {
                    if seen.len() < FOLLOWED && seen.insert(identity.clone()) {
                        open.push_back(identity);
                    }
                }
                edges.push(edge);
            }
        }
        if seen.len() >= FOLLOWED {
            tracing::warn!(first = ?from_these.first(), "a lineage is too wide to be followed to its end");
        }
        Ok((seen, edges))
    }

    async fn alerts_of(
        &self,
        identities: impl Iterator<Item = &Identity>,
        (from, to): (Timestamp, Timestamp),
    ) -> Result<BTreeSet<Ref>, TableError> {
        let identities: Vec<&Identity> = identities.collect();
        let mut refs = BTreeSet::new();
        for some in identities.chunks(READ_AT_ONCE) {
            let reads: Vec<_> = some.iter().map(|i| self.incidents.linked(i, from, to, ALERTS_OF_ONE)).collect();
            refs.extend(try_join_all(reads).await?.into_iter().flatten());
        }
        Ok(refs)
    }

    /// Looks at steps that are new: alerts on both sides of a step may be one incident now, and the story of a
    /// maker's incident has one more sentence.
    pub(crate) async fn join(&self, edges: &[LineageEdge]) -> Result<(), EnrichError> {
        let mut done: HashSet<(Vec<Identity>, Identity)> = HashSet::new();
        for edge in lineage::condense(edges.iter().cloned()) {
            let makers: Vec<Identity> = edge.makers().collect();
            if !done.insert((makers.clone(), edge.made.clone())) {
                continue;
            }
            let from = time::plus_seconds(edge.time, -2 * CHAIN_SECONDS - SLACK);
            let to = time::plus_seconds(edge.time, 2 * CHAIN_SECONDS + SLACK);
            let (up, _) = self.follow(&makers, from, to, Direction::Up).await?;
            let above = self.alerts_of(up.iter(), (from, to)).await?;
            if above.is_empty() {
                continue;
            }
            let (down, _) = self.follow(std::slice::from_ref(&edge.made), from, to, Direction::Down).await?;
            let mut affected = self.alerts_of(down.iter(), (from, to)).await?;
            affected.extend(self.alerts_of(makers.iter(), (from, to)).await?);
            if affected.is_empty() {
                continue;
            }
            let one_story = self.are_one_story(above.union(&affected).cloned().collect()).await?;
            let looked_at = if one_story { 1 } else { affected.len() };
            for (account, id) in affected.into_iter().take(looked_at) {
                self.assign(&account, &id).await?;
            }
        }
        Ok(())
    }

    /// Whether all these alerts are in one and the same incident already.
    async fn are_one_story(&self, refs: Vec<Ref>) -> Result<bool, EnrichError> {
        let mut names: HashSet<IncidentPointer> = HashSet::new();
        for (brief, pointer) in self.alerts.briefs(&refs).await? {
            match pointer {
                Some(pointer) => {
                    names.insert(pointer);
                }
                None if brief.level >= Level::Low && !brief.superseded => return Ok(false),
                None => {}
            }
        }
        let mut last: HashSet<IncidentPointer> = HashSet::new();
        for name in names {
            last.extend(self.incidents.resolve(&name).await?.map(|stored| stored.pointer()));
        }
        Ok(last.len() == 1)
    }
}

fn log_written(incident: &StoredIncident, merged: usize) {
    let told = &incident.incident;
    let level = told.level.as_str();
    tracing::info!(incident_id = told.incident_id, alerts = told.alert_count, level, merged, "incident written");
}

/// How an attempt went.
enum Progress {
    /// All is written.
    Done,
    /// Some is written, some is left.
    More,
    /// Somebody else was faster.
    Again,
}

#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
}

/// Leaves out what would make the incident too large; returns whether something was left out. An alert that has
/// an incident stays in it; one that has none goes to the latest with room, or begins another.
fn keep_within_cap(found: &mut Vec<StoredIncident>, fresh: &mut Vec<Ref>, own: &Ref, assigned: bool) -> bool {
    let size = |f: &StoredIncident| f.members.values().map(BTreeSet::len).sum::<usize>();
    if found.iter().map(size).sum::<usize>() + fresh.len() <= INCIDENT_CAP {
        return false;
    }
    fresh.retain(|r| r == own);
    if assigned {
        found.retain(|f| f.members.get(&own.0).is_some_and(|ids| ids.contains(&own.1)));
        return true;
    }
    found.retain(|f| size(f) < INCIDENT_CAP);
    found.sort_by_key(|f| std::cmp::Reverse(f.incident.time_last));
    found.truncate(1);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_model::{Attack, Incident};

    fn incident(name: &str, alerts: usize, last: i64) -> StoredIncident {
        let time = Timestamp::from_second(last).unwrap();
        StoredIncident {
            incident: Incident {
                incident_id: name.into(),
                time_first: time,
                time_last: time,
                level: Level::Low,
                score: 0.2,
                title: String::new(),
                principals: Vec::new(),
                accounts: BTreeSet::new(),
                source_ips: BTreeSet::new(),
                alert_ids: Vec::new(),
                alert_count: 0,
                event_count: 0,
                attack: Attack::default(),
                summary: Vec::new(),
            },
            account: "1".into(),
            members: [("1".to_owned(), (0..alerts).map(|n| format!("{name}-{n}")).collect())].into(),
            version: 1,
        }
    }

    fn names(found: &[StoredIncident]) -> Vec<&str> {
        found.iter().map(|f| f.incident.incident_id.as_str()).collect()
    }

    #[test]
    fn a_full_incident_takes_no_more() {
        let own: Ref = ("1".into(), "new".into());
        let mut fresh = vec![own.clone()];
        let mut found = vec![incident("a", INCIDENT_CAP - 1, 10)];
        assert!(!keep_within_cap(&mut found, &mut fresh, &own, false));

        let mut found = vec![incident("full", INCIDENT_CAP, 10), incident("old", 3, 11), incident("late", 3, 12)];
        assert!(keep_within_cap(&mut found, &mut fresh, &own, false));
        assert_eq!(names(&found), ["late"]);

        let mut found = vec![incident("full", INCIDENT_CAP, 10)];
        assert!(keep_within_cap(&mut found, &mut fresh, &own, false));
        assert!(found.is_empty() && fresh.len() == 1, "the next incident begins");

        let mut found = vec![incident("full", INCIDENT_CAP, 10), incident("mine", 3, 12)];
        assert!(keep_within_cap(&mut found, &mut Vec::new(), &("1".into(), "mine-2".into()), true));
        assert_eq!(names(&found), ["mine"], "an assigned alert stays where it is");
    }
}
