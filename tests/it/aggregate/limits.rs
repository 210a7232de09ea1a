//! Too many groups, too little memory, data that cannot be decoded, and nobody who waits for the answer.

use std::sync::Arc;

use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use hyperslab::Session;
use hyperslab::session::SessionOptions;
use serde_json::Value;

use super::with;
use crate::common::{alike, copy_folder, error, explain, little, rows, sample};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_groups_than_allowed_are_an_error_or_the_same_answer() {
    let all = with(&["hyperslab.reduce_mode = off"]).await;
    let mut answered = 0;
    for sql in [
        "SELECT time, lat, avg(tas) FROM '{tas}' GROUP BY time, lat ORDER BY time, lat",
        "SELECT time, lat, median(tas) FROM '{tas}' WHERE month(time) = 1 GROUP BY time, lat ORDER BY time, lat",
        "SELECT floor((lat + lon) / 2) AS d, avg(tas), min(pr) FROM '{tas}' GROUP BY d ORDER BY d",
    ] {
        let sql = sql.replace("{tas}", &sample("tas.zarr"));
        let want = rows(&all, &sql).await.unwrap();
        for most in [1, 1_000, 30_000, 1_000_000] {
            let setting = format!("hyperslab.reduce_max_bytes = {most}");
            let session = with(&[&setting]).await;
            match rows(&session, &sql).await {
                Ok(got) => {
                    answered += 1;
                    let (got, want) = (Value::Array(got), Value::Array(want.clone()));
                    assert!(alike(&got, &want, 1e-9), "{most}: {sql}");
                }
                Err(error) => {
                    let text = hyperslab::session::sentence(&error);
                    let named = ["out of memory", "reduce_max_bytes", &most.to_string()]
                        .iter()
                        .all(|word| text.contains(word));
                    assert!(named && text.contains("bytes"), "{most}: {text}");
                }
            }
        }
    }
    assert!(answered >= 4, "{answered}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_turn_out_few_are_fed_with_rows_too() {
    // The mask could have a value for each of 96 cells, and has two; a weight that is missing makes rows.
    let sql = "SELECT mask, avg(tas * wind) FROM '{little}' GROUP BY mask ORDER BY mask"
        .replace("{little}", &little("little.nc"));
    let session = with(&["hyperslab.reduce_max_bytes = 1000"]).await;
    let plan = explain(&session, &format!("EXPLAIN {sql}")).await;
    assert!(plan.contains("tier=dense"), "{plan}");
    let got = rows(&session, &sql).await.unwrap();
    let off = with(&["hyperslab.reduce_mode = off"]).await;
    let want = rows(&off, &sql).await.unwrap();
    assert!(alike(&Value::Array(got), &Value::Array(want), 1e-9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_little_memory_is_an_error_that_says_how_much() {
    for (limit, sql) in [
        (
            2 << 10,
            "SELECT time, lat, lon, avg(tas) FROM '{tas}' GROUP BY time, lat, lon",
        ),
        (2 << 10, "SELECT max(tas) - min(tas) FROM '{tas}'"),
    ] {
        let options = SessionOptions {
            memory_limit: Some(limit),
            threads: Some(2),
            ..Default::default()
        };
        let session = Session::with_options(&options).unwrap();
        let text = error(&session, &sql.replace("{tas}", &sample("tas.nc"))).await;
        assert!(text.contains("ArrayReduce"), "{text}");
        // What is wanted, and what there is.
        assert!(text.contains("out of memory"), "{text}");
        let numbers = text.split(|c: char| !c.is_ascii_digit() && c != '.');
        let numbers = numbers.filter(|word| word.parse::<f64>().is_ok()).count();
        assert!(numbers >= 2, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_decoded_is_the_error_of_the_scan() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.zarr");
    copy_folder(std::path::Path::new(&sample("tas.zarr")), &path);
    let chunk = path.join("tas/c/2/0/0");
    let chunk = if chunk.exists() {
        chunk
    } else {
        path.join("tas/c/7/0/0")
    };
    std::fs::write(&chunk, b"this is not what was compressed").unwrap();
    let file = path.to_str().unwrap();
    for function in ["avg(tas)", "median(tas)", "count(tas)"] {
        let mut texts = Vec::new();
        for setting in ["off", "auto", "partial"] {
            let setting = format!("hyperslab.reduce_mode = {setting}");
            let session = with(&[&setting, "datafusion.execution.target_partitions = 1"]).await;
            let sql = format!("SELECT lat, {function} FROM '{file}' GROUP BY lat");
            texts.push(error(&session, &sql).await);
        }
        assert!(
            texts[0].contains("tas") && texts[0].contains("broken.zarr"),
            "{texts:?}"
        );
        assert!(texts.iter().all(|text| *text == texts[0]), "{texts:#?}");
    }
    // Chunks that are not asked for may be broken.
    let session = with(&[]).await;
    let sql = format!("SELECT lat, avg(pr) FROM '{file}' GROUP BY lat");
    assert_eq!(rows(&session, &sql).await.unwrap().len(), 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_and_times_are_aggregated_by_the_engine() {
    let session = with(&[]).await;
    let file = little("little.nc");
    let sql = format!("SELECT min(name), max(time), count(name) FROM '{file}' WHERE tas > 290");
    let plan = explain(&session, &format!("EXPLAIN {sql}")).await;
    assert!(!plan.contains("tier=dense"), "{plan}");
    let off = with(&["hyperslab.reduce_mode = off"]).await;
    let want = rows(&off, &sql).await.unwrap();
    assert_eq!(rows(&session, &sql).await.unwrap(), want);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_reduction_reads_no_further() {
    const CHUNKS: usize = 400;
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("long.zarr");
    std::fs::create_dir_all(store.join("v")).unwrap();
    let metadata = format!(
        r#"{{"zarr_format": 2, "shape": [{CHUNKS}, 256, 256], "chunks": [1, 256, 256], "dtype": "<f8", "compressor": null,
        "fill_value": null, "order": "C", "filters": null}}"#
    );
    std::fs::write(store.join(".zgroup"), r#"{"zarr_format": 2}"#).unwrap();
    std::fs::write(store.join("v/.zarray"), metadata).unwrap();
    let names = r#"{"_ARRAY_DIMENSIONS": ["z", "y", "x"]}"#;
    std::fs::write(store.join("v/.zattrs"), names).unwrap();
    // All chunks are one file.
    std::fs::write(store.join("v/0.0.0"), vec![0; 8 << 16]).unwrap();
    for chunk in 1..CHUNKS {
        let name = store.join(format!("v/{chunk}.0.0"));
        std::fs::hard_link(store.join("v/0.0.0"), name).unwrap();
    }
    for function in ["avg(v)", "sum(v * v)", "median(v)"] {
        let session = with(&["datafusion.execution.target_partitions = 2"]).await;
        let sql = format!(
            "SELECT z, y, {function} FROM '{}' GROUP BY z, y",
            store.display()
        );
        let frame = session.sql(&sql).await.unwrap();
        let plan = frame.create_physical_plan().await.unwrap();
        assert_eq!(plan.name(), "ArrayReduceExec");
        let read = || {
            let metrics = plan.metrics().unwrap();
            let read = metrics.sum_by_name("chunks_read");
            read.map_or(0, |read| read.as_usize())
        };
        let context = session.context().task_ctx();
        let mut stream = execute_stream(Arc::clone(&plan), context).unwrap();
        // Long enough to begin, far too short to finish.
        let wait = std::time::Duration::from_millis(20);
        let early = tokio::time::timeout(wait, stream.next()).await;
        drop(stream);
        assert!(early.is_err(), "{function}");
        // The chunks that are being read are read to their end.
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        let after = read();
        assert!(after < CHUNKS, "{function}: {after}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert_eq!(read(), after, "{function}");
    }
}
