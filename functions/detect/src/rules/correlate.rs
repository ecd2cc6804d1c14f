//! Correlation rules compiled: what they refer to is found, and every rule is told which correlations it feeds.
//!
//! In: parsed correlations and the rules of a set. Out: a [`Plan`] for each, and for each rule the fields that its
//! hits bring along. A correlation that cannot be used is refused with file, line, field and reason while the others
//! go on. What differs from the Sigma correlation specification 2.1, or is left open there, is said in the README of the
//! rules: absent group fields, arrays, events of one second.

use std::collections::{HashMap, HashSet};

use rsigma_parser::{
    ConditionExpr, ConditionOperator, CorrelationCondition, CorrelationRule, CorrelationType, Quantifier, WindowMode,
};
use sentinel_correlation::{Condition, Expression, Kind, Link, MAX_BASES, Op, Plan};
use sentinel_model::{Attack, RuleRef, hash};

use super::{
    document::ParsedCorrelation,
    load::Refused,
    locate,
    meta::{self, RuleMeta, file_stem},
};
use crate::{detection::rule_reason, fields::Fields};

/// Longest timespan in seconds: 92 days. State is kept for longer than that.
const MAX_TIMESPAN: u64 = 92 * 86_400;
/// Correlations that refer to correlations, one above the other.
const MAX_DEPTH: usize = 8;
/// Fields that tell groups apart, and fields whose values are counted.
const MAX_FIELDS: usize = 16;
/// Conditions may refer to so many rules, selectors counted out.
const MAX_REFERENCES: usize = 1_000;

/// The correlations of a set.
#[derive(Debug, Default)]
pub(crate) struct Correlations {
    pub(crate) plans: Vec<Plan>,
    pub(crate) metas: Vec<RuleMeta>,
    /// For every plan how many plans stand below it: those without come first when plans are evaluated.
    pub(crate) depths: Vec<usize>,
    /// Plans that raise no alert of their own.
    pub(crate) quiet_plans: HashSet<usize>,
    /// By rule, up to the last one that any correlation refers to.
    rules: Vec<OfRule>,
}

/// What correlations make of one rule.
#[derive(Debug, Default)]
struct OfRule {
    /// What its hits feed.
    feeds: Vec<Feed>,
    /// Whether it raises no alert of its own.
    quiet: bool,
}

/// What a rule's hits bring to a plan.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) plan: usize,
    pub(crate) base: u16,
    pub(crate) fields: Extract,
}

/// The fields that a hit brings along.
#[derive(Debug)]
pub(crate) struct Extract {
    /// What makes its group: numbers of fields.
    pub(crate) group: Vec<usize>,
    /// What is counted or computed with.
    pub(crate) values: Vec<usize>,
    /// For the plan's parents, in their order.
    pub(crate) onward: Vec<Self>,
}

/// Something that a correlation may refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Target {
    Rule(u32),
    /// By position among all parsed correlations.
    Correlation(usize),
}

/// Why a correlation cannot be used: the key at fault and a sentence.
struct Fault(&'static str, String);

/// A correlation whose references are found.
struct Resolved<'a> {
    parsed: &'a ParsedCorrelation,
    /// Each once, with the texts by which the rule calls it.
    targets: Vec<(Target, Vec<&'a str>)>,
    kind: Kind,
    condition: Condition,
    fields: Vec<String>,
}

impl Resolved<'_> {
    fn rule(&self) -> &CorrelationRule {
        &self.parsed.rule
    }

    /// What a field is called in the events of one of its bases.
    fn field<'f>(&'f self, name: &'f str, base: usize) -> &'f str {
        let called = &self.targets[base].1;
        let alias = self.rule().aliases.iter().find(|alias| alias.alias == name);
        alias.and_then(|a| called.iter().find_map(|c| a.mapping.get(*c))).map_or(name, String::as_str)
    }
}

/// Compiles correlations. `rules` are those of the set with their indexes, `fields` the set's; `keep_apart` gives a
/// correlation's meta an id of its own.
pub(super) fn compile(
    parsed: &[ParsedCorrelation],
    rules: &[&RuleMeta],
    fields: &mut Fields,
    mut keep_apart: impl FnMut(&mut RuleMeta),
) -> (Correlations, Vec<Refused>) {
    let (mut done, mut refused) = (Correlations::default(), Vec::new());
    let refuse = |at: &ParsedCorrelation, Fault(field, reason): Fault| {
        let place = locate::key(&at.text, at.line, field);
        Refused { file: at.file.clone(), line: place.line, field: place.field, reason }
    };
    let names = Names::of(parsed, rules);
    let mut open: Vec<(usize, Resolved<'_>)> = Vec::new();
    for (position, correlation) in parsed.iter().enumerate() {
        match resolve(correlation, position, &names) {
            Ok(resolved) => open.push((position, resolved)),
            Err(fault) => refused.push(refuse(correlation, fault)),
        }
    }
    // Those come first that refer to rules alone, then those that refer to these, and so on.
    let mut plan_of: HashMap<usize, usize> = HashMap::new();
    let mut compiled: Vec<Resolved<'_>> = Vec::new();
    while !open.is_empty() {
        let known = |target: &Target| match target {
            Target::Rule(_) => true,
            Target::Correlation(position) => plan_of.contains_key(position),
        };
        let (ready, rest): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|(_, r)| r.targets.iter().all(|(target, _)| known(target)));
        open = rest;
        if ready.is_empty() || done.depths.last().is_some_and(|depth| *depth + 1 >= MAX_DEPTH) {
            break;
        }
        let depth = done.depths.last().map_or(0, |depth| depth + 1);
        for (position, resolved) in ready {
            let mut meta = meta_of(&resolved, rules, &done, &plan_of);
            keep_apart(&mut meta);
            plan_of.insert(position, done.plans.len());
            done.add(&resolved, meta, depth, &plan_of);
            compiled.push(resolved);
        }
    }
    let lost = || Fault("rules", "refers to a correlation that was refused, to itself in a circle, or too deep".into());
    refused.extend(open.iter().map(|(_, resolved)| refuse(resolved.parsed, lost())));
    done.feed(&compiled, &plan_of, fields);
    (done, refused)
}

impl Correlations {
    /// What a rule's hits feed.
    pub(crate) fn feeds(&self, rule: u32) -> &[Feed] {
        self.rules.get(rule as usize).map_or(&[], |rule| &rule.feeds)
    }

    /// Whether a rule raises no alert of its own.
    pub(crate) fn quiets(&self, rule: u32) -> bool {
        self.rules.get(rule as usize).is_some_and(|rule| rule.quiet)
    }

    fn of_rule(&mut self, rule: u32) -> &mut OfRule {
        let at = rule as usize;
        if self.rules.len() <= at {
            self.rules.resize_with(at + 1, OfRule::default);
        }
        &mut self.rules[at]
    }

    fn add(&mut self, resolved: &Resolved<'_>, meta: RuleMeta, depth: usize, plan_of: &HashMap<usize, usize>) {
        let rule = resolved.rule();
        let number = self.plans.len();
        let mut bases = Vec::new();
        let mut unsure_base = false;
        for (base, (target, called)) in (0_u16..).zip(&resolved.targets) {
            match target {
                Target::Rule(index) => {
                    if !rule.generate {
                        self.of_rule(*index).quiet = true;
                    }
                }
                Target::Correlation(position) => {
                    let below = plan_of[position];
                    self.plans[below].parents.push(Link { plan: number, base });
                    unsure_base |= !self.plans[below].only_grows();
                    if !rule.generate {
                        self.quiet_plans.insert(below);
                    }
                }
            }
            bases.push(called.first().copied().unwrap_or_default().to_owned());
        }
        let splits_events = rule.group_by.iter().any(|field| {
            (1..resolved.targets.len()).any(|base| resolved.field(field, base) != resolved.field(field, 0))
        });
        let fingerprint = fingerprint(resolved);
        self.plans.push(Plan {
            rule: meta.reference.clone(),
            attack: meta.attack.clone(),
            why: rule_reason(&meta),
            kind: resolved.kind,
            condition: resolved.condition.clone(),
            timespan: rule.timespan.seconds,
            bases,
            group_by: rule.group_by.clone(),
            fields: resolved.fields.clone(),
            parents: Vec::new(),
            splits_events,
            unsure_base,
            fingerprint,
        });
        self.metas.push(meta);
        self.depths.push(depth);
    }

    /// Tells every rule what its hits bring along. A rule that any correlation wants to alert does.
    fn feed(&mut self, compiled: &[Resolved<'_>], plan_of: &HashMap<usize, usize>, numbers: &mut Fields) {
        for (plan, resolved) in compiled.iter().enumerate() {
            for (base, (target, _)) in (0_u16..).zip(&resolved.targets) {
                match target {
                    Target::Rule(index) => {
                        let fields = extract(&self.plans, compiled, &[(plan, usize::from(base))], numbers);
                        self.of_rule(*index).feeds.push(Feed { plan, base, fields });
                        if resolved.rule().generate {
                            self.of_rule(*index).quiet = false;
                        }
                    }
                    Target::Correlation(position) => {
                        if resolved.rule().generate {
                            self.quiet_plans.remove(&plan_of[position]);
                        }
                    }
                }
            }
        }
    }
}

/// The fields that a hit brings along on its way up through plans: `way` has each plan with the position of the one
/// below it (at first the rule) among its bases. A field that a plan above names may be an alias of one below.
fn extract(plans: &[Plan], compiled: &[Resolved<'_>], way: &[(usize, usize)], numbers: &mut Fields) -> Extract {
    let Some((top, _)) = way.last() else {
        return Extract { group: Vec::new(), values: Vec::new(), onward: Vec::new() };
    };
    let mut number = |name: &String| {
        let name = way.iter().rev().fold(name.as_str(), |name, (plan, base)| compiled[*plan].field(name, *base));
        numbers.number(name)
    };
    let rule = compiled[*top].rule();
    Extract {
        group: rule.group_by.iter().map(&mut number).collect(),
        values: compiled[*top].fields.iter().map(&mut number).collect(),
        onward: plans[*top]
            .parents
            .iter()
            .map(|link| extract(plans, compiled, &[way, &[(link.plan, usize::from(link.base))]].concat(), numbers))
            .collect(),
    }
}

/// By which names what is meant.
struct Names<'a> {
    by_name: HashMap<&'a str, Vec<Target>>,
    parsed: &'a [ParsedCorrelation],
    rules: &'a [&'a RuleMeta],
}

impl<'a> Names<'a> {
    fn of(parsed: &'a [ParsedCorrelation], rules: &'a [&'a RuleMeta]) -> Self {
        let mut by_name: HashMap<&str, Vec<Target>> = HashMap::new();
        let mut add = |name: Option<&'a str>, target: Target| {
            let Some(name) = name else { return };
            let all = by_name.entry(name).or_default();
            if !all.contains(&target) {
                all.push(target);
            }
        };
        for (index, meta) in (0_u32..).zip(rules) {
            for name in [meta.id.as_deref(), meta.name.as_deref(), Some(meta.reference.title.as_str())] {
                add(name, Target::Rule(index));
            }
        }
        for (position, at) in parsed.iter().enumerate() {
            for name in [at.rule.id.as_deref(), at.rule.name.as_deref(), Some(at.rule.title.as_str())] {
                add(name, Target::Correlation(position));
            }
        }
        Self { by_name, parsed, rules }
    }

    fn file(&self, target: Target) -> &str {
        match target {
            Target::Rule(index) => &self.rules[index as usize].file,
            Target::Correlation(position) => &self.parsed[position].file,
        }
    }

    /// What a correlation calls so: of several the one in its own file, then in its own folder.
    fn find(&self, name: &str, from: &str) -> Result<Target, Fault> {
        let Some(all) = self.by_name.get(name) else {
            return Err(Fault("rules", format!("refers to \"{name}\", which is no rule's id, name or title")));
        };
        if let [only] = all.as_slice() {
            return Ok(*only);
        }
        let near = |is_near: &dyn Fn(&str) -> bool| {
            all.iter().copied().filter(|target| is_near(self.file(*target))).collect::<Vec<_>>()
        };
        for close in [near(&|file| file == from), near(&|file| folder(file) == folder(from))] {
            match close.as_slice() {
                [] => {}
                [only] => return Ok(*only),
                _ => break,
            }
        }
        let files: Vec<_> = all.iter().map(|target| self.file(*target)).collect();
        Err(Fault("rules", format!("refers to \"{name}\", which several rules are called: {}", files.join(", "))))
    }
}

fn folder(file: &str) -> &str {
    file.rfind(['/', '\\']).map_or("", |at| &file[..at])
}

fn resolve<'a>(parsed: &'a ParsedCorrelation, position: usize, names: &Names<'a>) -> Result<Resolved<'a>, Fault> {
    let rule = &parsed.rule;
    if rule.rules.is_empty() {
        return Err(Fault("rules", "refers to no rule".into()));
    }
    if rule.rules.len() > MAX_BASES {
        return Err(Fault("rules", format!("refers to more than {MAX_BASES} rules")));
    }
    if rule.window != WindowMode::Sliding {
        let reason = format!("windows of kind \"{}\" are not evaluated; the timespan slides", rule.window.as_str());
        return Err(Fault("window", reason));
    }
    if !(1..=MAX_TIMESPAN).contains(&rule.timespan.seconds) {
        return Err(Fault("timespan", format!("a timespan lasts from a second to {} days", MAX_TIMESPAN / 86_400)));
    }
    if rule.group_by.len() > MAX_FIELDS {
        return Err(Fault("group-by", format!("more than {MAX_FIELDS} fields")));
    }
    let mut targets: Vec<(Target, Vec<&str>)> = Vec::new();
    for name in &rule.rules {
        let target = names.find(name, &parsed.file)?;
        if target == Target::Correlation(position) {
            return Err(Fault("rules", "refers to itself".into()));
        }
        if targets.iter().all(|(known, _)| *known != target) {
            let also: [Option<&str>; 3] = match target {
                Target::Rule(index) => {
                    let meta = names.rules[index as usize];
                    [Some(meta.reference.title.as_str()), meta.id.as_deref(), meta.name.as_deref()]
                }
                Target::Correlation(at) => {
                    let other = &names.parsed[at].rule;
                    [Some(other.title.as_str()), other.id.as_deref(), other.name.as_deref()]
                }
            };
            targets.push((target, also.into_iter().flatten().collect()));
        }
    }
    for alias in &rule.aliases {
        if let Some(unknown) = alias.mapping.keys().find(|key| targets.iter().all(|(_, c)| !c.contains(&key.as_str())))
        {
            return Err(Fault("aliases", format!("names \"{unknown}\", which is not among its rules")));
        }
    }
    let (kind, condition, fields) = counted(rule, &targets)?;
    Ok(Resolved { parsed, targets, kind, condition, fields })
}

fn counted(rule: &CorrelationRule, targets: &[(Target, Vec<&str>)]) -> Result<(Kind, Condition, Vec<String>), Fault> {
    use CorrelationType as Type;
    let (predicates, field, percentile) = match &rule.condition {
        CorrelationCondition::Extended(expr) => {
            let kind = match rule.correlation_type {
                Type::Temporal => Kind::Temporal,
                Type::TemporalOrdered => Kind::TemporalOrdered,
                _ => return Err(Fault("condition", "an expression is for temporal correlations alone".into())),
            };
            let mut references = 0;
            return Ok((kind, Condition::Expression(expression(expr, targets, &mut references)?), Vec::new()));
        }
        CorrelationCondition::Threshold { predicates, field, percentile } => (predicates, field, percentile),
    };
    let threshold = Condition::Threshold(predicates.iter().map(|(op, than)| (operator(*op), *than)).collect());
    let fields = || match field.as_deref() {
        None | Some([]) => Err(Fault("condition", "says no field whose values are counted".into())),
        Some(fields) if fields.len() > MAX_FIELDS => Err(Fault("field", format!("more than {MAX_FIELDS} fields"))),
        Some(fields) => Ok(fields.to_vec()),
    };
    let one_field = || {
        let fields = fields()?;
        if fields.len() == 1 { Ok(fields) } else { Err(Fault("field", "computes with one field, not several".into())) }
    };
    Ok(match rule.correlation_type {
        Type::EventCount => (Kind::EventCount, threshold, Vec::new()),
        Type::ValueCount => (Kind::ValueCount, threshold, fields()?),
        Type::Temporal | Type::TemporalOrdered => {
            let kind = if rule.correlation_type == Type::Temporal { Kind::Temporal } else { Kind::TemporalOrdered };
            // The parser says so when the rule has no condition: all rules are meant.
            let plain = matches!(predicates.as_slice(), [(ConditionOperator::Gte, 1)]);
            (kind, if plain { Condition::All } else { threshold }, Vec::new())
        }
        Type::ValueSum => (Kind::ValueSum, threshold, one_field()?),
        Type::ValueAvg => (Kind::ValueAvg, threshold, one_field()?),
        Type::ValueMedian => (Kind::ValuePercentile(50), threshold, one_field()?),
        Type::ValuePercentile => {
            let rank = u8::try_from(percentile.unwrap_or(50)).ok().filter(|rank| *rank <= 100);
            let rank = rank.ok_or_else(|| Fault("percentile", "a percentile is a number from 0 to 100".into()))?;
            (Kind::ValuePercentile(rank), threshold, one_field()?)
        }
    })
}

fn operator(op: ConditionOperator) -> Op {
    match op {
        ConditionOperator::Lt => Op::Lt,
        ConditionOperator::Lte => Op::Lte,
        ConditionOperator::Gt => Op::Gt,
        ConditionOperator::Gte => Op::Gte,
        ConditionOperator::Eq => Op::Eq,
        ConditionOperator::Neq => Op::Neq,
    }
}

fn expression(
    expr: &ConditionExpr,
    targets: &[(Target, Vec<&str>)],
    references: &mut usize,
) -> Result<Expression, Fault> {
    *references += 1;
    if *references > MAX_REFERENCES {
        return Err(Fault("condition", format!("refers to more than {MAX_REFERENCES} rules")));
    }
    let mut several = |parts: &[ConditionExpr]| {
        parts.iter().map(|part| expression(part, targets, references)).collect::<Result<Vec<_>, _>>()
    };
    let bases = || (0_u16..).zip(targets);
    Ok(match expr {
        ConditionExpr::And(parts) => Expression::And(several(parts)?),
        ConditionExpr::Or(parts) => Expression::Or(several(parts)?),
        ConditionExpr::Not(inner) => Expression::Not(Box::new(expression(inner, targets, references)?)),
        ConditionExpr::Identifier(name) => {
            let base = bases().find(|(_, (_, called))| called.contains(&name.as_str())).map(|(base, _)| base);
            let unknown = || Fault("condition", format!("names \"{name}\", which is not among its rules"));
            Expression::Base(base.ok_or_else(unknown)?)
        }
        ConditionExpr::Selector { quantifier, pattern } => {
            let chosen: Vec<u16> = bases()
                .filter(|(_, (_, called))| called.iter().any(|c| pattern.matches_detection_name(c)))
                .map(|(base, _)| base)
                .collect();
            *references += chosen.len();
            let least = match quantifier {
                Quantifier::Any => 1,
                Quantifier::All => chosen.len(),
                Quantifier::Count(least) => usize::try_from(*least).unwrap_or(usize::MAX),
            };
            Expression::AtLeast(least, chosen)
        }
    })
}

/// What alerts and lists need to know of it. Its logs are those of the rules that it refers to.
fn meta_of(
    resolved: &Resolved<'_>,
    rules: &[&RuleMeta],
    done: &Correlations,
    plan_of: &HashMap<usize, usize>,
) -> RuleMeta {
    let (rule, file) = (resolved.rule(), &resolved.parsed.file);
    let bases: Vec<&RuleMeta> = resolved
        .targets
        .iter()
        .map(|(target, _)| match target {
            Target::Rule(index) => rules[*index as usize],
            Target::Correlation(position) => &done.metas[plan_of[position]],
        })
        .collect();
    let mut logs: Vec<_> = bases.iter().flat_map(|base| base.logs.iter().cloned()).collect();
    logs.sort();
    logs.dedup();
    let id = rule.id.clone().unwrap_or_else(|| hash::derived_id("rule-", &[file_stem(file), &rule.title]));
    let minutes = rule.timespan.seconds.max(3600).div_ceil(60);
    RuleMeta {
        reference: RuleRef {
            id,
            title: rule.title.clone(),
            level: meta::level(rule.level),
            author: rule.author.clone(),
        },
        id: rule.id.clone(),
        name: rule.name.clone(),
        attack: Attack::from_tags(rule.tags.iter().map(String::as_str)),
        window_minutes: u32::try_from(minutes).unwrap_or(u32::MAX),
        status: rule.status.map(|s| format!("{s:?}").to_ascii_lowercase()),
        description: rule.description.as_deref().map(|d| d.trim().to_owned()),
        false_positives: rule.falsepositives.clone(),
        references: rule.references.clone(),
        log_source: bases.first().map(|base| base.log_source.clone()).unwrap_or_default(),
        evaluated: bases.iter().any(|base| base.evaluated),
        logs,
        logs_stated: false,
        file: file.clone(),
        line: locate::title_line(&resolved.parsed.text, resolved.parsed.line, &rule.title),
        text_hash: meta::text_hash(&resolved.parsed.text),
    }
}

/// Changes with everything that a stored hit depends on.
fn fingerprint(resolved: &Resolved<'_>) -> u64 {
    let rule = resolved.rule();
    let groups = (0..resolved.targets.len()).map(|base| {
        let fields: Vec<&str> = rule.group_by.iter().map(|field| resolved.field(field, base)).collect();
        (&resolved.targets[base].1, fields)
    });
    let groups: Vec<_> = groups.collect();
    hash::string_hash(&format!("{:?} {} {:?} {groups:?}", resolved.kind, rule.timespan.seconds, resolved.fields))
}
