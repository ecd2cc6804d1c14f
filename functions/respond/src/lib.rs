//! respond: tells people of alerts and contains what they show, under guardrails.
//!
//! In: messages of the respond queue ([`message`]) and people's decisions ([`decide`]). Out: notices, and for
//! a playbook that says so exactly the access key that was used is deactivated, as a saga that survives a
//! crash, a repetition and a reordering at any point. What is done, or would be, is recorded as responses.

pub mod actions;
pub mod config;
pub mod decide;
pub mod guardrails;
pub mod iam;
pub mod message;
pub mod notify;
pub mod playbook;
pub mod ports;
pub mod webhook;

mod handler;
mod plan;
mod saga;
mod steps;
mod undo;

#[cfg(test)]
mod tests;

pub use config::{Config, ConfigError, Protected};
pub use decide::{DecideError, NOTE_LENGTH};
pub use iam::{ElsewhereIam, Iam, IamError, SimulatedIam, SimulatedUser, UnconnectedIam};
pub use notify::{LogNotifier, Notification, Notifier};
pub use playbook::{Playbook, PlaybookError, Playbooks};
pub use ports::{AlertReader, Approver, Approvers, FoundAlert, Ports};
pub use saga::{Respond, WorkError};
pub use webhook::{WebhookError, WebhookNotifier};
