//! Push-down: it fires (EXPLAIN ANALYZE says so), and switched off it gives the same answer.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::common::{alike, analyze, error, explain, row, rows, sample, session};

/// The value of a metric, summed over the line of the scan: `name=12`, or `name=365 total → 31 matched`.
fn metric(plan: &str, name: &str) -> String {
    let line = plan
        .lines()
        .find(|line| line.contains("ArraySource") || line.contains("ArrayReduceExec"))
        .unwrap();
    let from = line
        .find(&format!("{name}="))
        .unwrap_or_else(|| panic!("no {name} in {line}"));
    let value = &line[from + name.len() + 1..];
    value.split([',', ']']).next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_year_of_three_reads_its_chunks_only() {
    let session = session();
    let sql = format!(
        "SELECT mean(tas) FROM '{}' WHERE time BETWEEN '2003-01-01' AND '2003-12-31 23:59:59' AND lat BETWEEN -30 AND 30",
        sample("tas.nc")
    );
    let plan = analyze(&session, &sql).await;
    assert_eq!(metric(&plan, "chunks_read"), "365", "{plan}");
    assert!(
        metric(&plan, "chunks_pruned_by_index").starts_with("1.09 K total")
            || metric(&plan, "chunks_pruned_by_index").starts_with("1095 total"),
        "{plan}"
    );
    assert!(plan.contains("chunks=365/1095"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_of_every_year_reads_a_twelfth() {
    let session = session();
    for predicate in [
        "month(time) = 7",
        "extract(month FROM time) = 7",
        "date_part('month', time) IN (7)",
    ] {
        let sql = format!(
            "SELECT avg(tas) FROM '{}' WHERE {predicate}",
            sample("tas.nc")
        );
        let plan = analyze(&session, &sql).await;
        assert_eq!(metric(&plan, "chunks_read"), "93", "{predicate}: {plan}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_on_a_curvilinear_grid_prunes_chunks() {
    let session = session();
    let sql = format!(
        "SELECT avg(sst) FROM '{}' WHERE nav_lat BETWEEN 40 AND 50 AND nav_lon BETWEEN -40 AND -20",
        sample("ocean.nc")
    );
    let plan = explain(&session, &format!("EXPLAIN {sql}")).await;
    let chunks = plan
        .split("chunks=")
        .nth(1)
        .unwrap()
        .split([',', '\n'])
        .next()
        .unwrap();
    let (read, all) = chunks.split_once('/').unwrap();
    assert!(
        read.parse::<u64>().unwrap() * 2 < all.parse::<u64>().unwrap(),
        "{plan}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dimensions_are_answered_without_reading() {
    let session = session();
    let sql = format!(
        "SELECT count(*), min(time), max(lat), count(DISTINCT lat) FROM '{}' WHERE lat > 0",
        sample("tas.nc")
    );
    let got = row(&session, &sql).await.unwrap();
    assert_eq!(got[0], 1095 * 8 * 24);
    let sql = format!(
        "EXPLAIN SELECT count(*), min(time), max(lat) FROM '{}' WHERE lat > 0",
        sample("tas.nc")
    );
    let plan = explain(&session, &sql).await;
    assert!(plan.contains("PlaceholderRowExec"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_in_order_where_the_grid_is() {
    let session = session();
    let sql = format!(
        "EXPLAIN SELECT time, tas FROM '{}' WHERE lat > 80 ORDER BY time LIMIT 3",
        sample("tas.nc")
    );
    let plan = explain(&session, &sql).await;
    assert!(!plan.contains("SortExec"), "{plan}");
    let sql = format!(
        "SELECT time FROM '{}' ORDER BY time DESC LIMIT 2",
        sample("tas.nc")
    );
    assert_eq!(
        rows(&session, &sql).await.unwrap()[0][0],
        "2004-12-31T12:00:00"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_predicate_on_data_saves_the_other_variables() {
    let session = session();
    let sql = format!(
        "SELECT sum(pr) FROM '{}' WHERE tas > 1000",
        sample("tas.nc")
    );
    let plan = analyze(&session, &sql).await;
    assert_ne!(metric(&plan, "chunks_skipped_by_predicate"), "0", "{plan}");
}

/// Statements over all kinds of push-down, alone and together.
const STATEMENTS: &[&str] = &[
    "SELECT count(*), sum(tas), min(pr) FROM '{tas}' WHERE time >= '2003-05-01' AND lat < 0",
    "SELECT count(*), sum(tas) FROM '{tas}' WHERE lat > 30 OR lon < 45",
    "SELECT count(*), sum(tas) FROM '{tas}' WHERE lat > 30 OR lon < 45 AND month(time) = 2",
    "SELECT count(*), sum(tas) FROM '{tas}' WHERE (lat > 30 OR lon < 45) AND (lat < 50 OR month(time) = 2) AND tas > 280",
    "SELECT count(*), sum(tas) FROM '{tas}' WHERE CAST(lat AS INT) = 39",
    "SELECT count(*), sum(tas) FROM '{tas}' WHERE area > 1e12 AND lon <> 15",
    "SELECT count(*), sum(tas) FROM '{tas}' WHERE tas IS NULL OR tas > 300",
    "SELECT count(*), sum(tas) FROM '{tas}' WHERE lat > 100",
    "SELECT count(*), sum(tas) FROM '{tas}' WHERE 1 = 0",
    "SELECT count(*), sum(tas) FROM '{tas}' WHERE tas > (SELECT avg(tas) FROM '{tas}')",
    "SELECT count(*), sum(tas) FROM '{tas}' WHERE lat IN (SELECT max(lat) FROM '{tas}')",
    "SELECT lat, lon, avg(tas) FROM '{tas}' GROUP BY lat, lon ORDER BY lat, lon",
    "SELECT time, lat, lon, tas FROM '{tas}' ORDER BY tas DESC NULLS LAST, time, lat, lon LIMIT 7",
    "SELECT time, lat, lon, tas FROM '{tas}' WHERE lon > 300 ORDER BY time DESC, lat, lon LIMIT 5",
    "SELECT count(*), avg(a.tas - b.tas) FROM '{tas}' a JOIN '{tas}' b ON a.lat = b.lat AND a.lon = b.lon AND a.time = b.time WHERE b.time < '2002-02-01'",
    "SELECT count(*), count(sst), avg(sst) FROM '{ocean}' WHERE nav_lat BETWEEN 40 AND 50 AND nav_lon BETWEEN -40 AND -20",
    "SELECT count(*), avg(sst) FROM '{ocean}' WHERE nav_lat + nav_lon > 0 AND sst > 10",
    "SELECT count(*), avg(sst) FROM '{ocean}' WHERE nav_lat > 45 OR month(time) = 3",
    "SELECT count(*) FROM '{ocean}' WHERE nav_lat > 45 AND (nav_lon < -30 OR nav_lat > 48) AND (month(time) = 3 OR nav_lon > -35)",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_push_down_can_be_switched_off() {
    let settings: &[&[&str]] = &[
        &[],
        &["hyperslab.push_index_sets = false"],
        &["hyperslab.push_planes = false"],
        &["hyperslab.push_dynamic = false"],
        &["hyperslab.use_statistics = false"],
        &[
            "hyperslab.push_index_sets = false",
            "hyperslab.push_planes = false",
            "hyperslab.push_dynamic = false",
            "hyperslab.use_statistics = false",
        ],
        &["datafusion.execution.target_partitions = 1"],
        &[
            "datafusion.execution.target_partitions = 7",
            "hyperslab.tile_bytes = 1",
        ],
        &[
            "datafusion.execution.batch_size = 3",
            "hyperslab.tile_bytes = 100",
        ],
        &[
            "datafusion.execution.enable_file_stream_work_stealing = false",
            "hyperslab.rechunk_bytes = 1",
        ],
    ];
    let mut wrong = Vec::new();
    for statement in STATEMENTS {
        let mut first: Option<Value> = None;
        for settings in settings {
            // Rows of three are a slow way through a whole dataset: enough for what is pruned.
            if settings.contains(&"datafusion.execution.batch_size = 3")
                && !statement.contains("ocean")
            {
                continue;
            }
            let session = session();
            for setting in *settings {
                session.sql(&format!("SET {setting}")).await.unwrap();
            }
            let sql = statement
                .replace("{tas}", &sample("tas.zarr"))
                .replace("{ocean}", &sample("ocean.nc"));
            let got = match rows(&session, &sql).await {
                Ok(rows) => Value::Array(rows),
                Err(error) => Value::String(hyperslab::session::sentence(&error)),
            };
            match &first {
                None => first = Some(got),
                Some(first) if alike(first, &got, 1e-9) => {}
                Some(first) => wrong.push(format!(
                    "{sql}\n {settings:?}\n  first {first}\n  now   {got}"
                )),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_too_long_for_a_vector_is_pruned_by_comparison() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.zarr");
    std::fs::create_dir(&path).unwrap();
    let metadata = r#"{"zarr_format": 2, "shape": [1000000000000], "chunks": [1000000], "dtype": "<f4", "compressor": null,
        "fill_value": 1.5, "order": "C", "filters": null}"#;
    std::fs::write(path.join(".zarray"), metadata).unwrap();
    let session = session();
    let file = path.to_str().unwrap();
    let got = row(
        &session,
        &format!("SELECT count(*), sum(long) FROM '{file}' WHERE dim_0 >= 999999999990"),
    )
    .await
    .unwrap();
    assert_eq!(got, [Value::from(10), Value::from(15.0)]);
    let got = row(&session, &format!("SELECT count(*) FROM '{file}'"))
        .await
        .unwrap();
    assert_eq!(got, [Value::from(1_000_000_000_000_i64)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_beyond_the_memory_limit_is_an_error_or_finishes() {
    use hyperslab::session::{Session, SessionOptions};
    let options = SessionOptions {
        memory_limit: Some(32 << 20),
        threads: Some(2),
        ..Default::default()
    };
    let session = Session::with_options(&options).unwrap();
    let sql = format!("SELECT avg(tas), count(pr) FROM '{}'", sample("tas.nc"));
    row(&session, &sql).await.unwrap();
    let options = SessionOptions {
        memory_limit: Some(1 << 10),
        threads: Some(2),
        ..Default::default()
    };
    let session = Session::with_options(&options).unwrap();
    let text = error(&session, &sql).await;
    assert!(text.contains("ArrayReduce"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_stream_reads_no_further() {
    use datafusion::physical_plan::{ExecutionPlan, execute_stream};
    use futures::StreamExt;
    let session = session();
    for setting in [
        "hyperslab.tile_bytes = 1",
        "datafusion.execution.target_partitions = 1",
    ] {
        session.sql(&format!("SET {setting}")).await.unwrap();
    }
    let sql = format!("SELECT time, tas FROM '{}'", sample("tas.nc"));
    let frame = session.sql(&sql).await.unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    let context = session.context().task_ctx();
    let mut stream = execute_stream(Arc::clone(&plan), context).unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let read = |plan: &Arc<dyn ExecutionPlan>| {
        let metrics = plan.metrics().unwrap();
        metrics.sum_by_name("chunks_read").unwrap().as_usize()
    };
    let mut scan = plan;
    while let Some(child) = scan.children().first().map(|child| Arc::clone(child)) {
        scan = child;
    }
    let after = read(&scan);
    assert!(
        (1..200).contains(&after),
        "{after} of 1095 chunks were read"
    );
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(read(&scan), after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_on_a_dimension_prunes_chunks_while_it_runs() {
    let session = session();
    session.sql("SET hyperslab.tile_bytes = 1").await.unwrap();
    let sql = format!(
        "SELECT sum(t.tas) FROM '{}' t JOIN (VALUES (TIMESTAMP '2003-03-03T12:00:00'), (TIMESTAMP '2003-03-04T12:00:00')) d(time) \
         ON t.time = d.time",
        sample("tas.nc")
    );
    let plan = analyze(&session, &sql).await;
    let read: usize = metric(&plan, "chunks_read").parse().unwrap();
    assert!(read <= 10, "{plan}");
}

#[tokio::test]
async fn of_unencoded_chunks_only_the_needed_part_is_read() {
    let session = session();
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain.zarr");
    let plain = plain.to_str().unwrap();
    let source = sample("tas.nc");
    // Rows of 4096 cells lie 16 KiB apart.
    let copy = format!(
        "COPY (SELECT t.time, t.lat, CAST(x.value AS BIGINT) AS x, CAST(t.tas + x.value AS REAL) AS tas \
         FROM (SELECT time, lat, tas FROM '{source}' WHERE lon = 15 AND year(time) = 2002 AND lat < -70) t \
         CROSS JOIN (SELECT value FROM generate_series(0, 2047)) x) \
         TO '{plain}' OPTIONS (dims 'time,lat,x', chunks '365,2,2048', codec 'none')"
    );
    rows(&session, &copy).await.unwrap();
    let read = |plan: &str| -> f64 {
        let text = metric(plan, "bytes_read");
        let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
        let factor = match unit {
            "K" => 1e3,
            "M" => 1e6,
            _ => 1.0,
        };
        number.parse::<f64>().unwrap() * factor
    };
    // July: 31 of 365 rows of each chunk, which hold 2 * 2048 cells of 4 bytes each.
    let july = format!("SELECT count(tas), avg(tas) FROM '{plain}' WHERE month(time) = 7");
    let plan = analyze(&session, &july).await;
    assert!(
        (read(&plan) / (31.0 * 2.0 * 2048.0 * 4.0) - 1.0).abs() < 0.02,
        "{plan}"
    );
    // A cell of each row: 4 bytes each.
    let point = format!("SELECT sum(tas) FROM '{plain}' WHERE lat < -80 AND x = 100");
    let plan = analyze(&session, &point).await;
    assert!((read(&plan) / (365.0 * 4.0) - 1.0).abs() < 0.02, "{plan}");
    let expected = format!(
        "SELECT sum(CAST(tas + 100 AS REAL)) FROM '{source}' WHERE lon = 15 AND year(time) = 2002 AND lat < -80"
    );
    assert_eq!(
        row(&session, &point).await.unwrap(),
        row(&session, &expected).await.unwrap()
    );

    // What is there is not what it should be.
    let chunk = folder.path().join("plain.zarr/tas/0.0.0");
    let bytes = std::fs::read(&chunk).unwrap();
    for wrong in [&bytes[..bytes.len() - 1], &[&bytes[..], b"x"].concat()] {
        std::fs::write(&chunk, wrong).unwrap();
        let refused = error(&session, &july).await;
        let needed = format!(
            "chunk [0, 0, 0]: it has {} bytes where {} are needed",
            wrong.len(),
            bytes.len()
        );
        assert!(refused.contains(&needed), "{refused}");
    }
    std::fs::remove_file(&chunk).unwrap();
    assert_eq!(row(&session, &july).await.unwrap(), [json!(0), Value::Null]);
}
