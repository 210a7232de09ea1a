//! Appends that do not come to their end: the target is as it was, and the next one works without a person.

use std::process::{Command, Stdio};
use std::time::Duration;

use hyperslab::ingest::Action;
use serde_json::json;

use super::*;

#[tokio::test]
async fn the_first_failure_ends_a_run_and_the_next_run_goes_on() {
    let place = Place::new();
    let days = [place.day(1).await, place.day(2).await, place.day(3).await];
    let missing = place.path("missing.zarr");
    let slices = [&days[0], &days[1], &missing, &days[2]].map(String::as_str);
    let outcome = place.append("cube.zarr", &slices, json!({})).await;
    assert!(matches!(outcome, Err(Error::NotFound(_))), "{outcome:?}");
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1, 2]));

    let again: Vec<&str> = days.iter().map(String::as_str).collect();
    let report = place
        .append("cube.zarr", &again, json!({"resume": true}))
        .await
        .unwrap();
    let actions: Vec<Action> = report.slices.iter().map(|slice| slice.action).collect();
    assert_eq!(
        actions,
        [Action::Skipped, Action::Skipped, Action::Appended]
    );
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1, 2, 3]));
}

#[tokio::test]
async fn a_value_that_cannot_be_stored_ends_a_run_behind_the_slices_before() {
    let place = Place::new();
    let mut days = Vec::new();
    for day in 1..=4 {
        days.push(place.day(day).await);
    }
    // Its values are too large for the packing of the target.
    let query = cells("TIMESTAMP '2000-01-05T00:00:00'", 5000);
    days.push(place.make("day-5.zarr", &query, grid()).await);
    days.push(place.day(6).await);
    let days: Vec<&str> = days.iter().map(String::as_str).collect();
    let packing = json!({"dtype": "int16", "scale_factor": 0.1, "fill_value": -9999});
    let config = json!({"variables": {"tas": {"encoding": packing}}});
    let error = invalid(place.append("cube.zarr", &days, config).await);
    assert!(
        error.contains("day-5.zarr") && error.contains("tas") && error.contains("5000"),
        "{error}"
    );
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1, 2, 3, 4]));
}

#[tokio::test]
async fn a_slice_that_does_not_follow_ends_a_run_behind_the_slices_before() {
    let place = Place::new();
    let days = [place.day(1).await, place.day(2).await, place.day(4).await];
    let days = [&days[0], &days[1], &days[2], &days[1]].map(String::as_str);
    let error = invalid(place.append("cube.zarr", &days, json!({})).await);
    assert!(error.contains("day-2.zarr"), "{error}");
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1, 2, 4]));
}

#[tokio::test]
async fn a_slice_that_is_there_in_part_is_no_slice_to_resume() {
    let place = Place::new();
    place
        .append("cube.zarr", &[&day_query(1)], grid())
        .await
        .unwrap();
    let both = format!(
        "SELECT * FROM ({} UNION ALL {})",
        day_query(1),
        day_query(2)
    );
    let resume = json!({"resume": true});
    let error = invalid(place.append("cube.zarr", &[&both], resume).await);
    assert!(error.contains("1 of its 2 labels"), "{error}");
}

/// A writer that is killed holds no lock, and leaves the old or the new state.
#[tokio::test]
async fn killed_at_any_time_the_next_run_goes_on() {
    let place = Place::new();
    let mut days = Vec::new();
    for day in 1..=6 {
        days.push(place.day(day).await);
    }
    let target = place.path("cube.zarr");
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hyperslab"));
        command
            .args(["append", "--resume", "-t", &target])
            .args(&days)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    };
    for pause in 0..20 {
        let mut child = run().spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + pause * 9));
        child.kill().unwrap();
        child.wait().unwrap();
        if let Ok(rows) = rows(
            &place.session,
            &format!("SELECT time, sum(tas) FROM '{target}' GROUP BY time ORDER BY time"),
        )
        .await
        {
            let there = u32::try_from(rows.len()).unwrap();
            let expected: Vec<u32> = (1..=there).collect();
            assert_alike(&rows, &sums_of(&expected));
        }
    }
    assert!(run().status().unwrap().success());
    assert_alike(
        &place.sums("cube.zarr").await,
        &sums_of(&[1, 2, 3, 4, 5, 6]),
    );
}

/// What was being written when a writer died: chunks beyond the shape, and a target that never was.
#[tokio::test]
async fn what_a_crash_has_left_is_in_nobodys_way() {
    let place = Place::new();
    let days = [place.day(1).await, place.day(2).await];
    place
        .append("cube.zarr", &[&days[0]], json!({}))
        .await
        .unwrap();
    fs::write(place.path("cube.zarr/tas/1.0.0"), b"torn").unwrap();
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1]));
    place
        .append("cube.zarr", &[&days[1]], json!({}))
        .await
        .unwrap();
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1, 2]));

    let begun = place.path("begun.zarr");
    fs::create_dir_all(format!("{begun}/tas")).unwrap();
    fs::create_dir_all(format!("{begun}/.hyperslab")).unwrap();
    fs::write(format!("{begun}/.hyperslab/creating"), b"").unwrap();
    fs::write(format!("{begun}/tas/1.1.1"), b"torn").unwrap();
    fs::write(format!("{begun}/tas/.zarray"), b"{").unwrap();
    place
        .append("begun.zarr", &[&days[0]], json!({}))
        .await
        .unwrap();
    assert_alike(&place.sums("begun.zarr").await, &sums_of(&[1]));
    assert!(!Path::new(&format!("{begun}/tas/1.1.1")).exists());
    assert!(!Path::new(&format!("{begun}/.hyperslab/creating")).exists());
}

/// A chunk is rewritten for every slice that it holds; a failure behind that brings back the one before the slice.
#[tokio::test]
async fn a_failure_restores_the_last_state_not_one_in_between() {
    let place = Place::new();
    let mut config = grid();
    config["variables"]["tas"] = json!({"encoding": {"chunks": [8, 2, 3]}});
    config["variables"]["zz"] = json!({"encoding": {"dtype": "int8", "chunks": [8, 2, 3]}});
    let query = |day: u32, zz: u32| {
        format!(
            "SELECT *, arrow_cast({zz}, 'Int64') AS zz FROM ({})",
            day_query(day)
        )
    };
    let slices = [query(1, 1), query(2, 2)];
    let slices: Vec<&str> = slices.iter().map(String::as_str).collect();
    place.append("cube.zarr", &slices, config).await.unwrap();
    let before = contents(&place.path("cube.zarr"));
    // The chunk of `tas` has been written when `zz` turns out to be too large.
    let error = invalid(
        place
            .append("cube.zarr", &[&query(3, 500)], json!({}))
            .await,
    );
    assert!(
        error.contains("variable zz") && error.contains("500"),
        "{error}"
    );
    assert_eq!(contents(&place.path("cube.zarr")), before);
    place
        .append("cube.zarr", &[&query(3, 3)], json!({}))
        .await
        .unwrap();
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1, 2, 3]));
}

#[tokio::test]
async fn a_new_target_takes_the_place_of_an_old_one() {
    let place = Place::new();
    let days = [place.day(1).await, place.day(2).await];
    place
        .append("cube.zarr", &[&days[0]], json!({}))
        .await
        .unwrap();
    let before = contents(&place.path("cube.zarr"));
    let force = json!({"force_new": true});
    // Not for a slice that cannot be read.
    let missing = place.path("missing.zarr");
    let outcome = place.append("cube.zarr", &[&missing], force.clone()).await;
    assert!(matches!(outcome, Err(Error::NotFound(_))));
    assert_eq!(contents(&place.path("cube.zarr")), before);
    let mut version_3 = force.clone();
    version_3["zarr_version"] = 3.into();
    place
        .append("cube.zarr", &[&days[1]], version_3)
        .await
        .unwrap();
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[2]));
    assert!(!contents(&place.path("cube.zarr")).contains_key(".zmetadata"));

    // What is no dataset is not removed.
    fs::create_dir(place.path("home")).unwrap();
    fs::write(place.path("home/thesis.tex"), b"years").unwrap();
    let error = invalid(place.append("home", &[&days[1]], force).await);
    assert!(error.contains("home is not empty"), "{error}");
    assert_eq!(fs::read(place.path("home/thesis.tex")).unwrap(), b"years");
}

#[tokio::test]
async fn foreign_locks_and_missing_directories_are_refused() {
    let place = Place::new();
    let days = [place.day(1).await, place.day(2).await];
    let outcome = place
        .append("no/such/cube.zarr", &[&days[0]], json!({}))
        .await;
    let Err(Error::NotFound(text)) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(text.contains("no/such"), "{text}");
    place
        .append("cube.zarr", &[&days[0]], json!({}))
        .await
        .unwrap();
    fs::write(place.path("cube.zarr.lock"), b"file:///tmp/zappend-1").unwrap();
    let outcome = place.append("cube.zarr", &[&days[1]], json!({})).await;
    let Err(Error::Conflict(text)) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(text.contains("cube.zarr.lock"), "{text}");
}
