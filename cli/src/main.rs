//! The `sentinel` binary: every stage wired in one process, and the commands around it.
//!
//! `main` only parses the command line and hands over; each command has its module.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod config;
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

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("sentinel: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Scan(args) => scan::run(&args),
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
