//! A day of ordinary activity with the attack inside it, for demonstrations and end-to-end tests.

use sentinel_model::{Timestamp, time};
use serde_json::{Value, json};

use crate::{
    attack::{AttackOptions, compromised_key},
    company::{Company, CompanyOptions, IamUser},
    record::stamp,
};

/// Options of [`day_with_attack`].
#[derive(Debug, Clone)]
pub struct ScenarioOptions {
    /// The same seed gives the same records, apart from their time.
    pub seed: u64,
    /// The account, 12 digits.
    pub account: String,
    /// How many people the company has.
    pub people: usize,
    /// Days of ordinary activity; the attack is in the last.
    pub days: u32,
    /// The latest time of any record: a replay that ends "now" gives now.
    pub end: Timestamp,
}

impl Default for ScenarioOptions {
    fn default() -> Self {
        Self { seed: 1, account: "123456789012".into(), people: 20, days: 1, end: Timestamp::UNIX_EPOCH }
    }
}

/// Records of the whole scenario, and what is true of it.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// All records, in order of time.
    pub records: Vec<Value>,
    /// The company's IAM users with long-term keys, the victim among them: what a simulated IAM must hold.
    pub iam_users: Vec<IamUser>,
    /// The user whose key was stolen.
    pub victim: IamUser,
    /// Name of the user made as a backdoor.
    pub backdoor_user: String,
    /// `eventID`s of the attack's records.
    pub attack_event_ids: Vec<String>,
    /// When the attack begins.
    pub attack_start: Timestamp,
}

/// Seconds between the attack's last record and the scenario's end.
const AFTERMATH_SECONDS: i64 = 120;

/// Ordinary activity of `days` days up to `end`, with the attack in its last minutes.
pub fn day_with_attack(options: &ScenarioOptions) -> Scenario {
    let length = i64::from(options.days.max(1)) * 86_400;
    // Cut at UTC midnights so that working hours stay working hours wherever `end` lies in its day.
    let last_midnight = options.end.as_second().div_euclid(86_400) * 86_400;
    let start = time::plus_seconds(Timestamp::UNIX_EPOCH, last_midnight + 86_400 - length - 86_400);
    let company = Company::new(CompanyOptions {
        seed: options.seed,
        people: options.people,
        account: options.account.clone(),
        start,
        days: options.days.max(1) + 1,
        activity: 1.0,
    });
    let iam_users = company.iam_users();
    let victim = iam_users.iter().find(|u| u.name == "warehouse-sync").or(iam_users.first()).cloned();
    let attack_options = AttackOptions {
        seed: options.seed,
        account: options.account.clone(),
        start: options.end,
        ..AttackOptions::default()
    };
    let victim = victim.unwrap_or(IamUser {
        arn: format!("arn:aws:iam::{}:user/{}", options.account, attack_options.user),
        name: attack_options.user.clone(),
        principal_id: attack_options.principal_id.clone(),
        access_key_id: attack_options.access_key_id.clone(),
    });
    let attack_options = AttackOptions {
        user: victim.name.clone(),
        principal_id: victim.principal_id.clone(),
        access_key_id: victim.access_key_id.clone(),
        ..attack_options
    };
    let mut attack = compromised_key(&attack_options);
    let last = attack.last().and_then(event_time).unwrap_or(options.end);
    let back = time::seconds_between(last, time::plus_seconds(options.end, -AFTERMATH_SECONDS));
    for record in &mut attack {
        shift(record, back);
    }
    let attack_event_ids = attack.iter().filter_map(|r| r["eventID"].as_str().map(str::to_owned)).collect();
    let earliest = time::plus_seconds(options.end, -length);
    let ordinary = company.events().filter(|r| event_time(r).is_some_and(|t| t >= earliest && t <= options.end));
    let mut records: Vec<Value> = ordinary.chain(attack).collect();
    records.sort_by_key(event_time);
    Scenario {
        records,
        iam_users,
        victim,
        backdoor_user: attack_options.backdoor_user,
        attack_event_ids,
        attack_start: time::plus_seconds(options.end, back),
    }
}

/// The time of a record.
pub fn event_time(record: &Value) -> Option<Timestamp> {
    record["eventTime"].as_str().and_then(time::parse_event_time)
}

/// Moves a record by whole seconds: its own time and every time inside it that `CloudTrail` writes.
pub fn shift(record: &mut Value, seconds: i64) {
    const PATHS: [&str; 6] = [
        "/eventTime",
        "/userIdentity/sessionContext/attributes/creationDate",
        "/responseElements/credentials/expiration",
        "/responseElements/user/createDate",
        "/responseElements/accessKey/createDate",
        "/responseElements/role/createDate",
    ];
    for path in PATHS {
        let Some(field) = record.pointer_mut(path) else { continue };
        if let Some(t) = field.as_str().and_then(time::parse_event_time) {
            *field = json!(stamp(time::plus_seconds(t, seconds)));
        }
    }
}
