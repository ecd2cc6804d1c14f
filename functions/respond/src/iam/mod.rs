//! IAM behind a narrow port: who owns a key, what state it is in, and setting that state.
//!
//! [`port`] is what the product needs of IAM, no more; [`simulated`] is the demonstration's account,
//! [`unconnected`] stands for "no account connected", [`elsewhere`] for "another process makes the calls", and
//! [`conformance`] is what every adapter must pass.

pub mod conformance;
pub mod elsewhere;
pub mod port;
pub mod simulated;
pub mod unconnected;

pub use elsewhere::ElsewhereIam;
pub use port::{Iam, IamError, KeyOwner, KeyStatus};
pub use simulated::{SimulatedIam, SimulatedUser};
pub use unconnected::UnconnectedIam;
