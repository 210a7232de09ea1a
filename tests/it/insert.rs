//! `INSERT` as a user meets it: rows become cells, in datasets that xarray and zarr-python have written.
//!
//! The cubes of `tests/data/inserts` hold arithmetic on indices, so that what has to be there after a change is known
//! without reading it from anywhere.

mod concurrent;
mod errors;
mod existing;
mod faults;
mod isolation;
pub mod kill;
mod proxy;
mod remote;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hyperslab::session::Session;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{copy_folder, little, row, rows, session};

/// The cubes whose cells are `tas = k` and `pr = k / 2`, by what they are stored as.
const CUBES: &[&str] = &[
    "v2",
    "v2_plain",
    "v3",
    "v3_plain",
    "v3_sharded",
    #[cfg(feature = "icechunk")]
    "ice",
];

#[tokio::test]
async fn slices_of_another_dataset_are_appended() {
    for &name in CUBES {
        let cube = Cube::new(name);
        let session = session();
        let sql = format!("INSERT INTO '{cube}' SELECT * FROM '{}'", more());
        assert_eq!(row(&session, &sql).await.unwrap(), [json!(60)], "{name}");
        cube.check(9).await;
        // Two more, so that the last chunks are filled and new ones begun, then one that ends in the midst of a chunk.
        for (first, count) in [(9, 2), (11, 6), (17, 1)] {
            cube.append(&session, first, count).await.unwrap();
            cube.check(first + count).await;
        }
    }
}

#[tokio::test]
async fn rows_come_in_any_order_within_the_statement() {
    let cube = Cube::new("v2");
    let sql = format!(
        "INSERT INTO '{cube}' SELECT * FROM '{}' ORDER BY lon DESC, time DESC, lat",
        more()
    );
    row(&session(), &sql).await.unwrap();
    cube.check(9).await;
}

#[tokio::test]
async fn columns_are_given_by_name_and_in_any_order() {
    let cube = Cube::new("v3");
    let sql = format!(
        "INSERT INTO '{cube}' (pr, lon, lat, time, tas) SELECT pr, lon, lat, time, tas FROM '{}'",
        more()
    );
    assert_eq!(row(&session(), &sql).await.unwrap(), [json!(60)]);
    cube.check(9).await;
}

#[tokio::test]
async fn values_are_rows_too() {
    let cube = Cube::new("bare");
    let session = session();
    // The index is the coordinate where there is no other.
    let sql = format!(
        "INSERT INTO '{cube}' VALUES (5, 0, 15), (5, 2, 17), (5, 1, 16), (6, 0, 18), (6, 1, NULL), (6, 2, 20)"
    );
    assert_eq!(row(&session, &sql).await.unwrap(), [json!(6)]);
    let mut expected: Vec<Value> = (0..21)
        .map(|k| json!([k / 3, k % 3, f64::from(k)]))
        .collect();
    expected[19] = json!([6, 1, null]);
    let sql = format!("SELECT n, k, v FROM '{cube}' ORDER BY n, k");
    assert_eq!(rows(&session, &sql).await.unwrap(), expected);
}

#[tokio::test]
async fn the_dimension_that_grows_may_be_the_last() {
    // F order, descending latitudes, hours in floating point.
    let cube = Cube::new("turned");
    let session = session();
    let sql = format!(
        "INSERT INTO '{cube}' SELECT lat, lon, time + INTERVAL '9 hours', t + 120 FROM '{cube}' WHERE t < 60"
    );
    assert_eq!(row(&session, &sql).await.unwrap(), [json!(60)]);
    let sql = format!("SELECT time, lat, lon, t FROM '{cube}' ORDER BY time, lat DESC, lon");
    let all = rows(&session, &sql).await.unwrap();
    assert_eq!(all.len(), 180);
    for (k, row) in (0..).zip(&all) {
        let minutes = 12 * 60 + k / 20 * 90;
        let time = format!(
            "2000-01-{:02}T{:02}:{:02}:00",
            1 + minutes / 1440,
            minutes / 60 % 24,
            minutes % 60
        );
        let lat = 60 - k / 5 % 4 * 40;
        assert_eq!(*row, json!([time, f64::from(lat), k % 5, k]), "{k}");
    }
}

#[tokio::test]
async fn fixed_coordinates_may_be_text_or_integers() {
    let cube = Cube::new("named");
    let session = session();
    let sql = format!(
        "INSERT INTO '{cube}' SELECT TIMESTAMP '1970-01-01T00:10:00', station, level, v + 24 FROM '{cube}' \
         WHERE time = '1970-01-01T00:00:00'"
    );
    assert_eq!(row(&session, &sql).await.unwrap(), [json!(6)]);
    let sql = format!(
        "SELECT station, level, v FROM '{cube}' WHERE time > '1970-01-01T00:05:00' ORDER BY v"
    );
    let expected: Vec<Value> = (0..6)
        .map(|k| {
            let (station, level) = (["Bergen", "Lima"][k / 3], [1000, 850, 500][k % 3]);
            json!([station, level, k + 24])
        })
        .collect();
    assert_eq!(rows(&session, &sql).await.unwrap(), expected);
    let sql = format!("SELECT count(*), min(v), max(v) FROM '{cube}'");
    assert_eq!(
        row(&session, &sql).await.unwrap(),
        [json!(30), json!(0), json!(29)]
    );
}

#[tokio::test]
async fn a_cube_may_lie_in_a_group() {
    let cube = Cube::new("nested");
    let session = session();
    let table = format!("'{cube}'.\"model/run/tas\"");
    let insert = format!(
        "INSERT INTO {table} (time, lat, lon, tas) SELECT time, lat, lon, tas FROM '{}'",
        more()
    );
    // The bounds of the times grow, too.
    let refused = error(&session, &insert).await;
    assert!(
        refused
            .contains("model/run/time_bnds grows with time, but the statement gives it no values"),
        "{refused}"
    );
    set(&session, "insert_missing", "fill").await;
    assert_eq!(row(&session, &insert).await.unwrap(), [json!(60)]);
    let sql = format!("SELECT count(*), count(DISTINCT time), sum(tas), max(tas) FROM {table}");
    let expected = [
        json!(180),
        json!(9),
        json!(f64::from(179 * 90)),
        json!(179.0),
    ];
    assert_eq!(row(&session, &sql).await.unwrap(), expected);
}

#[tokio::test]
async fn variables_that_do_not_grow_are_left_as_they_are() {
    let cube = Cube::new("v2");
    let session = session();
    let before = cube.bytes_of("area");
    // `SELECT *` gives `area`, with the values that it has.
    cube.append(&session, 6, 1).await.unwrap();
    assert_eq!(cube.bytes_of("area"), before);
    let other = format!(
        "INSERT INTO '{cube}' SELECT time, lat, lon, area + 1, pr, tas FROM '{}'",
        more()
    );
    let other = format!("{other} WHERE time > '2000-01-07'");
    let refused = error(&session, &other).await;
    assert!(
        refused.contains("area does not grow, and holds another value than 1.0"),
        "{refused}"
    );
    cube.check(7).await;
}

/// A copy of a cube, with a place of its own.
pub struct Cube {
    _place: TempDir,
    pub path: PathBuf,
}

impl std::fmt::Display for Cube {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

impl Cube {
    pub fn new(name: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("cube.zarr");
        copy_folder(Path::new(&fixture(name)), &path);
        Self {
            _place: place,
            path,
        }
    }

    /// Inserts slices whose cells go on as those that are there.
    pub async fn append(
        &self,
        session: &Session,
        first: u32,
        count: u32,
    ) -> datafusion::common::Result<()> {
        row(session, &slices(&self.to_string(), first, count))
            .await
            .map(drop)
    }

    /// Checks every row of a cube with this many slices.
    pub async fn check(&self, slices: u32) {
        check(&self.to_string(), slices).await;
    }

    /// Every file that belongs to the dataset, with its contents.
    pub fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        files(&self.path)
    }

    fn bytes_of(&self, variable: &str) -> Vec<(PathBuf, Vec<u8>)> {
        files(&self.path.join(variable))
    }
}

/// The path of a cube.
pub fn fixture(name: &str) -> String {
    let extension = if name == "ice" { "icechunk" } else { "zarr" };
    little(&format!("inserts/{name}.{extension}"))
}

/// Slices 6, 7 and 8.
pub fn more() -> String {
    fixture("more")
}

/// A statement that appends slices to a cube at `location`.
pub fn slices(location: &str, first: u32, count: u32) -> String {
    let rows = (first * 20..(first + count) * 20).map(|k| {
        let row = expected(k);
        format!(
            "(TIMESTAMP '{}', {}, {}, {}, {})",
            row[0].as_str().unwrap(),
            row[1],
            row[2],
            row[3],
            row[4]
        )
    });
    let rows: Vec<String> = rows.collect();
    format!(
        "INSERT INTO '{location}' (time, lat, lon, tas, pr) VALUES {}",
        rows.join(", ")
    )
}

/// Checks every row of a cube with this many slices.
pub async fn check(location: &str, slices: u32) {
    let all = content(location).await;
    assert_eq!(all.len(), slices as usize * 20, "{location}");
    for (k, row) in (0..).zip(&all) {
        assert_eq!(*row, expected(k), "{location}");
    }
}

/// The rows of a cube in order.
pub async fn content(location: &str) -> Vec<Value> {
    let sql =
        format!("SELECT time, lat, lon, tas, pr, area FROM '{location}' ORDER BY time, lat, lon");
    rows(&session(), &sql).await.unwrap()
}

/// Row `k` of a cube.
pub fn expected(k: u32) -> Value {
    let time = day(k / 20);
    let lat = f64::from(k / 5 % 4) * 40.0 - 60.0;
    let cell = f64::from(k);
    json!([
        time,
        lat,
        f64::from(k % 5) * 10.0,
        cell,
        cell / 2.0,
        f64::from(k % 20)
    ])
}

/// The time of a slice: years without leap days, from 2000 on.
pub fn day(slice: u32) -> String {
    let mut day = slice % 365;
    let months = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= months[month] {
        day -= months[month];
        month += 1;
    }
    format!(
        "{}-{:02}-{:02}T00:00:00",
        2000 + slice / 365,
        month + 1,
        day + 1
    )
}

/// The text of a statement's error.
pub async fn error(session: &Session, sql: &str) -> String {
    crate::common::error(session, sql).await
}

/// Sets a setting.
pub async fn set(session: &Session, name: &str, value: &str) {
    let sql = format!("SET hyperslab.{name} = '{value}'");
    session.sql(&sql).await.unwrap().collect().await.unwrap();
}

/// Runs the command line.
pub fn run(sql: &str) -> Output {
    hyperslab()
        .args(["--format", "ndjson", "-c", sql])
        .output()
        .unwrap()
}

pub fn hyperslab() -> Command {
    Command::new(env!("CARGO_BIN_EXE_hyperslab"))
}

/// Every file below a directory but those that are no part of the dataset, with its contents, sorted.
pub fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with(".hyperslab") {
            continue;
        }
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    all.sort();
    all
}
