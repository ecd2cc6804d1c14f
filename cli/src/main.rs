//! The `sentinel` binary: every stage wired in one process, and the commands around it.
//!
//! `main` only parses the command line and hands over; each command has its module.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod cloud;
mod config;
mod coverage;
mod demo;
mod folder;
mod http;
mod pipeline;
mod respond;
mod rules;
mod scan;
mod serve;
mod simulate;
mod user;
mod watch;

use args::{Cli, Command};

/// A scan makes and drops many small pieces on every thread: what was dropped last is still near the processor, and is
/// given out first.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let prints_only =
        matches!(command, Command::Scan(_) | Command::Backtest(_) | Command::Rules(_) | Command::Simulate(_));
    match run(command) {
        Ok(code) => code,
        // The reader of a pipe went away, as `head` does: that is no failure of ours.
        Err(e) if prints_only && is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("sentinel: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        kind.or(json) == Some(std::io::ErrorKind::BrokenPipe)
    })
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Scan(args) => scan::run(&args),
        Command::Backtest(args) => scan::backtest::run(args),
        Command::Rules(args) => rules::run(args),
        Command::Simulate(args) => simulate::simulate(&args).map(|()| ExitCode::SUCCESS),
        Command::Serve(args) => block_on(serve::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Respond(args) => block_on(respond::run(args)).map(|()| ExitCode::SUCCESS),
        Command::User(args) => block_on(user::run(args)).map(|()| ExitCode::SUCCESS),
    }
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(future)
}
