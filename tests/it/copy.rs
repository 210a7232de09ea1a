//! `COPY TO` a dataset: what a query gives is what the dataset holds.

use serde_json::{Value, json};

use crate::common::{error, row, rows, sample, session};

/// The rows of both queries, ordered, as text.
async fn same(new: &str, old: &str) {
    let session = session();
    let (new, old) = (
        rows(&session, new).await.unwrap(),
        rows(&session, old).await.unwrap(),
    );
    assert_eq!(new.len(), old.len());
    for (new, old) in new.iter().zip(&old) {
        assert_eq!(new, old);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dataset_is_copied_with_its_dimensions_and_attributes() {
    for (source, order) in [("tas.nc", "time, lat, lon"), ("ocean.nc", "time, y, x")] {
        for version in ["2", "3"] {
            let folder = tempfile::tempdir().unwrap();
            let copy = folder.path().join("copy.zarr");
            let (copy, source) = (copy.to_str().unwrap(), sample(source));
            let session = session();
            let cells = row(&session, &format!("SELECT count(*) FROM '{source}'"))
                .await
                .unwrap();
            let statement = format!(
                "COPY (SELECT * FROM '{source}') TO '{copy}' OPTIONS (zarr_format '{version}')"
            );
            let copied = row(&session, &statement);
            assert_eq!(copied.await.unwrap(), cells);
            // A part of the rows is enough, since a row out of place would show in each.
            let columns = columns(&session, &source).await;
            let query = |table: &str| {
                format!(
                    "SELECT {columns} FROM '{table}' WHERE {} ORDER BY {order}",
                    "month(time) = 3"
                )
            };
            same(&query(copy), &query(&source)).await;
            let attributes = |table: &str| {
                format!(
                    "SELECT variable, name, value FROM array_attributes('{table}') \
                     WHERE name IN ('standard_name', 'long_name', 'calendar') OR name = 'units' ORDER BY 1, 2"
                )
            };
            same(&attributes(copy), &attributes(&source)).await;
            let dimensions = |table: &str| {
                format!(
                    "SELECT variable, dimensions FROM array_info('{table}') WHERE variable NOT IN ('x', 'y') ORDER BY 1"
                )
            };
            same(&dimensions(copy), &dimensions(&source)).await;
        }
    }
}

/// The columns of a table in alphabetical order.
async fn columns(session: &hyperslab::Session, table: &str) -> String {
    let mut names: Vec<String> = rows(session, &format!("DESCRIBE '{table}'"))
        .await
        .unwrap()
        .iter()
        .map(|row| format!("\"{}\"", row[0].as_str().unwrap()))
        .collect();
    names.sort();
    names.join(", ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_without_order_become_a_grid_that_can_grow() {
    let folder = tempfile::tempdir().unwrap();
    let cube = folder.path().join("cube.zarr");
    let cube = cube.to_str().unwrap();
    let session = session();
    let copy = format!(
        "COPY (SELECT * FROM (VALUES (2, 'b', 2.25, 4), (1, 'b', 1.25, 2), (2, 'a', NULL, 3), (1, 'a', 1.0, 1)) \
         AS v(step, place, value, n)) TO '{cube}' \
         OPTIONS (dims 'step,place', 'value.dtype' 'int16', 'value.scale_factor' '0.25', 'n.attr.units' 'apples')"
    );
    assert_eq!(row(&session, &copy).await.unwrap(), [json!(4)]);
    let expected: Vec<Value> = vec![
        json!([1, "a", 1.0, 1]),
        json!([1, "b", 1.25, 2]),
        json!([2, "a", null, 3]),
        json!([2, "b", 2.25, 4]),
    ];
    let query = format!("SELECT step, place, value, n FROM '{cube}' ORDER BY step, place");
    assert_eq!(rows(&session, &query).await.unwrap(), expected);
    let info = format!(
        "SELECT type, units FROM array_info('{cube}') WHERE variable IN ('value', 'n') ORDER BY variable"
    );
    assert_eq!(
        rows(&session, &info).await.unwrap(),
        [json!(["int64", "apples"]), json!(["int16", null])]
    );
    let insert = format!(
        "INSERT INTO '{cube}' (step, place, value, n) VALUES (3, 'b', 9.5, 6), (3, 'a', 8.0, 5)"
    );
    assert_eq!(row(&session, &insert).await.unwrap(), [json!(2)]);
    let last = format!("{query} LIMIT 2 OFFSET 4");
    assert_eq!(
        rows(&session, &last).await.unwrap(),
        [json!([3, "a", 8.0, 5]), json!([3, "b", 9.5, 6])]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_copied_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let session = session();
    let grid = "(VALUES (1, 1, 1.5), (1, 2, 2.5), (2, 1, 3.5), (2, 2, 4.5)) AS v(a, b, c)";
    for (name, query, options, said) in [
        (
            "a",
            grid,
            "",
            "it is not known which columns are dimensions",
        ),
        (
            "b",
            grid,
            "(dims 'a,x')",
            "dims names x, which is no column",
        ),
        (
            "c",
            grid,
            "(dims 'a,b', chunks '2')",
            "chunks [2] are not 2 extents",
        ),
        (
            "d",
            grid,
            "(dims 'a,b', codec 'zip')",
            "codec 'zip' is none of",
        ),
        (
            "e",
            grid,
            "(dims 'a,b', colour 'red')",
            "option 'colour' is unknown",
        ),
        (
            "f",
            grid,
            "(dims 'a,b', 'd.dtype' 'int8')",
            "the column d, which is not there",
        ),
        ("g", grid, "(dims 'a,b', 'c.dtype' 'int8')", "1.5"),
        ("h", grid, "(dims 'a')", "two rows are for one cell: a 1"),
        (
            "i",
            "(VALUES (1, 1, 1.5), (1, 2, 2.5), (2, 1, 3.5)) AS v(a, b, c)",
            "(dims 'a,b')",
            "a 2 has rows for 1 of 2 cells, the first without one is, b 2",
        ),
        (
            "j",
            "(VALUES (1, 1, 1.5), (2, 2, 2.5)) AS v(a, b, c)",
            "(dims 'a,b')",
            "2 is not one of the values of b",
        ),
        (
            "k",
            "(VALUES (CAST(NULL AS INT), 1.5)) AS v(a, c)",
            "(dims 'a')",
            "a row has no value of a",
        ),
    ] {
        let place = path(&format!("{name}.zarr"));
        let options = if options.is_empty() {
            String::new()
        } else {
            format!("OPTIONS {options}")
        };
        let copy = format!("COPY (SELECT * FROM {query}) TO '{place}' {options}");
        let text = error(&session, &copy).await;
        assert!(text.contains(said), "{copy}\n{text}");
        let text = error(&session, &format!("SELECT * FROM '{place}'")).await;
        assert!(text.contains("not"), "{text}");
    }
    let place = path("twice.zarr");
    let copy = format!("COPY (SELECT * FROM {grid}) TO '{place}' OPTIONS (dims 'a,b')");
    assert_eq!(row(&session, &copy).await.unwrap(), [json!(4)]);
    let text = error(&session, &copy).await;
    assert!(text.contains("exists already"), "{text}");
    let text = error(&session, &copy.replace(&place, &path("none/x.zarr"))).await;
    assert!(text.contains("does not exist"), "{text}");
}
