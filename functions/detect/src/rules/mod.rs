//! Rule sets: Sigma rules loaded, compiled and ready to be matched.
//!
//! In: our pack, which is part of the binary, and folders or texts of operators' rules. Out: a [`RuleSet`] that says
//! which rules a record matches, and a [`LoadReport`] of what was refused and why. A set never changes;
//! to reload, a new one is made and swapped in ([`SharedRules`]).

mod ahead;
mod caps;
pub(crate) mod compiled;
mod conditions;
mod correlate;
mod document;
pub mod exceptions;
mod filter;
mod load;
mod locate;
pub mod logs;
mod meta;
mod pack;
pub mod placeholders;
mod plain;
mod quick;
mod shape;
mod split;
mod walk;

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use sentinel_json::Value;
use sentinel_model::{Event, Level, alert::Sentence};

pub use ahead::PackAhead;
pub(crate) use caps::MAX_FILE_BYTES;
pub(crate) use correlate::{Correlations, Extract};
pub use exceptions::{Exceptions, Suppressed};
pub use load::{LoadError, LoadOptions, LoadReport, Refused};
pub use logs::Log;
pub use meta::RuleMeta;
pub(crate) use pack::files as pack_files;
pub use placeholders::Placeholders;
pub(crate) use walk::is_rule_file;
pub use walk::{EXCEPTIONS, PLACEHOLDERS};

use compiled::Compiled;

use crate::{
    detection::rule_reason,
    dispatch::{Dispatch, DispatchStats, Needs, Placement},
    fields::{Fields, Lookup},
    matcher::{Looked, Memory},
    program::{
        MAX_ALWAYS, MAX_ALWAYS_COST, Made, Program, TooLarge,
        graph::{Graph, Id},
    },
};

/// A rule's place in its set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleIndex(pub(crate) u32);

impl RuleIndex {
    /// The place as a number, from 0, in the order of [`RuleSet::iter`].
    pub fn number(self) -> u32 {
        self.0
    }
}

#[derive(Debug)]
struct Rule {
    meta: RuleMeta,
    /// The sentence that its alerts have of it, made for the first.
    why: OnceLock<String>,
    /// What rsigma itself would run, to compare with.
    #[cfg(test)]
    plain: rsigma_eval::CompiledRule,
}

impl Sentence for Rule {
    fn text(&self) -> &str {
        self.why.get_or_init(|| rule_reason(&self.meta))
    }
}

/// What a rule's matches come to: as much of it as every match is asked for, apart from all else so that many rules'
/// stand near each other.
#[derive(Debug, Clone, Copy)]
pub struct Brief {
    /// The rule's level.
    pub level: Level,
    /// Width of its alerts' windows in minutes.
    pub window_minutes: u32,
    /// Whether its matches are alerts: those of a rule that only serves correlations are not.
    pub alerts: bool,
    /// Whether its matches count for a correlation.
    pub feeds: bool,
}

/// Rules ready to be matched.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// By rule.
    briefs: Vec<Brief>,
    /// By rule; `None` for one of another log source: loaded and listed, never evaluated.
    programs: Vec<Option<Program>>,
    graph: Graph,
    fields: Fields,
    dispatch: Dispatch,
    stats: DispatchStats,
    /// What the rules that are tried for every record cost, in about nanoseconds for a usual one.
    always_cost: u32,
    exceptions: Exceptions,
    correlations: Correlations,
}

impl RuleSet {
    /// Our own pack alone. It is part of the binary and checked when it is built.
    pub fn default_pack() -> Self {
        let mut loader = load::Loader::default();
        loader.default_pack();
        loader.finish().0
    }

    /// Loads what the options name. What is refused is in the report; the rest is loaded.
    pub fn load(options: &LoadOptions) -> Result<(Self, LoadReport), LoadError> {
        load::Loader::load(options)
    }

    /// Loads texts (a name each) that were read elsewhere, with our own pack or without. `placeholders.yml` and
    /// `exceptions.yml` among them are what their names say. What is refused is in the report; the rest is loaded.
    pub fn from_texts<'a>(
        default_rules: bool,
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> (Self, LoadReport) {
        load::Loader::texts(default_rules, &texts.into_iter().collect::<Vec<_>>())
    }

    /// Loads what the options name and texts (a name each) beside it. What is refused is in the report; the rest is loaded.
    pub fn load_with<'a>(
        options: &LoadOptions,
        texts: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(Self, LoadReport), LoadError> {
        load::Loader::load_with(options, &texts.into_iter().collect::<Vec<_>>())
    }

    /// Which rules a record (a CloudTrail record, parsed) matches: `hits` is cleared and filled, in the
    /// set's order.
    pub fn matches(&self, record: Value<'_>, hits: &mut Vec<RuleIndex>) {
        hits.clear();
        let scratch = self.fields.scratch();
        self.matches_of(&self.fields.of(record, &scratch), hits);
    }

    /// A record to look fields up in, with memory of this set that serves one record after the other.
    pub fn look<'m>(&'m self, record: Value<'m>, memory: &'m mut Memory) -> Looked<'m> {
        Looked(self.fields.of(record, &memory.0))
    }

    /// Memory for looking at records.
    pub fn memory(&self) -> Memory {
        Memory(self.fields.scratch())
    }

    /// The same for a record in which fields can be looked up; `hits` is empty.
    pub(crate) fn matches_of(&self, record: &Lookup<'_>, hits: &mut Vec<RuleIndex>) {
        self.candidates(record, |number, condition| {
            if self.graph.holds(condition, record) {
                hits.push(RuleIndex(number));
            }
        });
        hits.sort_unstable();
    }

    /// The rules that may match a record, in any order, each with what then decides.
    pub(crate) fn candidates(&self, record: &Lookup<'_>, mut each: impl FnMut(u32, Id)) {
        let skipped = |number: u32| self.programs[number as usize].is_none();
        self.dispatch.candidates(record, skipped, |number, found| {
            if let Some(program) = self.programs[number as usize] {
                each(number, program.condition(found));
            }
        });
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Drops the hits of an event that an operator's exception takes, and counts them. Resources are told from the
    /// event's targets.
    pub fn suppress(&self, event: &Event, hits: &mut Vec<RuleIndex>) {
        if !self.exceptions.is_empty() {
            hits.retain(|index| !self.exceptions.suppresses(event, &self.meta(*index).names()));
        }
    }

    /// The operator's exceptions, with what each took so far.
    pub fn exceptions(&self) -> &Exceptions {
        &self.exceptions
    }

    /// The correlations, for those who collect hits for them.
    pub(crate) fn correlations(&self) -> &Correlations {
        &self.correlations
    }

    /// What is known of each correlation.
    pub fn correlation_metas(&self) -> impl Iterator<Item = &RuleMeta> {
        self.correlations.metas.iter()
    }

    /// Whether a rule's matches are alerts: those of a rule that only serves correlations are not.
    pub fn alerts_alone(&self, index: RuleIndex) -> bool {
        self.brief(index).alerts
    }

    /// What a rule's matches come to. The index must be of this set.
    #[inline]
    pub fn brief(&self, index: RuleIndex) -> Brief {
        self.briefs[index.0 as usize]
    }

    /// Takes the correlations, once all rules are there.
    fn correlate(&mut self, correlations: Correlations) {
        for (rule, brief) in (0..).zip(&mut self.briefs) {
            brief.alerts = !correlations.quiets(rule);
            brief.feeds = !correlations.feeds(rule).is_empty();
        }
        self.correlations = correlations;
    }

    /// What is known of a rule. The index must be of this set.
    pub fn meta(&self, index: RuleIndex) -> &RuleMeta {
        &self.rules[index.0 as usize].meta
    }

    /// The sentence that a rule's alerts have of it.
    pub(crate) fn why(&self, index: RuleIndex) -> &str {
        self.sentence(index).text()
    }

    /// The same, made when it is asked for.
    pub(crate) fn sentence(&self, index: RuleIndex) -> &dyn Sentence {
        &self.rules[index.0 as usize]
    }

    /// All rules in order, those of other log sources included.
    pub fn iter(&self) -> impl Iterator<Item = (RuleIndex, &RuleMeta)> {
        (0..).map(RuleIndex).zip(self.rules.iter().map(|r| &r.meta))
    }

    /// How many rules are loaded.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether no rule is loaded.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// How rules are found for a record, for benchmarks and the curious.
    pub fn dispatch_stats(&self) -> DispatchStats {
        self.stats
    }

    /// Makes room for so many more rules.
    fn reserve(&mut self, more: usize) {
        self.programs.reserve(more);
        self.briefs.reserve(more);
        self.rules.reserve(more);
    }

    /// Adds a compiled rule.
    fn push(&mut self, meta: RuleMeta, compiled: &Compiled, made: &mut Made) -> Result<(), TooLarge> {
        #[cfg(test)]
        let plain = compiled.plain.clone();
        let program = if meta.evaluated {
            let needs = Needs::of(compiled);
            let program = Program::new(compiled, &needs, &mut self.fields, &mut self.graph, made)?;
            if needs.is_met_by_all() {
                let cost = self.always_cost.saturating_add(program.cost(&self.graph));
                if self.stats.always >= MAX_ALWAYS || cost > MAX_ALWAYS_COST {
                    return Err(TooLarge::Always);
                }
                self.always_cost = cost;
            }
            let placement = self.dispatch.insert(&needs);
            *match placement {
                Placement::EventName => &mut self.stats.by_event_name,
                Placement::EventSource => &mut self.stats.by_event_source,
                Placement::Always => &mut self.stats.always,
            } += 1;
            Some(program)
        } else {
            self.dispatch.skip();
            None
        };
        self.programs.push(program);
        let (level, window_minutes) = (meta.reference.level, meta.window_minutes);
        self.briefs.push(Brief { level, window_minutes, alerts: true, feeds: false });
        self.rules.push(Rule {
            why: OnceLock::new(),
            meta,
            #[cfg(test)]
            plain,
        });
        Ok(())
    }

    /// The evaluated rules as rsigma itself would run them, for differential tests.
    #[cfg(test)]
    pub(crate) fn plain(&self) -> impl Iterator<Item = (RuleIndex, &rsigma_eval::CompiledRule)> {
        let all = (0..).map(RuleIndex).zip(self.rules.iter().zip(&self.programs));
        all.filter(|(_, (_, program))| program.is_some()).map(|(i, (r, _))| (i, &r.plain))
    }
}

/// The rule set in force, which can be replaced while others match with the old one.
#[derive(Debug, Default)]
pub struct SharedRules(RwLock<Arc<RuleSet>>);

impl SharedRules {
    /// Starts with a set.
    pub fn new(rules: RuleSet) -> Self {
        Self(RwLock::new(Arc::new(rules)))
    }

    /// The set in force now.
    pub fn current(&self) -> Arc<RuleSet> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a set in force.
    pub fn replace(&self, rules: RuleSet) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// Loads anew and puts the result in force, unless a folder cannot be read or nothing at all was
    /// loaded: then the old set stays.
    pub fn reload(&self, options: &LoadOptions) -> Result<LoadReport, LoadError> {
        let (rules, report) = RuleSet::load(options)?;
        if rules.is_empty() && !report.refused.is_empty() {
            return Err(LoadError::AllRefused(report.refused.len()));
        }
        self.replace(rules);
        Ok(report)
    }
}
