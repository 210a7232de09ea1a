//! `hyperslab append` as a person meets it.

use std::process::{Command, Output};

use serde_json::json;

use super::*;

#[tokio::test]
async fn it_counts_slices() {
    let place = Place::new();
    let days = [place.day(1).await, place.day(2).await];
    let target = place.path("cube.zarr");
    let out = run(&["-t", &target, &days[0]]);
    assert_eq!(
        said(&out),
        (0, "1 slice dataset processed.\n".into(), String::new())
    );
    let out = run(&["-t", &target, "--verbose", &days[1], &day_query(3)]);
    let (code, stdout, stderr) = said(&out);
    assert_eq!(
        (code, stdout.as_str()),
        (0, "2 slice datasets processed.\n")
    );
    assert!(
        stderr.contains("day-2.zarr: appended at time 1, 2000-01-02T00:00:00, version 1"),
        "{stderr}"
    );
    let out = run(&["-t", &target]);
    assert_eq!(
        said(&out),
        (0, "No slice datasets given.\n".into(), String::new())
    );
    let out = run(&[&days[0]]);
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).2.contains("--target"));

    let out = run(&["-t", &target, &days[0], &days[1]]);
    let (code, stdout, stderr) = said(&out);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("is there already"), "{stderr}");
    assert!(stderr.contains("0 of 2 slices"), "{stderr}");
    let out = run(&["-t", &target, "--resume", &days[0], &days[1]]);
    assert_eq!(said(&out).1, "2 slice datasets processed.\n");
    assert!(
        said(&out)
            .2
            .contains("left out, because it is there already")
    );
    assert_alike(&place.sums("cube.zarr").await, &sums_of(&[1, 2, 3]));
}

#[tokio::test]
async fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let place = Place::new();
    let days = [place.day(1).await, place.day(2).await];
    let target = place.path("cube.zarr");
    let out = run(&["-t", &target, "--dry-run", &days[0], &days[1]]);
    let (code, stdout, _) = said(&out);
    assert_eq!(code, 0);
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(
        lines[0].contains("would be the first slice of a new target at time 0"),
        "{stdout}"
    );
    assert!(lines[1].contains("would be appended at time 1"), "{stdout}");
    assert!(!Path::new(&target).exists());

    run(&["-t", &target, &days[0]]);
    let before = contents(&target);
    // Nobody has to let go of anything for that.
    let lock = fs::File::open(format!("{target}/.hyperslab/lock")).unwrap();
    lock.lock().unwrap();
    let out = run(&["-t", &target, "--dry-run", &days[1]]);
    assert!(said(&out).1.contains("would be appended at time 1"));
    let out = run(&["-t", &target, "--dry-run", &days[1], &days[0]]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(contents(&target), before);
    drop(lock);
    let out = run(&["-t", &target, "--dry-run", "--force-new", &days[1]]);
    assert!(said(&out).1.contains("new target"));
    assert_eq!(contents(&target), before);
}

#[tokio::test]
async fn a_lock_is_waited_for_as_long_as_is_said() {
    let place = Place::new();
    let days = [place.day(1).await, place.day(2).await];
    let target = place.path("cube.zarr");
    run(&["-t", &target, &days[0]]);
    let config = place.path("quick.json");
    fs::write(&config, r#"{"lock_timeout": 0}"#).unwrap();
    let lock = fs::File::open(format!("{target}/.hyperslab/lock")).unwrap();
    lock.lock().unwrap();
    let out = run(&["-t", &target, "-c", &config, &days[1]]);
    let (code, _, stderr) = said(&out);
    assert_eq!(code, 1);
    assert!(stderr.contains("written by somebody else"), "{stderr}");
    drop(lock);
    let out = run(&["-t", &target, "-c", &config, &days[1]]);
    assert_eq!(out.status.code(), Some(0));
}

#[tokio::test]
async fn configurations_are_merged() {
    let place = Place::new();
    let day = place.day(1).await;
    let (one, two) = (place.path("one.yaml"), place.path("two.json"));
    fs::write(
        &one,
        "target_dir: ${HYPERSLAB_TEST_DIR}/cube.zarr\nvariables:\n  tas:\n    encoding: {dtype: float64, chunks: [1, 2, 3]}\n    \
         attrs: {a: 1}\nexcluded_variables: [x, y]\nattrs: {title: one}\n",
    )
    .unwrap();
    let over = json!({"variables": {"tas": {"encoding": {"chunks": [2, 1, 1]}, "attrs": {"b": [1, 2]}}},
        "excluded_variables": ["z"]});
    fs::write(&two, over.to_string()).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_hyperslab"))
        .args(["append", "-c", &one, "-c", &two, &day])
        .env("HYPERSLAB_TEST_DIR", place.path(""))
        .output()
        .unwrap();
    assert_eq!(
        said(&out).1,
        "1 slice dataset processed.\n",
        "{}",
        said(&out).2
    );
    let tas = place.json("cube.zarr/tas/.zarray");
    assert_eq!(
        (&tas["dtype"], &tas["chunks"]),
        (&json!("<f8"), &json!([2, 1, 1]))
    );
    let attributes = place.json("cube.zarr/tas/.zattrs");
    assert_eq!(
        (&attributes["a"], &attributes["b"]),
        (&json!(1), &json!([1, 2]))
    );

    let out = run(&["-c", &one, &day]);
    assert_eq!(out.status.code(), Some(2));
    assert!(said(&out).2.contains("HYPERSLAB_TEST_DIR"));
}

#[test]
fn what_is_wrong_in_a_configuration_is_named() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("config.yaml");
    let path = path.to_str().unwrap();
    for (config, says) in [
        ("append_dimm: time", "append_dimm; did you mean append_dim?"),
        (
            "variables: {tas: {encoding: {chunk: [1]}}}",
            "variables.tas.encoding.chunk; did you mean chunks?",
        ),
        ("permit_eval: true", "SQL expressions"),
        ("slice_source: my.module.Source", "a query"),
        ("slice_engine: zarr", "recognised"),
        (
            "zarr_version: 4",
            "zarr_version is 4, but has to be one of 2, 3",
        ),
        (
            "variables: {tas: {encoding: {dtype: float33}}}",
            "variables.tas.encoding.dtype is \"float33\"",
        ),
        (
            "variables: {tas: {encoding: {chunks: [0, 1]}}}",
            "variables.tas.encoding.chunks",
        ),
        (
            "slice_polling: {interval: 0}",
            "slice_polling.interval is 0",
        ),
        ("slice_polling: {intervall: 1}", "did you mean interval?"),
        ("attrs_update_mode: merge", "keep, replace, update, ignore"),
        ("fixed_dims: {time: 1}", "append dimension"),
        ("tolerance: -1", "tolerance is -1"),
        ("- 1", "the configuration is [1]"),
        ("a: [", "not YAML"),
        ("target_dir: ${NOT_SET_ANYWHERE}", "NOT_SET_ANYWHERE"),
    ] {
        fs::write(path, config).unwrap();
        let out = run(&["-c", path, "-t", "x.zarr", "slice.nc"]);
        assert_eq!(out.status.code(), Some(2), "{config}");
        let stderr = said(&out).2;
        assert!(stderr.contains(says), "{config}: {stderr}");
    }
    let out = run(&["-c", "missing.yaml", "slice.nc"]);
    assert!(said(&out).2.contains("missing.yaml does not exist"));
}

#[test]
fn the_options_are_described() {
    let out = run(&["--help-config", "json"]);
    let schema: Value = serde_json::from_str(&said(&out).1).unwrap();
    let options = schema["properties"].as_object().unwrap();
    // Those of zappend that make sense here, by the same names.
    for name in [
        "version",
        "zarr_version",
        "target_dir",
        "target_storage_options",
        "slice_storage_options",
        "temp_storage_options",
        "force_new",
        "append_dim",
        "append_step",
        "fixed_dims",
        "included_variables",
        "excluded_variables",
        "variables",
        "attrs",
        "attrs_update_mode",
        "slice_polling",
        "persist_mem_slices",
        "temp_dir",
        "disable_rollback",
        "dry_run",
        "profiling",
        "logging",
        "extra",
    ] {
        assert!(options.contains_key(name), "{name}");
    }
    let page = said(&run(&["--help-config", "md"])).1;
    for name in options.keys() {
        assert!(page.contains(&format!("- `{name}` (")), "{name}");
    }
    assert!(page.contains("`<name>.encoding`") && page.contains("`scale_factor`"));
}

#[tokio::test]
async fn a_profile_says_where_the_time_went() {
    let place = Place::new();
    let days = [place.day(1).await, place.day(2).await];
    let (target, profile) = (place.path("cube.zarr"), place.path("profile.json"));
    run(&["-t", &target, "--profile", &profile, &days[0], &days[1]]);
    let profile = place.json("profile.json");
    assert_eq!(profile["slices"], 2);
    for phase in ["open", "begin", "check", "copy", "commit"] {
        assert!(profile[phase].as_f64().unwrap() > 0.0, "{phase}");
    }
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hyperslab"))
        .arg("append")
        .args(args)
        .output()
        .unwrap()
}

fn said(out: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        out.status.code().unwrap_or(-1),
        text(&out.stdout),
        text(&out.stderr),
    )
}
