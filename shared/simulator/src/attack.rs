//! A scripted attack: a stolen key of an IAM user, from the first look around to data theft, within minutes.
//!
//! The intruder hops over three identities: the user whose key was stolen, a user made as a backdoor, and a
//! session of a role. The story and every value are ours; the records have `CloudTrail`'s real shapes. Techniques
//! by MITRE ATT&CK: T1078.004, T1526, T1580, T1087.004, T1136.003, T1098.001, T1098.003, T1548.005, T1555.006,
//! T1530, T1562.008.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use sentinel_model::{Timestamp, time};
use serde_json::{Value, json};

use crate::{
    catalogue,
    identity::Caller,
    record::{Call, Place, hex_digits, render, stamp, unique_id},
    schedule::script_generator,
};

/// Whose key was stolen, and when it is used.
#[derive(Debug, Clone)]
pub struct AttackOptions {
    /// Makes the ids of the records; the story is always the same.
    pub seed: u64,
    /// The account, 12 digits.
    pub account: String,
    /// Name of the IAM user whose key was stolen.
    pub user: String,
    /// That user's unique id (`AIDA...`).
    pub principal_id: String,
    /// The stolen long-term key (`AKIA...`).
    pub access_key_id: String,
    /// When the key is first misused.
    pub start: Timestamp,
    /// Where the intruder works.
    pub region: String,
    /// The intruder's address.
    pub address: String,
    /// The user that is made as a backdoor.
    pub backdoor_user: String,
    /// The role that is taken on.
    pub role: String,
}

impl Default for AttackOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            account: "123456789012".into(),
            user: "warehouse-sync".into(),
            principal_id: "AIDASYNCUSEREXAMPLE".into(),
            access_key_id: "AKIASTOLEN7KEYEXAMPLE".into(),
            start: Timestamp::UNIX_EPOCH,
            region: "us-east-1".into(),
            address: "192.0.2.66".into(),
            backdoor_user: "svc-support".into(),
            role: "production-operations".into(),
        }
    }
}

/// Writes the story down, with one clock.
struct Script<'a> {
    rng: ChaCha8Rng,
    options: &'a AttackOptions,
    now: Timestamp,
    records: Vec<Value>,
}

/// The attack's records, in order of time.
pub fn compromised_key(options: &AttackOptions) -> Vec<Value> {
    let mut script = Script { rng: script_generator(options.seed), options, now: options.start, records: Vec::new() };
    let stolen = Caller::IamUser {
        name: options.user.clone(),
        principal_id: options.principal_id.clone(),
        access_key_id: options.access_key_id.clone(),
    };
    script.look_around(&stolen);
    let backdoor = script.make_backdoor(&stolen);
    script.pause(35);
    let session = script.take_on_role(&backdoor);
    script.pause(6);
    script.blind_the_trail(&session);
    script.steal(&session);
    script.records
}

impl Script<'_> {
    fn look_around(&mut self, who: &Caller) {
        self.ok(who, "sts.amazonaws.com", "GetCallerIdentity", true, Value::Null, Value::Null);
        self.pause(8);
        self.denied(who, "iam.amazonaws.com", "GetAccountAuthorizationDetails", Value::Null);
        self.ok(who, "iam.amazonaws.com", "ListUsers", true, Value::Null, Value::Null);
        self.ok(who, "iam.amazonaws.com", "ListRoles", true, Value::Null, Value::Null);
        let user = json!({"userName": self.options.user});
        self.ok(who, "iam.amazonaws.com", "ListAttachedUserPolicies", true, user.clone(), Value::Null);
        self.ok(who, "iam.amazonaws.com", "ListUserPolicies", true, user, Value::Null);
        self.ok(who, "s3.amazonaws.com", "ListBuckets", true, json!({"Host": "s3.amazonaws.com"}), Value::Null);
        for region in ["us-east-1", "us-west-2", "eu-west-1", "ap-southeast-2"] {
            self.in_region(
                who,
                region,
                "ec2.amazonaws.com",
                "DescribeInstances",
                json!({"instancesSet": {}, "filterSet": {}}),
            );
        }
        self.denied(who, "organizations.amazonaws.com", "ListAccounts", Value::Null);
        self.denied(who, "rds.amazonaws.com", "DescribeDBInstances", json!({"maxRecords": 100}));
        self.denied(who, "lambda.amazonaws.com", "ListFunctions20150331", json!({"maxItems": 50}));
        self.denied(who, "kms.amazonaws.com", "ListKeys", Value::Null);
        self.ok(who, "cloudtrail.amazonaws.com", "DescribeTrails", true, json!({"trailNameList": []}), Value::Null);
        self.denied(who, "guardduty.amazonaws.com", "ListDetectors", Value::Null);
        self.ok(who, "secretsmanager.amazonaws.com", "ListSecrets", true, json!({"maxResults": 100}), Value::Null);
        self.denied(
            who,
            "secretsmanager.amazonaws.com",
            "GetSecretValue",
            json!({"secretId": "prod/billing/database"}),
        );
        self.pause(40);
    }

    fn make_backdoor(&mut self, who: &Caller) -> Caller {
        let account = self.options.account.clone();
        let name = self.options.backdoor_user.clone();
        let principal_id = unique_id(&mut self.rng, "AIDA");
        let arn = format!("arn:aws:iam::{account}:user/{name}");
        let made = json!({"user": {
            "path": "/", "userName": name, "userId": principal_id, "arn": arn, "createDate": stamp(self.now),
        }});
        self.ok(who, "iam.amazonaws.com", "CreateUser", false, json!({"userName": name}), made);
        self.pause(5);
        let policy = json!({"userName": name, "policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"});
        self.ok(who, "iam.amazonaws.com", "AttachUserPolicy", false, policy, Value::Null);
        self.pause(4);
        let key = unique_id(&mut self.rng, "AKIA");
        let made = json!({"accessKey": {
            "userName": name, "accessKeyId": key, "status": "Active", "createDate": stamp(self.now),
        }});
        self.ok(who, "iam.amazonaws.com", "CreateAccessKey", false, json!({"userName": name}), made);
        Caller::IamUser { name, principal_id, access_key_id: key }
    }

    fn take_on_role(&mut self, who: &Caller) -> Caller {
        self.ok(who, "sts.amazonaws.com", "GetCallerIdentity", true, Value::Null, Value::Null);
        self.pause(7);
        self.ok(who, "iam.amazonaws.com", "ListRoles", true, Value::Null, Value::Null);
        self.pause(9);
        let account = self.options.account.clone();
        let role = self.options.role.clone();
        let session = "maintenance";
        let role_id = unique_id(&mut self.rng, "AROA");
        let key = unique_id(&mut self.rng, "ASIA");
        let request = json!({
            "roleArn": format!("arn:aws:iam::{account}:role/{role}"),
            "roleSessionName": session,
            "durationSeconds": 3600,
        });
        let made = json!({
            "credentials": {
                "accessKeyId": key,
                "sessionToken": "HIDDEN_DUE_TO_SECURITY_REASONS",
                "expiration": stamp(time::plus_seconds(self.now, 3_600)),
            },
            "assumedRoleUser": {
                "assumedRoleId": format!("{role_id}:{session}"),
                "arn": format!("arn:aws:sts::{account}:assumed-role/{role}/{session}"),
            },
        });
        // CloudTrail counts AssumeRole as reading.
        self.ok(who, "sts.amazonaws.com", "AssumeRole", true, request, made);
        Caller::RoleSession {
            role,
            path: "/".into(),
            role_id,
            session: session.into(),
            access_key_id: key,
            created: self.now,
            mfa: false,
        }
    }

    fn blind_the_trail(&mut self, who: &Caller) {
        let trail = format!("arn:aws:cloudtrail:{}:{}:trail/management", self.options.region, self.options.account);
        self.ok(who, "cloudtrail.amazonaws.com", "GetTrailStatus", true, json!({"name": trail}), Value::Null);
        self.pause(3);
        self.ok(who, "cloudtrail.amazonaws.com", "StopLogging", false, json!({"name": trail}), Value::Null);
        self.pause(3);
        self.ok(who, "cloudtrail.amazonaws.com", "DeleteTrail", false, json!({"name": trail}), Value::Null);
        let detector = hex_digits(&mut self.rng, 32);
        self.ok(who, "guardduty.amazonaws.com", "ListDetectors", true, Value::Null, Value::Null);
        self.ok(who, "guardduty.amazonaws.com", "DeleteDetector", false, json!({"detectorId": detector}), Value::Null);
        self.pause(12);
    }

    fn steal(&mut self, who: &Caller) {
        let account = self.options.account.clone();
        self.ok(who, "secretsmanager.amazonaws.com", "ListSecrets", true, json!({"maxResults": 100}), Value::Null);
        for noun in ["orders", "billing", "search", "catalog", "reports", "session", "mail", "audit", "media"] {
            for what in ["database", "api-key"] {
                let request = json!({"secretId": format!("prod/{noun}/{what}")});
                self.ok(who, "secretsmanager.amazonaws.com", "GetSecretValue", true, request, Value::Null);
            }
        }
        let path = json!({"path": "/prod/", "recursive": true, "withDecryption": true});
        self.ok(who, "ssm.amazonaws.com", "GetParametersByPath", true, path, Value::Null);
        self.pause(10);
        let bucket = format!("acme-billing-{account}");
        let host = format!("{bucket}.s3.amazonaws.com");
        self.ok(who, "s3.amazonaws.com", "ListBuckets", true, json!({"Host": "s3.amazonaws.com"}), Value::Null);
        let list = json!({"bucketName": bucket, "list-type": "2", "Host": host});
        self.ok(who, "s3.amazonaws.com", "ListObjects", true, list, Value::Null);
        for number in 0..20 {
            let key = format!("billing/customers-{number:03}.csv.gz");
            let request = json!({"bucketName": bucket, "key": key, "Host": host});
            self.ok(who, "s3.amazonaws.com", "GetObject", true, request, Value::Null);
        }
        self.pause(20);
        for number in 0..3 {
            let request = json!({"bucketName": bucket, "key": format!("billing/customers-{number:03}.csv.gz")});
            self.ok(who, "s3.amazonaws.com", "DeleteObject", false, request, Value::Null);
        }
    }

    fn ok(
        &mut self,
        who: &Caller,
        source: &'static str,
        name: &'static str,
        read_only: bool,
        request: Value,
        response: Value,
    ) {
        let call = Call { source, name, read_only, request, response, error: None };
        let region = self.options.region.clone();
        self.record(who, &region, &call);
    }

    fn in_region(&mut self, who: &Caller, region: &str, source: &'static str, name: &'static str, request: Value) {
        let call = Call { source, name, read_only: true, request, response: Value::Null, error: None };
        self.record(who, region, &call);
    }

    fn denied(&mut self, who: &Caller, source: &'static str, name: &'static str, request: Value) {
        let call = Call { source, name, read_only: true, request, response: Value::Null, error: None };
        let identity = who.user_identity(&self.options.account);
        let call = catalogue::denied(call, identity["arn"].as_str().unwrap_or_default());
        let region = self.options.region.clone();
        self.record(who, &region, &call);
    }

    fn record(&mut self, who: &Caller, region: &str, call: &Call) {
        let region = if catalogue::is_global(call.source) { "us-east-1" } else { region };
        let place = Place {
            region: region.into(),
            address: self.options.address.clone(),
            agent: "aws-cli/2.9.19 Python/3.11.2 Linux/6.1.0-28-amd64 source/x86_64.debian.12 prompt/off".into(),
        };
        let record = render(&mut self.rng, &self.options.account, self.now, who, &place, call);
        self.records.push(record);
        let next = self.rng.random_range(1..4);
        self.pause(next);
    }

    fn pause(&mut self, seconds: i64) {
        self.now = time::plus_seconds(self.now, seconds);
    }
}
