//! All stages wired over the embedded store: what `serve`, `demo` and `respond` run.
//!
//! The same handlers that will be Lambdas, here with SQLite behind the ports and files as the archive.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use async_trait::async_trait;
use sentinel_archive::{Archive, FileArchive};
use sentinel_detect::{
    Config as DetectSettings, Detect, LoadOptions, LoadReport, RuleSet, Scorer, SharedRules, StoredCorrelations,
    models::{Model, ModelScorer, TableBaselines},
};
use sentinel_durable::{
    Clock, Stage,
    worker::{self, Handler, Settings},
};
use sentinel_embedded::Database;
use sentinel_enrich::{Enrich, IndicatorList, OwnActions, OwnActionsError, Sources};
use sentinel_ingest::Ingest;
use sentinel_model::{Member, OwnRoles};
use sentinel_respond::{
    Config as RespondSettings, Playbooks, Ports, Protected, Respond,
    iam::{ElsewhereIam, Iam, SimulatedIam, UnconnectedIam},
    notify::{LogNotifier, Notifier},
    webhook::WebhookNotifier,
};
use sentinel_state::{
    alerts::Alerts,
    incidents::Incidents,
    responses::{OwnActivity, Responses},
    users::Users,
};
use tokio::{sync::watch, task::JoinSet};

use crate::config::Config;

/// Seconds that reads of the simulated account lag behind its writes, as IAM's do (about 4 seconds).
const SIMULATED_LAG_SECONDS: i64 = 4;

/// The account that responses act on.
pub(crate) enum Account {
    /// None.
    None,
    /// A simulated one, kept with the data.
    Simulated,
    /// A real one.
    Connected(Arc<dyn Iam>),
    /// A real one that another process acts on; decisions are only recorded here.
    Elsewhere,
}

/// The stages and what they rest on.
pub(crate) struct Pipeline {
    pub(crate) database: Database,
    pub(crate) archive: Arc<dyn Archive>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) detect: Arc<Detect>,
    pub(crate) enrich: Arc<Enrich>,
    pub(crate) respond: Arc<Respond>,
    pub(crate) rules: Arc<SharedRules>,
    pub(crate) rule_options: LoadOptions,
    pub(crate) report: LoadReport,
    pub(crate) users: Users,
    pub(crate) alerts: Alerts,
    pub(crate) incidents: Incidents,
    pub(crate) responses: Responses,
    pub(crate) simulated: Option<SimulatedIam>,
}

impl Pipeline {
    /// Opens the data folder and wires every stage over it.
    pub(crate) fn open(data: &Path, config: &Config, account: Account, clock: Arc<dyn Clock>) -> Result<Self> {
        std::fs::create_dir_all(data).with_context(|| format!("making the data folder {}", data.display()))?;
        let database = Database::open(&data.join("sentinel.db"), Arc::clone(&clock))
            .with_context(|| format!("opening the store in {}", data.display()))?;
        let archive: Arc<dyn Archive> = Arc::new(FileArchive::open(data.join("archive"))?);
        let table = database.table();
        let responses = Responses::new(table.clone());
        let users = Users::new(table.clone());
        let alerts = Alerts::new(table.clone());

        let own_roles: OwnRoles = config.respond.own_role.iter().collect();
        let ingest = Arc::new(Ingest::new(archive.clone(), database.search(), database.queue(), Arc::clone(&clock)));

        let rule_options = LoadOptions {
            default_rules: config.detect.default_rules,
            dirs: config.detect.rules.clone(),
            placeholders: config.detect.placeholders.clone(),
            exceptions: config.detect.exceptions.clone(),
        };
        let (set, report) = RuleSet::load(&rule_options).context("loading rules")?;
        let rules = Arc::new(SharedRules::new(set));
        let scorer = if config.detect.models { Some(scorer(&database, &clock)?) } else { None };
        let correlations = StoredCorrelations::new(table.clone(), Arc::clone(&clock));
        let detect =
            Detect::new(Arc::clone(&rules), scorer, database.queue(), DetectSettings { own_roles: own_roles.clone() });
        let detect = Arc::new(detect.with_correlations(correlations));

        let mut list = IndicatorList::default();
        if let Some(path) = &config.enrich.indicators {
            let bad = list.load(path).with_context(|| format!("reading indicators {}", path.display()))?;
            for line in bad {
                tracing::warn!(%line, "indicator left out");
            }
        }
        let own = Arc::new(Own(OwnActivity::new(responses.clone(), own_roles.clone())));
        let enrich = Arc::new(Enrich::new(
            sentinel_enrich::Ports {
                table: table.clone(),
                queue: database.queue(),
                search: database.search(),
                clock: Arc::clone(&clock),
                own,
            },
            sentinel_enrich::Settings { own_roles: own_roles.clone(), sources: Sources(vec![Arc::new(list)]) },
        ));

        let simulated = matches!(account, Account::Simulated)
            .then(|| SimulatedIam::new(table.clone(), Arc::clone(&clock)).with_lag(SIMULATED_LAG_SECONDS));
        let iam: Arc<dyn Iam> = match (account, &simulated) {
            (Account::Connected(iam), _) => iam,
            (Account::Elsewhere, _) => Arc::new(ElsewhereIam),
            (_, Some(iam)) => Arc::new(iam.clone()),
            _ => Arc::new(UnconnectedIam),
        };
        let ports = Ports {
            iam,
            responses: responses.clone(),
            alerts: Arc::new(alerts.clone()),
            approvers: Arc::new(users.clone()),
            notifiers: notifiers(config, &clock)?,
            queue: database.queue(),
            timer: database.timer(),
            clock: Arc::clone(&clock),
        };
        let mut playbooks = Playbooks::shipped()?;
        if let Some(folder) = &config.respond.playbooks {
            playbooks = playbooks.with_folder(folder)?;
        }
        let defaults = RespondSettings::default();
        let settings = RespondSettings {
            mode: config.respond.mode,
            protected: Protected {
                principals: config.respond.protected.clone(),
                break_glass: config.respond.break_glass.clone(),
                ..Protected::default()
            },
            own_roles,
            hourly_cap: config.respond.hourly_cap.unwrap_or(defaults.hourly_cap),
            ..defaults
        };
        let respond = Arc::new(Respond::new(ports, settings, playbooks)?);

        Ok(Self {
            incidents: Incidents::new(table.clone()),
            database,
            archive,
            clock,
            ingest,
            detect,
            enrich,
            respond,
            rules,
            rule_options,
            report,
            users,
            alerts,
            responses,
            simulated,
        })
    }

    /// The handlers by stage.
    pub(crate) fn handlers(&self) -> [(Stage, Arc<dyn Handler>); 3] {
        [
            (Stage::Detect, self.detect.clone()),
            (Stage::Enrich, self.enrich.clone()),
            (Stage::Respond, self.respond.clone()),
        ]
    }

    /// Runs workers and chores until `stop` says so.
    pub(crate) fn start(&self, tasks: &mut JoinSet<()>, stop: &watch::Receiver<bool>) {
        for (stage, handler) in self.handlers() {
            tasks.spawn(worker::run(self.database.queue(), stage, handler, Settings::default(), stop.clone()));
        }
        tasks.spawn(worker::run_chores(
            self.database.table(),
            self.database.queue(),
            self.database.timer(),
            Duration::from_millis(500),
            stop.clone(),
        ));
    }
}

fn scorer(database: &Database, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Scorer>> {
    let model = Model::embedded().context("loading the behaviour model")?;
    let version = model.manifest().version.clone();
    let baselines = TableBaselines::new(database.table(), Arc::clone(clock), version);
    Ok(Arc::new(ModelScorer::new(model, Arc::new(baselines))))
}

fn notifiers(config: &Config, clock: &Arc<dyn Clock>) -> Result<Vec<Arc<dyn Notifier>>> {
    let mut notifiers: Vec<Arc<dyn Notifier>> = vec![Arc::new(LogNotifier)];
    if let Some(webhook) = &config.respond.webhook {
        let secret = webhook
            .secret_file
            .as_ref()
            .map(|path| std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display())))
            .transpose()?
            .map(|s| s.trim().to_owned());
        notifiers.push(Arc::new(WebhookNotifier::new("webhook", &webhook.url, secret, Arc::clone(clock))?));
    }
    Ok(notifiers)
}

/// Enrich asks respond's records which events are our own.
struct Own(OwnActivity);

#[async_trait]
impl OwnActions for Own {
    async fn is_ours(&self, account: &str, member: &Member) -> Result<bool, OwnActionsError> {
        self.0.is_ours(account, member).await.map_err(OwnActionsError::new)
    }

    async fn note_ours(&self, account: &str, member: &Member) -> Result<bool, OwnActionsError> {
        self.0.note_ours(account, member).await.map_err(OwnActionsError::new)
    }
}

#[cfg(test)]
mod tests;
