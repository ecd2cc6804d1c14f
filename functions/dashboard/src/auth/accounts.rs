//! Logging in and keeping accounts: the first administrator, password changes, lockout with backoff.
//!
//! Callers are the session and user routes, and the command line for the first administrator and for
//! approvals made there.

use sentinel_model::{Timestamp, time};
use sentinel_state::{
    Condition,
    users::{FailedLogins, InitialVersion, Role, User, Users, Versioned},
};

use super::password::{self, PasswordError};
use crate::error::ApiError;

/// Failed logins in a row before the first wait.
const FREE_ATTEMPTS: u32 = 5;
/// The first wait; each further failure doubles it.
const FIRST_WAIT_SECONDS: i64 = 15;
/// The longest wait.
const LONGEST_WAIT_SECONDS: i64 = 900;
/// Failures are forgotten after this.
const REMEMBER_SECONDS: i64 = 24 * 3600;
/// Failures that led to no wait yet are forgotten sooner, so that attempts under ever new names fill no store.
/// It makes guessing no faster: four an hour are as many as one each longest wait.
const REMEMBER_FEW_SECONDS: i64 = 3600;
/// Login name of the first administrator.
const ADMINISTRATOR: &str = "admin";
/// Tries of a conditional write.
const TRIES: usize = 8;
const WRONG: ApiError = ApiError::Unauthorized("name or password is wrong");

impl From<PasswordError> for ApiError {
    fn from(e: PasswordError) -> Self {
        match e {
            PasswordError::Length => Self::BadRequest(e.to_string()),
            PasswordError::Busy => Self::Busy,
            PasswordError::Hash(_) => Self::internal(e),
        }
    }
}

/// Makes the first administrator (`admin`) with a random password that must be changed, when there is no user
/// yet; returns that password, to be shown once.
pub async fn first_administrator(users: &Users, now: Timestamp) -> Result<Option<String>, ApiError> {
    if !users.list().await?.is_empty() {
        return Ok(None);
    }
    let password = password::random();
    let admin = administrator(password::hash(password.clone()).await?, now);
    match users.put(&admin, Condition::Absent).await {
        Ok(()) => Ok(Some(password)),
        Err(e) if e.is_condition() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn administrator(password_hash: String, now: Timestamp) -> User {
    User {
        username: ADMINISTRATOR.into(),
        password_hash,
        role: Role::Admin,
        must_change_password: true,
        created_at: now,
        disabled: false,
        principals: Vec::new(),
        session_epoch: 1,
    }
}

/// A password for the first administrator that was set outside, as in a secret that only operators may read
/// and write.
#[derive(Clone, PartialEq, Eq)]
pub struct InitialPassword {
    /// The password; 15 to 256 characters.
    pub password: String,
    /// Changes with every new password: the secret's version id.
    pub version_id: String,
}

impl std::fmt::Debug for InitialPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InitialPassword").field("version_id", &self.version_id).finish_non_exhaustive()
    }
}

/// What came of a password that was set outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initial {
    /// The first administrator was made with it.
    Made,
    /// It is a new one: `admin` logs in with it and must change it, and all sessions have ended.
    Reset,
    /// It was used before, and nothing changed.
    Known,
}

/// Makes the first administrator (`admin`) with a password that was set outside, when there is no user yet. A
/// later version of it is the way back in for whoever lost the password: `admin` gets it, is an enabled
/// administrator again, and must change it at the next login. Each version counts once, whatever becomes of
/// the password then, and however many processes start at the same time.
pub async fn initial_administrator(
    users: &Users,
    initial: &InitialPassword,
    now: Timestamp,
) -> Result<Initial, ApiError> {
    let mut hash = None;
    for _ in 0..TRIES {
        let noted = users.initial_version().await?;
        if noted.as_ref().is_some_and(|n| n.value.version_id == initial.version_id) {
            return Ok(Initial::Known);
        }
        let note = InitialVersion { version_id: initial.version_id.clone(), used_at: now };
        let before = noted.as_ref().map_or(0, |n| n.version);
        let admin = users.get(ADMINISTRATOR).await?;
        // A store that has users already, as one brought from elsewhere: its passwords are not touched unasked.
        let untouched = noted.is_none() && (admin.is_some() || !users.list().await?.is_empty());
        let (done, user) = if untouched {
            (Initial::Known, None)
        } else {
            password::check_length(&initial.password)?;
            let known = match hash.take() {
                Some(known) => known,
                None => password::hash(initial.password.clone()).await?,
            };
            let fresh = administrator(hash.insert(known).clone(), now);
            let (user, condition) = with_initial(admin, fresh);
            (if noted.is_none() { Initial::Made } else { Initial::Reset }, Some((user, condition)))
        };
        let put = user.as_ref().map(|(user, condition)| (user, *condition));
        match users.put_initial_version(&note, before, put).await {
            Ok(()) => {
                if done == Initial::Reset {
                    users.clear_failed_logins(ADMINISTRATOR).await?;
                    tracing::warn!(username = ADMINISTRATOR, "password reset by a new version of the secret");
                }
                return Ok(done);
            }
            Err(e) if e.is_condition() => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(ApiError::Busy)
}

/// The administrator as it is to be, and what must hold of the one there is.
fn with_initial(stored: Option<Versioned<User>>, fresh: User) -> (User, Condition) {
    let Some(Versioned { value: user, version }) = stored else { return (fresh, Condition::Absent) };
    let user = User {
        created_at: user.created_at,
        principals: user.principals,
        session_epoch: user.session_epoch + 1,
        ..fresh
    };
    (user, Condition::Version(version))
}

/// Checks a name and password. Wrong ones are counted, whether or not the user exists; after five in a row
/// each further attempt has to wait, longer every time.
pub async fn log_in(users: &Users, username: &str, password: &str, now: Timestamp) -> Result<User, ApiError> {
    check(users, username, password, now).await.map(|user| user.value)
}

/// [`log_in`], with the version of the user whose password was checked.
async fn check(users: &Users, username: &str, password: &str, now: Timestamp) -> Result<Versioned<User>, ApiError> {
    // No user has such a name, which everybody may know.
    if !valid_username(username) {
        return Err(WRONG);
    }
    // Before the wait for a turn, so that what is locked costs nothing; again at each try of the count.
    unlocked(&users.failed_logins(username).await?.value, now)?;
    let turn = password::turn().await?;
    let failures = count_attempt(users, username, now).await?;
    let user = users.get(username).await?.filter(|u| !u.value.disabled);
    let hash = user.as_ref().map(|u| u.value.password_hash.clone());
    let fits = password::verify(turn, password.to_owned(), hash).await?;
    let Some(user) = user.filter(|_| fits) else {
        tracing::warn!(username, failures, "failed login");
        return Err(WRONG);
    };
    users.clear_failed_logins(username).await?;
    tracing::info!(username, "logged in");
    Ok(user)
}

fn unlocked(failed: &FailedLogins, now: Timestamp) -> Result<(), ApiError> {
    match failed.locked_until {
        Some(until) if until > now => Err(ApiError::LockedOut(time::seconds_between(now, until).max(1))),
        _ => Ok(()),
    }
}

/// Counts an attempt before its password is looked at, so that attempts made at the same time each count and
/// no more than [`FREE_ATTEMPTS`] are looked at; a success forgets the count.
async fn count_attempt(users: &Users, username: &str, now: Timestamp) -> Result<u32, ApiError> {
    for _ in 0..TRIES {
        let failed = users.failed_logins(username).await?;
        unlocked(&failed.value, now)?;
        let count = failed.value.count.saturating_add(1);
        let counted = FailedLogins { count, locked_until: wait_after(count).map(|s| time::plus_seconds(now, s)) };
        let forgotten = time::plus_seconds(now, remembered_for(count));
        match users.put_failed_logins(username, &counted, failed.version, forgotten).await {
            Ok(()) => return Ok(count),
            Err(e) if e.is_condition() => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(ApiError::LockedOut(1))
}

/// Seconds that so many failures are remembered.
fn remembered_for(count: u32) -> i64 {
    if count < FREE_ATTEMPTS { REMEMBER_FEW_SECONDS } else { REMEMBER_SECONDS }
}

/// Seconds to wait after this many failures in a row.
fn wait_after(count: u32) -> Option<i64> {
    let over = count.checked_sub(FREE_ATTEMPTS)?;
    Some(FIRST_WAIT_SECONDS.saturating_mul(1_i64 << over.min(10)).min(LONGEST_WAIT_SECONDS))
}

/// Changes a password after checking the current one (a wrong one counts as a failed login), and ends all
/// other sessions.
pub async fn change_password(
    users: &Users,
    username: &str,
    current: &str,
    new: &str,
    now: Timestamp,
) -> Result<User, ApiError> {
    password::check_length(new)?;
    if current == new {
        return Err(ApiError::BadRequest("the new password is the current one".into()));
    }
    let Versioned { value: mut user, version } = check(users, username, current, now).await?;
    user.password_hash = password::hash(new.to_owned()).await?;
    user.must_change_password = false;
    user.session_epoch += 1;
    // The version at which the current password was checked: of two changes at once only one succeeds.
    users.put(&user, Condition::Version(version)).await?;
    tracing::info!(username, "password changed");
    Ok(user)
}

/// Gives a user a new random password that must be changed, ends all sessions and forgets failed logins;
/// returns the password, to be shown once. Who may ask for it is for the caller to check.
pub async fn reset_password(users: &Users, username: &str) -> Result<String, ApiError> {
    let stored = users.get(username).await?.ok_or_else(|| ApiError::NotFound(format!("user {username}")))?;
    let password = password::random();
    let mut user = stored.value;
    user.password_hash = password::hash(password.clone()).await?;
    user.must_change_password = true;
    user.session_epoch += 1;
    users.put(&user, Condition::Version(stored.version)).await?;
    users.clear_failed_logins(username).await?;
    tracing::warn!(username, "password reset");
    Ok(password)
}

/// Whether a login name can be one: 1 to 64 of letters, digits and `._@+-`.
pub fn valid_username(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@+-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgetting_a_few_failures_makes_no_guess_faster_than_the_longest_wait() {
        let per_day = |attempts: i64, seconds: i64| attempts * 24 * 3600 / seconds;
        let few = per_day(i64::from(FREE_ATTEMPTS) - 1, remembered_for(FREE_ATTEMPTS - 1));
        assert!(few <= per_day(1, LONGEST_WAIT_SECONDS));
        assert!(remembered_for(FREE_ATTEMPTS) > LONGEST_WAIT_SECONDS);
    }

    #[test]
    fn waits_double_up_to_a_quarter_of_an_hour() {
        assert_eq!([4, 5, 6, 7, 11, 40].map(wait_after), [None, Some(15), Some(30), Some(60), Some(900), Some(900)]);
    }
}
