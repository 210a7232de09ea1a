//! An `INSERT` that is killed, at every system call by which it changes something.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::{Cube, content, expected, more, slices};
use crate::common::{row, rows, session};

/// System calls that change what is on a disk, or begin to.
pub const CHANGES: &str = "write,pwrite64,openat,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat,\
                           fsync,fdatasync,ftruncate";

#[tokio::test]
async fn an_append_that_is_killed_leaves_the_old_or_the_new_version() {
    for name in some(&["v3_sharded", "v2", "v2_plain", "v3", "v3_plain"]) {
        let statement = |cube: &Cube| format!("INSERT INTO '{cube}' SELECT * FROM '{}'", more());
        killed_everywhere(
            name,
            statement,
            &(0..120).map(expected).collect::<Vec<_>>(),
            180,
            &|_| (),
        )
        .await;
    }
}

#[cfg(feature = "icechunk")]
#[tokio::test]
async fn a_commit_to_a_repository_that_is_killed_leaves_the_old_or_the_new_version() {
    let statement = |cube: &Cube| format!("INSERT INTO '{cube}' SELECT * FROM '{}'", more());
    let old = (0..120).map(expected).collect::<Vec<_>>();
    killed_everywhere("ice", statement, &old, 180, &|_| ()).await;
}

#[tokio::test]
async fn a_replacement_that_is_killed_leaves_the_old_or_the_new_version() {
    for name in some(&["v2", "v3_sharded", "v3_plain"]) {
        let statement = |cube: &Cube| {
            format!(
                "REPLACE INTO '{cube}' SELECT time, lat, lon, area, pr, tas + 1000 FROM '{cube}' WHERE lat > 0 \
                 UNION ALL SELECT * FROM '{}'",
                more()
            )
        };
        let changed = |rows: &mut Vec<Value>| {
            for row in rows
                .iter_mut()
                .take(120)
                .filter(|row| row[1].as_f64() > Some(0.0))
            {
                row[3] = Value::from(row[3].as_f64().unwrap() + 1000.0);
            }
        };
        killed_everywhere(
            name,
            statement,
            &(0..120).map(expected).collect::<Vec<_>>(),
            180,
            &changed,
        )
        .await;
    }
}

/// Kills `statement` on a cube at each of its changes, and looks what is left.
async fn killed_everywhere(
    name: &str,
    statement: impl Fn(&Cube) -> String,
    old: &[Value],
    cells: u32,
    changed: &dyn Fn(&mut Vec<Value>),
) {
    let Some(calls) = calls(name, &statement, CHANGES) else {
        println!("skipped: killing an INSERT, because there is no strace that can trace");
        return;
    };
    let mut new: Vec<Value> = (0..cells).map(expected).collect();
    changed(&mut new);
    let mut seen = BTreeSet::new();
    let step = if is_full() { 1 } else { 3 };
    for (number, (call, at)) in calls.iter().enumerate().step_by(step) {
        let cube = Cube::new(name);
        let sql = statement(&cube);
        let out = inject(&sql, call, &format!("signal=SIGKILL:when={at}"));
        if out.status.success() {
            continue;
        }
        if number % 15 == 0 || is_full() {
            // What a new process reads, before anything else has looked.
            let count = super::run(&format!("SELECT count(*) AS n FROM '{cube}'"));
            let text = String::from_utf8(count.stdout).unwrap();
            assert!(
                ["{\"n\":120}\n", "{\"n\":180}\n"].contains(&text.as_str()),
                "{name}, {call} {at}: {text}"
            );
        }
        let left = content(&cube.to_string()).await;
        let is_new = left == new;
        assert!(
            is_new || left == old,
            "{name}: a mixture after a kill at {call} {at}"
        );
        seen.insert(is_new);
        let session = session();
        let (next, mut then) = if is_new {
            (
                slices(&cube.to_string(), cells / 20, 1),
                (0..cells + 20).map(expected).collect(),
            )
        } else {
            (sql, new.clone())
        };
        row(&session, &next)
            .await
            .unwrap_or_else(|e| panic!("{name}, after {call} {at}: {e}"));
        if is_new {
            changed(&mut then);
        }
        assert!(
            content(&cube.to_string()).await == then,
            "{name}: the INSERT after {call} {at}"
        );
        if name != "ice" {
            own_metadata_agrees(&cube.path).await;
        }
    }
    assert_eq!(seen.len(), 2, "{name}: both versions are seen");
}

/// The metadata of each array on its own says what that of the whole says.
async fn own_metadata_agrees(path: &Path) {
    let of = |at: &Path| format!("SELECT count(*) FROM '{}'", at.display());
    let session = session();
    let whole = rows(&session, &of(path)).await.unwrap();
    for array in ["tas", "pr"] {
        assert_eq!(rows(&session, &of(&path.join(array))).await.unwrap(), whole);
    }
}

/// Those of the system calls `traced` that change something, by a run that is not disturbed: each with its number among
/// calls of the same name, as strace counts them. `None` without strace.
pub fn calls(
    name: &str,
    statement: impl Fn(&Cube) -> String,
    traced: &str,
) -> Option<Vec<(String, usize)>> {
    let cube = Cube::new(name);
    let trace = cube.path.with_extension("trace");
    let out = strace(
        &statement(&cube),
        &["-o", trace.to_str()?, "-e", &format!("trace={traced}")],
    )?;
    if !out.status.success() {
        return None;
    }
    let text = std::fs::read_to_string(trace).unwrap();
    let calls: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("+++ exited"))
        .collect();
    let main = calls.first()?.split(' ').next()?;
    let mut counts = BTreeMap::new();
    let calls = calls.into_iter().filter_map(|line| {
        let called = line.strip_prefix(main)?.trim_start();
        let (name, _) = called.split_once('(')?;
        let count = counts.entry(name.to_owned()).or_insert(0usize);
        *count += 1;
        Some((line, name.to_owned(), *count))
    });
    let idle = [
        "O_RDONLY",
        "ENOENT",
        "write(1, ",
        "write(2, ",
        r#""\1\0\0\0\0\0\0\0", 8"#,
    ];
    let changes = calls.filter(|(line, ..)| idle.iter().all(|idle| !line.contains(idle)));
    Some(changes.map(|(_, name, count)| (name, count)).collect())
}

/// Runs a statement with something happening at one of `calls`.
pub fn inject(sql: &str, calls: &str, what: &str) -> Output {
    strace(
        sql,
        &[
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={calls}"),
            "-e",
            &format!("inject={calls}:{what}"),
        ],
    )
    .unwrap()
}

/// Runs a statement under strace; `None` when there is none.
pub fn strace(sql: &str, options: &[&str]) -> Option<Output> {
    // One thread does all the work, so that calls are counted in the same order each time.
    Command::new("timeout")
        .args(["--signal=KILL", "60", "strace", "-f", "-qq"])
        .args(options)
        .args([
            env!("CARGO_BIN_EXE_hyperslab"),
            "--format",
            "ndjson",
            "-c",
            sql,
        ])
        .env("TOKIO_WORKER_THREADS", "1")
        .output()
        .ok()
}

/// Whether everything is to be tried, which takes minutes.
pub fn is_full() -> bool {
    std::env::var_os("HYPERSLAB_FAULTS").is_some_and(|value| value == "full")
}

/// The first of many, or all of them.
pub fn some<'a>(all: &'a [&'a str]) -> &'a [&'a str] {
    if is_full() { all } else { &all[..1] }
}
