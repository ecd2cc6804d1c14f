//! The caller of a request: read from its `Authorization` header and looked up at every request, so that a
//! disabled user or a deleted token stops at once.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use sentinel_state::users::{Role, User};

use super::token::{self, Kind};
use crate::{Dashboard, error::ApiError};

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
    /// The user, if their role is at least `role`.
    pub fn require(&self, role: Role) -> Result<&User, ApiError> {
        let Rights::User(user) = &self.0 else {
            return Err(ApiError::Forbidden("API tokens cannot do this".into()));
        };
        if user.must_change_password {
            return Err(ApiError::PasswordChangeRequired);
        }
        if user.role < role {
            return Err(ApiError::Forbidden(format!("this needs the role {}", role_name(role))));
        }
        Ok(user)
    }

    /// The caller's name, if an admin or a token with this scope.
    pub fn require_scope(&self, scope: &str) -> Result<String, ApiError> {
        match &self.0 {
            Rights::User(_) => self.require(Role::Admin).map(|u| u.username.clone()),
            Rights::Token { id, name, scopes } if scopes.iter().any(|s| s == scope) => Ok(format!("token:{name} ({id})")),
            Rights::Token { .. } => Err(ApiError::Forbidden(format!("the token lacks the scope {scope}"))),
        }
    }

    /// The user, even one who must change the password first.
    pub fn any_user(&self) -> Result<&User, ApiError> {
        match &self.0 {
            Rights::User(user) => Ok(user),
            Rights::Token { .. } => Err(ApiError::Forbidden("API tokens cannot do this".into())),
        }
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Analyst => "analyst",
        Role::Admin => "admin",
    }
}

impl FromRequestParts<Arc<Dashboard>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<Dashboard>) -> Result<Self, ApiError> {
        let value = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let token = match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return Err(ApiError::Unauthorized("send Authorization: Bearer TOKEN")),
        };
        let claims = token::check(&app.users, token, app.clock.now()).await?;
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
}
