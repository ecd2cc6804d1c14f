//! The command line of `sentinel`.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use sentinel_detect::rules::Log;
use sentinel_model::{Level, response::Mode};

/// Finds and stops attacks on AWS accounts.
#[derive(Debug, Parser)]
#[command(name = "sentinel", version, about = "Finds and stops attacks on AWS accounts", propagate_version = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hunt in files and folders of logs and print alerts.
    Scan(ScanArgs),
    /// Replay logs through two rule sets and show, rule by rule, which alerts would be gained and lost.
    Backtest(BacktestArgs),
    /// Run the pipeline, the API and the web page on this machine.
    Serve(ServeArgs),
    /// Replay an attack in a simulated account through all stages and serve the result.
    Demo(DemoArgs),
    /// Show and decide what was done, or would be done, about alerts.
    Respond(RespondArgs),
    /// Help a user who cannot log in.
    User(UserArgs),
    /// Check, list and test Sigma rules, and show what they cover.
    Rules(RulesArgs),
    /// Write a simulated company's CloudTrail, with or without an attack in it.
    Simulate(SimulateArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs: one JSON object a line.
    Ndjson,
}

fn level(text: &str) -> Result<Level, String> {
    text.parse().map_err(|e: sentinel_model::level::UnknownLevel| e.to_string())
}

/// A Region's name, as `eu-central-1`.
fn region(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('-').collect();
    let letters = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    let fits = match parts.split_last() {
        Some((number, words)) => {
            (2..=4).contains(&words.len())
                && words.iter().all(letters)
                && !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
        }
        None => false,
    };
    if fits { Ok(text.to_owned()) } else { Err(format!("{text:?} is no Region, such as eu-central-1")) }
}

#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    /// Files and folders of logs (JSON, NDJSON, gzip; found from content), or - for standard input.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// How alerts are printed.
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// Least level printed: informational, low, medium, high, critical.
    #[arg(long, value_parser = level, default_value = "low")]
    pub(crate) min_level: Level,
    /// A folder of Sigma rules to use beside our own (repeatable).
    #[arg(long, value_name = "DIR")]
    pub(crate) rules: Vec<PathBuf>,
    /// Leave our own rules out.
    #[arg(long)]
    pub(crate) no_default_rules: bool,
    /// What rules leave open and what raises no alert.
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    /// Score events with the behaviour model too.
    #[arg(long)]
    pub(crate) models: bool,
    /// Print incidents (alerts grouped) instead of alerts.
    #[arg(long)]
    pub(crate) incidents: bool,
    /// A list of known bad or suspicious addresses, networks, keys and agents.
    #[arg(long, value_name = "FILE")]
    pub(crate) indicators: Option<PathBuf>,
    /// Write the summary as one JSON object.
    #[arg(long, value_name = "FILE")]
    pub(crate) summary: Option<PathBuf>,
    /// Threads that work on it; as many as the machine has when not told. The result is the same.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Most decompressed bytes read of one file, in GiB.
    #[arg(long, value_name = "GIB", default_value_t = 64)]
    pub(crate) max_file_gib: u64,
}

#[derive(Debug, Args)]
pub(crate) struct BacktestArgs {
    /// Files and folders of logs (JSON, NDJSON, gzip; found from content), or - for standard input.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// A folder of Sigma rules to try (repeatable).
    #[arg(long, required = true, value_name = "DIR")]
    pub(crate) rules: Vec<PathBuf>,
    /// A folder of the Sigma rules that they are compared with (repeatable); our own when none is named.
    #[arg(long, value_name = "DIR")]
    pub(crate) baseline: Vec<PathBuf>,
    /// The rules to try come on top of the baseline, instead of in its place.
    #[arg(long)]
    pub(crate) on_top: bool,
    /// Our own rules count on both sides, beside the folders that are named.
    #[arg(long)]
    pub(crate) default_rules: bool,
    /// How the result is printed.
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: ReportFormat,
    /// What rules leave open and what raises no alert, on both sides.
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    /// A list of known bad or suspicious addresses, networks, keys and agents.
    #[arg(long, value_name = "FILE")]
    pub(crate) indicators: Option<PathBuf>,
    /// Write the summary as one JSON object: that of a scan with the rules to try.
    #[arg(long, value_name = "FILE")]
    pub(crate) summary: Option<PathBuf>,
    /// Threads that work on it; as many as the machine has when not told. The result is the same.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Most decompressed bytes read of one file, in GiB.
    #[arg(long, value_name = "GIB", default_value_t = 64)]
    pub(crate) max_file_gib: u64,
}

/// An operator's own files beside rules.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SiteArgs {
    /// Values for the placeholders of rules (YAML, or TOML by its extension): trusted accounts, networks and the like.
    #[arg(long, value_name = "FILE")]
    pub(crate) placeholders: Option<PathBuf>,
    /// Exceptions (YAML): what raises no alert, with reasons.
    #[arg(long, value_name = "FILE")]
    pub(crate) exceptions: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccountPort {
    /// No account is connected: plans are recorded, nothing is done.
    None,
    /// A simulated account, kept with the data.
    Simulated,
    /// The real account that the AWS credentials of this process belong to.
    Aws,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Folder that holds everything; made when it is not there.
    #[arg(long, default_value = ".sentinel")]
    pub(crate) data: PathBuf,
    /// Settings (TOML); DATA/sentinel.toml when that is there.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder watched for log files; DATA/inbox by default.
    #[arg(long, value_name = "DIR")]
    pub(crate) watch: Option<PathBuf>,
    /// The account that responses act on.
    #[arg(long, value_enum, default_value = "none")]
    pub(crate) account: AccountPort,
    /// Regions whose CloudTrail is asked for new events every minute, with the AWS credentials of this process
    /// (repeatable, or separated by commas). IAM's events are in us-east-1.
    #[arg(long, value_name = "REGION", value_delimiter = ',', value_parser = region)]
    pub(crate) poll: Vec<String>,
    /// What rules leave open and what raises no alert; before what the settings name.
    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Folder for the data; a new temporary one by default.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Print a summary and end instead of serving.
    #[arg(long)]
    pub(crate) once: bool,
    /// How far responses may go by themselves.
    #[arg(long, value_enum, default_value = "automatic")]
    pub(crate) mode: ModeArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// Record what would be done.
    Observe,
    /// Ask a person first.
    Approve,
    /// Act where every guardrail holds.
    Automatic,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Observe => Self::Observe,
            ModeArg::Approve => Self::Approve,
            ModeArg::Automatic => Self::Automatic,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct RespondArgs {
    /// Folder that holds the data of `serve` or `demo`.
    #[arg(long, default_value = ".sentinel", global = true)]
    pub(crate) data: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub(crate) action: RespondAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RespondAction {
    /// List responses, newest first.
    List {
        /// Only those in this state, e.g. `awaiting_approval`.
        #[arg(long)]
        state: Option<String>,
        /// How they are printed.
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Show one response with its audit trail, as JSON.
    Show {
        /// The response's id.
        id: String,
    },
    /// Approve a response that waits for it.
    Approve(DecideArgs),
    /// Deny a response that waits for approval.
    Deny(DecideArgs),
    /// Undo a containment.
    Undo(DecideArgs),
    /// Stop every action at once (on), or let them go on (off).
    KillSwitch {
        /// on or off.
        #[arg(value_parser = ["on", "off"])]
        state: String,
        /// Who decides.
        #[command(flatten)]
        by: WhoArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DecideArgs {
    /// The response's id.
    pub(crate) id: String,
    /// Why.
    #[arg(long)]
    pub(crate) note: Option<String>,
    /// Who decides.
    #[command(flatten)]
    pub(crate) by: WhoArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WhoArgs {
    /// An administrator of the dashboard; the password is asked for.
    #[arg(long = "as", value_name = "USER")]
    pub(crate) user: String,
    /// Read the password from this file instead (- for standard input).
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct UserArgs {
    /// Folder that holds the data of `serve` or `demo`; whoever may write it may do this.
    #[arg(long, default_value = ".sentinel", global = true)]
    pub(crate) data: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub(crate) action: UserAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserAction {
    /// Give a user a new random password, printed once, which must be changed at the next login.
    ResetPassword {
        /// The user's name.
        name: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people.
    Text,
    /// For programs: one JSON object.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct RulesArgs {
    /// What to do.
    #[command(subcommand)]
    pub(crate) action: RulesAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RulesAction {
    /// Load rules and say which are refused, where and why; the exit status is 1 when one is.
    Check {
        /// The rules.
        #[command(flatten)]
        rules: RuleFiles,
        /// How the report is printed.
        #[arg(long, value_enum, default_value = "text")]
        format: ReportFormat,
    },
    /// List rules: id, level, status, ATT&CK, title, source.
    List {
        /// The rules.
        #[command(flatten)]
        rules: RuleFiles,
        /// How the list is printed.
        #[arg(long, value_enum, default_value = "text")]
        format: ReportFormat,
    },
    /// Run the tests beside the rules.
    Test {
        /// Folders of rules; our own when none is named.
        dirs: Vec<PathBuf>,
    },
    /// Show technique by technique of MITRE ATT&CK which rules cover it, with the logs one has.
    Coverage(CoverageArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RuleFiles {
    /// Folders of rules; our own when none is named.
    pub(crate) dirs: Vec<PathBuf>,
    /// What rules leave open and what raises no alert.
    #[command(flatten)]
    pub(crate) site: SiteArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CoverageArgs {
    /// The logs there are, separated by commas: management, management-read, data:s3, network, insights ...; all of them
    /// when none is named.
    #[arg(long, value_name = "LOG", value_delimiter = ',', value_parser = log)]
    pub(crate) sources: Vec<Log>,
    /// A folder of Sigma rules to count beside our own (repeatable).
    #[arg(long, value_name = "DIR")]
    pub(crate) rules: Vec<PathBuf>,
    /// Leave our own rules out.
    #[arg(long)]
    pub(crate) no_default_rules: bool,
    /// How it is printed.
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) format: CoverageFormat,
    /// Write a layer for the ATT&CK Navigator too.
    #[arg(long, value_name = "FILE")]
    pub(crate) navigator: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CoverageFormat {
    /// For people.
    Table,
    /// For programs: one JSON object.
    Json,
    /// For documentation.
    Markdown,
}

fn log(text: &str) -> Result<Log, String> {
    text.parse()
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// Seed: the same one gives the same records.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// People in the company.
    #[arg(long, default_value_t = 50)]
    pub(crate) people: usize,
    /// Days of activity.
    #[arg(long, default_value_t = 7)]
    pub(crate) days: u32,
    /// First instant (RFC 3339).
    #[arg(long, default_value = "2026-01-05T00:00:00Z")]
    pub(crate) start: jiff::Timestamp,
    /// Put the demonstration's attack at the end.
    #[arg(long)]
    pub(crate) attack: bool,
}
