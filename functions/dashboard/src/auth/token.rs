//! Sessions and API tokens as JSON Web Tokens (RFC 7519), signed with HMAC-SHA256 by a key that is named in
//! the header (`kid`) and can be rotated: the newest key signs, older ones still check.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rand::Rng;
use sentinel_model::Timestamp;
use sentinel_state::signing::{LONGEST_TOKEN_DAYS, SigningKey, SigningKeys};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// How long a session lasts.
pub const SESSION_SECONDS: i64 = 8 * 3600;
/// Longest life of an API token.
pub const MAX_API_TOKEN_DAYS: i64 = LONGEST_TOKEN_DAYS;
const ISSUER: &str = "cloudsentinel";

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A person's session.
    Session,
    /// A program's token.
    Api,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer.
    pub iss: String,
    /// The user of a session; the id of an API token.
    pub sub: String,
    /// What it is for.
    pub kind: Kind,
    /// The user's session epoch when it was issued.
    pub epoch: u64,
    /// Issued at, Unix seconds.
    pub iat: i64,
    /// Ends at, Unix seconds.
    pub exp: i64,
}

/// Issues a token that ends at `expires_at`.
pub async fn issue(
    keys: &dyn SigningKeys,
    kind: Kind,
    subject: &str,
    epoch: u64,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<String, ApiError> {
    let key = signing_key(keys, now).await?;
    let claims = Claims {
        iss: ISSUER.into(),
        sub: subject.into(),
        kind,
        epoch,
        iat: now.as_second(),
        exp: expires_at.as_second(),
    };
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(key.kid.clone());
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(key.secret.as_bytes())).map_err(ApiError::internal)
}

/// Checks a token's signature, issuer and time. Whether its subject still may is for the caller to ask.
pub async fn check(keys: &dyn SigningKeys, token: &str, now: Timestamp) -> Result<Claims, ApiError> {
    const INVALID: ApiError = ApiError::Unauthorized("the token is not valid");
    let header = jsonwebtoken::decode_header(token).map_err(|_| INVALID)?;
    let kid = header.kid.ok_or(INVALID)?;
    let key = keys.find(&kid).await?.ok_or(INVALID)?;
    // Only this algorithm, whatever the header says: `none` and keys taken for another algorithm's fail.
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_issuer(&[ISSUER]);
    validation.set_required_spec_claims(&["iss", "exp"]);
    // Checked below against our own clock, so that tests and replays can move it.
    validation.validate_exp = false;
    let claims = jsonwebtoken::decode::<Claims>(token, &DecodingKey::from_secret(key.secret.as_bytes()), &validation)
        .map_err(|_| INVALID)?
        .claims;
    if claims.exp <= now.as_second() {
        return Err(ApiError::Unauthorized("the token has expired"));
    }
    Ok(claims)
}

/// The newest signing key; makes the first one, and a new one when it has grown old.
async fn signing_key(keys: &dyn SigningKeys, now: Timestamp) -> Result<SigningKey, ApiError> {
    match keys.list().await?.into_iter().next() {
        Some(key) if now < key.signs_until() => Ok(key),
        _ => rotate(keys, now).await,
    }
}

/// Adds a new signing key, which signs from now on; older ones check until the last token they signed has ended.
pub async fn rotate(keys: &dyn SigningKeys, now: Timestamp) -> Result<SigningKey, ApiError> {
    let secret: [u8; 32] = rand::rng().random();
    let key = SigningKey { kid: uuid::Uuid::new_v4().to_string(), secret: hex::encode(secret), created_at: now };
    keys.add(&key).await?;
    tracing::info!(kid = key.kid, "signing key made");
    Ok(key)
}
