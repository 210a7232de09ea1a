//! The contract of a table: columns, schemas, functions over datasets, and errors that say what to do.

use serde_json::{Value, json};

use crate::common::{error, little, row, rows, sample, session};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dataset_is_a_schema() {
    let session = session();
    session
        .register("climate", &sample("tas.nc"))
        .await
        .unwrap();
    let main = row(&session, "SELECT count(tas) FROM climate")
        .await
        .unwrap();
    assert_eq!(
        row(&session, "SELECT count(tas) FROM climate.tas")
            .await
            .unwrap(),
        main
    );
    let by_path = format!("SELECT count(tas) FROM \"{}\".tas", sample("tas.nc"));
    assert_eq!(row(&session, &by_path).await.unwrap(), main);
    let sql = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'climate' ORDER BY 1";
    let tables = rows(&session, sql).await.unwrap();
    assert!(
        tables.contains(&json!(["tas"])) && tables.contains(&json!(["area"])),
        "{tables:?}"
    );
    let described = rows(&session, "DESCRIBE climate.tas").await.unwrap();
    assert_eq!(described[0][0], "time");
    assert!(
        described[0][1].as_str().unwrap().starts_with("Timestamp"),
        "{described:?}"
    );
    let shown = rows(&session, "SHOW TABLES").await.unwrap();
    assert!(shown.iter().any(|row| row[1] == "climate"), "{shown:?}");
    session.sql("DROP SCHEMA climate").await.unwrap();
    assert!(session.sql("SELECT 1 FROM climate").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn external_tables_of_every_format() {
    let session = session();
    for (name, stored, path) in [
        ("a", "NETCDF", sample("tas.nc")),
        ("b", "HDF5", sample("tas.nc")),
        ("c", "ZARR", sample("tas.zarr")),
        ("d", "BLOSC2", sample("tas.b2d")),
    ] {
        let sql = format!(
            "CREATE EXTERNAL TABLE {name} STORED AS {stored} LOCATION '{path}' OPTIONS ('variable' 'tas')"
        );
        session.sql(&sql).await.unwrap();
        let got = row(&session, &format!("SELECT count(tas) FROM {name}"))
            .await
            .unwrap();
        assert_eq!(got, [Value::from(420_468)], "{stored}");
    }
    let text = error(
        &session,
        &format!(
            "CREATE EXTERNAL TABLE e STORED AS ZARR LOCATION '{}'",
            sample("tas.nc")
        ),
    )
    .await;
    assert!(text.contains("tas.nc") && text.contains("hdf5"), "{text}");
    let text = error(
        &session,
        &format!(
            "CREATE EXTERNAL TABLE e STORED AS ZARR LOCATION '{}' OPTIONS ('chunks' '1')",
            sample("tas.zarr")
        ),
    )
    .await;
    assert!(
        text.contains("chunks") && text.contains("variable"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_row_count_never_depends_on_the_projection() {
    let session = session();
    let path = little("little.nc");
    let all = row(&session, &format!("SELECT count(*) FROM '{path}'"))
        .await
        .unwrap();
    let schema = session
        .sql(&format!("SELECT * FROM '{path}'"))
        .await
        .unwrap();
    for field in schema.schema().fields() {
        let sql = format!(
            "SELECT count(*) FROM (SELECT \"{}\" FROM '{path}')",
            field.name()
        );
        assert_eq!(row(&session, &sql).await.unwrap(), all, "{}", field.name());
        let count = rows(
            &session,
            &format!("SELECT \"{}\" FROM '{path}'", field.name()),
        )
        .await
        .unwrap()
        .len();
        assert_eq!(Value::from(count), all[0], "{}", field.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_describe_datasets() {
    let session = session();
    let path = sample("tas.nc");
    let sql = format!(
        "SELECT role, type, units, chunk_count FROM array_info('{path}') WHERE variable = 'tas'"
    );
    assert_eq!(
        rows(&session, &sql).await.unwrap(),
        [json!(["data", "float32", "K", 1095])]
    );
    let sql = format!(
        "SELECT value FROM array_attributes('{path}') WHERE variable = 'tas' AND name = 'units'"
    );
    assert_eq!(rows(&session, &sql).await.unwrap(), [json!(["K"])]);
    let sql = format!(
        "SELECT count(*), count(DISTINCT \"offset\"), sum(length) > 0 FROM array_chunks('{path}', 'tas')"
    );
    assert_eq!(
        row(&session, &sql).await.unwrap(),
        [json!(1095), json!(1095), json!(true)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_name_the_thing_and_the_way_out() {
    let session = session();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let whole = std::fs::read(sample("tas.nc")).unwrap();
    let truncated = file("cut.nc", &whole[..whole.len() / 2]);
    let text = file("text.nc", b"this is not an array file");
    let nc = sample("tas.nc");
    let cases: Vec<(String, Vec<&str>)> = vec![
        (
            "SELECT * FROM 'nowhere.nc'".into(),
            vec!["nowhere.nc", "does not exist"],
        ),
        (
            format!("SELECT * FROM '{text}'"),
            vec!["text.nc", "not an array dataset"],
        ),
        (
            format!("SELECT avg(tas) FROM '{truncated}'"),
            vec!["cut.nc", "truncated"],
        ),
        (
            format!("SELECT * FROM \"{nc}\".wind"),
            vec!["tas.nc", "wind", "tas"],
        ),
        (
            format!("SELECT time_bnds FROM '{}'", little("little.nc")),
            vec!["time_bnds", "is in table"],
        ),
        (
            format!("SELECT TAS FROM '{nc}' WHERE \"TAS\" > 1"),
            vec!["TAS", "tas"],
        ),
        (
            format!("SELECT * FROM read_array('{nc}', 'tas', '0:2, x')"),
            vec!["tas", "'x'"],
        ),
        (
            format!("SELECT * FROM read_array('{nc}', 'tas', '5000')"),
            vec!["5000", "out of range"],
        ),
        (
            format!("SELECT * FROM read_array('{nc}', tas)"),
            vec!["tas", "single quotes"],
        ),
        (
            "SELECT * FROM array_info()".into(),
            vec!["array_info('location')"],
        ),
        (
            "SELECT * FROM 's3://bucket/x.zarr'".into(),
            vec!["s3://bucket/x.zarr", "s3"],
        ),
    ];
    for (sql, words) in cases {
        let text = error(&session, &sql).await;
        for word in words {
            assert!(text.contains(word), "{sql}: {text}");
        }
        assert!(!text.contains('\n'), "{sql}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undecodable_times_say_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("x.zarr");
    for (name, attributes) in [
        ("v", r#"{"_ARRAY_DIMENSIONS": ["time"]}"#),
        (
            "time",
            r#"{"_ARRAY_DIMENSIONS": ["time"], "units": "fortnights since breakfast"}"#,
        ),
    ] {
        std::fs::create_dir_all(store.join(name)).unwrap();
        let metadata = r#"{"zarr_format": 2, "shape": [2], "chunks": [2], "dtype": "<f8", "compressor": null, "fill_value": null, "order": "C", "filters": null}"#;
        std::fs::write(store.join(name).join(".zarray"), metadata).unwrap();
        std::fs::write(store.join(name).join(".zattrs"), attributes).unwrap();
    }
    std::fs::write(store.join(".zgroup"), r#"{"zarr_format": 2}"#).unwrap();
    let session = session();
    let sql = format!("SELECT time, v FROM '{}'", store.to_str().unwrap());
    let text = error(&session, &sql).await;
    for word in [
        "x.zarr",
        "time",
        "fortnights since breakfast",
        "SET hyperslab.decode = false",
    ] {
        assert!(text.contains(word), "{text}");
    }
    session.sql("SET hyperslab.decode = false").await.unwrap();
    assert_eq!(
        rows(&session, &sql).await.unwrap(),
        [json!([0.0, 0.0]), json!([0.0, 0.0])]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_change_what_a_column_holds() {
    let session = session();
    let path = little("little.nc");
    let before = row(&session, &format!("SELECT count(tas) FROM '{path}'"))
        .await
        .unwrap();
    session.sql("SET hyperslab.decode = false").await.unwrap();
    let after = row(&session, &format!("SELECT count(tas) FROM '{path}'"))
        .await
        .unwrap();
    assert!(
        after[0].as_i64() > before[0].as_i64(),
        "{before:?} {after:?}"
    );
    session
        .sql("SET hyperslab.index_columns = true")
        .await
        .unwrap();
    let shown = rows(&session, "SHOW hyperslab.index_columns")
        .await
        .unwrap();
    assert_eq!(shown, [json!(["hyperslab.index_columns", "true"])]);
    let sql = format!("SELECT count(*) FROM '{path}' WHERE time_i < 2 AND lat_i = 3");
    assert_eq!(row(&session, &sql).await.unwrap(), [Value::from(24)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datasets_join_somebody_elses_session() {
    use datafusion::prelude::SessionContext;
    let context = SessionContext::new();
    hyperslab::session::install(&context).unwrap();
    let sql = format!(
        "SELECT count(tas) FROM '{}' WHERE month(time) = 7",
        sample("tas.nc")
    );
    let batches = context.sql(&sql).await.unwrap().collect().await.unwrap();
    assert_eq!(batches[0].num_rows(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_rows_join_cubes() {
    let session = session();
    let folder = tempfile::tempdir().unwrap();
    let stations = folder.path().join("stations.csv");
    std::fs::write(&stations, "name,lat,lon\nA,50.625,15\nB,-5.625,30\n").unwrap();
    let sql = format!(
        "SELECT s.name, count(t.tas) FROM '{}' s JOIN '{}' t ON s.lat = t.lat AND s.lon = t.lon GROUP BY s.name ORDER BY 1",
        stations.display(),
        sample("tas.zarr")
    );
    let want = [json!(["A", 1095]), json!(["B", 1095])];
    assert_eq!(rows(&session, &sql).await.unwrap(), want);
    let parquet = folder.path().join("july.parquet");
    let copy = format!(
        "COPY (SELECT * FROM '{}' WHERE month(time) = 7) TO '{}' STORED AS PARQUET",
        sample("tas.nc"),
        parquet.display()
    );
    rows(&session, &copy).await.unwrap();
    let counted = row(
        &session,
        &format!("SELECT count(*) FROM '{}'", parquet.display()),
    )
    .await
    .unwrap();
    assert_eq!(counted, [Value::from(93 * 16 * 24)]);
}
