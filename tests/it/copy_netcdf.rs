//! New netCDF-4 files: what is in them, for another reader too, and that nobody sees a part of one.

use std::fs;
use std::path::Path;

use hdf5_reader::Hdf5File;
use serde_json::json;
use tempfile::TempDir;

use crate::common::{error, row, rows, sample, session};
use crate::insert::kill::{CHANGES, inject, is_full, strace};

/// Two steps, two places, one value missing.
const GRID: &str = "(VALUES (2, 'b', 2.25, 4, 'Zürich', true), (1, 'b', 1.25, 2, 'Öl', false), \
                    (2, 'ä€', NULL, 3, '日本', true), (1, 'ä€', 1.0, 1, 'a longer one', true)) \
                    AS v(step, place, value, n, city, flag)";

#[tokio::test]
async fn another_reader_finds_what_netcdf_asks_for() {
    let place = Place::new();
    let file = place.path("copy.nc");
    let copy = format!(
        "COPY (SELECT * FROM '{}' WHERE lat > 60) TO '{file}'",
        sample("tas.nc")
    );
    // 1095 days, latitudes 61.875, 73.125 and 84.375, 24 longitudes.
    let count = row(&session(), &copy).await.unwrap();
    assert_eq!(count, [json!(1095 * 3 * 24)]);
    let copied = Hdf5File::open(&file).unwrap();
    assert_eq!(copied.superblock().version, 2);
    let text = |variable: &str, name: &str| {
        let dataset = copied.dataset(variable).unwrap();
        dataset.attribute(name).unwrap().read_string().unwrap()
    };
    for (variable, shape, unlimited) in [
        ("tas", &[1095, 3, 24][..], true),
        ("area", &[3, 24], false),
        ("time", &[1095], true),
        ("lat", &[3], false),
    ] {
        let dataset = copied.dataset(variable).unwrap();
        assert_eq!(dataset.shape(), shape, "{variable}");
        let most = dataset.max_dims().unwrap();
        assert_eq!(most[0] == u64::MAX, unlimited, "{variable}");
        assert_eq!(most[1..], shape[1..], "{variable}");
        let scales = dataset.attribute("DIMENSION_LIST");
        assert_eq!(scales.is_ok(), shape.len() > 1, "{variable}");
    }
    for (at, name) in (0..).zip(["time", "lat", "lon"]) {
        assert_eq!(text(name, "CLASS"), "DIMENSION_SCALE");
        assert_eq!(text(name, "NAME"), name);
        let dataset = copied.dataset(name).unwrap();
        let id = dataset.attribute("_Netcdf4Dimid").unwrap();
        assert_eq!(id.read_scalar::<i32>().unwrap(), at);
        assert!(dataset.attribute("REFERENCE_LIST").is_ok());
    }
    assert_eq!(text("time", "calendar"), "noleap");
    assert_eq!(text("time", "units"), "days since 2001-01-01");
    assert_eq!(text("tas", "standard_name"), "air_temperature");
    let tas = copied.dataset("tas").unwrap();
    let fill = tas.attribute("_FillValue").unwrap();
    assert!(fill.read_scalar::<f32>().unwrap().is_nan());
    // The file that it was made of holds the same numbers.
    let source = Hdf5File::open(sample("tas.nc")).unwrap();
    let all = source.dataset("tas").unwrap().read_array::<f32>().unwrap();
    let some = tas.read_array::<f32>().unwrap();
    assert_eq!(some.len(), 1095 * 3 * 24);
    for ((t, y, x), value) in (0..1095)
        .flat_map(|t| (0..3).flat_map(move |y| (0..24).map(move |x| (t, y, x))))
        .zip(some.iter())
    {
        assert_eq!(*value, all[[t, y + 13, x]], "{t} {y} {x}");
    }
}

#[tokio::test]
async fn texts_booleans_and_packed_numbers_come_back() {
    let place = Place::new();
    let file = place.path("mixed.nc");
    let session = session();
    let copy = format!(
        "COPY (SELECT * FROM {GRID}) TO '{file}' OPTIONS (dims 'step,place', 'value.dtype' 'int16', \
         'value.scale_factor' '0.25', 'n.attr.units' 'apples', 'attr.title' 'Größe', 'n.codec' 'shuffle,zlib:1,fletcher32', \
         'city.codec' 'none')"
    );
    assert_eq!(row(&session, &copy).await.unwrap(), [json!(4)]);
    let query = format!("SELECT * FROM '{file}' ORDER BY step, place");
    let expected = [
        json!([1, "b", 1.25, 2, "Öl", 0]),
        json!([1, "ä€", 1.0, 1, "a longer one", 1]),
        json!([2, "b", 2.25, 4, "Zürich", 1]),
        json!([2, "ä€", null, 3, "日本", 1]),
    ];
    assert_eq!(rows(&session, &query).await.unwrap(), expected);
    // As xarray stores such values.
    let made = Hdf5File::open(&file).unwrap();
    let value = made.dataset("value").unwrap();
    assert_eq!(
        value.read_array::<i16>().unwrap().as_slice(),
        Some(&[5, 4, 9, -32767][..])
    );
    assert_eq!(made.dataset("city").unwrap().shape(), [2, 2, 12]);
    let dtype = made.dataset("flag").unwrap().attribute("dtype").unwrap();
    assert_eq!(dtype.read_string().unwrap(), "bool");
    let scale = made.dataset("string12").unwrap().attribute("NAME").unwrap();
    assert_eq!(
        scale.read_string().unwrap(),
        "This is a netCDF dimension but not a netCDF variable.        12"
    );
    let title = made.root_group().unwrap().attribute("title").unwrap();
    assert_eq!(title.read_string().unwrap(), "Größe");
    drop(made);
    let more = format!(
        "INSERT INTO '{file}' VALUES (3, 'ä€', 9.5, 6, 'Brno', 0), (3, 'b', 8.0, 5, 'Wien', 1)"
    );
    assert_eq!(row(&session, &more).await.unwrap(), [json!(2)]);
    let last = format!("{query} OFFSET 4");
    let expected = [
        json!([3, "b", 8.0, 5, "Wien", 1]),
        json!([3, "ä€", 9.5, 6, "Brno", 0]),
    ];
    assert_eq!(rows(&session, &last).await.unwrap(), expected);
}

#[tokio::test]
async fn endings_and_stored_as_say_that_it_is_netcdf() {
    let place = Place::new();
    let session = session();
    for (name, stored) in [
        ("a.nc", ""),
        ("a.nc4", ""),
        ("a.cdf", ""),
        ("a.h5", ""),
        ("a.hdf5", ""),
        ("a", "STORED AS NETCDF"),
        ("b.zarr", "STORED AS HDF5"),
    ] {
        let file = place.path(name);
        let copy =
            format!("COPY (SELECT * FROM {GRID}) TO '{file}' {stored} OPTIONS (dims 'step,place')");
        assert_eq!(row(&session, &copy).await.unwrap(), [json!(4)], "{name}");
        let made = Hdf5File::open(&file).unwrap();
        assert_eq!(made.dataset("value").unwrap().shape(), [2, 2], "{name}");
    }
}

#[tokio::test]
async fn groups_of_many_members_and_variables_with_many_attributes_are_read() {
    let place = Place::new();
    let file = place.path("wide.nc");
    let columns: Vec<String> = (0..300).map(|v| format!("t + {v}.5 AS v{v}")).collect();
    let attributes: Vec<String> = (0..40)
        .map(|a| format!("'v7.attr.a{a}' 'text {a}'"))
        .collect();
    let copy = format!(
        "COPY (SELECT t, {} FROM (VALUES (1), (2)) AS v(t)) TO '{file}' OPTIONS (dims 't', {})",
        columns.join(", "),
        attributes.join(", ")
    );
    let session = session();
    assert_eq!(row(&session, &copy).await.unwrap(), [json!(2)]);
    let query = format!("SELECT sum(v0), sum(v7), sum(v299) FROM '{file}'");
    let sums = row(&session, &query).await.unwrap();
    assert_eq!(sums, [json!(4.0), json!(18.0), json!(602.0)]);
    let made = Hdf5File::open(&file).unwrap();
    let v7 = made.dataset("v7").unwrap();
    for a in 0..40 {
        let attribute = v7.attribute(&format!("a{a}")).unwrap();
        assert_eq!(attribute.read_string().unwrap(), format!("text {a}"));
    }
    assert_eq!(made.root_group().unwrap().datasets().unwrap().len(), 301);
}

#[tokio::test]
async fn a_cube_is_made_of_its_first_slice() {
    let place = Place::new();
    let cube = place.path("cube.nc");
    let session = session();
    for (first, last) in [(2002, 2003), (2004, 2004)] {
        let slice = place.path(&format!("{first}.nc"));
        let copy = format!(
            "COPY (SELECT * FROM '{}' WHERE year(time) BETWEEN {first} AND {last}) TO '{slice}'",
            sample("tas.nc")
        );
        row(&session, &copy).await.unwrap();
        let config = json!({"target_dir": cube, "attrs": {"history": format!("until {last}")}});
        let config = hyperslab::ingest::config::AppendConfig::from_value(config).unwrap();
        let slice = hyperslab::ingest::SliceItem::from(slice.as_str());
        if first == 2002 {
            session.append(&[slice], config).await.unwrap();
            let made = Hdf5File::open(&cube).unwrap();
            let history = made.root_group().unwrap().attribute("history").unwrap();
            assert_eq!(history.read_string().unwrap(), "until 2003");
        } else {
            let config = json!({"target_dir": cube});
            let config = hyperslab::ingest::config::AppendConfig::from_value(config).unwrap();
            session.append(&[slice], config).await.unwrap();
        }
    }
    let sums = |file: &str| {
        format!("SELECT count(*), sum(tas), sum(pr), max(area), min(time), max(time) FROM '{file}'")
    };
    let source = row(&session, &sums(&sample("tas.nc"))).await.unwrap();
    assert_eq!(row(&session, &sums(&cube)).await.unwrap(), source);
}

#[tokio::test]
async fn what_netcdf_cannot_hold_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let session = session();
    let grid = format!("(SELECT * FROM {GRID})");
    for (query, options, said) in [
        (
            grid.as_str(),
            "(dims 'step,place', 'n.codec' 'zstd:3')",
            "variable n: not every program that reads netCDF-4 knows the codec zstd",
        ),
        (
            &grid,
            "(dims 'step,place', codec 'blosc:zstd:5')",
            "knows the codec blosc",
        ),
        (
            &grid,
            "(dims 'step,place', 'n.codec' 'gzip:6')",
            "knows the codec gzip",
        ),
        (&grid, "(dims 'step')", "two rows are for one cell: step 1"),
        (
            &grid,
            "(dims 'step,place', 'n.chunks' '2000000000,2')",
            "have 4 GiB or more",
        ),
        (
            "(SELECT step, place, n AS \"a/b\" FROM (SELECT * FROM (VALUES (1, 1, 1)) AS v(step, place, n)))",
            "(dims 'step,place', 'a/b.chunks' 'x')",
            "a/b.chunks",
        ),
        (
            "(SELECT 1 AS step, 2 AS \"\u{0}\")",
            "(dims 'step')",
            "netCDF-4 has no names like",
        ),
    ] {
        let file = place.path("none.nc");
        let copy = format!("COPY {query} TO '{file}' OPTIONS {options}");
        let text = error(&session, &copy).await;
        assert!(text.contains(said), "{copy}\n{text}");
        assert!(place.files().is_empty(), "{copy}");
    }
    let folder = place.path("folder.nc");
    fs::create_dir(&folder).unwrap();
    let copy = |to: &str| format!("COPY {grid} TO '{to}' OPTIONS (dims 'step,place')");
    let text = error(&session, &copy(&folder)).await;
    assert!(
        text.contains("is a directory, in the place of which"),
        "{text}"
    );
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    let file = place.path("there.nc");
    fs::write(&file, "of somebody else").unwrap();
    let text = error(&session, &copy(&file)).await;
    assert!(text.contains("exists already"), "{text}");
    assert_eq!(fs::read(&file).unwrap(), b"of somebody else");
    let text = error(&session, &copy(&place.path("no/where.nc"))).await;
    assert!(text.contains("does not exist"), "{text}");
    let text = error(&session, &copy("s3://bucket/a.nc")).await;
    assert!(text.contains("can only be made on this machine"), "{text}");
}

#[tokio::test]
async fn a_target_that_is_replaced_stays_until_the_new_one_is_there() {
    let place = Place::new();
    let cube = place.path("cube.nc");
    let session = session();
    let query = |number: u32| {
        format!("SELECT time, CAST({number} AS DOUBLE) AS v FROM (VALUES (1), (2)) AS t(time)")
    };
    let config = |force: bool| {
        let config =
            json!({"target_dir": cube, "force_new": force, "variables": {"*": {"dims": ["time"]}}});
        hyperslab::ingest::config::AppendConfig::from_value(config).unwrap()
    };
    let slice = |sql: &str| hyperslab::ingest::SliceItem::from(sql);
    session
        .append(&[slice(&query(1))], config(false))
        .await
        .unwrap();
    let wrong = query(2).replace("(2)", "(1)");
    assert!(
        session
            .append(&[slice(&wrong)], config(true))
            .await
            .is_err()
    );
    let sum = format!("SELECT sum(v) FROM '{cube}'");
    assert_eq!(row(&session, &sum).await.unwrap(), [json!(2.0)]);
    session
        .append(&[slice(&query(5))], config(true))
        .await
        .unwrap();
    assert_eq!(row(&session, &sum).await.unwrap(), [json!(10.0)]);
    assert_eq!(place.files(), ["cube.nc"]);
}

#[tokio::test]
async fn a_copy_that_is_killed_leaves_no_part_of_a_file() {
    let Some(calls) = calls() else {
        println!("skipped: killing a COPY, because there is no strace that can trace");
        return;
    };
    let mut killed = 0;
    let mut seen = [false; 2];
    for (call, most) in calls {
        let step = if is_full() { 1 } else { most.div_ceil(4) };
        for at in (1..=most).step_by(step) {
            let place = Place::new();
            let out = inject(&copy(&place), &call, &format!("signal=SIGKILL:when={at}"));
            if out.status.success() {
                continue;
            }
            killed += 1;
            let is_there = whole_or_nothing(&place, &format!("a kill at {call} {at}")).await;
            seen[usize::from(is_there)] = true;
        }
    }
    assert!(killed > 10 && seen == [true, true], "{killed} {seen:?}");
}

#[tokio::test]
async fn a_disk_that_fails_leaves_no_part_of_a_file() {
    let Some(calls) = calls() else {
        println!(
            "skipped: a disk that fails under a COPY, because there is no strace that can trace"
        );
        return;
    };
    let mut failed = 0;
    for (call, error) in [
        ("pwrite64", "ENOSPC"),
        ("pwrite64", "EIO"),
        ("fsync", "EIO"),
        ("linkat", "ENOSPC"),
        ("linkat", "EPERM"),
        ("ftruncate", "ENOSPC"),
    ] {
        let most = calls.iter().find(|(name, _)| name == call);
        let most = most.unwrap_or_else(|| panic!("no {call}")).1;
        let step = if is_full() { 1 } else { most.div_ceil(4) };
        for at in (1..=most).step_by(step) {
            let place = Place::new();
            let out = inject(&copy(&place), call, &format!("error={error}:when={at}"));
            let what = format!("{error} of {call} {at}");
            if !out.status.success() {
                failed += 1;
                let text = String::from_utf8(out.stderr).unwrap();
                assert!(text.starts_with("error: "), "{what}: {text}");
            }
            let is_there = whole_or_nothing(&place, &what).await;
            assert!(is_there || !out.status.success(), "{what}");
        }
    }
    assert!(failed > 5, "{failed}");
}

fn copy(place: &Place) -> String {
    format!(
        "COPY (SELECT t, y, t * 10 + y AS v FROM (SELECT unnest(range(1, 30)) AS t), (SELECT unnest(range(0, 4)) AS y)) \
         TO '{}' OPTIONS (dims 't,y', chunks '2,4')",
        place.path("new.nc")
    )
}

/// The names of system calls that change something, and how often one thread makes them at most.
fn calls() -> Option<Vec<(String, usize)>> {
    let place = Place::new();
    let trace = place.path("trace");
    let out = strace(
        &copy(&place),
        &["-o", &trace, "-e", &format!("trace={CHANGES}")],
    )?;
    if !out.status.success() {
        return None;
    }
    let text = fs::read_to_string(trace).unwrap();
    let mut counts = std::collections::BTreeMap::new();
    for line in text.lines() {
        let (thread, called) = line.split_once(' ')?;
        let Some((name, _)) = called.trim_start().split_once('(') else {
            continue;
        };
        // Of all files that are opened, most are only read.
        if name != "write" {
            *counts
                .entry((name.to_owned(), thread.to_owned()))
                .or_insert(0usize) += 1;
        }
    }
    let mut most = std::collections::BTreeMap::new();
    for ((name, _), count) in counts {
        let known = most.entry(name).or_insert(0);
        *known = count.max(*known);
    }
    Some(most.into_iter().collect())
}

/// Checks that there is the whole file or none, and that it can be made then; whether there was one.
async fn whole_or_nothing(place: &Place, after: &str) -> bool {
    let file = place.path("new.nc");
    let is_there = Path::new(&file).exists();
    let session = session();
    let sum = format!("SELECT count(*), sum(v), min(t), max(y) FROM '{file}'");
    // 29 times 4 cells: 4 times 10 times the sum up to 29, and 29 times 6.
    let whole = [json!(116), json!(17574), json!(1), json!(3)];
    if is_there {
        assert_eq!(row(&session, &sum).await.unwrap(), whole, "{after}");
        let more =
            format!("INSERT INTO '{file}' VALUES (30, 0, 0), (30, 1, 0), (30, 2, 0), (30, 3, 0)");
        row(&session, &more)
            .await
            .unwrap_or_else(|e| panic!("{after}: {e}"));
    } else {
        row(&session, &copy(place))
            .await
            .unwrap_or_else(|e| panic!("{after}: {e}"));
        assert_eq!(row(&session, &sum).await.unwrap(), whole, "{after}");
    }
    assert_eq!(place.files(), ["new.nc"], "{after}");
    is_there
}

/// A place for files.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// The names of files, without locks.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names
            .filter(|name| !name.ends_with(".hyperslab-lock"))
            .collect();
        names.sort();
        names
    }
}
