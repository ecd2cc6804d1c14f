//! What the ingest function is told by its environment.

use std::collections::BTreeSet;

use sentinel_durable::Stage;
use sentinel_lambda::{Deployed, Reader};

/// Settings of the ingest function.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) deployed: Deployed,
    pub(crate) source: Source,
}

/// Where this function's logs come from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Events of EventBridge, through a queue.
    Bus {
        /// The bus's name.
        bus: String,
        /// The queue that its events come by.
        queue_url: String,
    },
    /// Objects of trails' buckets, told by a queue.
    Objects {
        /// That queue, which a long object's continuation is sent to.
        queue_url: String,
        /// Buckets that only CloudTrail can write.
        trail_buckets: BTreeSet<String>,
    },
    /// The CloudTrail API, by a schedule.
    Poll {
        /// The account asked: the function's own.
        account: String,
        /// The Regions asked.
        regions: Vec<String>,
    },
}

#[derive(Clone, Copy)]
enum Kind {
    Bus,
    Objects,
    Poll,
}

const KINDS: [(&str, Kind); 3] = [("bus", Kind::Bus), ("objects", Kind::Objects), ("poll", Kind::Poll)];

impl Config {
    pub(crate) fn read(e: &Reader<'_>) -> Self {
        let source = match e.required_one_of("SENTINEL_SOURCE", &KINDS, Kind::Bus) {
            Kind::Bus => {
                Source::Bus { bus: e.text_or("SENTINEL_BUS", "default"), queue_url: e.url("SENTINEL_BUS_QUEUE_URL") }
            }
            Kind::Objects => Source::Objects {
                queue_url: e.url("SENTINEL_OBJECTS_QUEUE_URL"),
                trail_buckets: e.list("SENTINEL_TRAIL_BUCKETS").into_iter().collect(),
            },
            Kind::Poll => {
                let regions = e.list("SENTINEL_POLL_REGIONS");
                if regions.is_empty() {
                    e.mistake("SENTINEL_POLL_REGIONS is missing");
                }
                Source::Poll { account: e.account("SENTINEL_ACCOUNT"), regions }
            }
        };
        Self { deployed: Deployed::read(e, &[Stage::Detect]), source }
    }
}

#[cfg(test)]
mod tests {
    use sentinel_lambda::{Env, EnvError};

    use super::*;

    const SHARED: [(&str, &str); 3] = [
        ("SENTINEL_TABLE", "sentinel"),
        ("SENTINEL_DATA_BUCKET", "data"),
        ("SENTINEL_DETECT_QUEUE_URL", "https://sqs.example.com/1/detect"),
    ];

    fn with(more: &[(&str, &str)]) -> Result<Source, EnvError> {
        Env::of(&[SHARED.as_slice(), more].concat()).read(Config::read).map(|config| config.source)
    }

    #[test]
    fn each_source_has_its_own_settings() {
        assert_eq!(
            with(&[("SENTINEL_SOURCE", "bus"), ("SENTINEL_BUS_QUEUE_URL", "https://sqs.example.com/1/bus")]).unwrap(),
            Source::Bus { bus: "default".into(), queue_url: "https://sqs.example.com/1/bus".into() }
        );
        let objects = with(&[
            ("SENTINEL_SOURCE", "objects"),
            ("SENTINEL_OBJECTS_QUEUE_URL", "https://sqs.example.com/1/objects"),
            ("SENTINEL_TRAIL_BUCKETS", "one, two"),
        ]);
        let trail_buckets = ["one".to_owned(), "two".to_owned()].into();
        assert_eq!(
            objects.unwrap(),
            Source::Objects { queue_url: "https://sqs.example.com/1/objects".into(), trail_buckets }
        );
        let poll = with(&[
            ("SENTINEL_SOURCE", "poll"),
            ("SENTINEL_POLL_REGIONS", "eu-west-1,us-east-1"),
            ("SENTINEL_ACCOUNT", "123456789012"),
        ]);
        let regions = vec!["eu-west-1".to_owned(), "us-east-1".to_owned()];
        assert_eq!(poll.unwrap(), Source::Poll { account: "123456789012".into(), regions });
    }

    #[test]
    fn every_mistake_is_named() {
        let told = |env: &[(&str, &str)]| Env::of(env).read(Config::read).unwrap_err().0;
        let missing = ["SENTINEL_DETECT_QUEUE_URL", "SENTINEL_TABLE", "SENTINEL_DATA_BUCKET"];
        let shared = missing.map(|name| format!("{name} is missing"));
        for (source, own) in [
            (&[][..], &["SENTINEL_SOURCE is missing", "SENTINEL_BUS_QUEUE_URL is missing"][..]),
            (&[("SENTINEL_SOURCE", "objects")], &["SENTINEL_OBJECTS_QUEUE_URL is missing"]),
            (&[("SENTINEL_SOURCE", "poll")], &["SENTINEL_POLL_REGIONS is missing", "SENTINEL_ACCOUNT is missing"]),
        ] {
            let wanted: Vec<String> = own.iter().map(|m| (*m).to_owned()).chain(shared.clone()).collect();
            assert_eq!(told(source), wanted);
        }
        assert!(
            with(&[("SENTINEL_SOURCE", "kafka")]).unwrap_err().to_string().contains("not one of bus, objects, poll")
        );
    }
}
