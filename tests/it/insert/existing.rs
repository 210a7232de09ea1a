//! Slices that are there already, and cells and variables that a statement leaves out.

use serde_json::{Value, json};

use super::{Cube, content, error, expected, more, set};
use crate::common::{row, session};

#[tokio::test]
async fn a_slice_that_is_there_is_an_error_by_default() {
    let cube = Cube::new("v2");
    let session = session();
    let before = cube.files();
    let refused = error(
        &session,
        &format!("INSERT INTO '{cube}' SELECT * FROM '{cube}'"),
    )
    .await;
    assert!(
        refused.contains("time 2000-01-01T00:00:00 is there already"),
        "{refused}"
    );
    assert_eq!(cube.files(), before);
}

#[tokio::test]
async fn slices_that_are_there_can_be_skipped() {
    for name in ["v2", "v3_sharded"] {
        let cube = Cube::new(name);
        let session = session();
        set(&session, "insert_existing", "skip").await;
        let both = format!(
            "INSERT INTO '{cube}' SELECT time, lat, lon, area, pr, tas + 1000 FROM '{cube}' WHERE time > '2000-01-03' \
             UNION ALL SELECT * FROM '{}'",
            more()
        );
        assert_eq!(row(&session, &both).await.unwrap(), [json!(60)]);
        cube.check(9).await;
        let again = format!("INSERT INTO '{cube}' SELECT * FROM '{}'", more());
        assert_eq!(row(&session, &again).await.unwrap(), [json!(0)]);
        cube.check(9).await;
    }
}

#[tokio::test]
async fn columns_find_their_variables_by_name() {
    let cube = Cube::new("v2");
    let session = session();
    // By position, values would go to other variables, whose types they fit.
    let sql = format!(
        "INSERT INTO '{cube}' BY NAME SELECT tas, pr, area, lon, lat, time FROM '{}'",
        more()
    );
    assert_eq!(row(&session, &sql).await.unwrap(), [json!(60)]);
    cube.check(9).await;
    let before = cube.files();
    for (query, complaint) in [
        ("SELECT 1 AS nothing", "nothing"),
        ("SELECT tas FROM 'not_there.zarr'", "not_there.zarr"),
    ] {
        let refused = error(&session, &format!("INSERT INTO '{cube}' BY NAME {query}")).await;
        assert!(refused.contains(complaint), "{refused}");
    }
    assert_eq!(cube.files(), before);
}

#[tokio::test]
async fn cells_that_are_there_can_be_replaced() {
    for (name, by) in [
        ("v2", "INSERT"),
        ("v2_plain", "REPLACE"),
        ("v3_plain", "REPLACE"),
        ("v3_sharded", "REPLACE"),
    ] {
        let cube = Cube::new(name);
        let session = session();
        if by == "INSERT" {
            set(&session, "insert_existing", "replace").await;
        }
        // Some cells of two slices that are there, and all of three that are new.
        let sql = format!(
            "{by} INTO '{cube}' SELECT time, lat, lon, area, pr, tas + 1000 FROM '{cube}' \
             WHERE time BETWEEN '2000-01-04' AND '2000-01-05' AND lat > 0 UNION ALL SELECT * FROM '{}'",
            more()
        );
        assert_eq!(row(&session, &sql).await.unwrap(), [json!(80)], "{name}");
        let rows: Vec<Value> = (0..180)
            .map(|k| {
                let mut row = expected(k);
                if (3..=4).contains(&(k / 20)) && k % 20 >= 10 {
                    row[3] = json!(f64::from(k + 1000));
                }
                row
            })
            .collect();
        assert_eq!(content(&cube.to_string()).await, rows, "{name}");
    }
}

#[tokio::test]
async fn slices_that_are_there_can_be_overwritten_as_a_whole() {
    for name in ["v2", "v3_sharded"] {
        let cube = Cube::new(name);
        let session = session();
        let sql = format!(
            "INSERT OVERWRITE '{cube}' SELECT time, lat, lon, area, pr, tas + 1000 FROM '{cube}' \
             WHERE time BETWEEN '2000-01-04' AND '2000-01-05' UNION ALL SELECT * FROM '{}'",
            more()
        );
        assert_eq!(row(&session, &sql).await.unwrap(), [json!(100)], "{name}");
        let rows: Vec<Value> = (0..180)
            .map(|k| {
                let mut row = expected(k);
                if (3..=4).contains(&(k / 20)) {
                    row[3] = json!(f64::from(k + 1000));
                }
                row
            })
            .collect();
        assert_eq!(content(&cube.to_string()).await, rows, "{name}");
    }
}

#[tokio::test]
async fn cells_that_are_left_out_are_missing_only_when_asked_for() {
    for name in ["v2", "v3_sharded"] {
        let cube = Cube::new(name);
        let session = session();
        let before = cube.files();
        let sql = format!(
            "INSERT INTO '{cube}' SELECT * FROM '{}' WHERE tas <> 147",
            more()
        );
        let refused = error(&session, &sql).await;
        assert!(
            refused.contains("time 2000-01-08T00:00:00 has rows for 19 of 20 cells, the first without one is, lat -20.0, lon 20.0"),
            "{refused}"
        );
        assert_eq!(cube.files(), before);
        set(&session, "insert_missing", "fill").await;
        assert_eq!(row(&session, &sql).await.unwrap(), [json!(59)]);
        let rows: Vec<Value> = (0..180)
            .map(|k| {
                let mut row = expected(k);
                if k == 147 {
                    row[3] = Value::Null;
                    row[4] = Value::Null;
                }
                row
            })
            .collect();
        assert_eq!(content(&cube.to_string()).await, rows);
    }
}

#[tokio::test]
async fn variables_that_are_left_out_are_missing_only_when_asked_for() {
    let cube = Cube::new("v3");
    let session = session();
    let sql = format!(
        "INSERT INTO '{cube}' (time, lat, lon, tas) SELECT time, lat, lon, tas FROM '{}'",
        more()
    );
    let refused = error(&session, &sql).await;
    assert!(
        refused.contains("pr grows with time, but the statement gives it no values"),
        "{refused}"
    );
    set(&session, "insert_missing", "fill").await;
    assert_eq!(row(&session, &sql).await.unwrap(), [json!(60)]);
    let rows: Vec<Value> = (0..180)
        .map(|k| {
            let mut row = expected(k);
            if k >= 120 {
                row[4] = Value::Null;
            }
            row
        })
        .collect();
    assert_eq!(content(&cube.to_string()).await, rows);
}
