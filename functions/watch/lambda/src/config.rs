//! What the watch function is told by its environment.

use sentinel_durable::Stage;
use sentinel_lambda::{Deployed, Reader};
use sentinel_watch::{Poll, Settings};

/// Minutes of quiet that no source has to explain, unless told otherwise.
const SILENCE_MINUTES: u32 = 60;

/// Days that events can be searched in OpenSearch, unless told otherwise.
const SEARCH_DAYS: u32 = 30;

/// Settings of the watch function.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) deployed: Deployed,
    pub(crate) settings: Settings,
    pub(crate) search_days: u32,
    /// The topic by which operators are told.
    pub(crate) topic: String,
}

impl Config {
    pub(crate) fn read(e: &Reader<'_>) -> Self {
        let regions = e.list("SENTINEL_POLL_REGIONS");
        // The account is that of the polls: without any it isn't needed.
        let account = if regions.is_empty() { String::new() } else { e.account("SENTINEL_ACCOUNT") };
        let polls = regions.into_iter().map(|region| Poll { account: account.clone(), region }).collect();
        let silence_minutes = e.number("SENTINEL_SILENCE_MINUTES", SILENCE_MINUTES);
        if silence_minutes == 0 {
            e.mistake("SENTINEL_SILENCE_MINUTES is 0: every source would be silent");
        }
        let search_days = e.number("SENTINEL_SEARCH_DAYS", SEARCH_DAYS);
        if search_days == 0 {
            e.mistake("SENTINEL_SEARCH_DAYS is 0: nothing could be searched");
        }
        let deployed = Deployed::read(e, &Stage::ALL);
        let topic = e.arn("SENTINEL_ALARM_TOPIC_ARN");
        Self { deployed, settings: Settings { silence_minutes, polls }, search_days, topic }
    }
}

#[cfg(test)]
mod tests {
    use sentinel_lambda::{Env, EnvError};

    use super::*;

    const SHARED: [(&str, &str); 6] = [
        ("SENTINEL_ALARM_TOPIC_ARN", "arn:aws:sns:us-east-1:123456789012:alarms"),
        ("SENTINEL_TABLE", "sentinel"),
        ("SENTINEL_DATA_BUCKET", "data"),
        ("SENTINEL_DETECT_QUEUE_URL", "https://sqs.example.com/1/detect"),
        ("SENTINEL_ENRICH_QUEUE_URL", "https://sqs.example.com/1/enrich"),
        ("SENTINEL_RESPOND_QUEUE_URL", "https://sqs.example.com/1/respond"),
    ];

    fn read(more: &[(&str, &str)]) -> Result<Config, EnvError> {
        Env::of(&[SHARED.as_slice(), more].concat()).read(Config::read)
    }

    fn with(more: &[(&str, &str)]) -> Result<Settings, EnvError> {
        read(more).map(|config| config.settings)
    }

    #[test]
    fn events_can_be_searched_for_a_month_or_as_long_as_told() {
        assert_eq!(read(&[]).unwrap().search_days, 30);
        assert_eq!(read(&[("SENTINEL_SEARCH_DAYS", "7")]).unwrap().search_days, 7);
        let wrong = read(&[("SENTINEL_SEARCH_DAYS", "0")]).unwrap_err();
        assert_eq!(wrong.0, ["SENTINEL_SEARCH_DAYS is 0: nothing could be searched"]);
    }

    #[test]
    fn polls_are_watched_where_there_are_any() {
        assert_eq!(with(&[]).unwrap(), Settings { silence_minutes: 60, polls: Vec::new() });
        let polls = [
            ("SENTINEL_SILENCE_MINUTES", "90"),
            ("SENTINEL_POLL_REGIONS", "eu-west-1,us-east-1"),
            ("SENTINEL_ACCOUNT", "123456789012"),
        ];
        let poll = |region: &str| Poll { account: "123456789012".into(), region: region.into() };
        assert_eq!(
            with(&polls).unwrap(),
            Settings { silence_minutes: 90, polls: vec![poll("eu-west-1"), poll("us-east-1")] }
        );
    }

    #[test]
    fn every_mistake_is_named() {
        let wrong = with(&[("SENTINEL_POLL_REGIONS", "eu-west-1"), ("SENTINEL_SILENCE_MINUTES", "0")]).unwrap_err();
        assert_eq!(
            wrong.0,
            ["SENTINEL_ACCOUNT is missing", "SENTINEL_SILENCE_MINUTES is 0: every source would be silent"]
        );
    }
}
