//! The words that every stage shares: events, principals, alerts, incidents, responses and the
//! messages that carry them.
//!
//! Plain data and pure functions only: no input or output, no clock, no store. A change here is a
//! change of what the product means, so each word is defined once, in the module that bears its name.

pub mod alert;
pub mod attack;
pub mod event;
pub mod fast_hash;
pub mod hash;
pub mod incident;
pub mod level;
pub mod lineage;
pub mod message;
pub mod own_roles;
pub mod principal;
pub mod provenance;
pub mod response;
pub mod time;

pub use alert::{
    Alert, AlertState, Correlated, Detection, EventRef, Indicators, KeyUse, Member, RuleRef, Verdict, Window,
};
pub use attack::Attack;
pub use event::{Action, Event, Network, Outcome, RawRecord, SourceKind, Target};
pub use incident::Incident;
pub use level::Level;
pub use lineage::{Identity, LineageEdge};
pub use own_roles::OwnRoles;
pub use principal::{Principal, PrincipalKind};
pub use provenance::{Channel, Provenance};
pub use time::Timestamp;
