//! Readers under whom a dataset is changed: they get what was there as they began, or a sentence that says so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::physical_plan::{ExecutionPlan, collect};
use futures::StreamExt;
use hyperslab::session::Session;
use serde_json::{Value, json};

use super::kill::{inject, strace};
use super::{Cube, content, error, expected, row};
use crate::common::{batches, copy_folder, little, rows, session};

/// Cubes whose cells are replaced in their places.
const CUBES: [&str; 4] = ["v2.zarr", "v3_plain.zarr", "v3_sharded.zarr", "cube.b2d"];

const SAYS: &str = "(replace) has changed cells while they were read; read them again";

/// A copy of a cube, and its location.
fn copied(name: &str) -> (tempfile::TempDir, String) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(name);
    copy_folder(little(&format!("inserts/{name}")).as_ref(), &path);
    let location = path.to_str().unwrap().to_owned();
    (place, location)
}

fn replace(cube: &str) -> String {
    format!(
        "REPLACE INTO '{cube}' (time, lat, lon, tas, pr) SELECT time, lat, lon, tas + 1000, pr FROM '{cube}'"
    )
}

#[tokio::test]
async fn rows_of_two_versions_never_come_from_one_scan() {
    for name in CUBES {
        let (_place, cube) = copied(name);
        let writer = session();
        let reader = session();
        for set in ["batch_size = 20", "target_partitions = 1"] {
            let set = format!("SET datafusion.execution.{set}");
            reader.sql(&set).await.unwrap();
        }
        let all = format!("SELECT tas FROM '{cube}'");
        // What is only added is not seen, and does no harm.
        let mut stream = reader.stream(&all).await.unwrap();
        let mut seen = stream.next().await.unwrap().unwrap().num_rows();
        row(&writer, &super::slices(&cube, 6, 3)).await.unwrap();
        while let Some(batch) = stream.next().await {
            seen += batch.unwrap().num_rows();
        }
        assert_eq!(seen, 120, "{name}");
        // What is replaced is an error, also for who has seen no more than the beginning.
        let mut stream = reader.stream(&all).await.unwrap();
        let mut seen = stream.next().await.unwrap().unwrap().num_rows();
        row(&writer, &replace(&cube)).await.unwrap();
        let mut failed = None;
        while let Some(batch) = stream.next().await {
            match batch {
                Ok(batch) => seen += batch.num_rows(),
                Err(error) => failed = Some(error.to_string()),
            }
        }
        let failed = failed.unwrap_or_default();
        assert!(
            failed.contains(&format!("version 2 {SAYS}")),
            "{name}: {failed}"
        );
        assert!(seen < 180, "{name}");
        let again = rows(&reader, &all).await.unwrap();
        assert_eq!(again.len(), 180, "{name}");
    }
}

#[tokio::test]
async fn aggregates_and_joins_are_of_one_version() {
    for name in CUBES {
        let (_place, cube) = copied(name);
        let (_other_place, other) = copied("v2_plain.zarr");
        let reader = session();
        for (at, (sql, shown)) in [
            (format!("SELECT lat, avg(tas) FROM '{cube}' GROUP BY lat"), "tier=dense"),
            (format!("SELECT lat, sum(tas * pr) FROM '{cube}' GROUP BY lat"), "tier=blocks"),
            (format!("SELECT lat, median(tas) FROM '{cube}' GROUP BY lat"), "tier=grouped"),
            (
                format!(
                    "SELECT sum(a.tas - b.pr) FROM '{other}' a JOIN '{cube}' b USING (time, lat, lon)"
                ),
                "JOIN",
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let plan = reader.sql(&sql).await.unwrap();
            let plan = plan.create_physical_plan().await.unwrap();
            let text = datafusion::physical_plan::displayable(plan.as_ref()).indent(false);
            assert!(text.to_string().contains(shown), "{name}: {text}");
            let before = run(&reader, &plan).await.unwrap();
            // A slice more is none of the plan.
            let day = 6 + u32::try_from(at).unwrap();
            row(&session(), &super::slices(&cube, day, 1)).await.unwrap();
            assert_eq!(run(&reader, &plan).await.unwrap(), before, "{name}: {sql}");
            row(&session(), &replace(&cube)).await.unwrap();
            let refused = run(&reader, &plan).await.unwrap_err();
            assert!(refused.contains(SAYS), "{name}: {sql}: {refused}");
            batches(&reader, &sql).await.unwrap();
        }
    }
}

async fn run(session: &Session, plan: &Arc<dyn ExecutionPlan>) -> Result<usize, String> {
    let batches = collect(Arc::clone(plan), session.context().task_ctx()).await;
    let batches = batches.map_err(|e| e.to_string())?;
    Ok(batches.iter().map(|batch| batch.num_rows()).sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_reads_while_cells_are_replaced_sees_no_mixture() {
    let (_place, cube) = copied("v3_sharded.zarr");
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (cube, done) = (cube.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let session = session();
                let (mut whole, mut refused) = (0, 0);
                while !done.load(Ordering::Relaxed) {
                    // Twice what `pr` is, and the same more everywhere.
                    let sql = format!(
                        "SELECT min(tas - 2 * pr), max(tas - 2 * pr), count(*) FROM '{cube}'"
                    );
                    match row(&session, &sql).await {
                        Ok(row) => {
                            assert_eq!(row[0], row[1]);
                            assert_eq!(row[2], json!(120));
                            whole += 1;
                        }
                        Err(error) => {
                            assert!(error.to_string().contains(SAYS), "{error}");
                            refused += 1;
                        }
                    }
                }
                (whole, refused)
            })
        })
        .collect();
    let writer = session();
    for _ in 0..30 {
        row(&writer, &replace(&cube)).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        let (whole, refused) = reader.await.unwrap();
        println!("30 replacements: {whole} reads of one version, {refused} refused");
        assert!(whole > 0);
    }
}

#[tokio::test]
async fn who_may_not_write_reads_past_a_commit_that_was_cut_short() {
    if strace("SELECT 1", &["-o", "/dev/null"]).is_none() {
        println!(
            "skipped: who_may_not_write_reads_past_a_commit_that_was_cut_short: there is no strace"
        );
        return;
    }
    // What has been moved when it is cut short: nothing, some of it, all but the log.
    let mut met = BTreeSet::new();
    // Calls are counted thread by thread, and threads do not share the work in the same way each time.
    for at in 1..200 {
        let cube = Cube::new("v2");
        let sql = replace(&cube.to_string());
        let out = inject(&sql, "rename", &format!("signal=SIGKILL:when={at}"));
        if out.status.success() {
            break;
        }
        let journal = cube.path.join(".hyperslab/commit");
        let Ok(text) = std::fs::read(&journal) else {
            continue;
        };
        let moves: Value = serde_json::from_slice(&text).unwrap();
        let moves = moves["moves"].as_array().unwrap();
        let left = moves
            .iter()
            .filter(|step| cube.path.join(step[0].as_str().unwrap()).exists())
            .count();
        let state = match left {
            left if left == moves.len() => "nothing moved",
            1 => "all but one moved",
            _ => "some moved",
        };
        if !met.insert(state) {
            continue;
        }
        // Before anything is finished: as on a file system that is read-only.
        let lock = cube.path.join(".hyperslab/lock");
        let read = |sql: &str| {
            let options = [
                "-o",
                "/dev/null",
                "-P",
                lock.to_str().unwrap(),
                "-e",
                "inject=openat:error=EROFS",
            ];
            let out = strace(sql, &options).unwrap();
            assert!(
                out.status.success(),
                "{}",
                String::from_utf8_lossy(&out.stderr)
            );
            String::from_utf8(out.stdout).unwrap()
        };
        let sums = read(&format!(
            "SELECT sum(tas) AS tas, sum(pr) AS pr FROM '{cube}'"
        ));
        assert_eq!(sums, "{\"tas\":127140.0,\"pr\":3570.0}\n");
        let cell = read(&format!("SELECT tas FROM '{cube}' WHERE tas = 1119"));
        assert_eq!(cell, "{\"tas\":1119.0}\n");
        let log = read(&format!(
            "SELECT version, operation FROM array_versions('{cube}') WHERE version = 1"
        ));
        assert_eq!(log, "{\"version\":1,\"operation\":\"replace\"}\n");
        assert!(journal.exists());
        // Who may write does not write elsewhere, and finishes it.
        let rows = content(&cube.to_string()).await;
        assert!(!journal.exists());
        for (k, row) in (0..).zip(&rows) {
            let mut wanted = expected(k);
            wanted[3] = json!(f64::from(k + 1000));
            assert_eq!(*row, wanted);
        }
        assert_eq!(rows.len(), 120);
        let session = session();
        let refused = error(
            &session,
            &format!("INSERT INTO '{cube}' SELECT * FROM '{cube}'"),
        )
        .await;
        assert!(refused.contains("is there already"), "{refused}");
    }
    assert!(met.len() >= 2, "{met:?}");
}
