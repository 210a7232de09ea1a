//! `INSERT` into datasets in an object store, an emulator of S3; and the same with a connection that fails.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::concurrent::many_writers;
use super::kill::is_full;
use super::proxy::{Fault, Proxy};
use super::{Cube, expected, files, fixture, hyperslab, more, slices};
use crate::moto::{Server, put};
use serde_json::{Value, json};

#[test]
fn datasets_in_an_object_store_are_read_and_grow() {
    let Some(server) = Server::get("datasets_in_an_object_store_are_read_and_grow") else {
        return;
    };
    for &name in super::CUBES {
        let cube = server.cube(name);
        cube.check(6);
        let inserted = cube.run(&format!("INSERT INTO '{{}}' SELECT * FROM '{}'", more()));
        assert!(
            inserted.status.success(),
            "{name}: {}",
            text(&inserted.stderr)
        );
        cube.check(9);
        // The lock has been given back: nobody waits for a lease.
        let began = Instant::now();
        assert!(cube.run(&slices("{}", 9, 4)).status.success());
        assert!(began.elapsed() < Duration::from_secs(20));
        cube.check(13);
        let refused = cube.run(&slices("{}", 3, 1));
        assert!(
            text(&refused.stderr).contains("is there already"),
            "{}",
            text(&refused.stderr)
        );
        cube.check(13);
    }
}

#[test]
fn slices_of_many_writers_into_an_object_store_are_each_there_once() {
    let name = "slices_of_many_writers_into_an_object_store_are_each_there_once";
    let Some(server) = Server::get(name) else {
        return;
    };
    for name in if is_full() {
        &["bare", "v3_sharded", "ice"][..]
    } else {
        &["bare", "ice"]
    } {
        if name == &"ice" && !cfg!(feature = "icechunk") {
            continue;
        }
        let cube = server.cube(name);
        many_writers(&cube.location, name, &cube.environment());
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_neither_a_conflict_nor_done_twice() {
    let name = "a_commit_whose_answer_is_lost_is_neither_a_conflict_nor_done_twice";
    let Some(server) = Server::get(name) else {
        return;
    };
    // What goes wrong with the commit, how often, and whether the statement can succeed all the same.
    let faults = [
        (Fault::CutResponse, 1, Some(true)),
        (Fault::CutRequest, 1, None),
        (Fault::Status(503, "SlowDown"), 3, Some(true)),
        (
            Fault::Status(409, "ConditionalRequestConflict"),
            2,
            Some(true),
        ),
        // What it says is the same, so that the commit is made again, but not for ever.
        (Fault::Foreign("", ""), 2, Some(true)),
        (Fault::Foreign("", ""), u32::MAX, Some(false)),
    ];
    for (name, document) in documents() {
        for (fault, times, succeeds) in faults {
            // The foreign program adds a line, with which a repository is damaged.
            if name == "ice" && matches!(fault, Fault::Foreign(..)) {
                continue;
            }
            for _ in 0..if is_full() { 50 } else { 1 } {
                let mut cube = server.cube(name);
                let proxy = Proxy::start(
                    server.port,
                    &format!("{}/{document}", cube.path),
                    fault,
                    times,
                );
                cube.port = proxy.port;
                let out = cube.run(&format!("INSERT INTO '{{}}' SELECT * FROM '{}'", more()));
                let message = text(&out.stderr);
                assert!(proxy.injected() > 0, "{name}: {fault:?} did not happen");
                cube.port = server.port;
                let there = cube.count() / 20;
                match succeeds {
                    Some(true) => assert!(out.status.success(), "{name}: {fault:?}: {message}"),
                    Some(false) => {
                        assert!(
                            message.contains("nothing was inserted, try again"),
                            "{name}: {fault:?}: {message}"
                        );
                    }
                    None => {}
                }
                let expected = if out.status.success() { 9 } else { 6 };
                assert_eq!(there, expected, "{name}: {fault:?}: {message}");
                cube.check(expected);
                if !out.status.success() {
                    // A writer whose commit is not answered for keeps the lock until it is given up.
                    let again = cube.run_with(
                        &format!("INSERT INTO '{{}}' SELECT * FROM '{}'", more()),
                        "1s",
                    );
                    assert!(
                        again.status.success(),
                        "{name}: {fault:?}: {}",
                        text(&again.stderr)
                    );
                    cube.check(9);
                }
                assert!(cube.run(&slices("{}", 9, 1)).status.success());
                cube.check(10);
            }
        }
    }
}

#[test]
fn what_others_change_elsewhere_in_the_metadata_stays_with_the_commit() {
    let name = "what_others_change_elsewhere_in_the_metadata_stays_with_the_commit";
    let Some(server) = Server::get(name) else {
        return;
    };
    // A text of the metadata, what another program makes of it, and whether the rows fit both.
    let v2 = [
        (
            r#"".zattrs": {}"#,
            r#"".zattrs": {"seen": "by others"}"#,
            true,
        ),
        (r#""scale_factor": 0.5"#, r#""scale_factor": 0.25"#, false),
        (r#""units": "days since"#, r#""units": "hours since"#, false),
        (r#""shape": [6, 4, 5]"#, r#""shape": [7, 4, 5]"#, false),
    ];
    let v3 = [
        (
            r#""attributes": {}"#,
            r#""attributes": {"seen": "by others"}"#,
            true,
        ),
        (r#""scale_factor": 0.5"#, r#""scale_factor": 0.25"#, false),
    ];
    for (name, document, changes) in [
        ("v2", ".zmetadata", &v2[..]),
        ("v3_sharded", "zarr.json", &v3[..]),
    ] {
        for (from, to, fits) in changes {
            let mut cube = server.cube(name);
            let path = format!("{}/{document}", cube.path);
            let proxy = Proxy::start(server.port, &path, Fault::Foreign(from, to), 1);
            cube.port = proxy.port;
            let out = cube.run(&format!("INSERT INTO '{{}}' SELECT * FROM '{}'", more()));
            cube.port = server.port;
            let message = text(&out.stderr);
            assert_eq!(proxy.injected(), 1, "{name}: {message}");
            assert_eq!(out.status.success(), *fits, "{name}, {to}: {message}");
            if *fits {
                cube.check(9);
                let seen = cube.run("SELECT value FROM array_attributes('{}') WHERE name = 'seen'");
                assert!(
                    text(&seen.stdout).contains("by others"),
                    "{}",
                    text(&seen.stdout)
                );
                let log = cube
                    .run("SELECT operation, lengths FROM array_versions('{}') WHERE version = 1");
                assert!(
                    text(&log.stdout).contains("time=9"),
                    "{}",
                    text(&log.stdout)
                );
                assert!(cube.run(&slices("{}", 9, 1)).status.success());
                cube.check(10);
            } else {
                assert!(
                    message.contains("nothing was inserted, try again"),
                    "{message}"
                );
            }
        }
    }
}

#[test]
fn a_commit_that_nobody_answers_has_an_unknown_outcome() {
    let Some(server) = Server::get("a_commit_that_nobody_answers_has_an_unknown_outcome") else {
        return;
    };
    for applied in [true, false] {
        for _ in 0..if is_full() { 10 } else { 1 } {
            let mut cube = server.cube("v3");
            let fault = if applied {
                Fault::AppliedThenDead
            } else {
                Fault::Dead
            };
            let proxy = Proxy::start(
                server.port,
                &format!("{}/zarr.json", cube.path),
                fault,
                u32::MAX,
            );
            cube.port = proxy.port;
            let out = cube.run(&format!("INSERT INTO '{{}}' SELECT * FROM '{}'", more()));
            assert_eq!(out.status.code(), Some(1));
            let message = text(&out.stderr);
            assert!(
                message.contains("the outcome of the change is unknown; if it was published, it is version 1 of the dataset"),
                "{message}"
            );
            // A later read tells the truth, and the next writer finishes what there is to finish.
            cube.port = server.port;
            cube.check(if applied { 9 } else { 6 });
            let (first, count) = if applied { (9, 1) } else { (6, 4) };
            let again = cube.run_with(&slices("{}", first, count), "1s");
            assert!(again.status.success(), "{}", text(&again.stderr));
            cube.check(10);
        }
    }
}

#[test]
fn a_writer_that_dies_before_the_commit_leaves_the_old_version() {
    let Some(server) = Server::get("a_writer_that_dies_before_the_commit_leaves_the_old_version")
    else {
        return;
    };
    for (name, document) in documents() {
        for _ in 0..if is_full() { 50 } else { 1 } {
            let mut cube = server.cube(name);
            let proxy = Proxy::start(
                server.port,
                &format!("{}/{document}", cube.path),
                Fault::Hang,
                1,
            );
            cube.port = proxy.port;
            let mut child = cube
                .command(
                    &format!("INSERT INTO '{{}}' SELECT * FROM '{}'", more()),
                    "30s",
                )
                .spawn()
                .unwrap();
            proxy.wait();
            child.kill().unwrap();
            child.wait().unwrap();
            cube.port = server.port;
            cube.check(6);
            // Other slices than those whose chunks are there already; nobody has to clear anything away.
            let again = cube.run_with(&slices("{}", 6, 2), "1s");
            assert!(again.status.success(), "{}", text(&again.stderr));
            cube.check(8);
            assert!(cube.run(&slices("{}", 8, 2)).status.success());
            cube.check(10);
        }
    }
}

#[test]
fn a_writer_that_wakes_up_after_it_was_given_up_changes_nothing() {
    let Some(server) = Server::get("a_writer_that_wakes_up_after_it_was_given_up_changes_nothing")
    else {
        return;
    };
    for (name, document) in documents().into_iter().chain([("v2_plain", ".zmetadata")]) {
        let cube = server.cube(name);
        // Its commit is held back, and it sleeps: it does not renew its lock.
        let mut slow = server.at(&cube);
        let proxy = Proxy::start(
            server.port,
            &format!("{}/{document}", cube.path),
            Fault::Hold,
            1,
        );
        slow.port = proxy.port;
        let mut child = slow
            .command(
                &format!("INSERT INTO '{{}}' SELECT * FROM '{}'", more()),
                "30s",
            )
            .spawn()
            .unwrap();
        proxy.wait();
        signal(&child, "STOP");
        // Other values for the same times.
        let other = format!(
            "INSERT INTO '{{}}' SELECT time, lat, lon, area, pr, tas + 5000 FROM '{}' WHERE time < '2000-01-09'",
            more()
        );
        let taken = cube.run_with(&other, "1s");
        assert!(taken.status.success(), "{name}: {}", text(&taken.stderr));
        proxy.release();
        signal(&child, "CONT");
        let status = child.wait().unwrap();
        assert!(
            !status.success(),
            "{name}: a writer that was given up has committed"
        );
        let rows = cube.rows();
        assert_eq!(rows.len(), 160, "{name}");
        for (k, row) in (0..).zip(&rows) {
            let mut row_of = expected(k);
            if k >= 120 {
                row_of[3] = json!(f64::from(k + 5000));
            }
            assert_eq!(*row, row_of, "{name}");
        }
    }
}

/// Cubes, and the objects that their commits put.
fn documents() -> Vec<(&'static str, &'static str)> {
    let mut documents = vec![("v2", ".zmetadata"), ("v3_sharded", "zarr.json")];
    if cfg!(feature = "icechunk") {
        documents.push(("ice", "repo"));
    }
    documents
}

/// A cube in the emulator.
struct Remote {
    location: String,
    path: String,
    /// Where requests go.
    port: u16,
}

impl Server {
    /// A new copy of a cube.
    fn cube(&self, name: &str) -> Remote {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = format!("/bucket/data/{count}/cube.zarr");
        let root = PathBuf::from(fixture(name));
        for (file, bytes) in files(&root) {
            let key = file.strip_prefix(&root).unwrap().to_str().unwrap();
            put(self.port, &format!("{path}/{key}"), &bytes).unwrap();
        }
        Remote {
            location: format!("s3:/{path}"),
            path,
            port: self.port,
        }
    }

    fn at(&self, cube: &Remote) -> Remote {
        Remote {
            location: cube.location.clone(),
            path: cube.path.clone(),
            port: self.port,
        }
    }
}

impl Remote {
    fn environment(&self) -> Vec<(String, String)> {
        [
            (
                "AWS_ENDPOINT_URL",
                format!("http://127.0.0.1:{}", self.port),
            ),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec()
    }

    /// A statement about this cube, `{}`.
    fn command(&self, sql: &str, lease: &str) -> Command {
        let mut command = hyperslab();
        command
            .envs(self.environment())
            .args(["--format", "ndjson"]);
        command.args(["-c", &format!("SET hyperslab.lock_lease = '{lease}'")]);
        command.args(["-c", &sql.replace("{}", &self.location)]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, sql: &str) -> Output {
        self.run_with(sql, "30s")
    }

    fn run_with(&self, sql: &str, lease: &str) -> Output {
        self.command(sql, lease).output().unwrap()
    }

    fn rows(&self) -> Vec<Value> {
        let out =
            self.run("SELECT time, lat, lon, tas, pr, area FROM '{}' ORDER BY time, lat, lon");
        assert!(out.status.success(), "{}", text(&out.stderr));
        let columns = ["time", "lat", "lon", "tas", "pr", "area"];
        text(&out.stdout)
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|row| Value::Array(columns.iter().map(|column| row[column].clone()).collect()))
            .collect()
    }

    fn check(&self, slices: u32) {
        let rows = self.rows();
        assert_eq!(rows.len(), slices as usize * 20, "{}", self.location);
        for (k, row) in (0..).zip(&rows) {
            assert_eq!(*row, expected(k), "{}", self.location);
        }
    }

    fn count(&self) -> u32 {
        u32::try_from(self.rows().len()).unwrap()
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The store cannot be told from a directory by what a test does with it.
#[tokio::test]
async fn the_same_statements_make_the_same_dataset() {
    let Some(server) = Server::get("the_same_statements_make_the_same_dataset") else {
        return;
    };
    let here = Cube::new("v3_sharded");
    let there = server.cube("v3_sharded");
    let session = crate::common::session();
    for (first, count) in [(6, 1), (7, 5), (12, 2)] {
        here.append(&session, first, count).await.unwrap();
        assert!(there.run(&slices("{}", first, count)).status.success());
    }
    here.check(14).await;
    there.check(14);
}
