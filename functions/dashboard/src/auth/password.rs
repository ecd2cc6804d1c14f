//! Passwords: made, hashed and checked with Argon2id (RFC 9106).
//!
//! Hashing takes tens of milliseconds on purpose, so it runs off the async threads.

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use rand::Rng;

/// Shortest password accepted (NIST SP 800-63B-4 asks for 15 where it is the only factor).
pub const MIN_LENGTH: usize = 15;
/// Longest, so that hashing stays cheap to refuse.
pub const MAX_LENGTH: usize = 256;

/// What can go wrong with a password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too short or too long.
    #[error("a password has {MIN_LENGTH} to {MAX_LENGTH} characters")]
    Length,
    /// Hashing failed.
    #[error("hashing failed: {0}")]
    Hash(String),
}

/// A random password of 24 characters from letters and digits that are not mistaken for each other.
pub fn random() -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let mut rng = rand::rng();
    (0..24).map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())])).collect()
}

/// Hashes a password that somebody chose.
pub async fn hash(password: String) -> Result<String, PasswordError> {
    let length = password.chars().count();
    if !(MIN_LENGTH..=MAX_LENGTH).contains(&length) {
        return Err(PasswordError::Length);
    }
    tokio::task::spawn_blocking(move || {
        Argon2::default()
            .hash_password(password.as_bytes())
            .map(|h| h.to_string())
            .map_err(|e| PasswordError::Hash(e.to_string()))
    })
    .await
    .map_err(|e| PasswordError::Hash(e.to_string()))?
}

/// Whether a password is the one behind a hash. Without a hash (no such user) the same work is done and the
/// answer is no, so that timing does not tell which users exist.
pub async fn verify(password: String, hash: Option<String>) -> Result<bool, PasswordError> {
    // The hash of a random password that nobody knows, at the default cost.
    const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRmb3Jub29uZQ$v0dRr5yNgeOBqHYq1m3L2kJoTgQZbQ0pR9nWc2c1M7s";
    if password.len() > MAX_LENGTH * 4 {
        return Ok(false);
    }
    tokio::task::spawn_blocking(move || {
        let known = hash.is_some();
        let text = hash.unwrap_or_else(|| NOBODY.to_owned());
        let parsed = PasswordHash::new(&text).map_err(|e| PasswordError::Hash(e.to_string()))?;
        let fits = Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok();
        Ok(fits && known)
    })
    .await
    .map_err(|e| PasswordError::Hash(e.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_fits_its_password_alone() {
        let hashed = hash("correct horse battery".into()).await.unwrap();
        assert!(verify("correct horse battery".into(), Some(hashed.clone())).await.unwrap());
        assert!(!verify("Correct horse battery".into(), Some(hashed)).await.unwrap());
        assert!(!verify("correct horse battery".into(), None).await.unwrap());
    }

    #[tokio::test]
    async fn short_passwords_are_refused() {
        assert!(matches!(hash("short".into()).await, Err(PasswordError::Length)));
    }

    #[test]
    fn random_passwords_differ() {
        assert_ne!(random(), random());
    }
}
