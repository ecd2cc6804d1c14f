//! The Lambda of dashboard: API and page behind an HTTP API. It records decisions; respond carries them out.

mod config;

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use config::Config;
use lambda_http::{Request, RequestExt, service_fn};
use sentinel_aws::connect;
use sentinel_dashboard::{
    Dashboard, Info,
    auth::accounts::{InitialPassword, initial_administrator},
};
use sentinel_ingest::Ingest;
use sentinel_lambda::{Deployed, Start, exit, start};
use sentinel_respond::{Playbooks, Ports, Respond, iam::ElsewhereIam};
use sentinel_state::{
    Table, alerts::Alerts, backtests::Backtests, incidents::Incidents, responses::Responses, users::Users,
};
use tower::ServiceExt;

/// What `/metrics` says where metrics are not collected by asking every instance.
const METRICS: &str = "# The metrics of this deployment are in CloudWatch, namespace CloudSentinel.\n";

#[tokio::main]
async fn main() -> ExitCode {
    exit(run().await)
}

async fn run() -> Result<()> {
    let start = start("dashboard").await?;
    let config = start.env.read(Config::read)?;
    let table = config.deployed.table(&start);
    administrator(&start, &config.admin_secret, &Users::new(table.clone())).await;
    let router = sentinel_dashboard::router(Arc::new(dashboard(&start, config, &table)?));
    let served = lambda_http::run(service_fn(move |request: Request| {
        let (router, start) = (router.clone(), start.clone());
        async move {
            start.invocation_begins(request.lambda_context().deadline);
            let answer = router.oneshot(request).await;
            start.invocation_ended();
            answer
        }
    }));
    served.await.map_err(anyhow::Error::from_boxed)
}

fn dashboard(start: &Start, config: Config, table: &Arc<dyn Table>) -> Result<Dashboard> {
    let Config { deployed, settings, keys_secret, .. } = config;
    let queue = Arc::new(deployed.queue(start, Some(table.clone())));
    let search = deployed.search(start, table)?;
    let ingest = Ingest::new(Arc::new(deployed.archive(start)), search.clone(), queue.clone(), start.clock.clone());
    let info = Info { mode: settings.mode, simulated_account: false };
    let responses = Responses::new(table.clone());
    Ok(Dashboard {
        users: Users::new(table.clone()),
        signing: Arc::new(connect::signing_keys(&start.sdk, &keys_secret, start.clock.clone())),
        alerts: Alerts::new(table.clone()),
        incidents: Incidents::new(table.clone()),
        responses: responses.clone(),
        backtests: Backtests::new(table.clone()),
        search,
        queue: queue.clone(),
        ingest: Arc::new(ingest),
        respond: Arc::new(respond(start, &deployed, settings, responses, table)?),
        clock: start.clock.clone(),
        metrics: Box::new(|| METRICS.to_owned()),
        info,
    })
}

/// Respond as far as decisions go: no account is called from here.
fn respond(
    start: &Start,
    deployed: &Deployed,
    settings: sentinel_respond::Config,
    responses: Responses,
    table: &Arc<dyn Table>,
) -> Result<Respond> {
    let queue = deployed.queue(start, Some(table.clone()));
    let ports = Ports {
        iam: Arc::new(ElsewhereIam),
        responses,
        alerts: Arc::new(Alerts::new(table.clone())),
        approvers: Arc::new(Users::new(table.clone())),
        notifiers: Vec::new(),
        queue: Arc::new(queue.clone()),
        timer: Arc::new(connect::timer(&start.sdk, queue, table.clone(), None)),
        clock: start.clock.clone(),
    };
    Respond::new(ports, settings, Playbooks::shipped()?).context("wiring decisions")
}

/// Makes the first administrator, or lets a lost one back in. Without the secret those who have a password can
/// still log in, so a failure is no reason not to start.
async fn administrator(start: &Start, secret: &str, users: &Users) {
    let made = async {
        let secret = connect::secret(&start.sdk, secret).await?;
        let initial = InitialPassword { password: secret.text, version_id: secret.version_id };
        anyhow::Ok(initial_administrator(users, &initial, start.clock.now()).await?)
    };
    match made.await {
        Ok(done) => tracing::debug!(?done, "first administrator"),
        Err(e) => {
            sentinel_telemetry::error("dashboard");
            let told = format!("{e:#}");
            tracing::error!(
                error = told,
                "the first administrator's password cannot be used; it is tried at the next start"
            );
        }
    }
}
