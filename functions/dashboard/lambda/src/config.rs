//! What the dashboard function is told by its environment.

use sentinel_durable::Stage;
use sentinel_lambda::{Deployed, Reader, own_roles};
use sentinel_model::response::Mode;
use sentinel_respond::{Config as Settings, Protected};

/// Settings of the dashboard function.
pub(crate) struct Config {
    pub(crate) deployed: Deployed,
    /// How the respond function is set: decisions are checked against the same guardrails here.
    pub(crate) settings: Settings,
    /// ARN of the secret with the keys that sign tokens.
    pub(crate) keys_secret: String,
    /// ARN of the secret with the first administrator's password.
    pub(crate) admin_secret: String,
}

/// The modes by name.
const MODES: [(&str, Mode); 3] =
    [("observe", Mode::Observe), ("approve", Mode::Approve), ("automatic", Mode::Automatic)];

impl Config {
    pub(crate) fn read(e: &Reader<'_>) -> Self {
        let defaults = Settings::default();
        Self {
            deployed: Deployed::read(e, &Stage::ALL),
            settings: Settings {
                mode: e.one_of("SENTINEL_MODE", &MODES, Mode::Observe),
                protected: Protected {
                    principals: e.list("SENTINEL_PROTECTED"),
                    break_glass: e.list("SENTINEL_BREAK_GLASS"),
                    ..Protected::default()
                },
                own_roles: own_roles(e),
                hourly_cap: e.number("SENTINEL_HOURLY_CAP", defaults.hourly_cap),
                ..defaults
            },
            keys_secret: e.arn("SENTINEL_KEYS_SECRET_ARN"),
            admin_secret: e.arn("SENTINEL_ADMIN_SECRET_ARN"),
        }
    }
}

#[cfg(test)]
mod tests {
    use sentinel_lambda::Env;

    use super::*;

    #[test]
    fn it_needs_every_queue_and_both_secrets() {
        let missed = Env::of(&[("SENTINEL_MODE", "loud")]).read(Config::read).err().unwrap();
        let told = missed.to_string();
        for part in [
            "SENTINEL_DETECT_QUEUE_URL is missing",
            "SENTINEL_ENRICH_QUEUE_URL is missing",
            "SENTINEL_RESPOND_QUEUE_URL is missing",
            "SENTINEL_KEYS_SECRET_ARN is missing",
            "SENTINEL_ADMIN_SECRET_ARN is missing",
            "SENTINEL_MODE is not one of",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(missed.0.len(), 8, "{told}");
    }
}
