//! What alerts and lists need to know of a rule beside its logic.

use rsigma_parser::{LogSource, SigmaRule};
use sentinel_model::{Attack, Level, RuleRef, alert::DEFAULT_WINDOW_MINUTES, hash};

use super::logs::{self, Log};

/// Widest window a rule may ask for, in minutes: one day.
const MAX_WINDOW_MINUTES: u64 = 24 * 60;
/// The custom attribute that sets a rule's window. Sigma has a timespan for correlations alone.
const WINDOW_ATTRIBUTE: &str = "cloudsentinel.window_minutes";

/// What is known of a loaded rule.
#[derive(Debug, Clone)]
pub struct RuleMeta {
    /// The rule as alerts name it. Of several rules with one id, the later ones are `ID@FILE`, so that their
    /// alerts stay apart; a rule without an id gets one derived from its file's name and title.
    pub reference: RuleRef,
    /// `id` as the rule writes it: what filters, correlations and exceptions refer to.
    pub id: Option<String>,
    /// `name`, by which filters and correlations may refer to it too.
    pub name: Option<String>,
    /// ATT&CK labels of its tags.
    pub attack: Attack,
    /// Width of its alerts' windows in minutes: the custom attribute `cloudsentinel.window_minutes`
    /// (1 to 1440), else 60.
    pub window_minutes: u32,
    /// `status`, as Sigma names it.
    pub status: Option<String>,
    /// `description`.
    pub description: Option<String>,
    /// `falsepositives`.
    pub false_positives: Vec<String>,
    /// `references`.
    pub references: Vec<String>,
    /// Log source as `product/service/category`, absent parts left out.
    pub log_source: String,
    /// Whether the log source is CloudTrail's, so that the rule is evaluated.
    pub evaluated: bool,
    /// The logs of CloudTrail that record what the rule looks for: the custom attribute `cloudsentinel.logs`, else
    /// derived from its `eventName` and `eventSource` values. Sorted.
    pub logs: Vec<Log>,
    /// Whether the rule says so itself.
    pub logs_stated: bool,
    /// File it was loaded from; `default:NAME` for our pack.
    pub file: String,
    /// First line of its document in that file, from 1.
    pub line: u32,
    /// Hash of its document's text, blank space around it left out: tells a changed rule from the same one.
    pub text_hash: u64,
}

/// A custom attribute that says something impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct BadAttribute {
    /// The field at fault.
    pub(crate) field: &'static str,
    reason: String,
}

impl BadAttribute {
    fn window() -> Self {
        let reason = format!("{WINDOW_ATTRIBUTE} must be a whole number of minutes from 1 to {MAX_WINDOW_MINUTES}");
        Self { field: WINDOW_ATTRIBUTE, reason }
    }
}

impl RuleMeta {
    /// Reads a parsed rule's.
    pub(crate) fn of(rule: SigmaRule, file: &str, line: u32, text: &str) -> Result<Self, BadAttribute> {
        let stem = file_stem(file);
        let id = rule.id.clone().unwrap_or_else(|| hash::derived_id("rule-", &[stem, &rule.title]));
        let stated = stated_logs(&rule)?;
        Ok(Self {
            window_minutes: window_minutes(&rule)?,
            reference: RuleRef { id, title: rule.title, level: level(rule.level), author: rule.author },
            id: rule.id,
            name: rule.name,
            attack: Attack::from_tags(rule.tags.iter().map(String::as_str)),
            status: rule.status.map(|s| format!("{s:?}").to_ascii_lowercase()),
            description: rule.description.as_deref().map(|d| d.trim().to_owned()),
            false_positives: rule.falsepositives,
            references: rule.references,
            log_source: describe(&rule.logsource),
            evaluated: is_cloudtrail(&rule.logsource),
            logs_stated: stated.is_some(),
            logs: stated.unwrap_or_else(|| logs::derived(&rule.detection)),
            file: file.to_owned(),
            line,
            text_hash: text_hash(text),
        })
    }
}

/// Hash of a document's text, blank space around it left out.
pub(super) fn text_hash(text: &str) -> u64 {
    hash::hash_64(text.trim().as_bytes())
}

impl RuleMeta {
    /// What others may call the rule: its id in alerts, its id as written, its name, its title.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        let RuleRef { id, title, .. } = &self.reference;
        [Some(id.as_str()), self.id.as_deref(), self.name.as_deref(), Some(title.as_str())].into_iter().flatten()
    }
}

/// The file's name without folder and extension.
pub(crate) fn file_stem(file: &str) -> &str {
    let name = file.rsplit(['/', '\\', ':']).next().unwrap_or(file);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

pub(super) fn level(level: Option<rsigma_parser::Level>) -> Level {
    use rsigma_parser::Level as Sigma;
    match level {
        Some(Sigma::Informational) => Level::Informational,
        Some(Sigma::Low) => Level::Low,
        None | Some(Sigma::Medium) => Level::Medium,
        Some(Sigma::High) => Level::High,
        Some(Sigma::Critical) => Level::Critical,
    }
}

fn window_minutes(rule: &SigmaRule) -> Result<u32, BadAttribute> {
    let Some(value) = rule.custom_attributes.get(WINDOW_ATTRIBUTE) else { return Ok(DEFAULT_WINDOW_MINUTES) };
    let minutes = value.as_u64().or_else(|| value.as_str()?.parse().ok()).ok_or_else(BadAttribute::window)?;
    if !(1..=MAX_WINDOW_MINUTES).contains(&minutes) {
        return Err(BadAttribute::window());
    }
    u32::try_from(minutes).map_err(|_| BadAttribute::window())
}

/// Whether a rule says itself which logs it needs.
pub(super) fn states_logs(rule: &SigmaRule) -> bool {
    rule.custom_attributes.contains_key(logs::LOGS_ATTRIBUTE)
}

fn stated_logs(rule: &SigmaRule) -> Result<Option<Vec<Log>>, BadAttribute> {
    let Some(value) = rule.custom_attributes.get(logs::LOGS_ATTRIBUTE) else { return Ok(None) };
    let texts = match value.as_sequence() {
        Some(items) => items.iter().map(|item| item.as_str()).collect(),
        None => vec![value.as_str()],
    };
    logs::stated(texts).map(Some).map_err(|reason| BadAttribute { field: logs::LOGS_ATTRIBUTE, reason })
}

fn is(value: Option<&str>, wanted: &str) -> bool {
    value.is_none_or(|v| v.eq_ignore_ascii_case(wanted))
}

/// Whether a log source is CloudTrail's: product `aws` and service `cloudtrail`, either of them left out,
/// and no category (CloudTrail has none).
fn is_cloudtrail(source: &LogSource) -> bool {
    (source.product.is_some() || source.service.is_some())
        && is(source.product.as_deref(), "aws")
        && is(source.service.as_deref(), "cloudtrail")
        && source.category.is_none()
}

fn describe(source: &LogSource) -> String {
    let parts = [source.product.as_deref(), source.service.as_deref(), source.category.as_deref()];
    parts.into_iter().flatten().collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(extra: &str) -> Result<RuleMeta, BadAttribute> {
        let yaml = format!("title: T\ndetection:\n  s:\n    a: 1\n  condition: s\n{extra}");
        let collection = rsigma_parser::parse_sigma_yaml(&yaml).unwrap();
        RuleMeta::of(collection.rules[0].clone(), "rules/some/file.yml", 1, &yaml)
    }

    #[test]
    fn a_rule_without_level_and_id_counts_as_medium_under_a_derived_id() {
        let m = meta("logsource:\n  product: aws\n").unwrap();
        assert_eq!(m.reference.level, Level::Medium);
        assert!(m.reference.id.starts_with("rule-"), "{}", m.reference.id);
        assert_eq!(m.window_minutes, 60);
    }

    #[test]
    fn windows_come_from_the_custom_attribute() {
        let source = "logsource:\n  product: aws\n";
        assert_eq!(meta(&format!("{source}cloudsentinel.window_minutes: 15\n")).unwrap().window_minutes, 15);
        let nested = format!("{source}custom_attributes:\n  cloudsentinel.window_minutes: 1440\n");
        assert_eq!(meta(&nested).unwrap().window_minutes, 1440);
        for bad in ["0", "1441", "-5", "soon", "[1]"] {
            assert!(meta(&format!("{source}cloudsentinel.window_minutes: {bad}\n")).is_err(), "{bad}");
        }
    }

    #[test]
    fn logs_come_from_the_custom_attribute() {
        let source = "logsource:\n  product: aws\n";
        let m = meta(&format!("{source}cloudsentinel.logs: [data:s3, management]\n")).unwrap();
        assert_eq!((m.logs, m.logs_stated), (vec![Log::Management, Log::Data("s3".into())], true));
        assert!(!meta(source).unwrap().logs_stated);
        for bad in ["reads", "[]", "5", "[management, 7]"] {
            let error = meta(&format!("{source}cloudsentinel.logs: {bad}\n")).unwrap_err();
            assert_eq!(error.field, "cloudsentinel.logs", "{bad}");
        }
    }

    #[test]
    fn only_cloudtrail_log_sources_are_evaluated() {
        for (source, evaluated) in [
            ("{product: aws, service: cloudtrail}", true),
            ("{product: AWS}", true),
            ("{service: cloudtrail}", true),
            ("{product: aws, service: guardduty}", false),
            ("{product: azure}", false),
            ("{category: proxy}", false),
            ("{product: aws, category: dns}", false),
        ] {
            assert_eq!(meta(&format!("logsource: {source}\n")).unwrap().evaluated, evaluated, "{source}");
        }
    }

    #[test]
    fn stems_of_files() {
        for (file, stem) in [("default:aws_x.yml", "aws_x"), ("/a/b.c/d.e.yaml", "d.e"), ("plain", "plain")] {
            assert_eq!(file_stem(file), stem);
        }
    }
}
