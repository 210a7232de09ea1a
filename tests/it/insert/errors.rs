//! Rows that cannot be inserted: what the error says, and that the dataset is byte for byte what it was.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::{Cube, error, files, fixture, more, set};
use crate::common::{row, session};

/// Statements (`{t}` is the cube, `{m}` its next slices) and what their errors have to say.
const WRONG: &[(&str, &str)] = &[
    (
        "INSERT INTO {t} SELECT time, lat + 1, lon, area, pr, tas FROM {m}",
        "-59.0 is not one of the values of lat, which does not grow",
    ),
    (
        "INSERT INTO {t} SELECT * FROM {m} UNION ALL SELECT * FROM {m} WHERE tas = 121",
        "two rows are for one cell: time 2000-01-07T00:00:00, lat -60.0, lon 10.0",
    ),
    (
        "INSERT INTO {t} SELECT * FROM {m} UNION ALL SELECT * FROM {m} WHERE tas = 179",
        "two rows are for one cell: time 2000-01-09T00:00:00, lat 60.0, lon 40.0",
    ),
    (
        "INSERT INTO {t} SELECT time - INTERVAL '100 days', lat, lon, area, pr, tas FROM {m}",
        "does not come after 2000-01-06T00:00:00, which is the last one there",
    ),
    (
        "INSERT INTO {t} SELECT CASE WHEN tas = 130 THEN NULL ELSE time END, lat, lon, area, pr, tas FROM {m}",
        "a row has no value of time",
    ),
    (
        "INSERT INTO {t} SELECT time, CASE WHEN tas = 130 THEN NULL ELSE lat END, lon, area, pr, tas FROM {m}",
        "a row has no value of lat",
    ),
    (
        "INSERT INTO {t} SELECT time, lat, lon, area, pr + 100000, tas FROM {m}",
        "pr",
    ),
    (
        "INSERT INTO {t} SELECT time, lat, lon, area, 'wet', tas FROM {m}",
        "wet",
    ),
    (
        "INSERT INTO {t} (time, lat, lon, tas, rain) SELECT time, lat, lon, tas, pr FROM {m}",
        "rain",
    ),
    (
        "INSERT INTO {t} (lat, lon, tas, pr) SELECT lat, lon, tas, pr FROM {m} LIMIT 20",
        "time",
    ),
    (
        "INSERT OVERWRITE {t} SELECT * FROM {t} WHERE time = '2000-01-04' AND lat > 0",
        "time 2000-01-04T00:00:00 has rows for 10 of 20 cells",
    ),
    (
        "INSERT INTO {t}.area SELECT lat + 100, lon, area FROM {t}.area",
        "pr grows with lat, but the statement gives it no values",
    ),
];

#[tokio::test]
async fn rows_without_a_place_change_nothing() {
    for name in ["v2", "v3_plain", "v3_sharded"] {
        let cube = Cube::new(name);
        let before = cube.files();
        let session = session();
        for (sql, says) in WRONG {
            let sql = sql
                .replace("{t}", &format!("'{cube}'"))
                .replace("{m}", &format!("'{}'", more()));
            let refused = error(&session, &sql).await;
            assert!(refused.contains(says), "{sql}: {refused}");
            assert_eq!(refused.lines().count(), 1, "{refused}");
            assert!(cube.files() == before, "{sql} changed {name}");
        }
        cube.append(&session, 6, 3).await.unwrap();
        cube.check(9).await;
    }
}

#[tokio::test]
async fn what_was_written_before_the_error_is_removed() {
    // The last of many rows has no place, when many chunks have been written.
    for name in ["v2", "v3_plain", "v3_sharded"] {
        let cube = Cube::new(name);
        let before = cube.files();
        let sql = super::slices(&cube.to_string(), 6, 50);
        let (rows, _) = sql.rsplit_once(", (").unwrap();
        let sql = format!("{rows}, (TIMESTAMP '{}', -1.0, 0, 0, 0)", super::day(55));
        let session = session();
        let small = session
            .sql("SET datafusion.execution.batch_size = 20")
            .await;
        small.unwrap().collect().await.unwrap();
        let Err(refused) = row(&session, &sql).await else {
            panic!("{name}");
        };
        let refused = refused.to_string();
        assert!(
            refused.contains("-1.0 is not one of the values of lat"),
            "{refused}"
        );
        assert!(cube.files() == before, "{name}");
        assert!(!left_over(&cube), "{name}");
    }
}

#[tokio::test]
async fn an_index_leaves_no_gap() {
    let cube = Cube::new("bare");
    let before = cube.files();
    let session = session();
    for (n, says) in [
        ("6", "n 6 leaves a gap: the next index is 5"),
        ("-1", "n -1 leaves a gap"),
        ("4", "n 4 is there already"),
    ] {
        let sql = format!("INSERT INTO '{cube}' VALUES ({n}, 0, 1), ({n}, 1, 1), ({n}, 2, 1)");
        let refused = error(&session, &sql).await;
        assert!(refused.contains(says), "{refused}");
        assert_eq!(cube.files(), before);
    }
    let sql = format!("INSERT INTO '{cube}' VALUES (5, 3, 1)");
    let refused = error(&session, &sql).await;
    assert!(
        refused.contains("3 is not one of the values of k"),
        "{refused}"
    );
    assert_eq!(cube.files(), before);
}

#[tokio::test]
async fn a_lock_of_another_program_is_respected() {
    let cube = Cube::new("v2");
    let before = cube.files();
    let lock = cube.path.with_extension("zarr.lock");
    std::fs::write(&lock, "").unwrap();
    let session = session();
    let refused = cube.append(&session, 6, 3).await.unwrap_err().to_string();
    assert!(
        refused.contains("is locked by another program, whose lock is"),
        "{refused}"
    );
    assert!(refused.contains(lock.to_str().unwrap()), "{refused}");
    assert_eq!(cube.files(), before);
    std::fs::remove_file(lock).unwrap();
    cube.append(&session, 6, 3).await.unwrap();
    cube.check(9).await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let cube = Cube::new("v2");
    let before = cube.files();
    let allow =
        |mode| std::fs::set_permissions(&cube.path, std::fs::Permissions::from_mode(mode)).unwrap();
    allow(0o555);
    if std::fs::create_dir(cube.path.join("probe")).is_ok() {
        println!(
            "skipped: a_directory_that_cannot_be_written_is_named: this user may write everywhere"
        );
        return;
    }
    let refused = cube.append(&session(), 6, 3).await.unwrap_err().to_string();
    allow(0o755);
    assert!(
        refused.contains(&format!("{cube} cannot be written: Permission denied")),
        "{refused}"
    );
    assert_eq!(cube.files(), before);
}

#[tokio::test]
async fn metadata_that_contradicts_itself_is_no_base() {
    let cube = Cube::new("v2");
    // As another program leaves it that appends without consolidating the metadata.
    let own = cube.path.join("tas/.zarray");
    let text = std::fs::read_to_string(&own).unwrap();
    std::fs::write(&own, text.replacen('6', "7", 1)).unwrap();
    let before = cube.files();
    let refused = cube.append(&session(), 6, 3).await.unwrap_err().to_string();
    assert!(
        refused.contains(
            "tas has the shape [6,4,5] in the consolidated metadata, but [7,4,5] in its own"
        ),
        "{refused}"
    );
    assert!(cube.files() == before);
}

#[tokio::test]
async fn settings_have_to_be_known() {
    let cube = Cube::new("v2");
    let session = session();
    for (name, known) in [
        ("insert_existing", "error, skip, replace"),
        ("insert_missing", "error, fill"),
    ] {
        let was = row(&session, &format!("SHOW hyperslab.{name}"))
            .await
            .unwrap()[1]
            .clone();
        set(&session, name, "perhaps").await;
        let refused = cube.append(&session, 6, 1).await.unwrap_err().to_string();
        assert!(
            refused.contains(&format!(
                "hyperslab.{name} is 'perhaps', but has to be one of {known}"
            )),
            "{refused}"
        );
        set(&session, name, was.as_str().unwrap()).await;
    }
    cube.append(&session, 6, 1).await.unwrap();
}

#[tokio::test]
async fn formats_that_cannot_be_written_say_so() {
    let session = session();
    let sql = format!(
        "INSERT INTO '{}' SELECT * FROM '{}'",
        crate::common::little("little.b2d"),
        fixture("more")
    );
    let refused = error(&session, &sql).await;
    assert!(!refused.is_empty());
    assert_eq!(row(&session, "SELECT 1").await.unwrap(), [json!(1)]);
}

/// Whether there is anything that an aborted transaction has put aside.
fn left_over(cube: &Cube) -> bool {
    ["tmp", "aside"].iter().any(|place| {
        let place = cube.path.join(".hyperslab").join(place);
        place.is_dir() && !files(&place).is_empty()
    })
}

#[tokio::test]
async fn a_part_of_a_hierarchy_is_not_changed_on_its_own() {
    let cube = Cube::new("v2");
    let before = files(&cube.path);
    let text = error(
        &session(),
        &format!("INSERT INTO '{cube}/tas' VALUES (6, 0, 0, 1.0)"),
    )
    .await;
    assert!(
        text.contains("/tas is a part of") && text.contains("as a whole"),
        "{text}"
    );
    let tas = files(&cube.path);
    let foreign =
        |path: &&(std::path::PathBuf, Vec<u8>)| !path.0.to_string_lossy().contains(".hyperslab");
    assert!(tas.iter().filter(foreign).eq(before.iter().filter(foreign)));
}

#[tokio::test]
async fn a_journal_moves_nothing_from_or_to_elsewhere() {
    for (from, to) in [
        (".hyperslab/aside/x", "../outside"),
        (".hyperslab/aside/x", "/tmp/hyperslab-outside"),
        (".hyperslab/aside/../../../x", "tas/0.0.0"),
        ("../x", "tas/0.0.0"),
        ("tas/0.0.0", "tas/1.0.0"),
    ] {
        let cube = Cube::new("v2");
        let private = cube.path.join(".hyperslab/aside");
        std::fs::create_dir_all(&private).unwrap();
        std::fs::write(private.join("x"), "from elsewhere").unwrap();
        let journal = serde_json::json!({ "moves": [[from, to]] });
        std::fs::write(
            cube.path.join(".hyperslab/commit"),
            serde_json::to_vec(&journal).unwrap(),
        )
        .unwrap();
        let text = error(&session(), &format!("SELECT count(*) FROM '{cube}'")).await;
        assert!(text.contains("the journal is damaged: it moves"), "{text}");
        assert!(!cube.path.join("../outside").exists());
        assert!(private.join("x").exists());
    }
}
