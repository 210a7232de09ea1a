//! What the tests share: paths, sessions, and rows as JSON.

use std::path::{Path, PathBuf};
use std::process::Command;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Result;
use hyperslab::session::Session;
use serde_json::{Value, json};

/// A path below the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The path of a file of the conformance suite.
pub fn little(name: &str) -> String {
    project("tests/data")
        .join(name)
        .to_str()
        .unwrap()
        .to_owned()
}

/// The path of a file of sample data.
pub fn sample(name: &str) -> String {
    project("sql-examples/data")
        .join(name)
        .to_str()
        .unwrap()
        .to_owned()
}

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &place);
        } else {
            std::fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// Makes a certificate of this machine and its key, `NAME.pem` and `NAME.key`, with the tool of OpenSSL.
pub fn certificate(folder: &Path, name: &str) -> Result<(String, String), String> {
    let path = |end: &str| folder.join(format!("{name}.{end}"));
    let (certificate, key) = (path("pem"), path("key"));
    run(Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes"])
        .args(["-days", "2", "-subj", &format!("/CN={name}")])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate))?;
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    Ok((text(certificate), text(key)))
}

/// Runs a program to its end; the last line of its errors if it fails.
fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(out) if out.status.success() => Ok(()),
        Ok(out) => Err(String::from_utf8_lossy(&out.stderr)
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What a program writes, which has to succeed.
pub fn output(command: &mut Command) -> String {
    let out = command.output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}{errors}");
    text
}

/// Python with the packages of a list, made in `target/NAME` by the first who asks.
pub fn venv(name: &str, requirements: &str) -> Result<PathBuf, String> {
    let venv = project("target").join(name);
    let complete = venv.join("complete");
    let wanted = std::fs::read_to_string(project(requirements)).map_err(|e| e.to_string())?;
    if std::fs::read_to_string(&complete).is_ok_and(|made| made == wanted) {
        return Ok(venv);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    run(Command::new("timeout")
        .arg("300")
        .arg(venv.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(project(requirements)))?;
    std::fs::write(complete, wanted).map_err(|error| error.to_string())?;
    Ok(venv)
}

/// A session of its own for one test.
pub fn session() -> Session {
    Session::new().unwrap()
}

/// All batches of a statement.
pub async fn batches(session: &Session, sql: &str) -> Result<Vec<RecordBatch>> {
    session.sql(sql).await?.collect().await
}

/// All rows of a statement as JSON arrays: numbers as numbers, NaN and infinities as text, everything else as the text
/// it is shown as.
pub async fn rows(session: &Session, sql: &str) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    for batch in batches(session, sql).await? {
        for row in 0..batch.num_rows() {
            let cells: Vec<Value> = batch
                .columns()
                .iter()
                .map(|column| cell(column, row))
                .collect();
            rows.push(Value::Array(cells));
        }
    }
    Ok(rows)
}

/// The only row of a statement.
pub async fn row(session: &Session, sql: &str) -> Result<Vec<Value>> {
    let mut all = rows(session, sql).await?;
    assert_eq!(all.len(), 1, "{sql}");
    match all.remove(0) {
        Value::Array(cells) => Ok(cells),
        other => panic!("{other}"),
    }
}

/// The text of a statement's error.
pub async fn error(session: &Session, sql: &str) -> String {
    match batches(session, sql).await {
        Ok(_) => panic!("{sql} should fail"),
        Err(error) => hyperslab::session::sentence(&error),
    }
}

/// The physical plan of a statement, run, with its metrics.
pub async fn analyze(session: &Session, sql: &str) -> String {
    explain(session, &format!("EXPLAIN ANALYZE {sql}")).await
}

/// The text of an EXPLAIN statement.
pub async fn explain(session: &Session, sql: &str) -> String {
    let rows = rows(session, sql).await.unwrap();
    let texts: Vec<String> = rows
        .iter()
        .map(|row| row[1].as_str().unwrap().to_owned())
        .collect();
    texts.join("\n")
}

fn cell(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    let options = FormatOptions::new().with_null("");
    let text = ArrayFormatter::try_new(column, &options)
        .unwrap()
        .value(row)
        .to_string();
    match column.data_type() {
        DataType::Boolean => json!(text == "true"),
        kind @ (DataType::Float16 | DataType::Float32 | DataType::Float64) => {
            // The shortest text of a single-precision number is not that number in double precision.
            let number = match kind {
                DataType::Float64 => text.parse().unwrap(),
                _ => f64::from(text.parse::<f32>().unwrap()),
            };
            if number.is_finite() {
                json!(number)
            } else {
                json!(text)
            }
        }
        kind if kind.is_integer() => serde_json::from_str(&text).unwrap(),
        _ => json!(text),
    }
}

/// Whether two rows are the same: numbers to `tolerance` of their size, everything else exactly.
pub fn alike(left: &Value, right: &Value, tolerance: f64) -> bool {
    match (left, right) {
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(a, b)| alike(a, b, tolerance))
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            a == b || (a - b).abs() <= tolerance * a.abs().max(b.abs())
        }
        (a, b) => a == b,
    }
}
