//! Random grids and random statements: the scan of an array gives the rows of a table that was built cell by cell.

use std::sync::Arc;

use hyperslab::Session;
use serde_json::Value;

use crate::common::{alike, rows, session};
use crate::grids::{Case, NAMES, Random};

fn predicate(random: &mut Random, dims: usize) -> String {
    let dim = random.pick(&NAMES[..dims]);
    let other = random.pick(&NAMES[..dims]);
    let value = random.below(9) as f64 - 3.0;
    let op = random.pick(&["=", "<>", "<", "<=", ">", ">="]);
    match random.below(11) {
        0 | 1 => format!("{dim} {op} {value}"),
        2 => format!("CAST({dim} AS INT) % 3 = 0"),
        3 => format!("{dim} BETWEEN {value} AND {}", value + 4.0),
        4 => format!("({dim} {op} {value} OR {other} > 1)"),
        5 => format!("{dim} + {other} {op} {value}"),
        6 => format!("a {op} {value}"),
        7 => format!("p {op} {value}"),
        8 => format!("(p IS NULL OR {dim} < {value})"),
        9 => format!("(a > b OR {dim} = {value})"),
        _ => format!("{dim} IN (0, 1, {value})"),
    }
}

fn statement(random: &mut Random, dims: usize) -> String {
    let count = random.below(4);
    let terms: Vec<String> = (0..count).map(|_| predicate(random, dims)).collect();
    let filter = if terms.is_empty() {
        String::new()
    } else {
        format!("WHERE {}", terms.join(" AND "))
    };
    let all = NAMES[..dims].join(", ");
    let dim = random.pick(&NAMES[..dims]);
    match random.below(7) {
        0 => format!(
            "SELECT count(*), count(a), sum(CAST(a AS DOUBLE)), min(b), max(p) FROM t {filter}"
        ),
        1 => format!(
            "SELECT {dim}, count(*), count(b), max(a) FROM t {filter} GROUP BY {dim} ORDER BY {dim}"
        ),
        2 => format!("SELECT * FROM t {filter} ORDER BY {all}, a, b, p, q"),
        3 => format!(
            "SELECT {dim}, a FROM t {filter} ORDER BY {dim} DESC, a LIMIT {}",
            1 + random.below(9)
        ),
        4 => format!(
            "SELECT min({dim}), max({dim}), count(DISTINCT {dim}), count(*) FROM t {filter}"
        ),
        5 => format!(
            "SELECT count(*) FROM (SELECT b FROM t {filter} LIMIT {})",
            random.below(40)
        ),
        _ => format!(
            "SELECT l.{dim}, count(*) FROM t l JOIN (SELECT {dim}, max(b) AS m FROM t {filter} GROUP BY {dim}) r ON l.{dim} = r.{dim} GROUP BY l.{dim} ORDER BY 1"
        ),
    }
}

pub async fn settings(session: &Session, random: &mut Random) -> Vec<String> {
    let mut chosen = Vec::new();
    for name in [
        "push_index_sets",
        "push_planes",
        "push_dynamic",
        "use_statistics",
    ] {
        if random.below(4) == 0 {
            chosen.push(format!("hyperslab.{name} = false"));
        }
    }
    chosen.push(format!(
        "hyperslab.tile_bytes = {}",
        [1, 50, 1000, 1_000_000][random.below(4)]
    ));
    chosen.push(format!(
        "hyperslab.rechunk_bytes = {}",
        [1, 200, 1_000_000][random.below(3)]
    ));
    chosen.push(format!(
        "datafusion.execution.batch_size = {}",
        [1, 3, 8192][random.below(3)]
    ));
    chosen.push(format!(
        "datafusion.execution.target_partitions = {}",
        [1, 2, 5][random.below(3)]
    ));
    for setting in &chosen {
        session.sql(&format!("SET {setting}")).await.unwrap();
    }
    chosen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_statements_on_random_grids() {
    let cases = std::env::var("HYPERSLAB_RANDOM_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(40);
    let mut wrong = Vec::new();
    for seed in 1..=cases {
        let mut random = Random::new(seed);
        let case = Case::new(&mut random, 1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("case.zarr");
        case.write(&path);
        let plain = session();
        plain
            .context()
            .register_table("t", Arc::new(case.table(false)))
            .unwrap();
        for _ in 0..12 {
            let sql = statement(&mut random, case.shape.len());
            let arrays = session();
            let chosen = settings(&arrays, &mut random).await;
            let ours = sql.replace(" t ", &format!(" '{}' t ", path.display()));
            let got = rows(&arrays, &ours.replace("' t l", "' l")).await;
            let want = rows(&plain, &sql).await;
            match (got, want) {
                (Ok(got), Ok(want))
                    if alike(
                        &Value::Array(got.clone()),
                        &Value::Array(want.clone()),
                        1e-6,
                    ) => {}
                (Err(_), Err(_)) => {}
                (got, want) => wrong.push(format!(
                    "seed {seed} {:?} {chosen:?}\n {sql}\n got  {got:?}\n want {want:?}",
                    case.shape
                )),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ\n{}",
        wrong.len(),
        wrong
            .iter()
            .take(10)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
}
