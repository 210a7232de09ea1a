//! `CREATE EXTERNAL TABLE` with columns: an empty dataset, which grows by `INSERT`.

use serde_json::{Value, json};

use crate::common::{error, row, rows, session};
use hyperslab::session::Session;

/// Three rows by three columns of one day; `tas` is `lat + lon`.
fn day(day: u32, columns: &str) -> String {
    format!(
        "SELECT TIMESTAMP '2000-01-{day:02}' AS time, lat, lon, {columns} \
         FROM (SELECT 60.0 * (i - 1) AS lat FROM unnest([0, 1, 2]) AS a(i)), \
         (SELECT 120.0 * j AS lon FROM unnest([0, 1, 2]) AS b(j))"
    )
}

async fn run(session: &Session, sql: &str) {
    rows(session, sql).await.unwrap();
}

const COLUMNS: &str =
    "time TIMESTAMP NOT NULL, lat DOUBLE NOT NULL, lon DOUBLE NOT NULL, tas REAL, name VARCHAR";

#[tokio::test]
async fn an_empty_dataset_has_its_grid_and_grows() {
    let folder = tempfile::tempdir().unwrap();
    let cube = folder.path().join("cube.zarr");
    let cube = cube.to_str().unwrap();
    let session = session();
    let create = format!(
        "CREATE EXTERNAL TABLE t (time TIMESTAMP NOT NULL, lat DOUBLE NOT NULL, lon DOUBLE NOT NULL, tas REAL) \
         STORED AS ZARR LOCATION '{cube}' OPTIONS (dims 'time,lat,lon', 'lat.values' '-60:60:60', \
         'lon.values' '0, 120, 240', codec 'zstd:3', 'tas.dtype' 'int16', 'tas.scale_factor' '0.5', \
         'tas.attr.units' 'K', 'time.attr.units' 'hours since 2000-01-01', 'attr.title' 'empty')"
    );
    run(&session, &create).await;
    let count = "SELECT count(*), sum(tas) FROM t";
    assert_eq!(row(&session, count).await.unwrap(), [json!(0), json!(null)]);

    run(
        &session,
        &format!("INSERT INTO t {}", day(2, "lat + lon AS tas")),
    )
    .await;
    // Nine sums of -60, 0, 60 and 0, 120, 240; the table of the same session knows them at once.
    assert_eq!(
        row(&session, count).await.unwrap(),
        [json!(9), json!(1080.0)]
    );
    let read: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("cube.zarr/.zmetadata")).unwrap())
            .unwrap();
    let tas = &read["metadata"]["tas/.zarray"];
    assert_eq!(tas["shape"], json!([1, 3, 3]));
    assert_eq!(
        (&tas["dtype"], &tas["fill_value"]),
        (&json!("<i2"), &json!(-32767))
    );
    assert_eq!(tas["compressor"]["id"], "zstd");
    assert_eq!(
        read["metadata"]["tas/.zattrs"],
        json!({"scale_factor": 0.5, "units": "K", "_ARRAY_DIMENSIONS": ["time", "lat", "lon"]})
    );
    assert_eq!(
        read["metadata"]["time/.zattrs"]["units"],
        "hours since 2000-01-01"
    );
    assert_eq!(read["metadata"][".zattrs"], json!({"title": "empty"}));

    // A statement that is run again finds it.
    let again = create.replace("TABLE t ", "TABLE again ");
    run(&session, &again).await;
    assert_eq!(
        row(&session, "SELECT count(*) FROM again").await.unwrap(),
        [json!(9)]
    );
    let outside = "INSERT INTO t VALUES (TIMESTAMP '2000-01-03', 30, 0, 1)";
    let outside = error(&session, outside).await;
    assert!(
        outside.contains("30.0 is not one of the values of lat"),
        "{outside}"
    );
}

#[tokio::test]
async fn the_first_rows_tell_the_coordinates_that_nobody_has_told() {
    for version in ["2", "3"] {
        let folder = tempfile::tempdir().unwrap();
        let cube = folder.path().join("cube.zarr");
        let cube = cube.to_str().unwrap();
        let session = session();
        run(
            &session,
            &format!(
                "CREATE EXTERNAL TABLE t ({COLUMNS}) STORED AS ZARR LOCATION '{cube}' OPTIONS (dims 'time,lat,lon', \
                 chunks '1,2,2', 'name.dims' 'lat', 'name.width' '12', zarr_format '{version}')"
            ),
        )
        .await;
        let columns = "CAST(lat + lon AS REAL) AS tas, concat('row ', lat) AS name";
        // A slice that does not fit leaves everything open.
        let twice = format!("INSERT INTO t {0} UNION ALL {0}", day(2, columns));
        let twice = error(&session, &twice).await;
        assert!(twice.contains("two rows are for one cell"), "{twice}");
        let empty = "SELECT count(*) FROM t";
        assert_eq!(row(&session, empty).await.unwrap(), [json!(0)]);

        for number in [2, 3] {
            run(&session, &format!("INSERT INTO t {}", day(number, columns))).await;
        }
        let found = rows(
            &session,
            "SELECT lat, name, min(tas), count(*) FROM t GROUP BY lat, name ORDER BY lat",
        );
        assert_eq!(
            found.await.unwrap(),
            [
                json!([-60.0, "row -60.0", -60.0, 6]),
                json!([0.0, "row 0.0", 0.0, 6]),
                json!([60.0, "row 60.0", 60.0, 6]),
            ]
        );
        let first = format!("SELECT count(*) FROM '{cube}' FOR VERSION AS OF 1");
        assert_eq!(row(&session, &first).await.unwrap(), [json!(9)]);
        let versions = format!("SELECT version, lengths FROM array_versions('{cube}') ORDER BY 1");
        assert_eq!(
            rows(&session, &versions).await.unwrap()[..2],
            [
                json!([0, "lat=0, lon=0, time=0"]),
                json!([1, "lat=3, lon=3, time=1"])
            ]
        );
    }
}

/// Columns, options, and what the error has to say.
const WRONG: &[(&str, &str, &str)] = &[
    (COLUMNS, "", "dims"),
    (COLUMNS, "dims 'time,lat,lon'", "'lat.values'"),
    (
        COLUMNS,
        "dims 'time,lat,lon', chunks '1,2,2', 'lat.values' 'north, south'",
        "the values 'north, south' of lat",
    ),
    (
        COLUMNS,
        "dims 'time,lat,lon', chunks '1,2,2', 'lat.values' '0:10:-1'",
        "the values '0:10:-1' of lat",
    ),
    (
        COLUMNS,
        "dims 'time,lat,lon', chunks '1,2,2', 'time.values' '1,2'",
        "time is the dimension that grows",
    ),
    (
        COLUMNS,
        "dims 'time,lat,lon', chunks '1,2,2', 'tas.values' '1,2'",
        "tas is no dimension",
    ),
    (
        COLUMNS,
        "dims 'time,lat,lon', chunks '1,2,2'",
        "name has the type Utf8",
    ),
    (
        COLUMNS,
        "dims 'time,lat,lon', chunks '1,2,2', 'name.width' 'wide'",
        "name.width",
    ),
    (
        "time TIMESTAMP, tas INTERVAL",
        "dims 'time'",
        "tas has the type",
    ),
    (COLUMNS, "dims 'time,lat,lon', rows '3'", "rows"),
];

#[tokio::test]
async fn what_is_wrong_with_a_new_dataset_is_said_before_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let cube = folder.path().join("cube.zarr");
    let session = session();
    for (columns, options, says) in WRONG {
        let options = match *options {
            "" => String::new(),
            options => format!("OPTIONS ({options})"),
        };
        let sql = format!(
            "CREATE EXTERNAL TABLE t ({columns}) STORED AS ZARR LOCATION '{}' {options}",
            cube.display()
        );
        let said = error(&session, &sql).await;
        assert!(said.contains(says), "{sql}: {said}");
        assert!(!cube.join(".zmetadata").exists(), "{sql}");
    }
    // What is there has to be what was declared.
    let create = |columns: &str| {
        format!(
            "CREATE EXTERNAL TABLE t ({columns}) STORED AS ZARR LOCATION '{}' OPTIONS (dims 'time,x', 'x.values' '1:4:1')",
            cube.display()
        )
    };
    run(&session, &create("time BIGINT, x INT, v REAL")).await;
    run(&session, "DROP TABLE t").await;
    let other = error(&session, &create("time BIGINT, x INT, w REAL")).await;
    assert!(other.contains("it has no column w"), "{other}");
    let other = error(&session, &create("time BIGINT, x INT, v VARCHAR")).await;
    assert!(other.contains("its column v is Float32"), "{other}");
}
