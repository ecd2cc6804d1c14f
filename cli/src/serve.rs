//! `sentinel serve`: the pipeline, the API and the page on one machine, until it is told to stop.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use sentinel_dashboard::{Dashboard, Info, auth::accounts};
use sentinel_durable::{Clock, SystemClock};
use sentinel_model::time;
use sentinel_replay::Runner;
use sentinel_search::DocumentKind;
use sentinel_state::{backtests::Backtests, signing::TableSigningKeys};
use sentinel_telemetry::{LogFormat, Metrics};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::{
    args::{AccountPort, ServeArgs, SiteArgs},
    cloud::Cloud,
    config::{self, Config},
    folder::{self, LastStart},
    http,
    pipeline::{Account, Pipeline},
    watch::Watch,
};

/// Pause between two rounds of forgetting what has expired.
const CLEANING: Duration = Duration::from_hours(1);
/// Pause between two looks for responses that got stuck.
const RESUMING: Duration = Duration::from_mins(1);
/// Pause between two looks at the operators' rules.
const RULES: Duration = Duration::from_secs(30);

/// Pause between two looks for backtests that wait.
pub(crate) const BACKTESTS: Duration = Duration::from_secs(2);

/// Runs until interrupted.
pub(crate) async fn run(args: ServeArgs) -> Result<()> {
    let mut config = config::load(args.config.as_deref(), &args.data)?;
    let SiteArgs { placeholders, exceptions } = args.site.clone();
    config.detect.placeholders = placeholders.or(config.detect.placeholders);
    config.detect.exceptions = exceptions.or(config.detect.exceptions);
    start_logs(&config)?;
    // What another process holds is found out before anything is begun.
    let _held = folder::hold(&args.data)?;
    let listener = listen(args.listen).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // Before anything that counts.
    let metrics = Metrics::install()?;
    let cloud = Cloud::reach(args.account, &args.poll, &config.respond).await?;
    let account = match (&cloud, args.account) {
        (Some(cloud), AccountPort::Aws) => Account::Connected(cloud.iam(Arc::clone(&clock))),
        (_, AccountPort::Simulated) => Account::Simulated,
        _ => Account::None,
    };
    let pipeline = Arc::new(Pipeline::open(&args.data, &config, account, clock)?);
    // Written once the settings are known to be good.
    LastStart::new(args.account, args.config.as_deref())?.write(&args.data)?;
    for refused in &pipeline.report.refused {
        tracing::warn!(rule = crate::rules::place(refused), "rule refused");
    }
    for warning in &pipeline.report.warnings {
        tracing::warn!(warning, "rules");
    }
    let (stopper, stop) = watch::channel(false);
    let mut tasks = JoinSet::new();
    pipeline.start(&mut tasks, &stop);
    tasks.spawn(clean(Arc::clone(&pipeline), config.clone(), stop.clone()));
    tasks.spawn(resume(Arc::clone(&pipeline), stop.clone()));
    tasks.spawn(reload_rules(Arc::clone(&pipeline), stop.clone()));
    tasks.spawn(backtests(&pipeline).run(BACKTESTS, stop.clone()));
    let inbox = args.watch.unwrap_or_else(|| args.data.join("inbox"));
    let watcher = Watch::new(
        inbox.clone(),
        Arc::clone(&pipeline.ingest),
        pipeline.database.table(),
        Arc::clone(&pipeline.clock),
    )?;
    tasks.spawn(watcher.run(stop.clone()));
    if let Some(cloud) = &cloud {
        cloud.start_polls(&pipeline, &args.poll, &mut tasks, &stop);
    }
    first_administrator(&pipeline, &args.data).await?;
    println!("Watching {} for log files.", inbox.display());
    if let Some(cloud) = &cloud {
        cloud.tell(args.account, &args.poll);
    }
    let served = dashboard(&pipeline, listener, metrics, args.account == AccountPort::Simulated, interrupted()).await;
    stopper.send_replace(true);
    while tasks.join_next().await.is_some() {}
    served
}

/// Starts logging as configured.
pub(crate) fn start_logs(config: &Config) -> Result<()> {
    let format = if config.logs.json { LogFormat::Json } else { LogFormat::Text };
    sentinel_telemetry::init_logs(format, config.logs.filter.as_deref().unwrap_or("info"))?;
    Ok(())
}

/// Makes the first administrator on a new store and prints the password once.
pub(crate) async fn first_administrator(pipeline: &Pipeline, data: &Path) -> Result<()> {
    let made = accounts::first_administrator(&pipeline.users, pipeline.clock.now()).await?;
    if let Some(password) = made {
        println!("New store in {}. Log in once as admin with this password and change it:", data.display());
        println!("    {password}");
    }
    Ok(())
}

/// Takes an address.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
}

/// Serves API and page until `until` is done.
pub(crate) async fn dashboard(
    pipeline: &Pipeline,
    listener: TcpListener,
    metrics: Metrics,
    simulated_account: bool,
    until: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let app = Arc::new(Dashboard {
        users: pipeline.users.clone(),
        signing: Arc::new(TableSigningKeys::new(pipeline.database.table())),
        alerts: pipeline.alerts.clone(),
        incidents: pipeline.incidents.clone(),
        responses: pipeline.responses.clone(),
        backtests: Backtests::new(pipeline.database.table()),
        search: pipeline.database.search(),
        queue: pipeline.database.queue(),
        ingest: Arc::clone(&pipeline.ingest),
        respond: Arc::clone(&pipeline.respond),
        clock: Arc::clone(&pipeline.clock),
        metrics: Box::new(move || metrics.render()),
        info: Info { mode: pipeline.respond.config().mode, simulated_account },
    });
    println!("Dashboard on http://{}", listener.local_addr()?);
    http::serve(listener, sentinel_dashboard::router(app), http::Limits::default(), until).await
}

/// What does backtests. The data folder is held by one process, so that a name of its own would only make a restarted one
/// wait for its own lease.
pub(crate) fn backtests(pipeline: &Pipeline) -> Runner {
    Runner::new(
        Backtests::new(pipeline.database.table()),
        Arc::clone(&pipeline.archive),
        Arc::clone(&pipeline.clock),
        Arc::new(pipeline.rule_options.clone()),
        "serve",
    )
}

/// Done when the process is asked to end (Ctrl-C, or SIGTERM).
pub(crate) async fn interrupted() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(signal) => signal,
        Err(e) => {
            tracing::error!(error = %e, "cannot listen for SIGTERM");
            return;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Forgets what is older than the settings say, now and every hour.
async fn clean(pipeline: Arc<Pipeline>, config: Config, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        if let Err(e) = clean_once(&pipeline, &config).await {
            sentinel_telemetry::error("clean");
            tracing::error!(error = format!("{e:#}"), "cleaning failed; it is tried again");
        }
        tokio::select! {
            () = tokio::time::sleep(CLEANING) => {}
            _ = stop.changed() => {}
        }
    }
}

pub(crate) async fn clean_once(pipeline: &Pipeline, config: &Config) -> Result<()> {
    let now = pipeline.clock.now();
    let days_ago = |days: u32| time::plus_seconds(now, -86_400 * i64::from(days));
    pipeline.archive.forget_before(days_ago(config.ingest.archive_days)).await?;
    let search = pipeline.database.search();
    search.forget_before(DocumentKind::Event, days_ago(config.ingest.search_days)).await?;
    pipeline.database.purge().await?;
    Ok(())
}

/// Takes up, now and every minute, responses that are not at their end and have no message on its way.
async fn resume(pipeline: Arc<Pipeline>, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        match pipeline.respond.resume_open().await {
            Ok(0) => {}
            Ok(resumed) => tracing::info!(resumed, "responses taken up again"),
            Err(e) => {
                sentinel_telemetry::error("respond");
                tracing::error!(error = %e, "open responses could not be looked for; it is tried again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RESUMING) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Takes over changed operators' rules. A set that cannot be loaded leaves the one in force.
async fn reload_rules(pipeline: Arc<Pipeline>, mut stop: watch::Receiver<bool>) {
    if pipeline.rule_options.dirs.is_empty() {
        return;
    }
    while !*stop.borrow() {
        tokio::select! {
            () = tokio::time::sleep(RULES) => {}
            _ = stop.changed() => return,
        }
        match pipeline.rules.reload(&pipeline.rule_options) {
            Ok(report) => tracing::debug!(rules = report.rules, refused = report.refused.len(), "rules reloaded"),
            Err(e) => {
                sentinel_telemetry::error("detect");
                tracing::error!(error = %e, "rules could not be reloaded; the ones in force stay");
            }
        }
    }
}
