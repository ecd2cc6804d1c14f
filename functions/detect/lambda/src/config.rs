//! What the detect function is told by its environment.

use sentinel_durable::Stage;
use sentinel_lambda::{Deployed, Reader, own_roles};
use sentinel_model::OwnRoles;

/// Settings of the detect function.
pub(crate) struct Config {
    pub(crate) deployed: Deployed,
    /// Where operators' rules are.
    pub(crate) rules: Option<RulesAt>,
    /// Whether our own rules are in force.
    pub(crate) default_rules: bool,
    /// Whether models score events.
    pub(crate) models: bool,
    /// The roles that respond acts with.
    pub(crate) own_roles: OwnRoles,
}

/// A prefix of a bucket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RulesAt {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
}

impl Config {
    pub(crate) fn read(e: &Reader<'_>) -> Self {
        let bucket = e.optional("SENTINEL_RULES_BUCKET");
        let prefix = e.text_or("SENTINEL_RULES_PREFIX", "rules/");
        let default_rules = e.flag("SENTINEL_DEFAULT_RULES", true);
        let models = e.flag("SENTINEL_MODELS", true);
        if bucket.is_none() && !default_rules && !models {
            e.mistake("SENTINEL_DEFAULT_RULES and SENTINEL_MODELS are off and there is no SENTINEL_RULES_BUCKET: nothing would be detected");
        }
        Self {
            deployed: Deployed::read(e, &[Stage::Detect, Stage::Enrich]),
            rules: bucket.map(|bucket| RulesAt { bucket, prefix }),
            default_rules,
            models,
            own_roles: own_roles(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use sentinel_lambda::Env;

    use super::*;

    const SHARED: [(&str, &str); 4] = [
        ("SENTINEL_TABLE", "sentinel"),
        ("SENTINEL_DATA_BUCKET", "data"),
        ("SENTINEL_DETECT_QUEUE_URL", "https://sqs.example.com/1/detect"),
        ("SENTINEL_ENRICH_QUEUE_URL", "https://sqs.example.com/1/enrich"),
    ];

    fn with(more: &[(&str, &str)]) -> Result<Config, sentinel_lambda::EnvError> {
        Env::of(&[SHARED.as_slice(), more].concat()).read(Config::read)
    }

    #[test]
    fn our_rules_and_models_are_on_unless_told_otherwise() {
        let plain = with(&[]).unwrap();
        assert!(plain.default_rules && plain.models && plain.rules.is_none() && plain.own_roles.is_empty());
        let full = with(&[
            ("SENTINEL_RULES_BUCKET", "rules"),
            ("SENTINEL_DEFAULT_RULES", "false"),
            ("SENTINEL_MODELS", "false"),
            ("SENTINEL_OWN_ROLE", "arn:aws:iam::123456789012:role/respond"),
        ])
        .unwrap();
        assert_eq!(full.rules, Some(RulesAt { bucket: "rules".into(), prefix: "rules/".into() }));
        assert!(!full.default_rules && !full.models && !full.own_roles.is_empty());
    }

    #[test]
    fn a_function_that_would_detect_nothing_is_refused() {
        let refused = with(&[("SENTINEL_DEFAULT_RULES", "false"), ("SENTINEL_MODELS", "false")]).err().unwrap();
        assert!(refused.to_string().contains("nothing would be detected"), "{refused}");
    }
}
