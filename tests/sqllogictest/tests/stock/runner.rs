//! One test file on one session.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use datafusion_sqllogictest::{
    DFColumnType, DataFusion, TestContext, df_value_validator, setup_scratch_dir, value_normalizer,
};
use indicatif::ProgressBar;
use sqllogictest::{Record, Runner, TestError, parse_file, strict_column_validator};

/// What answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    /// A session of DataFusion.
    Stock,
    /// Such a session with hyperslab installed.
    Hyperslab,
}

/// What came of the records of a file.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many answered as the file says.
    pub(crate) passed: usize,
    /// What was wrong about the others, by `file.slt:line`.
    pub(crate) failed: BTreeMap<String, String>,
}

/// Runs all records of a file. A panic counts as a failure of line 0.
pub(crate) async fn run(engine: Engine, name: &str, path: &Path) -> Outcome {
    let task = tokio::spawn(records(engine, name.to_owned(), path.to_owned()));
    match task.await {
        Ok(outcome) => outcome,
        Err(panic) => Outcome {
            passed: 0,
            failed: BTreeMap::from([(format!("{name}:0"), panic.to_string())]),
        },
    }
}

async fn records(engine: Engine, name: String, path: PathBuf) -> Outcome {
    let relative = PathBuf::from(&name);
    let mut outcome = Outcome::default();
    let Some(test) = TestContext::try_new_for_test_file(&relative).await else {
        return outcome;
    };
    let context = test.session_ctx();
    match engine {
        Engine::Stock => {}
        Engine::Hyperslab => drop(hyperslab::session::install(context).unwrap()),
    }
    setup_scratch_dir(&relative).unwrap();
    let left = Arc::new(Mutex::new(Vec::new()));
    let mut runner = Runner::new(|| async {
        Ok(
            DataFusion::new(context.clone(), relative.clone(), ProgressBar::hidden())
                .with_config_change_errors(Arc::clone(&left)),
        )
    });
    runner.add_label("Datafusion");
    runner.with_column_validator(strict_column_validator);
    runner.with_normalizer(value_normalizer);
    runner.with_validator(df_value_validator);
    for record in parse_file::<DFColumnType>(&path).unwrap() {
        let answers = matches!(record, Record::Statement { .. } | Record::Query { .. });
        if matches!(record, Record::Halt { .. }) {
            break;
        }
        match runner.run_async(record).await {
            Ok(_) => outcome.passed += usize::from(answers),
            Err(error) => {
                outcome
                    .failed
                    .insert(place(&name, &error), error.kind().to_string());
            }
        }
    }
    runner.shutdown_async().await;
    let left = left.lock().unwrap().join("\n");
    if !left.is_empty() {
        outcome.failed.insert(format!("{name}:0"), left);
    }
    outcome
}

/// The file and the line of a record; a record of an included file has that file's line as well.
fn place(name: &str, error: &TestError) -> String {
    let location = error.location();
    let included = Path::new(location.file())
        .file_name()
        .and_then(|file| file.to_str());
    match included {
        Some(file) if !name.ends_with(file) => format!("{name}:{file}:{}", location.line()),
        _ => format!("{name}:{}", location.line()),
    }
}
