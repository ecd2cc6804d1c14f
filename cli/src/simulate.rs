//! `sentinel simulate`: a company's activity to try things on, with or without an attack in it.

use std::io::{BufWriter, Write};

use anyhow::Result;
use sentinel_model::time;
use sentinel_simulator::{Company, CompanyOptions, ScenarioOptions, day_with_attack};

use crate::args::SimulateArgs;

/// Writes a company's records to standard output, one a line.
pub(crate) fn simulate(args: &SimulateArgs) -> Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    if args.attack {
        let end = time::plus_seconds(args.start, i64::from(args.days) * 86_400);
        let options = ScenarioOptions {
            seed: args.seed,
            people: args.people,
            days: args.days,
            end,
            ..ScenarioOptions::default()
        };
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
