//! The binary: reads the command line, runs one command, says what came of it.

mod cli;
mod commands;
mod output;
mod progress;
mod source;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let Cli { command, common } = Cli::parse();
    if let Some(threads) = common.threads {
        // Fails only where the pool exists already, and nothing has run yet.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
    let done = match command {
        Command::Inspect(args) => commands::inspect::run(args, &common),
        Command::Plan(args) => commands::plan::run(args, &common),
        Command::CalibrateData(args) => commands::calibrate_data::run(args, &common),
        Command::Compress(args) => commands::compress::run(*args, &common),
        Command::Imatrix(args) => commands::imatrix::run(args, &common),
        Command::Convert(args) => commands::convert::run(args, &common),
        Command::Order(args) => commands::order::run(args, &common),
        Command::Eval(args) => commands::eval::run(args, &common),
        Command::Verify(args) => commands::verify::run(args, &common),
        Command::Run(args) => commands::run::run(args, &common),
        Command::Train(args) => commands::train::run(args, &common),
        Command::Report(args) => commands::report::run(args, &common),
        Command::Completions { shell } => commands::completions::run(shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::fail(&error, common.json),
    }
}
