//! `tinier completions`: a script for the user's shell.

use crate::cli::Cli;
use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

pub fn run(shell: Shell) -> Result<()> {
    clap_complete::generate(shell, &mut Cli::command(), "tinier", &mut std::io::stdout());
    Ok(())
}
