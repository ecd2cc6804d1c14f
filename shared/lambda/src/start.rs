//! The start of a function: logs, metrics, settings and the clients' configuration, each once a process.

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use sentinel_aws::{
    SdkConfig,
    budget::Budget,
    sdk::{self, Credentials, Trust},
};
use sentinel_durable::{Clock, SystemClock, worker::Settings};
use sentinel_telemetry::{LogFormat, TelemetryError, init_logs};

use crate::{Emf, Env};

/// The log filter when none is set.
const DEFAULT_FILTER: &str = "info";
/// The variable that sets it.
const FILTER: &str = "SENTINEL_LOG";

/// The variable that sets the wait before a failed message comes again.
const RETRY: &str = "SENTINEL_RETRY_SECONDS";
/// That wait when none is set: up to 15, 30, 60 and 120 seconds.
const RETRY_SECONDS: u32 = 15;

/// What a main wires its stage with.
#[derive(Clone)]
pub struct Start {
    /// The stage, as logs and metrics name it.
    pub stage: &'static str,
    /// What every AWS client is made from.
    pub sdk: SdkConfig,
    /// Time left of the current invocation; set at the start of each.
    pub budget: Budget,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Settings.
    pub env: Env,
    pub(crate) metrics: Emf,
    /// How failed messages are put off.
    pub(crate) retries: Settings,
}

/// Starts logging (JSON lines) and counting, and loads the SDK's configuration. Once a process. A wrong
/// `SENTINEL_LOG` is told with the other mistakes when settings are read.
pub async fn start(stage: &'static str) -> Result<Start> {
    let mut env = Env::process();
    let (trust, credentials) = (trust(&mut env)?, credentials(&mut env)?);
    start_logs(&mut env)?;
    let retries = retries(&mut env);
    let metrics = Emf::new(stage);
    metrics::set_global_recorder(metrics.clone()).context("starting metrics")?;
    sentinel_telemetry::metrics::describe();
    let budget = Budget::unlimited();
    let sdk = sdk::load(budget.clone(), trust, credentials).await;
    Ok(Start { stage, sdk, budget, clock: Arc::new(SystemClock), env, metrics, retries })
}

/// The four waits between a message's five receives double from `SENTINEL_RETRY_SECONDS`, so that together they
/// outlast a short outage of what a stage needs. A wrong value is told with the other mistakes.
fn retries(env: &mut Env) -> Settings {
    let seconds = env.read(|e| e.number(RETRY, RETRY_SECONDS)).unwrap_or_else(|e| {
        e.0.into_iter().filter(|mistake| mistake.starts_with(RETRY)).for_each(|mistake| env.note(mistake));
        RETRY_SECONDS
    });
    Settings { retry_base_seconds: seconds.max(1), ..Settings::default() }
}

/// A function talks to AWS' own endpoints, whose certificates Amazon's roots sign, unless its environment names
/// another endpoint. In China's Regions other authorities sign too.
fn trust(env: &mut Env) -> Result<Trust> {
    let (endpoint, region) = env.read(|e| (e.text_or("AWS_ENDPOINT_URL", ""), e.text_or("AWS_REGION", "")))?;
    let elsewhere = endpoint.starts_with("https:") || region.starts_with("cn-");
    Ok(if elsewhere { Trust::Machine } else { Trust::Amazon })
}

/// Lambda gives a function its role's credentials in the environment (Lambda Developer Guide, "Defined runtime
/// environment variables"). Whoever starts a function elsewhere may have them elsewhere.
fn credentials(env: &mut Env) -> Result<Credentials> {
    let key = env.read(|e| (e.text_or("AWS_ACCESS_KEY_ID", ""), e.text_or("AWS_SECRET_ACCESS_KEY", "")))?;
    let there = !key.0.is_empty() && !key.1.is_empty();
    Ok(if there { Credentials::Environment } else { Credentials::Anywhere })
}

fn start_logs(env: &mut Env) -> Result<()> {
    let filter = env.read(|e| e.text_or(FILTER, DEFAULT_FILTER))?;
    match init_logs(LogFormat::Json, &filter) {
        Err(TelemetryError::Filter { filter, reason }) => {
            env.note(format!("{FILTER} is no log filter: {filter:?} ({reason})"));
            init_logs(LogFormat::Json, DEFAULT_FILTER)?;
        }
        other => other?,
    }
    Ok(())
}

/// How a main ends: an error goes to the log as one line before the process exits with failure, which Lambda
/// reports as a failed start.
pub fn exit(result: Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let told = format!("{error:#}");
    tracing::error!(error = told, "the function cannot start");
    ExitCode::FAILURE
}
