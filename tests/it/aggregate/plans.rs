//! EXPLAIN says how an aggregate is computed, and why not better; every switch changes it.

use super::with;
use crate::common::{analyze, explain, little, rows, sample, session};

/// The plan of a statement about the little world or the sample with some settings.
async fn plan(sql: &str, settings: &[&str]) -> String {
    let session = with(settings).await;
    let sql = sql
        .replace("{tas}", &sample("tas.nc"))
        .replace("{ocean}", &sample("ocean.nc"))
        .replace("{numbers}", &little("reductions.nc"));
    explain(&session, &format!("EXPLAIN {sql}")).await
}

/// A counter of EXPLAIN ANALYZE.
fn chunks(plan: &str, name: &str) -> u64 {
    let from = plan.find(&format!("{name}=")).unwrap() + name.len() + 1;
    let value = plan[from..].split([',', ']']).next().unwrap();
    value.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_names_its_tier_or_the_reason() {
    for (sql, words) in [
        (
            "SELECT lat, avg(tas), stddev(tas), count(*) FROM '{tas}' GROUP BY lat",
            vec!["mode=final, tier=dense", "chunks=1095/1095", "lat@1: 16]"],
        ),
        (
            "SELECT month(time), lat, avg(tas) FROM '{tas}' WHERE month(time) < 3 GROUP BY 1, 2",
            vec!["tier=dense", "chunks=177/1095", ": 2, lat@1: 16]"],
        ),
        (
            "SELECT avg(tas * area), max(area) FROM '{tas}'",
            vec!["tier=dense", "keys=[]"],
        ),
        (
            "SELECT lat, count(*), avg(tas) FROM '{tas}' WHERE tas > 300 GROUP BY lat",
            vec!["tier=dense", "tas"],
        ),
        (
            "SELECT lat, median(tas) FROM '{tas}' GROUP BY lat",
            vec!["mode=final, tier=grouped", "no dense kernel for median"],
        ),
        (
            "SELECT sum(tas * pr) FROM '{tas}'",
            vec!["tier=blocks", "is evaluated block by block"],
        ),
        (
            "SELECT avg(tas) FILTER (WHERE lat > 0) FROM '{tas}'",
            vec!["tier=blocks", "FILTER (WHERE"],
        ),
        (
            "SELECT avg(tas) FROM '{tas}' WHERE pr > 1",
            vec!["tier=blocks", "a predicate on another variable"],
        ),
        (
            "SELECT avg(tas) FROM '{tas}' WHERE tas <> 280",
            vec!["tier=blocks", "not a range of one variable"],
        ),
        (
            "SELECT avg(double * weight) FROM '{numbers}'",
            vec!["tier=blocks", "is not reduced as it is stored"],
        ),
        (
            "SELECT tas, count(*) FROM '{tas}' GROUP BY tas",
            vec![
                "mode=Partial",
                "not reduced: GROUP BY tas",
                "depends on data",
            ],
        ),
        (
            "SELECT lat, lon, avg(tas) FROM '{tas}' GROUP BY ROLLUP (lat, lon)",
            vec!["mode=Partial", "not reduced: grouping sets"],
        ),
        (
            "SELECT first_value(tas ORDER BY time) FROM '{tas}'",
            vec!["not reduced", "depends on the order of rows"],
        ),
    ] {
        let plan = plan(sql, &[]).await;
        for word in words {
            assert!(plan.contains(word), "{word} is not in\n{plan}");
        }
    }
}

/// A key that has one value, or by which the rows come sorted, is NULL in some of the sets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grouping_sets_have_each_group_once() {
    let tas = little("little.nc");
    let count = |keys: &str, which: &str, by: &str| {
        format!("SELECT {keys}, count(tas) AS n FROM '{tas}' WHERE {which} {by}")
    };
    for which in [
        "lon = 0",
        "lat = 50",
        "time < '2003-02-01'",
        "lon = 0 AND lat < 0",
    ] {
        // The sets one by one.
        let mut want = Vec::new();
        for (keys, by) in [
            ("lat, lon", "GROUP BY lat, lon"),
            ("lat, CAST(NULL AS DOUBLE) AS lon", "GROUP BY lat"),
            (
                "CAST(NULL AS DOUBLE) AS lat, CAST(NULL AS DOUBLE) AS lon",
                "",
            ),
        ] {
            want.extend(rows(&session(), &count(keys, which, by)).await.unwrap());
        }
        let rollup = count("lat, lon", which, "GROUP BY ROLLUP (lat, lon)");
        for batch in [1, 3, 100] {
            let session = session();
            let setting = format!("SET datafusion.execution.batch_size = {batch}");
            session.sql(&setting).await.unwrap();
            let mut got = rows(&session, &rollup).await.unwrap();
            for rows in [&mut got, &mut want] {
                rows.sort_by_key(ToString::to_string);
            }
            assert_eq!(got, want, "{which}, {batch}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_of_the_grid_is_not_read() {
    // Integers without a missing value, and what is on fewer dimensions.
    for sql in [
        "SELECT lat, count(*) FROM '{tas}' WHERE lat > 0 OR lon < 90 GROUP BY lat",
        "SELECT z % 2, count(u1), count(i1) FROM '{numbers}' WHERE y > 2 GROUP BY 1",
        "SELECT y, count(u1), count(weight), sum(weight), max(weight) FROM '{numbers}' GROUP BY y",
        "SELECT lat, sum(area), count(*), avg(cos(radians(lat))) FROM '{tas}' GROUP BY lat",
    ] {
        let plan = plan(sql, &[]).await;
        assert!(plan.contains("tier=dense"), "{plan}");
        let chunks = plan.split("chunks=").nth(1).unwrap();
        assert!(chunks.starts_with("0/"), "{plan}");
    }
    let session = with(&[]).await;
    let sql = format!(
        "SELECT y, count(u1), count(*) FROM '{}' GROUP BY y",
        little("reductions.nc")
    );
    let ran = analyze(&session, &sql).await;
    assert!(chunks(&ran, "chunks_read") == 0, "{ran}");
    let sql = format!(
        "SELECT y, count(gap) FROM '{}' GROUP BY y",
        little("reductions.nc")
    );
    let ran = analyze(&session, &sql).await;
    assert!(chunks(&ran, "chunks_read") == 18, "{ran}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_were_never_written_are_not_read() {
    let session = with(&[]).await;
    let sql = format!(
        "SELECT x, avg(unwritten), max(unwritten) FROM '{}' GROUP BY x",
        little("reductions.nc")
    );
    let ran = analyze(&session, &sql).await;
    assert!(chunks(&ran, "chunks_read") == 1, "{ran}");
    assert!(chunks(&ran, "chunks_missing") == 1, "{ran}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_switch_changes_the_plan() {
    let sql = "SELECT lat, avg(tas) FROM '{tas}' GROUP BY lat";
    for (settings, words, not) in [
        (
            vec!["hyperslab.reduce_mode = off"],
            vec!["AggregateExec: mode=Partial"],
            "ArrayReduceExec",
        ),
        (
            vec!["hyperslab.reduce_mode = partial"],
            vec!["AggregateExec: mode=Final", "mode=partial, tier=dense"],
            "mode=final",
        ),
        (
            vec!["hyperslab.reduce_dense = false"],
            vec!["mode=final, tier=grouped"],
            "tier=dense",
        ),
        (
            vec![
                "hyperslab.reduce_dense = false",
                "hyperslab.reduce_grouped = false",
            ],
            vec!["AggregateExec: mode=Partial", "not reduced: switched off"],
            "ArrayReduceExec",
        ),
        (
            vec!["hyperslab.reduce_grouped = false"],
            vec!["mode=final, tier=dense"],
            "AggregateExec",
        ),
    ] {
        let plan = plan(sql, &settings).await;
        for word in words {
            assert!(plan.contains(word), "{word} is not in\n{plan}");
        }
        assert!(!plan.contains(not), "{not} is in\n{plan}");
    }
    let median = "SELECT lat, median(tas) FROM '{tas}' GROUP BY lat";
    let plan = plan(median, &["hyperslab.reduce_grouped = false"]).await;
    assert!(
        plan.contains("not reduced") && plan.contains("median"),
        "{plan}"
    );
}
