//! How fast rows leave a scan, and how fast a scan finds the one chunk it needs: `cargo bench --bench scan`.
//!
//! Each measurement checks its answer first. The limit beside it is reading the same bytes.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench prints, and stops at the first thing that is wrong"
)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt;
use hyperslab::{Session, SessionOptions};

const SHAPE: [usize; 3] = [365, 192, 288];

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let cube = folder.path().join("cube.zarr");
    write_cube(&cube);
    let sparse = folder.path().join("sparse.zarr");
    write_sparse(&sparse);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        scan(&cube).await;
        prune(&sparse).await;
    });
}

/// `SELECT *` of uncompressed data in one partition: rows a second, and the time to only read the bytes.
async fn scan(cube: &Path) {
    let options = SessionOptions {
        threads: Some(1),
        ..Default::default()
    };
    let session = Session::with_options(&options).unwrap();
    let cells: usize = SHAPE.iter().product();
    for (what, sql) in [
        ("SELECT *", format!("SELECT * FROM '{}'", cube.display())),
        (
            "SELECT * of a slice",
            format!(
                "SELECT * FROM '{}' WHERE lat >= 48 AND lat < 144",
                cube.display()
            ),
        ),
        ("SELECT v", format!("SELECT v FROM '{}'", cube.display())),
    ] {
        let mut best = Duration::MAX;
        let mut rows = 0;
        for _ in 0..5 {
            let start = Instant::now();
            let mut stream = session.stream(&sql).await.unwrap();
            rows = 0;
            while let Some(batch) = stream.next().await {
                rows += batch.unwrap().num_rows();
            }
            best = best.min(start.elapsed());
        }
        assert!(rows == cells || rows == cells / 2);
        let rate = rows as f64 / best.as_secs_f64() / 1e6;
        println!("{what:<24} {rate:8.0} million rows/s in one partition");
    }
    let start = Instant::now();
    let mut bytes = 0;
    for entry in fs::read_dir(cube.join("v")).unwrap() {
        bytes += fs::read(entry.unwrap().path()).unwrap().len();
    }
    let rate = (bytes / 4) as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("{:<24} {rate:8.0} million cells/s", "reading the bytes");
}

/// Opens 10^12 cells in 10^6 chunks and reads one chunk of them.
async fn prune(sparse: &Path) {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let session = Session::new().unwrap();
        let sql = format!(
            "SELECT count(*), sum(sparse) FROM '{}' WHERE dim_0 BETWEEN 5000 AND 5099 AND dim_1 BETWEEN 5000 AND 5099 \
             AND dim_2 BETWEEN 5000 AND 5099",
            sparse.display()
        );
        let batches = session.sql(&sql).await.unwrap().collect().await.unwrap();
        best = best.min(start.elapsed());
        let sum = batches[0].column(1);
        let sum = datafusion::common::ScalarValue::try_from_array(sum, 0).unwrap();
        assert_eq!(sum, datafusion::common::ScalarValue::Float64(Some(1e6)));
    }
    println!(
        "{:<24} {:8.1} ms from a new session to the answer",
        "1 of 10^6 chunks",
        best.as_secs_f64() * 1e3
    );
}

fn write_array(folder: &Path, shape: &[usize], chunks: &[usize], kind: &str, dims: Option<&str>) {
    fs::create_dir_all(folder).unwrap();
    let metadata = format!(
        r#"{{"zarr_format":2,"shape":{shape:?},"chunks":{chunks:?},"dtype":"{kind}","compressor":null,"fill_value":0,"order":"C","filters":null}}"#
    );
    fs::write(folder.join(".zarray"), metadata).unwrap();
    if let Some(dims) = dims {
        fs::write(
            folder.join(".zattrs"),
            format!(r#"{{"_ARRAY_DIMENSIONS":{dims}}}"#),
        )
        .unwrap();
    }
}

fn write_cube(folder: &Path) {
    let [days, lats, lons] = SHAPE;
    write_array(
        &folder.join("v"),
        &SHAPE,
        &[1, lats, lons],
        "<f4",
        Some(r#"["time","lat","lon"]"#),
    );
    for day in 0..days {
        let bytes: Vec<u8> = (0..lats * lons)
            .flat_map(|cell| ((day + cell % 100) as f32 + 1.0).to_le_bytes())
            .collect();
        fs::write(folder.join(format!("v/{day}.0.0")), bytes).unwrap();
    }
    for (name, length) in [("time", days), ("lat", lats), ("lon", lons)] {
        let dims = format!(r#"["{name}"]"#);
        write_array(&folder.join(name), &[length], &[length], "<f8", Some(&dims));
        let bytes: Vec<u8> = (0..length)
            .flat_map(|index| (index as f64).to_le_bytes())
            .collect();
        fs::write(folder.join(format!("{name}/0")), bytes).unwrap();
    }
    fs::write(folder.join(".zgroup"), r#"{"zarr_format":2}"#).unwrap();
}

fn write_sparse(folder: &Path) {
    write_array(folder, &[10_000; 3], &[100; 3], "<f4", None);
    let bytes: Vec<u8> = (0..1_000_000).flat_map(|_| 1f32.to_le_bytes()).collect();
    fs::write(folder.join("50.50.50"), bytes).unwrap();
}
