//! Backtests: rules tried on the archive, in the background.
//!
//! In: requests, which are checked and stored. Out: how far each has come, and its result, as a runner elsewhere
//! writes them.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use sentinel_model::{Timestamp, time};
use sentinel_state::backtests::{
    Backtest, BacktestState, Baseline, Cancelled, MOST_OPEN, Progress, RULE_BYTES, RULE_FILES, RuleText,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Id, Items, Params, request::Body, request::page_size};
use crate::{Dashboard, auth::Caller, error::ApiError};

/// Largest body of a request: the texts of rules, and room for what JSON adds to them.
const BODY_BYTES: usize = 2 * RULE_BYTES;
/// Longest span of history, in days.
const MOST_DAYS: i64 = 366;
/// Most accounts that can be named.
const MOST_ACCOUNTS: usize = 100;
/// Longest name of a text.
const NAME_LENGTH: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    rules: Vec<Text>,
    #[serde(default)]
    baseline: Baseline,
    on_top: Option<bool>,
    from: Timestamp,
    to: Timestamp,
    #[serde(default)]
    accounts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: String,
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A backtest with what came out of it.
#[derive(Serialize)]
pub(super) struct View {
    #[serde(flatten)]
    backtest: Backtest,
    result: Option<Value>,
}

impl Asked {
    fn check(&self) -> Result<(), ApiError> {
        let bad = |reason: String| Err(ApiError::BadRequest(reason));
        if !(1..=RULE_FILES).contains(&self.rules.len()) {
            return bad(format!("rules: 1 to {RULE_FILES} texts, not {}", self.rules.len()));
        }
        for (n, text) in self.rules.iter().enumerate() {
            let length = text.name.chars().count();
            if !(1..=NAME_LENGTH).contains(&length) || text.name.chars().any(char::is_control) {
                return bad(format!("rules: a name has 1 to {NAME_LENGTH} characters and none that controls"));
            }
            if self.rules[..n].iter().any(|other| other.name == text.name) {
                return bad(format!("rules: two texts are named {:?}", text.name));
            }
        }
        let bytes: usize = self.rules.iter().map(|text| text.text.len()).sum();
        if bytes > RULE_BYTES {
            return Err(ApiError::TooLarge(format!(
                "the rules have {bytes} bytes; together they may have {RULE_BYTES}"
            )));
        }
        let seconds = time::seconds_between(self.from, self.to);
        if !(0..=MOST_DAYS * 86_400).contains(&seconds) {
            return bad(format!("from, to: at most {MOST_DAYS} days, the later one last"));
        }
        let is_account = |a: &String| {
            (1..=64).contains(&a.len()) && a.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if self.accounts.len() > MOST_ACCOUNTS || !self.accounts.iter().all(is_account) {
            return bad(format!("accounts: at most {MOST_ACCOUNTS} account ids"));
        }
        Ok(())
    }
}

pub(super) async fn create(
    State(app): State<Arc<Dashboard>>,
    caller: Caller,
    Body(asked): Body<Asked, BODY_BYTES>,
) -> Result<(StatusCode, Json<Backtest>), ApiError> {
    asked.check()?;
    let mut accounts = asked.accounts;
    accounts.sort();
    accounts.dedup();
    let backtest = Backtest {
        id: format!("bt-{}", uuid::Uuid::new_v4().simple()),
        state: BacktestState::Queued,
        from: asked.from,
        to: asked.to,
        accounts,
        baseline: asked.baseline,
        on_top: asked.on_top.unwrap_or(true),
        files: asked.rules.iter().map(|text| text.name.clone()).collect(),
        requested_by: caller.user()?.username.clone(),
        requested_at: app.clock.now(),
        started_at: None,
        finished_at: None,
        progress: Progress::default(),
        attempts: 0,
        error: None,
    };
    let texts = asked.rules.into_iter().map(|Text { name, text }| RuleText { name, text }).collect();
    if !app.backtests.add(&backtest, texts).await? {
        return Err(ApiError::Conflict(format!("{MOST_OPEN} backtests wait or run: cancel one, or ask again later")));
    }
    Ok((StatusCode::ACCEPTED, Json(backtest)))
}

pub(super) async fn list(
    State(app): State<Arc<Dashboard>>,
    Params(wanted): Params<Wanted>,
) -> Result<Json<Items<Backtest>>, ApiError> {
    let (items, next) = app.backtests.list(page_size(wanted.limit)?, wanted.cursor).await?;
    Ok(Json(Items::page(items, next)))
}

fn unknown(id: &str) -> ApiError {
    ApiError::NotFound(format!("backtest {id}"))
}

pub(super) async fn show(State(app): State<Arc<Dashboard>>, Id(id): Id) -> Result<Json<View>, ApiError> {
    let store = &app.backtests;
    let backtest = store.find(&id).await?.ok_or_else(|| unknown(&id))?.backtest;
    let result = if backtest.state == BacktestState::Done { store.result(&id).await? } else { None };
    Ok(Json(View { backtest, result }))
}

pub(super) async fn cancel(State(app): State<Arc<Dashboard>>, Id(id): Id) -> Result<Json<Backtest>, ApiError> {
    match app.backtests.cancel(&id, app.clock.now()).await?.ok_or_else(|| unknown(&id))? {
        Cancelled::Done(stored) => Ok(Json(stored.backtest)),
        Cancelled::Ended(_) => Err(ApiError::Conflict("it has come to its end already".into())),
    }
}
