//! The routes of the API, one module a resource.
//!
//! [`operations`] is the one list of everything that can be asked for, and each entry says what it asks of its
//! caller: the router checks that before any handler runs or any body is read, so that an operation without
//! a check cannot be written.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    handler::Handler,
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{self, Next},
    response::Response,
    routing::{self, MethodRouter},
};
use sentinel_state::users::Role;
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer, trace::TraceLayer};

use crate::{
    Dashboard,
    auth::{Access, Caller},
    error::{self, ApiError},
    page,
};

mod alerts;
mod backtests;
mod events;
mod health;
mod incidents;
mod kill_switch;
mod logs;
mod request;
mod responses;
mod session;
mod stats;
mod tokens;
mod users;

use request::{Body, Id, Items, Params};

/// One operation of the HTTP surface.
pub struct Operation {
    /// Its method.
    pub method: Method,
    /// Its path, parameters in braces.
    pub path: &'static str,
    /// What it asks of its caller.
    pub access: Access,
    /// Whether it takes query parameters.
    pub query: bool,
    route: MethodRouter<Arc<Dashboard>>,
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({:?})", self.method, self.path, self.access)
    }
}

impl Operation {
    fn with_query(mut self) -> Self {
        self.query = true;
        self
    }
}

fn operation(method: Method, path: &'static str, access: Access, route: MethodRouter<Arc<Dashboard>>) -> Operation {
    Operation { method, path, access, query: false, route }
}

fn get<H: Handler<T, Arc<Dashboard>>, T: 'static>(path: &'static str, access: Access, handler: H) -> Operation {
    operation(Method::GET, path, access, routing::get(handler))
}

fn post<H: Handler<T, Arc<Dashboard>>, T: 'static>(path: &'static str, access: Access, handler: H) -> Operation {
    operation(Method::POST, path, access, routing::post(handler))
}

fn patch<H: Handler<T, Arc<Dashboard>>, T: 'static>(path: &'static str, access: Access, handler: H) -> Operation {
    operation(Method::PATCH, path, access, routing::patch(handler))
}

fn put<H: Handler<T, Arc<Dashboard>>, T: 'static>(path: &'static str, access: Access, handler: H) -> Operation {
    operation(Method::PUT, path, access, routing::put(handler))
}

fn delete<H: Handler<T, Arc<Dashboard>>, T: 'static>(path: &'static str, access: Access, handler: H) -> Operation {
    operation(Method::DELETE, path, access, routing::delete(handler))
}

/// Everything that can be asked for, but the page's files.
pub fn operations() -> Vec<Operation> {
    use Access::{LoggedIn, Public, Role as Needs, Scope};
    use Role::{Admin, Analyst, Viewer};
    vec![
        post("/api/v1/auth/login", Public, session::log_in),
        post("/api/v1/auth/password", LoggedIn, session::change_password),
        get("/api/v1/auth/me", LoggedIn, session::me),
        get("/api/v1/users", Needs(Admin), users::list),
        post("/api/v1/users", Needs(Admin), users::create),
        patch("/api/v1/users/{username}", Needs(Admin), users::change),
        get("/api/v1/tokens", Needs(Admin), tokens::list),
        post("/api/v1/tokens", Needs(Admin), tokens::create),
        delete("/api/v1/tokens/{id}", Needs(Admin), tokens::delete),
        get("/api/v1/alerts", Needs(Viewer), alerts::list).with_query(),
        get("/api/v1/alerts/{id}", Needs(Viewer), alerts::show),
        patch("/api/v1/alerts/{id}", Needs(Analyst), alerts::triage),
        get("/api/v1/incidents", Needs(Viewer), incidents::list).with_query(),
        get("/api/v1/incidents/{id}", Needs(Viewer), incidents::show),
        get("/api/v1/responses", Needs(Viewer), responses::list).with_query(),
        get("/api/v1/responses/{id}", Needs(Viewer), responses::show),
        post("/api/v1/responses/{id}/approve", Needs(Admin), responses::approve),
        post("/api/v1/responses/{id}/deny", Needs(Admin), responses::deny),
        post("/api/v1/responses/{id}/undo", Needs(Admin), responses::undo),
        get("/api/v1/kill-switch", Needs(Viewer), kill_switch::show),
        put("/api/v1/kill-switch", Needs(Admin), kill_switch::set),
        get("/api/v1/backtests", Needs(Viewer), backtests::list).with_query(),
        post("/api/v1/backtests", Needs(Admin), backtests::create),
        get("/api/v1/backtests/{id}", Needs(Viewer), backtests::show),
        post("/api/v1/backtests/{id}/cancel", Needs(Admin), backtests::cancel),
        get("/api/v1/stats", Needs(Viewer), stats::stats),
        get("/api/v1/events", Needs(Viewer), events::search).with_query(),
        get("/api/v1/health", Public, health::health),
        post("/api/v1/logs", Scope(tokens::LOGS_WRITE), logs::accept),
        get("/metrics", Public, health::metrics),
    ]
}

/// The whole HTTP surface: API, metrics and page.
pub fn router(app: Arc<Dashboard>) -> Router {
    let mut router = Router::new();
    for operation in operations() {
        let gate = Gate { app: Arc::clone(&app), access: operation.access, query: operation.query };
        router = router.route(operation.path, operation.route.route_layer(middleware::from_fn_with_state(gate, admit)));
    }
    let router = router
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .fallback(page::serve)
        .with_state(app)
        .layer(DefaultBodyLimit::max(request::SMALL_BODY_BYTES))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(TraceLayer::new_for_http());
    SECURITY_HEADERS.iter().fold(router, |router, (name, value)| {
        router.layer(SetResponseHeaderLayer::if_not_present(name.clone(), HeaderValue::from_static(value)))
    })
}

/// What stands before an operation.
#[derive(Clone)]
struct Gate {
    app: Arc<Dashboard>,
    access: Access,
    query: bool,
}

/// Lets a request through to its operation if its caller may.
async fn admit(State(gate): State<Gate>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    if gate.access != Access::Public {
        let caller = Caller::authenticate(request.headers(), &gate.app).await?;
        caller.check(gate.access)?;
        request.extensions_mut().insert(caller);
    }
    if !gate.query && request.uri().query().is_some_and(|q| !q.is_empty()) {
        return Err(ApiError::BadRequest("this operation takes no query parameters".into()));
    }
    Ok(next.run(request).await)
}

/// What the OWASP Secure Headers Project asks of a page and an API that load nothing from elsewhere.
const SECURITY_HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];
