//! What the respond function is told by its environment.

use sentinel_aws::{connect::ScheduleNames, iam::MemberRole};
use sentinel_durable::Stage;
use sentinel_lambda::{Deployed, Reader, own_roles};
use sentinel_model::response::Mode;
use sentinel_respond::{Config as Settings, Protected};

/// Settings of the respond function.
pub(crate) struct Config {
    pub(crate) deployed: Deployed,
    /// The account it runs in.
    pub(crate) account: String,
    /// ARN of the role that IAM is called with in that account; the function's own where there is none.
    pub(crate) own_role: Option<String>,
    /// The role to assume in other accounts.
    pub(crate) member: Option<MemberRole>,
    pub(crate) settings: Settings,
    pub(crate) topic: Option<String>,
    pub(crate) webhook: Option<Webhook>,
    pub(crate) schedules: ScheduleNames,
}

/// Where to post notices.
pub(crate) struct Webhook {
    pub(crate) url: String,
    /// ARN of the secret that signs them.
    pub(crate) secret: Option<String>,
}

/// The modes by name.
const MODES: [(&str, Mode); 3] =
    [("observe", Mode::Observe), ("approve", Mode::Approve), ("automatic", Mode::Automatic)];

impl Config {
    pub(crate) fn read(e: &Reader<'_>) -> Self {
        let mode = e.one_of("SENTINEL_MODE", &MODES, Mode::Observe);
        let own_role = e.optional_arn("SENTINEL_OWN_ROLE");
        if mode != Mode::Observe && own_role.is_none() {
            e.mistake(format!("SENTINEL_MODE {} needs SENTINEL_OWN_ROLE", mode.as_str()));
        }
        let external_id = e.optional("SENTINEL_MEMBER_EXTERNAL_ID");
        let webhook_secret = e.optional_arn("SENTINEL_WEBHOOK_SECRET_ARN");
        let defaults = Settings::default();
        Self {
            deployed: Deployed::read(e, &[Stage::Respond]),
            account: e.account("SENTINEL_ACCOUNT"),
            own_role,
            member: e.optional("SENTINEL_MEMBER_ROLE").map(|name| MemberRole { name, external_id }),
            settings: Settings {
                mode,
                protected: Protected {
                    principals: e.list("SENTINEL_PROTECTED"),
                    break_glass: e.list("SENTINEL_BREAK_GLASS"),
                    ..Protected::default()
                },
                own_roles: own_roles(e),
                hourly_cap: e.number("SENTINEL_HOURLY_CAP", defaults.hourly_cap),
                ..defaults
            },
            topic: e.optional_arn("SENTINEL_TOPIC_ARN"),
            webhook: e.optional_url("SENTINEL_WEBHOOK_URL").map(|url| Webhook { url, secret: webhook_secret }),
            schedules: ScheduleNames {
                group: e.text("SENTINEL_SCHEDULE_GROUP"),
                role_arn: e.arn("SENTINEL_SCHEDULE_ROLE_ARN"),
                queue_arns: vec![(Stage::Respond, e.arn("SENTINEL_RESPOND_QUEUE_ARN"))],
                dead_arn: e.optional_arn("SENTINEL_RESPOND_DEAD_QUEUE_ARN"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use sentinel_lambda::Env;

    use super::*;

    const OWN_ROLE: &str = "arn:aws:iam::123456789012:role/contain";
    const SHARED: [(&str, &str); 7] = [
        ("SENTINEL_TABLE", "sentinel"),
        ("SENTINEL_DATA_BUCKET", "data"),
        ("SENTINEL_RESPOND_QUEUE_URL", "https://sqs.example.com/1/respond"),
        ("SENTINEL_ACCOUNT", "123456789012"),
        ("SENTINEL_SCHEDULE_GROUP", "sentinel"),
        ("SENTINEL_SCHEDULE_ROLE_ARN", "arn:aws:iam::123456789012:role/schedules"),
        ("SENTINEL_RESPOND_QUEUE_ARN", "arn:aws:sqs:us-east-1:123456789012:respond"),
    ];

    fn with(more: &[(&str, &str)]) -> Result<Config, sentinel_lambda::EnvError> {
        Env::of(&[SHARED.as_slice(), more].concat()).read(Config::read)
    }

    #[test]
    fn it_observes_unless_told_otherwise() {
        let plain = with(&[("SENTINEL_WEBHOOK_URL", ""), ("SENTINEL_PROTECTED", "")]).unwrap();
        assert_eq!(plain.settings, Settings::default());
        assert!(plain.member.is_none() && plain.topic.is_none() && plain.webhook.is_none());
    }

    #[test]
    fn acting_needs_to_know_its_own_role() {
        let refused = with(&[("SENTINEL_MODE", "automatic")]).err().unwrap();
        assert_eq!(refused.0, ["SENTINEL_MODE automatic needs SENTINEL_OWN_ROLE"]);
        let acts = with(&[
            ("SENTINEL_MODE", "automatic"),
            ("SENTINEL_OWN_ROLE", OWN_ROLE),
            ("SENTINEL_PROTECTED", "arn:aws:iam::123456789012:user/ci, arn:aws:iam::123456789012:user/build"),
            ("SENTINEL_HOURLY_CAP", "3"),
            ("SENTINEL_MEMBER_ROLE", "CloudSentinelMember"),
            ("SENTINEL_WEBHOOK_URL", "https://hooks.example.com/x"),
            ("SENTINEL_WEBHOOK_SECRET_ARN", "arn:aws:secretsmanager:us-east-1:123456789012:secret:hook"),
        ])
        .unwrap();
        assert_eq!((acts.settings.mode, acts.settings.hourly_cap), (Mode::Automatic, 3));
        assert_eq!((acts.own_role.as_deref(), acts.settings.protected.principals.len()), (Some(OWN_ROLE), 2));
        assert_eq!(acts.member, Some(MemberRole::named("CloudSentinelMember")));
        assert!(acts.webhook.is_some_and(|w| w.secret.is_some()));
    }

    #[test]
    fn a_mode_that_does_not_exist_is_a_mistake() {
        let refused = with(&[("SENTINEL_MODE", "Automatic")]).err().unwrap();
        assert!(refused.to_string().contains("observe, approve, automatic"), "{refused}");
    }
}
