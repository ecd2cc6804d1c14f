//! `sentinel respond`: what was done about alerts, and people's decisions, from the command line.
//!
//! Works on the data folder of a running `serve` as well as of a stopped one: decisions are carried out by
//! whichever process takes them from the queue first, this one included.

use std::{
    io::{Read, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use sentinel_dashboard::auth::accounts;
use sentinel_durable::{
    Clock, Stage, SystemClock,
    worker::{self, Settings},
};
use sentinel_model::response::ResponseState;
use sentinel_respond::Approver;
use sentinel_state::{
    responses::{ListResponses, StoredResponse},
    users::Role,
};

use crate::{
    args::{AccountPort, DecideArgs, Format, RespondAction, RespondArgs, WhoArgs},
    folder::{self, LastStart},
    pipeline::{Account, Pipeline},
    scan::output::{clean, new_table},
};

/// How long a decision is followed before the command ends and leaves the rest to `serve`.
const FOLLOW: Duration = Duration::from_mins(1);
const LISTED: usize = 200;

/// Carries out a command.
pub(crate) async fn run(args: RespondArgs) -> Result<()> {
    folder::check(&args.data)?;
    let last = LastStart::read(&args.data)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let account = match last.account() {
        AccountPort::None => Account::None,
        AccountPort::Simulated => Account::Simulated,
        // Whoever decides needs no rights in the account: the server has them.
        AccountPort::Aws => Account::Elsewhere,
    };
    let pipeline = Pipeline::open(&args.data, &last.settings(&args.data)?, account, clock)?;
    let carry_out = last.account() != AccountPort::Aws;
    match args.action {
        RespondAction::List { state, format } => list(&pipeline, state.as_deref(), format).await,
        RespondAction::Show { id } => show(&pipeline, &id).await,
        RespondAction::Approve(decision) => decide(&pipeline, &decision, Kind::Approve, carry_out).await,
        RespondAction::Deny(decision) => decide(&pipeline, &decision, Kind::Deny, carry_out).await,
        RespondAction::Undo(decision) => decide(&pipeline, &decision, Kind::Undo, carry_out).await,
        RespondAction::KillSwitch { state, by } => {
            let by = approver(&pipeline, &by).await?;
            let on = state == "on";
            pipeline.respond.set_kill_switch(on, &by.username, None).await?;
            println!("The kill switch is {state}: {}.", if on { "no action is carried out" } else { "actions go on" });
            Ok(())
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Approve,
    Deny,
    Undo,
}

fn state_name(state: ResponseState) -> String {
    serde_json::to_value(state).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

async fn list(pipeline: &Pipeline, state: Option<&str>, format: Format) -> Result<()> {
    let state = state
        .map(|s| serde_json::from_value(s.into()).with_context(|| format!("{s} is no state of a response")))
        .transpose()?;
    let wanted = ListResponses { state, limit: LISTED, ..ListResponses::default() };
    let (found, more) = pipeline.responses.list(&wanted).await?;
    let mut out = std::io::stdout().lock();
    if format == Format::Ndjson {
        for stored in &found {
            serde_json::to_writer(&mut out, &stored.response)?;
            out.write_all(b"\n")?;
        }
        return Ok(());
    }
    let mut table = new_table(["Response", "State", "Key", "Principal", "Account", "Asked", "Decided by"]);
    for StoredResponse { response: r, .. } in &found {
        table.add_row([
            r.response_id.clone(),
            state_name(r.state),
            clean(&r.access_key_id),
            clean(&r.principal),
            r.account.clone(),
            r.requested_at.to_string(),
            r.decided_by.clone().unwrap_or_default(),
        ]);
    }
    writeln!(out, "{table}")?;
    if more.is_some() {
        writeln!(out, "The newest {LISTED}; narrow by --state to see others.")?;
    }
    Ok(())
}

async fn find(pipeline: &Pipeline, id: &str) -> Result<StoredResponse> {
    pipeline.responses.find(id).await?.with_context(|| format!("there is no response {id}"))
}

async fn show(pipeline: &Pipeline, id: &str) -> Result<()> {
    let stored = find(pipeline, id).await?;
    println!("{}", serde_json::to_string_pretty(&stored.response)?);
    Ok(())
}

async fn decide(pipeline: &Pipeline, args: &DecideArgs, kind: Kind, carry_out: bool) -> Result<()> {
    let by = approver(pipeline, &args.by).await?;
    let note = args.note.as_deref();
    match kind {
        Kind::Approve => pipeline.respond.approve(&args.id, &by, note).await?,
        Kind::Deny => pipeline.respond.deny(&args.id, &by, note).await?,
        Kind::Undo => pipeline.respond.undo(&args.id, &by, note).await?,
    };
    let response = follow(pipeline, &args.id, carry_out).await?.response;
    println!("{} is {}.", response.response_id, state_name(response.state));
    if let Some(step) = response.steps.last() {
        println!("{}", clean(&step.detail));
    }
    Ok(())
}

/// Follows the response until it rests, or for a minute; works the respond queue meanwhile, unless only the
/// server has the rights to carry decisions out.
async fn follow(pipeline: &Pipeline, id: &str, carry_out: bool) -> Result<StoredResponse> {
    let handler = pipeline.respond.clone() as Arc<dyn worker::Handler>;
    let queue = pipeline.database.queue();
    let table = pipeline.database.table();
    let timer = pipeline.database.timer();
    let end = Instant::now() + FOLLOW;
    loop {
        worker::chores(table.as_ref(), queue.as_ref(), timer.as_ref()).await;
        if carry_out {
            worker::run_once(queue.as_ref(), Stage::Respond, &handler, &Settings::default()).await?;
        }
        let stored = find(pipeline, id).await?;
        let moving = matches!(
            stored.response.state,
            ResponseState::Approved | ResponseState::Acting | ResponseState::Verifying | ResponseState::Undoing
        );
        if !moving || Instant::now() > end {
            return Ok(stored);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Logs the administrator in.
async fn approver(pipeline: &Pipeline, who: &WhoArgs) -> Result<Approver> {
    let password = match &who.password_file {
        Some(path) if path.as_os_str() == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("reading the password")?;
            text
        }
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?,
        None => rpassword::prompt_password(format!("Password of {}: ", who.user)).context("asking for the password")?,
    };
    let password = password.trim_end_matches(['\r', '\n']);
    let user = accounts::log_in(&pipeline.users, &who.user, password, pipeline.clock.now()).await?;
    if user.must_change_password {
        bail!("{} must log in to the dashboard and change the password first", user.username);
    }
    if user.role != Role::Admin {
        bail!("{} is no administrator", user.username);
    }
    Ok(Approver { username: user.username, role: user.role, principals: user.principals })
}
