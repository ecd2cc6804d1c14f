//! What the backtest function is told by its environment.

use sentinel_lambda::{Deployed, Reader};

/// Settings of the backtest function.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) deployed: Deployed,
    /// Where operators' rules are: a bucket, and a prefix in it.
    pub(crate) rules: Option<(String, String)>,
    /// Whether our own rules are in force.
    pub(crate) default_rules: bool,
}

impl Config {
    pub(crate) fn read(e: &Reader<'_>) -> Self {
        let prefix = e.text_or("SENTINEL_RULES_PREFIX", "rules/");
        Self {
            deployed: Deployed::read(e, &[]),
            rules: e.optional("SENTINEL_RULES_BUCKET").map(|bucket| (bucket, prefix)),
            default_rules: e.flag("SENTINEL_DEFAULT_RULES", true),
        }
    }
}

#[cfg(test)]
mod tests {
    use sentinel_lambda::Env;

    use super::*;

    const SHARED: [(&str, &str); 2] = [("SENTINEL_TABLE", "sentinel"), ("SENTINEL_DATA_BUCKET", "data")];

    fn with(more: &[(&str, &str)]) -> Config {
        Env::of(&[SHARED.as_slice(), more].concat()).read(Config::read).unwrap()
    }

    #[test]
    fn the_rules_in_force_are_those_that_detect_is_told_of() {
        let plain = with(&[]);
        assert!(plain.default_rules && plain.rules.is_none(), "{plain:?}");
        let bucket = ("SENTINEL_RULES_BUCKET", "rules");
        assert_eq!(with(&[bucket]).rules, Some(("rules".into(), "rules/".into())));
        let own = with(&[bucket, ("SENTINEL_RULES_PREFIX", "own/"), ("SENTINEL_DEFAULT_RULES", "false")]);
        assert_eq!((own.rules, own.default_rules), (Some(("rules".into(), "own/".into())), false));
    }

    #[test]
    fn every_mistake_is_named() {
        let wrong = Env::of(&[("SENTINEL_DEFAULT_RULES", "some")]).read(Config::read).unwrap_err();
        assert_eq!(
            wrong.0,
            [
                "SENTINEL_TABLE is missing",
                "SENTINEL_DATA_BUCKET is missing",
                "SENTINEL_DEFAULT_RULES is not one of true, false: \"some\""
            ]
        );
    }
}
