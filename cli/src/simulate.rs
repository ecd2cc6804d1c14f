//! `sentinel simulate` and `sentinel train`: activity to try things on, and the model made from it.

use std::io::{BufWriter, Write};

use anyhow::{Context, Result};
use sentinel_detect::models::train;
use sentinel_model::time;
use sentinel_simulator::{Company, CompanyOptions, ScenarioOptions, day_with_attack};

use crate::args::{SimulateArgs, TrainArgs};

/// Writes a company's records to standard output, one a line.
pub(crate) fn simulate(args: &SimulateArgs) -> Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    if args.attack {
        let end = time::plus_seconds(args.start, i64::from(args.days) * 86_400);
        let options =
            ScenarioOptions { seed: args.seed, people: args.people, days: args.days, end, ..ScenarioOptions::default() };
        for record in day_with_attack(&options).records {
            serde_json::to_writer(&mut out, &record)?;
            out.write_all(b"\n")?;
        }
    } else {
        let options = CompanyOptions {
            seed: args.seed,
            people: args.people,
            days: args.days,
            start: args.start,
            ..CompanyOptions::default()
        };
        for record in Company::new(options).events() {
            serde_json::to_writer(&mut out, &record)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    Ok(())
}

/// Trains the behaviour model and writes it with its manifest.
pub(crate) fn train(args: &TrainArgs) -> Result<()> {
    std::fs::create_dir_all(&args.out).with_context(|| format!("making {}", args.out.display()))?;
    let report = train::train_from_simulation(args.seed)?.write(&args.out)?;
    println!("{report}");
    Ok(())
}
