//! Which logs of CloudTrail record what a rule looks for.
//!
//! In: the custom attribute `cloudsentinel.logs`, or the `eventName` and `eventSource` values of a rule without it.
//! Out: the logs, so that coverage can be told for the logs one has. Which events belong to which log:
//! <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/logging-data-events-with-cloudtrail.html>.

use std::{fmt, str::FromStr};

use rsigma_parser::{Detection, Detections, SigmaValue};
use serde::{Deserialize, Serialize};

/// The custom attribute that names a rule's logs.
pub(crate) const LOGS_ATTRIBUTE: &str = "cloudsentinel.logs";
/// Longest name of a service, in bytes.
const MAX_SERVICE_BYTES: usize = 64;

/// A log that CloudTrail writes when it is told to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Log {
    /// Management events that write, sign-ins included. Every trail has them.
    Management,
    /// Management events that only read.
    ManagementRead,
    /// Data events of a service: the first label of `eventSource`, e.g. `s3`.
    Data(String),
    /// Network activity events of a service's VPC endpoints; of any service without a name.
    Network(Option<String>),
    /// CloudTrail Insights.
    Insights,
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Management => f.write_str("management"),
            Self::ManagementRead => f.write_str("management-read"),
            Self::Data(service) => write!(f, "data:{service}"),
            Self::Network(None) => f.write_str("network"),
            Self::Network(Some(service)) => write!(f, "network:{service}"),
            Self::Insights => f.write_str("insights"),
        }
    }
}

impl FromStr for Log {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let service = |name: &str| {
            let fits = !name.is_empty()
                && name.len() <= MAX_SERVICE_BYTES
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            fits.then(|| name.to_owned())
        };
        let log = match text.split_once(':') {
            None if text == "management" => Some(Self::Management),
            None if text == "management-read" => Some(Self::ManagementRead),
            None if text == "network" => Some(Self::Network(None)),
            None if text == "insights" => Some(Self::Insights),
            Some(("data", name)) => service(name).map(Self::Data),
            Some(("network", name)) => service(name).map(|name| Self::Network(Some(name))),
            _ => None,
        };
        log.ok_or_else(|| {
            format!(
                "{text:?} is no log: management, management-read, data:SERVICE, network, network:SERVICE or insights"
            )
        })
    }
}

impl TryFrom<String> for Log {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Log> for String {
    fn from(log: Log) -> Self {
        log.to_string()
    }
}

impl Log {
    /// Whether having this log is having `wanted`: `network` stands for every service's.
    pub fn provides(&self, wanted: &Self) -> bool {
        self == wanted || (*self == Self::Network(None) && matches!(wanted, Self::Network(_)))
    }
}

/// What a rule says itself: the attribute's texts, `None` for one that is no text.
pub(super) fn stated(texts: Vec<Option<&str>>) -> Result<Vec<Log>, String> {
    let texts: Option<Vec<&str>> = texts.into_iter().collect();
    let texts = texts.filter(|t| !t.is_empty()).ok_or_else(|| format!("{LOGS_ATTRIBUTE} must be one log or a list"))?;
    let mut logs = texts.into_iter().map(str::parse).collect::<Result<Vec<Log>, _>>()?;
    logs.sort_unstable();
    logs.dedup();
    Ok(logs)
}

/// What the event names and sources of a rule speak for: both kinds of management events where there are none.
pub(super) fn derived(detections: &Detections) -> Vec<Log> {
    let (mut names, mut sources) = (Vec::new(), Vec::new());
    for detection in detections.named.values() {
        values(detection, &mut names, &mut sources);
    }
    let mut logs: Vec<Log> = names.iter().map(|name| log_of(name, &sources)).collect();
    if logs.is_empty() {
        logs.extend([Log::Management, Log::ManagementRead]);
    }
    logs.sort_unstable();
    logs.dedup();
    logs
}

fn values<'a>(detection: &'a Detection, names: &mut Vec<&'a str>, sources: &mut Vec<&'a str>) {
    match detection {
        Detection::AllOf(items) => {
            for item in items {
                let into = match item.field.name.as_deref() {
                    Some("eventName") => &mut *names,
                    Some("eventSource") => &mut *sources,
                    _ => continue,
                };
                into.extend(item.values.iter().filter_map(|value| match value {
                    SigmaValue::String(text) => Some(text.original.as_str()),
                    _ => None,
                }));
            }
        }
        Detection::AnyOf(parts) | Detection::And(parts) => {
            for part in parts {
                values(part, names, sources);
            }
        }
        Detection::ArrayMatch { .. } | Detection::Keywords(_) | Detection::Conditional { .. } => {}
    }
}

/// Operations that are data events, by service.
const DATA: [(&str, &[&str]); 7] = [
    (
        "s3",
        &[
            "AbortMultipartUpload",
            "CompleteMultipartUpload",
            "CopyObject",
            "CreateMultipartUpload",
            "DeleteObject",
            "DeleteObjects",
            "DeleteObjectTagging",
            "GetObject",
            "GetObjectAcl",
            "GetObjectAttributes",
            "GetObjectTagging",
            "GetObjectTorrent",
            "HeadObject",
            "ListObjects",
            "ListObjectsV2",
            "ListObjectVersions",
            "ListParts",
            "PutObject",
            "PutObjectAcl",
            "PutObjectLegalHold",
            "PutObjectRetention",
            "PutObjectTagging",
            "RestoreObject",
            "SelectObjectContent",
            "UploadPart",
            "UploadPartCopy",
        ],
    ),
    ("lambda", &["Invoke", "InvokeExecution", "InvokeFunction"]),
    (
        "dynamodb",
        &[
            "BatchExecuteStatement",
            "BatchGetItem",
            "BatchWriteItem",
            "DeleteItem",
            "ExecuteStatement",
            "ExecuteTransaction",
            "GetItem",
            "GetRecords",
            "PutItem",
            "Query",
            "Scan",
            "TransactGetItems",
            "TransactWriteItems",
            "UpdateItem",
        ],
    ),
    (
        "ebs",
        &[
            "CompleteSnapshot",
            "GetSnapshotBlock",
            "ListChangedBlocks",
            "ListSnapshotBlocks",
            "PutSnapshotBlock",
            "StartSnapshot",
        ],
    ),
    ("sns", &["Publish", "PublishBatch"]),
    (
        "sqs",
        &[
            "ChangeMessageVisibility",
            "DeleteMessage",
            "DeleteMessageBatch",
            "ReceiveMessage",
            "SendMessage",
            "SendMessageBatch",
        ],
    ),
    ("bedrock", &["InvokeAgent", "InvokeInlineAgent", "InvokeFlow", "Retrieve", "RetrieveAndGenerate"]),
];

/// Beginnings of the names of operations that only read. `AssumeRole` and its kin count as reading in CloudTrail.
const READS: [&str; 16] = [
    "Get",
    "List",
    "Describe",
    "Head",
    "Lookup",
    "Search",
    "BatchGet",
    "Scan",
    "Query",
    "Select",
    "Simulate",
    "View",
    "AssumeRole",
    "Decrypt",
    "GenerateDataKey",
    "Filter",
];

fn log_of(name: &str, sources: &[&str]) -> Log {
    let from = |service: &str| {
        sources.is_empty()
            || sources.iter().any(|s| s.split('.').next().is_some_and(|s| s.eq_ignore_ascii_case(service)))
    };
    let known =
        DATA.iter().find(|(service, names)| from(service) && names.iter().any(|n| n.eq_ignore_ascii_case(name)));
    if let Some((service, _)) = known {
        return Log::Data((*service).to_owned());
    }
    let reads = READS.iter().any(|r| name.get(..r.len()).is_some_and(|head| head.eq_ignore_ascii_case(r)));
    if reads { Log::ManagementRead } else { Log::Management }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_says_which_logs_it_needs() {
        let several = ["data:s3", "management", "network", "network:ec2", "insights", "management"];
        let several: Vec<String> = stated(several.map(Some).to_vec()).unwrap().iter().map(Log::to_string).collect();
        assert_eq!(several, ["management", "data:s3", "network", "network:ec2", "insights"]);
        for bad in [vec![], vec![None], vec![Some("management"), None]] {
            assert!(stated(bad).is_err());
        }
        for bad in ["reads", "data:", "data:S3!", "network:", ""] {
            assert!(stated(vec![Some(bad)]).is_err(), "{bad}");
        }
        for log in ["management", "management-read", "data:s3", "network", "network:s3", "insights"] {
            assert_eq!(log.parse::<Log>().unwrap().to_string(), log);
        }
    }

    #[test]
    fn logs_are_derived_from_names_and_sources() {
        for (selection, logs) in [
            ("{eventName: [CreateUser, GetUser]}", &["management", "management-read"][..]),
            ("{eventName: GetObject}", &["data:s3"]),
            ("{eventName: Invoke, eventSource: lambda.amazonaws.com}", &["data:lambda"]),
            ("{eventName: Query, eventSource: logs.amazonaws.com}", &["management-read"]),
            ("{eventName|startswith: Describe}", &["management-read"]),
            ("{eventSource: iam.amazonaws.com}", &["management", "management-read"]),
            ("[{eventName: ConsoleLogin}, {eventName: DeleteObjects}]", &["management", "data:s3"]),
        ] {
            let text = format!("title: T\nlogsource: {{product: aws}}\ndetection: {{s: {selection}, condition: s}}\n");
            let rule = rsigma_parser::parse_sigma_yaml(&text).unwrap().rules.remove(0);
            let found: Vec<String> = derived(&rule.detection).iter().map(Log::to_string).collect();
            assert_eq!(found, logs, "{selection}");
        }
    }

    #[test]
    fn network_without_a_service_is_every_service() {
        let (any, one) = (Log::Network(None), Log::Network(Some("s3".into())));
        assert!(any.provides(&one) && any.provides(&any) && one.provides(&one) && !one.provides(&any));
        assert!(!Log::Management.provides(&Log::ManagementRead));
    }
}
