//! Many processes that insert into one dataset at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::kill::is_full;
use super::{Cube, hyperslab};
use crate::common::{output, rows};
use crate::grids::Random;

/// Writers, and how many slices each of them inserts.
fn load(is_local: bool) -> (u32, u32) {
    match (is_full(), is_local) {
        (true, _) => (16, 50),
        (false, true) => (4, 8),
        (false, false) => (3, 4),
    }
}

#[test]
fn slices_of_many_writers_are_each_there_once() {
    for name in if is_full() {
        &["bare", "v2_plain", "v3_sharded", "ice"][..]
    } else {
        &["bare", "ice"]
    } {
        if name == &"ice" && !cfg!(feature = "icechunk") {
            continue;
        }
        let cube = Cube::new(name);
        many_writers(&cube.to_string(), name, &[]);
    }
}

/// Writers who take the next free place until they have it, and readers who look on.
pub fn many_writers(location: &str, name: &str, environment: &[(String, String)]) {
    let (writers, slices) = load(environment.is_empty());
    let kind = if name == "bare" {
        Kind::Bare
    } else {
        Kind::Cube
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| look_on(location, kind, environment, &done)))
            .collect();
        let writing: Vec<_> = (0..writers)
            .map(|writer| scope.spawn(move || write(location, kind, environment, writer, slices)))
            .collect();
        let tries: u32 = writing
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .sum();
        done.store(true, Ordering::Relaxed);
        let looks: u32 = readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .sum();
        println!(
            "{location}: {writers} writers of {slices} slices, {tries} tries; 4 readers looked {looks} times"
        );
        assert!(looks >= 4);
    });
    let mut tags = read(location, kind, environment);
    let expected: Vec<i64> = (0..i64::from(writers * slices)).collect();
    tags.sort_unstable();
    assert_eq!(tags, expected, "{location}");
}

/// How the slices of a dataset are made and told apart.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Along an index, with 3 cells, of which 5 slices are there.
    Bare,
    /// Along time, with 20 cells, of which 6 slices are there.
    Cube,
}

impl Kind {
    fn before(self) -> i64 {
        match self {
            Self::Bare => 5,
            Self::Cube => 6,
        }
    }

    /// A statement that inserts the slice `tag` at index `at`.
    fn insert(self, location: &str, at: i64, tag: i64) -> String {
        match self {
            Self::Bare => format!(
                "INSERT INTO '{location}' VALUES ({at}, 0, {tag}), ({at}, 1, {tag} + 0.25), ({at}, 2, {tag} + 0.5)"
            ),
            Self::Cube => {
                let time = super::day(u32::try_from(at).unwrap());
                format!(
                    "INSERT INTO '{location}' (time, lat, lon, tas, pr) SELECT TIMESTAMP '{time}', lat, lon, {tag} + 0.0, \
                     area * 0.5 FROM '{location}'.area"
                )
            }
        }
    }

    /// The index, the number of rows, the least and the greatest value of each slice.
    fn slices(self, location: &str) -> String {
        match self {
            Self::Bare => format!(
                "SELECT n AS at, count(*) AS c, min(v) AS a, max(v) AS b FROM '{location}' GROUP BY n ORDER BY n"
            ),
            Self::Cube => format!(
                "SELECT time AS at, count(*) AS c, min(tas) AS a, max(tas) AS b FROM '{location}' GROUP BY time ORDER BY time"
            ),
        }
    }
}

/// Inserts slices with tags of its own; returns how often it tried.
fn write(
    location: &str,
    kind: Kind,
    environment: &[(String, String)],
    writer: u32,
    slices: u32,
) -> u32 {
    let mut tries = 0;
    let mut random = Random::new(u64::from(writer));
    for slice in 0..slices {
        let tag = i64::from(writer * slices + slice);
        for lost in 0.. {
            // As everybody does who was too late: those who come again at once only keep each other waiting.
            if lost > 0 {
                let most = 20 << u32::min(lost, 7);
                thread::sleep(Duration::from_millis(random.next() % most));
            }
            tries += 1;
            assert!(tries < 200 * slices, "writer {writer} does not get on");
            let sql = kind.insert(location, count(location, kind, environment), tag);
            let out = hyperslab()
                .envs(environment.iter().cloned())
                .args(["-c", &sql])
                .output()
                .unwrap();
            if out.status.success() {
                break;
            }
            let message = String::from_utf8(out.stderr).unwrap();
            // Another one was faster.
            let lost = [
                "is there already",
                "leaves a gap",
                "does not come after",
                "somebody else",
                "another",
            ];
            assert!(
                lost.iter().any(|lost| message.contains(lost)),
                "writer {writer}: {message}"
            );
        }
    }
    tries
}

/// Looks at the dataset until all is done: each look sees all that the one before has seen, and whole slices only.
fn look_on(location: &str, kind: Kind, environment: &[(String, String)], done: &AtomicBool) -> u32 {
    let mut before = Vec::new();
    let mut looks = 0;
    while !done.load(Ordering::Relaxed) || looks == 0 {
        let now = read(location, kind, environment);
        assert_eq!(
            now.get(..before.len()),
            Some(before.as_slice()),
            "{location}: a slice has changed"
        );
        before = now;
        looks += 1;
        // A look reads all chunks, each by a request.
        let is_local = environment.is_empty();
        thread::sleep(Duration::from_millis(if is_local { 30 } else { 3000 }));
    }
    looks
}

/// The rows of a statement, asked by a process of its own.
fn ask(sql: &str, environment: &[(String, String)]) -> Vec<Value> {
    let text = output(
        hyperslab()
            .envs(environment.iter().cloned())
            .args(["--format", "ndjson", "-c", sql]),
    );
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// How many slices there are, with those from before.
fn count(location: &str, kind: Kind, environment: &[(String, String)]) -> i64 {
    let name = match kind {
        Kind::Bare => "n",
        Kind::Cube => "time",
    };
    let sql = format!("SELECT count(DISTINCT {name}) AS c FROM '{location}'");
    let rows = ask(&sql, environment);
    rows.first().and_then(|row| row["c"].as_i64()).unwrap()
}

/// The tags of the slices that were inserted, in their order.
fn read(location: &str, kind: Kind, environment: &[(String, String)]) -> Vec<i64> {
    let all = ask(&kind.slices(location), environment);
    let skipped = usize::try_from(kind.before()).unwrap();
    let tags = all.iter().skip(skipped).map(|slice| {
        let (low, high) = (slice["a"].as_f64().unwrap(), slice["b"].as_f64().unwrap());
        let whole = match kind {
            Kind::Bare => slice["c"] == json!(3) && high == low + 0.5,
            Kind::Cube => slice["c"] == json!(20) && high == low,
        };
        assert!(whole, "{location}: {slice} is no whole slice");
        slice["a"].to_string().parse::<f64>().unwrap().round()
    });
    tags.map(|tag| serde_json::from_str::<i64>(&format!("{tag:.0}")).unwrap())
        .collect()
}

#[tokio::test]
async fn a_writer_who_waits_too_long_says_so() {
    let cube = Cube::new("bare");
    let lock = std::fs::create_dir_all(cube.path.join(".hyperslab"))
        .and_then(|()| std::fs::File::create(cube.path.join(".hyperslab/lock")))
        .unwrap();
    lock.lock().unwrap();
    let session = crate::common::session();
    super::set(&session, "lock_timeout", "50ms").await;
    let before = cube.files();
    let sql = format!("INSERT INTO '{cube}' VALUES (5, 0, 15), (5, 1, 16), (5, 2, 17)");
    let refused = super::error(&session, &sql).await;
    assert!(
        refused.contains("is being written by somebody else, who did not finish within 50ms"),
        "{refused}"
    );
    assert!(cube.files() == before);
    // Readers do not wait for it.
    assert_eq!(
        rows(&session, &format!("SELECT count(*) FROM '{cube}'"))
            .await
            .unwrap(),
        [json!([15])]
    );
    drop(lock);
    assert_eq!(rows(&session, &sql).await.unwrap(), [json!([3])]);
}
