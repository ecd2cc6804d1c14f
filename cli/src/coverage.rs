//! What rules cover of MITRE ATT&CK, with the logs one has.
//!
//! In: a rule set and the logs there are. Out: technique by technique the rules that name it, as a table, as JSON, as
//! Markdown (`docs/coverage.md` is this) and as a layer for the ATT&CK Navigator. The version of ATT&CK is the one that
//! the names of techniques come from (`sentinel_enrich::attack::VERSION`); what a rule names beside it is told apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io,
};

use sentinel_detect::{RuleMeta, RuleSet, rules::Log};
use sentinel_enrich::attack;
use sentinel_model::Level;
use serde::Serialize;
use serde_json::{Value, json};

use crate::scan::output::{clean, new_table};

/// Version of the Navigator's layer format:
/// <https://github.com/mitre-attack/attack-navigator/blob/master/layers/spec/v4.5/layerformat.md>.
const LAYER_FORMAT: &str = "4.5";
/// Version of the Navigator that this format came with.
const NAVIGATOR: &str = "5.1.0";
/// Platforms of a cloud account in ATT&CK Enterprise.
const PLATFORMS: [&str; 4] = ["IaaS", "Identity Provider", "Office Suite", "SaaS"];

/// Whether something is seen with the logs there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Seen {
    /// None of the logs it needs is there.
    No,
    /// Some are.
    Partly,
    /// All are.
    Yes,
}

impl Seen {
    fn sign(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Partly => "partly",
            Self::Yes => "yes",
        }
    }
}

/// A rule that names a technique.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct CoveringRule {
    title: String,
    id: String,
    level: Level,
    source: String,
    logs: Vec<Log>,
    seen: Seen,
}

/// A technique that rules name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CoveredTechnique {
    id: String,
    /// `None` when this version of ATT&CK has no such technique.
    name: Option<&'static str>,
    /// Short names, in the order of the matrix.
    tactics: Vec<&'static str>,
    seen: Seen,
    rules: Vec<CoveringRule>,
}

/// What rules cover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Coverage {
    attack_version: &'static str,
    /// The logs there are; empty when all of them count as there.
    sources: Vec<Log>,
    /// Rules that name a technique.
    rules: usize,
    /// In order of their ids.
    techniques: Vec<CoveredTechnique>,
    /// Every log that a rule needs and that is not there.
    missing_logs: BTreeSet<Log>,
}

impl Coverage {
    /// What a set covers with some logs, or with all where none is named.
    pub(crate) fn of(set: &RuleSet, sources: &[Log]) -> Self {
        let mut by_id: BTreeMap<&str, Vec<CoveringRule>> = BTreeMap::new();
        let (mut rules, mut missing_logs) = (0, BTreeSet::new());
        let alone = set.iter().filter(|(index, _)| set.alerts_alone(*index)).map(|(_, meta)| meta);
        for meta in alone.chain(set.correlation_metas()).filter(|meta| meta.evaluated) {
            rules += usize::from(!meta.attack.techniques.is_empty());
            let rule = covering(meta, sources);
            if !sources.is_empty() {
                missing_logs.extend(meta.logs.iter().filter(|log| !is_there(log, sources)).cloned());
            }
            for technique in &meta.attack.techniques {
                by_id.entry(technique).or_default().push(rule.clone());
            }
        }
        let techniques = by_id.into_iter().map(|(id, rules)| technique(id, rules)).collect();
        Self { attack_version: attack::VERSION, sources: sources.to_vec(), rules, techniques, missing_logs }
    }

    /// Prints it for people.
    pub(crate) fn table(&self, out: &mut impl io::Write) -> io::Result<()> {
        let mut table = new_table(["Technique", "Name", "Seen", "Rules"]);
        for technique in &self.techniques {
            let rules: Vec<String> = technique
                .rules
                .iter()
                .map(|rule| match rule.seen {
                    Seen::Yes => format!("{} ({})", clean(&rule.title), rule.level),
                    _ => format!("{} ({}; needs {})", clean(&rule.title), rule.level, joined(&rule.logs)),
                })
                .collect();
            table.add_row([
                clean(&technique.id),
                technique.name.unwrap_or("not in this version").to_owned(),
                technique.seen.sign().to_owned(),
                rules.join("\n"),
            ]);
        }
        writeln!(out, "{table}")?;
        writeln!(out, "{}", self.summary())?;
        if !self.missing_logs.is_empty() {
            writeln!(out, "Logs that rules could use beside these: {}", joined(&self.missing_logs))?;
        }
        Ok(())
    }

    fn summary(&self) -> String {
        let seen = |wanted| self.techniques.iter().filter(|t| t.seen == wanted).count();
        format!(
            "{} rules name {} techniques of ATT&CK v{}: {} seen, {} partly, {} not, with {}",
            self.rules,
            self.techniques.len(),
            self.attack_version,
            seen(Seen::Yes),
            seen(Seen::Partly),
            seen(Seen::No),
            if self.sources.is_empty() { String::from("all logs") } else { joined(&self.sources) },
        )
    }

    /// The page of the documentation.
    pub(crate) fn markdown(&self) -> String {
        let mut page = String::from("# What the rules cover\n\n");
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "Generated by `sentinel rules coverage --format markdown`. {}.\n\n\
             Behind each rule stand its level and the logs it needs; `sentinel rules coverage --sources management,data:s3`\n\
             tells what is left with the logs one has, and `--navigator FILE` writes a layer for the ATT&CK Navigator.\n",
            self.summary()
        );
        for tactic in &attack::TACTICS {
            let of_tactic = self.techniques.iter().filter(|t| t.tactics.contains(&tactic.short_name));
            rows(&mut page, tactic.name, of_tactic);
        }
        let rest = self.techniques.iter().filter(|t| t.tactics.is_empty());
        rows(&mut page, "Of no cloud platform in this version of ATT&CK", rest);
        page
    }

    /// The layer for the ATT&CK Navigator: the score of a technique is how many rules see it.
    pub(crate) fn layer(&self) -> Value {
        let seen = |t: &CoveredTechnique| t.rules.iter().filter(|r| r.seen != Seen::No).count();
        let techniques: Vec<Value> = self
            .techniques
            .iter()
            .filter(|t| t.name.is_some())
            .map(|t| {
                let titles: Vec<&str> = t.rules.iter().map(|r| r.title.as_str()).collect();
                json!({
                    "techniqueID": t.id,
                    "score": seen(t),
                    "comment": titles.join("; "),
                    "enabled": true,
                    "metadata": [{"name": "seen", "value": t.seen.sign()}],
                    "showSubtechniques": true,
                })
            })
            .collect();
        let most = self.techniques.iter().map(seen).max().unwrap_or(0).max(1);
        json!({
            "name": "CloudSentinel",
            "versions": {
                "attack": self.attack_version.split('.').next(),
                "navigator": NAVIGATOR,
                "layer": LAYER_FORMAT,
            },
            "domain": "enterprise-attack",
            "description": self.summary(),
            "filters": {"platforms": PLATFORMS},
            "sorting": 3,
            "hideDisabled": false,
            "techniques": techniques,
            "gradient": {"colors": ["#ffffff", "#8ec843"], "minValue": 0, "maxValue": most},
            "showTacticRowBackground": false,
            "selectTechniquesAcrossTactics": true,
            "selectSubtechniquesWithParent": false,
        })
    }
}

fn is_there(log: &Log, sources: &[Log]) -> bool {
    sources.iter().any(|source| source.provides(log))
}

fn covering(meta: &RuleMeta, sources: &[Log]) -> CoveringRule {
    let there = meta.logs.iter().filter(|log| is_there(log, sources)).count();
    CoveringRule {
        title: meta.reference.title.clone(),
        id: meta.reference.id.clone(),
        level: meta.reference.level,
        source: meta.file.clone(),
        logs: meta.logs.clone(),
        seen: match there {
            _ if sources.is_empty() || there == meta.logs.len() => Seen::Yes,
            0 => Seen::No,
            _ => Seen::Partly,
        },
    }
}

fn technique(id: &str, mut rules: Vec<CoveringRule>) -> CoveredTechnique {
    // The most telling first.
    rules.sort_by(|a, b| (b.level, &a.title, &a.id).cmp(&(a.level, &b.title, &b.id)));
    let known = attack::technique(id);
    let mut tactics = known.map(|t| t.tactics.clone()).unwrap_or_default();
    tactics.sort_by_key(|t| attack::tactic_order(t));
    let seen = rules.iter().map(|r| r.seen).max().unwrap_or(Seen::No);
    CoveredTechnique { id: id.to_owned(), name: known.map(|t| t.name), tactics, seen, rules }
}

fn rows<'a>(page: &mut String, heading: &str, techniques: impl Iterator<Item = &'a CoveredTechnique>) {
    let mut techniques = techniques.peekable();
    if techniques.peek().is_none() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## {heading}\n\n| technique | rules |\n| --- | --- |\n");
    for technique in techniques {
        let rules: Vec<String> = technique
            .rules
            .iter()
            .map(|rule| {
                let title = clean(&rule.title).replace('|', "\\|");
                let missing = if rule.seen == Seen::No { "; not seen" } else { "" };
                format!("{title} ({}; {}{missing})", rule.level, joined(&rule.logs))
            })
            .collect();
        let name = technique.name.unwrap_or_default();
        let _ = writeln!(page, "| {} {name} | {} |", technique.id, rules.join("<br>"));
    }
}

fn joined<'a>(logs: impl IntoIterator<Item = &'a Log>) -> String {
    logs.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> RuleSet {
        let rule = |id: &str, level: &str, tag: &str, logs: &str| {
            format!(
                "title: Rule {id}\nid: {id}\nlevel: {level}\ntags: [attack.{tag}]\nlogsource: {{product: aws, service: cloudtrail}}\n\
                 detection: {{s: {{eventName: X}}, condition: s}}\ncloudsentinel.logs: {logs}\n"
            )
        };
        let text = [
            rule("a", "low", "t1530", "data:s3"),
            rule("b", "high", "t1530", "[management, data:s3]"),
            rule("c", "medium", "t1098.001", "management"),
            rule("d", "medium", "t9999", "insights"),
        ]
        .join("---\n");
        let (set, report) = RuleSet::from_texts(false, [("rules.yml", text.as_str())]);
        assert!(report.refused.is_empty(), "{:?}", report.refused);
        set
    }

    fn said(sources: &[&str]) -> Vec<(String, Seen)> {
        let sources: Vec<Log> = sources.iter().map(|s| s.parse().unwrap()).collect();
        Coverage::of(&set(), &sources).techniques.into_iter().map(|t| (t.id, t.seen)).collect()
    }

    #[test]
    fn techniques_are_seen_as_far_as_logs_go() {
        let of = |list: [(&str, Seen); 3]| list.map(|(id, seen)| (id.to_owned(), seen)).to_vec();
        assert_eq!(said(&[]), of([("T1098.001", Seen::Yes), ("T1530", Seen::Yes), ("T9999", Seen::Yes)]));
        assert_eq!(said(&["management"]), of([("T1098.001", Seen::Yes), ("T1530", Seen::Partly), ("T9999", Seen::No)]));
        assert_eq!(said(&["data:s3"]), of([("T1098.001", Seen::No), ("T1530", Seen::Yes), ("T9999", Seen::No)]));
    }

    #[test]
    fn the_table_and_the_page_name_rules_levels_and_logs() {
        let coverage = Coverage::of(&set(), &[Log::Management]);
        let mut out = Vec::new();
        coverage.table(&mut out).unwrap();
        let table = String::from_utf8(out).unwrap();
        for part in [
            "T1530",
            "Rule b (high; needs management, data:s3)",
            "Rule c (medium)",
            "not in this version",
            "beside these: data:s3, insights",
        ] {
            assert!(table.contains(part), "{part} is not in\n{table}");
        }
        let page = Coverage::of(&set(), &[]).markdown();
        let row = "| T1530 Data from Cloud Storage | Rule b (high; management, data:s3)<br>Rule a (low; data:s3) |";
        assert!(page.contains("## Collection") && page.contains(row), "{page}");
        assert!(page.contains("## Of no cloud platform"), "{page}");
    }

    #[test]
    fn the_layer_is_what_the_navigator_reads() {
        let layer = Coverage::of(&set(), &[Log::Management]).layer();
        assert_eq!(layer["versions"]["layer"], "4.5");
        assert_eq!(layer["versions"]["attack"], attack::VERSION.split('.').next().unwrap());
        assert_eq!(layer["domain"], "enterprise-attack");
        let techniques = layer["techniques"].as_array().unwrap();
        let scores: Vec<_> =
            techniques.iter().map(|t| (t["techniqueID"].as_str().unwrap(), t["score"].as_u64().unwrap())).collect();
        // A technique that the pinned version does not have would not load.
        assert_eq!(scores, [("T1098.001", 1), ("T1530", 1)]);
    }

    #[test]
    fn the_page_in_the_documentation_is_of_these_rules() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/coverage.md");
        let written = std::fs::read_to_string(page).unwrap();
        let now = Coverage::of(&RuleSet::default_pack(), &[]).markdown();
        assert!(
            written == now,
            "docs/coverage.md is stale: cargo run -p sentinel-cli -- rules coverage --format markdown > docs/coverage.md"
        );
    }
}
