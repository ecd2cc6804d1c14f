//! Operators' rules kept in force from where they are stored: taken over when they change, checked before they
//! count, and never silently lost.
//!
//! In: a [`RuleSource`] (a prefix of a versioned bucket) and the table. Out: the set in [`SharedRules`], a record
//! of each change of it ([`record`]), and two gauges. A bad file is refused by name while the others go on. What
//! would silence detection is not done but told: a prefix that was emptied (without an object [`NO_RULES`]), that
//! cannot be read, or all of whose rules are bad, leaves the last good set in force; a process that starts then
//! reads the versions that were recorded last.
//!
//! It looks when a batch arrives, at most once a minute and for a bounded time: there is no time of its own between
//! invocations, and a store that does not answer must not hold up detection.

pub mod record;

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use sentinel_durable::{Clock, Message, Outcome, worker::Handler};
use sentinel_model::{Timestamp, time};
use sentinel_state::{Table, TableError};
use sentinel_telemetry::metrics;
use tokio::{sync::Mutex, task::JoinSet, time::timeout};
use tracing::{error, info, warn};

pub use record::{RecordedSet, Records};
pub use sentinel_state::rules::{RuleObject, RuleSource, RuleSourceError};

use crate::rules::{LoadReport, MAX_FILE_BYTES, PackAhead, Refused, RuleSet, SharedRules, is_rule_file};

/// Name of an object that says that there are no rules on purpose.
pub const NO_RULES: &str = "NO_RULES";
/// Most rule files. What was in force is recorded in one item, which has to hold all names and versions.
pub const MAX_OBJECTS: usize = 1_000;
/// Longest name of a rule file below the prefix, in bytes.
pub const MAX_NAME_BYTES: usize = 200;
/// Most bytes of all rule files together.
const MAX_TOTAL_BYTES: u64 = 64 * 1024 * 1024;
/// Files read at once.
const AT_ONCE: usize = 16;
/// Seconds between two looks.
const LOOK_SECONDS: i64 = 60;
/// Longest time that a look waits for what is stored, and again as long for what was recorded: a batch is waiting.
const LONGEST_LOOK: Duration = Duration::from_secs(15);
/// Seconds before the next look while there is no set of operators' rules at all because of a failure.
const ANXIOUS_SECONDS: i64 = 10;

/// Why the rules as they are stored were not taken over.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error(transparent)]
    Source(#[from] RuleSourceError),
    #[error("the record of the rules in force failed: {0}")]
    Record(#[from] TableError),
    #[error("all {0} rule files are gone, and no object {NO_RULES} says that this is meant")]
    Emptied(usize),
    #[error("every rule file was refused, the first for: {0}")]
    AllRefused(String),
    #[error("they could not be read within {} seconds", .0.as_secs())]
    TooSlow(Duration),
}

/// A file's text, or why it cannot be used.
type Text = Result<Arc<str>, String>;

/// A set that was read and checked.
struct Loaded {
    objects: Vec<RuleObject>,
    set: RuleSet,
    report: LoadReport,
    hash: String,
}

#[derive(Default)]
struct State {
    looked_at: Option<Timestamp>,
    /// What is in force; `None` while the source was never read.
    in_force: Option<Vec<RuleObject>>,
    /// What is in force and not recorded yet, as when the table failed.
    unrecorded: Option<RecordedSet>,
    texts: HashMap<(String, String), Text>,
}

/// Keeps operators' rules in force.
pub struct RuleKeeper {
    source: Arc<dyn RuleSource>,
    records: Records,
    clock: Arc<dyn Clock>,
    rules: Arc<SharedRules>,
    /// Our own pack in front, where it is wanted.
    ahead: Option<PackAhead>,
    longest_look: Duration,
    state: Mutex<State>,
}

impl RuleKeeper {
    /// Keeps `rules`, without our own pack. Nothing is read yet.
    pub fn new(
        source: Arc<dyn RuleSource>,
        table: Arc<dyn Table>,
        clock: Arc<dyn Clock>,
        rules: Arc<SharedRules>,
    ) -> Self {
        let (records, state) = (Records::new(table), Mutex::default());
        Self { source, records, clock, rules, ahead: None, longest_look: LONGEST_LOOK, state }
    }

    /// The same with our own pack in front, which is on its way already.
    #[must_use]
    pub fn with_pack(self, ahead: PackAhead) -> Self {
        Self { ahead: Some(ahead), ..self }
    }

    /// Looks for changes, unless it has just done so, and takes them over. It never fails: what goes wrong is
    /// logged, raises the gauge and leaves the rules in force as they are. After the first call there are rules.
    pub async fn look(&self) {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        let pause = if state.in_force.is_some() { LOOK_SECONDS } else { ANXIOUS_SECONDS };
        if state.looked_at.is_some_and(|at| time::seconds_between(at, now) < pause) {
            return;
        }
        match self.in_time(self.take_over(&mut state, now)).await {
            Ok(()) => metrics::rules_alarm(false),
            Err(e) => {
                self.alarm(&e);
                if state.in_force.is_none() {
                    self.recover(&mut state).await;
                }
            }
        }
        self.record(&mut state).await;
        state.looked_at = Some(self.clock.now());
    }

    /// Waits no longer than a look may take. What is cut has changed nothing: rules come in force in one step.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, NotTaken>>) -> Result<T, NotTaken> {
        timeout(self.longest_look, work).await.unwrap_or(Err(NotTaken::TooSlow(self.longest_look)))
    }

    fn alarm(&self, why: &NotTaken) {
        metrics::rules_alarm(true);
        sentinel_telemetry::error("rules");
        error!(error = %why, rules = self.rules.current().len(), "operators' rules were not taken over");
    }

    async fn take_over(&self, state: &mut State, now: Timestamp) -> Result<(), NotTaken> {
        let listed = self.source.list().await?;
        let meant = listed.iter().any(|o| o.name == NO_RULES);
        let objects = rule_files(listed);
        if state.in_force.as_ref() == Some(&objects) {
            return Ok(());
        }
        if objects.is_empty() && !meant {
            let before = self.files_before(state).await?;
            if before > 0 {
                return Err(NotTaken::Emptied(before));
            }
        }
        let loaded = self.load(state, objects).await?;
        metrics::rules_refused(u32::try_from(loaded.report.refused.len()).unwrap_or(u32::MAX));
        if let Some(first) = loaded.nothing_usable() {
            return Err(NotTaken::AllRefused(first));
        }
        // A source that never held anything is no change.
        state.unrecorded = (meant || !loaded.objects.is_empty()).then(|| loaded.record(now));
        self.put_in_force(state, loaded);
        Ok(())
    }

    /// How many files were in force before, in this process or by the record.
    async fn files_before(&self, state: &State) -> Result<usize, NotTaken> {
        match &state.in_force {
            Some(objects) => Ok(objects.len()),
            None => Ok(self.records.last().await?.map_or(0, |r| r.objects.len())),
        }
    }

    /// Puts the versions in force that were recorded last; without them, our own pack alone.
    async fn recover(&self, state: &mut State) {
        match self.in_time(self.recorded(state)).await {
            Ok(Some(loaded)) => {
                warn!(files = loaded.objects.len(), "the versions recorded last are in force");
                self.put_in_force(state, loaded);
            }
            Ok(None) => {}
            Err(e) => error!(error = %e, "the versions recorded last cannot be read: our own rules alone are in force"),
        }
        if let Some(ahead) = &self.ahead
            && self.rules.current().is_empty()
        {
            self.rules.replace(ahead.alone());
        }
    }

    async fn recorded(&self, state: &mut State) -> Result<Option<Loaded>, NotTaken> {
        let Some(last) = self.records.last().await?.filter(|r| !r.objects.is_empty()) else { return Ok(None) };
        let loaded = self.load(state, last.objects).await?;
        match loaded.nothing_usable() {
            Some(first) => Err(NotTaken::AllRefused(first)),
            None => Ok(Some(loaded)),
        }
    }

    /// Reads what is not known yet, and compiles all.
    async fn load(&self, state: &mut State, objects: Vec<RuleObject>) -> Result<Loaded, NotTaken> {
        let (mut texts, mut unknown) = (HashMap::with_capacity(objects.len()), Vec::new());
        let mut bytes = 0;
        for (number, object) in objects.iter().enumerate() {
            bytes += object.size;
            let key = (object.name.clone(), object.version_id.clone());
            match (unusable(object, number, bytes), state.texts.get(&key)) {
                (Some(reason), _) => drop(texts.insert(key, Err(reason))),
                (None, Some(known)) => drop(texts.insert(key, known.clone())),
                (None, None) => unknown.push(object.clone()),
            }
        }
        for (object, text) in read(&self.source, unknown).await? {
            texts.insert((object.name, object.version_id), text);
        }
        // Only what is listed now is kept.
        state.texts = texts;
        let of = |o: &RuleObject| state.texts.get(&(o.name.clone(), o.version_id.clone()));
        let usable: Vec<(&str, &str)> =
            objects.iter().filter_map(|o| of(o)?.as_ref().ok().map(|text| (o.name.as_str(), text.as_ref()))).collect();
        let hash = record::hash(&usable);
        let (set, mut report) = match &self.ahead {
            Some(ahead) => ahead.with_texts(&usable),
            None => RuleSet::from_texts(false, usable),
        };
        report.refused.extend(objects.iter().filter_map(|o| {
            let reason = of(o)?.as_ref().err()?.clone();
            Some(Refused { file: o.name.clone(), line: 1, field: None, reason })
        }));
        report.refused.sort();
        Ok(Loaded { objects, set, report, hash })
    }

    fn put_in_force(&self, state: &mut State, loaded: Loaded) {
        let Loaded { objects, set, report, hash } = loaded;
        for refused in &report.refused {
            warn!(
                file = refused.file,
                line = refused.line,
                field = refused.field,
                reason = refused.reason,
                "rule refused"
            );
        }
        for warning in &report.warnings {
            warn!(warning, "rules");
        }
        info!(files = objects.len(), rules = set.len(), refused = report.refused.len(), hash, "rules taken over");
        self.rules.replace(set);
        state.in_force = Some(objects);
    }

    /// Records the change, if there is one that is not. A table that fails is asked again at the next look.
    async fn record(&self, state: &mut State) {
        let Some(set) = state.unrecorded.clone() else { return };
        let add = async { Ok(self.records.add(set).await?) };
        // Forgotten only after it was recorded: this may be cut at any time.
        match self.in_time(add).await {
            Ok(_) => state.unrecorded = None,
            Err(e) => {
                sentinel_telemetry::error("rules");
                error!(error = %e, "the change of rules was not recorded; it is tried again");
            }
        }
    }
}

impl Loaded {
    /// Why there is nothing to take over: files, but not one rule of them.
    fn nothing_usable(&self) -> Option<String> {
        if self.objects.is_empty() || self.set.iter().any(|(_, meta)| !meta.file.starts_with("default:")) {
            return None;
        }
        let first = self.report.refused.first()?;
        Some(format!("{}: {}", first.file, first.reason))
    }

    fn record(&self, at: Timestamp) -> RecordedSet {
        RecordedSet::new(at, self.hash.clone(), self.objects.clone(), self.set.len(), &self.report.refused)
    }
}

/// The rule files among what is stored, in order of their names.
fn rule_files(mut listed: Vec<RuleObject>) -> Vec<RuleObject> {
    listed.retain(|o| is_rule_file(Path::new(&o.name)));
    listed.sort();
    listed
}

/// The texts of a recorded set's files, in their order, for those who ask which rules are in force: names and texts.
/// What detect leaves out because it is too large, gone, or no text is left out here too. An error when the source as a
/// whole cannot be read.
pub async fn texts(source: &Arc<dyn RuleSource>, set: RecordedSet) -> Result<Vec<(String, Arc<str>)>, RuleSourceError> {
    let mut bytes = 0;
    let usable = |(number, object): (usize, RuleObject)| {
        bytes += object.size;
        unusable(&object, number, bytes).is_none().then_some(object)
    };
    let files = set.objects.into_iter().enumerate().filter_map(usable).collect();
    let mut read = read(source, files).await?;
    read.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(read.into_iter().filter_map(|(object, text)| Some((object.name, text.ok()?))).collect())
}

/// The texts of files, several read at once. What is wrong with one file alone is no error.
async fn read(
    source: &Arc<dyn RuleSource>,
    objects: Vec<RuleObject>,
) -> Result<Vec<(RuleObject, Text)>, RuleSourceError> {
    let mut waiting = objects.into_iter();
    let (mut reads, mut texts) = (JoinSet::new(), Vec::new());
    loop {
        for object in waiting.by_ref().take(AT_ONCE - reads.len()) {
            let source = Arc::clone(source);
            reads.spawn(async move { (source.read(&object).await, object) });
        }
        let Some(read) = reads.join_next().await else { return Ok(texts) };
        match read.map_err(RuleSourceError::unreadable)? {
            (Ok(text), object) => texts.push((object, Ok(text.into()))),
            (Err(RuleSourceError::Object { reason, .. }), object) => texts.push((object, Err(reason))),
            (Err(e), _) => return Err(e),
        }
    }
}

/// Why a file is not even read.
fn unusable(object: &RuleObject, number: usize, bytes: u64) -> Option<String> {
    if number >= MAX_OBJECTS {
        return Some(format!("more than {MAX_OBJECTS} rule files"));
    }
    if object.name.len() > MAX_NAME_BYTES {
        return Some(format!("a name longer than {MAX_NAME_BYTES} bytes"));
    }
    if object.size > MAX_FILE_BYTES as u64 {
        return Some(format!("larger than {MAX_FILE_BYTES} bytes"));
    }
    (bytes > MAX_TOTAL_BYTES).then(|| format!("more than {MAX_TOTAL_BYTES} bytes of rules in all"))
}

/// A handler that looks for changed rules before each batch.
pub struct Kept {
    keeper: Arc<RuleKeeper>,
    handler: Arc<dyn Handler>,
}

impl Kept {
    /// In front of `handler`.
    pub fn new(keeper: Arc<RuleKeeper>, handler: Arc<dyn Handler>) -> Self {
        Self { keeper, handler }
    }
}

#[async_trait]
impl Handler for Kept {
    async fn handle(&self, batch: Vec<Message>) -> Vec<Outcome> {
        self.keeper.look().await;
        self.handler.handle(batch).await
    }
}

#[cfg(test)]
mod tests;
