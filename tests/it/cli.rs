//! The command line as a person meets it: what it prints, writes, and exits with.

use std::fs::File;
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::arrow::ipc::reader::{FileReader, StreamReader};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::common::project;

/// Three rows with a NULL and an instant.
const ROWS: &str = "SELECT * FROM (VALUES (1, 'a', TIMESTAMP '2002-01-01T12:00:00'), (2, NULL, NULL), \
                    (3, 'c,\"d', NULL)) AS t(n, s, t) ORDER BY n";

#[test]
fn a_table_shows_the_first_rows_and_counts_all() {
    let out = run(&["-c", ROWS]);
    assert_eq!(
        stdout(&out),
        r#"
+---+------+---------------------+
| n | s    | t                   |
+---+------+---------------------+
| 1 | a    | 2002-01-01T12:00:00 |
| 2 | NULL | NULL                |
| 3 | c,"d | NULL                |
+---+------+---------------------+
(3 rows)
"#
        .trim_start()
    );
    let series = "SELECT * FROM generate_series(1, 100000)";
    let last = |out: &Output| stdout(out).lines().last().unwrap().to_owned();
    assert_eq!(last(&run(&["-c", series])), "(100000 rows, 40 shown)");
    assert_eq!(
        last(&run(&["-c", series, "--max-rows", "0"])),
        "(100000 rows)"
    );
}

#[test]
fn text_formats_can_be_read_back() {
    let out = run(&["--format", "csv", "-c", ROWS]);
    assert_eq!(
        stdout(&out),
        "n,s,t\n1,a,2002-01-01T12:00:00\n2,,\n3,\"c,\"\"d\",\n"
    );
    let expected = [
        json!({"n": 1, "s": "a", "t": "2002-01-01T12:00:00"}),
        json!({"n": 2, "s": null, "t": null}),
        json!({"n": 3, "s": "c,\"d", "t": null}),
    ];
    let out = run(&["--format", "json", "-c", ROWS]);
    let array: Value = serde_json::from_str(&stdout(&out)).unwrap();
    assert_eq!(array, json!(expected));
    let out = run(&["--format", "ndjson", "-c", ROWS]);
    let lines: Vec<Value> = stdout(&out)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines, expected);
}

#[test]
fn results_without_rows_are_well_formed() {
    let nothing = "SELECT 1 AS n WHERE false";
    for (format, expected) in [("csv", "n\n"), ("json", "[]\n"), ("ndjson", "")] {
        assert_eq!(stdout(&run(&["--format", format, "-c", nothing])), expected);
    }
    let out = run(&["--format", "arrow", "-c", nothing]);
    let reader = StreamReader::try_new(Cursor::new(out.stdout), None).unwrap();
    assert_eq!(reader.schema().field(0).name(), "n");
}

#[test]
fn several_results_come_one_after_the_other() {
    let statements = "SET hyperslab.decode = true; SELECT 1 AS a; CREATE TABLE t AS SELECT 2 AS b; SELECT * FROM t";
    let out = run(&["--format", "csv", "-c", statements]);
    assert_eq!(stdout(&out), "a\n1\nb\n2\n");
    let out = run(&["--format", "json", "-c", statements]);
    assert_eq!(stdout(&out), "[{\"a\":1}]\n[{\"b\":2}]\n");
}

#[test]
fn lists_are_text_in_csv() {
    let statement = "SELECT [1, NULL] AS l UNION ALL SELECT NULL";
    let out = run(&["--format", "csv", "-c", statement]);
    let mut lines: Vec<String> = stdout(&out).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["\"\"", "\"[1, NULL]\"", "l"]);
}

#[test]
fn arrow_is_a_stream_on_standard_output_and_a_file_in_a_file() {
    let out = run(&["--format", "arrow", "-c", ROWS]);
    let stream = StreamReader::try_new(Cursor::new(out.stdout), None).unwrap();
    assert_eq!(numbers(stream.map(Result::unwrap)), [1, 2, 3]);

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rows.arrow");
    run(&["-o", text(&path), "-c", ROWS]);
    let file = FileReader::try_new(File::open(&path).unwrap(), None).unwrap();
    assert_eq!(numbers(file.map(Result::unwrap)), [1, 2, 3]);
}

#[test]
fn parquet_can_be_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rows.parquet");
    let out = run(&["-o", text(&path), "-c", ROWS]);
    assert_eq!(stdout(&out), "");
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
    let reader = builder.build().unwrap();
    assert_eq!(numbers(reader.map(Result::unwrap)), [1, 2, 3]);
    let again = format!("SELECT sum(n) AS n FROM '{}'", text(&path));
    assert_eq!(stdout(&run(&["--format", "csv", "-c", &again])), "n\n6\n");
}

#[test]
fn a_statement_that_fails_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rows.csv");
    let fails = "SELECT 10 / (value - 90000) FROM generate_series(1, 100000)";
    let out = run(&["-o", text(&path), "-c", fails]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);

    // Nor does it take away what was there.
    std::fs::write(&path, "before").unwrap();
    run(&["-o", text(&path), "-c", fails]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "before");
    run(&["-o", text(&path), "-c", "SELECT 1 AS n"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "n\n1\n");
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
}

#[test]
fn a_file_takes_one_result() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rows.csv");
    let out = run(&["-o", text(&path), "-c", "SELECT 1 AS n; SELECT 2 AS n"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("one result"), "{}", stderr(&out));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "n\n1\n");
    // What is not a regular file is written to as it is.
    assert_eq!(
        run(&["-o", "/dev/null", "--format", "csv", "-c", ROWS])
            .status
            .code(),
        Some(0)
    );
}

#[test]
fn statements_after_one_that_failed_run_unless_told_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("three.sql");
    let statements =
        "-- three\nSELECT 1 AS a;\n\nSELECT 1\n  FROM nowhere;\nSELECT ';' AS b -- the end";
    std::fs::write(&path, statements).unwrap();
    let out = run(&["--format", "csv", "-f", text(&path)]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(stdout(&out), "a\n1\nb\n;\n");
    let place = format!("error: {}:4: ", text(&path));
    assert!(stderr(&out).starts_with(&place), "{}", stderr(&out));
    assert!(stderr(&out).contains("nowhere"), "{}", stderr(&out));
    assert_eq!(stderr(&out).lines().count(), 1);

    let out = run(&["--format", "csv", "--bail", "-f", text(&path)]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(stdout(&out), "a\n1\n");
}

#[test]
fn statements_come_from_everywhere_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("two.sql");
    std::fs::write(&path, "SELECT 2 AS n").unwrap();
    let file = text(&path);
    let out = run(&[
        "--format",
        "ndjson",
        "-c",
        "SELECT 1 AS n",
        "-f",
        file,
        "-c",
        "SELECT 3 AS n",
    ]);
    assert_eq!(stdout(&out), "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
    let out = run_with("SELECT 1 AS n;\nSELECT 2 AS m", &["--format", "csv"]);
    assert_eq!(stdout(&out), "n\n1\nm\n2\n");
    assert_eq!(out.status.code(), Some(0));
}

#[test]
fn errors_are_one_sentence() {
    for (statement, error) in [
        ("SELECT 1 / 0", "error: division by zero\n"),
        (
            "SELECT * FROM nowhere",
            "error: table 'datafusion.public.nowhere' not found\n",
        ),
        (
            "SELECT a FROM (VALUES (1)) AS t(b)",
            "error: No field named a. Valid fields are t.b.\n",
        ),
    ] {
        let out = run(&["-c", statement]);
        assert_eq!(stderr(&out), error);
        assert_eq!(out.status.code(), Some(1));
    }
    let out = run(&["-c", "SELEC 1"]);
    assert!(
        stderr(&out).starts_with("error: syntax error: "),
        "{}",
        stderr(&out)
    );
}

#[test]
fn a_wrong_command_line_is_told_apart() {
    for args in [
        &["--formta", "csv"][..],
        &["--format", "xml"],
        &["-o", "rows.xyz", "-c", "SELECT 1"],
        &["--memory-limit", "much"],
        &["--threads", "0"],
        &["--register", "name"],
        &["--set", "hyperslab.nothing=1", "-c", "SELECT 1"],
        &["--set", "hyperslab.decode=perhaps", "-c", "SELECT 1"],
        &["info"],
    ] {
        let out = run(args);
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(
            stderr(&out).starts_with("error: "),
            "{args:?}: {}",
            stderr(&out)
        );
        assert_eq!(stdout(&out), "");
    }
    for args in [&["--help"], &["--version"]] {
        let out = run(args);
        assert_eq!(out.status.code(), Some(0));
        assert!(stdout(&out).contains("hyperslab") || stdout(&out).contains("Examples"));
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    for format in ["csv", "json", "ndjson", "arrow", "parquet"] {
        let statement = "SELECT value, value * 2 FROM generate_series(1, 10000000)";
        let mut child = hyperslab(&["--format", format, "-c", statement, "-c", "SELECT 1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let out = child.wait_with_output().unwrap();
        assert_eq!(stderr(&out), "", "{format}");
        assert_eq!(out.status.code(), Some(0), "{format}");
    }
}

#[test]
fn settings_names_and_timing() {
    let file = project("tests/data/little.nc");
    let register = format!("little={}", text(&file));
    let out = run(&[
        "--register",
        &register,
        "--set",
        "hyperslab.decode=false",
        "--threads",
        "1",
        "--memory-limit",
        "256MiB",
        "--format",
        "csv",
        "--timing",
        "-c",
        "SELECT time FROM little.time ORDER BY time LIMIT 1",
    ]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let value = stdout(&out).lines().last().unwrap().parse::<f64>().unwrap();
    assert!(value > 0.0);
    assert!(
        stderr(&out).trim_end().ends_with(" s, 1 rows"),
        "{}",
        stderr(&out)
    );
    let out = run(&["--register", "little=/nowhere.nc", "-c", "SELECT 1"]);
    assert_eq!(out.status.code(), Some(1));
}

#[test]
fn info_tells_what_is_in_a_dataset() {
    let file = project("tests/data/little.nc");
    let out = run(&["info", text(&file)]);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    let shown = stdout(&out);
    for part in [
        "netCDF-4",
        "a little world",
        "24  unlimited  T  2003-01-15T12:00:00 … 2004-12-15T12:00:00, every month, noleap",
        "70 … -70 degrees_north, step -20",
        "tas(time, lat, lon)",
        "24×8×12 = 2,304 cells, 12 chunks of 9×5×7",
        "_FillValue -32767, scale_factor -0.005, add_offset 9",
        "ocean: dimensions",
        "(main table)",
    ] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    let example = shown.split("\nexample\n").nth(1).unwrap().trim();
    let out = run(&["--format", "ndjson", "-c", example]);
    assert_eq!(stdout(&out).lines().count(), 10, "{example}");
}

#[test]
fn info_is_the_same_in_every_format_of_a_dataset() {
    for name in [
        "tests/data/little_v2.zarr",
        "tests/data/little_v3.zarr",
        "tests/data/little.b2d",
        "tests/data/little.nc",
    ] {
        let out = run(&["info", "--format", "json", text(&project(name))]);
        let described: Value = serde_json::from_str(&stdout(&out)).unwrap();
        let root = &described["groups"][0];
        let named = |list: &str, key: &str, name: &str| {
            let mut found = root[list].as_array().unwrap().iter();
            found.find(|item| item[key] == name).unwrap().clone()
        };
        let time = named("dimensions", "name", "time");
        assert_eq!(time["length"], 24, "{name}");
        assert_eq!(time["coordinate"]["first"], "2003-01-15T12:00:00", "{name}");
        assert_eq!(time["coordinate"]["step"], "month", "{name}");
        let tas = named("variables", "path", "tas");
        assert_eq!(tas["shape"], json!([24, 8, 12]), "{name}");
        assert_eq!(tas["decoded_bytes"], 9216, "{name}");
        assert_eq!(tas["role"], "data", "{name}");
        assert_eq!(described["attributes"]["title"], "a little world", "{name}");
        assert!(described["stored_bytes"].as_u64().unwrap() > 1000, "{name}");
    }
}

#[test]
fn info_goes_on_after_a_dataset_that_is_none() {
    let file = project("tests/data/little.nc");
    let out = run(&[
        "info",
        "/nowhere.nc",
        text(&file),
        text(&project("Cargo.toml")),
    ]);
    assert_eq!(out.status.code(), Some(1));
    assert!(stdout(&out).contains("a little world"));
    assert_eq!(stderr(&out).lines().count(), 2, "{}", stderr(&out));
}

fn hyperslab(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hyperslab"));
    command.args(args);
    command
}

fn run(args: &[&str]) -> Output {
    hyperslab(args).stdin(Stdio::null()).output().unwrap()
}

fn run_with(input: &str, args: &[&str]) -> Output {
    let mut child = hyperslab(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn stdout(out: &Output) -> String {
    String::from_utf8(out.stdout.clone()).unwrap()
}

fn stderr(out: &Output) -> String {
    String::from_utf8(out.stderr.clone()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The numbers of the first column.
fn numbers(batches: impl Iterator<Item = RecordBatch>) -> Vec<i64> {
    batches
        .flat_map(|batch| {
            batch
                .column(0)
                .as_primitive::<Int64Type>()
                .values()
                .to_vec()
        })
        .collect()
}
