//! Joins of arrays on their dimensions: EXPLAIN says that they are one scan, and switched off they give the same rows.

use std::path::Path;

use hyperslab::Session;
use serde_json::{Value, json};

use crate::common::{alike, explain, row, rows, sample, session};
use crate::grids::{Random, Stored};
use crate::random::settings;

/// Values of an array as they are stored.
enum Cells {
    Double(Vec<f64>),
    Single(Vec<f32>),
    Int(Vec<i32>),
    Long(Vec<i64>),
}

use Cells::{Double, Int, Long, Single};

/// Writes an array of a Zarr store: its dimensions, each with its length, and the shape of its chunks.
fn put(store: &Path, name: &str, dims: &[(&str, usize)], chunks: &[usize], cells: &Cells) {
    let (kind, bytes): (_, Vec<Vec<u8>>) = match cells {
        Double(v) => ("<f8", v.iter().map(|v| v.to_le_bytes().to_vec()).collect()),
        Single(v) => ("<f4", v.iter().map(|v| v.to_le_bytes().to_vec()).collect()),
        Int(v) => ("<i4", v.iter().map(|v| v.to_le_bytes().to_vec()).collect()),
        Long(v) => ("<i8", v.iter().map(|v| v.to_le_bytes().to_vec()).collect()),
    };
    std::fs::create_dir_all(store).unwrap();
    std::fs::write(store.join(".zgroup"), r#"{"zarr_format":2}"#).unwrap();
    let names: Vec<&str> = dims.iter().map(|(name, _)| *name).collect();
    let shape: Vec<usize> = dims.iter().map(|(_, length)| *length).collect();
    let is_data = kind == "<f4" && !names.contains(&name);
    let stored = Stored {
        kind,
        dims: &names,
        shape: &shape,
        chunks,
        cells: &bytes,
        fill: is_data.then(|| ("-999".to_owned(), (-999f32).to_le_bytes().to_vec())),
        fortran: false,
        attributes: &[],
    };
    stored.write(&store.join(name));
}

/// A coordinate.
fn axis(store: &Path, name: &str, values: &Cells) {
    let length = match values {
        Double(v) => v.len(),
        Single(v) => v.len(),
        Int(v) => v.len(),
        Long(v) => v.len(),
    };
    put(store, name, &[(name, length)], &[length.max(1)], values);
}

fn int(number: usize) -> i32 {
    i32::try_from(number).unwrap()
}

/// Numbers that tell where they are; every seventh is missing.
fn numbers(count: usize, first: usize) -> Cells {
    let number = |at| match at % 7 {
        3 => -999.0,
        _ => (first + at) as f32,
    };
    Single((0..count).map(number).collect())
}

/// Two stores: `a(t, y, x)` of 6 × 4 × 5 cells with `p(y, x)`, and `b(t, y, x)` on coordinates that overlap: later
/// times, latitudes the other way round, other chunks.
fn two(folder: &Path) -> (String, String) {
    let (a, b) = (folder.join("a.zarr"), folder.join("b.zarr"));
    axis(&a, "t", &Int(vec![0, 1, 2, 3, 4, 5]));
    axis(&a, "y", &Double(vec![-1.5, -0.5, 0.5, 1.5]));
    axis(&a, "x", &Double(vec![10.0, 20.0, 30.0, 40.0, 50.0]));
    let dims = [("t", 6), ("y", 4), ("x", 5)];
    put(&a, "a", &dims, &[1, 4, 5], &numbers(120, 0));
    put(&a, "p", &dims[1..], &[3, 2], &numbers(20, 500));
    axis(&b, "t", &Long(vec![2, 3, 4, 5, 6, 7, 8]));
    axis(&b, "y", &Double(vec![1.5, 0.5, -0.5, -1.5, -2.5]));
    axis(&b, "x", &Single(vec![10.0, 20.0, 35.0, 40.0, 50.0]));
    let dims = [("t", 7), ("y", 5), ("x", 5)];
    put(&b, "b", &dims, &[3, 2, 2], &numbers(175, 1000));
    put(&b, "q", &dims[..1], &[2], &numbers(7, 2000));
    (
        a.to_str().unwrap().to_owned(),
        b.to_str().unwrap().to_owned(),
    )
}

/// The rows of a statement, sorted, with joins pushed down or not.
async fn answer(session: &Session, push: bool, sql: &str) -> Value {
    let set = format!("SET hyperslab.push_joins = {push}");
    session.sql(&set).await.unwrap();
    let mut rows = rows(session, sql).await.unwrap();
    rows.sort_by_key(ToString::to_string);
    Value::Array(rows)
}

/// Checks a statement against the engine's join; gives its plan, and how many rows it has.
async fn check(session: &Session, sql: &str) -> (String, usize) {
    let want = answer(session, false, sql).await;
    let plan = explain(session, &format!("EXPLAIN {sql}")).await;
    assert!(plan.contains("JoinExec"), "{plan}");
    let got = answer(session, true, sql).await;
    assert!(alike(&got, &want, 1e-9), "{sql}\n got  {got}\n want {want}");
    let plan = explain(session, &format!("EXPLAIN {sql}")).await;
    (plan, want.as_array().unwrap().len())
}

/// A statement whose join is one scan; gives its plan and how many rows it has.
async fn fires(session: &Session, sql: &str) -> (String, usize) {
    let (plan, rows) = check(session, sql).await;
    assert!(!plan.contains("JoinExec"), "{sql}\n{plan}");
    assert!(plan.contains(" JOIN "), "{sql}\n{plan}");
    (plan, rows)
}

/// A statement whose join stays, and the reason that EXPLAIN gives.
async fn stays(session: &Session, sql: &str, why: &str) {
    let (plan, _) = check(session, sql).await;
    assert!(plan.contains("JoinExec"), "{sql}\n{plan}");
    assert!(plan.contains(why), "{sql}\n{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrays_of_two_files_are_one_scan() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = two(folder.path());
    let session = session();
    let on = "l.t = r.t AND l.y = r.y AND l.x = r.x";
    for (kind, count) in [("JOIN", 64), ("LEFT JOIN", 120), ("RIGHT JOIN", 175)] {
        for columns in [
            "l.*, r.*",
            "l.a, r.b",
            "r.t, r.x, r.y, l.a - r.b",
            "l.p, r.q, l.t",
            "r.q",
            "r.b AS a, l.t AS b",
        ] {
            let sql = format!("SELECT {columns} FROM '{a}' l {kind} '{b}' r ON {on}");
            let (_, rows) = fires(&session, &sql).await;
            assert_eq!(rows, count, "{sql}");
        }
        let sql = format!("SELECT * FROM '{b}' r {kind} '{a}' l ON {on}");
        fires(&session, &sql).await;
    }
    let sql =
        format!("SELECT avg(a - b), count(*), count(b) FROM '{a}' JOIN '{b}' USING (t, y, x)");
    let (plan, _) = fires(&session, &sql).await;
    let shown = "b JOIN a ON t = CAST(t AS Int64), y, CAST(x AS Float64) = x[";
    assert!(plan.contains(shown), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn predicates_of_both_sides_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = two(folder.path());
    let session = session();
    let on = "l.t = r.t AND l.y = r.y AND l.x = r.x";
    for kind in ["JOIN", "LEFT JOIN", "RIGHT JOIN"] {
        for filter in [
            "l.t > 2",
            "r.t > 2 AND r.t <> 4",
            "l.a > 40",
            "l.y > 0 OR l.x < 25",
            "l.p > 505 AND l.t < 5",
            "r.b IS NULL OR l.a > 60",
            "l.t + l.x > 33",
        ] {
            let sql = format!("SELECT * FROM '{a}' l {kind} '{b}' r ON {on} WHERE {filter}");
            check(&session, &sql).await;
        }
    }
    let sql = |filter: &str| {
        format!("SELECT l.a, r.b, r.y FROM '{a}' l JOIN '{b}' r ON {on} WHERE {filter}")
    };
    for filter in [
        "r.b > 1100",
        "l.a > 40 AND r.b < 1100",
        "l.a * 10 > r.b",
        "r.y > 0 OR r.x < 25",
        "r.t + r.x > 23",
        "r.q > 2001",
        "l.t < r.x",
    ] {
        fires(&session, &sql(filter)).await;
    }
    let outer = |filter: &str| {
        format!("SELECT * FROM '{a}' l LEFT JOIN (SELECT * FROM '{b}' WHERE {filter}) r ON {on}")
    };
    fires(&session, &outer("t > 3 AND y < 1")).await;
    let why = "the side that is looked up has a predicate on more than a dimension";
    stays(&session, &outer("b > 1100"), why).await;
    stays(&session, &outer("y > 0 OR x < 25"), why).await;
    let sql = format!("SELECT * FROM '{a}' l LEFT JOIN '{b}' r ON {on} AND l.a * 10 > r.b");
    stays(&session, &sql, "it has a further condition").await;
    let sql = format!("SELECT * FROM '{a}' l JOIN (SELECT * FROM '{b}' LIMIT 175) r ON {on}");
    stays(&session, &sql, "a side has a limit").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_a_left_join_is_a_limit_of_the_scan() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = two(folder.path());
    let session = session();
    let sql = format!("SELECT l.t, r.b FROM '{a}' l LEFT JOIN '{b}' r USING (t, y, x) LIMIT 7");
    let plan = explain(&session, &format!("EXPLAIN {sql}")).await;
    assert!(
        plan.contains("LEFT JOIN b") && plan.contains("limit=7"),
        "{plan}"
    );
    assert_eq!(rows(&session, &sql).await.unwrap().len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn indices_are_pruned_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = two(folder.path());
    let session = session();
    let sql = format!("SELECT a, b FROM '{a}' JOIN '{b}' r USING (t, y, x) WHERE r.t >= 4");
    let (plan, _) = fires(&session, &sql).await;
    assert!(plan.contains("t=2..4, y=0..4, x=0..5(4)"), "{plan}");
    // Of b 2 × 2 × 3 chunks, of a those of two times.
    assert!(plan.contains("chunks=14/33"), "{plan}");
    let sql = format!("SELECT count(*) FROM '{a}' JOIN '{b}' USING (t, y, x)");
    let counted = row(&session, &sql).await.unwrap();
    assert_eq!(counted, [json!(64)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_of_joins_and_of_a_table_with_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = two(folder.path());
    let session = session();
    for sql in [
        format!("SELECT l.a, r.a, l.t FROM '{a}' l JOIN '{a}' r USING (t, y, x)"),
        format!(
            "SELECT l.a, r.a, r.t FROM '{a}' l JOIN '{a}' r ON l.t = r.t + 1 AND l.y = r.y AND l.x = r.x"
        ),
        format!(
            "SELECT l.a, r.a, r.t FROM '{a}' l LEFT JOIN '{a}' r ON l.t - 1 = r.t AND l.y = -r.y AND l.x = r.x"
        ),
        format!(
            "SELECT l.a, m.b, r.p, r.y FROM '{a}' l JOIN '{b}' m USING (t, y, x) JOIN \"{a}\".p r ON m.y = r.y AND l.x = r.x"
        ),
        format!(
            "SELECT * FROM '{a}' l LEFT JOIN (SELECT m.*, r.p AS o FROM '{b}' m LEFT JOIN \"{a}\".p r ON m.y = r.y AND m.x = r.x) n ON l.t = n.t AND l.y = n.y AND l.x = n.x"
        ),
        format!(
            "SELECT l.y, sum(l.a * p.p) / sum(p.p), count(p.x) FROM '{a}' l JOIN \"{a}\".p p ON l.y = p.y AND l.x = p.x GROUP BY l.y"
        ),
        format!(
            "SELECT r.y, max(b) - max(a), count(*) FROM '{a}' l JOIN '{b}' r USING (t, y, x) GROUP BY r.y HAVING count(*) > 3"
        ),
        format!(
            "SELECT a, b, r.t FROM '{a}' l LEFT JOIN '{b}' r USING (t, y, x) ORDER BY b DESC NULLS LAST, a LIMIT 5"
        ),
        format!("SELECT * FROM '{a}' l JOIN \"{b}\".q q ON l.t = q.t"),
        format!("SELECT * FROM '{a}' l LEFT JOIN \"{b}\".q q ON l.t % 4 = q.t"),
        format!("SELECT l.a FROM '{a}' l WHERE l.t IN (SELECT t FROM '{b}')"),
        format!(
            "SELECT l.a FROM '{a}' l WHERE EXISTS (SELECT 1 FROM '{b}' r WHERE r.t = l.t AND r.y = l.y)"
        ),
        format!("SELECT * FROM '{a}' l JOIN '{b}' r ON l.y = r.y AND l.x = r.x WHERE r.t = 3"),
        format!("SELECT * FROM '{a}' l JOIN '{b}' r ON l.y = r.y AND l.x = r.x WHERE r.t = 99"),
        format!(
            "SELECT * FROM '{a}' l LEFT JOIN (SELECT * FROM '{b}' WHERE t = 99) r ON l.y = r.y AND l.x = r.x"
        ),
    ] {
        fires(&session, &sql).await;
    }
    session
        .sql("SET datafusion.optimizer.prefer_hash_join = false")
        .await
        .unwrap();
    session
        .sql("SET datafusion.execution.target_partitions = 2")
        .await
        .unwrap();
    let sql = format!("SELECT * FROM '{a}' JOIN '{b}' USING (t, y, x)");
    fires(&session, &sql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_may_follow_from_two_dimensions() {
    let folder = tempfile::tempdir().unwrap();
    let (f, o) = (folder.path().join("f.zarr"), folder.path().join("o.zarr"));
    axis(&f, "init", &Int(vec![0, 6, 12, 18]));
    axis(&f, "lead", &Int(vec![0, 3, 6, 9, 12]));
    axis(&f, "x", &Int(vec![1, 2, 3]));
    let dims = [("init", 4), ("lead", 5), ("x", 3)];
    put(&f, "forecast", &dims, &[1, 2, 3], &numbers(60, 0));
    axis(&o, "time", &Int((0..8).map(|at| at * 3).collect()));
    axis(&o, "x", &Int(vec![3, 2, 1]));
    put(
        &o,
        "obs",
        &[("time", 8), ("x", 3)],
        &[3, 2],
        &numbers(24, 100),
    );
    let session = session();
    for kind in ["JOIN", "LEFT JOIN"] {
        for filter in [
            "TRUE",
            "f.lead > 3",
            "f.init + f.lead < 12",
            "f.forecast > 20",
        ] {
            let sql = format!(
                "SELECT f.*, o.* FROM '{}' f {kind} '{}' o ON o.time = f.init + f.lead AND o.x = f.x WHERE {filter}",
                f.display(),
                o.display()
            );
            fires(&session, &sql).await;
        }
    }
    let sql = format!(
        "SELECT lead, avg(power(forecast - obs, 2)) FROM '{}' f JOIN '{}' o ON o.time = f.init + f.lead AND o.x = f.x GROUP BY lead",
        f.display(),
        o.display()
    );
    let (_, rows) = fires(&session, &sql).await;
    assert_eq!(rows, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_do_not_identify_a_cell_stay_with_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = two(folder.path());
    let twice = folder.path().join("twice.zarr");
    axis(&twice, "y", &Double(vec![0.5, 1.5, 0.5]));
    put(&twice, "v", &[("y", 3)], &[2], &numbers(3, 0));
    let twice = twice.to_str().unwrap();
    let session = session();
    for (sql, why) in [
        (
            format!("SELECT * FROM '{a}' l JOIN '{twice}' r USING (y)"),
            "y of v has a value twice",
        ),
        (
            format!("SELECT l.a, r.b FROM '{a}' l JOIN '{b}' r ON l.y = r.y AND l.x = r.x"),
            "dimension t of",
        ),
        (
            format!("SELECT * FROM '{a}' l JOIN '{b}' r ON l.a = r.b AND l.y = r.y"),
            "is no dimension",
        ),
        (
            format!("SELECT * FROM '{a}' l JOIN \"{a}\".p r ON l.y = r.y AND l.y = r.x"),
            "two keys are on the same dimension",
        ),
    ] {
        stays(&session, &sql, why).await;
    }
    // Only what is selected has to be without repetition.
    let sql = format!("SELECT * FROM '{a}' l JOIN '{twice}' r USING (y) WHERE r.y > 1");
    fires(&session, &sql).await;
    // Joins that stay build on the side with fewer rows, whichever is written first.
    session
        .sql("SET hyperslab.push_joins = false")
        .await
        .unwrap();
    for sql in [
        format!("SELECT l.a FROM '{a}' l JOIN \"{a}\".p r USING (y, x)"),
        format!("SELECT l.a FROM \"{a}\".p r JOIN '{a}' l USING (y, x)"),
    ] {
        let plan = explain(&session, &format!("EXPLAIN {sql}")).await;
        let scans: Vec<&str> = plan.lines().filter(|l| l.contains("ArraySource")).collect();
        assert!(scans[0].contains("ArraySource: p["), "{plan}");
    }
    // The dimensions are known to be the key: other columns need not be grouped by.
    let sql = format!("SELECT t, y, x, a FROM '{a}' GROUP BY t, y, x");
    assert_eq!(rows(&session, &sql).await.unwrap().len(), 120);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_and_unusual_coordinates_match_as_the_engine_matches_them() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.zarr"), folder.path().join("b.zarr"));
    axis(
        &a,
        "x",
        &Double(vec![f64::NAN, 0.0, 1.0, f64::INFINITY, f64::NAN, 0.1]),
    );
    put(&a, "a", &[("x", 6)], &[4], &numbers(6, 0));
    axis(
        &b,
        "x",
        &Single(vec![-0.0, f32::NAN, f32::INFINITY, 0.1, 2.0]),
    );
    put(&b, "b", &[("x", 5)], &[2], &numbers(5, 10));
    let session = session();
    for missing in [true, false] {
        session
            .sql(&format!("SET hyperslab.nan_as_null = {missing}"))
            .await
            .unwrap();
        for kind in ["JOIN", "LEFT JOIN"] {
            let sql = format!(
                "SELECT * FROM '{}' l {kind} '{}' r ON l.x = r.x",
                a.display(),
                b.display()
            );
            fires(&session, &sql).await;
        }
    }
    // Two missing coordinates match nothing; two that are NaN are one value twice.
    let sql = format!(
        "SELECT * FROM '{}' l LEFT JOIN '{}' r ON l.x = r.x",
        b.display(),
        a.display()
    );
    stays(&session, &sql, "has a value twice").await;
    session
        .sql("SET hyperslab.nan_as_null = true")
        .await
        .unwrap();
    fires(&session, &sql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_too_large_to_keep_are_aligned_tile_by_tile() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b, c) = ("a.zarr", "b.zarr", "c.zarr");
    let (steps, ny, nx) = (36usize, 173usize, 176usize);
    let value = |t: usize, y: usize, x: usize| ((t * 131 + y * 17 + x) % 1000) as f32;
    let mut all = [Vec::new(), Vec::new(), Vec::new()];
    for t in 0..steps {
        for y in 0..ny {
            for x in 0..nx {
                all[0].push(value(t, y, x));
                all[1].push(value(steps - 1 - t, y, nx - 1 - x));
                // Two of its times for three of the others', in turn.
                all[2].push(value(t, ny - 1 - y, x));
            }
        }
    }
    let count = |length: usize| (0..int(length)).collect::<Vec<i32>>();
    let back = |length: usize| (0..int(length)).rev().collect::<Vec<i32>>();
    let times = [count(steps), back(steps), count(steps)];
    let ys = [count(ny), count(ny), back(ny)];
    let xs = [count(nx), back(nx), count(nx)];
    let chunks = [[1, ny, nx], [5, 50, 60], [4, 90, nx]];
    let stores = [a, b, c].map(|name| folder.path().join(name));
    for (at, store) in stores.iter().enumerate() {
        axis(store, "t", &Int(times[at].clone()));
        axis(store, "y", &Int(ys[at].clone()));
        axis(store, "x", &Int(xs[at].clone()));
        let cells = Single(std::mem::take(&mut all[at]));
        put(
            store,
            "v",
            &[("t", steps), ("y", ny), ("x", nx)],
            &chunks[at],
            &cells,
        );
    }
    let [a, b, c] = stores.map(|store| store.to_str().unwrap().to_owned());
    let session = session();
    let cells = steps * ny * nx;
    for (other, key, differing, matched) in [
        (&b, "l.t = r.t", "l.v <> r.v", cells),
        (&c, "l.t = r.t", "l.v <> r.v", cells),
        (&c, "l.t % 35 = r.t", "l.t < 35 AND l.v <> r.v", cells),
        (
            &b,
            "l.t + 4 = r.t",
            "(l.v + 524) % 1000 <> r.v",
            cells / 36 * 32,
        ),
    ] {
        for kind in ["JOIN", "LEFT JOIN"] {
            let sql = format!(
                "SELECT count(r.v), count(*) FILTER (WHERE {differing}) FROM '{a}' l {kind} '{other}' r ON {key} AND l.y = r.y AND l.x = r.x"
            );
            let plan = explain(&session, &format!("EXPLAIN {sql}")).await;
            assert!(plan.contains(" JOIN v ON"), "{plan}");
            let got = row(&session, &sql).await.unwrap();
            assert_eq!(got, [json!(matched), json!(0)], "{sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomalies_of_sample_data() {
    let session = session();
    let (tas, zarr, ocean) = (sample("tas.nc"), sample("tas.zarr"), sample("ocean.nc"));
    for sql in [
        format!(
            "SELECT avg(l.tas - r.tas), count(*) FROM '{tas}' l JOIN '{zarr}' r USING (time, lat, lon)"
        ),
        format!(
            "SELECT r.time, count(*), avg(t.tas), avg(r.pr) FROM '{tas}' t JOIN (SELECT * FROM '{zarr}' WHERE year(time) = 2003) r ON t.lat = r.lat AND t.lon = r.lon AND t.time = r.time WHERE t.lat > 0 GROUP BY r.time"
        ),
        format!(
            "SELECT month(t.time), avg(t.tas - o.sst), count(o.sst), count(o.x) FROM '{tas}' t LEFT JOIN '{ocean}' o ON month(t.time) = month(o.time) AND CAST(floor(t.lon / 12) AS INT) = o.x AND t.lat = o.y - 0.625 GROUP BY 1"
        ),
    ] {
        fires(&session, &sql).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_session_joins_as_well() {
    use datafusion::prelude::SessionContext;
    let context = SessionContext::new();
    let id = context.session_id();
    let rules = |context: &SessionContext| {
        let state = context.state();
        let rules = state.physical_optimizers().iter();
        rules.map(|rule| rule.name().to_owned()).collect::<Vec<_>>()
    };
    hyperslab::session::install(&context).unwrap();
    let once = rules(&context);
    let at = once.iter().position(|rule| rule == "GridJoin").unwrap();
    assert!(once[at..].iter().any(|rule| rule == "EnsureRequirements"));
    hyperslab::session::install(&context).unwrap();
    assert_eq!(rules(&context), once);
    assert_eq!(context.session_id(), id);
    let sql = format!(
        "EXPLAIN SELECT l.tas, r.tas FROM '{}' l JOIN '{}' r USING (time, lat, lon)",
        sample("tas.nc"),
        sample("model.nc")
    );
    let plan = context.sql(&sql).await.unwrap().to_string().await.unwrap();
    assert!(plan.contains(" JOIN tas ON"), "{plan}");
}

/// A random grid: its dimensions with their coordinates, and variables on all and on some of them.
fn random_grid(random: &mut Random, store: &Path, names: &[&str], variable: &str) -> Vec<String> {
    let mut dims = Vec::new();
    for name in names {
        let length = 1 + random.below(6);
        let (start, step) = (int(random.below(4)) - 1, 1 + int(random.below(2)));
        let kind = random.below(5);
        let values: Vec<i32> = (0..int(length))
            .map(|at| match kind {
                0 | 1 => start + at * step,
                2 => 6 - at,
                3 => at / 2,
                _ => (at * 5 + start) % 7,
            })
            .collect();
        let cells = match random.below(4) {
            0 => Int(values),
            1 => Long(values.into_iter().map(i64::from).collect()),
            2 => Single(values.into_iter().map(|v| v as f32).collect()),
            _ => Double(
                values
                    .into_iter()
                    .map(|v| if v == 5 { f64::NAN } else { f64::from(v) })
                    .collect(),
            ),
        };
        axis(store, name, &cells);
        dims.push((*name, length));
    }
    let mut columns: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    for (at, from) in [(0, 0), (1, random.below(dims.len()))] {
        let name = format!("{variable}{at}");
        let dims = &dims[from..];
        let chunks: Vec<usize> = dims.iter().map(|(_, n)| 1 + random.below(n + 1)).collect();
        let cells = dims.iter().map(|(_, n)| n).product();
        put(
            store,
            &name,
            dims,
            &chunks,
            &numbers(cells, random.below(100)),
        );
        columns.push(name);
    }
    columns
}

fn random_join(random: &mut Random, left: &[&str], right: &[&str], columns: &str) -> String {
    let mut keys = Vec::new();
    for (at, name) in right.iter().enumerate() {
        let of = left.get(at).unwrap_or(&left[0]);
        keys.push(match random.below(12) {
            0 => format!("l.{of} + 1 = r.{name}"),
            1 => format!("l.{of} = r.{name} + 1"),
            2 => format!("CAST(l.{of} AS INT) % 3 = r.{name}"),
            3 if right.len() == 1 && left.len() > 1 => {
                format!("l.{} + l.{} = r.{name}", left[0], left[1])
            }
            4 if at > 0 => "TRUE".to_owned(),
            _ => format!("l.{of} = r.{name}"),
        });
    }
    let kind = random.pick(&["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN"]);
    let value = random.below(5);
    let (l, r) = (random.pick(left), random.pick(right));
    let filter = match random.below(12) {
        0 => format!("l.{l} > {value}"),
        1 => format!("r.{r} <> {value}"),
        2 => "l.a0 > 30".to_owned(),
        3 => "r.b0 > 30".to_owned(),
        4 => format!("l.{l} < {value} OR l.{} > 2", left[0]),
        5 => format!("r.{r} < {value} OR r.{} > 2", right[0]),
        6 => "l.a0 < r.b0".to_owned(),
        7 => format!("l.{l} + r.{r} > {value}"),
        _ => "TRUE".to_owned(),
    };
    let below = match random.below(5) {
        0 => format!("(SELECT * FROM RIGHT WHERE {r} >= {value})"),
        1 => format!(
            "(SELECT * FROM RIGHT WHERE {r} < 3 OR {} > {value})",
            right[0]
        ),
        _ => "RIGHT".to_owned(),
    };
    let (group, select) = match random.below(4) {
        0 => (
            format!("GROUP BY l.{l}"),
            format!("l.{l}, count(*), count(r.b0), max(l.a1)"),
        ),
        1 => (String::new(), format!("r.{r}, l.a0, r.b1")),
        _ => (String::new(), columns.to_owned()),
    };
    format!(
        "SELECT {select} FROM LEFT l {kind} {below} r ON {} WHERE {filter} {group}",
        keys.join(" AND ")
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_joins_of_random_grids() {
    let cases = std::env::var("HYPERSLAB_RANDOM_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(60);
    let (mut wrong, mut fired, mut all) = (Vec::new(), 0, 0);
    for seed in 1..=cases {
        let mut random = Random::new(seed);
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a.zarr"), folder.path().join("b.zarr"));
        let left = &["t", "y", "x"][..1 + random.below(3)];
        let right = &["u", "v", "w"][..1 + random.below(left.len())];
        let of_left = random_grid(&mut random, &a, left, "a");
        let of_right = random_grid(&mut random, &b, right, "b");
        let prefixed = |side: &str, columns: &[String]| {
            let columns: Vec<String> = columns.iter().map(|c| format!("{side}.{c}")).collect();
            columns.join(", ")
        };
        let columns = format!("{}, {}", prefixed("l", &of_left), prefixed("r", &of_right));
        for _ in 0..4 {
            let sql = random_join(&mut random, left, right, &columns)
                .replace("LEFT l", &format!("'{}' l", a.display()))
                .replace("FROM RIGHT", &format!("FROM '{}'", b.display()))
                .replace("RIGHT r", &format!("'{}' r", b.display()));
            let plain = session();
            let want = answer(&plain, false, &sql).await;
            let session = session();
            let chosen = settings(&session, &mut random).await;
            let got = answer(&session, true, &sql).await;
            let plan = explain(&session, &format!("EXPLAIN {sql}")).await;
            all += 1;
            fired += u64::from(!plan.contains("JoinExec"));
            if !alike(&got, &want, 1e-6) {
                wrong.push(format!(
                    "seed {seed} {chosen:?}\n {sql}\n got  {got}\n want {want}\n{plan}"
                ));
            }
        }
    }
    let some: Vec<String> = wrong.iter().take(5).cloned().collect();
    assert!(
        wrong.is_empty(),
        "{} differ\n{}",
        wrong.len(),
        some.join("\n")
    );
    assert!(fired * 3 > all, "{fired} of {all}");
}
