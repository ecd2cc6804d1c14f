//! The caller of a request: read from its `Authorization` header and looked up at every request, so that a
//! disabled user or a deleted token stops at once; and what an operation asks of its caller.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use sentinel_state::users::{Role, User};

use super::token::{self, Kind};
use crate::{Dashboard, error::ApiError};

/// What an operation asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Public,
    /// A logged-in user, even one who must change the password first.
    LoggedIn,
    /// A user of at least this role, whose password need not be changed first.
    Role(Role),
    /// An administrator, or a token with this scope.
    Scope(&'static str),
}

/// What a caller may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rights {
    /// A logged-in user.
    User(Box<User>),
    /// A program with scopes.
    Token {
        /// The token's id.
        id: String,
        /// Its name.
        name: String,
        /// Its scopes.
        scopes: Vec<String>,
    },
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Rights);

impl Caller {
    /// The caller that the headers prove.
    pub async fn authenticate(headers: &HeaderMap, app: &Dashboard) -> Result<Self, ApiError> {
        let value = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let token = match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return Err(ApiError::Unauthorized("send Authorization: Bearer TOKEN")),
        };
        let claims = token::check(app.signing.as_ref(), token, app.clock.now()).await?;
        match claims.kind {
            Kind::Session => {
                let user = app.users.get(&claims.sub).await?.map(|v| v.value);
                match user {
                    Some(user) if !user.disabled && user.session_epoch == claims.epoch => {
                        Ok(Self(Rights::User(Box::new(user))))
                    }
                    _ => Err(ApiError::Unauthorized("the session has ended")),
                }
            }
            Kind::Api => match app.users.token(&claims.sub).await? {
                Some(t) => Ok(Self(Rights::Token { id: t.id, name: t.name, scopes: t.scopes })),
                None => Err(ApiError::Unauthorized("the token has been deleted")),
            },
        }
    }

    /// Whether the caller may do what asks for this.
    pub fn check(&self, access: Access) -> Result<(), ApiError> {
        match (&self.0, access) {
            (_, Access::Public) | (Rights::User(_), Access::LoggedIn) => Ok(()),
            (Rights::User(user), Access::Role(role)) => has_role(user, role),
            (Rights::User(user), Access::Scope(_)) => has_role(user, Role::Admin),
            (Rights::Token { scopes, .. }, Access::Scope(scope)) if scopes.iter().any(|s| s == scope) => Ok(()),
            (Rights::Token { .. }, Access::Scope(scope)) => {
                Err(ApiError::Forbidden(format!("the token lacks the scope {scope}")))
            }
            (Rights::Token { .. }, _) => Err(ApiError::Forbidden("API tokens cannot do this".into())),
        }
    }

    /// The user.
    pub fn user(&self) -> Result<&User, ApiError> {
        match &self.0 {
            Rights::User(user) => Ok(user),
            Rights::Token { .. } => Err(ApiError::Forbidden("API tokens cannot do this".into())),
        }
    }

    /// How the caller is named in what it leaves behind.
    pub fn name(&self) -> String {
        match &self.0 {
            Rights::User(user) => user.username.clone(),
            Rights::Token { id, name, .. } => format!("token:{name} ({id})"),
        }
    }
}

fn has_role(user: &User, role: Role) -> Result<(), ApiError> {
    if user.must_change_password {
        return Err(ApiError::PasswordChangeRequired);
    }
    if user.role < role {
        return Err(ApiError::Forbidden(format!("this needs the role {}", role.as_str())));
    }
    Ok(())
}

/// Handlers get the caller that the router has checked already.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or(ApiError::Unauthorized("this operation knows no caller"))
    }
}
