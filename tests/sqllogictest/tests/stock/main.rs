//! The test files of DataFusion give the same answers on a session with hyperslab as on one without.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod runner;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use datafusion_sqllogictest::read_dir_recursive;
use futures::StreamExt;

use crate::runner::{Engine, Outcome};

/// Files that are run at the same time.
const AT_ONCE: usize = 2;

/// Fewer records than this mean that the files were not really run.
const ENOUGH_RECORDS: usize = 20_000;

#[test]
fn datafusion_answers_as_before() {
    let listed = listed(include_str!("../../differences.txt"));
    let source = Path::new(env!("SQLLOGICTEST_FOLDER"));
    let folder = tempfile::tempdir().unwrap();
    let room = folder.path().canonicalize().unwrap();
    prepare(source, &room);
    // The files name their scratch folders relative to the current directory.
    std::env::set_current_dir(&room).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(AT_ONCE)
        .enable_all()
        .build()
        .unwrap();
    let reports: Vec<Report> = runtime.block_on(
        futures::stream::iter(files(&room))
            .map(|(name, path)| compare(name, path))
            .buffer_unordered(AT_ONCE)
            .collect(),
    );
    // The runtime must not write to the folder while it is removed.
    drop(runtime);
    std::env::set_current_dir(source).unwrap();
    judge(&reports, &listed);
}

/// What came out of one file.
struct Report {
    ours: Outcome,
    /// `None` when all our answers are those that the file asks for.
    stock: Option<Outcome>,
}

impl Report {
    /// The records that do not come out as on the stock engine, with what came out of both.
    fn differences(&self) -> BTreeMap<String, String> {
        let Some(stock) = &self.stock else {
            return BTreeMap::new();
        };
        let records = self.ours.failed.keys().chain(stock.failed.keys());
        records
            .filter(|record| self.ours.failed.get(*record) != stock.failed.get(*record))
            .map(|record| {
                let text = |outcome: &Outcome| match outcome.failed.get(record) {
                    Some(failure) => failure.clone(),
                    None => "as the file says".to_owned(),
                };
                let both = format!(
                    "with hyperslab: {}\nwithout: {}",
                    text(&self.ours),
                    text(stock)
                );
                (record.clone(), both)
            })
            .collect()
    }
}

/// Runs a file with hyperslab, and where that gives other answers than the file asks for, without: records about data
/// that is not part of the crate fail on the stock engine too, and must fail there with the same words.
async fn compare(name: String, path: PathBuf) -> Report {
    let ours = runner::run(Engine::Hyperslab, &name, &path).await;
    let stock = if ours.failed.is_empty() {
        None
    } else {
        Some(runner::run(Engine::Stock, &name, &path).await)
    };
    Report { ours, stock }
}

/// Fails when a difference is not listed, or a listed one is none.
fn judge(reports: &[Report], listed: &BTreeSet<String>) {
    let passed: usize = reports.iter().map(|report| report.ours.passed).sum();
    assert!(passed > ENOUGH_RECORDS, "only {passed} records passed");
    let found: BTreeMap<String, String> = reports.iter().flat_map(Report::differences).collect();
    let new: Vec<String> = found
        .iter()
        .filter(|(record, _)| !listed.contains(*record))
        .map(|(record, text)| format!("{record}: {text}"))
        .collect();
    assert!(
        new.is_empty(),
        "not listed in differences.txt:\n\n{}",
        new.join("\n\n")
    );
    let gone: Vec<&String> = listed
        .iter()
        .filter(|record| !found.contains_key(*record))
        .collect();
    assert!(
        gone.is_empty(),
        "listed in differences.txt, but as on the stock engine: {gone:?}"
    );
}

/// The records of lines `record reason`.
fn listed(text: &str) -> BTreeSet<String> {
    let mut records = BTreeSet::new();
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (record, reason) = line.split_once(' ').unwrap_or((line, ""));
        assert!(!reason.is_empty(), "no reason: {line}");
        assert!(records.insert(record.to_owned()), "listed twice: {line}");
    }
    records
}

/// The test files, with their names.
fn files(room: &Path) -> Vec<(String, PathBuf)> {
    let root = room.join("test_files");
    let name = |path: &Path| {
        path.strip_prefix(&root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    let mut files: Vec<(String, PathBuf)> = read_dir_recursive(&root)
        .unwrap()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "slt"))
        .map(|path| (name(&path), path))
        .collect();
    // Long ones first, so that no thread works on one alone at the end.
    files.sort_by_key(|(_, path)| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    files
}

/// Copies the files and their data to where they have room for what they write.
fn prepare(source: &Path, room: &Path) {
    // Plans show the folder that a file works in, by the name it has in DataFusion's own tree.
    let here = room.to_str().unwrap().trim_start_matches('/');
    for folder in ["data", "test_files"] {
        for path in read_dir_recursive(source.join(folder)).unwrap() {
            let copy = room.join(path.strip_prefix(source).unwrap());
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            match fs::read_to_string(&path) {
                Ok(text) => {
                    let text = text.replace("WORKSPACE_ROOT/datafusion/sqllogictest", here);
                    fs::write(copy, text).unwrap();
                }
                // Not text.
                Err(_) => {
                    fs::copy(path, copy).unwrap();
                }
            }
        }
    }
}
