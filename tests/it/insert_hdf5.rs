//! INSERT into netCDF-4 and HDF5 files: the old version or the new one, whole, for every reader.

use std::fs::{self, File};
use std::ops::Range;
use std::path::PathBuf;

use hyperslab::session::Session;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{error, little, row, rows, session};

/// One structure of the file format each: superblocks, object headers, chunk indexes, a user block.
const GROWING: [&str; 4] = [
    "growing.nc",
    "growing_v0.h5",
    "growing_v2.h5",
    "growing_v3.h5",
];
const LAT: [f64; 3] = [-10.0, 10.0, 30.0];
const LON: [f64; 2] = [0.0, 90.0];
/// Length of `time` in the files.
const BEFORE: u64 = 6;

#[tokio::test]
async fn slices_are_appended_one_by_one_and_many_at_once() {
    for name in GROWING {
        let file = Copy::of(name);
        let session = filling().await;
        insert(&session, &file, 6..7).await;
        check(&session, &file, 7).await;
        insert(&session, &file, 7..30).await;
        check(&session, &file, 30).await;
        for t in 30..60 {
            insert(&session, &file, t..t + 1).await;
        }
        check(&session, &file, 60).await;
        assert_eq!(
            file.names(),
            [format!(".{name}.hyperslab-lock"), name.to_owned()]
        );
        check(&filling().await, &file, 60).await;
    }
}

#[tokio::test]
async fn chunk_trees_get_as_deep_as_need_be() {
    let file = Copy::of("growing_v0.h5");
    let session = filling().await;
    // Two chunks of `p` each: more than 64², which a tree of two levels has room for.
    insert(&session, &file, 6..2070).await;
    check(&session, &file, 2070).await;
    insert(&session, &file, 2070..2071).await;
    check(&session, &file, 2071).await;
}

#[tokio::test]
async fn what_the_statement_gives_no_values_is_missing_when_asked_for() {
    for name in GROWING {
        let file = Copy::of(name);
        let session = session();
        let text = error(&session, &statement(&file, 6..8)).await;
        assert!(
            text.contains("insert_missing") && text.contains("grows with time"),
            "{name}: {text}"
        );
        assert!(file.is_untouched(), "{name}");
        session
            .sql("SET hyperslab.insert_missing = 'fill'")
            .await
            .unwrap();
        insert(&session, &file, 6..8).await;
        let sql = format!(
            "SELECT count(*), count(temp), sum(temp) FROM {}",
            file.table("g/temp")
        );
        // Depths are 5 and 50, values the index in time more.
        let sum = 6.0 * 55.0 + 2.0 * 15.0;
        assert_eq!(
            row(&session, &sql).await.unwrap(),
            [json!(16), json!(12), json!(sum)],
            "{name}"
        );
        let sql = format!(
            "SELECT count(*), count(time_bnds) FROM {}",
            file.table("time_bnds")
        );
        assert_eq!(row(&session, &sql).await.unwrap()[0], json!(16), "{name}");
    }
}

#[tokio::test]
async fn a_table_of_a_group_grows_with_the_dimension_of_the_group_around_it() {
    let file = Copy::of("growing.nc");
    let session = filling().await;
    let sql = format!(
        "INSERT INTO {} (time, depth, temp) VALUES (TIMESTAMP '2000-01-07', 5, 1.5), (TIMESTAMP '2000-01-07', 50, 2.5)",
        file.table("g/temp")
    );
    rows(&session, &sql).await.unwrap();
    let sql = format!(
        "SELECT time, depth, temp FROM {} WHERE time >= '2000-01-06' ORDER BY time, depth",
        file.table("g/temp")
    );
    let expected = [
        json!(["2000-01-06T00:00:00", 5.0, 10.0]),
        json!(["2000-01-06T00:00:00", 50.0, 55.0]),
        json!(["2000-01-07T00:00:00", 5.0, 1.5]),
        json!(["2000-01-07T00:00:00", 50.0, 2.5]),
    ];
    assert_eq!(rows(&session, &sql).await.unwrap(), expected);
    // What else is along time is as long, and missing.
    let sql = format!("SELECT count(*), count(a) FROM '{}'", file.path());
    assert_eq!(row(&session, &sql).await.unwrap(), [json!(42), json!(36)]);
}

#[tokio::test]
async fn cells_that_are_there_are_replaced() {
    for name in GROWING {
        let file = Copy::of(name);
        let session = filling().await;
        session
            .sql("SET hyperslab.insert_existing = 'replace'")
            .await
            .unwrap();
        let sql = format!(
            "INSERT INTO '{}' (time, lat, lon, a) VALUES (TIMESTAMP '2000-01-03', 10, 90, -1)",
            file.path()
        );
        rows(&session, &sql).await.unwrap();
        let sql = format!("SELECT sum(a), sum(p), count(*) FROM '{}'", file.path());
        let cells = cells(0..BEFORE);
        let a: f64 = cells.iter().map(|cell| cell.a).sum::<f64>() - 211.0 - 1.0;
        let p: f64 = cells.iter().map(|cell| cell.p).sum();
        assert_eq!(
            row(&session, &sql).await.unwrap(),
            [json!(a), json!(p), json!(36)],
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_dimension_without_a_variable_grows_by_its_index() {
    let file = Copy::of("growing_records.nc");
    let session = session();
    for record in 3..8 {
        let values: Vec<String> = (0..3)
            .map(|x| format!("({record}, {x}, {})", 3 * record + x))
            .collect();
        let sql = format!(
            "INSERT INTO '{}' (record, x, v) VALUES {}",
            file.path(),
            values.join(", ")
        );
        rows(&session, &sql).await.unwrap();
    }
    let sql = format!(
        "SELECT record, x, v FROM '{}' ORDER BY record, x",
        file.path()
    );
    let expected: Vec<Value> = (0..24).map(|v| json!([v / 3, v % 3, v])).collect();
    assert_eq!(rows(&session, &sql).await.unwrap(), expected);
}

#[tokio::test]
async fn what_cannot_grow_is_named() {
    let file = Copy::of("growing_fixed.nc");
    let session = filling().await;
    let text = error(&session, &statement(&file, 6..7)).await;
    assert!(
        text.contains("time") && text.contains("unlimited"),
        "{text}"
    );
    assert!(file.is_untouched());

    let file = Copy::of("growing_not.h5");
    let insert = |variable: &str, at: u64| {
        let table = file.table(variable);
        format!("INSERT INTO {table} VALUES ({at}, 0, 1.0), ({at}, 1, 1.0)")
    };
    for (variable, at, reason) in [
        ("wide", 5, "version 2 B-tree"),
        ("most", 6, "fixed array"),
        ("whole", 7, "contiguous"),
    ] {
        let text = error(&session, &insert(variable, at)).await;
        assert!(text.contains(reason) && text.contains(variable), "{text}");
    }
    assert!(file.is_untouched());
}

#[tokio::test]
async fn a_file_that_another_program_is_writing_is_left_alone() {
    let file = Copy::of("growing.nc");
    let session = filling().await;
    session
        .sql("SET hyperslab.lock_timeout = '50ms'")
        .await
        .unwrap();
    // As the HDF5 library does while it has a file open for writing, and for reading.
    let other = File::open(file.path()).unwrap();
    other.lock().unwrap();
    let text = error(&session, &statement(&file, 6..7)).await;
    assert!(
        text.contains("open for writing") && text.contains("growing.nc"),
        "{text}"
    );
    assert!(file.is_untouched());
    other.unlock().unwrap();
    other.lock_shared().unwrap();
    insert(&session, &file, 6..7).await;
    check(&session, &file, 7).await;

    // A mark in the superblock says so too.
    let file = Copy::of("growing_v3.h5");
    let mut bytes = fs::read(file.path()).unwrap();
    bytes[11] = 1;
    let sum = hdf5_reader::checksum::jenkins_lookup3(&bytes[..44]);
    bytes[44..48].copy_from_slice(&sum.to_le_bytes());
    fs::write(file.path(), &bytes).unwrap();
    let text = error(&session, &statement(&file, 6..7)).await;
    assert!(text.contains("open for writing"), "{text}");
    assert_eq!(fs::read(file.path()).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_take_turns_and_readers_see_whole_versions() {
    let file = Copy::of("growing.nc");
    let mut writers = Vec::new();
    for _ in 0..4 {
        let path = file.path().to_owned();
        writers.push(tokio::spawn(async move {
            let session = filling().await;
            let mut added = 0;
            while added < 5 {
                // Whoever is first gives the next index.
                let next = row(
                    &session,
                    &format!("SELECT count(DISTINCT time) FROM '{path}'"),
                )
                .await
                .unwrap()[0]
                    .as_u64()
                    .unwrap();
                let sql = insertion(&path, next..next + 1);
                match rows(&session, &sql).await {
                    Ok(_) => added += 1,
                    Err(error) => assert!(error.to_string().contains("there already"), "{error}"),
                }
            }
        }));
    }
    let reader = session();
    while !writers.iter().all(|writer| writer.is_finished()) {
        let sql = format!(
            "SELECT count(*), count(a), count(p), sum(a) FROM '{}'",
            file.path()
        );
        let seen = row(&reader, &sql).await.unwrap();
        let count = seen[0].as_u64().unwrap();
        assert_eq!(count % 6, 0);
        let sum: f64 = cells(0..count / 6).iter().map(|cell| cell.a).sum();
        assert_eq!(seen, [json!(count), json!(count), json!(count), json!(sum)]);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    check(&reader, &file, BEFORE + 20).await;
}

#[tokio::test]
async fn what_a_writer_has_left_is_removed_by_the_next() {
    let file = Copy::of("growing.nc");
    let left = file.directory.path().join(".growing.nc.18a-7f-0-00ff.tmp");
    fs::write(&left, b"half a file").unwrap();
    let session = filling().await;
    insert(&session, &file, 6..7).await;
    assert_eq!(file.names(), [".growing.nc.hyperslab-lock", "growing.nc"]);
    check(&session, &file, 7).await;
}

#[tokio::test]
async fn the_little_world_goes_on() {
    let file = Copy::of("little.nc");
    let session = filling().await;
    let sql = format!(
        "INSERT INTO '{path}' (time, lat, lon, tas, pr, gaps, wind) \
         SELECT time + INTERVAL '2 years', lat, lon, tas, pr, gaps, wind FROM '{path}'",
        path = file.path()
    );
    rows(&session, &sql).await.unwrap();
    let sql = |from: &str, to: &str| {
        format!(
            "SELECT count(*), count(tas), sum(tas), count(pr), sum(pr), count(gaps), sum(gaps), count(wind), sum(area) \
             FROM '{}' WHERE time >= '{from}' AND time < '{to}'",
            file.path()
        )
    };
    let old = row(&session, &sql("2003-01-01", "2005-01-01"))
        .await
        .unwrap();
    let new = row(&session, &sql("2005-01-01", "2007-01-01"))
        .await
        .unwrap();
    assert_eq!(old, new);
    assert_eq!(old[0], json!(24 * 96));
}

#[tokio::test]
async fn the_last_chunk_of_a_deep_tree_is_found() {
    let session = session();
    let path = little("deep_tree.h5");
    for at in [0, 31, 32, 63, 64, 69] {
        let sql = format!("SELECT x FROM '{path}' WHERE phony_dim_0 = {at}");
        assert_eq!(row(&session, &sql).await.unwrap(), [json!(3 * at)]);
    }
}

/// A file of its own for one test.
struct Copy {
    directory: TempDir,
    path: PathBuf,
    before: Vec<u8>,
}

impl Copy {
    fn of(name: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        fs::copy(little(name), &path).unwrap();
        Self {
            before: fs::read(&path).unwrap(),
            directory,
            path,
        }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// A table of the file, as statements call it.
    fn table(&self, name: &str) -> String {
        format!("\"{}\".\"{name}\"", self.path())
    }

    fn is_untouched(&self) -> bool {
        let name = self.path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut names = self.names();
        names.retain(|other| !other.ends_with(".hyperslab-lock"));
        fs::read(&self.path).unwrap() == self.before && names == [name]
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// A cell of the grid, by the formulas that `make_growing.py` writes the files by.
struct Cell {
    t: u64,
    lat: f64,
    lon: f64,
    a: f64,
    p: f64,
    w: u64,
    c: f64,
}

fn cells(times: Range<u64>) -> Vec<Cell> {
    let mut cells = Vec::new();
    for t in times {
        for (y, lat) in (0u32..).zip(LAT) {
            for (x, lon) in (0u32..).zip(LON) {
                let (index, y, x) = (u32::try_from(t).unwrap(), f64::from(y), f64::from(x));
                let index = f64::from(index);
                cells.push(Cell {
                    t,
                    lat,
                    lon,
                    a: 100.0 * index + 10.0 * y + x,
                    p: 0.5 * (3.0 * index + y - x) + 10.0,
                    w: 7 * t,
                    c: index - y / 4.0,
                });
            }
        }
    }
    cells
}

/// A session in which variables that are not given are missing.
async fn filling() -> Session {
    let session = session();
    session
        .sql("SET hyperslab.insert_missing = 'fill'")
        .await
        .unwrap();
    session
}

fn statement(file: &Copy, times: Range<u64>) -> String {
    insertion(file.path(), times)
}

fn insertion(path: &str, times: Range<u64>) -> String {
    let value = |cell: &Cell| {
        let Cell {
            t,
            lat,
            lon,
            a,
            p,
            w,
            c,
        } = cell;
        let time = format!("TIMESTAMP '2000-01-01' + INTERVAL '{t} days'");
        format!("({time}, {lat}, {lon}, {a}, {p}, {w}, {c})")
    };
    let values: Vec<String> = cells(times).iter().map(value).collect();
    format!(
        "INSERT INTO '{path}' (time, lat, lon, a, p, w, c) VALUES {}",
        values.join(", ")
    )
}

async fn insert(session: &Session, file: &Copy, times: Range<u64>) {
    // Long lists of values are slow to plan.
    let mut from = times.start;
    while from < times.end {
        let to = times.end.min(from + 500);
        let count = row(session, &statement(file, from..to)).await.unwrap();
        assert_eq!(count, [json!((to - from) * 6)]);
        from = to;
    }
}

/// Compares all cells with the formulas.
async fn check(session: &Session, file: &Copy, length: u64) {
    let sql = format!(
        "SELECT date_part('epoch', time) / 86400 - 10957, lat, lon, a, p, w, c FROM '{}' ORDER BY time, lat, lon",
        file.path()
    );
    let found = rows(session, &sql).await.unwrap();
    let expected: Vec<Value> = cells(0..length)
        .iter()
        .map(|cell| {
            let t = f64::from(u32::try_from(cell.t).unwrap());
            json!([t, cell.lat, cell.lon, cell.a, cell.p, cell.w, cell.c])
        })
        .collect();
    assert_eq!(found.len(), expected.len(), "{}", file.path());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected, "{}", file.path());
    }
    // The last slice alone, by which its chunks are looked up in the index.
    let sql = format!(
        "SELECT min(w), max(w), count(a) FROM '{}' WHERE time >= to_timestamp_seconds(946684800 + 86400 * {})",
        file.path(),
        length - 1
    );
    let w = json!(7 * (length - 1));
    assert_eq!(row(session, &sql).await.unwrap(), [w.clone(), w, json!(6)]);
}
