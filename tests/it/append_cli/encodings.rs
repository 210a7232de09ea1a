//! How the variables of a new target are stored.

use serde_json::json;

use super::*;

#[tokio::test]
async fn variables_are_stored_as_the_configuration_says() {
    let place = Place::new();
    let day = place.day(1).await;
    let config = json!({
        "variables": {
            "*": {"encoding": {"compressor": {"id": "zstd", "level": 5}}, "attrs": {"note": "all"}},
            "tas": {"dims": ["time", "lat", "lon"],
                    "encoding": {"dtype": "int16", "scale_factor": 0.1, "add_offset": 0, "fill_value": -9999,
                                 "chunks": [10, 1, null], "filters": [{"id": "shuffle"}]},
                    "attrs": {"units": "K", "long_name": "temperature"}},
            "lat": {"encoding": {"compressor": null, "dtype": "float32"}},
            "time": {"encoding": {"units": "hours since 2000-01-01", "calendar": "standard", "dtype": "int32"}},
            "flag": {"dims": ["time"], "encoding": {"dtype": "uint8"}},
            "count": {"dims": ["time", "lon"], "encoding": {"dtype": "int32", "fill_value": -1}},
            "extra": {"dims": ["lat"], "encoding": {"dtype": "float64"}, "attrs": {"_FillValue": 7}}
        },
        "excluded_variables": ["extra2"]
    });
    place.append("cube.zarr", &[&day], config).await.unwrap();
    let all = place.json("cube.zarr/.zmetadata");
    let member = |name: &str| all["metadata"][name].clone();
    let zstd = json!({"id": "zstd", "level": 5});
    let tas = member("tas/.zarray");
    assert_eq!(tas["dtype"], "<i2");
    assert_eq!(tas["fill_value"], -9999);
    assert_eq!(tas["chunks"], json!([10, 1, 3]));
    assert_eq!(tas["compressor"], zstd);
    assert_eq!(tas["filters"], json!([{"id": "shuffle", "elementsize": 2}]));
    assert_eq!(
        member("tas/.zattrs"),
        json!({"scale_factor": 0.1, "add_offset": 0, "units": "K", "long_name": "temperature", "note": "all",
            "_ARRAY_DIMENSIONS": ["time", "lat", "lon"]})
    );
    assert_eq!(member("lat/.zarray")["dtype"], "<f4");
    assert_eq!(member("lat/.zarray")["compressor"], json!(null));
    assert_eq!(member("time/.zarray")["dtype"], "<i4");
    assert_eq!(member("time/.zattrs")["units"], "hours since 2000-01-01");
    assert_eq!(member("flag/.zarray")["fill_value"], json!(null));
    assert_eq!(member("extra/.zarray")["fill_value"], json!(7.0));

    // Rounded to a tenth, which the values are; what the slice does not have is missing, or zero.
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1]));
    let path = place.path("cube.zarr");
    let sql = format!("SELECT sum(flag), count(count), count(*) FROM '{path}'");
    assert_eq!(place.rows(&sql).await, [json!([0, 0, 6])]);
    let sql = format!("SELECT count(*), count(extra) FROM '{path}'.extra");
    assert_eq!(place.rows(&sql).await, [json!([2, 0])]);

    // Later slices need not have configured variables either, and are encoded as the target says.
    let next = place.day(2).await;
    let config = json!({"variables": {"flag": {}, "count": {}}});
    place.append("cube.zarr", &[&next], config).await.unwrap();
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1, 2]));
    let sql = format!("SELECT time, count(count) FROM '{path}'.count GROUP BY time ORDER BY time");
    assert_eq!(
        place.rows(&sql).await,
        [
            json!(["2000-01-01T00:00:00", 0]),
            json!(["2000-01-02T00:00:00", 0])
        ]
    );
}

#[tokio::test]
async fn packed_slices_are_copied_or_packed_anew() {
    let place = Place::new();
    let packed = |scale: f64| {
        let mut config = grid();
        config["variables"]["tas"] =
            json!({"encoding": {"dtype": "int16", "scale_factor": scale, "fill_value": -1}});
        config
    };
    let first = place.make("a.zarr", &day_query(1), packed(0.1)).await;
    let same = place.make("b.zarr", &day_query(2), packed(0.1)).await;
    let finer = place.make("c.zarr", &day_query(3), packed(0.01)).await;
    let plain = place.day(4).await;
    place
        .append("cube.zarr", &[&first, &same, &finer, &plain], json!({}))
        .await
        .unwrap();
    assert_eq!(place.json("cube.zarr/tas/.zarray")["dtype"], "<i2");
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1, 2, 3, 4]));
}

#[tokio::test]
async fn variables_are_chosen() {
    let place = Place::new();
    let query = format!(
        "SELECT *, tas * 2 AS pr, tas * 3 AS hus FROM ({})",
        day_query(1)
    );
    let slice = place.make("slice.zarr", &query, grid()).await;
    let names = |target: &str| {
        let all = place.json(&format!("{target}/.zmetadata"));
        let keys = all["metadata"].as_object().unwrap().keys();
        let mut names: Vec<String> = keys
            .filter_map(|key| Some(key.strip_suffix("/.zarray")?.to_owned()))
            .collect();
        names.sort();
        names
    };
    let config = json!({"included_variables": ["time", "lat", "lon", "tas"]});
    place.append("in.zarr", &[&slice], config).await.unwrap();
    assert_eq!(names("in.zarr"), ["lat", "lon", "tas", "time"]);
    let config = json!({"excluded_variables": ["pr"]});
    place.append("out.zarr", &[&slice], config).await.unwrap();
    assert_eq!(names("out.zarr"), ["hus", "lat", "lon", "tas", "time"]);
    let config = json!({"included_variables": ["tas", "snow"]});
    let error = invalid(place.append("none.zarr", &[&slice], config).await);
    assert!(error.contains("no variable snow"), "{error}");
}

#[tokio::test]
async fn texts_have_the_length_of_the_longest() {
    let place = Place::new();
    let query = "SELECT TIMESTAMP '2000-01-01T00:00:00' AS time, s AS station, v AS tas \
                 FROM (VALUES ('Aachen', 1.5), ('Zürich', 2.5)) AS t(s, v)";
    let dims = json!({"variables": {"tas": {"dims": ["time", "station"]}}});
    for zarr_version in [2, 3] {
        let mut config = dims.clone();
        config["zarr_version"] = zarr_version.into();
        let target = format!("cube-{zarr_version}.zarr");
        place.append(&target, &[query], config).await.unwrap();
        let sql = format!(
            "SELECT station, tas FROM '{}' ORDER BY tas",
            place.path(&target)
        );
        assert_eq!(
            place.rows(&sql).await,
            [json!(["Aachen", 1.5]), json!(["Zürich", 2.5])]
        );
    }
    assert_eq!(place.json("cube-2.zarr/station/.zarray")["dtype"], "<U6");
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_before_anything_is_there() {
    let place = Place::new();
    let day = place.day(1).await;
    for (config, says) in [
        (
            json!({"variables": {"tas": {"encoding": {"dtype": "int16"}}}}),
            "variable tas",
        ),
        (
            json!({"variables": {"tas": {"encoding": {"dtype": "int8", "fill_value": 300}}}}),
            "fill_value 300",
        ),
        (
            json!({"variables": {"tas": {"encoding": {"dtype": "int8", "fill_value": "NaN"}}}}),
            "fill_value NaN",
        ),
        (
            json!({"variables": {"tas": {"encoding": {"chunks": [1, 2]}}}}),
            "2 extents",
        ),
        (
            json!({"variables": {"tas": {"encoding": {"shards": [1, 2, 3]}}}}),
            "no shards",
        ),
        (
            json!({"variables": {"tas": {"dims": ["lat", "lon"]}}}),
            "dimensions (time, lat, lon)",
        ),
        (
            json!({"variables": {"new": {"encoding": {"dtype": "int8"}}}}),
            "variable new",
        ),
        (json!({"variables": {"new": {"dims": ["time"]}}}), "dtype"),
        (
            json!({"variables": {"new": {"dims": ["depth"], "encoding": {"dtype": "int8"}}}}),
            "dimension depth",
        ),
        (
            json!({"variables": {"tas": {"encoding": {"compressor": {"id": "zst"}}}}}),
            "zstd",
        ),
        (
            json!({"variables": {"time": {"encoding": {"units": "days"}}}}),
            "\"days\"",
        ),
        (json!({"append_dim": "depth"}), "no dimension depth"),
        (json!({"fixed_dims": {"lat": 4}}), "fixed_dims says 4"),
    ] {
        let outcome = place.append("cube.zarr", &[&day], config.clone()).await;
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(says), "{config}: {error}");
        let target = place.path("cube.zarr");
        assert!(!Path::new(&target).exists() || contents(&target).is_empty());
    }
}
