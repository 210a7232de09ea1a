//! Appends slices to a dataset.

use std::io::{ErrorKind, Write};

use hyperslab::error::{Error, Result};
use hyperslab::ingest::config::{AppendConfig, Profiling, SCHEMA, markdown};
use hyperslab::ingest::{Action, Ingest, SliceItem};
use hyperslab::session::{Session, sentence};

use super::args::{Append, HelpFormat};
use super::{Outcome, complain, sql};

/// Appends slices one after the other, up to the first failure.
pub(crate) async fn run(append: Append) -> Outcome {
    if let Some(format) = append.help {
        return help(format);
    }
    let config = match AppendConfig::load(&append.files, append.over.clone()) {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return Outcome::Misused;
        }
    };
    if append.slices.is_empty() {
        return print("No slice datasets given.\n");
    }
    let session = match Session::with_options(&append.session) {
        Ok(session) => session,
        Err(error) => {
            complain(&sentence(&error));
            return Outcome::Failed;
        }
    };
    if let Err(outcome) = sql::prepare(&session, &append.settings, &[]).await {
        return outcome;
    }
    let mut count = 0;
    match slices(&session, config, &append.slices, &mut count).await {
        Ok(()) => {
            let plural = if count == 1 { "" } else { "s" };
            print(&format!("{count} slice dataset{plural} processed.\n"))
        }
        Err(error) => {
            complain(&error);
            if append.slices.len() > 1 {
                let all = append.slices.len();
                complain(&format!(
                    "{count} of {all} slices were processed before; --resume goes on behind them"
                ));
            }
            Outcome::Failed
        }
    }
}

async fn slices(
    session: &Session,
    config: AppendConfig,
    slices: &[String],
    count: &mut usize,
) -> Result<()> {
    let mut ingest = Ingest::new(session, config).await?;
    let tells = ingest.config().logging;
    let dry_run = ingest.config().dry_run;
    let mut failure = None;
    let slices: Vec<SliceItem> = slices.iter().map(|slice| slice.as_str().into()).collect();
    while let Some(left) = slices.get(*count..).filter(|left| !left.is_empty()) {
        let reports = match ingest.slices(left).await {
            Ok(reports) => reports,
            Err(error) => {
                failure = Some(error);
                break;
            }
        };
        *count += reports.len();
        for report in reports {
            if dry_run {
                let _ = writeln!(std::io::stdout(), "{report}");
            } else if tells || report.action == Action::Skipped || !report.filled.is_empty() {
                // A standard error that is closed is nobody to tell.
                let _ = writeln!(std::io::stderr(), "{report}");
            }
        }
    }
    let profile = ingest.profile();
    match &ingest.config().profiling {
        Profiling::Off => {}
        Profiling::Shown => {
            let _ = writeln!(std::io::stderr(), "{profile}");
        }
        Profiling::File(path) => {
            let json = serde_json::to_vec_pretty(&profile)
                .map_err(|error| Error::io("the profile cannot be written", error))?;
            std::fs::write(path, json)
                .map_err(|error| Error::io(format!("{path} cannot be written"), error))?;
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn help(format: HelpFormat) -> Outcome {
    match format {
        HelpFormat::Json => print(SCHEMA),
        HelpFormat::Md => match markdown() {
            Ok(page) => print(&page),
            Err(error) => {
                complain(&error);
                Outcome::Failed
            }
        },
    }
}

fn print(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Outcome::Done,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Outcome::Done,
        Err(error) => {
            complain(&format!("standard output: {error}"));
            Outcome::Failed
        }
    }
}
