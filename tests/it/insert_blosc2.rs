//! `INSERT INTO` Blosc2 arrays: rows behind the last ones, in files that hold the old chunks as they were.

use std::path::Path;

use serde_json::json;

use crate::common::{copy_folder, error, row, rows, sample, session};

/// The last two days of a year, moved by a year of this calendar.
const NEXT: &str = "SELECT time + INTERVAL '365 days', lat, lon, tas, pr";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_arrays_of_a_directory_grow_together() {
    let folder = tempfile::tempdir().unwrap();
    let cube = folder.path().join("tas.b2d");
    copy_folder(Path::new(&sample("tas.b2d")), &cube);
    let cube = cube.to_str().unwrap();
    let session = session();
    let insert = format!(
        "INSERT INTO '{cube}' (time, lat, lon, tas, pr) {NEXT} FROM '{cube}' WHERE time >= '2004-12-30'"
    );
    assert_eq!(row(&session, &insert).await.unwrap(), [json!(2 * 16 * 24)]);
    // The whole, old and new, as the dataset says that it was copied from.
    for (when, source) in [
        (
            "time >= '2005-01-01'",
            "SELECT lat, lon, tas, pr FROM '{}' WHERE time >= '2004-12-30' ORDER BY time, lat, lon",
        ),
        (
            "time < '2002-02-01'",
            "SELECT lat, lon, tas, pr FROM '{}' WHERE time < '2002-02-01' ORDER BY time, lat, lon",
        ),
    ] {
        let grown =
            format!("SELECT lat, lon, tas, pr FROM '{cube}' WHERE {when} ORDER BY time, lat, lon");
        let source = source.replace("{}", &sample("tas.nc"));
        assert_eq!(
            rows(&session, &grown).await.unwrap(),
            rows(&session, &source).await.unwrap()
        );
    }
    let days = format!("SELECT CAST(max(time) AS DATE), count(DISTINCT time) FROM '{cube}'");
    assert_eq!(
        row(&session, &days).await.unwrap(),
        [json!("2005-12-31"), json!(1097)]
    );
    let text = error(&session, &insert).await;
    assert!(
        text.contains("2005-12-30T12:00:00 is there already")
            || text.contains("does not come after"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cube = folder.path().join("tas.b2d");
    copy_folder(Path::new(&sample("tas.b2d")), &cube);
    let before = bytes(&cube);
    let cube = cube.to_str().unwrap();
    let session = session();
    for (rows, said) in [
        (
            format!("{NEXT} FROM '{cube}' WHERE time >= '2004-12-30' AND lat > 0"),
            "has rows for 192 of 384 cells",
        ),
        (
            format!(
                "SELECT time + INTERVAL '365 days', lat + 1, lon, tas, pr FROM '{cube}' WHERE time >= '2004-12-31'"
            ),
            "is not one of the values of lat",
        ),
        (
            format!("SELECT time, lat, lon, tas, pr FROM '{cube}' WHERE time >= '2004-12-31'"),
            "is there already",
        ),
    ] {
        let text = error(
            &session,
            &format!("INSERT INTO '{cube}' (time, lat, lon, tas, pr) {rows}"),
        )
        .await;
        assert!(text.contains(said), "{text}");
        assert_eq!(bytes(Path::new(cube)), before);
    }
}

/// The files of a dataset, without what is not part of it.
fn bytes(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_file() {
            files.push((name, std::fs::read(entry.path()).unwrap()));
        }
    }
    files.sort();
    files
}
