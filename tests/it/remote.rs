//! Datasets that are far away: the answers of local ones, by few requests, whatever goes wrong on the way.

mod web;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{alike, error, output, project, row, rows, sample, session};
use web::{Asked, Fault, Web};

/// Whether what takes long is done in full.
fn is_full() -> bool {
    std::env::var("HYPERSLAB_FAULTS").is_ok_and(|wanted| wanted == "full")
}

fn samples() -> Web {
    Web::start(&project("sql-examples/data"))
}

/// A statement in a process of its own, which has read nothing before.
fn process(sql: &str, cache: Option<&Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hyperslab"));
    command.args(["--format", "ndjson", "-c", sql]);
    command.env_remove("HYPERSLAB_CACHE_DIR");
    command.env("HYPERSLAB_STALL_SECONDS", "1");
    if let Some(directory) = cache {
        command.env("HYPERSLAB_CACHE_DIR", directory);
    }
    command
}

/// The sample as Zarr whose metadata is in one document, in a folder.
async fn consolidated(folder: &Path) -> String {
    let to = folder.join("tas.zarr").to_str().unwrap().to_owned();
    let copy = format!("COPY (SELECT * FROM '{}') TO '{to}'", sample("tas.nc"));
    rows(&session(), &copy).await.unwrap();
    to
}

/// A file of several blocks, in a folder.
fn large(folder: &Path) -> String {
    let to = folder.join("large.nc").to_str().unwrap().to_owned();
    let copy = format!(
        "COPY (SELECT t.value AS time, y.value AS lat, x.value AS lon, \
         CAST(random() AS FLOAT) AS tas \
         FROM generate_series(0, 199) t, generate_series(-40, 39) y, generate_series(0, 119) x) \
         TO '{to}' OPTIONS (dims 'time,lat,lon', chunks '10,80,120')"
    );
    output(&mut process(&copy, None));
    assert!(std::fs::metadata(&to).unwrap().len() > 5 << 20);
    to
}

fn bytes(asked: &[Asked]) -> usize {
    asked.iter().map(|one| one.bytes).sum()
}

const STATEMENTS: &[&str] = &[
    "SELECT count(*), count(tas), avg(tas), min(tas), max(tas) FROM '{}'",
    "SELECT avg(tas) FROM '{}' WHERE time BETWEEN '2003-01-01' AND '2003-12-31' AND lat > 0",
    "SELECT lat, avg(tas) FROM '{}' GROUP BY lat ORDER BY lat",
    "SELECT time, lat, lon, tas FROM '{}' WHERE tas > 300 ORDER BY tas DESC, time, lat, lon LIMIT 20",
    "SELECT tas FROM '{}' WHERE lat < -60 ORDER BY time, lat, lon",
    "SELECT stddev(tas), median(tas) FROM '{}' WHERE lon < 90",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_server_gives_the_answers_of_files() {
    let place = tempfile::tempdir().unwrap();
    for name in ["tas.nc", "tas_classic.nc"] {
        std::fs::copy(sample(name), place.path().join(name)).unwrap();
    }
    consolidated(place.path()).await;
    let web = Web::start(place.path());
    let session = session();
    for name in ["tas.nc", "tas_classic.nc", "tas.zarr"] {
        for statement in STATEMENTS {
            let local = place.path().join(name).to_str().unwrap().to_owned();
            let local = rows(&session, &statement.replace("{}", &local)).await;
            let far = rows(&session, &statement.replace("{}", &web.url(name))).await;
            let (far, local) = (Value::Array(far.unwrap()), Value::Array(local.unwrap()));
            // Workers add up in another order.
            assert!(
                alike(&far, &local, 1e-12),
                "{name}: {statement}: {far} {local}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_web_server_cannot_do_is_said() {
    let web = samples();
    let session = session();
    for (name, complaint) in [
        ("tas.zarr", "consolidated"),
        ("nothing.nc", "nothing.nc does not exist"),
        ("nothing.zarr", "nothing.zarr does not exist"),
        ("make.py", "is not an array dataset"),
    ] {
        let sql = format!("SELECT * FROM '{}'", web.url(name));
        let said = error(&session, &sql).await;
        assert!(said.contains(complaint), "{name}: {said}");
    }
}

#[test]
fn few_requests_read_what_a_statement_needs() {
    let web = samples();
    let url = web.url("tas.nc");
    let sql = format!("SELECT avg(tas) AS mean FROM '{url}'");
    let cold = output(&mut process(&sql, None));
    let asked = web.asked();
    assert!(asked.len() <= 3, "{asked:?}");
    // Each byte once.
    let size = std::fs::metadata(sample("tas.nc")).unwrap().len();
    assert!(bytes(&asked) as u64 <= size, "{asked:?}");
    let local = format!("SELECT avg(tas) AS mean FROM '{}'", sample("tas.nc"));
    assert_eq!(cold, output(&mut process(&local, None)));
    assert!(web.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_once_does_not_travel_again_until_it_changes() {
    let place = tempfile::tempdir().unwrap();
    std::fs::copy(sample("tas.nc"), place.path().join("a.nc")).unwrap();
    consolidated(place.path()).await;
    let web = Web::start(place.path());
    let session = session();
    for name in ["a.nc", "tas.zarr"] {
        let sql = format!(
            "SELECT count(tas), avg(tas), max(tas) FROM '{}'",
            web.url(name)
        );
        let first = row(&session, &sql).await.unwrap();
        assert!(bytes(&web.asked()) > 100_000);
        // Another session, which has opened nothing.
        let again = row(&crate::common::session(), &sql).await.unwrap();
        assert_eq!(again, first);
        let asked = web.asked();
        assert_eq!(bytes(&asked), 0, "{asked:?}");
    }
    // Another file at the same place, of the same length.
    std::fs::copy(sample("model.nc"), place.path().join("a.nc")).unwrap();
    let sql = "SELECT count(*) FROM read_array('{}')";
    let far = row(&session, &sql.replace("{}", &web.url("a.nc"))).await;
    let local = row(&session, &sql.replace("{}", &sample("model.nc"))).await;
    assert_eq!(far.unwrap(), local.unwrap());
}

#[test]
fn processes_share_what_is_on_disk_and_damage_to_it_changes_no_answer() {
    let web = samples();
    let place = tempfile::tempdir().unwrap();
    let cache = Some(place.path());
    let sql = format!(
        "SELECT count(tas), avg(tas), max(tas) FROM '{}' WHERE lat > -80",
        web.url("tas.nc")
    );
    let first = output(&mut process(&sql, cache));
    assert!(bytes(&web.asked()) > 100_000);
    assert_eq!(output(&mut process(&sql, cache)), first);
    let asked = web.asked();
    assert_eq!((asked.len(), bytes(&asked)), (1, 0), "{asked:?}");
    // A byte of each entry is another one.
    let entries = |damage: bool| {
        let mut entries = 0;
        for folder in std::fs::read_dir(place.path()).unwrap() {
            let folder = folder.unwrap().path();
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                entries += 1;
                if damage {
                    let mut bytes = std::fs::read(&path).unwrap();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    std::fs::write(path, bytes).unwrap();
                }
            }
        }
        entries
    };
    assert!(entries(true) > 0);
    assert_eq!(output(&mut process(&sql, cache)), first);
    assert!(bytes(&web.asked()) > 100_000);
    let cache_command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hyperslab"));
        command.arg("cache").args(arguments);
        output(command.env("HYPERSLAB_CACHE_DIR", place.path()))
    };
    let listed = cache_command(&["ls"]);
    assert!(listed.contains("/tas.nc"), "{listed}");
    entries(true);
    let verified = cache_command(&["verify"]);
    assert!(verified.contains(" damaged"), "{verified}");
    cache_command(&["clear"]);
    assert_eq!(entries(false), 0);
}

#[test]
fn faults_of_the_network_end_in_the_right_answer_or_a_sentence() {
    let place = tempfile::tempdir().unwrap();
    let file = large(place.path());
    let web = Web::start(place.path());
    let elsewhere = "http://other.example/tas.nc".to_owned();
    // What goes wrong, how often, and what is said if that is too often.
    let faults: [(Fault, usize, Option<&str>); 11] = [
        (Fault::Status(503), 3, None),
        (Fault::Status(500), 1, None),
        (Fault::Cut, 2, None),
        (Fault::Stall, 1, None),
        (Fault::Cut, usize::MAX, Some("cannot be read")),
        (Fault::Replaced, 1, Some("was replaced while it was read")),
        (Fault::WrongRange, usize::MAX, Some("cannot be read")),
        (
            Fault::NoRange,
            usize::MAX,
            Some("does not answer requests for ranges"),
        ),
        (
            Fault::Status(403),
            usize::MAX,
            Some("refuses the credentials, or wants some"),
        ),
        (Fault::Status(404), usize::MAX, Some("does not exist")),
        (
            Fault::Redirect(elsewhere),
            usize::MAX,
            Some("it is redirected to another host, other.example"),
        ),
    ];
    let statement = "SELECT count(tas) AS n, round(avg(tas), 9) AS mean, max(tas) AS most FROM '{}' WHERE lat > -35";
    let local = output(&mut process(&statement.replace("{}", &file), None));
    let far = statement.replace("{}", &web.url("large.nc"));
    for (at, (fault, times, complaint)) in faults.into_iter().enumerate() {
        for number in 0..if is_full() { 50 } else { 1 } {
            // Where the object is looked at, or behind that.
            web.inject(fault.clone(), (at + number) % 2, times);
            let Output {
                status,
                stdout,
                stderr,
            } = process(&far, None).output().unwrap();
            let injected = web.heal();
            let (stdout, stderr) = (String::from_utf8(stdout), String::from_utf8(stderr));
            let (stdout, stderr) = (stdout.unwrap(), stderr.unwrap());
            assert!(injected > 0, "{fault:?} did not happen");
            match complaint {
                None => assert_eq!(stdout, local, "{fault:?}: {stderr}"),
                Some(_) if status.success() => assert_eq!(stdout, local, "{fault:?}"),
                Some(complaint) => {
                    assert!(stderr.starts_with("error: "), "{fault:?}: {stderr}");
                    assert!(stderr.contains(complaint), "{fault:?}: {stderr}");
                    assert!(stderr.contains("/large.nc"), "{fault:?}: {stderr}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_chunks_are_under_way_at_the_same_time() {
    let place = tempfile::tempdir().unwrap();
    let local = consolidated(place.path()).await;
    let web = Web::start(place.path());
    web.set_latency(Duration::from_millis(20));
    let sql = "SELECT avg(tas) FROM '{}'";
    let far = row(&session(), &sql.replace("{}", &web.url("tas.zarr"))).await;
    let local = row(&session(), &sql.replace("{}", &local)).await;
    assert_eq!(far.unwrap(), local.unwrap());
    let chunks = web
        .asked()
        .iter()
        .filter(|one| one.path.contains("/tas/"))
        .count();
    let most = web.most();
    assert!(most >= chunks.min(32) / 2, "{most} of {chunks}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_says_how_it_does() {
    let web = samples();
    let session = session();
    let sql = format!("SELECT max(tas) FROM '{}'", web.url("tas_classic.nc"));
    row(&session, &sql).await.unwrap();
    let hits = "SELECT value FROM hyperslab.cache WHERE name = 'memory_hits'";
    let before = row(&session, hits).await.unwrap();
    row(&session, &sql).await.unwrap();
    let after = row(&session, hits).await.unwrap();
    let number = |row: &[Value]| row[0].as_u64().unwrap();
    assert!(number(&after) > number(&before));
    let all = rows(&session, "SELECT name, value, meaning FROM hyperslab.cache").await;
    assert!(all.unwrap().len() > 8);
    let limit = "SELECT value FROM hyperslab.cache WHERE name = 'memory_limit'";
    assert_eq!(row(&session, limit).await.unwrap(), [json!(256 << 20)]);
    let wrong = error(&session, "SELECT * FROM hyperslab.cash").await;
    assert!(wrong.contains("cash"), "{wrong}");
}
