//! Runs statements one after the other.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use hyperslab::catalog::quote::literal;
use hyperslab::session::{Session, sentence};

use super::args::{Format, Pair, Query, Source};
use super::output::Output;
#[cfg(feature = "server")]
use super::remote::Remote;
use super::statements::{Statement, split};
use super::writer::{ResultWriter, Target};
use super::{Outcome, complain, shell};

/// Runs everything that the command line asks for.
pub(crate) async fn run(query: Query) -> Outcome {
    let engine = match Engine::new(&query).await {
        Ok(engine) => engine,
        Err(outcome) => return outcome,
    };
    let mut runner = Runner {
        engine,
        format: query.format,
        max_rows: query.max_rows,
        output: Output::new(query.output),
        timing: query.timing,
        bail: query.bail,
        has_failed: false,
    };
    if !query.sources.is_empty() {
        for source in &query.sources {
            if runner.source(source).await.is_break() {
                break;
            }
        }
    } else if std::io::stdin().is_terminal() {
        let lines = std::io::stdin().lock();
        shell::run(&mut runner, lines, &mut std::io::stderr()).await;
    } else {
        match std::io::read_to_string(std::io::stdin()) {
            Ok(text) => {
                let _ = runner.statements(None, &text).await;
            }
            Err(error) => {
                let _ = runner.fail(&format!("standard input: {error}"));
            }
        }
    }
    match runner.has_failed {
        true => Outcome::Failed,
        false => Outcome::Done,
    }
}

/// Columns, and rows that come as they are found.
pub(super) type Answer = (SchemaRef, BoxStream<'static, Result<RecordBatch, String>>);

/// What runs statements.
enum Engine {
    Own(Session),
    #[cfg(feature = "server")]
    Server(Box<Remote>),
}

impl Engine {
    /// A session of this process, or a server, with the settings of the command line; tells what is wrong.
    async fn new(query: &Query) -> Result<Self, Outcome> {
        #[cfg(feature = "server")]
        if let Some(connect) = &query.connect {
            let failed = |error: String| {
                complain(&error);
                Outcome::Failed
            };
            let mut remote = Remote::connect(connect).await.map_err(failed)?;
            for setting in &query.settings {
                let rows = remote.stream(&set(setting)).await;
                if let Err(error) = rows {
                    complain(&format!("--set {}={}: {error}", setting.key, setting.value));
                    return Err(Outcome::Misused);
                }
            }
            return Ok(Self::Server(Box::new(remote)));
        }
        let session = Session::with_options(&query.session).map_err(|error| {
            complain(&sentence(&error));
            Outcome::Failed
        })?;
        prepare(&session, &query.settings, &query.names).await?;
        Ok(Self::Own(session))
    }

    /// Runs a statement: its columns, and its rows as they are found.
    async fn stream(&mut self, statement: &str) -> Result<Answer, String> {
        match self {
            Self::Own(session) => {
                let rows = session.stream(statement).await;
                let rows = rows.map_err(|error| sentence(&error))?;
                let schema = rows.schema();
                Ok((schema, rows.map_err(|error| sentence(&error)).boxed()))
            }
            #[cfg(feature = "server")]
            Self::Server(remote) => remote.stream(statement).await,
        }
    }
}

fn set(Pair { key, value }: &Pair) -> String {
    format!("SET {key} = {}", literal(value))
}

/// Settings and names of the command line; tells what is wrong with them.
pub(super) async fn prepare(
    session: &Session,
    settings: &[Pair],
    names: &[Pair],
) -> Result<(), Outcome> {
    for setting in settings {
        if let Err(error) = session.sql(&set(setting)).await {
            let Pair { key, value } = setting;
            complain(&format!("--set {key}={value}: {}", sentence(&error)));
            return Err(Outcome::Misused);
        }
    }
    for Pair { key, value } in names {
        if let Err(error) = session.register(key, value).await {
            complain(&format!("--register {key}={value}: {error}"));
            return Err(Outcome::Failed);
        }
    }
    Ok(())
}

/// Runs statements and remembers whether one failed.
pub(crate) struct Runner {
    engine: Engine,
    format: Format,
    max_rows: Option<usize>,
    output: Output,
    timing: bool,
    bail: bool,
    has_failed: bool,
}

impl Runner {
    async fn source(&mut self, source: &Source) -> ControlFlow<()> {
        match source {
            Source::Text(text) => self.statements(None, text).await,
            Source::File(path) => match std::fs::read_to_string(path) {
                Ok(text) => {
                    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
                    self.statements(Some(path), text).await
                }
                Err(error) => self.fail(&format!("{}: {error}", path.display())),
            },
        }
    }

    /// Runs the statements of a text; those of a file are told with their lines when they fail.
    async fn statements(&mut self, file: Option<&Path>, text: &str) -> ControlFlow<()> {
        for statement in split(text).all() {
            self.statement(file, statement).await?;
        }
        ControlFlow::Continue(())
    }

    /// Runs one statement; breaks when no further one is to be run.
    pub(crate) async fn statement(
        &mut self,
        file: Option<&Path>,
        statement: Statement<'_>,
    ) -> ControlFlow<()> {
        let begin = Instant::now();
        let result = self.execute(statement.text).await;
        if self.output.is_closed() {
            return ControlFlow::Break(());
        }
        match result {
            Ok(rows) => {
                if self.timing {
                    let seconds = begin.elapsed().as_secs_f64();
                    let rows = rows.map_or(String::new(), |rows| format!(", {rows} rows"));
                    let _ = writeln!(std::io::stderr(), "{seconds:.3} s{rows}");
                }
                ControlFlow::Continue(())
            }
            Err(error) => match file {
                Some(path) => self.fail(&format!("{}:{}: {error}", path.display(), statement.line)),
                None => self.fail(&error),
            },
        }
    }

    /// Runs a statement and writes its result; the number of rows, if it has a result.
    async fn execute(&mut self, statement: &str) -> Result<Option<usize>, String> {
        let (schema, mut rows) = self.engine.stream(statement).await?;
        if schema.fields().is_empty() {
            while rows.try_next().await?.is_some() {}
            return Ok(None);
        }
        let name = self.output.name();
        let of_output = |error: DataFusionError| format!("{name}: {}", sentence(&error));
        let sink = self.output.begin().map_err(|e| of_output(e.into()))?;
        let target = match self.output.is_file() {
            true => Target::File,
            false => Target::Stream,
        };
        let writer = ResultWriter::new(self.format, target, &schema, self.max_rows, sink);
        let mut writer = writer.map_err(of_output)?;
        let mut count = 0;
        while let Some(batch) = rows.try_next().await? {
            count += batch.num_rows();
            writer.write(&batch).map_err(of_output)?;
        }
        let sink = writer.finish().map_err(of_output)?;
        self.output
            .complete(sink)
            .map_err(|e| of_output(e.into()))?;
        Ok(Some(count))
    }

    fn fail(&mut self, error: &str) -> ControlFlow<()> {
        complain(&error);
        self.has_failed = true;
        match self.bail {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
