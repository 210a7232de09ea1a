//! Slices that are appended to a dataset: by the library and by the command line.

mod checks;
mod command;
mod crashes;
mod encodings;
mod objects;
mod slices;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hyperslab::error::{Error, Result};
use hyperslab::ingest::config::AppendConfig;
use hyperslab::ingest::{Report, SliceItem};
use hyperslab::session::Session;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{rows, session};

/// A place for datasets, and a session.
struct Place {
    dir: TempDir,
    session: Session,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            session: session(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Appends slices to `target` below this place.
    async fn append(&self, target: &str, slices: &[&str], mut config: Value) -> Result<Report> {
        config["target_dir"] = self.path(target).into();
        let config = AppendConfig::from_value(config)?;
        let slices: Vec<SliceItem> = slices.iter().map(|slice| SliceItem::from(*slice)).collect();
        self.session.append(&slices, config).await
    }

    /// A dataset with the rows of a query; `config` says how.
    async fn make(&self, name: &str, query: &str, config: Value) -> String {
        self.append(name, &[query], config).await.unwrap();
        self.path(name)
    }

    /// A slice of one day: `tas` is the number of the day, and a tenth for each cell.
    async fn day(&self, day: u32) -> String {
        self.make(&format!("day-{day}.zarr"), &day_query(day), grid())
            .await
    }

    async fn rows(&self, sql: &str) -> Vec<Value> {
        rows(&self.session, sql).await.unwrap()
    }

    /// Times and sums of `tas` of a target.
    async fn sums(&self, target: &str) -> Vec<Value> {
        self.rows(&format!(
            "SELECT time, sum(tas) FROM '{}' GROUP BY time ORDER BY time",
            self.path(target)
        ))
        .await
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(path)).unwrap()).unwrap()
    }
}

/// The dimensions of slices of the day.
fn grid() -> Value {
    json!({"fixed_dims": {"lat": 2, "lon": 3}, "variables": {"*": {"dims": ["time", "lat", "lon"]}}})
}

fn day_query(day: u32) -> String {
    cells(&format!("TIMESTAMP '2000-01-{day:02}T00:00:00'"), day)
}

/// A query for the cells of one time; `tas` is `number` and a tenth for each cell.
fn cells(time: &str, number: u32) -> String {
    format!(
        "SELECT {time} AS time, lat, lon, arrow_cast({number} + (lat * 0.3 + lon * 0.1), 'Float32') AS tas \
         FROM (VALUES (0.0), (1.0)) AS a(lat), (VALUES (0.0), (1.0), (2.0)) AS b(lon)"
    )
}

/// The sums of `tas` of days: six cells, with tenths from 0 to 5 together.
fn sums_of(days: &[u32]) -> Vec<Value> {
    days.iter()
        .map(|day| {
            let sum: f64 = (0..6u8)
                .map(|cell| {
                    let tenths = f64::from(*day) + f64::from(cell) * 0.1;
                    #[expect(clippy::cast_possible_truncation, reason = "as it is stored")]
                    f64::from(tenths as f32)
                })
                .sum();
            json!([format!("2000-01-{day:02}T00:00:00"), sum])
        })
        .collect()
}

fn assert_alike(left: &[Value], right: &[Value]) {
    assert_eq!(left.len(), right.len(), "{left:?} {right:?}");
    for (left, right) in left.iter().zip(right) {
        assert!(crate::common::alike(left, right, 1e-6), "{left} {right}");
    }
}

/// The contents of all files below a directory, but those that are no part of the dataset.
fn contents(root: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![Path::new(root).to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            if name.starts_with(".hyperslab") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// The sentence of a failure, which has to be of this kind.
fn invalid(outcome: Result<Report>) -> String {
    match outcome {
        Err(Error::Invalid(text)) => text,
        Err(other) => panic!("another kind of failure: {other:?}"),
        Ok(report) => panic!("should fail: {report:?}"),
    }
}
