//! IAM of the own account and of member accounts, behind respond's [`Iam`] port; and who the caller is.
//!
//! The own account is called with the process's credentials or, in a deployed stack, with a role that does
//! nothing else; another one with a role of an agreed name there. Calls of IAM are never tried again here: respond records each attempt before it is made, by
//! which the event it causes is known as ours, so every request must be one that respond asked for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use aws_config::{SdkConfig, retry::RetryConfig};
use aws_sdk_iam::{Client, config::Credentials, types::StatusType};
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use sentinel_durable::Clock;
use sentinel_model::{Timestamp, time};
use sentinel_respond::iam::{Iam, IamError, KeyOwner, KeyStatus};
use tokio::sync::Mutex;

use crate::{late::Late, sdk::CallError};

mod caller;

pub use caller::{Caller, CallerError, caller};

/// IAM actions of the calls that read.
pub const READ: &[&str] = &[LAST_USED, GET_USER, TAGS, KEYS];
/// IAM actions of the calls that change something.
pub const WRITE: &[&str] = &[UPDATE];
/// IAM actions of taking on the role that an account is called with.
pub const ROLES: &[&str] = &[ASSUME];
/// All IAM actions of this module. (`sts:GetCallerIdentity`, which [`caller()`] calls, needs no permission.)
pub const ACTIONS: &[&str] = &[LAST_USED, GET_USER, TAGS, KEYS, UPDATE, ASSUME];

const LAST_USED: &str = "iam:GetAccessKeyLastUsed";
const GET_USER: &str = "iam:GetUser";
const TAGS: &str = "iam:ListUserTags";
const KEYS: &str = "iam:ListAccessKeys";
const UPDATE: &str = "iam:UpdateAccessKey";
const ASSUME: &str = "sts:AssumeRole";

/// Name of our sessions, as CloudTrail shows it.
const SESSION: &str = "CloudSentinel";
/// How long a session lasts: the least that STS grants.
const SESSION_SECONDS: i32 = 900;
/// Seconds before its end at which a session is not used any more.
const SESSION_MARGIN: i64 = 60;

/// The role that is assumed in accounts other than the own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRole {
    /// Its name, the same in every account, with its path if it has one: `security/CloudSentinelMember`.
    pub name: String,
    /// The external id that its trust policy asks for.
    pub external_id: Option<String>,
}

impl MemberRole {
    /// A role by name, without an external id.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), external_id: None }
    }
}

/// The IAM of real accounts.
pub struct AwsIam {
    account: String,
    partition: &'static str,
    own_role: Option<String>,
    /// With the process's own credentials: of little use where a role is taken on.
    own: Late<Client>,
    settings: aws_sdk_iam::Config,
    sts: aws_sdk_sts::Client,
    member: Option<MemberRole>,
    clock: Arc<dyn Clock>,
    sessions: Mutex<HashMap<String, Session>>,
}

/// A client with the credentials of an assumed role.
struct Session {
    client: Client,
    until: Timestamp,
}

impl AwsIam {
    /// Over the process's credentials, which are those of `account`. Without a member role every other account
    /// is not connected.
    pub fn new(
        config: &SdkConfig,
        account: impl Into<String>,
        member: Option<MemberRole>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self::over(config.into(), config.into(), account.into(), member, clock)
    }

    /// With clients of these settings, but without retries.
    fn over(
        own: aws_sdk_iam::config::Builder,
        sts: aws_sdk_sts::config::Builder,
        account: String,
        member: Option<MemberRole>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let iam = own.retry_config(RetryConfig::disabled()).build();
        let sts = sts.retry_config(RetryConfig::disabled()).build();
        Self {
            account,
            partition: partition(iam.region().map_or("", AsRef::as_ref)),
            own_role: None,
            own: Late::new({
                let iam = iam.clone();
                move || Client::from_conf(iam)
            }),
            settings: iam,
            sts: aws_sdk_sts::Client::from_conf(sts),
            member,
            clock,
            sessions: Mutex::default(),
        }
    }

    /// Calls the own account with the role of this ARN, where there is one, instead of the process's own
    /// credentials. What happens under a role that only containment uses is ours or an intruder's, never plumbing.
    #[must_use]
    pub fn under(mut self, own_role: Option<String>) -> Self {
        self.own_role = own_role;
        self
    }

    /// The role that our calls in an account are made with; `None` where they are made with the process's own
    /// credentials, or not at all.
    pub fn role_arn(&self, account: &str) -> Option<String> {
        if account == self.account {
            return self.own_role.clone();
        }
        let role = self.member.as_ref()?;
        Some(format!("arn:{}:iam::{account}:role/{}", self.partition, role.name.trim_start_matches('/')))
    }

    /// The client of an account.
    async fn client(&self, account: &str) -> Result<Client, IamError> {
        let is_own = account == self.account;
        if is_own && self.own_role.is_none() {
            return Ok(Client::clone(&self.own));
        }
        let not_connected = || IamError::NotConnected(account.to_owned());
        let arn = self.role_arn(account).ok_or_else(not_connected)?;
        if !(account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())) {
            return Err(not_connected());
        }
        // One at a time: many messages of one account ask for one session.
        let mut sessions = self.sessions.lock().await;
        let now = self.clock.now();
        if let Some(session) = sessions.get(account).filter(|s| now < s.until) {
            return Ok(session.client.clone());
        }
        let external_id = self.member.as_ref().filter(|_| !is_own).and_then(|m| m.external_id.clone());
        let request = self.sts.assume_role().role_arn(&arn).role_session_name(SESSION);
        let request = request.duration_seconds(SESSION_SECONDS).set_external_id(external_id);
        let answer = request.send().await.map_err(|e| match failure(ASSUME, &e) {
            // A role that was just made is not known everywhere yet.
            IamError::Denied(reason) if is_own => IamError::Other(reason),
            // No such role, or one that does not trust us: STS tells them apart no more than this.
            IamError::Denied(reason) => {
                tracing::warn!(account, role = arn, reason, "the account's role cannot be assumed");
                IamError::NotConnected(account.to_owned())
            }
            other => other,
        })?;
        let Some(given) = answer.credentials else {
            return Err(IamError::Other(format!("{ASSUME}: the answer holds no credentials")));
        };
        let credentials = Credentials::new(
            given.access_key_id,
            given.secret_access_key,
            Some(given.session_token),
            None,
            "AssumeRole",
        );
        let ends = Timestamp::from_second(given.expiration.secs()).unwrap_or(now);
        let config = self.settings.to_builder().credentials_provider(credentials).build();
        let client = Client::from_conf(config);
        let until = time::plus_seconds(ends, -SESSION_MARGIN);
        sessions.insert(account.to_owned(), Session { client: client.clone(), until });
        Ok(client)
    }

    /// Forgets a session that was refused, so that the next try gets a new one; passes the error on.
    async fn failed<E>(&self, account: &str, action: &'static str, error: &SdkError<E, HttpResponse>) -> IamError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let known = failure(action, error);
        if matches!(&known, IamError::Denied(_) | IamError::Other(_)) {
            self.sessions.lock().await.remove(account);
        }
        known
    }

    async fn tags(
        &self,
        client: &Client,
        account: &str,
        user_name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, IamError> {
        let mut tags = BTreeMap::new();
        let mut marker = None;
        loop {
            let page = match client.list_user_tags().user_name(user_name).set_marker(marker).send().await {
                Ok(page) => page,
                Err(e) => return absent(self.failed(account, TAGS, &e).await),
            };
            tags.extend(page.tags.into_iter().map(|tag| (tag.key, tag.value)));
            match page.marker.filter(|_| page.is_truncated) {
                Some(next) => marker = Some(next),
                None => return Ok(Some(tags)),
            }
        }
    }
}

/// What is not there is an answer, not an error.
fn absent<T>(error: IamError) -> Result<Option<T>, IamError> {
    match error {
        IamError::NotFound => Ok(None),
        other => Err(other),
    }
}

#[async_trait]
impl Iam for AwsIam {
    async fn key_owner(&self, account: &str, access_key_id: &str) -> Result<Option<KeyOwner>, IamError> {
        let client = self.client(account).await?;
        let last_use = match client.get_access_key_last_used().access_key_id(access_key_id).send().await {
            Ok(answer) => answer,
            // A key of another account, or none at all, is refused as a resource that is not ours to ask about.
            Err(e) if is_foreign_key(&e, access_key_id) => return Ok(None),
            Err(e) => return absent(self.failed(account, LAST_USED, &e).await),
        };
        // The root user's key has no IAM user behind it.
        let Some(user_name) = last_use.user_name.filter(|name| !name.is_empty()) else { return Ok(None) };
        let user = match client.get_user().user_name(&user_name).send().await {
            Ok(answer) => answer.user,
            Err(e) => return absent(self.failed(account, GET_USER, &e).await),
        };
        let Some(user) = user.filter(|user| user.arn.contains(":user/")) else { return Ok(None) };
        let Some(tags) = self.tags(&client, account, &user.user_name).await? else { return Ok(None) };
        Ok(Some(KeyOwner { user_name: user.user_name, user_arn: user.arn, tags }))
    }

    async fn key_status(
        &self,
        account: &str,
        user_name: &str,
        access_key_id: &str,
    ) -> Result<Option<KeyStatus>, IamError> {
        let client = self.client(account).await?;
        let mut marker = None;
        loop {
            let page = match client.list_access_keys().user_name(user_name).set_marker(marker).send().await {
                Ok(page) => page,
                Err(e) => return absent(self.failed(account, KEYS, &e).await),
            };
            let found = page.access_key_metadata.iter().find(|key| key.access_key_id.as_deref() == Some(access_key_id));
            if let Some(key) = found {
                return match &key.status {
                    Some(StatusType::Active) => Ok(Some(KeyStatus::Active)),
                    Some(StatusType::Inactive) => Ok(Some(KeyStatus::Inactive)),
                    // Also "Expired": a person must look at it.
                    other => Err(IamError::Denied(format!("{KEYS}: the key's status is {other:?}"))),
                };
            }
            match page.marker.filter(|_| page.is_truncated) {
                Some(next) => marker = Some(next),
                None => return Ok(None),
            }
        }
    }

    async fn set_key_status(
        &self,
        account: &str,
        user_name: &str,
        access_key_id: &str,
        status: KeyStatus,
    ) -> Result<(), IamError> {
        let client = self.client(account).await?;
        let status = match status {
            KeyStatus::Active => StatusType::Active,
            KeyStatus::Inactive => StatusType::Inactive,
        };
        let request = client.update_access_key().user_name(user_name).access_key_id(access_key_id).status(status);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(e) => Err(self.failed(account, UPDATE, &e).await),
        }
    }

    fn is_simulated(&self) -> bool {
        false
    }

    fn is_connected(&self) -> bool {
        true
    }
}

/// The partition of a Region (AWS General Reference, "Amazon Resource Names").
fn partition(region: &str) -> &'static str {
    match region {
        r if r.starts_with("cn-") => "aws-cn",
        r if r.starts_with("us-gov-") => "aws-us-gov",
        r if r.starts_with("eusc-") => "aws-eusc",
        _ => "aws",
    }
}

/// Whether the refusal is about the key and not about our permissions: those refusals say which policy lacks
/// what, or name the user that owns the key.
fn is_foreign_key<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>, access_key_id: &str) -> bool {
    let Some(error) = error.as_service_error() else { return false };
    let denied = matches!(error.code(), Some("AccessDenied" | "AccessDeniedException"));
    let resource = format!("on resource: access key {access_key_id}");
    denied && error.message().is_some_and(|m| m.contains(&resource) && !m.contains("because"))
}

/// An error of IAM or STS as the port knows it (IAM API Reference, "Common Errors").
fn failure<E>(action: &'static str, error: &SdkError<E, HttpResponse>) -> IamError
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    let call = CallError::new(action, error);
    let Some(code) = call.code.as_deref() else { return IamError::Other(call.to_string()) };
    match code {
        "NoSuchEntity" | "NoSuchEntityException" => IamError::NotFound,
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "SlowDown" => IamError::Throttled,
        // Of these nothing is lost by trying again: credentials are renewed, changes end.
        "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "ConcurrentModification"
        | "ConcurrentModificationException"
        | "EntityTemporarilyUnmodifiable"
        | "EntityTemporarilyUnmodifiableException" => IamError::Other(call.to_string()),
        _ if call.status.is_some_and(|status| status >= 500) => IamError::Other(call.to_string()),
        _ => IamError::Denied(call.to_string()),
    }
}

#[cfg(test)]
mod tests;
