//! INSERT INTO a netCDF-3 file: the file that the reference library writes, byte for byte.

use std::path::PathBuf;

use hyperslab::append::{AppendOptions, Outcome, Target};
use hyperslab::format::netcdf3::Netcdf3;
use hyperslab::session::Session;
use hyperslab::store::Store;
use serde_json::{Value, json};

use crate::common::{error, little, row, rows, session};

const NAMES: [&str; 7] = [
    "odd_cdf1",
    "odd_cdf2",
    "odd_cdf5",
    "single_cdf1",
    "single_cdf2",
    "single_cdf5",
    "lonely_cdf1",
];

/// All columns, of which one that cannot be missing is.
const NULLED: &str = "* REPLACE (nullif(flag, flag) AS flag)";

/// A copy of a fixture.
struct Copy {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Copy {
    fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy.nc");
        std::fs::copy(little(&format!("netcdf3/{name}")), &path).unwrap();
        Self { folder, path }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    /// What is beside the copy and its lock.
    fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name != "copy.nc" && name != ".copy.nc.hyperslab-lock")
            .collect()
    }
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(little(&format!("netcdf3/{name}"))).unwrap()
}

/// The predicate of records `first..end`.
fn records(name: &str, first: usize, end: usize) -> String {
    if name.starts_with("odd") {
        // Every six hours from noon of the 28th on.
        let days = ["2020-02-28", "2020-02-29", "2020-03-01"];
        let time = |record: usize| {
            let hours = 12 + 6 * record;
            format!("{} {:02}:00:00", days[hours / 24], hours % 24)
        };
        format!("time BETWEEN '{}' AND '{}'", time(first), time(end - 1))
    } else {
        format!("time >= {first} AND time < {end}")
    }
}

async fn insert(session: &Session, copy: &Copy, name: &str, first: usize, end: usize) -> Value {
    let sql = format!(
        "INSERT INTO '{}' SELECT * FROM '{}' WHERE {}",
        copy.path(),
        little(&format!("netcdf3/{name}_7.nc")),
        records(name, first, end)
    );
    row(session, &sql).await.unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_records_are_those_of_the_reference_library() {
    for name in NAMES {
        for before in [0, 4] {
            let copy = Copy::of(&format!("{name}_{before}.nc"));
            let count = insert(&session(), &copy, name, before, 7).await;
            let cells = if name.starts_with("lonely") { 1 } else { 3 };
            assert_eq!(count, json!((7 - before) * cells), "{name}");
            assert!(
                copy.bytes() == fixture(&format!("{name}_7.nc")),
                "{name} from {before}"
            );
            assert_eq!(copy.left(), Vec::<String>::new());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_one_by_one_and_a_session_sees_each() {
    let reader = session();
    for name in NAMES {
        let copy = Copy::of(&format!("{name}_0.nc"));
        let cells = if name.starts_with("lonely") { 1 } else { 3 };
        for record in 0..7 {
            let count = format!("SELECT count(*) FROM '{}'", copy.path());
            let seen = row(&reader, &count).await.unwrap();
            assert_eq!(seen, [json!(record * cells)], "{name}");
            insert(&session(), &copy, name, record, record + 1).await;
        }
        assert!(copy.bytes() == fixture(&format!("{name}_7.nc")), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_no_value_is_filled() {
    for name in ["odd_cdf1", "odd_cdf5"] {
        let copy = Copy::of(&format!("{name}_4.nc"));
        let from = little(&format!("netcdf3/{name}_7.nc"));
        let columns = "time, lat, short, packed, float, double";
        let sql = format!(
            "INSERT INTO '{}' ({columns}) SELECT {columns} FROM '{from}' WHERE {}",
            copy.path(),
            records(name, 4, 5)
        );
        let refused = error(&session(), &sql).await;
        assert!(refused.contains("insert_missing"), "{refused}");
        assert!(copy.bytes() == fixture(&format!("{name}_4.nc")));
        let session = session();
        rows(&session, "SET hyperslab.insert_missing = 'fill'")
            .await
            .unwrap();
        rows(&session, &sql).await.unwrap();
        assert!(
            copy.bytes() == fixture(&format!("{name}_some.nc")),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cells_are_replaced_in_a_copy_that_becomes_the_file() {
    for name in ["odd_cdf1", "odd_cdf5"] {
        let copy = Copy::of(&format!("{name}_other.nc"));
        let sql = format!(
            "REPLACE INTO '{}' SELECT * FROM '{}' WHERE {}",
            copy.path(),
            little(&format!("netcdf3/{name}_7.nc")),
            records(name, 2, 4)
        );
        rows(&session(), &sql).await.unwrap();
        assert!(copy.bytes() == fixture(&format!("{name}_7.nc")), "{name}");
        assert_eq!(copy.left(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_replaced_and_appended_at_once() {
    let copy = Copy::of("odd_cdf2_4.nc");
    let sql = format!(
        "REPLACE INTO '{}' SELECT * FROM '{}' WHERE {}",
        copy.path(),
        little("netcdf3/odd_cdf2_7.nc"),
        records("odd", 1, 7)
    );
    rows(&session(), &sql).await.unwrap();
    assert!(copy.bytes() == fixture("odd_cdf2_7.nc"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_has_left_behind_the_records_is_overwritten() {
    for name in NAMES {
        let copy = Copy::of(&format!("{name}_4.nc"));
        let mut bytes = copy.bytes();
        bytes.extend_from_slice(&[0xAB; 5]);
        std::fs::write(&copy.path, &bytes).unwrap();
        let count = format!("SELECT count(*) FROM '{}'", copy.path());
        let before = row(&session(), &count).await.unwrap();
        let of = little(&format!("netcdf3/{name}_4.nc"));
        let whole = row(&session(), &format!("SELECT count(*) FROM '{of}'")).await;
        assert_eq!(before, whole.unwrap(), "{name}");
        insert(&session(), &copy, name, 4, 7).await;
        let wanted = fixture(&format!("{name}_7.nc"));
        assert!(copy.bytes()[..wanted.len()] == wanted, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_insert_leaves_the_file_as_it_was() {
    let whole = little("netcdf3/odd_cdf1_7.nc");
    let select = |what: &str| {
        format!(
            "SELECT {what} FROM '{whole}' WHERE {}",
            records("odd", 4, 7)
        )
    };
    let cases = [
        (
            "odd_cdf1_streaming.nc",
            "",
            select("*"),
            vec!["number of records", "left open"],
        ),
        (
            "odd_cdf1_4.nc",
            "SET hyperslab.append_dim = 'lat'",
            select("*"),
            vec!["unlimited dimension"],
        ),
        (
            // The last slice lacks a cell, after others have been written.
            "odd_cdf1_4.nc",
            "",
            format!(
                "{} AND NOT (lat = 40 AND time > '2020-02-29 18:00:00')",
                select("*")
            ),
            vec!["2 of 3 cells", "lat 40"],
        ),
        ("odd_cdf1_7.nc", "", select("*"), vec!["is there already"]),
        ("odd_cdf1_4.nc", "", select(NULLED), vec!["flag"]),
    ];
    for (name, set, select, parts) in cases {
        let copy = Copy::of(name);
        let session = session();
        if !set.is_empty() {
            rows(&session, set).await.unwrap();
        }
        let sql = format!("INSERT INTO '{}' {select}", copy.path());
        let refused = error(&session, &sql).await;
        for part in parts {
            assert!(refused.contains(part), "{refused} does not name {part}");
        }
        assert!(copy.bytes() == fixture(name), "{name}: {refused}");
        assert_eq!(copy.left(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_program_changes_meanwhile_is_a_conflict() {
    let copy = Copy::of("odd_cdf1_4.nc");
    let store = Store::open(copy.path()).unwrap();
    let target = Target::new(store, &Netcdf3);
    // Without a change of another program, a longer dimension alone is filled.
    let mut transaction = target.begin(AppendOptions::default()).await.unwrap();
    transaction.resize("", "time", 5).unwrap();
    let outcome = transaction.commit("append").await.unwrap();
    assert_eq!(outcome, Outcome::Committed { version: None });
    let mut transaction = target.begin(AppendOptions::default()).await.unwrap();
    transaction.resize("", "time", 6).unwrap();
    std::fs::write(&copy.path, fixture("odd_cdf1_7.nc")).unwrap();
    let refused = transaction.commit("append").await.unwrap_err().to_string();
    assert!(refused.contains("another program"), "{refused}");
    assert!(copy.bytes() == fixture("odd_cdf1_7.nc"));
}
