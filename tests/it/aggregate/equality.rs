//! Random grids and random aggregates: every tier, alone and finished by the engine, gives what the engine gives on a
//! table that was built cell by cell.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyperslab::Session;
use serde_json::Value;

use super::statements::statement;
use super::with;
use crate::common::{alike, explain, little, rows, sample, session};
use crate::grids::{Case, Random};

/// Ways of computing an aggregate. The first is that of a fresh session.
const WAYS: &[&[&str]] = &[
    &[],
    &["hyperslab.reduce_mode = partial"],
    &["hyperslab.reduce_mode = off"],
    &["hyperslab.reduce_dense = false"],
    &["hyperslab.reduce_grouped = false"],
    &[
        "hyperslab.reduce_mode = partial",
        "hyperslab.reduce_dense = false",
    ],
    &["hyperslab.reduce_max_bytes = 300"],
    &[
        "hyperslab.push_planes = false",
        "hyperslab.push_index_sets = false",
        "hyperslab.tile_bytes = 100",
        "hyperslab.rechunk_bytes = 1",
    ],
];

/// Statements on every grid.
const STATEMENTS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tier_gives_the_answers_of_rows() {
    let cases: u64 = std::env::var("HYPERSLAB_RANDOM_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(48);
    let (left, right) = tokio::join!(
        tokio::spawn(run((1..=cases).step_by(2))),
        tokio::spawn(run((2..=cases).step_by(2))),
    );
    let mut all = left.unwrap();
    all.add(right.unwrap());
    println!(
        "{} comparisons, {:?}, {} errors, {} as wrong on rows",
        all.comparisons, all.tiers, all.errors, all.engine
    );
    assert!(
        all.wrong.is_empty(),
        "{} of {} statements differ\n{}",
        all.wrong.len(),
        all.statements,
        all.wrong[..all.wrong.len().min(20)].join("\n")
    );
    let per_case = all.comparisons / usize::try_from(cases).unwrap();
    assert!(per_case >= 35, "{per_case} comparisons a grid");
    // Statements of which nothing comes but an error, and tiers that are never used, test nothing.
    assert!(all.errors * 12 < all.comparisons, "{} errors", all.errors);
    assert!(
        all.engine * 50 < all.comparisons,
        "{} as wrong on rows",
        all.engine
    );
    for tier in ["dense", "blocks", "grouped", "stock"] {
        let seen = all.tiers.get(tier).copied().unwrap_or(0);
        assert!(seen * 16 > all.statements, "{:?}", all.tiers);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_predicates_leave_out_need_no_value() {
    // Each divides by zero in rows that are left out.
    for sql in [
        "SELECT 360 / CAST(lon AS INT) AS k, avg(tas) FROM '{tas}' WHERE lon * abs(lat) > 0 GROUP BY k ORDER BY k",
        "SELECT sum(360 / CAST(lon AS INT)) FROM '{tas}' WHERE lon * abs(lat) > 0",
        "SELECT sum(tas * (360 / CAST(lon AS INT))) FROM '{tas}' WHERE lon * abs(lat) > 0",
        "SELECT sum(CASE WHEN lon > 0 THEN tas * (360 / CAST(lon AS INT)) END) FROM '{tas}'",
        "SELECT y, sum(1000 / i2), median(1000 / i2) FROM '{numbers}' WHERE i2 <> 0 GROUP BY y ORDER BY y",
        "SELECT y, sum(1000 / i2) FROM '{numbers}' WHERE i2 <> 0 GROUP BY y ORDER BY y",
        "SELECT 1000 / z AS k, sum(i2) FROM '{numbers}' WHERE z * i2 > 0 GROUP BY k ORDER BY k",
    ] {
        let sql = sql
            .replace("{tas}", &sample("tas.zarr"))
            .replace("{numbers}", &little("reductions.nc"));
        let off = with(&["hyperslab.reduce_mode = off"]).await;
        let want = rows(&off, &sql).await.unwrap();
        for way in WAYS {
            let got = rows(&with(way).await, &sql).await.unwrap();
            let same = alike(&Value::Array(got), &Value::Array(want.clone()), 1e-9);
            assert!(same, "{way:?}: {sql}");
        }
    }
}

#[derive(Default)]
struct Outcome {
    statements: usize,
    comparisons: usize,
    errors: usize,
    /// Answers that the engine gives on rows too, with the same settings.
    engine: usize,
    tiers: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.statements += other.statements;
        self.comparisons += other.comparisons;
        self.errors += other.errors;
        self.engine += other.engine;
        self.wrong.extend(other.wrong);
        for (tier, count) in other.tiers {
            *self.tiers.entry(tier).or_default() += count;
        }
    }
}

async fn run(seeds: impl Iterator<Item = u64>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut sessions = Vec::new();
    for way in WAYS {
        sessions.push(with(way).await);
    }
    for seed in seeds {
        let mut random = Random::new(seed);
        let case = Case::new(&mut random, 0);
        // Extremes and ranks of NaN depend on the order of rows, so statements leave them out there.
        let nan = random.once_in(8);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("case.zarr");
        case.write(&path);
        let plain = session();
        let table = Arc::new(case.table(nan));
        plain.context().register_table("t", table).unwrap();
        for _ in 0..STATEMENTS {
            let sql = statement(&mut random, case.shape.len(), nan);
            let ours = sql.replace("{t}", &format!("'{}'", path.display()));
            for setting in [
                "datafusion.execution.batch_size = 8192",
                "datafusion.execution.target_partitions = 1",
            ] {
                plain.sql(&format!("SET {setting}")).await.unwrap();
            }
            let want = rows(&plain, &sql.replace("{t}", "t")).await;
            outcome.statements += 1;
            let mut wrong = Vec::new();
            for (way, session) in WAYS.iter().zip(&sessions) {
                let chosen = settings(session, &mut random, nan).await;
                if way.is_empty() && want.is_ok() {
                    let tier = tier(session, &ours).await;
                    *outcome.tiers.entry(tier).or_default() += 1;
                }
                outcome.comparisons += 1;
                let got = rows(session, &ours).await;
                let fine = match (&got, &want) {
                    (Ok(got), Ok(want)) => same(got, want, case.magnitude()),
                    (Err(_), Err(_)) => {
                        outcome.errors += 1;
                        true
                    }
                    (Err(error), Ok(_)) => names_both_numbers(error, way),
                    (Ok(_), Err(_)) => false,
                };
                if !fine && engine_agrees(&plain, &chosen, &sql, &got, case.magnitude()).await {
                    outcome.engine += 1;
                } else if !fine {
                    let plan = match want {
                        Ok(_) => explain(session, &format!("EXPLAIN {ours}")).await,
                        Err(_) => String::new(),
                    };
                    let plan = plan.lines().filter(|line| line.contains("Exec"));
                    let plan = plan.collect::<Vec<_>>().join("\n    ");
                    let text = |rows: datafusion::common::Result<Vec<Value>>| match rows {
                        Ok(rows) => Value::Array(rows).to_string(),
                        Err(error) => hyperslab::session::sentence(&error),
                    };
                    let want = want
                        .as_ref()
                        .map_or_else(hyperslab::session::sentence, |rows| {
                            Value::Array(rows.clone()).to_string()
                        });
                    wrong.push(format!(
                        "{way:?} {chosen:?}\n    {plan}\n  got  {}\n  want {want}",
                        text(got)
                    ));
                }
            }
            if let Some(first) = wrong.first() {
                outcome.wrong.push(format!(
                    "seed {seed}: {sql}\n  {} ways, one is {first}\n  {}",
                    wrong.len(),
                    case.describe()
                ));
            }
        }
    }
    outcome
}

/// Sizes that do not change the answer.
async fn settings(session: &Session, random: &mut Random, nan: bool) -> Vec<String> {
    let batch = random.pick(&["1", "3", "7", "100", "8192"]);
    let partitions = random.pick(&["1", "2", "7"]);
    let chosen = vec![
        format!("datafusion.execution.batch_size = {batch}"),
        format!("datafusion.execution.target_partitions = {partitions}"),
        format!("hyperslab.nan_as_null = {}", !nan),
    ];
    for setting in &chosen {
        session.sql(&format!("SET {setting}")).await.unwrap();
    }
    chosen
}

/// Whether the engine gives the same answer on rows if it has the same settings: it is not always right itself.
async fn engine_agrees(
    plain: &Session,
    chosen: &[String],
    sql: &str,
    got: &datafusion::common::Result<Vec<Value>>,
    magnitude: f64,
) -> bool {
    let Ok(got) = got else { return false };
    for setting in chosen {
        plain.sql(&format!("SET {setting}")).await.unwrap();
    }
    let engine = rows(plain, &sql.replace("{t}", "t")).await;
    engine.is_ok_and(|engine| same(got, &engine, magnitude))
}

/// How the engine computes a statement.
async fn tier(session: &Session, sql: &str) -> &'static str {
    let plan = explain(session, &format!("EXPLAIN {sql}")).await;
    if plan.contains("tier=dense") {
        "dense"
    } else if plan.contains("tier=blocks") {
        "blocks"
    } else if plan.contains("tier=grouped") {
        "grouped"
    } else {
        "stock"
    }
}

/// Whether too little memory is the problem, and the text says how much it is.
fn names_both_numbers(error: &datafusion::common::DataFusionError, way: &[&str]) -> bool {
    let text = hyperslab::session::sentence(error);
    way.contains(&"hyperslab.reduce_max_bytes = 300")
        && text.contains("hyperslab.reduce_max_bytes")
        && text.contains("300")
}

/// Whether rows are the same: floating-point numbers as well as their additions in another order can be, everything
/// else exactly.
fn same(got: &[Value], want: &[Value], magnitude: f64) -> bool {
    let cell = |got: &Value, want: &Value| match (got, want) {
        (Value::Number(got), Value::Number(want)) if got.is_f64() && want.is_f64() => {
            let (got, want) = (got.as_f64().unwrap(), want.as_f64().unwrap());
            let error = (got - want).abs();
            got == want || error <= 1e-9 * got.abs().max(want.abs()) || error <= 1e-9 * magnitude
        }
        (got, want) => got == want,
    };
    got.len() == want.len()
        && got
            .iter()
            .zip(want)
            .all(|rows| match (rows.0.as_array(), rows.1.as_array()) {
                (Some(got), Some(want)) => {
                    got.len() == want.len()
                        && got.iter().zip(want).all(|(got, want)| cell(got, want))
                }
                _ => false,
            })
}
