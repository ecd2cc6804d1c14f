//! The APIs that simulated people and workloads call, with the parameters that matter to a reader of logs.

use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::record::{Call, hex_digits};

/// One API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    /// Service, without `.amazonaws.com`'s dot: the whole host name.
    pub source: &'static str,
    /// Operation.
    pub name: &'static str,
    /// Whether it only reads.
    pub read_only: bool,
}

const fn read(source: &'static str, name: &'static str) -> Api {
    Api { source, name, read_only: true }
}

const fn write(source: &'static str, name: &'static str) -> Api {
    Api { source, name, read_only: false }
}

/// What developers of applications use.
pub const DEVELOPER: &[Api] = &[
    read("lambda.amazonaws.com", "GetFunction20150331v2"),
    read("lambda.amazonaws.com", "ListFunctions20150331"),
    read("lambda.amazonaws.com", "GetFunctionConfiguration20150331v2"),
    write("lambda.amazonaws.com", "UpdateFunctionCode20150331v2"),
    write("lambda.amazonaws.com", "UpdateFunctionConfiguration20150331v2"),
    read("logs.amazonaws.com", "DescribeLogGroups"),
    read("logs.amazonaws.com", "DescribeLogStreams"),
    read("logs.amazonaws.com", "FilterLogEvents"),
    read("logs.amazonaws.com", "StartQuery"),
    read("logs.amazonaws.com", "GetQueryResults"),
    read("dynamodb.amazonaws.com", "DescribeTable"),
    read("dynamodb.amazonaws.com", "ListTables"),
    write("dynamodb.amazonaws.com", "UpdateTable"),
    read("s3.amazonaws.com", "ListBuckets"),
    read("s3.amazonaws.com", "ListObjects"),
    read("s3.amazonaws.com", "GetObject"),
    write("s3.amazonaws.com", "PutObject"),
    read("s3.amazonaws.com", "GetBucketLocation"),
    read("ecr.amazonaws.com", "DescribeRepositories"),
    read("ecr.amazonaws.com", "GetAuthorizationToken"),
    read("ecr.amazonaws.com", "BatchGetImage"),
    write("ecr.amazonaws.com", "PutImage"),
    read("ecs.amazonaws.com", "DescribeServices"),
    read("ecs.amazonaws.com", "ListTasks"),
    read("ecs.amazonaws.com", "DescribeTasks"),
    write("ecs.amazonaws.com", "UpdateService"),
    read("cloudformation.amazonaws.com", "DescribeStacks"),
    read("cloudformation.amazonaws.com", "DescribeStackEvents"),
    read("sqs.amazonaws.com", "GetQueueAttributes"),
    read("sqs.amazonaws.com", "ListQueues"),
    read("sns.amazonaws.com", "ListTopics"),
    read("ssm.amazonaws.com", "GetParameter"),
    read("ssm.amazonaws.com", "GetParametersByPath"),
    read("secretsmanager.amazonaws.com", "GetSecretValue"),
    read("secretsmanager.amazonaws.com", "ListSecrets"),
    read("monitoring.amazonaws.com", "DescribeAlarms"),
    read("monitoring.amazonaws.com", "GetMetricData"),
    read("apigateway.amazonaws.com", "GetRestApis"),
    read("xray.amazonaws.com", "GetTraceSummaries"),
    read("sts.amazonaws.com", "GetCallerIdentity"),
    read("kms.amazonaws.com", "Decrypt"),
    read("kms.amazonaws.com", "ListAliases"),
];

/// What administrators use.
pub const ADMINISTRATOR: &[Api] = &[
    read("ec2.amazonaws.com", "DescribeInstances"),
    read("ec2.amazonaws.com", "DescribeSecurityGroups"),
    read("ec2.amazonaws.com", "DescribeVpcs"),
    read("ec2.amazonaws.com", "DescribeSubnets"),
    read("ec2.amazonaws.com", "DescribeVolumes"),
    read("ec2.amazonaws.com", "DescribeSnapshots"),
    read("ec2.amazonaws.com", "DescribeImages"),
    read("ec2.amazonaws.com", "DescribeRegions"),
    write("ec2.amazonaws.com", "RunInstances"),
    write("ec2.amazonaws.com", "TerminateInstances"),
    write("ec2.amazonaws.com", "CreateTags"),
    write("ec2.amazonaws.com", "CreateSnapshot"),
    write("ec2.amazonaws.com", "AuthorizeSecurityGroupIngress"),
    write("ec2.amazonaws.com", "RevokeSecurityGroupIngress"),
    read("iam.amazonaws.com", "ListUsers"),
    read("iam.amazonaws.com", "ListRoles"),
    read("iam.amazonaws.com", "GetRole"),
    read("iam.amazonaws.com", "GetUser"),
    read("iam.amazonaws.com", "ListAttachedRolePolicies"),
    read("iam.amazonaws.com", "ListAccessKeys"),
    read("iam.amazonaws.com", "GetPolicyVersion"),
    write("iam.amazonaws.com", "CreateRole"),
    write("iam.amazonaws.com", "AttachRolePolicy"),
    write("iam.amazonaws.com", "PutRolePolicy"),
    write("iam.amazonaws.com", "UpdateAccessKey"),
    read("cloudtrail.amazonaws.com", "LookupEvents"),
    read("cloudtrail.amazonaws.com", "DescribeTrails"),
    read("cloudtrail.amazonaws.com", "GetTrailStatus"),
    read("config.amazonaws.com", "DescribeConfigRules"),
    read("config.amazonaws.com", "GetComplianceDetailsByConfigRule"),
    read("guardduty.amazonaws.com", "ListDetectors"),
    read("guardduty.amazonaws.com", "ListFindings"),
    read("guardduty.amazonaws.com", "GetFindings"),
    read("ce.amazonaws.com", "GetCostAndUsage"),
    read("organizations.amazonaws.com", "DescribeOrganization"),
    read("rds.amazonaws.com", "DescribeDBInstances"),
    write("rds.amazonaws.com", "CreateDBSnapshot"),
    write("rds.amazonaws.com", "ModifyDBInstance"),
    read("s3.amazonaws.com", "GetBucketPolicy"),
    read("s3.amazonaws.com", "GetBucketAcl"),
    read("s3.amazonaws.com", "ListBuckets"),
    write("s3.amazonaws.com", "PutBucketPolicy"),
    read("kms.amazonaws.com", "ListKeys"),
    read("kms.amazonaws.com", "DescribeKey"),
    read("elasticloadbalancing.amazonaws.com", "DescribeLoadBalancers"),
    read("autoscaling.amazonaws.com", "DescribeAutoScalingGroups"),
    read("route53.amazonaws.com", "ListHostedZones"),
    write("route53.amazonaws.com", "ChangeResourceRecordSets"),
    write("ssm.amazonaws.com", "StartSession"),
    read("sts.amazonaws.com", "GetCallerIdentity"),
    write("sts.amazonaws.com", "AssumeRole"),
    read("monitoring.amazonaws.com", "DescribeAlarms"),
    read("health.amazonaws.com", "DescribeEventAggregates"),
];

/// What analysts of data use.
pub const ANALYST: &[Api] = &[
    read("athena.amazonaws.com", "GetQueryExecution"),
    read("athena.amazonaws.com", "GetQueryResults"),
    write("athena.amazonaws.com", "StartQueryExecution"),
    read("athena.amazonaws.com", "ListWorkGroups"),
    read("glue.amazonaws.com", "GetTables"),
    read("glue.amazonaws.com", "GetDatabases"),
    read("glue.amazonaws.com", "GetPartitions"),
    write("glue.amazonaws.com", "StartJobRun"),
    read("s3.amazonaws.com", "ListBuckets"),
    read("s3.amazonaws.com", "ListObjects"),
    read("s3.amazonaws.com", "GetObject"),
    read("redshift.amazonaws.com", "DescribeClusters"),
    read("quicksight.amazonaws.com", "DescribeDashboard"),
    read("kms.amazonaws.com", "Decrypt"),
    read("sts.amazonaws.com", "GetCallerIdentity"),
    read("logs.amazonaws.com", "DescribeLogGroups"),
];

/// What the deployment pipeline uses.
pub const PIPELINE: &[Api] = &[
    read("sts.amazonaws.com", "GetCallerIdentity"),
    read("s3.amazonaws.com", "GetObject"),
    write("s3.amazonaws.com", "PutObject"),
    read("dynamodb.amazonaws.com", "DescribeTable"),
    read("cloudformation.amazonaws.com", "DescribeStacks"),
    write("cloudformation.amazonaws.com", "CreateChangeSet"),
    write("cloudformation.amazonaws.com", "ExecuteChangeSet"),
    read("lambda.amazonaws.com", "GetFunction20150331v2"),
    write("lambda.amazonaws.com", "UpdateFunctionCode20150331v2"),
    write("lambda.amazonaws.com", "PublishVersion20150331"),
    read("ecr.amazonaws.com", "GetAuthorizationToken"),
    write("ecr.amazonaws.com", "PutImage"),
    write("ecs.amazonaws.com", "RegisterTaskDefinition"),
    write("ecs.amazonaws.com", "UpdateService"),
    read("iam.amazonaws.com", "GetRole"),
    write("iam.amazonaws.com", "PassRole"),
    read("iam.amazonaws.com", "ListRolePolicies"),
    read("ec2.amazonaws.com", "DescribeSecurityGroups"),
    read("ec2.amazonaws.com", "DescribeSubnets"),
    read("logs.amazonaws.com", "DescribeLogGroups"),
    read("kms.amazonaws.com", "Decrypt"),
];

/// What running services use.
pub const WORKLOAD: &[Api] = &[
    read("s3.amazonaws.com", "GetObject"),
    write("s3.amazonaws.com", "PutObject"),
    read("secretsmanager.amazonaws.com", "GetSecretValue"),
    read("kms.amazonaws.com", "Decrypt"),
    read("kms.amazonaws.com", "GenerateDataKey"),
    read("ssm.amazonaws.com", "GetParameters"),
    write("ssm.amazonaws.com", "UpdateInstanceInformation"),
    write("logs.amazonaws.com", "CreateLogStream"),
    read("ecr.amazonaws.com", "BatchGetImage"),
    read("dynamodb.amazonaws.com", "DescribeTable"),
    read("sqs.amazonaws.com", "GetQueueUrl"),
    read("ec2.amazonaws.com", "DescribeInstances"),
    read("ec2.amazonaws.com", "DescribeTags"),
    read("sts.amazonaws.com", "GetCallerIdentity"),
];

/// What programs with an IAM user's long-term key use: backups, exports, monitoring.
pub const INTEGRATION: &[Api] = &[
    read("s3.amazonaws.com", "ListObjects"),
    read("s3.amazonaws.com", "GetObject"),
    write("s3.amazonaws.com", "PutObject"),
    read("ec2.amazonaws.com", "DescribeInstances"),
    read("ec2.amazonaws.com", "DescribeVolumes"),
    write("ec2.amazonaws.com", "CreateSnapshot"),
    read("monitoring.amazonaws.com", "GetMetricData"),
    read("monitoring.amazonaws.com", "ListMetrics"),
    read("rds.amazonaws.com", "DescribeDBInstances"),
    read("sqs.amazonaws.com", "GetQueueAttributes"),
    read("sts.amazonaws.com", "GetCallerIdentity"),
];

/// Services whose calls are recorded in us-east-1 whatever Region the caller works in.
pub fn is_global(source: &str) -> bool {
    matches!(source, "iam.amazonaws.com" | "organizations.amazonaws.com" | "route53.amazonaws.com" | "ce.amazonaws.com")
}

const NOUNS: &[&str] = &["orders", "billing", "search", "catalog", "reports", "session", "mail", "audit", "media"];

/// A call of `api` with plausible parameters.
pub fn call(rng: &mut ChaCha8Rng, account: &str, api: Api) -> Call {
    let (request, response) = parameters(rng, account, api);
    Call { source: api.source, name: api.name, read_only: api.read_only, request, response, error: None }
}

/// The same call refused, with the code and message its service uses.
pub fn denied(mut call: Call, caller_arn: &str) -> Call {
    let service = call.source.trim_end_matches(".amazonaws.com");
    let operation: String = call.name.trim_end_matches(|c: char| c.is_ascii_digit() || c == 'v').into();
    let code = if service == "ec2" { "Client.UnauthorizedOperation" } else { "AccessDenied" };
    let message = format!(
        "User: {caller_arn} is not authorized to perform: {service}:{operation} because no identity-based policy \
         allows the {service}:{operation} action"
    );
    call.error = Some((code.into(), message));
    call
}

/// The same call failed because what it names does not exist or it came too fast.
pub fn failed(rng: &mut ChaCha8Rng, mut call: Call) -> Call {
    let (code, message) = match call.source {
        "iam.amazonaws.com" => ("NoSuchEntityException", "The requested entity cannot be found."),
        "s3.amazonaws.com" => ("NoSuchKey", "The specified key does not exist."),
        "ec2.amazonaws.com" => ("Client.InvalidGroup.NotFound", "The security group does not exist"),
        _ if rng.random_bool(0.3) => ("ThrottlingException", "Rate exceeded"),
        _ => ("ResourceNotFoundException", "Requested resource not found"),
    };
    call.error = Some((code.into(), message.into()));
    call
}

fn parameters(rng: &mut ChaCha8Rng, account: &str, api: Api) -> (Value, Value) {
    let noun = NOUNS.choose(rng).copied().unwrap_or("orders");
    let request = match api.name {
        "GetObject" | "PutObject" => json!({
            "bucketName": format!("acme-{noun}-{account}"),
            "key": format!("{}/{}.json", noun, hex_digits(rng, 8)),
            "Host": format!("acme-{noun}-{account}.s3.amazonaws.com"),
        }),
        "ListObjects" | "GetBucketPolicy" | "GetBucketAcl" | "GetBucketLocation" | "PutBucketPolicy" => {
            json!({"bucketName": format!("acme-{noun}-{account}"), "Host": "s3.amazonaws.com"})
        }
        "GetSecretValue" => json!({"secretId": format!("prod/{noun}/database")}),
        "GetParameter" => json!({"name": format!("/prod/{noun}/url"), "withDecryption": rng.random_bool(0.5)}),
        "GetParameters" => json!({"names": [format!("/prod/{noun}/url")], "withDecryption": true}),
        "Decrypt" | "GenerateDataKey" => json!({
            "encryptionContext": {"aws:s3:arn": format!("arn:aws:s3:::acme-{noun}-{account}")},
            "encryptionAlgorithm": "SYMMETRIC_DEFAULT",
        }),
        "AssumeRole" => json!({
            "roleArn": format!("arn:aws:iam::{account}:role/{noun}-operations"),
            "roleSessionName": format!("{noun}-session"),
            "durationSeconds": 3600,
        }),
        "RunInstances" => json!({
            "instancesSet": {"items": [{"imageId": format!("ami-{}", hex_digits(rng, 17)), "minCount": 1, "maxCount": 1}]},
            "instanceType": "t3.medium",
        }),
        "TerminateInstances" => {
            json!({"instancesSet": {"items": [{"instanceId": format!("i-{}", hex_digits(rng, 17))}]}})
        }
        "CreateSnapshot" => json!({"volumeId": format!("vol-{}", hex_digits(rng, 17))}),
        "AuthorizeSecurityGroupIngress" | "RevokeSecurityGroupIngress" => json!({
            "groupId": format!("sg-{}", hex_digits(rng, 17)),
            "ipPermissions": {"items": [{
                "ipProtocol": "tcp", "fromPort": 443, "toPort": 443,
                "ipRanges": {"items": [{"cidrIp": "10.0.0.0/8"}]},
            }]},
        }),
        "GetRole" | "ListAttachedRolePolicies" | "ListRolePolicies" | "CreateRole" => {
            json!({"roleName": format!("{noun}-service")})
        }
        "AttachRolePolicy" => json!({
            "roleName": format!("{noun}-service"),
            "policyArn": "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess",
        }),
        "PutRolePolicy" => json!({"roleName": format!("{noun}-service"), "policyName": format!("{noun}-inline")}),
        "GetUser" | "ListAccessKeys" => json!({"userName": format!("{noun}-export")}),
        "UpdateAccessKey" => json!({
            "userName": format!("{noun}-export"),
            "accessKeyId": crate::record::unique_id(rng, "AKIA"),
            "status": "Inactive",
        }),
        name if name.contains("Function") || name.starts_with("PublishVersion") => {
            json!({"functionName": format!("{noun}-api")})
        }
        "UpdateService" | "DescribeServices" => json!({"cluster": "production", "service": format!("{noun}-web")}),
        "StartQueryExecution" => json!({"workGroup": "primary", "queryString": "HIDDEN_DUE_TO_SECURITY_REASONS"}),
        "DescribeInstances" => json!({"instancesSet": {}, "filterSet": {}}),
        _ if api.read_only && rng.random_bool(0.4) => Value::Null,
        _ => json!({"maxResults": 100}),
    };
    let response = if api.read_only { Value::Null } else { response(rng, account, api, noun) };
    (request, response)
}

fn response(rng: &mut ChaCha8Rng, account: &str, api: Api, noun: &str) -> Value {
    match api.name {
        "AssumeRole" => {
            let key = crate::record::unique_id(rng, "ASIA");
            let id = crate::record::unique_id(rng, "AROA");
            json!({
                "credentials": {"accessKeyId": key, "sessionToken": "HIDDEN_DUE_TO_SECURITY_REASONS"},
                "assumedRoleUser": {
                    "assumedRoleId": format!("{id}:{noun}-session"),
                    "arn": format!("arn:aws:sts::{account}:assumed-role/{noun}-operations/{noun}-session"),
                },
            })
        }
        "CreateRole" => json!({"role": {
            "roleName": format!("{noun}-service"),
            "arn": format!("arn:aws:iam::{account}:role/{noun}-service"),
        }}),
        "CreateSnapshot" => json!({"snapshotId": format!("snap-{}", hex_digits(rng, 17)), "status": "pending"}),
        "RunInstances" => json!({"instancesSet": {"items": [{"instanceId": format!("i-{}", hex_digits(rng, 17))}]}}),
        "StartQueryExecution" => json!({"queryExecutionId": crate::record::uuid(rng)}),
        "PutObject" => json!({"x-amz-server-side-encryption": "AES256"}),
        _ => Value::Null,
    }
}
