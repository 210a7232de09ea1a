//! From a checked command line to an exit code.

mod append;
pub(crate) mod args;
mod cache;
mod info;
mod output;
#[cfg(feature = "server")]
mod remote;
#[cfg(feature = "server")]
mod serve;
mod shell;
mod sql;
mod statements;
mod table;
mod writer;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use tokio::runtime::Runtime;

use args::Task;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything was done.
    Done,
    /// Something was asked for and could not be done.
    Failed,
    /// The command line itself is wrong.
    Misused,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::Failed => 1,
            Outcome::Misused => 2,
        })
    }
}

/// Does what the command line asks for.
pub(crate) fn run(task: Task) -> Outcome {
    let threads = match &task {
        Task::Query(query) => query.session.threads,
        Task::Append(append) => append.session.threads,
        Task::Info(_) | Task::Cache(_) => None,
        #[cfg(feature = "server")]
        Task::Serve(_) => None,
    };
    let runtime = match runtime(threads) {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return Outcome::Failed;
        }
    };
    let outcome = match task {
        Task::Query(query) => runtime.block_on(sql::run(query)),
        Task::Cache(cache) => cache::run(&cache),
        Task::Info(info) => runtime.block_on(info::run(&info)),
        Task::Append(append) => runtime.block_on(append::run(append)),
        #[cfg(feature = "server")]
        Task::Serve(serve) => runtime.block_on(serve::run(serve)),
    };
    // Everything has been written: waiting for idle threads to end would only cost time.
    runtime.shutdown_background();
    outcome
}

fn runtime(threads: Option<usize>) -> std::io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads.max(1));
    }
    builder.enable_all().build()
}

/// Tells a person what went wrong. A standard error that is closed is nobody to tell.
fn complain(error: &impl Display) {
    let _ = writeln!(std::io::stderr(), "error: {error}");
}
