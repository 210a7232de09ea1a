//! What slices can be, and what a target is after them.

use hyperslab::ingest::Action;
use serde_json::json;

use super::*;
use crate::common::sample;

#[tokio::test]
async fn the_first_slice_makes_the_target_and_others_extend_it() {
    let place = Place::new();
    let days = [place.day(1).await, place.day(2).await, place.day(3).await];
    let days: Vec<&str> = days.iter().map(String::as_str).collect();
    let report = place.append("cube.zarr", &days, json!({})).await.unwrap();
    let actions: Vec<Action> = report.slices.iter().map(|slice| slice.action).collect();
    assert_eq!(
        actions,
        [Action::Created, Action::Appended, Action::Appended]
    );
    let versions: Vec<_> = report.slices.iter().map(|slice| slice.version).collect();
    // Those that are there at once are one transaction.
    assert_eq!(versions, [Some(0), Some(1), Some(1)]);
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1, 2, 3]));

    // A chunk a slice, coordinates in one, and everything in the consolidated metadata too.
    let all = place.json("cube.zarr/.zmetadata");
    let tas = &all["metadata"]["tas/.zarray"];
    assert_eq!(tas["chunks"], json!([1, 2, 3]));
    assert_eq!(tas["shape"], json!([3, 2, 3]));
    assert_eq!(tas["dtype"], "<f4");
    assert_eq!(tas["fill_value"], "NaN");
    assert_eq!(tas["compressor"]["id"], "blosc");
    assert_eq!(
        all["metadata"]["tas/.zattrs"]["_ARRAY_DIMENSIONS"],
        json!(["time", "lat", "lon"])
    );
    assert_eq!(all["metadata"]["lat/.zarray"]["chunks"], json!([2]));
    assert_eq!(all["metadata"]["time/.zarray"]["shape"], json!([3]));
    assert_eq!(all["metadata"]["time/.zarray"]["chunks"], json!([1024]));
    assert_eq!(&place.json("cube.zarr/tas/.zarray"), tas);
    assert_eq!(place.json("cube.zarr/.zgroup"), json!({"zarr_format": 2}));
}

#[tokio::test]
async fn a_target_may_be_a_directory_of_blosc2_arrays() {
    let place = Place::new();
    let days = [place.day(1).await, place.day(2).await, place.day(3).await];
    let days: Vec<&str> = days.iter().map(String::as_str).collect();
    for (slices, seen) in [(&days[..2], &[1, 2][..]), (&days[2..], &[1, 2, 3])] {
        place.append("cube.b2d", slices, json!({})).await.unwrap();
        assert_alike(&place.sums("cube.b2d").await, &sums_of(seen));
    }
}

#[tokio::test]
async fn slices_of_one_transaction_share_chunks_and_those_that_are_there() {
    let place = Place::new();
    let mut days = Vec::new();
    for day in 1..=9 {
        days.push(place.day(day).await);
    }
    let days: Vec<&str> = days.iter().map(String::as_str).collect();
    // Four times a chunk: the first two slices fill half of one, the others go on in it and in two more.
    let config = json!({"variables": {"tas": {"encoding": {"chunks": [4, 2, 3]}}}, "resume": true});
    let some = days[..2].to_vec();
    place
        .append("cube.zarr", &some, config.clone())
        .await
        .unwrap();
    let report = place.append("cube.zarr", &days, config).await.unwrap();
    let told: Vec<_> = report
        .slices
        .iter()
        .map(|slice| (slice.action, slice.start, slice.version))
        .collect();
    let appended = (2..9).map(|start| (Action::Appended, start, Some(2)));
    let skipped = (Action::Skipped, 2, None);
    let expected: Vec<_> = [skipped, skipped].into_iter().chain(appended).collect();
    assert_eq!(told, expected);
    let all: Vec<u32> = (1..=9).collect();
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&all));
    assert_eq!(
        place.json("cube.zarr/tas/.zarray")["chunks"],
        json!([4, 2, 3])
    );
}

#[tokio::test]
async fn each_slice_is_a_version_when_asked_for() {
    let place = Place::new();
    let days = [place.day(1).await, place.day(2).await, place.day(3).await];
    let days: Vec<&str> = days.iter().map(String::as_str).collect();
    let config = json!({"commit_slices": 1});
    let report = place.append("cube.zarr", &days, config).await.unwrap();
    let versions: Vec<_> = report.slices.iter().map(|slice| slice.version).collect();
    assert_eq!(versions, [Some(0), Some(1), Some(2)]);
    assert_alike(&place.sums("cube.zarr#version=1").await, &sums_of(&[1, 2]));
}

#[tokio::test]
async fn zarr_3_has_names_of_dimensions_and_one_document_for_all() {
    let place = Place::new();
    let config = json!({"zarr_version": 3, "variables": {"tas": {"encoding": {
        "chunks": [1, 1, 3], "shards": [2, 2, 3], "fill_value": -9}}}});
    let days = [place.day(1).await, place.day(2).await];
    let days: Vec<&str> = days.iter().map(String::as_str).collect();
    place.append("cube.zarr", &days, config).await.unwrap();
    let root = place.json("cube.zarr/zarr.json");
    let members = &root["consolidated_metadata"]["metadata"];
    let tas = &members["tas"];
    assert_eq!(tas["shape"], json!([2, 2, 3]));
    assert_eq!(tas["dimension_names"], json!(["time", "lat", "lon"]));
    assert_eq!(
        tas["chunk_grid"]["configuration"]["chunk_shape"],
        json!([2, 2, 3])
    );
    assert_eq!(
        tas["codecs"][0]["configuration"]["chunk_shape"],
        json!([1, 1, 3])
    );
    assert_eq!(tas["fill_value"], json!(-9.0));
    // The bytes of the double -9, as xarray writes them.
    assert_eq!(tas["attributes"]["_FillValue"], "AAAAAAAAIsA=");
    assert_eq!(
        members["time"]["codecs"][1],
        json!({"name": "zstd", "configuration": {"level": 0, "checksum": false}})
    );
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1, 2]));
}

#[tokio::test]
async fn every_format_makes_the_same_target() {
    for source in ["tas.nc", "tas.zarr", "tas.b2d"] {
        let place = Place::new();
        let from = sample(source);
        let config = json!({"zarr_version": 3, "excluded_variables": ["area"]});
        place.append("cube.zarr", &[&from], config).await.unwrap();
        let columns = "time, lat, lon, tas, pr";
        let both = format!(
            "SELECT (SELECT count(*) FROM '{to}') AS cells, \
             (SELECT count(*) FROM (SELECT {columns} FROM '{from}' WHERE time < '2002-03-01' EXCEPT \
              SELECT {columns} FROM '{to}' WHERE time < '2002-03-01')) AS others",
            to = place.path("cube.zarr")
        );
        assert_eq!(place.rows(&both).await, [json!([420_480, 0])], "{source}");
        let calendar = place.json("cube.zarr/time/zarr.json");
        assert_eq!(calendar["attributes"]["calendar"], "noleap");
        let title = place.json("cube.zarr/zarr.json");
        assert_eq!(title["attributes"]["title"], "a made-up climate, daily");
    }
}

#[tokio::test]
async fn slices_of_any_length_share_chunks() {
    let place = Place::new();
    let config = json!({"variables": {"tas": {"encoding": {"chunks": [4, 1, null]}}, "time": {"encoding": {"chunks": [3]}}}});
    let mut done = Vec::new();
    let mut day = 0;
    for length in [1, 2, 3, 5, 1, 4] {
        let mut queries = Vec::new();
        for _ in 0..length {
            day += 1;
            done.push(day);
            queries.push(day_query(day));
        }
        let query = queries.join(" UNION ALL ");
        let name = format!("part-{day}.zarr");
        let slice = place
            .make(&name, &format!("SELECT * FROM ({query})"), grid())
            .await;
        let before = place.sums("cube.zarr");
        let reader = if done.len() > 1 {
            Some(before.await)
        } else {
            None
        };
        place
            .append("cube.zarr", &[&slice], config.clone())
            .await
            .unwrap();
        if let Some(reader) = reader {
            let now = place.sums("cube.zarr").await;
            assert_alike(now.get(..reader.len()).unwrap(), &reader);
        }
        assert_alike(&place.sums("cube.zarr").await, &sums_of(&done));
    }
    let tas = place.json("cube.zarr/tas/.zarray");
    assert_eq!(tas["chunks"], json!([4, 1, 3]));
    assert_eq!(tas["shape"], json!([16, 2, 3]));
}

#[tokio::test]
async fn queries_and_batches_are_slices() {
    let place = Place::new();
    place
        .append("cube.zarr", &[&day_query(1)], grid())
        .await
        .unwrap();
    // The target knows the dimensions, and in which order their values are.
    let turned = format!("sql: SELECT * FROM ({}) ORDER BY lon DESC", day_query(2));
    place
        .append("cube.zarr", &[&turned], json!({}))
        .await
        .unwrap();
    let frame = place.session.sql(&day_query(3)).await.unwrap();
    let item = SliceItem::Rows {
        name: "third".into(),
        schema: std::sync::Arc::clone(frame.schema().inner()),
        batches: frame.collect().await.unwrap(),
    };
    let config = json!({"target_dir": place.path("cube.zarr")});
    let config = AppendConfig::from_value(config).unwrap();
    place.session.append(&[item], config).await.unwrap();
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1, 2, 3]));

    for (query, says) in [
        (
            format!("SELECT * FROM ({}) LIMIT 5", day_query(4)),
            "rows for 5 of 6 cells",
        ),
        (
            format!("SELECT * FROM ({0}) UNION ALL ({0})", day_query(4)),
            "two rows are for one cell: time 2000-01-04T00:00:00",
        ),
        (
            format!(
                "SELECT time, lat + 5 AS lat, lon, tas FROM ({})",
                day_query(4)
            ),
            "5.0 is not one of the values of lat",
        ),
    ] {
        let error = invalid(place.append("cube.zarr", &[&query], json!({})).await);
        assert!(error.contains(says), "{error}");
        assert!(error.starts_with(&format!("slice {query}")), "{error}");
    }
    let error = invalid(place.append("new.zarr", &[&day_query(1)], json!({})).await);
    assert!(error.contains("fixed_dims"), "{error}");
    assert!(!Path::new(&place.path("new.zarr")).exists());
}

#[tokio::test]
async fn missing_rows_are_missing_values_when_asked() {
    let place = Place::new();
    let query = format!("SELECT * FROM ({}) ORDER BY lat, lon LIMIT 5", day_query(1));
    place
        .session
        .sql("SET hyperslab.insert_missing = 'fill'")
        .await
        .unwrap();
    place.append("cube.zarr", &[&query], grid()).await.unwrap();
    let sql = format!(
        "SELECT count(*), count(tas) FROM '{}'",
        place.path("cube.zarr")
    );
    assert_eq!(place.rows(&sql).await, [json!([6, 5])]);
}

#[tokio::test]
async fn a_slice_is_waited_for_until_it_is_complete() {
    let place = Place::new();
    let ready = place.day(1).await;
    let late = place.path("late.zarr");
    let polling = json!({"slice_polling": {"interval": 0.05, "timeout": 20}});
    let mover = {
        let late = late.clone();
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            fs::rename(ready, late).unwrap();
        })
    };
    place.append("cube.zarr", &[&late], polling).await.unwrap();
    mover.join().unwrap();
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1]));

    let short = json!({"slice_polling": {"interval": 0.05, "timeout": 0.2}});
    let never = place.path("never.zarr");
    let error = place.append("cube.zarr", &[&never], short).await;
    let Err(Error::NotFound(text)) = error else {
        panic!("{error:?}");
    };
    assert!(
        text.contains("never.zarr") && text.contains("200ms"),
        "{text}"
    );
    let error = place.append("cube.zarr", &[&never], json!({})).await;
    assert!(matches!(error, Err(Error::NotFound(_))), "{error:?}");
}

#[tokio::test]
async fn attributes_are_kept_replaced_updated_or_ignored() {
    let place = Place::new();
    let with = |title: &str| {
        let mut config = grid();
        config["attrs"] = json!({"title": title, title: 1});
        config
    };
    let first = place.make("a.zarr", &day_query(1), with("a")).await;
    let second = place.make("b.zarr", &day_query(2), with("b")).await;
    for (mode, expected) in [
        ("keep", json!({"title": "a", "a": 1})),
        ("replace", json!({"title": "b", "b": 1})),
        ("update", json!({"title": "b", "a": 1, "b": 1})),
        ("ignore", json!({})),
    ] {
        let target = format!("{mode}.zarr");
        let config = json!({"attrs_update_mode": mode});
        place
            .append(&target, &[&first, &second], config)
            .await
            .unwrap();
        let all = place.json(&format!("{target}/.zmetadata"));
        assert_eq!(all["metadata"][".zattrs"], expected, "{mode}");
        assert_eq!(place.json(&format!("{target}/.zattrs")), expected, "{mode}");
    }
}

#[tokio::test]
async fn attributes_are_computed_by_sql() {
    let place = Place::new();
    let days = [place.day(1).await, place.day(2).await, place.day(3).await];
    let days: Vec<&str> = days.iter().map(String::as_str).collect();
    let config = json!({"attrs": {"start": "=min(time)", "end": "=max(time)", "steps": "=count(time)",
        "lat_range": "=max(lat) - min(lat)", "by": "hand"}});
    for zarr_version in [2, 3] {
        let target = format!("cube-{zarr_version}.zarr");
        let mut config = config.clone();
        config["zarr_version"] = zarr_version.into();
        place.append(&target, &days, config).await.unwrap();
        let attributes = match zarr_version {
            2 => place.json(&format!("{target}/.zattrs")),
            _ => place.json(&format!("{target}/zarr.json"))["attributes"].clone(),
        };
        assert_eq!(
            attributes,
            json!({"start": "2000-01-01T00:00:00", "end": "2000-01-03T00:00:00", "steps": 3, "lat_range": 1.0,
                "by": "hand"})
        );
    }
    let error = place
        .append("other.zarr", &days, json!({"attrs": {"x": "=max(tas)"}}))
        .await;
    let error = invalid(error);
    assert!(
        error.contains("attribute x") && error.contains("it can name lat, lon, time"),
        "{error}"
    );
    // Nothing is left that a reader would find.
    assert!(contents(&place.path("other.zarr")).is_empty());
}

#[tokio::test]
async fn inserts_and_slices_fill_the_same_chunks() {
    let place = Place::new();
    let config = json!({"variables": {"tas": {"encoding": {"chunks": [3, 1, 2]}}}});
    let mut days = Vec::new();
    for day in 1..=7 {
        days.push(place.day(day).await);
    }
    place
        .append("cube.zarr", &[&days[0]], config)
        .await
        .unwrap();
    let target = place.path("cube.zarr");
    for (at, day) in days.iter().enumerate().skip(1) {
        if at % 3 == 2 {
            place.append("cube.zarr", &[day], json!({})).await.unwrap();
        } else {
            place
                .rows(&format!("INSERT INTO '{target}' SELECT * FROM '{day}'"))
                .await;
        }
    }
    assert_alike(
        &place.sums("cube.zarr").await,
        &sums_of(&[1, 2, 3, 4, 5, 6, 7]),
    );
    let replaced = format!(
        "REPLACE INTO '{target}' SELECT time, lat, lon, tas + 10 AS tas FROM '{target}' WHERE time = '2000-01-05'"
    );
    place.rows(&replaced).await;
    let mut sums = sums_of(&[1, 2, 3, 4, 15, 6, 7]);
    sums[4][0] = "2000-01-05T00:00:00".into();
    assert_alike(&place.sums("cube.zarr").await, &sums);
}
