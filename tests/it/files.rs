//! Several files as one dataset; expected values are xarray's (tests/data/make_files.py).

use std::path::Path;

use serde_json::{Value, json};

use crate::common::{
    alike, analyze, copy_folder, error, explain, little, project, row, rows, session,
};
use crate::grids::Random;
use hyperslab::session::Session;

fn answers() -> Value {
    let text = std::fs::read_to_string(project("tests/data/files.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn all() -> String {
    little("files/tas_*.nc")
}

/// The first column of a statement.
async fn column(session: &Session, sql: &str) -> Value {
    let rows = rows(session, sql).await.unwrap();
    rows.iter().map(|row| row[0].clone()).collect()
}

fn check(found: &Value, expected: &Value, what: &str) {
    assert!(
        alike(found, expected, 1e-7),
        "{what}: {found} instead of {expected}"
    );
}

#[tokio::test]
async fn aggregates_are_those_of_xarray() {
    let (expected, files) = (answers(), all());
    for mode in ["auto", "partial", "off"] {
        let session = session();
        rows(&session, &format!("SET hyperslab.reduce_mode = '{mode}'"))
            .await
            .unwrap();
        for (select, key) in [
            ("count(DISTINCT time)", "length"),
            ("count(tas)", "count"),
            ("avg(tas)", "mean"),
            ("stddev(tas)", "stddev"),
            ("median(tas)", "median"),
            ("avg(mixed)", "mixed_mean"),
            ("sum(CASE WHEN mixed > 285 THEN 1 ELSE 0 END)", "mixed_over"),
            ("avg(CAST(tas AS DOUBLE) - mixed)", "difference"),
        ] {
            let found = row(&session, &format!("SELECT {select} FROM '{files}'"))
                .await
                .unwrap();
            check(&found[0], &expected[key], &format!("{mode} {key}"));
        }
        for (sql, key) in [
            (
                "SELECT avg(tas) FROM {} GROUP BY month(time) ORDER BY month(time)",
                "months",
            ),
            (
                "SELECT max(tas) FROM {} GROUP BY month(time) ORDER BY month(time)",
                "maxima",
            ),
            (
                "SELECT avg(tas) FROM {} GROUP BY lat, lon ORDER BY lat, lon",
                "map",
            ),
            (
                "SELECT sum(tas * cos(radians(lat))) / sum(CASE WHEN tas IS NOT NULL THEN cos(radians(lat)) END) \
                 FROM {} GROUP BY time ORDER BY time",
                "weighted",
            ),
            (
                "SELECT avg(mixed) FROM {} GROUP BY month(time) ORDER BY month(time)",
                "mixed_months",
            ),
            (
                "SELECT tas FROM {} WHERE lat = 0 AND lon = 90 ORDER BY time",
                "series",
            ),
            (
                "SELECT avg(mixed) FROM {} WHERE time >= '2001-01-30' AND time < '2001-03-03' AND abs(lat) <= 30",
                "mixed_part",
            ),
            ("SELECT count(*) FROM {} WHERE mixed > 285", "mixed_over"),
        ] {
            let found = column(&session, &sql.replace("{}", &format!("'{files}'"))).await;
            let expected = match &expected[key] {
                list @ Value::Array(_) => list.clone(),
                one => json!([one]),
            };
            check(&found, &expected, &format!("{mode} {key}"));
        }
    }
}

#[tokio::test]
async fn rows_come_in_the_order_of_time_in_whatever_batches() {
    let (expected, files) = (answers(), all());
    for (batch, partitions, tile) in [(1, 1, 1), (7, 3, 4096), (8192, 2, 1 << 22)] {
        let session = session();
        for set in [
            format!("SET datafusion.execution.batch_size = {batch}"),
            format!("SET datafusion.execution.target_partitions = {partitions}"),
            format!("SET hyperslab.tile_bytes = {tile}"),
        ] {
            rows(&session, &set).await.unwrap();
        }
        let sql = format!(
            "SELECT count(*), count(DISTINCT (time, lat, lon)), min(CAST(time AS VARCHAR)), max(CAST(time AS VARCHAR)), \
             sum(CAST(tas AS DOUBLE)) / count(tas), avg(mixed) FROM (SELECT * FROM '{files}') t"
        );
        let found = row(&session, &sql).await.unwrap();
        assert_eq!(
            found[..4],
            [
                json!(91 * 40),
                json!(91 * 40),
                json!("2001-01-01T12:00:00"),
                json!("2001-04-01T12:00:00"),
            ]
        );
        check(&found[4], &expected["mean"], "mean");
        check(&found[5], &expected["mixed_mean"], "mixed_mean");
        let series = format!("SELECT tas FROM '{files}' WHERE lat = 0 AND lon = 90");
        check(
            &column(&session, &series).await,
            &expected["series"],
            "series",
        );
    }
}

#[tokio::test]
async fn chunks_of_other_files_are_not_read() {
    let session = session();
    let files = all();
    let sql = format!(
        "SELECT avg(tas) FROM '{files}' WHERE time >= '2001-02-01' AND time < '2001-03-01'"
    );
    let plan = explain(&session, &format!("EXPLAIN {sql}")).await;
    // 9 of the second file; the first has 8, the others 31 records and one chunk.
    assert!(
        plan.contains("tier=dense") && plan.contains("chunks=9/"),
        "{plan}"
    );
    let mixed = explain(
        &session,
        &format!("EXPLAIN {}", sql.replace("tas)", "mixed)")),
    )
    .await;
    assert!(mixed.contains("tier=blocks"), "{mixed}");
    let read = analyze(&session, &sql).await;
    assert!(read.contains("chunks_read=9"), "{read}");
    // A chunk is decoded once, though files do not end where tiles do.
    let all = analyze(
        &session,
        &format!("SELECT count(*) FROM (SELECT tas FROM '{files}') t WHERE tas > 0"),
    )
    .await;
    assert!(!all.contains("chunks_read=0"), "{all}");
}

#[tokio::test]
async fn time_need_not_be_the_first_dimension() {
    let expected = &answers()["turned"];
    let session = session();
    let files = little("files/tas_[abc].nc");
    let sql = format!(
        "SELECT sum(turned), (SELECT max(turned) FROM '{files}'.turned WHERE lat = 0) FROM '{files}'.turned"
    );
    assert_eq!(
        row(&session, &sql).await.unwrap(),
        [expected[0].clone(), expected[1].clone()]
    );
    let part = format!(
        "SELECT turned FROM '{files}'.turned WHERE lat = 30 ORDER BY time OFFSET 50 LIMIT 10"
    );
    assert_eq!(column(&session, &part).await, expected[2]);
    // With the file that does not have it, there is no such variable, and the reason.
    let missing = error(&session, &format!("SELECT * FROM '{}'.turned", all())).await;
    assert!(
        missing.contains("turned") && missing.contains("tas_d.nc does not have it"),
        "{missing}"
    );
}

#[tokio::test]
async fn what_does_not_grow_is_that_of_the_first_file() {
    let session = session();
    let sql = format!("SELECT count(*), sum(area) FROM '{}'.area", all());
    let cosines: f64 = [-60f64, -30.0, 0.0, 30.0, 60.0]
        .iter()
        .map(|lat| lat.to_radians().cos())
        .sum();
    let found = row(&session, &sql).await.unwrap();
    check(&json!(found), &json!([5, cosines]), "area");
    let info = rows(
        &session,
        &format!("SELECT variable, shape FROM array_info('{}')", all()),
    )
    .await
    .unwrap();
    assert!(info.contains(&json!(["tas", "[91, 5, 8]"])), "{info:?}");
    let chunks = format!(
        "SELECT count(*), count(DISTINCT file) FROM array_chunks('{}', 'tas')",
        all()
    );
    let chunks = row(&session, &chunks).await.unwrap();
    assert_eq!(chunks[1], json!(4));
    let part = format!(
        "SELECT count(*), min(time) FROM read_array('{}', 'tas', '30:33, 0:2, ::4')",
        all()
    );
    assert_eq!(
        row(&session, &part).await.unwrap(),
        [json!(12), json!("2001-01-31T12:00:00")]
    );
}

/// Copies the files to a folder and gives it, with the pattern that means them.
fn copied() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&project("tests/data/files"), folder.path());
    let pattern = folder.path().join("tas_*.nc").to_str().unwrap().to_owned();
    (folder, pattern)
}

#[tokio::test]
async fn files_that_do_not_fit_are_named() {
    let session = session();
    let (folder, pattern) = copied();
    let count = format!("SELECT count(*) FROM '{pattern}'");
    let copy = |from: &str, to: &str| {
        std::fs::copy(folder.path().join(from), folder.path().join(to)).unwrap()
    };
    copy("tas_a.nc", "tas_x.nc");
    let twice = error(&session, &count).await;
    assert!(
        twice.contains("tas_a.nc and ") && twice.contains("tas_x.nc overlap along time"),
        "{twice}"
    );
    std::fs::write(folder.path().join("tas_x.nc"), "rows").unwrap();
    let foreign = error(&session, &count).await;
    assert!(
        foreign.contains("tas_x.nc is not an array dataset"),
        "{foreign}"
    );
    std::fs::remove_file(folder.path().join("tas_x.nc")).unwrap();

    let path = folder.path().to_str().unwrap();
    let other = format!(
        "COPY (SELECT time + INTERVAL '1 year' AS time, lat + 1 AS lat, lon, tas FROM '{path}/tas_c.nc'.tas) TO '{path}/tas_y.nc' \
         OPTIONS (dims 'time,lat,lon')"
    );
    rows(&session, &other).await.unwrap();
    let several = error(&session, &count).await;
    assert!(
        several.contains("the files differ along") && several.contains("#along="),
        "{several}"
    );
    let shifted = error(
        &session,
        &format!("SELECT count(*) FROM '{pattern}#along=time'"),
    )
    .await;
    assert!(
        shifted.contains("tas_y.nc cannot be put together with")
            && shifted.contains("lat is -59.0 at index 0 instead of -60.0"),
        "{shifted}"
    );
    let unknown = error(
        &session,
        &format!("SELECT count(*) FROM '{pattern}#along=day'"),
    )
    .await;
    assert!(
        unknown.contains("has no dimension day; it has lat, lon, time"),
        "{unknown}"
    );
    let none = error(&session, &format!("SELECT * FROM '{path}/no_*.nc'")).await;
    assert!(
        none.contains("no file matches") && none.contains("no_*.nc"),
        "{none}"
    );
    let one = error(
        &session,
        &format!("SELECT * FROM '{path}/tas_a.nc#along=time'"),
    )
    .await;
    assert!(one.contains("only several files"), "{one}");
}

#[tokio::test]
async fn patterns_go_through_folders() {
    let session = session();
    let folder = tempfile::tempdir().unwrap();
    for (at, name) in ["tas_a.nc", "tas_b.nc", "tas_c.nc", "tas_d.nc"]
        .iter()
        .enumerate()
    {
        let place = folder.path().join(format!("y{}/m{}", at / 2, at % 2));
        std::fs::create_dir_all(&place).unwrap();
        std::fs::copy(project("tests/data/files").join(name), place.join("tas.nc")).unwrap();
    }
    let path = folder.path().to_str().unwrap();
    for pattern in ["*/*/tas.nc", "**/*.nc", "y?/m[01]/t*.nc"] {
        let sql = format!("SELECT count(DISTINCT time) FROM '{path}/{pattern}'");
        assert_eq!(row(&session, &sql).await.unwrap(), [json!(91)], "{pattern}");
    }
    // A file with a star in its name is meant itself.
    std::fs::copy(
        project("tests/data/files/tas_a.nc"),
        folder.path().join("t*.nc"),
    )
    .unwrap();
    std::fs::copy(
        project("tests/data/files/tas_b.nc"),
        folder.path().join("tb.nc"),
    )
    .unwrap();
    let sql = format!("SELECT count(DISTINCT time) FROM '{path}/t*.nc'");
    assert_eq!(row(&session, &sql).await.unwrap(), [json!(28)]);
}

/// One day: every cell is `value`.
fn day(pattern: &str, day: &str, value: f64) -> String {
    format!(
        "SELECT TIMESTAMP '{day}T12:00:00' AS time, lat, lon, CAST({value} AS REAL) AS tas, {value} AS mixed \
         FROM '{pattern}' WHERE time = '2001-01-01T12:00:00'"
    )
}

async fn insert(
    session: &Session,
    pattern: &str,
    select: &str,
) -> datafusion::common::Result<Vec<Value>> {
    rows(
        session,
        &format!("INSERT INTO '{pattern}' (time, lat, lon, tas, mixed) {select}"),
    )
    .await
}

/// The files whose variables are all in all of them.
fn alike_files() -> (tempfile::TempDir, String) {
    let (folder, pattern) = copied();
    for other in ["tas_a.nc", "tas_b.nc", "tas_c.nc"] {
        std::fs::remove_file(folder.path().join(other)).unwrap();
    }
    (folder, pattern)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_insert_adds_a_file() {
    let session = session();
    let (folder, pattern) = alike_files();
    let two = format!(
        "{} UNION ALL {}",
        day(&pattern, "2001-04-02", 281.5),
        day(&pattern, "2001-04-01", 280.0)
    )
    .replace("2001-01-01T12", "2001-03-01T12");
    assert_eq!(
        insert(&session, &pattern, &two).await.unwrap(),
        [json!([80])]
    );
    assert_eq!(names(folder.path()), ["tas_20010401T120000.nc", "tas_d.nc"]);
    let sql = format!("SELECT count(DISTINCT time), count(*) FROM '{pattern}'");
    assert_eq!(
        row(&session, &sql).await.unwrap(),
        [json!(33), json!(33 * 40)]
    );
    let last = format!(
        "SELECT time, avg(tas), avg(mixed), count(*) FROM '{pattern}' WHERE time > '2001-04-01' GROUP BY time ORDER BY time"
    );
    let expected = [
        json!(["2001-04-01T12:00:00", 280.0, 280.0, 40]),
        json!(["2001-04-02T12:00:00", 281.5, 281.5, 40]),
    ];
    assert_eq!(rows(&session, &last).await.unwrap(), expected);
    // It is complete by itself.
    let new = folder.path().join("tas_20010401T120000.nc");
    let new = new.to_str().unwrap();
    let area = format!(
        "SELECT round(sum(area), 3), (SELECT max(lon) FROM '{new}'), (SELECT count(tas) FROM '{new}') FROM '{new}'.area"
    );
    assert_eq!(
        row(&session, &area).await.unwrap(),
        [json!(3.732), json!(315.0), json!(80)]
    );

    // What is there already, or comes before, changes nothing.
    let before = names(folder.path());
    for (select, complaint) in [
        (day(&pattern, "2001-04-02", 1.0), "is there already"),
        (
            day(&pattern, "2000-01-01", 1.0),
            "does not come after 2001-04-02T12:00:00",
        ),
        (
            day(&pattern, "2001-04-03", 1.0) + " AND lat > 0",
            "has rows for 16 of 40 cells",
        ),
    ] {
        let select = select.replace("'2001-01-01T12", "'2001-03-01T12");
        let refused = insert(&session, &pattern, &select).await.unwrap_err();
        let refused = hyperslab::session::sentence(&refused);
        assert!(refused.contains(complaint), "{refused}");
        assert_eq!(names(folder.path()), before);
    }
    rows(&session, "SET hyperslab.insert_existing = 'skip'")
        .await
        .unwrap();
    let both = format!(
        "{} UNION ALL {}",
        day(&pattern, "2001-04-02", 1.0),
        day(&pattern, "2001-04-03", 285.0)
    )
    .replace("'2001-01-01T12", "'2001-03-01T12");
    assert_eq!(
        insert(&session, &pattern, &both).await.unwrap(),
        [json!([40])]
    );
    assert_eq!(names(folder.path()).len(), 3);
    // Of rows that are all there, nothing is left.
    assert_eq!(
        insert(&session, &pattern, &both).await.unwrap(),
        [json!([0])]
    );
    assert_eq!(names(folder.path()).len(), 3);
    let replace = error(
        &session,
        &format!("REPLACE INTO '{pattern}' SELECT * FROM '{pattern}'"),
    )
    .await;
    assert!(
        replace.contains("cells are replaced in the file that has them"),
        "{replace}"
    );
}

#[tokio::test]
async fn writers_that_add_files_wait_for_each_other() {
    let (folder, pattern) = alike_files();
    let mut tasks = Vec::new();
    for writer in 0..4u32 {
        let pattern = pattern.clone();
        tasks.push(tokio::spawn(async move {
            let session = session();
            rows(&session, "SET hyperslab.insert_existing = 'skip'")
                .await
                .unwrap();
            let mut added = 0;
            for day_of in 1..=6 {
                let select = day(&pattern, &format!("2001-05-{day_of:02}"), f64::from(writer));
                let select = select.replace("'2001-01-01T12", "'2001-03-01T12");
                match insert(&session, &pattern, &select).await {
                    Ok(rows) => added += u32::from(rows == [json!([40])]),
                    // Another writer has got further meanwhile.
                    Err(error) => {
                        assert!(error.to_string().contains("does not come after"), "{error}")
                    }
                }
            }
            added
        }));
    }
    let mut added = 0;
    for task in tasks {
        added += task.await.unwrap();
    }
    assert_eq!(added, 6);
    assert_eq!(names(folder.path()).len(), 7);
    let sql =
        format!("SELECT count(*), count(DISTINCT time) FROM '{pattern}' WHERE time > '2001-05-01'");
    assert_eq!(row(&session(), &sql).await.unwrap(), [json!(240), json!(6)]);
}

#[tokio::test]
async fn directories_are_files_too() {
    let session = session();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let source = all();
    for (name, month) in [("m1.zarr", 1), ("m2.zarr", 2), ("m3.zarr", 3)] {
        let copy = format!(
            "COPY (SELECT time, lat, lon, tas FROM '{source}' WHERE month(time) = {month}) TO '{path}/{name}' \
             OPTIONS (chunks '10,5,8')"
        );
        rows(&session, &copy).await.unwrap();
    }
    let pattern = format!("{path}/m*.zarr");
    let expected = answers();
    let months = format!("SELECT avg(tas) FROM '{pattern}' GROUP BY month(time) ORDER BY 1");
    let found = column(
        &session,
        &months.replace("ORDER BY 1", "ORDER BY month(time)"),
    )
    .await;
    check(
        &found,
        &json!(expected["months"].as_array().unwrap()[..3]),
        "months",
    );
    let new = day(&source, "2001-04-01", 280.0).replace(", 280 AS mixed", "");
    rows(&session, &format!("INSERT INTO '{pattern}' {new}"))
        .await
        .unwrap();
    assert_eq!(
        names(folder.path()),
        ["m1.zarr", "m2.zarr", "m20010401T120000.zarr", "m3.zarr"]
    );
    let count = format!(
        "SELECT count(DISTINCT time), count(tas) FILTER (WHERE month(time) = 4) FROM '{pattern}'"
    );
    assert_eq!(row(&session, &count).await.unwrap(), [json!(91), json!(40)]);
}

#[tokio::test]
async fn a_table_of_files_sees_those_that_are_added() {
    let session = session();
    let (_folder, pattern) = alike_files();
    let create = format!(
        "CREATE EXTERNAL TABLE days STORED AS NETCDF LOCATION '{pattern}' OPTIONS (variable 'tas')"
    );
    rows(&session, &create).await.unwrap();
    let count = "SELECT count(*) FROM days";
    assert_eq!(row(&session, count).await.unwrap(), [json!(31 * 40)]);
    let select = day(&pattern, "2001-04-01", 280.0).replace("'2001-01-01T12", "'2001-03-01T12");
    insert(&session, &pattern, &select).await.unwrap();
    assert_eq!(row(&session, count).await.unwrap(), [json!(32 * 40)]);
}

#[tokio::test]
async fn a_join_is_still_one_scan() {
    let session = session();
    let files = all();
    let folder = tempfile::tempdir().unwrap();
    let clim = folder.path().join("clim.zarr");
    let clim = clim.to_str().unwrap();
    let make = format!(
        "COPY (SELECT month(time) AS month, lat, lon, avg(tas) AS m FROM '{files}' GROUP BY 1, 2, 3) TO '{clim}' \
         OPTIONS (dims 'month,lat,lon')"
    );
    rows(&session, &make).await.unwrap();
    let sql = format!(
        "SELECT avg(t.tas - c.m), stddev(t.tas - c.m) FROM '{files}' t JOIN '{clim}' c \
         ON month(t.time) = c.month AND t.lat = c.lat AND t.lon = c.lon"
    );
    let plan = explain(&session, &format!("EXPLAIN {sql}")).await;
    assert!(
        plan.contains(" JOIN ") && !plan.contains("HashJoin"),
        "{plan}"
    );
    let joined = row(&session, &sql).await.unwrap();
    rows(&session, "SET hyperslab.push_joins = false")
        .await
        .unwrap();
    let stock = row(&session, &sql).await.unwrap();
    let (joined, stock) = (json!(joined), json!(stock));
    assert!((joined[0].as_f64().unwrap() - stock[0].as_f64().unwrap()).abs() < 1e-9);
    check(&joined[1], &stock[1], "deviation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_give_the_rows_of_the_dataset_that_they_were_cut_from() {
    let source = crate::common::sample("tas.nc");
    for seed in 0..8 {
        let mut random = Random::new(seed);
        let session = session();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let mut day = 0;
        while day < 200 {
            let end = (day + 1 + random.below(70)).min(200);
            let extension = match random.below(3) {
                0 => "nc",
                1 => "zarr",
                _ => "b2d",
            };
            let (chunk, packed) = (1 + random.below(40), random.below(2) == 0 && seed % 2 == 1);
            // All values of a mean of four multiples of 1/8 are what they are in each packing.
            let packing = if packed {
                ", 'tas.dtype' 'int32', 'tas.scale_factor' '0.0078125'"
            } else {
                ""
            };
            let copy = format!(
                "COPY (SELECT time, lat, lon, round(tas * 8) / 8 AS tas FROM '{source}' \
                 WHERE dayofyear(time) + 365 * (year(time) - 2002) > {day} AND dayofyear(time) + 365 * (year(time) - 2002) <= {end}) \
                 TO '{path}/part{}.{extension}' OPTIONS (dims 'time,lat,lon', chunks '{chunk},{},{}'{packing})",
                random.below(1 << 30),
                1 + random.below(16),
                1 + random.below(24),
            );
            rows(&session, &copy).await.unwrap();
            day = end;
        }
        let whole = format!("{path}/whole.zarr");
        let copy = format!(
            "COPY (SELECT time, lat, lon, round(tas * 8) / 8 AS tas FROM '{source}' \
             WHERE dayofyear(time) <= 200 AND year(time) = 2002) TO '{whole}' OPTIONS (dims 'time,lat,lon')"
        );
        rows(&session, &copy).await.unwrap();
        for settings in [
            vec![],
            vec![
                "hyperslab.reduce_mode = 'off'",
                "hyperslab.tile_bytes = 4096",
                "datafusion.execution.batch_size = 100",
            ],
        ] {
            for setting in settings {
                rows(&session, &format!("SET {setting}")).await.unwrap();
            }
            for sql in [
                "SELECT count(tas), sum(tas), min(tas), max(tas), median(tas), count(DISTINCT time) FROM {}",
                "SELECT month(time), lat, count(*), sum(tas) FROM {} GROUP BY month(time), lat ORDER BY 1, 2",
                "SELECT time, sum(tas * lat), max(tas) FROM {} WHERE lon BETWEEN 30 AND 200 GROUP BY time ORDER BY time",
                "SELECT count(*), sum(tas) FROM {} WHERE tas > 290 AND dayofyear(time) % 3 = 0",
                "SELECT * FROM {} WHERE dayofyear(time) BETWEEN 40 AND 97 AND lat > 60 ORDER BY time, lat, lon",
                "SELECT time, tas FROM {} WHERE lat < -80 AND lon = 15 LIMIT 60",
            ] {
                let of = |path: &str| sql.replace("{}", &format!("'{path}'"));
                let found = rows(&session, &of(&format!("{path}/part*"))).await.unwrap();
                let expected = rows(&session, &of(&whole)).await.unwrap();
                assert!(!expected.is_empty());
                assert!(
                    alike(&json!(found), &json!(expected), 1e-12),
                    "{seed} {sql}\n{found:?}\n{expected:?}"
                );
            }
        }
    }
}
