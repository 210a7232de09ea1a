//! `COPY TO` Blosc2: directories of arrays with their coordinates, and single arrays without.

use std::collections::BTreeSet;
use std::path::Path;

use hyperslab::append::{AppendOptions, IfExists, OldCells, Region, Target};
use hyperslab::array::blueprint::{Blueprint, Codecs, NewGroup, NewVariable};
use hyperslab::array::dtype::ElementType;
use hyperslab::array::{AttributeValue, Attributes, Dimension};
use hyperslab::format::blosc2::Blosc2;
use hyperslab::store::Store;
use serde_json::{Value, json};

use crate::common::{error, row, rows, sample, session};
use crate::insert::kill::{CHANGES, calls, inject, is_full};
use crate::insert::{Cube, content, expected, slices};

/// Four cells of a grid without coordinates.
const GRID: &str =
    "(VALUES (0, 0, 1.5, 10), (0, 1, 2.5, 11), (1, 0, NULL, 12), (1, 1, 4.5, 13)) AS v(a, b, c, n)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_holds_variables_coordinates_and_attributes() {
    let folder = tempfile::tempdir().unwrap();
    let session = session();
    for (source, order) in [("tas.nc", "time, lat, lon"), ("ocean.nc", "time, y, x")] {
        let copy = folder.path().join(source).with_extension("b2d");
        let (copy, source) = (copy.to_str().unwrap(), sample(source));
        let statement =
            format!("COPY (SELECT * FROM '{source}') TO '{copy}' OPTIONS ('attr.title' 'a copy')");
        let cells = row(&session, &format!("SELECT count(*) FROM '{source}'")).await;
        assert_eq!(row(&session, &statement).await.unwrap(), cells.unwrap());
        let columns = match order {
            "time, y, x" => "time, y, x, nav_lat, nav_lon, sst",
            _ => "time, lat, lon, area, pr, tas",
        };
        for question in [
            format!("SELECT {columns} FROM $ WHERE month(time) = 3 ORDER BY {order}"),
            "SELECT variable, name, value FROM array_attributes($) \
             WHERE name IN ('standard_name', 'long_name', 'calendar', 'units') ORDER BY 1, 2"
                .to_owned(),
            "SELECT variable, dimensions FROM array_info($) WHERE variable NOT IN ('x', 'y') ORDER BY 1"
                .to_owned(),
        ] {
            let of = |place: &str| question.replace('$', &format!("'{place}'"));
            let (new, old) = (of(copy), of(&source));
            assert_eq!(
                rows(&session, &new).await.unwrap(),
                rows(&session, &old).await.unwrap(),
                "{new}"
            );
        }
        let title = format!(
            "SELECT value FROM array_attributes('{copy}') WHERE name = 'title' AND variable IS NULL"
        );
        assert_eq!(row(&session, &title).await.unwrap(), [json!("a copy")]);
    }
    let mut files: Vec<String> = std::fs::read_dir(folder.path().join("tas.b2d"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(
        files,
        [
            ".hyperslab",
            "__vlmeta__.b2f",
            "area.b2nd",
            "embed.b2e",
            "lat.b2nd",
            "lon.b2nd",
            "pr.b2nd",
            "tas.b2nd",
            "time.b2nd"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_dataset_grows() {
    let folder = tempfile::tempdir().unwrap();
    let cube = folder.path().join("cube.b2d");
    let cube = cube.to_str().unwrap();
    let session = session();
    let copy = format!(
        "COPY (SELECT * FROM (VALUES (2, 'b', 2.25, 4), (1, 'b', 1.25, 2), (2, 'a', NULL, 3), (1, 'a', 1.0, 1)) \
         AS v(step, place, value, n)) TO '{cube}' OPTIONS (dims 'step,place', chunks '2,1', codec 'blosc:lz4:9:bitshuffle', \
         'value.dtype' 'int16', 'value.scale_factor' '0.25', 'n.attr.units' 'apples')"
    );
    assert_eq!(row(&session, &copy).await.unwrap(), [json!(4)]);
    let insert = format!(
        "INSERT INTO '{cube}' (step, place, value, n) VALUES (3, 'b', 9.5, 6), (3, 'a', 8.0, 5)"
    );
    assert_eq!(row(&session, &insert).await.unwrap(), [json!(2)]);
    let expected: Vec<Value> = vec![
        json!([1, "a", 1.0, 1]),
        json!([1, "b", 1.25, 2]),
        json!([2, "a", null, 3]),
        json!([2, "b", 2.25, 4]),
        json!([3, "a", 8.0, 5]),
        json!([3, "b", 9.5, 6]),
    ];
    let query = format!("SELECT step, place, value, n FROM '{cube}' ORDER BY step, place");
    assert_eq!(rows(&session, &query).await.unwrap(), expected);
    let info = format!(
        "SELECT type, units, chunks FROM array_info('{cube}') WHERE variable IN ('value', 'n') ORDER BY variable"
    );
    let info = rows(&session, &info).await.unwrap();
    assert_eq!(info[0], json!(["int64", "apples", "[2, 1]"]));
    assert_eq!(info[1], json!(["int16", null, "[2, 1]"]));
    let versions = format!("SELECT count(*) FROM array_versions('{cube}')");
    assert_eq!(row(&session, &versions).await.unwrap(), [json!(2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_array_is_a_file_whose_dimensions_are_indices() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.b2nd");
    let place = file.to_str().unwrap();
    let session = session();
    let copy = format!(
        "COPY (SELECT a, b, c FROM {GRID}) TO '{place}' OPTIONS (dims 'a,b', codec 'none', 'c.attr.units' 'K')"
    );
    assert_eq!(row(&session, &copy).await.unwrap(), [json!(4)]);
    assert!(file.is_file());
    let insert = format!("INSERT INTO '{place}' VALUES (2, 1, 6.5), (2, 0, 5.5)");
    assert_eq!(row(&session, &insert).await.unwrap(), [json!(2)]);
    let query = format!("SELECT a, b, c FROM '{place}' ORDER BY a, b");
    assert_eq!(
        rows(&session, &query).await.unwrap(),
        [
            json!([0, 0, 1.5]),
            json!([0, 1, 2.5]),
            json!([1, 0, null]),
            json!([1, 1, 4.5]),
            json!([2, 0, 5.5]),
            json!([2, 1, 6.5]),
        ]
    );
    // Where the name does not tell the format, the statement does; then it is a directory.
    let named = copy.replace(place, &format!("{place}.d"));
    let named = named.replace("OPTIONS", "STORED AS BLOSC2 OPTIONS");
    assert_eq!(row(&session, &named).await.unwrap(), [json!(4)]);
    assert!(folder.path().join("c.b2nd.d").is_dir());
    std::fs::remove_dir_all(folder.path().join("c.b2nd.d")).unwrap();
    let units = format!("SELECT units FROM array_info('{place}')");
    assert_eq!(row(&session, &units).await.unwrap(), [json!("K")]);
    let text = error(&session, &copy).await;
    assert!(text.contains("exists already"), "{text}");
    assert_eq!(left(folder.path()), ["c.b2nd"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_made_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let session = session();
    let tas = sample("tas.nc");
    let moved = GRID.replace("(0, ", "(5, ").replace("(1, ", "(6, ");
    let long = format!("'c.attr.{}' 'x'", "a".repeat(32));
    for (name, query, options, said) in [
        (
            "a.b2nd",
            format!("SELECT time, lat, lon, tas FROM '{tas}'"),
            "",
            "would be one Blosc2 array, which cannot hold the coordinates time: a location that ends in .b2d",
        ),
        (
            "b.b2nd",
            format!("SELECT * FROM {GRID}"),
            "dims 'a,b'",
            "cannot hold both c and n",
        ),
        (
            "c.b2nd",
            format!("SELECT a, b, c FROM {moved}"),
            "dims 'a,b'",
            "has the value 5 at index 0: a location that ends in .b2d",
        ),
        (
            "d.b2nd",
            format!("SELECT a, b, c FROM {GRID}"),
            "dims 'a,b', 'attr.title' 'x'",
            "cannot hold the attribute title of a dataset",
        ),
        (
            "e.b2d",
            format!("SELECT * FROM {GRID}"),
            "dims 'a,b', codec 'shuffle,zstd:3'",
            "cannot be used in a Blosc2 array",
        ),
        (
            "f.b2d",
            format!("SELECT * FROM {GRID}"),
            "dims 'a,b', chunks '100000,100000'",
            "larger than Blosc2 chunks can be",
        ),
        (
            "g.b2d",
            format!("SELECT * FROM {GRID}"),
            &*format!("dims 'a,b', {long}"),
            "its name has more than 31 bytes",
        ),
        (
            "h.b2d",
            format!("SELECT a, b, c, n AS \"n/m\" FROM {GRID}"),
            "dims 'a,b'",
            "n/m",
        ),
        (
            "i.b2d",
            format!("SELECT a, b, c, n AS \".n\" FROM {GRID}"),
            "dims 'a,b'",
            "\".n\" cannot be the name of a file",
        ),
        (
            "l.b2d",
            format!("SELECT * FROM {GRID}"),
            "dims 'a,b', zarr_format '3'",
            "zarr_format' is for Zarr, not for blosc2",
        ),
        (
            "j.b2d",
            format!("SELECT * FROM {GRID} WHERE n <> 13"),
            "dims 'a,b'",
            "a 1 has rows for 1 of 2 cells",
        ),
        (
            "k.b2nd",
            format!("SELECT a, b, n + 0.5 AS n FROM {GRID}"),
            "dims 'a,b', 'n.dtype' 'int8'",
            "10.5",
        ),
    ] {
        let place = folder.path().join(name);
        let place = place.to_str().unwrap();
        let options = match options {
            "" => String::new(),
            options => format!("OPTIONS ({options})"),
        };
        let text = error(&session, &format!("COPY ({query}) TO '{place}' {options}")).await;
        assert!(text.contains(said), "{name}: {text}");
        let text = error(&session, &format!("SELECT * FROM '{place}'")).await;
        assert!(text.contains("not"), "{text}");
    }
    // Of what would have been files there is nothing; of directories, the lock.
    assert!(
        left(folder.path())
            .iter()
            .all(|name| name.ends_with(".b2d"))
    );
}

#[tokio::test]
async fn a_copy_that_is_killed_is_there_or_not() {
    for (extension, query) in TARGETS {
        let statement = |cube: &Cube| copy(cube, extension, query);
        let Some(calls) = calls("v2", statement, CHANGES) else {
            println!("skipped: killing a COPY, because there is no strace that can trace");
            return;
        };
        let mut seen = BTreeSet::new();
        let step = if is_full() { 1 } else { 2 };
        for (call, at) in calls.iter().step_by(step) {
            let cube = Cube::new("v2");
            let sql = statement(&cube);
            let out = inject(&sql, call, &format!("signal=SIGKILL:when={at}"));
            if out.status.success() {
                continue;
            }
            let place = cube.path.with_extension(extension);
            let there = is_there(&place).await;
            if !there {
                row(&session(), &sql)
                    .await
                    .unwrap_or_else(|e| panic!("after {call} {at}: {e}"));
            }
            whole(&place, query).await;
            seen.insert(there);
        }
        assert_eq!(seen.len(), 2, "{extension}: both before and after");
    }
}

#[tokio::test]
async fn a_copy_to_a_disk_that_fails_leaves_nothing() {
    for (extension, query) in TARGETS {
        for (call, fault) in [
            ("write", "ENOSPC"),
            ("fsync", "EIO"),
            ("rename", "ENOSPC"),
            ("openat", "ENOSPC"),
        ] {
            let statement = |cube: &Cube| copy(cube, extension, query);
            let Some(calls) = calls("v2", statement, call) else {
                println!(
                    "skipped: a COPY to a full disk, because there is no strace that can trace"
                );
                return;
            };
            let step = if is_full() { 1 } else { 4 };
            for (_, at) in calls.iter().step_by(step) {
                let cube = Cube::new("v2");
                let sql = statement(&cube);
                let out = inject(&sql, call, &format!("error={fault}:when={at}"));
                let message = String::from_utf8(out.stderr).unwrap();
                let place = cube.path.with_extension(extension);
                let there = is_there(&place).await;
                if out.status.success() {
                    assert!(there, "{call} {fault} {at}");
                } else {
                    let is_decided = message.contains("is decided") || message.contains("unknown");
                    assert_eq!(there, is_decided, "{call} {fault} {at}: {message}");
                }
                if !there {
                    row(&session(), &sql)
                        .await
                        .unwrap_or_else(|e| panic!("after {call} {at}: {e}"));
                }
                whole(&place, query).await;
            }
        }
    }
}

#[tokio::test]
async fn groups_and_cells_that_nobody_writes_are_made_too() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("world.b2d");
    let place = place.to_str().unwrap();
    let variable = |path: &str, dimensions: &[&str], shape: &[u64], fill: Option<i128>| {
        let fill = fill.map(|fill| {
            let values = vec![fill];
            let element = ElementType::Int16;
            (
                "_FillValue".to_owned(),
                AttributeValue::Integers { element, values },
            )
        });
        NewVariable {
            path: path.to_owned(),
            element: ElementType::Int16,
            dimensions: dimensions.iter().map(|name| (*name).to_owned()).collect(),
            shape: shape.to_vec(),
            chunk: vec![2; shape.len()],
            shard: None,
            codecs: Codecs::Usual,
            fill: None,
            attributes: Attributes(fill.into_iter().collect()),
        }
    };
    let single = AttributeValue::Floats {
        element: ElementType::Float32,
        values: vec![0.5, 8.25],
    };
    let names = AttributeValue::Texts(vec!["a".to_owned(), "b".to_owned()]);
    let mut sst = variable("ocean/deep/sst", &["x"], &[5], Some(-5));
    sst.attributes.0.push(("range".to_owned(), single));
    let blueprint = Blueprint {
        version: None,
        groups: vec![
            NewGroup {
                path: String::new(),
                dimensions: vec![dimension("x", 5)],
                ..NewGroup::default()
            },
            NewGroup {
                path: "ocean".to_owned(),
                attributes: Attributes(vec![("names".to_owned(), names)]),
                dimensions: vec![dimension("y", 3)],
            },
        ],
        variables: vec![
            variable("depth", &["x"], &[5], None),
            variable("ocean/ice", &["y", "x"], &[3, 5], Some(7)),
            sst,
        ],
    };
    let target = Target::new(Store::open(place).unwrap(), &Blosc2);
    let options = AppendOptions::default();
    let mut new = target
        .create(&blueprint, IfExists::Refuse, options)
        .await
        .unwrap();
    let region = |variable: &str, start: &[u64], shape: &[u64], cells: &[i16]| Region {
        variable: variable.to_owned(),
        start: start.to_vec(),
        shape: shape.to_vec(),
        cells: cells.iter().flat_map(|cell| cell.to_le_bytes()).collect(),
        old: OldCells::Kept,
    };
    // The later chunks first, one of them twice, the others never.
    for region in [
        region("ocean/deep/sst", &[4], &[1], &[44]),
        region("ocean/deep/sst", &[0], &[2], &[1, 1]),
        region("ocean/deep/sst", &[0], &[2], &[40, 41]),
        region("ocean/ice", &[2, 0], &[1, 2], &[20, 21]),
    ] {
        new.write(region).await.unwrap();
    }
    assert!(
        error(&session(), &format!("SELECT * FROM '{place}'"))
            .await
            .contains("not")
    );
    new.commit("create").await.unwrap();
    let session = session();
    for (table, expected) in [
        ("depth", json!([0, 0, 0, 0, 0])),
        ("\"ocean/deep/sst\"", json!([40, 41, null, null, 44])),
    ] {
        let query = format!("SELECT * FROM '{place}'.{table} ORDER BY x");
        let cells: Vec<Value> = rows(&session, &query)
            .await
            .unwrap()
            .iter()
            .map(|row| row[1].clone())
            .collect();
        assert_eq!(Value::Array(cells), expected);
    }
    let query =
        format!("SELECT y, x, ice FROM '{place}'.\"ocean/ice\" WHERE ice IS NOT NULL ORDER BY x");
    assert_eq!(
        rows(&session, &query).await.unwrap(),
        [json!([2, 0, 20]), json!([2, 1, 21])]
    );
    let attributes = format!(
        "SELECT name, type, value FROM array_attributes('{place}') WHERE name IN ('names', 'range') ORDER BY name"
    );
    assert_eq!(
        rows(&session, &attributes).await.unwrap(),
        [
            json!(["names", "string", "a, b"]),
            json!(["range", "float32", "0.5, 8.25"])
        ]
    );
}

fn dimension(name: &str, length: u64) -> Dimension {
    Dimension {
        name: name.to_owned(),
        length,
        unlimited: false,
    }
}

/// A directory of several arrays, and one array.
const TARGETS: [(&str, &str); 2] = [
    ("b2d", "SELECT * FROM '$'"),
    (
        "b2nd",
        "SELECT n, k, v FROM (SELECT CAST(tas AS BIGINT) / 5 AS n, CAST(tas AS BIGINT) % 5 AS k, tas AS v FROM '$')",
    ),
];

fn copy(cube: &Cube, extension: &str, query: &str) -> String {
    let query = query.replace('$', &cube.to_string());
    let place = cube.path.with_extension(extension);
    let options = match extension {
        "b2nd" => "OPTIONS (dims 'n,k')",
        _ => "",
    };
    format!("COPY ({query}) TO '{}' {options}", place.display())
}

/// Whether there is a dataset; if there is not, nothing is found.
async fn is_there(place: &Path) -> bool {
    match row(
        &session(),
        &format!("SELECT count(*) FROM '{}'", place.display()),
    )
    .await
    {
        Ok(count) => {
            assert_eq!(count, [json!(120)]);
            true
        }
        Err(error) => {
            let text = hyperslab::session::sentence(&error);
            assert!(text.contains("not") || text.contains("no "), "{text}");
            false
        }
    }
}

/// Checks all cells, and that the next writer extends them and leaves nothing else there.
async fn whole(place: &Path, query: &str) {
    let location = place.to_str().unwrap();
    let is_single = query.contains("AS v");
    let next = if is_single {
        format!(
            "INSERT INTO '{location}' VALUES (24, 0, 120), (24, 1, 121), (24, 2, 122), (24, 3, 123), (24, 4, 124)"
        )
    } else {
        slices(location, 6, 1)
    };
    for (cells, then) in [
        (120, Some(&next)),
        (if is_single { 125 } else { 140 }, None),
    ] {
        if is_single {
            let query = format!("SELECT n, k, cube FROM '{location}' ORDER BY n, k");
            let expected: Vec<Value> = (0..cells)
                .map(|k| json!([k / 5, k % 5, f64::from(k)]))
                .collect();
            assert_eq!(rows(&session(), &query).await.unwrap(), expected);
        } else {
            let expected: Vec<Value> = (0..cells).map(expected).collect();
            assert_eq!(content(location).await, expected);
        }
        if let Some(next) = then {
            row(&session(), next).await.unwrap();
        }
    }
    let left = left(place.parent().unwrap());
    let name = place.file_name().unwrap().to_str().unwrap();
    let is_known = |left: &String| [name, "cube.zarr", "cube.trace"].contains(&left.as_str());
    assert!(left.iter().all(is_known), "{left:?}");
}

/// What is in a folder, but for locks.
fn left(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names
        .filter(|name| !name.ends_with(".hyperslab-lock"))
        .collect();
    names.sort();
    names
}
