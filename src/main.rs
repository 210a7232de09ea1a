//! The command line of hyperslab: statements in, rows out.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(cli::args::task()).into()
}
