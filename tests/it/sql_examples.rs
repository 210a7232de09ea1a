//! Every file of `sql-examples` gives the rows it promises, on the same data in every format.

use serde_json::Value;

use crate::common::{alike, project, rows, session};

/// The statement of a file, and the rows behind its `-->` lines, which a reference library computed.
fn example(text: &str) -> (String, Vec<Value>) {
    let lines = |promise: bool| {
        text.lines()
            .filter(move |line| line.starts_with("-->") == promise)
    };
    let sql: Vec<&str> = lines(false)
        .filter(|line| !line.starts_with("--"))
        .collect();
    let rows = lines(true)
        .map(|line| serde_json::from_str(line.trim_start_matches("-->")).unwrap())
        .collect();
    (sql.join("\n").trim().trim_end_matches(';').to_owned(), rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_gives_its_rows_in_every_format() {
    let mut files: Vec<_> = std::fs::read_dir(project("sql-examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .collect();
    files.sort();
    assert!(files.len() >= 6);
    let folder = project("sql-examples/data");
    let mut wrong = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(
            text.starts_with("-- "),
            "{} does not say what it is for",
            file.display()
        );
        let (sql, expected) = example(&text);
        assert!(!expected.is_empty(), "{} promises nothing", file.display());
        for (nc, other) in [
            ("tas.nc", "tas.zarr"),
            ("tas.nc", "tas.b2d"),
            ("tas.nc", "tas_classic.nc"),
            ("ocean.nc", "ocean.zarr"),
            ("ocean.nc", "ocean_64bit_offset.nc"),
            (".nc", ".nc"),
        ] {
            if !sql.contains(nc) {
                continue;
            }
            let sql = sql
                .replace("sql-examples/data", folder.to_str().unwrap())
                .replace(nc, other);
            match rows(&session(), &sql).await {
                Ok(got)
                    if alike(
                        &Value::Array(got.clone()),
                        &Value::Array(expected.clone()),
                        1e-9,
                    ) => {}
                Ok(got) => wrong.push(format!(
                    "{}: {sql}\n got  {}\n want {}",
                    file.display(),
                    Value::Array(got),
                    Value::Array(expected.clone())
                )),
                Err(error) => wrong.push(format!(
                    "{}: {sql}\n {}",
                    file.display(),
                    hyperslab::session::sentence(&error)
                )),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
