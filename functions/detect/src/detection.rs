//! From matched events to what they add to alerts.
//!
//! In: events and the rules that each matched, or a model's score. Out: one [`Detection`] per alert, with the
//! matching events as members and sentences that say why. The result depends on the events alone, not on
//! their order: members are sorted by event time and id, detections by the alert's identity, and a member
//! that comes twice counts once. Identity, windows and levels follow `sentinel_model::alert`.

use std::collections::BTreeMap;

use sentinel_model::{
    Attack, Detection, Event, EventRef, Level, Member, OwnRoles, RuleRef, Window,
    alert::{self, DEFAULT_WINDOW_MINUTES, Matched, MatchedRule},
    provenance,
};

use crate::{
    reason,
    rules::{RuleIndex, RuleMeta, RuleSet},
    scorer::{LOWEST_ALERT_SCORE, Scored, level_of_score},
};

/// Rule id of the alert on activity of our own response role. Enrich drops members that match an action
/// that respond recorded; what is left is somebody else using our rights.
pub const OWN_ROLE_RULE: &str = "sentinel:own-role-activity";
/// Sentences on different calls that one detection carries.
const MAX_CALLS_TOLD: usize = 5;

/// What detecting needs to know beside the rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The roles that our own responses act under.
    pub own_roles: OwnRoles,
}

impl RuleSet {
    /// What one event adds to alerts of the rules that it matched: one detection per rule.
    pub fn detections_for(&self, event: &Event, hits: &[RuleIndex]) -> Vec<Detection> {
        let mut builder = Builder::new(self, Config::default());
        builder.add(event, hits);
        builder.finish()
    }

    /// What one event says to every rule that it matched, and those rules: the same as
    /// [`RuleSet::detections_for`] without a copy of everything for each rule.
    pub fn matched<'a>(
        &'a self,
        event: &Event,
        hits: &'a [RuleIndex],
    ) -> (Matched, impl Iterator<Item = MatchedRule<'a>>) {
        let matched = Matched {
            principal: event.principal.clone(),
            account: event.account.clone(),
            member: member(event, None),
            call: reason::call(event),
        };
        let rules = hits.iter().filter(|index| self.alerts_alone(**index)).map(|index| self.labels(*index));
        (matched, rules)
    }

    /// What the correlations say, at their positions.
    pub fn correlation_labels(&self) -> impl Iterator<Item = MatchedRule<'_>> {
        self.correlations().plans.iter().map(|plan| MatchedRule {
            rule: &plan.rule,
            attack: &plan.attack,
            window_minutes: plan.window_minutes(),
            why: &plan.why,
        })
    }

    /// What a rule says of every event that it matches. The index must be of this set.
    pub fn labels(&self, index: RuleIndex) -> MatchedRule<'_> {
        let meta = self.meta(index);
        MatchedRule {
            rule: &meta.reference,
            attack: &meta.attack,
            window_minutes: meta.window_minutes,
            why: self.sentence(index),
        }
    }
}

/// Gathers the matches of a batch into detections.
#[derive(Debug)]
pub struct Builder<'a> {
    rules: &'a RuleSet,
    config: Config,
    pending: BTreeMap<String, Pending>,
}

/// A detection in the making.
#[derive(Debug)]
struct Pending {
    detection: Detection,
    /// Sentences on what was done, each with the first event that it tells of.
    calls: BTreeMap<String, EventRef>,
    /// Sentences on why it counts.
    why: Vec<String>,
}

impl<'a> Builder<'a> {
    /// Starts with nothing.
    pub fn new(rules: &'a RuleSet, config: Config) -> Self {
        Self { rules, config, pending: BTreeMap::new() }
    }

    /// Adds an event and the rules that it matched (indexes of this builder's set). Activity of our own role is
    /// noticed here, whether or not a rule matched.
    pub fn add(&mut self, event: &Event, hits: &[RuleIndex]) {
        for index in hits.iter().filter(|index| self.rules.alerts_alone(**index)) {
            let meta = self.rules.meta(*index);
            let rule = || (meta.reference.clone(), meta.attack.clone(), self.rules.why(*index).to_owned());
            self.entry(event, &meta.reference.id, meta.window_minutes, rule).member(event, None);
        }
        if is_own_activity(event, &self.config.own_roles) {
            self.entry(event, OWN_ROLE_RULE, DEFAULT_WINDOW_MINUTES, own_role_rule).member(event, None);
        }
    }

    /// Adds what a model says of an event. A score below the lowest that alerts adds nothing.
    pub fn add_scored(&mut self, event: &Event, scored: &Scored) {
        let Some(level) = level_of_score(scored.score) else { return };
        let id = format!("model:{}", scored.model);
        let rule = || {
            let title = format!("Unusual behaviour ({})", scored.model);
            let reason = format!("The model {} finds this unusual.", scored.model);
            let author = Some(String::from("CloudSentinel"));
            (RuleRef { id: id.clone(), title, level, author }, Attack::default(), reason)
        };
        let pending = self.entry(event, &id, DEFAULT_WINDOW_MINUTES, rule);
        let known = &mut pending.detection.rule.level;
        *known = (*known).max(level);
        for sentence in &scored.reasons {
            pending.because(reason::clean(sentence));
        }
        pending.member(event, Some(scored.score.clamp(LOWEST_ALERT_SCORE, 1.0)));
    }

    fn entry(
        &mut self,
        event: &Event,
        rule_id: &str,
        window_minutes: u32,
        rule: impl FnOnce() -> (RuleRef, Attack, String),
    ) -> &mut Pending {
        let window = Window::around(event.time, window_minutes);
        let alert_id = alert::alert_id(rule_id, &event.principal.id, &event.account, window);
        // Enrich drops what is ours event by event: each of these stands alone, so that its sentence goes with it.
        let own = is_own_activity(event, &self.config.own_roles);
        let key = if own { format!("{alert_id}\u{0}{}", event.id) } else { alert_id.clone() };
        self.pending.entry(key).or_insert_with(|| {
            let (rule, attack, why) = rule();
            Pending {
                detection: Detection {
                    alert_id,
                    rule,
                    attack,
                    window,
                    principal: event.principal.clone(),
                    account: event.account.clone(),
                    members: Vec::new(),
                    reasons: Vec::new(),
                    correlated: None,
                },
                calls: BTreeMap::new(),
                why: vec![why],
            }
        })
    }

    /// The detections, sorted by alert.
    pub fn finish(self) -> Vec<Detection> {
        self.pending.into_values().map(Pending::finish).collect()
    }
}

impl Pending {
    fn because(&mut self, sentence: String) {
        if !self.why.contains(&sentence) {
            self.why.push(sentence);
        }
    }

    fn member(&mut self, event: &Event, model_score: Option<f64>) {
        let member = member(event, model_score);
        let first = self.calls.entry(reason::call(event)).or_insert_with(|| member.event.clone());
        if member.event < *first {
            *first = member.event.clone();
        }
        // What would never be told need not be kept, however long the batch is.
        if self.calls.len() > MAX_CALLS_TOLD
            && let Some(latest) = self.calls.iter().max_by(|a, b| (a.1, a.0).cmp(&(b.1, b.0))).map(|(s, _)| s.clone())
        {
            self.calls.remove(&latest);
        }
        self.detection.members.push(member);
    }

    fn finish(mut self) -> Detection {
        let members = &mut self.detection.members;
        members.sort_by(|a, b| a.event.cmp(&b.event));
        members.dedup_by(|again, kept| {
            let same = again.event == kept.event;
            if same {
                provenance::merge(&mut kept.provenance, std::mem::take(&mut again.provenance));
                kept.model_score = higher(kept.model_score, again.model_score);
            }
            same
        });
        let mut calls: Vec<_> = self.calls.into_iter().collect();
        calls.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
        self.why.sort_unstable();
        self.detection.reasons = calls.into_iter().map(|(sentence, _)| sentence).chain(self.why).collect();
        self.detection
    }
}

fn higher(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (one, other) => one.or(other),
    }
}

pub(crate) fn member(event: &Event, model_score: Option<f64>) -> Member {
    let mut copies = Vec::with_capacity(event.provenance.len());
    provenance::merge(&mut copies, event.provenance.iter().cloned());
    Member {
        event: EventRef { time: event.time, id: event.id.clone(), content: event.content },
        region: event.region.clone(),
        source_ip: reason::source(event),
        user_agent: event.network.user_agent.clone(),
        access_key_id: event.access_key_id.clone(),
        service: event.action.service.clone(),
        action: event.action.name.clone(),
        read_only: event.action.read_only,
        success: event.outcome.is_success(),
        issuer: event.principal.role.clone(),
        model_score,
        provenance: copies,
    }
}

/// The sentence that a rule's alerts have of it.
pub(crate) fn rule_reason(meta: &RuleMeta) -> String {
    match meta.description.as_deref().filter(|d| !d.is_empty()) {
        Some(description) => format!("Rule \"{}\": {}", meta.reference.title, reason::clean(description)),
        None => format!("Rule \"{}\" matched.", meta.reference.title),
    }
}

fn own_role_rule() -> (RuleRef, Attack, String) {
    let rule = RuleRef {
        id: String::from(OWN_ROLE_RULE),
        title: String::from("Activity of CloudSentinel's own response role"),
        level: Level::Critical,
        author: Some(String::from("CloudSentinel")),
    };
    // T1078.004, Valid Accounts: Cloud Accounts (MITRE ATT&CK).
    let attack = Attack::from_tags(["attack.privilege-escalation", "attack.t1078.004"]);
    let why = "The role that CloudSentinel's own responses act under was used; any use that is not a recorded response is an intrusion.";
    (rule, attack, String::from(why))
}

/// Whether an event was issued by our own role. Reading counts too: respond records what it reads, and what it
/// did not record is somebody else's doing.
fn is_own_activity(event: &Event, own_roles: &OwnRoles) -> bool {
    event.principal.role.as_deref().is_some_and(|role| own_roles.contains(role))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{testing, testing::event};
    use proptest::prelude::*;
    use sentinel_json::Document;

    fn set() -> RuleSet {
        testing::rules(
            "title: Key made\nid: r1\ndescription: A key is a second way in.\nlevel: high\nauthor: A. Uthor\ntags: [attack.persistence, attack.t1098.001]\nlogsource: {product: aws}\ndetection: {s: {eventName: CreateAccessKey}, condition: s}\n",
        )
    }

    fn hits(set: &RuleSet, event: &Event) -> Vec<RuleIndex> {
        let mut hits = Vec::new();
        set.matches(Document::parse(event.raw.text()).unwrap().root(), &mut hits);
        hits
    }

    fn built(set: &RuleSet, events: &[Event]) -> Vec<Detection> {
        let mut builder = Builder::new(set, Config::default());
        for event in events {
            builder.add(event, &hits(set, event));
        }
        builder.finish()
    }

    #[test]
    fn a_detection_says_who_what_where_and_why() {
        let set = set();
        let event = event("e1", "2026-03-02T09:15:00Z", "CreateAccessKey");
        let detections = set.detections_for(&event, &hits(&set, &event));
        assert_eq!(detections.len(), 1);
        let d = &detections[0];
        assert_eq!((d.rule.id.as_str(), d.rule.level, d.rule.author.as_deref()), ("r1", Level::High, Some("A. Uthor")));
        assert_eq!(d.attack.techniques, ["T1098.001"]);
        assert_eq!(d.window.start.to_string(), "2026-03-02T09:00:00Z");
        assert_eq!(d.alert_id, alert::alert_id("r1", &event.principal.id, "111122223333", d.window));
        assert_eq!(
            d.reasons,
            [
                "dana (IAM user, account 111122223333) called iam:CreateAccessKey from 203.0.113.45 in us-east-1.",
                "Rule \"Key made\": A key is a second way in.",
            ]
        );
        assert_eq!(d.members[0].source_ip.as_deref(), Some("203.0.113.45"));
    }

    #[test]
    fn matches_of_one_window_are_one_detection_and_windows_cut_by_the_clock() {
        let set = set();
        let times = ["2026-03-02T09:59:59Z", "2026-03-02T09:00:00Z", "2026-03-02T10:00:00Z"];
        let events: Vec<_> =
            times.iter().enumerate().map(|(i, t)| event(&format!("e{i}"), t, "CreateAccessKey")).collect();
        let sizes: Vec<_> = built(&set, &events).iter().map(|d| d.members.len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 3);
        assert_eq!(sizes.len(), 2);
    }

    #[test]
    fn other_principals_and_accounts_are_other_alerts() {
        let set = set();
        let one = event("e1", "2026-03-02T09:15:00Z", "CreateAccessKey");
        let mut two = one.clone();
        two.account = String::from("444455556666");
        let mut three = one.clone();
        three.principal.id = String::from("arn:aws:iam::111122223333:user/other");
        assert_eq!(built(&set, &[one, two, three]).len(), 3);
    }

    #[test]
    fn our_own_role_is_watched_whatever_it_does() {
        let set = set();
        let role = "arn:aws:iam::111122223333:role/responder";
        let run = |change: fn(&mut Event)| {
            let mut event = event("e1", "2026-03-02T09:15:00Z", "UpdateAccessKey");
            event.principal.role = Some(String::from(role));
            change(&mut event);
            let mut builder = Builder::new(&set, Config { own_roles: [role].into_iter().collect() });
            builder.add(&event, &[]);
            builder.finish()
        };
        let found = run(|e| e.action.read_only = None);
        assert_eq!((found.len(), found[0].rule.level), (1, Level::Critical));
        assert_eq!(found[0].rule.id, OWN_ROLE_RULE);
        assert_eq!(found[0].members[0].issuer.as_deref(), Some(role));
        let mut builder = Builder::new(&set, Config { own_roles: [role].into_iter().collect() });
        for (id, name) in [("e1", "UpdateAccessKey"), ("e2", "CreateUser"), ("e1", "UpdateAccessKey")] {
            let mut event = event(id, "2026-03-02T09:15:00Z", name);
            event.principal.role = Some(String::from(role));
            builder.add(&event, &[]);
        }
        let apart = builder.finish();
        assert_eq!(apart.len(), 2, "an event that turns out to be ours takes its sentence with it");
        assert_eq!(apart[0].alert_id, apart[1].alert_id);
        assert!(apart.iter().all(|d| d.members.len() == 1 && d.reasons.len() == 2), "{apart:?}");
        let reads = run(|e| (e.action.read_only, e.action.name) = (Some(true), String::from("ListUsers")));
        assert_eq!((reads.len(), reads[0].rule.level), (1, Level::Critical));
        assert!(run(|e| e.principal.role = Some(String::from("arn:aws:iam::111122223333:role/other"))).is_empty());
        let event = event("e1", "2026-03-02T09:15:00Z", "UpdateAccessKey");
        let mut builder = Builder::new(&set, Config::default());
        builder.add(&event, &[]);
        assert!(builder.finish().is_empty(), "no role is configured and the event has none");
    }

    #[test]
    fn models_alert_from_the_lowest_score_on() {
        let set = set();
        let event = event("e1", "2026-03-02T09:15:00Z", "CreateAccessKey");
        let scored = |score| Scored {
            index: 0,
            score,
            reasons: vec![String::from("New Region.")],
            model: String::from("forest"),
        };
        let mut builder = Builder::new(&set, Config::default());
        builder.add_scored(&event, &scored(0.39));
        builder.add_scored(&event, &scored(0.45));
        builder.add_scored(&event, &scored(0.7));
        let found = builder.finish();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].rule.id.as_str(), found[0].rule.level), ("model:forest", Level::High));
        assert_eq!((found[0].members.len(), found[0].members[0].model_score), (1, Some(0.7)));
        assert!(found[0].reasons.contains(&String::from("New Region.")), "{:?}", found[0].reasons);
        assert!(found[0].attack.tactics.is_empty());
    }

    proptest! {
        #[test]
        fn order_and_repetition_change_nothing(
            picks in prop::collection::vec((0_u32..8, 0_u32..7200), 1..30),
            seed in any::<u64>(),
        ) {
            let set = set();
            let start: sentinel_model::Timestamp = "2026-03-02T09:00:00Z".parse().unwrap();
            let mut events: Vec<_> = picks
                .iter()
                .map(|(id, at)| {
                    let mut e = event(&format!("e{id}"), "2026-03-02T09:00:00Z", "CreateAccessKey");
                    e.time = sentinel_model::time::plus_seconds(start, i64::from(*at));
                    e.region = Some(format!("r{id}"));
                    e
                })
                .collect();
            let once = built(&set, &events);
            events.extend(events.clone());
            let mid = usize::try_from(seed % events.len() as u64).unwrap();
            events.rotate_left(mid);
            events.reverse();
            prop_assert_eq!(built(&set, &events), once);
        }
    }
}
