//! A disk that is full or broken while an `INSERT` writes.

use super::kill::{calls, inject, is_full, some, strace};
use super::{Cube, content, expected, more, slices};
use crate::common::{row, session};

/// System calls and the error that they give.
const FAULTS: [(&str, &str); 7] = [
    ("write", "ENOSPC"),
    ("write", "EIO"),
    ("fsync", "EIO"),
    ("rename", "EIO"),
    ("rename", "ENOSPC"),
    ("linkat", "ENOSPC"),
    ("mkdir", "ENOSPC"),
];

#[tokio::test]
async fn a_disk_that_fails_is_an_error_and_changes_nothing() {
    for name in some(&["v2", "v3_sharded"]) {
        let statement = |cube: &Cube| format!("INSERT INTO '{cube}' SELECT * FROM '{}'", more());
        for (call, error) in FAULTS {
            let Some(calls) = calls(name, statement, call) else {
                println!(
                    "skipped: a_disk_that_fails_is_an_error_and_changes_nothing: there is no strace that can trace"
                );
                return;
            };
            assert!(!calls.is_empty(), "{name}: {call}");
            for (_, at) in calls.iter().step_by(if is_full() { 1 } else { 8 }) {
                failing(name, call, &format!("error={error}:when={at}")).await;
                // From some call on, everything fails, as on a disk that is full; `write` also wakes threads.
                if call != "write" {
                    failing(name, call, &format!("error={error}:when={at}+")).await;
                }
            }
        }
    }
}

async fn failing(name: &str, call: &str, fault: &str) {
    let cube = Cube::new(name);
    let before = cube.files();
    let sql = format!("INSERT INTO '{cube}' SELECT * FROM '{}'", more());
    let out = inject(&sql, call, fault);
    let place = format!("{name}: {call} {fault}");
    let message = String::from_utf8(out.stderr).unwrap();
    let session = session();
    if out.status.success() {
        cube.check(9).await;
    } else {
        assert_eq!(out.status.code(), Some(1), "{place}: {message}");
        let is_decided = message.contains("the change is decided");
        if is_decided {
            cube.check(9).await;
        } else {
            assert!(message.contains("cannot be"), "{place}: {message}");
            assert!(cube.files() == before, "{place}: {message}");
            assert_eq!(
                content(&cube.to_string()).await,
                (0..120).map(expected).collect::<Vec<_>>(),
                "{place}"
            );
            row(&session, &slices(&cube.to_string(), 6, 3))
                .await
                .unwrap();
            cube.check(9).await;
        }
    }
    row(&session, &slices(&cube.to_string(), 9, 1))
        .await
        .unwrap();
    cube.check(10).await;
}

#[tokio::test]
async fn a_commit_that_fails_halfway_is_finished_by_whoever_comes_next() {
    let cube = Cube::new("v2");
    let sql =
        format!("REPLACE INTO '{cube}' SELECT time, lat, lon, area, pr + 1, tas + 1 FROM '{cube}'");
    // The journal is the last file that is renamed into its place before those that it tells of: find a rename after it.
    let trace = cube.path.with_extension("trace");
    let Some(out) = strace(&sql, &["-o", trace.to_str().unwrap(), "-e", "trace=rename"]) else {
        println!(
            "skipped: a_commit_that_fails_halfway_is_finished_by_whoever_comes_next: there is no strace"
        );
        return;
    };
    assert!(out.status.success());
    let text = std::fs::read_to_string(trace).unwrap();
    let journal = 1 + text
        .lines()
        .position(|line| line.contains(".hyperslab/commit\")"))
        .unwrap();
    for (at, decided) in [
        (journal, false),
        (journal + 1, false),
        (journal + 2, true),
        (journal + 5, true),
    ] {
        let cube = Cube::new("v2");
        let before = cube.files();
        let sql = format!(
            "REPLACE INTO '{cube}' SELECT time, lat, lon, area, pr + 1, tas + 1 FROM '{cube}'"
        );
        let out = inject(&sql, "rename", &format!("error=EIO:when={at}"));
        let message = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(1), "{message}");
        assert_eq!(
            message.contains("the change is decided"),
            decided,
            "{message}"
        );
        if !decided {
            assert!(cube.files() == before, "{message}");
        }
        let sum = format!("SELECT sum(tas), sum(pr) FROM '{cube}'");
        let more = if decided { 120.0 } else { 0.0 };
        let sums = row(&session(), &sum).await.unwrap();
        assert_eq!(
            sums,
            [
                serde_json::json!(7140.0 + more),
                serde_json::json!(3570.0 + more)
            ]
        );
    }
}
