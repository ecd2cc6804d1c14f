//! The simulated company: its people and workloads, each with habits of their own, and their activity day by day.
//!
//! Habits are what behaviour models learn: which APIs in which mix, Regions, tools, networks, working hours.
//! They are not rigid: people travel, work late now and then, update and change tools, try services that are
//! new to them, take on new work for some days, and join the company in the middle of the time simulated.

use std::collections::VecDeque;

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use sentinel_model::{Timestamp, time};
use serde_json::Value;

use crate::{
    catalogue::{self, Api},
    record::{hex_digits, unique_id},
    schedule,
};

/// What to simulate.
#[derive(Debug, Clone)]
pub struct CompanyOptions {
    /// The same seed gives the same company and the same activity.
    pub seed: u64,
    /// How many people. Workloads come on top: about one for three people, and six more.
    pub people: usize,
    /// The account, 12 digits.
    pub account: String,
    /// First instant of the activity.
    pub start: Timestamp,
    /// Days of activity.
    pub days: u32,
    /// How busy everybody is, 1.0 being ordinary.
    pub activity: f64,
}

impl Default for CompanyOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            people: 30,
            account: "123456789012".into(),
            start: Timestamp::UNIX_EPOCH,
            days: 1,
            activity: 1.0,
        }
    }
}

/// An IAM user of the company and its long-term key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IamUser {
    /// User name.
    pub name: String,
    /// The user's ARN.
    pub arn: String,
    /// Unique id (`AIDA...`).
    pub principal_id: String,
    /// Access key id (`AKIA...EXAMPLE`).
    pub access_key_id: String,
}

/// What sort of work somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Developer,
    Administrator,
    Analyst,
    Pipeline,
    Workload,
    Integration,
}

impl Role {
    pub(crate) fn is_person(self) -> bool {
        matches!(self, Self::Developer | Self::Administrator | Self::Analyst)
    }

    pub(crate) fn catalogue(self) -> &'static [Api] {
        match self {
            Self::Developer => catalogue::DEVELOPER,
            Self::Administrator => catalogue::ADMINISTRATOR,
            Self::Analyst => catalogue::ANALYST,
            Self::Pipeline => catalogue::PIPELINE,
            Self::Workload => catalogue::WORKLOAD,
            Self::Integration => catalogue::INTEGRATION,
        }
    }
}

/// Somebody, or some workload, with habits.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    pub(crate) role: Role,
    /// Mail address, workload or user name.
    pub(crate) name: String,
    /// Name and path of the role that they take on; empty for IAM users.
    pub(crate) role_name: String,
    pub(crate) role_path: String,
    /// `AROA...` or `AIDA...`.
    pub(crate) unique_id: String,
    /// Long-term key; empty for those with role sessions.
    pub(crate) access_key_id: String,
    /// APIs used, most used first.
    pub(crate) habits: Vec<Api>,
    /// Regions, main one first.
    pub(crate) regions: Vec<&'static str>,
    /// User agents, main one first.
    pub(crate) agents: Vec<String>,
    /// Addresses worked from, main one first.
    pub(crate) addresses: Vec<String>,
    /// Hour at which the working day begins, UTC.
    pub(crate) begins: f64,
    /// Mean bouts of work a day.
    pub(crate) bouts: f64,
    /// Day on which they join.
    pub(crate) joins: u32,
}

/// The company.
#[derive(Debug, Clone)]
pub struct Company {
    options: CompanyOptions,
    actors: Vec<Actor>,
}

const REGIONS: &[&str] = &["us-east-1", "eu-central-1", "eu-west-1", "us-west-2", "ap-southeast-2"];
const FIRST_NAMES: &[&str] = &[
    "amara", "bjorn", "carmen", "dilan", "elena", "farid", "greta", "hiro", "ines", "jonas", "kavya", "lukas",
    "mirela", "noor", "oskar", "priya", "quentin", "rosa", "selim", "tuva", "ulrike", "vasco", "wanda", "ximena",
    "yusuf", "zofia",
];

impl Company {
    /// A company of the given size, with everybody's habits drawn from the seed.
    pub fn new(options: CompanyOptions) -> Self {
        let mut rng = generator(options.seed, 0, 0);
        let mut actors: Vec<Actor> = (0..options.people).map(|i| person(&mut rng, i, options.days)).collect();
        for i in 0..2 + options.people / 8 {
            actors.push(pipeline(&mut rng, i));
        }
        for i in 0..2 + options.people / 8 {
            actors.push(workload(&mut rng, i));
        }
        for i in 0..2 + options.people / 12 {
            actors.push(integration(&mut rng, i));
        }
        Self { options, actors }
    }

    /// The company's IAM users with long-term keys, as programs outside AWS use them.
    pub fn iam_users(&self) -> Vec<IamUser> {
        let users = self.actors.iter().filter(|a| a.role == Role::Integration);
        users
            .map(|a| IamUser {
                name: a.name.clone(),
                arn: format!("arn:aws:iam::{}:user/{}", self.options.account, a.name),
                principal_id: a.unique_id.clone(),
                access_key_id: a.access_key_id.clone(),
            })
            .collect()
    }

    /// The records of all days, in order of time.
    pub fn events(&self) -> impl Iterator<Item = Value> + use<> {
        Activity { company: self.clone(), day: 0, ready: VecDeque::new(), later: Vec::new() }
    }
}

/// Walks through the days, holding one day's records at a time.
struct Activity {
    company: Company,
    day: u32,
    ready: VecDeque<Value>,
    later: Vec<(Timestamp, Value)>,
}

impl Iterator for Activity {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let options = &self.company.options;
        while self.ready.is_empty() {
            if self.day >= options.days {
                return None;
            }
            let day_start = time::plus_seconds(options.start, i64::from(self.day) * 86_400);
            let day_end = time::plus_seconds(day_start, 86_400);
            let mut records = std::mem::take(&mut self.later);
            for (index, actor) in self.company.actors.iter().enumerate() {
                if actor.joins > self.day {
                    continue;
                }
                let mut rng = generator(options.seed, index as u64 + 1, u64::from(self.day) + 1);
                schedule::day(&mut rng, options, actor, day_start, &mut records);
            }
            // A bout that runs past midnight belongs after the next day's first records. The sort keeps
            // the order of equal times, so the output does not depend on the sort's whims.
            let (mut now, later): (Vec<_>, Vec<_>) = records.into_iter().partition(|(t, _)| *t < day_end);
            self.later = later;
            now.sort_by_key(|(t, _)| *t);
            self.ready = now.into_iter().map(|(_, record)| record).collect();
            self.day += 1;
        }
        self.ready.pop_front()
    }
}

/// A generator for one actor on one day: activity of one does not depend on how many others there are.
pub(crate) fn generator(seed: u64, actor: u64, day: u64) -> ChaCha8Rng {
    let mut bytes = [0_u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&actor.to_le_bytes());
    bytes[16..24].copy_from_slice(&day.to_le_bytes());
    ChaCha8Rng::from_seed(bytes)
}

fn person(rng: &mut ChaCha8Rng, index: usize, days: u32) -> Actor {
    let role = match index % 10 {
        0 => Role::Administrator,
        1 | 2 => Role::Analyst,
        _ => Role::Developer,
    };
    let role_name = match role {
        Role::Administrator => "AWSReservedSSO_AdministratorAccess_6f1c2a9d0b7e4583",
        Role::Analyst => "AWSReservedSSO_DataAnalyst_91be05d7c3a2f846",
        _ => "AWSReservedSSO_DeveloperAccess_2d8e7f40a1b6c935",
    };
    let main_region = *REGIONS[..3].choose(rng).unwrap_or(&"us-east-1");
    let mut regions = vec![main_region];
    for _ in 0..rng.random_range(0..3) {
        regions.push(REGIONS.choose(rng).copied().unwrap_or("us-east-1"));
    }
    let home = format!("2001:db8:{}:1::{:x}", hex_digits(rng, 3), rng.random_range(1..255));
    let office = format!("203.0.113.{}", rng.random_range(10..30));
    let remote = rng.random_bool(0.4);
    let addresses = if remote { vec![home, office] } else { vec![office, home] };
    let first = FIRST_NAMES[index % FIRST_NAMES.len()];
    let number = index / FIRST_NAMES.len();
    let suffix = if number == 0 { String::new() } else { (number + 1).to_string() };
    // One in eight joins later; nobody in the first week, nor in a simulation too short for it.
    let joins = if days > 10 && rng.random_bool(0.12) { rng.random_range(7..days) } else { 0 };
    Actor {
        role,
        name: format!("{first}{suffix}@acme.example"),
        role_name: role_name.into(),
        role_path: "/aws-reserved/sso.amazonaws.com/".into(),
        unique_id: unique_id(rng, "AROA"),
        access_key_id: String::new(),
        habits: habits(rng, role, 0.6),
        regions,
        agents: person_agents(rng, role),
        addresses,
        begins: if rng.random_bool(0.75) { rng.random_range(6.5..9.0) } else { rng.random_range(13.0..16.0) },
        bouts: rng.random_range(3.0..9.0),
        joins,
    }
}

fn pipeline(rng: &mut ChaCha8Rng, index: usize) -> Actor {
    let noun = ["platform", "orders", "billing", "search", "reports", "mobile"][index % 6];
    let agent = if index.is_multiple_of(2) {
        "APN/1.0 HashiCorp/1.0 Terraform/1.9.8 (+https://www.terraform.io) terraform-provider-aws/5.80.0 \
         aws-sdk-go-v2/1.32.6 ua/2.1 os/linux lang/go#1.23.3 md/GOOS#linux md/GOARCH#amd64"
    } else {
        "aws-cli/2.22.7 md/awscrt#0.23.1 ua/2.0 os/linux#6.8.0-1017-azure md/arch#x86_64 lang/python#3.12.6"
    };
    Actor {
        role: Role::Pipeline,
        name: "GitHubActions".into(),
        role_name: format!("{noun}-deploy-{index}"),
        role_path: "/".into(),
        unique_id: unique_id(rng, "AROA"),
        access_key_id: String::new(),
        habits: habits(rng, Role::Pipeline, 0.8),
        regions: vec![REGIONS[index % 3]],
        agents: vec![agent.into()],
        addresses: (0..12).map(|_| format!("198.51.100.{}", rng.random_range(1..250))).collect(),
        begins: 7.0,
        bouts: rng.random_range(4.0..12.0),
        joins: 0,
    }
}

fn workload(rng: &mut ChaCha8Rng, index: usize) -> Actor {
    let noun =
        ["orders-api", "billing-worker", "search-indexer", "report-builder", "session-cache", "media"][index % 6];
    let on_instance = index.is_multiple_of(3);
    let name = if on_instance { format!("i-0{}", hex_digits(rng, 16)) } else { format!("{noun}-{index}") };
    let agent = match index % 3 {
        0 => "aws-sdk-java/2.29.20 Linux/6.1.115-126.197.amzn2023.x86_64 OpenJDK_64-Bit_Server_VM/21.0.5 Java/21.0.5",
        1 => "Boto3/1.35.70 md/Botocore#1.35.70 ua/2.0 os/linux#5.10.227 md/arch#x86_64 lang/python#3.12.7",
        _ => "aws-sdk-js/3.699.0 ua/2.1 os/linux#5.10.227 lang/js md/nodejs#20.18.0 api/s3#3.699.0",
    };
    Actor {
        role: Role::Workload,
        name,
        role_name: format!("{noun}-role-{index}"),
        role_path: "/".into(),
        unique_id: unique_id(rng, "AROA"),
        access_key_id: String::new(),
        habits: habits(rng, Role::Workload, 0.4),
        regions: vec![REGIONS[index % 2]],
        agents: vec![agent.into()],
        addresses: (0..4).map(|_| format!("10.0.{}.{}", rng.random_range(0..8), rng.random_range(4..250))).collect(),
        begins: 0.0,
        bouts: rng.random_range(12.0..40.0),
        joins: 0,
    }
}

fn integration(rng: &mut ChaCha8Rng, index: usize) -> Actor {
    let noun = ["backup-agent", "metrics-exporter", "warehouse-sync", "partner-upload", "inventory"][index % 5];
    let name = if index < 5 { noun.to_owned() } else { format!("{noun}-{index}") };
    let agent = match index % 2 {
        0 => "Boto3/1.34.131 md/Botocore#1.34.131 ua/2.0 os/linux#5.15.0 md/arch#x86_64 lang/python#3.10.12",
        _ => "aws-sdk-go/1.55.5 (go1.22.5; linux; amd64)",
    };
    Actor {
        role: Role::Integration,
        name,
        role_name: String::new(),
        role_path: String::new(),
        unique_id: unique_id(rng, "AIDA"),
        access_key_id: unique_id(rng, "AKIA"),
        habits: habits(rng, Role::Integration, 0.4),
        regions: vec![REGIONS[index % 2]],
        agents: vec![agent.into()],
        addresses: vec![format!("198.51.100.{}", rng.random_range(1..250))],
        begins: 0.0,
        bouts: rng.random_range(8.0..24.0),
        joins: 0,
    }
}

/// The share of a role's APIs that one of them uses, in an order of their own.
fn habits(rng: &mut ChaCha8Rng, role: Role, share: f64) -> Vec<Api> {
    use rand::seq::SliceRandom;
    let mut apis: Vec<Api> = role.catalogue().iter().copied().filter(|_| rng.random_bool(share)).collect();
    if apis.is_empty() {
        apis.push(role.catalogue()[0]);
    }
    apis.shuffle(rng);
    // Everyday work is mostly reading: writes move behind the reads drawn before them.
    apis.sort_by_cached_key(|a| u8::from(!a.read_only && rng.random_bool(0.6)));
    apis
}

fn person_agents(rng: &mut ChaCha8Rng, role: Role) -> Vec<String> {
    let browser = [
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
        "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0",
    ]
    .choose(rng)
    .copied()
    .unwrap_or("Mozilla/5.0");
    let cli = format!(
        "aws-cli/2.{}.{} md/awscrt#0.22.0 ua/2.0 os/macos#24.1.0 md/arch#arm64 lang/python#3.12.6 md/prompt#off",
        rng.random_range(15..23),
        rng.random_range(0..20)
    );
    let tool = match role {
        Role::Administrator => {
            "APN/1.0 HashiCorp/1.0 Terraform/1.9.5 (+https://www.terraform.io) terraform-provider-aws/5.76.0"
        }
        Role::Analyst => "Boto3/1.35.62 md/Botocore#1.35.62 ua/2.0 os/macos#24.1.0 lang/python#3.11.9",
        _ => "aws-sdk-js/3.692.0 ua/2.1 os/darwin#24.1.0 lang/js md/nodejs#22.11.0",
    };
    let mut agents = vec![browser.to_owned(), cli];
    if rng.random_bool(0.5) {
        agents.swap(0, 1);
    }
    if rng.random_bool(0.5) {
        agents.push(tool.into());
    }
    agents
}
