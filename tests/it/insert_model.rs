//! A cube and a model of it: whatever is done to both in whichever order, they hold the same.
//!
//! `HYPERSLAB_FAULTS=full` tries 256 cases of 40 steps for each format, `HYPERSLAB_RANDOM_CASES` as many as it says, and
//! `HYPERSLAB_MODEL_SEED` the one case that a failure has named.

mod model;
mod steps;

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hyperslab::session::Session;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{copy_folder, error, little, row, rows, session};
use crate::grids::Random;
use crate::insert::kill::{CHANGES, inject, is_full, strace};
use crate::insert::{files, hyperslab};
use model::{Change, Model, rows_of};
use steps::Statement;

/// What can be done to a cube, by what it is stored as.
#[derive(Clone, Copy)]
enum Kind {
    /// It has versions, and can be made shorter.
    Versions,
    /// It has versions, and only grows.
    Grows,
    /// It is one file, and has no versions.
    File,
}

#[tokio::test]
async fn zarr_2() {
    cases("v2.zarr", Kind::Versions).await;
}

#[tokio::test]
async fn zarr_2_without_consolidated_metadata() {
    cases("v2_plain.zarr", Kind::Versions).await;
}

#[tokio::test]
async fn zarr_3() {
    cases("v3.zarr", Kind::Versions).await;
}

#[tokio::test]
async fn zarr_3_without_consolidated_metadata() {
    cases("v3_plain.zarr", Kind::Versions).await;
}

#[tokio::test]
async fn zarr_3_in_shards() {
    cases("v3_sharded.zarr", Kind::Versions).await;
}

#[tokio::test]
async fn netcdf_4() {
    cases("cube.nc", Kind::File).await;
}

#[tokio::test]
async fn netcdf_3() {
    cases("cube_classic.nc", Kind::File).await;
}

#[tokio::test]
async fn blosc2() {
    cases("cube.b2d", Kind::Grows).await;
}

async fn cases(fixture: &str, kind: Kind) {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let steps = if is_full() { 40 } else { 20 };
    let all = match number("HYPERSLAB_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("HYPERSLAB_RANDOM_CASES").unwrap_or(if is_full() { 256 } else { 2 }),
    };
    let began = Instant::now();
    let mut done = Done::default();
    for seed in all.clone() {
        let mut machine = Machine::new(fixture, kind, seed);
        for _ in 0..steps {
            machine.step().await;
        }
        machine.end().await;
        done.add(&machine.done);
    }
    let cases = all.end - all.start;
    println!(
        "{fixture}: {cases} cases of {steps} steps in {:?}: {done:?}",
        began.elapsed()
    );
}

/// What has happened.
#[derive(Debug, Default)]
struct Done {
    inserted: u32,
    refused: u32,
    rolled_back: u32,
    read_versions: u32,
    cut: u32,
    /// Of those that were cut short, how many had published.
    cut_and_new: u32,
}

impl Done {
    fn add(&mut self, other: &Self) {
        self.inserted += other.inserted;
        self.refused += other.refused;
        self.rolled_back += other.rolled_back;
        self.read_versions += other.read_versions;
        self.cut += other.cut;
        self.cut_and_new += other.cut_and_new;
    }
}

/// A cube and its model.
struct Machine {
    kind: Kind,
    seed: u64,
    random: Random,
    _place: TempDir,
    path: PathBuf,
    session: Session,
    model: Model,
    /// Whether nothing is in the way that belongs to no version.
    is_clean: bool,
    /// What was done so far, for the message of a failure.
    story: Vec<String>,
    /// How long a statement takes in a process of its own.
    usual: Duration,
    done: Done,
}

impl Machine {
    fn new(fixture: &str, kind: Kind, seed: u64) -> Self {
        let from = PathBuf::from(little(&format!("inserts/{fixture}")));
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(fixture);
        if from.is_dir() {
            copy_folder(&from, &path);
        } else {
            std::fs::copy(&from, &path).unwrap();
        }
        Self {
            kind,
            seed,
            // Other cases for each format.
            random: Random::new(seed + 1000 * fixture.bytes().map(u64::from).sum::<u64>()),
            _place: place,
            path,
            session: session(),
            model: Model::new(),
            is_clean: true,
            story: Vec::new(),
            usual: Duration::from_millis(100),
            done: Done::default(),
        }
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }

    async fn step(&mut self) {
        match self.random.below(20) {
            0..8 => {
                let statement = self.insert();
                self.run(statement).await;
            }
            8..10 => {
                let statement = {
                    let location = self.location();
                    steps::wrong(&mut self.random, &location, self.model.now())
                };
                self.run(statement).await;
            }
            10 => {
                let statement = self.roll_back();
                self.run(statement).await;
            }
            11 => self.vacuum().await,
            12..15 => self.read_a_version().await,
            15 => {
                self.tell("a new session");
                self.session = session();
                self.check("a new session").await;
            }
            _ => {
                let statement = match self.random.below(4) {
                    0 => self.roll_back(),
                    _ => self.insert(),
                };
                self.cut_short(statement).await;
            }
        }
    }

    fn insert(&mut self) -> Statement {
        let location = self.location();
        steps::insert(&mut self.random, &location, self.model.now())
    }

    /// The statement that makes the cube what it was as some version.
    fn roll_back(&mut self) -> Statement {
        let version = self.random.below(self.model.len());
        let sql = format!("ROLLBACK '{}' TO VERSION {version}", self.location());
        let expected = match (self.kind, self.model.version(version)) {
            _ if self.model.len() == 1 => Err("there is no version"),
            (Kind::File, _) => Err("there is no version"),
            (_, None) => Err("cannot be read any more"),
            (Kind::Grows, Some(slices)) if slices.len() < self.model.now().len() => {
                Err("cannot be made shorter")
            }
            (_, Some(slices)) => {
                let change = Change {
                    slices: slices.to_vec(),
                    rewrites: false,
                    operation: format!("rollback to {version}"),
                };
                Ok((change, self.model.len()))
            }
        };
        Statement { sql, expected }
    }

    /// Runs a statement, and looks what has become of the cube.
    async fn run(&mut self, statement: Statement) {
        self.tell(&statement.sql);
        if self.random.once_in(4) {
            self.set("datafusion.execution.batch_size", ["1", "20", "8192"])
                .await;
        }
        let (settings, sql) = statement
            .sql
            .rsplit_once("; ")
            .unwrap_or(("", &statement.sql));
        for setting in settings.split("; ").filter(|setting| !setting.is_empty()) {
            self.session.sql(setting).await.unwrap();
        }
        match statement.expected {
            Ok((change, count)) => {
                let done = row(&self.session, sql).await;
                let done = done.unwrap_or_else(|e| panic!("{e}\n{}", self.story()));
                // Of a rollback it is the number of the version that it makes.
                let version = matches!(self.kind, Kind::File) || done == [json!(count)];
                assert!(version, "{done:?} instead of {count}\n{}", self.story());
                if change.operation.starts_with("rollback") {
                    self.is_clean = false;
                    self.done.rolled_back += 1;
                } else {
                    self.done.inserted += 1;
                }
                self.commit(change);
            }
            Err(says) => {
                let before = self.bytes();
                let refused = match row(&self.session, sql).await {
                    Ok(done) => panic!("{done:?} without '{says}'\n{}", self.story()),
                    Err(refused) => refused.to_string(),
                };
                assert!(refused.contains(says), "{refused}\n{}", self.story());
                // A chunk that belongs to no version is replaced, and then removed.
                let same = !self.is_clean || self.bytes() == before;
                assert!(same, "{refused}, but files have changed\n{}", self.story());
                self.done.refused += 1;
            }
        }
        self.check("the statement").await;
    }

    /// Runs a statement in a process of its own, to which something happens meanwhile.
    async fn cut_short(&mut self, statement: Statement) {
        let Ok((change, _)) = statement.expected else {
            return;
        };
        let sql = statement.sql.as_str();
        let (how, out) = match self.random.below(3) {
            0 => self.killed_after_a_while(sql),
            1 => self.injected(sql, &["signal=SIGKILL"]),
            _ => self.injected(sql, &["error=ENOSPC", "error=EIO"]),
        };
        self.tell(&format!("{how} {sql}"));
        self.is_clean = false;
        self.done.cut += 1;
        let left = self.content(&session()).await;
        let (old, new) = (rows_of(self.model.now()), rows_of(&change.slices));
        assert!(left == old || left == new, "a mixture\n{}", self.story());
        // What is rolled back to what it is, or inserted as it is, shows in the log only.
        let is_new = match self.kind {
            Kind::File => left == new,
            _ => self.log().await.len() > self.model.log().len(),
        };
        let message = String::from_utf8_lossy(&out.stderr);
        let decided = [
            "the change is decided",
            "was changed, but whether that survives",
        ];
        let said_new = out.status.success() || decided.iter().any(|text| message.contains(text));
        let said_old = out.status.code() == Some(1) && !said_new;
        let is_lie = if is_new { said_old } else { said_new };
        assert!(
            old == new || !is_lie,
            "{is_new}, but it said: {message}\n{}",
            self.story()
        );
        if is_new {
            self.done.cut_and_new += 1;
            self.commit(change);
        }
        self.check("what was cut short").await;
    }

    fn killed_after_a_while(&mut self, sql: &str) -> (String, Output) {
        let began = Instant::now();
        let mut child = hyperslab()
            .args(["-c", sql])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let while_ = self
            .usual
            .mul_f64(f64::from(u32::try_from(self.random.below(100)).unwrap()) / 70.0);
        std::thread::sleep(while_);
        let is_done = child.try_wait().unwrap().is_some();
        child.kill().unwrap();
        let out = child.wait_with_output().unwrap();
        self.usual = if is_done {
            self.usual.mul_f64(0.9)
        } else {
            self.usual.mul_f64(1.05)
        };
        (format!("killed after {:?}:", began.elapsed()), out)
    }

    fn injected(&mut self, sql: &str, what: &[&str]) -> (String, Output) {
        let what = self.random.pick(what);
        let calls: Vec<&str> = match what {
            "signal=SIGKILL" => CHANGES.split(',').collect(),
            // Processes write to wake their threads, too, and open what they only read.
            _ => vec![
                "pwrite64",
                "fsync",
                "fdatasync",
                "rename",
                "linkat",
                "mkdir",
            ],
        };
        let call = self.random.pick(&calls);
        // Most files are opened by the loader of programs.
        let most = if call == "openat" { 80 } else { 12 };
        let what = format!("{what}:when={}", 1 + self.random.below(most));
        match can_trace() {
            true => (format!("{call} {what}:"), inject(sql, call, &what)),
            false => self.killed_after_a_while(sql),
        }
    }

    async fn vacuum(&mut self) {
        self.tell("VACUUM");
        let vacuum = format!("VACUUM '{}'", self.location());
        let removed = rows(&self.session, &vacuum).await;
        let removed = removed.unwrap_or_else(|e| panic!("{e}\n{}", self.story()));
        assert!(
            removed.is_empty() || !self.is_clean,
            "{removed:?} was in the way\n{}",
            self.story()
        );
        self.is_clean = true;
        self.check("VACUUM").await;
        let left = rows(&self.session, &format!("{vacuum} DRY RUN"))
            .await
            .unwrap();
        assert!(left.is_empty(), "{left:?}\n{}", self.story());
    }

    async fn read_a_version(&mut self) {
        if let Kind::File = self.kind {
            return;
        }
        let version = self.random.below(self.model.len());
        self.tell(&format!("version {version}"));
        let sql = format!(
            "SELECT time, lat, lon, tas, pr, area FROM '{}' FOR VERSION AS OF {version} ORDER BY time, lat, lon",
            self.location()
        );
        match self.model.version(version) {
            Some(slices) if self.model.len() > 1 => {
                let got = rows(&self.session, &sql).await;
                let got = got.unwrap_or_else(|e| panic!("{e}\n{}", self.story()));
                assert!(
                    got == rows_of(slices),
                    "version {version}\n{}",
                    self.story()
                );
                self.done.read_versions += 1;
            }
            other => {
                let refused = error(&self.session, &sql).await;
                let says = match other {
                    Some(_) => "there is no version",
                    None => "cannot be read any more",
                };
                assert!(refused.contains(says), "{refused}\n{}", self.story());
            }
        }
    }

    /// The cube holds what the model does, for the session and for a new one, and its log tells how it came to that.
    async fn check(&self, after: &str) {
        let wanted = rows_of(self.model.now());
        let other = session();
        for session in [&self.session, &other] {
            let got = self.content(session).await;
            let differs = got
                .iter()
                .zip(&wanted)
                .position(|(got, wanted)| got != wanted);
            assert!(
                got == wanted,
                "after {after}: {} rows instead of {}, the first that differs is {:?} instead of {:?}\n{}",
                got.len(),
                wanted.len(),
                differs.map(|at| &got[at]),
                differs.map(|at| &wanted[at]),
                self.story()
            );
        }
        if !matches!(self.kind, Kind::File) {
            let log = self.log().await;
            assert!(
                log == self.model.log(),
                "after {after}: {log:?}\n{}",
                self.story()
            );
        }
    }

    /// Nothing is left of all that went wrong.
    async fn end(&mut self) {
        self.vacuum().await;
        let left = files(self.path.parent().unwrap());
        let temporary = left
            .iter()
            .find(|(path, _)| path.extension().is_some_and(|e| e == "tmp"));
        assert!(temporary.is_none(), "{temporary:?}\n{}", self.story());
        for place in ["aside", "tmp"] {
            let left = std::fs::read_dir(self.path.join(".hyperslab").join(place));
            assert!(
                left.is_ok_and(|mut left| left.next().is_none())
                    || !self.path.is_dir()
                    || place == "tmp"
            );
        }
        assert!(
            !self.path.join(".hyperslab/commit").exists(),
            "{}",
            self.story()
        );
    }

    async fn content(&self, session: &Session) -> Vec<Value> {
        let sql = format!(
            "SELECT time, lat, lon, tas, pr, area FROM '{}' ORDER BY time, lat, lon",
            self.location()
        );
        let rows = rows(session, &sql).await;
        rows.unwrap_or_else(|e| panic!("{e}\n{}", self.story()))
    }

    /// As [`Model::log`].
    async fn log(&self) -> Vec<Value> {
        let sql = format!(
            "SELECT version, operation, CAST(regexp_match(lengths, 'time=([0-9]+)')[1] AS BIGINT), readable \
             FROM array_versions('{}')",
            self.location()
        );
        rows(&session(), &sql).await.unwrap()
    }

    fn commit(&mut self, change: Change) {
        self.model.commit(change);
    }

    async fn set(&mut self, name: &str, values: [&str; 3]) {
        let value = self.random.pick(&values);
        let sql = format!("SET {name} = {value}");
        self.session.sql(&sql).await.unwrap();
    }

    /// The files of the dataset.
    fn bytes(&self) -> Vec<(PathBuf, Vec<u8>)> {
        if self.path.is_dir() {
            return files(&self.path);
        }
        vec![(self.path.clone(), std::fs::read(&self.path).unwrap())]
    }

    fn tell(&mut self, what: &str) {
        let cut = what
            .char_indices()
            .nth(400)
            .map_or(what.len(), |(at, _)| at);
        self.story.push(what[..cut].to_owned());
    }

    fn story(&self) -> String {
        let Self {
            path, seed, story, ..
        } = self;
        let name = path.file_name().unwrap_or_default();
        format!(
            "{name:?}, HYPERSLAB_MODEL_SEED={seed}, step {}:\n{}",
            story.len(),
            story.join("\n")
        )
    }
}

/// Whether system calls can be made to fail.
fn can_trace() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let out = strace("SELECT 1", &["-o", "/dev/null"]);
        out.is_some_and(|out| out.status.success())
    })
}
