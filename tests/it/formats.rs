//! The conformance suite: the same little dataset in every format, written and answered by the reference libraries.

use serde_json::Value;

use crate::common::{alike, project, rows, session};

/// Runs every statement of `expected` (made by NumPy and xarray) on every file that it names.
async fn conform(folder: &str) {
    let text = std::fs::read_to_string(project(folder).join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    let mut statements = 0;
    for set in expected["sets"].as_array().unwrap() {
        for file in set["files"].as_array().unwrap() {
            let path = project(folder).join(file.as_str().unwrap());
            for statement in set["statements"].as_array().unwrap() {
                let sql = statement["sql"].as_str().unwrap();
                let sql = sql.replace("{file}", path.to_str().unwrap());
                statements += 1;
                match rows(&session(), &sql).await {
                    Ok(got) => {
                        let got = Value::Array(got);
                        if !alike(&got, &statement["rows"], 1e-9) {
                            wrong
                                .push(format!("{sql}\n  got  {got}\n  want {}", statement["rows"]));
                        }
                    }
                    Err(error) => {
                        let error = hyperslab::session::sentence(&error);
                        wrong.push(format!("{sql}\n  error {error}"));
                    }
                }
            }
        }
    }
    assert!(statements > 0);
    assert!(
        wrong.is_empty(),
        "{} of {statements} differ\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_format_gives_the_answers_of_the_reference_libraries() {
    conform("tests/data").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_samples_give_the_answers_of_the_reference_libraries() {
    conform("sql-examples/data").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_odd_sizes_give_the_answers_of_the_reference_libraries() {
    conform("tests/data/netcdf3").await;
}
