//! Passwords: made, hashed and checked with Argon2id (RFC 9106).
//!
//! Hashing takes tens of milliseconds and 19 MiB on purpose, so it runs off the async threads and only a few
//! at a time: a flood of logins waits for its turn and then is turned away, while everything else goes on.

use std::{sync::LazyLock, time::Duration};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use rand::Rng;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Shortest password accepted (NIST SP 800-63B-4 asks for 15 where it is the only factor).
pub const MIN_LENGTH: usize = 15;
/// Longest, so that hashing stays cheap to refuse.
pub const MAX_LENGTH: usize = 256;
/// How long a hash may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// The hash of a random password that nobody knows, at the cost that [`hash`] has. Checked when there is no
/// user, so that the time taken does not tell which users exist.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRmb3Jub29uZQ$v0dRr5yNgeOBqHYq1m3L2kJoTgQZbQ0pR9nWc2c1M7s";

/// Half of the processors hash at the same time, at least one.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(at_once()));

fn at_once() -> usize {
    std::thread::available_parallelism().map_or(1, |n| (n.get() / 2).max(1))
}

/// What can go wrong with a password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too short or too long.
    #[error("a password has {MIN_LENGTH} to {MAX_LENGTH} characters")]
    Length,
    /// Too many are being hashed.
    #[error("too many passwords are being checked")]
    Busy,
    /// Hashing failed.
    #[error("hashing failed: {0}")]
    Hash(String),
}

/// The right to hash once.
#[derive(Debug)]
pub struct Turn(SemaphorePermit<'static>);

/// Waits for a turn to hash.
pub async fn turn() -> Result<Turn, PasswordError> {
    match tokio::time::timeout(PATIENCE, TURNS.acquire()).await {
        Ok(Ok(permit)) => Ok(Turn(permit)),
        Ok(Err(_)) | Err(_) => Err(PasswordError::Busy),
    }
}

/// A random password of 24 characters from letters and digits that are not mistaken for each other.
pub fn random() -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut rng = rand::rng();
    (0..24).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect()
}

/// Whether a password may be chosen.
pub fn check_length(password: &str) -> Result<(), PasswordError> {
    if (MIN_LENGTH..=MAX_LENGTH).contains(&password.chars().count()) { Ok(()) } else { Err(PasswordError::Length) }
}

/// Hashes a password that somebody chose.
pub async fn hash(password: String) -> Result<String, PasswordError> {
    check_length(&password)?;
    off_thread(turn().await?, move || {
        Argon2::default().hash_password(password.as_bytes()).map(|h| h.to_string()).map_err(|e| e.to_string())
    })
    .await
}

/// Whether a password is the one behind a hash. Without a hash (no such user) the same work is done and the
/// answer is no.
pub async fn verify(turn: Turn, password: String, hash: Option<String>) -> Result<bool, PasswordError> {
    // Nobody's password is longer: said before any work, whoever is asked for.
    if password.chars().count() > MAX_LENGTH {
        return Ok(false);
    }
    off_thread(turn, move || {
        let known = hash.is_some();
        let text = hash.unwrap_or_else(|| NOBODY.to_owned());
        let parsed = PasswordHash::new(&text).map_err(|e| e.to_string())?;
        match Argon2::default().verify_password(password.as_bytes(), &parsed) {
            Ok(()) => Ok(known),
            Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
            Err(e) => Err(e.to_string()),
        }
    })
    .await
}

/// The turn goes along, so that work whose caller has gone away still counts until it is done.
async fn off_thread<T: Send + 'static>(
    turn: Turn,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, PasswordError> {
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn.0);
        done
    });
    done.await.map_err(|e| PasswordError::Hash(e.to_string()))?.map_err(PasswordError::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fits(password: &str, hash: Option<&str>) -> bool {
        verify(turn().await.unwrap(), password.to_owned(), hash.map(str::to_owned)).await.unwrap()
    }

    #[tokio::test]
    async fn a_hash_fits_its_password_alone() {
        let hashed = hash("correct horse battery".into()).await.unwrap();
        assert!(fits("correct horse battery", Some(&hashed)).await);
        assert!(!fits("Correct horse battery", Some(&hashed)).await);
        assert!(!fits("correct horse battery", None).await);
        assert!(!fits("", Some(&hashed)).await);
    }

    #[tokio::test]
    async fn nobodys_hash_costs_what_a_users_does() {
        let users = hash("correct horse battery".into()).await.unwrap();
        let (users, nobody) = (PasswordHash::new(&users).unwrap(), PasswordHash::new(NOBODY).unwrap());
        assert_eq!(nobody.algorithm, users.algorithm);
        assert_eq!(nobody.version, users.version);
        assert_eq!(nobody.params, users.params);
        let lengths = |h: &PasswordHash| (h.salt.unwrap().as_ref().len(), h.hash.unwrap().as_bytes().len());
        assert_eq!(lengths(&nobody), lengths(&users));
    }

    #[tokio::test]
    async fn a_damaged_hash_is_an_error_and_no_wrong_password() {
        let damaged = verify(turn().await.unwrap(), "correct horse battery".into(), Some("$argon2id$".into())).await;
        assert!(matches!(damaged, Err(PasswordError::Hash(_))));
    }

    #[tokio::test]
    async fn short_and_overlong_passwords_are_refused() {
        assert!(matches!(hash("fourteen chars".into()).await, Err(PasswordError::Length)));
        assert!(matches!(hash("x".repeat(257)).await, Err(PasswordError::Length)));
        // Characters count, not bytes.
        assert!(check_length(&"ä".repeat(256)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_turned_away_after_a_while() {
        let mut all = Vec::new();
        for _ in 0..at_once() {
            all.push(TURNS.acquire().await.unwrap());
        }
        assert!(matches!(turn().await, Err(PasswordError::Busy)));
        assert!(matches!(hash("correct horse battery".into()).await, Err(PasswordError::Busy)));
        drop(all);
        // Other tests of this process take turns too, and the paused clock does not wait for them.
        for _ in 0..500 {
            if turn().await.is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("a turn that was given back is never free again");
    }

    #[test]
    fn random_passwords_differ_and_are_long_enough() {
        assert_ne!(random(), random());
        assert!(check_length(&random()).is_ok());
    }
}
