//! Tests of the whole stage over the embedded store: a world with a simulated account, ports that crash,
//! throttle and repeat, and what must hold in it.

mod crash;
mod decisions;
mod guards;
mod handling;
mod iam;
mod notices;
mod own;
mod random;
mod undoing;
mod world;
