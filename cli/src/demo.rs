//! `sentinel demo`: an attack replayed in a simulated account, through every stage, with the result to look at.
//!
//! A day of a simulated company's activity that ends now, with a stolen access key at work in its last
//! minutes. The account behind the IAM port is a simulated one; only there may a replay act.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use sentinel_durable::{
    Clock, SystemClock,
    worker::{self, Settings},
};
use sentinel_ingest::Input;
use sentinel_model::{
    Channel, Incident, Level, Timestamp,
    response::{Mode, Response, ResponseState},
    time,
};
use sentinel_respond::iam::SimulatedUser;
use sentinel_simulator::{Scenario, ScenarioOptions, day_with_attack, scenario};
use sentinel_state::{alerts::ListAlerts, incidents::ListIncidents, responses::ListResponses};
use sentinel_telemetry::Metrics;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    args::{AccountPort, DemoArgs},
    config::{Config, RespondConfig},
    folder::{self, LastStart},
    pipeline::{Account, Pipeline},
    scan::output::clean,
    serve,
};

/// The simulated account's id, one of those that AWS's documentation uses.
const ACCOUNT: &str = "123456789012";
/// Seconds between an event and its arrival, as by EventBridge.
const DELAY_SECONDS: i64 = 5;
/// Records handed to ingest at once.
const CHUNK: usize = 500;
/// How long the demonstration waits for respond to come to rest.
const PATIENCE: Duration = Duration::from_mins(2);

/// What the demonstration found, for its last lines and its exit status.
struct Outcome {
    incidents: Vec<Incident>,
    responses: Vec<Response>,
    victim_key: String,
}

/// Replays, prints what happened stage by stage, then serves the dashboard unless told to end.
pub(crate) async fn run(args: DemoArgs) -> Result<ExitCode> {
    sentinel_telemetry::init_logs(sentinel_telemetry::LogFormat::Text, "warn")?;
    let temporary =
        if args.data.is_none() { Some(tempfile::tempdir().context("making a temporary folder")?) } else { None };
    let data: PathBuf = match (&args.data, &temporary) {
        (Some(path), _) => path.clone(),
        (None, Some(folder)) => folder.path().to_owned(),
        (None, None) => bail!("no folder for the data"),
    };
    if data.join("sentinel.db").exists() {
        bail!("{} holds data already: name a new folder with --data", data.display());
    }
    let metrics = Metrics::install()?;
    let _held = folder::hold(&data)?;
    LastStart::new(AccountPort::Simulated, None)?.write(&data)?;
    let config = Config {
        respond: RespondConfig {
            mode: args.mode.into(),
            own_role: Some(format!("arn:aws:iam::{ACCOUNT}:role/CloudSentinelRespond")),
            ..RespondConfig::default()
        },
        ..Config::default()
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let pipeline = Arc::new(Pipeline::open(&data, &config, Account::Simulated, Arc::clone(&clock))?);

    let scenario =
        day_with_attack(&ScenarioOptions { account: ACCOUNT.into(), end: clock.now(), ..ScenarioOptions::default() });
    println!("CloudSentinel demonstration: a SIMULATED AWS account ({ACCOUNT}); nothing here touches a real one.\n");
    populate(&pipeline, &scenario).await?;
    replay(&pipeline, &scenario).await?;
    let outcome = settle(&pipeline, &scenario).await?;
    tell(&pipeline, &outcome, args.mode.into()).await?;
    let good = check(&outcome, args.mode.into());
    if args.once {
        println!(
            "\n{}",
            if good {
                "The demonstration came out as it should."
            } else {
                "The demonstration did NOT come out as it should."
            }
        );
        return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    println!();
    show(&pipeline, &args, &data, metrics).await?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Puts the company's IAM users into the simulated account: the victim with a second key, which must stay
/// untouched, and the backdoor user that the attack makes.
async fn populate(pipeline: &Pipeline, scenario: &Scenario) -> Result<()> {
    let iam = pipeline.simulated.as_ref().context("the demonstration needs the simulated account")?;
    for user in &scenario.iam_users {
        let mut keys = vec![user.access_key_id.clone()];
        if user.name == scenario.victim.name {
            keys.push(spare_key(&user.access_key_id));
        }
        let user =
            SimulatedUser { name: user.name.clone(), path: path_of(&user.arn), keys, ..SimulatedUser::default() };
        iam.add_user(ACCOUNT, &user).await?;
    }
    let made = scenario.records.iter().filter(|r| r["eventName"] == "CreateAccessKey");
    let keys = made
        .filter_map(|r| r.pointer("/responseElements/accessKey"))
        .filter(|k| k["userName"] == scenario.backdoor_user.as_str())
        .filter_map(|k| k["accessKeyId"].as_str().map(str::to_owned))
        .collect();
    let backdoor = SimulatedUser { name: scenario.backdoor_user.clone(), keys, ..SimulatedUser::default() };
    iam.add_user(ACCOUNT, &backdoor).await?;
    Ok(())
}

/// A second key id beside a user's first.
fn spare_key(first: &str) -> String {
    format!("AKIASPARE{}", &first[first.len().saturating_sub(11)..])
}

/// The path in an IAM user's ARN: `/` or `/team/`.
fn path_of(arn: &str) -> String {
    let inside = arn.split_once(":user").map_or("/", |(_, rest)| rest);
    inside.rsplit_once('/').map_or_else(|| "/".into(), |(path, _)| format!("{path}/"))
}

/// Hands the records to ingest in the order and with the delay in which they would come, stage after stage.
async fn replay(pipeline: &Pipeline, scenario: &Scenario) -> Result<()> {
    let start = Instant::now();
    let (mut accepted, mut messages) = (0, 0);
    for chunk in scenario.records.chunks(CHUNK) {
        let received_at = chunk.last().and_then(scenario::event_time).unwrap_or_else(|| pipeline.clock.now());
        let mut text = Vec::new();
        for record in chunk {
            serde_json::to_writer(&mut text, record)?;
            text.push(b'\n');
        }
        let mut input = Input::new("replay", text.as_slice(), Channel::Simulated { account: ACCOUNT.into() });
        input.received_at = Some(time::plus_seconds(received_at, DELAY_SECONDS));
        accepted += pipeline.ingest.accept(input).await?.accepted;
        messages +=
            worker::drain_all(pipeline.database.queue().as_ref(), &pipeline.handlers(), &Settings::default()).await?;
    }
    println!("ingest   {accepted} CloudTrail records of one day accepted, archived and indexed");
    println!("detect   {} rules and a behaviour model over each of them", pipeline.report.rules);
    println!("         {messages} messages between stages in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Lets time pass until no response is on its way.
async fn settle(pipeline: &Pipeline, scenario: &Scenario) -> Result<Outcome> {
    let end = Instant::now() + PATIENCE;
    let (table, queue, timer) = (pipeline.database.table(), pipeline.database.queue(), pipeline.database.timer());
    loop {
        worker::chores(table.as_ref(), queue.as_ref(), timer.as_ref()).await;
        worker::drain_all(queue.as_ref(), &pipeline.handlers(), &Settings::default()).await?;
        let (found, _) = pipeline.responses.list(&ListResponses { limit: 100, ..ListResponses::default() }).await?;
        let responses: Vec<Response> = found.into_iter().map(|s| s.response).collect();
        let moving = responses
            .iter()
            .any(|r| matches!(r.state, ResponseState::Approved | ResponseState::Acting | ResponseState::Verifying));
        if !moving {
            let (incidents, _) =
                pipeline.incidents.list(&ListIncidents { limit: 100, ..ListIncidents::default() }).await?;
            let incidents = incidents.into_iter().map(|s| s.incident).collect();
            return Ok(Outcome { incidents, responses, victim_key: scenario.victim.access_key_id.clone() });
        }
        if Instant::now() > end {
            bail!("the responses did not come to rest within {} seconds", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn tell(pipeline: &Pipeline, outcome: &Outcome, mode: Mode) -> Result<()> {
    let wanted = ListAlerts { min_level: Some(Level::Low), limit: 200, ..ListAlerts::default() };
    let (mut alerts, _) = pipeline.alerts.list(&wanted).await?;
    alerts.reverse();
    println!("enrich   {} alerts of level low or above, {} incidents", alerts.len(), outcome.incidents.len());
    for (stored, _) in &alerts {
        let a = &stored.alert;
        println!(
            "         {} {:<8} {:.2}  {}  ({})",
            clock_time(a.time),
            a.level,
            a.score,
            clean(&a.title),
            clean(&a.principal.id)
        );
    }
    for incident in &outcome.incidents {
        println!("         INCIDENT {} {}: {}", incident.incident_id, incident.level, clean(&incident.title));
        for sentence in &incident.summary {
            println!("           {}", clean(sentence));
        }
    }
    println!("respond  mode {}", mode.as_str());
    for r in &outcome.responses {
        println!("         {:?} of {} ({}): {:?}", r.kind, r.access_key_id, clean(&r.principal), r.state);
        for reason in &r.reasons {
            println!("           {}", clean(reason));
        }
        for step in &r.steps {
            println!(
                "           {} {:<10} {:<8} {}",
                clock_time(step.at),
                step.step,
                step.outcome,
                clean(&step.detail)
            );
        }
    }
    Ok(())
}

fn clock_time(t: Timestamp) -> String {
    t.strftime("%H:%M:%S").to_string()
}

/// Whether the incident is there and the stolen key stands where the mode should have left it.
fn check(outcome: &Outcome, mode: Mode) -> bool {
    let wanted = match mode {
        Mode::Observe => ResponseState::Observed,
        Mode::Approve => ResponseState::AwaitingApproval,
        Mode::Automatic => ResponseState::Contained,
    };
    let answered = outcome.responses.iter().any(|r| r.access_key_id == outcome.victim_key && r.state == wanted);
    let told = outcome.incidents.iter().any(|i| i.level >= Level::High && i.principals.len() >= 2);
    answered && told
}

/// Serves the dashboard over what was replayed, until interrupted.
async fn show(pipeline: &Arc<Pipeline>, args: &DemoArgs, data: &Path, metrics: Metrics) -> Result<()> {
    let listener = serve::listen(args.listen).await?;
    let (stopper, stop) = watch::channel(false);
    let mut tasks = JoinSet::new();
    pipeline.start(&mut tasks, &stop);
    tasks.spawn(serve::backtests(pipeline).run(serve::BACKTESTS, stop.clone()));
    serve::first_administrator(pipeline, data).await?;
    println!("Ctrl-C ends it.");
    let served = serve::dashboard(pipeline, listener, metrics, true, serve::interrupted()).await;
    stopper.send_replace(true);
    while tasks.join_next().await.is_some() {}
    served
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_users_are_read_from_their_arns() {
        assert_eq!(path_of("arn:aws:iam::123456789012:user/bob"), "/");
        assert_eq!(path_of("arn:aws:iam::123456789012:user/team/a/bob"), "/team/a/");
    }

    #[test]
    fn a_spare_key_differs_and_has_the_length_of_a_key() {
        let first = "AKIAIOSFODNN7EXAMPLE";
        assert_ne!(spare_key(first), first);
        assert_eq!(spare_key(first).len(), 20);
    }
}
