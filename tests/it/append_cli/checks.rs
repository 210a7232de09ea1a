//! Slices that do not fit, and targets that stay as they are.

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_slice_that_does_not_fit_changes_nothing() {
    let place = Place::new();
    let day = place.day(1).await;
    let second = place.day(2).await;
    place
        .append("cube.zarr", &[&day, &second], json!({}))
        .await
        .unwrap();
    let before = contents(&place.path("cube.zarr"));
    let third = day_query(3);
    let units = |units: &str| {
        let mut config = grid();
        config["variables"]["tas"] = json!({"attrs": {"units": units}});
        config
    };
    for (name, query, config, says) in [
        (
            "lat",
            format!("SELECT time, lat + 0.5 AS lat, lon, tas FROM ({third})"),
            grid(),
            "variable lat is 0.5 at index 0, but 0.0 in the target",
        ),
        (
            "size",
            format!("SELECT * FROM ({third}) WHERE lon < 2"),
            json!({"variables": {"*": {"dims": ["time", "lat", "lon"]}}}),
            "dimension lon has the length 2, but 3 in the target",
        ),
        (
            "missing",
            format!("SELECT time, lat, lon, tas AS pr FROM ({third})"),
            grid(),
            "no variable tas",
        ),
        (
            "order",
            third.clone(),
            json!({"variables": {"*": {"dims": ["time", "lon", "lat"]}}}),
            "dimensions (time, lon, lat), but (time, lat, lon)",
        ),
        (
            "type",
            format!("SELECT time, lat, lon, 'warm' AS tas FROM ({third})"),
            grid(),
            "variable tas is utf32x4",
        ),
        (
            "time",
            format!("SELECT 7 AS time, lat, lon, tas FROM ({third})"),
            grid(),
            "variable time is int64",
        ),
        (
            "again",
            day_query(2),
            grid(),
            "time 2000-01-02T00:00:00 is there already",
        ),
        (
            "before",
            cells("TIMESTAMP '1999-12-31T00:00:00'", 1),
            grid(),
            "time 1999-12-31T00:00:00 does not come after 2000-01-02T00:00:00",
        ),
        (
            "twice",
            format!(
                "SELECT * FROM ({}) UNION ALL {}",
                day_query(9),
                day_query(4)
            ),
            grid(),
            "",
        ),
        ("units", third.clone(), units("K"), ""),
    ] {
        let slice = place.make(&format!("{name}.zarr"), &query, config).await;
        let outcome = place.append("cube.zarr", &[&slice], json!({})).await;
        if says.is_empty() {
            // Rows are sorted, and units of a slice say nothing where the target has none.
            outcome.unwrap();
            fs::remove_dir_all(place.path("cube.zarr")).unwrap();
            place
                .append("cube.zarr", &[&day, &second], json!({}))
                .await
                .unwrap();
            continue;
        }
        let error = invalid(outcome);
        assert!(error.starts_with(&format!("slice {slice}: ")), "{error}");
        assert!(error.contains(says), "{name}: {error}");
        assert_eq!(contents(&place.path("cube.zarr")), before, "{name}");
    }
}

#[tokio::test]
async fn units_are_converted_when_asked() {
    let place = Place::new();
    let with = |units: &str| {
        let mut config = grid();
        config["variables"]["tas"] = json!({"attrs": {"units": units}});
        config
    };
    let kelvin = place.make("k.zarr", &day_query(1), with("K")).await;
    let query = format!(
        "SELECT time, lat, lon, tas - 273.15 AS tas FROM ({})",
        day_query(2)
    );
    let celsius = place.make("c.zarr", &query, with("degC")).await;
    let metres = place.make("m.zarr", &day_query(3), with("m")).await;
    place
        .append("cube.zarr", &[&kelvin], json!({}))
        .await
        .unwrap();
    let error = invalid(place.append("cube.zarr", &[&celsius], json!({})).await);
    assert!(
        error.contains("\"degC\", but \"K\"") && error.contains("convert_units"),
        "{error}"
    );
    let converts = json!({"convert_units": true});
    let error = invalid(
        place
            .append("cube.zarr", &[&metres], converts.clone())
            .await,
    );
    assert!(
        error.contains("\"m\", which cannot be converted"),
        "{error}"
    );
    place
        .append("cube.zarr", &[&celsius], converts)
        .await
        .unwrap();
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1, 2]));
}

#[tokio::test]
async fn calendars_have_to_be_the_same_and_time_units_need_not() {
    let place = Place::new();
    let with = |units: &str, calendar: &str| {
        let mut config = grid();
        config["variables"]["time"] =
            json!({"encoding": {"units": units, "calendar": calendar, "dtype": "int32"}});
        config
    };
    let slices = [
        (1, "days since 2000-01-01", "noleap"),
        (2, "hours since 1990-01-01", "noleap"),
        (3, "days since 2000-01-01", "standard"),
    ];
    let mut paths = Vec::new();
    for (day, units, calendar) in slices {
        let name = format!("{day}.zarr");
        let config = with(units, calendar);
        paths.push(place.make(&name, &day_query(day), config).await);
    }
    place
        .append("cube.zarr", &[&paths[0], &paths[1]], json!({}))
        .await
        .unwrap();
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1, 2]));
    let error = invalid(place.append("cube.zarr", &[&paths[2]], json!({})).await);
    assert!(
        error.contains("variable time has the calendar standard, but noleap"),
        "{error}"
    );
}

#[tokio::test]
async fn coordinates_may_differ_by_a_tolerance() {
    let place = Place::new();
    let day = place.day(1).await;
    let query = format!(
        "SELECT time, lat + 0.0001 AS lat, lon, tas FROM ({})",
        day_query(2)
    );
    let near = place.make("near.zarr", &query, grid()).await;
    place.append("cube.zarr", &[&day], json!({})).await.unwrap();
    let small = json!({"tolerance": 0.00001});
    let error = invalid(place.append("cube.zarr", &[&near], small).await);
    assert!(error.contains("variable lat is 0.0001"), "{error}");
    let enough = json!({"tolerance": 0.001});
    place.append("cube.zarr", &[&near], enough).await.unwrap();
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1, 2]));
}

#[tokio::test]
async fn labels_come_in_order_and_steps() {
    let time = |text: &str| format!("TIMESTAMP '{text}'");
    for (step, labels, fails) in [
        (
            json!("1D"),
            ["2000-01-30", "2000-01-31", "2000-02-01"],
            None,
        ),
        (
            json!("24h"),
            ["2000-01-30", "2000-01-31", "2000-02-02"],
            Some("is 2D after 2000-01-31"),
        ),
        (
            json!(86400),
            ["2000-01-30", "2000-01-31", "2000-02-01"],
            None,
        ),
        (
            json!("1M"),
            ["2000-01-15", "2000-02-15", "2000-03-15"],
            None,
        ),
        (
            json!("1M"),
            ["2000-01-15", "2000-02-14", "2000-03-15"],
            Some("is 30D after 2000-01-15"),
        ),
        (
            json!("2Y"),
            ["2000-02-15", "2002-02-15", "2004-02-15"],
            None,
        ),
        (
            json!("-1D"),
            ["2000-01-03", "2000-01-02", "2000-01-01"],
            None,
        ),
        (json!("-"), ["2000-01-09", "2000-01-02", "2000-01-01"], None),
        (json!("+"), ["2000-01-01", "2000-01-02", "2000-01-09"], None),
        (
            json!("+"),
            ["2000-01-01", "2000-01-03", "2000-01-02"],
            Some("does not come after 2000-01-03"),
        ),
        (
            json!("-"),
            ["2000-01-09", "2000-01-02", "2000-01-05"],
            Some("have to decrease"),
        ),
        (
            json!(null),
            ["2000-01-01", "2000-01-03", "2000-01-02"],
            Some("does not come after"),
        ),
        (
            json!("3X"),
            ["2000-01-01", "2000-01-02", "2000-01-03"],
            Some("no duration"),
        ),
    ] {
        let place = Place::new();
        let queries: Vec<String> = labels.iter().map(|label| cells(&time(label), 1)).collect();
        let queries: Vec<&str> = queries.iter().map(String::as_str).collect();
        let mut config = grid();
        config["append_step"] = step.clone();
        let outcome = place.append("cube.zarr", &queries, config).await;
        match fails {
            None => {
                outcome.unwrap();
            }
            Some(says) => {
                let error = invalid(outcome);
                assert!(error.contains(says), "{step}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn any_order_still_has_each_label_once() {
    let place = Place::new();
    let mut config = grid();
    config["append_order"] = "any".into();
    let days = [day_query(5), day_query(2), day_query(9)];
    let days: Vec<&str> = days.iter().map(String::as_str).collect();
    place
        .append("cube.zarr", &days, config.clone())
        .await
        .unwrap();
    let error = invalid(place.append("cube.zarr", &[&day_query(2)], config).await);
    assert!(
        error.contains("2000-01-02T00:00:00 is there already"),
        "{error}"
    );
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[2, 5, 9]));
}

#[tokio::test]
async fn what_does_not_fit_the_encoding_of_the_target_is_named() {
    let place = Place::new();
    let mut config = grid();
    // Without a missing value, and for no more than 12.7.
    config["variables"]["tas"] =
        json!({"encoding": {"dtype": "int8", "scale_factor": 0.1, "fill_value": null}});
    place
        .append("cube.zarr", &[&day_query(1)], config)
        .await
        .unwrap();
    let before = contents(&place.path("cube.zarr"));
    let null = format!(
        "SELECT time, lat, lon, nullif(tas, arrow_cast(2, 'Float32')) AS tas FROM ({})",
        day_query(2)
    );
    for (query, says) in [(day_query(30), "30"), (null, "fill_value")] {
        let error = invalid(place.append("cube.zarr", &[&query], json!({})).await);
        assert!(
            error.contains("variable tas") && error.contains(says),
            "{error}"
        );
        assert_eq!(contents(&place.path("cube.zarr")), before);
    }
    place
        .append("cube.zarr", &[&day_query(2)], json!({}))
        .await
        .unwrap();
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1, 2]));
}
