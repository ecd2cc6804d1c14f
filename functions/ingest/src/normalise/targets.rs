//! What was acted on: the record's `resources`, and the request parameters that name things.

use sentinel_json::Value;
use sentinel_model::Target;

use super::{text, text_at};

/// Most targets kept of one record.
const MAX_TARGETS: usize = 20;
/// Longest name kept, in bytes; a name over it is no name.
const MAX_NAME: usize = 2048;

/// Request parameters that name what is acted on, in the order of how much they tell.
const PARAMETERS: [&str; 34] = [
    "userName",
    "roleName",
    "roleArn",
    "groupName",
    "policyArn",
    "accessKeyId",
    "serialNumber",
    "instanceProfileName",
    "bucketName",
    "key",
    "instanceId",
    "groupId",
    "snapshotId",
    "imageId",
    "volumeId",
    "vpcId",
    "networkInterfaceId",
    "functionName",
    "layerName",
    "keyId",
    "secretId",
    "name",
    "trailName",
    "detectorId",
    "tableName",
    "dBInstanceIdentifier",
    "dBSnapshotIdentifier",
    "clusterName",
    "repositoryName",
    "queueUrl",
    "topicArn",
    "stackName",
    "logGroupName",
    "accountId",
];

/// The targets of a record, each once, resources with an ARN first.
pub fn targets(record: Value<'_>) -> Vec<Target> {
    let mut found = Vec::new();
    for resource in record.get("resources").into_iter().flat_map(Value::items) {
        let id = ["ARN", "arn", "ARNPrefix", "resourceName"].iter().find_map(|k| text(resource, k));
        if let Some(id) = id {
            let kind = text(resource, "type").or_else(|| text(resource, "resourceType")).unwrap_or("resource");
            add(&mut found, id, kind, text(resource, "accountId"));
        }
    }
    let Some(parameters) = record.get("requestParameters") else { return found };
    for name in PARAMETERS {
        if let Some(id) = text(parameters, name) {
            add(&mut found, id, name, None);
        }
    }
    let listed = parameters.get("instancesSet").and_then(|s| s.get("items"));
    for item in listed.into_iter().flat_map(Value::items) {
        if let Some(id) = text(item, "instanceId") {
            add(&mut found, id, "instanceId", None);
        }
    }
    if let Some(id) = text_at(parameters, &["CreateSnapshotRequest", "VolumeId"]) {
        add(&mut found, id, "volumeId", None);
    }
    found
}

fn add(found: &mut Vec<Target>, id: &str, kind: &str, account: Option<&str>) {
    let named = |t: &Target| {
        let before = t.id.strip_suffix(id);
        before.is_some_and(|b| b.is_empty() || b.ends_with([':', '/']))
    };
    if found.len() >= MAX_TARGETS || id.len() > MAX_NAME || found.iter().any(named) {
        return;
    }
    found.push(Target { id: id.to_owned(), kind: kind.to_owned(), account: account.map(str::to_owned) });
}
