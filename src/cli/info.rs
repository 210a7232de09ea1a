//! Shows what is in datasets.

use std::io::{ErrorKind, Write};

use hyperslab::catalog::describe::{Description, describe};
use hyperslab::error::Error;
use hyperslab::session::{Session, sentence};

use super::args::{Info, InfoFormat};
use super::{Outcome, complain};

/// Describes one dataset after the other.
pub(crate) async fn run(info: &Info) -> Outcome {
    let session = match Session::new() {
        Ok(session) => session,
        Err(error) => {
            complain(&sentence(&error));
            return Outcome::Failed;
        }
    };
    let mut outcome = Outcome::Done;
    for (at, path) in info.paths.iter().enumerate() {
        let shown = match describe_path(&session, path).await {
            Ok(description) => show(&description, info.format, at),
            Err(error) => {
                complain(&error);
                outcome = Outcome::Failed;
                continue;
            }
        };
        match shown {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return outcome,
            Err(error) => {
                complain(&format!("standard output: {error}"));
                return Outcome::Failed;
            }
        }
    }
    outcome
}

async fn describe_path(session: &Session, path: &str) -> Result<Description, Error> {
    let opened = session.open(path).await?;
    describe(&opened).await
}

fn show(description: &Description, format: InfoFormat, at: usize) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match format {
        InfoFormat::Text => {
            if at > 0 {
                writeln!(out)?;
            }
            write!(out, "{description}")?;
        }
        InfoFormat::Json => {
            serde_json::to_writer_pretty(&mut out, description)?;
            writeln!(out)?;
        }
    }
    out.flush()
}
