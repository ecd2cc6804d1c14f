//! What several people do in an account in three hours, most of it what rules and correlations look for: made from a seed.

use serde_json::{Value, json};

use crate::common::record;

const PEOPLE: [&str; 5] = ["mallory", "trent", "peggy", "oscar", "wendy"];
const IAM: &str = "iam.amazonaws.com";

/// Numbers that a seed gives (Marsaglia, "Xorshift RNGs", 2003).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for n in (1..all.len()).rev() {
            all.swap(n, usize::try_from(self.below(n as u64 + 1)).unwrap());
        }
    }
}

/// So many records around three full hours, that of `first` the first of them.
pub(crate) fn records(chance: &mut Chance, first: jiff::Timestamp, count: u64) -> Vec<Value> {
    (0..count).map(|n| one(chance, first, n)).collect()
}

fn one(chance: &mut Chance, first: jiff::Timestamp, number: u64) -> Value {
    let (who, other) = (chance.one_of(&PEOPLE), chance.one_of(&PEOPLE));
    let seconds = chance.below(3) * 3600 + chance.below(1800);
    let time = first + jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap() - 900);
    let key = format!("AKIA{:A<12}{:04}", other.to_uppercase(), chance.below(3));
    let snapshot = format!("snap-{:017x}", chance.below(3));
    let administrator = json!({"userName": other, "policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"});
    let (source, name, parameters) = match chance.below(14) {
        0 => (IAM, "CreateUser", json!({"userName": other})),
        1 => (IAM, "CreateAccessKey", json!({"userName": other})),
        2 => (IAM, "AttachUserPolicy", administrator),
        3 => ("cloudtrail.amazonaws.com", "StopLogging", json!({"name": "main"})),
        4 => ("cloudtrail.amazonaws.com", "DeleteTrail", json!({"name": "main"})),
        5 => ("sts.amazonaws.com", "GetCallerIdentity", Value::Null),
        6 => {
            let secret = format!("secret-{}", chance.below(30));
            ("secretsmanager.amazonaws.com", "GetSecretValue", json!({"secretId": secret}))
        }
        7 => (IAM, chance.one_of(&["ListUsers", "ListRoles", "ListAccessKeys", "GetAccountSummary"]), Value::Null),
        8 => (IAM, "CreateLoginProfile", json!({"userName": other})),
        9 => (IAM, "DeactivateMFADevice", json!({"userName": other, "serialNumber": "phone"})),
        10 => ("ec2.amazonaws.com", "RunInstances", json!({"instanceType": "p4d.24xlarge"})),
        11 => {
            let shared = json!({"add": {"items": [{"userId": "999988887777"}]}});
            let asked = json!({"snapshotId": snapshot, "createVolumePermission": shared});
            ("ec2.amazonaws.com", "ModifySnapshotAttribute", asked)
        }
        12 => ("ec2.amazonaws.com", "DeleteSnapshot", json!({"snapshotId": snapshot})),
        _ => ("s3.amazonaws.com", "DeleteBucket", json!({"bucketName": format!("bucket-{}", chance.below(9))})),
    };
    let id = format!("{number:08x}-0000-4000-8000-{:012x}", chance.below(1 << 48));
    let mut made = record(&id, &time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), source, name, &parameters);
    let who_uses = if name == "GetCallerIdentity" { other } else { who };
    made["userIdentity"]["arn"] = json!(format!("arn:aws:iam::111122223333:user/{who_uses}"));
    made["userIdentity"]["userName"] = json!(who_uses);
    made["userIdentity"]["principalId"] = json!(format!("AIDA{}", who_uses.to_uppercase()));
    made["sourceIPAddress"] = json!(chance.one_of(&["203.0.113.7", "198.51.100.9", "192.0.2.4"]));
    made["readOnly"] = json!(name.starts_with("Get") || name.starts_with("List"));
    match name {
        "GetCallerIdentity" => made["userIdentity"]["accessKeyId"] = json!(key),
        "CreateAccessKey" => {
            made["responseElements"] =
                json!({"accessKey": {"accessKeyId": key, "userName": other, "status": "Active"}});
        }
        "RunInstances" | "AttachUserPolicy" if chance.below(3) == 0 => made["errorCode"] = json!("AccessDenied"),
        _ => {}
    }
    made
}
