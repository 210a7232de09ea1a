//! Every file of `sql-examples` gives the rows it promises, on the same data in every format.

use serde_json::Value;

use crate::common::{alike, copy_folder, project, rows, session};

/// The statements of a file, and the rows behind its `-->` lines, which a reference library computed.
fn example(text: &str) -> (Vec<String>, Vec<Value>) {
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
    let statements = sql.join("\n");
    let statements = statements.split(';').map(str::trim);
    let statements = statements.filter(|statement| !statement.is_empty());
    (statements.map(str::to_owned).collect(), rows)
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
        let (statements, expected) = example(&text);
        let all = statements.join(";");
        if all.contains(".icechunk") && !cfg!(feature = "icechunk") {
            continue;
        }
        assert!(!expected.is_empty(), "{} promises nothing", file.display());
        for (nc, other) in [
            ("tas.nc", "tas.zarr"),
            ("tas.nc", "tas.b2d"),
            ("tas.nc", "tas_classic.nc"),
            ("ocean.nc", "ocean.zarr"),
            ("ocean.nc", "ocean_64bit_offset.nc"),
            (".nc", ".nc"),
        ] {
            if !all.contains(nc) && (nc, other) != (".nc", ".nc") {
                continue;
            }
            // What changes data works on a copy.
            let copy = tempfile::tempdir().unwrap();
            let folder = if all.contains("INSERT INTO") || all.contains("COPY (") {
                copy_folder(&folder, copy.path());
                copy.path()
            } else {
                folder.as_path()
            };
            let session = session();
            let mut last = Ok(Vec::new());
            for statement in &statements {
                let sql = statement
                    .replace("sql-examples/data", folder.to_str().unwrap())
                    .replace(nc, other);
                last = rows(&session, &sql).await;
                if last.is_err() {
                    break;
                }
            }
            let sql = &all;
            match last {
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
