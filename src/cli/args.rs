//! The command line: what can be said, and what it comes to once checked.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use hyperslab::session::SessionOptions;

const EXAMPLES: &str = "\
Examples:
  hyperslab -c \"SELECT time, avg(tas) FROM 'tas.nc' WHERE lat > 60 GROUP BY time ORDER BY time\"
  hyperslab -o warm.parquet -c \"SELECT * FROM 'sst.zarr' WHERE sst > 28\"
  hyperslab info tas.nc
  hyperslab append -t cube.zarr day-01.nc day-02.nc
  hyperslab serve --root climate=/data/climate
  hyperslab --connect grpc://127.0.0.1:50051 -c \"SELECT count(*) FROM 'climate/tas.nc'\"

Without -c and -f, statements are read from standard input. The exit code is 0 when all statements were run, 1 when one
failed, and 2 when the command line is wrong. Arrow is the IPC stream format on standard output, and the IPC file format
in a file.";

/// What is to be done, checked as far as it can be without opening anything.
#[derive(Debug)]
pub(crate) enum Task {
    /// Run statements.
    Query(Query),
    /// Describe datasets.
    Info(Info),
    /// Append slices to a dataset.
    Append(Append),
    /// Look after what is kept of remote objects.
    Cache(Cache),
    /// Answer over the network.
    #[cfg(feature = "server")]
    Serve(Serve),
}

/// What is done with what is kept of remote objects on disk.
#[derive(Debug, clap::Args)]
pub(crate) struct Cache {
    /// What to do.
    #[arg(value_enum)]
    pub(crate) action: CacheAction,
    /// Where it is kept, instead of what HYPERSLAB_CACHE_DIR says.
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

/// What can be done with it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CacheAction {
    /// List the ranges and objects, with their sizes and when they were used last.
    Ls,
    /// Remove all of them.
    Clear,
    /// Read all of them, and remove those that are damaged.
    Verify,
}

/// How to answer over the network.
#[cfg(feature = "server")]
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Configuration, a TOML file.
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Address and port, instead of that of the configuration.
    #[arg(long, value_name = "ADDRESS:PORT", env = "HYPERSLAB_LISTEN")]
    pub(crate) listen: Option<String>,
    /// A folder or URL below which datasets can be read, by a name (repeatable).
    #[arg(long = "root", value_name = "NAME=LOCATION", value_parser = pair)]
    pub(crate) roots: Vec<Pair>,
    /// Let datasets below these roots be made and changed.
    #[arg(long)]
    pub(crate) writable: bool,
    /// Reduce chunks of objects below this URL for clients of Reductionist (repeatable).
    #[arg(long = "reducer", value_name = "URL_PREFIX")]
    pub(crate) reducer: Vec<String>,
    /// Let plain text leave this machine.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Check the configuration, and do nothing else.
    #[arg(long = "check-config")]
    pub(crate) check: bool,
}

/// Statements, and how they are to be run.
#[derive(Debug)]
pub(crate) struct Query {
    /// Where statements come from, in the order of the command line; none is standard input.
    pub(crate) sources: Vec<Source>,
    /// How results are written.
    pub(crate) format: Format,
    /// The file for the result instead of standard output.
    pub(crate) output: Option<PathBuf>,
    /// Rows shown of a table; `None` is all.
    pub(crate) max_rows: Option<usize>,
    /// Limits of the session.
    pub(crate) session: SessionOptions,
    /// Settings, as with `SET key = value`.
    pub(crate) settings: Vec<Pair>,
    /// Names of datasets and their locations.
    pub(crate) names: Vec<Pair>,
    /// The server that runs them, if it is not this process.
    #[cfg(feature = "server")]
    pub(crate) connect: Option<Connect>,
    /// Whether the time that each statement took is told.
    pub(crate) timing: bool,
    /// Whether the first failure is the last.
    pub(crate) bail: bool,
}

/// A server, and who asks it.
#[cfg(feature = "server")]
#[derive(Clone)]
pub(crate) struct Connect {
    /// `grpc://host:port`, or `grpc+tls://…`.
    pub(crate) url: String,
    /// Who asks, if the URL does not say.
    pub(crate) user: Option<String>,
    /// His password.
    pub(crate) password: Option<String>,
    /// What is as good as both.
    pub(crate) token: Option<String>,
    /// Who may have signed the certificate of the server, besides those whom the system trusts.
    pub(crate) certificates: Option<PathBuf>,
}

#[cfg(feature = "server")]
impl std::fmt::Debug for Connect {
    /// Without secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Datasets to describe.
#[derive(Debug)]
pub(crate) struct Info {
    /// Where they are.
    pub(crate) paths: Vec<String>,
    /// How to describe them.
    pub(crate) format: InfoFormat,
}

/// Slices to append.
#[derive(Debug)]
pub(crate) struct Append {
    /// Paths, URLs or queries.
    pub(crate) slices: Vec<String>,
    /// Configuration files, later ones over earlier ones.
    pub(crate) files: Vec<PathBuf>,
    /// What the command line says, as a configuration over those of the files.
    pub(crate) over: serde_json::Value,
    /// What to print instead of appending.
    pub(crate) help: Option<HelpFormat>,
    /// Limits of the session.
    pub(crate) session: SessionOptions,
    /// Settings, as with `SET key = value`.
    pub(crate) settings: Vec<Pair>,
}

/// How the options of a configuration are described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HelpFormat {
    /// A JSON schema.
    Json,
    /// Markdown.
    Md,
}

/// Where statements come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The text itself.
    Text(String),
    /// A file.
    File(PathBuf),
}

/// `key=value`.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// What is before the first `=`.
    pub(crate) key: String,
    /// What is after it.
    pub(crate) value: String,
}

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people: the first rows, aligned.
    Table,
    /// Comma-separated values with a header; NULL is empty.
    Csv,
    /// One array of objects.
    Json,
    /// One object a line.
    Ndjson,
    /// Arrow IPC: a stream on standard output, the file format in a file.
    Arrow,
    /// Parquet.
    Parquet,
}

/// How a dataset is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InfoFormat {
    /// For people.
    Text,
    /// One object a dataset, for programs.
    Json,
}

/// SQL over chunked scientific arrays: netCDF, HDF5, Zarr and Blosc2.
#[derive(Debug, Parser)]
#[command(name = "hyperslab", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    query: QueryArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what is in datasets: dimensions, variables, and the tables they make.
    Info {
        /// Paths or URLs of datasets.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
        /// How to show it.
        #[arg(long, value_enum, default_value = "text")]
        format: InfoFormat,
    },
    /// Append slices to a dataset along a dimension, each whole or not at all.
    Append(AppendArgs),
    /// List, check or remove what is kept on disk of objects that were read over the network.
    Cache(Cache),
    /// Answer statements over Arrow Flight SQL, until it is told to stop.
    #[cfg(feature = "server")]
    Serve(Serve),
}

#[derive(Debug, clap::Args)]
struct AppendArgs {
    /// Paths or URLs of datasets, or queries (SELECT …, sql:…), in the order in which they are appended.
    #[arg(value_name = "SLICES")]
    slices: Vec<String>,
    /// Configuration in YAML or JSON, by the extension (repeatable: later ones are put over earlier ones).
    #[arg(short, long = "config", value_name = "FILE")]
    configs: Vec<PathBuf>,
    /// Path or URL of the target; it is made of the first slice if it is not there.
    #[arg(short, long, value_name = "TARGET")]
    target: Option<String>,
    /// Remove an existing target for good before the first slice is appended.
    #[arg(long)]
    force_new: bool,
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Leave out slices whose labels are there already.
    #[arg(long)]
    resume: bool,
    /// Tell on standard error what is done.
    #[arg(short, long)]
    verbose: bool,
    /// Write how long things took to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    profile: Option<String>,
    /// Describe the options of configurations, and do nothing else.
    #[arg(long, value_name = "json|md", value_enum)]
    help_config: Option<HelpFormat>,
    /// Most memory that queries may hold, like 512MiB or 2GiB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory_limit: Option<usize>,
    /// Threads that work at the same time; one a core without it.
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<usize>,
    /// Change a setting, like hyperslab.durability=none (repeatable).
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<Pair>,
}

impl AppendArgs {
    fn checked(self) -> Append {
        let mut over = serde_json::Map::new();
        let mut say = |name: &str, value: serde_json::Value| {
            over.insert(name.to_owned(), value);
        };
        if let Some(target) = self.target {
            say("target_dir", target.into());
        }
        let flags = [
            ("force_new", self.force_new),
            ("dry_run", self.dry_run),
            ("resume", self.resume),
            ("logging", self.verbose),
        ];
        for (name, _) in flags.into_iter().filter(|(_, is_set)| *is_set) {
            say(name, true.into());
        }
        if let Some(path) = self.profile {
            say("profiling", path.into());
        }
        Append {
            slices: self.slices,
            files: self.configs,
            over: over.into(),
            help: self.help_config,
            session: SessionOptions {
                memory_limit: self.memory_limit,
                threads: self.threads,
                runtime: None,
            },
            settings: self.settings,
        }
    }
}

#[derive(Debug, clap::Args)]
struct QueryArgs {
    /// Run these statements, separated by `;` (repeatable).
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    commands: Vec<String>,
    /// Run the statements of this file (repeatable).
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How results are written; without it the extension of --output decides, or it is a table.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write the result to this file, which appears when it is complete.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Rows shown of a table; 0 shows all.
    #[arg(long, value_name = "N", default_value_t = 40)]
    max_rows: usize,
    /// Most memory that statements may hold, like 512MiB or 2GiB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory_limit: Option<usize>,
    /// Threads that work at the same time; one a core without it.
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<usize>,
    /// Change a setting, like hyperslab.nan_as_null=false (repeatable).
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<Pair>,
    /// Give a dataset a name to be used in FROM (repeatable).
    #[arg(long = "register", value_name = "NAME=LOCATION", value_parser = pair)]
    names: Vec<Pair>,
    /// Let a server run the statements: grpc://host:port, or grpc+tls://user@host:port. HYPERSLAB_PASSWORD or HYPERSLAB_TOKEN is
    /// what the environment says.
    #[cfg(feature = "server")]
    #[arg(long, value_name = "URL", env = "HYPERSLAB_CONNECT", conflicts_with_all = ["names", "memory_limit", "threads"])]
    connect: Option<String>,
    /// Who asks the server, if its URL does not say.
    #[cfg(feature = "server")]
    #[arg(long, value_name = "NAME", requires = "connect")]
    user: Option<String>,
    /// Who may have signed the certificate of the server, a PEM file.
    #[cfg(feature = "server")]
    #[arg(long, value_name = "FILE", requires = "connect")]
    certificates: Option<PathBuf>,
    /// Tell on standard error how long each statement took.
    #[arg(long)]
    timing: bool,
    /// Stop at the first statement that fails.
    #[arg(long)]
    bail: bool,
}

/// What the command line of this process asks for. One that is wrong ends the process with exit code 2, after saying
/// what is wrong; `--help` and `--version` end it with 0.
pub(crate) fn task() -> Task {
    checked(&Args::command().get_matches()).unwrap_or_else(|error| error.exit())
}

fn checked(matches: &ArgMatches) -> Result<Task, clap::Error> {
    let args = Args::from_arg_matches(matches)?;
    match args.command {
        Some(Command::Info { paths, format }) => return Ok(Task::Info(Info { paths, format })),
        Some(Command::Cache(cache)) => return Ok(Task::Cache(cache)),
        Some(Command::Append(append)) => return Ok(Task::Append(append.checked())),
        #[cfg(feature = "server")]
        Some(Command::Serve(serve)) => return Ok(Task::Serve(serve)),
        None => {}
    }
    let query = args.query;
    let format = match (query.format, &query.output) {
        (Some(format), _) => format,
        (None, Some(path)) => of_extension(path).ok_or_else(|| {
            Args::command().error(
                ErrorKind::ValueValidation,
                format!(
                    "the format of {} is not told by its extension (.csv .json .ndjson .jsonl .arrow .feather .parquet); \
                     say it with --format",
                    path.display()
                ),
            )
        })?,
        (None, None) => Format::Table,
    };
    Ok(Task::Query(Query {
        sources: sources(matches, query.commands, query.files),
        format,
        output: query.output,
        max_rows: (query.max_rows > 0).then_some(query.max_rows),
        session: SessionOptions {
            memory_limit: query.memory_limit,
            threads: query.threads,
            runtime: None,
        },
        settings: query.settings,
        names: query.names,
        #[cfg(feature = "server")]
        connect: query.connect.map(|url| Connect {
            url,
            user: query.user,
            password: secret("HYPERSLAB_PASSWORD"),
            token: secret("HYPERSLAB_TOKEN"),
            certificates: query.certificates,
        }),
        timing: query.timing,
        bail: query.bail,
    }))
}

/// What nobody writes on a command line, where others could see it.
#[cfg(feature = "server")]
fn secret(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// `-c` and `-f` in the order in which they were given.
fn sources(matches: &ArgMatches, commands: Vec<String>, files: Vec<PathBuf>) -> Vec<Source> {
    let places = |id| matches.indices_of(id).into_iter().flatten();
    let texts = places("commands").zip(commands.into_iter().map(Source::Text));
    let files = places("files").zip(files.into_iter().map(Source::File));
    let mut sources: Vec<(usize, Source)> = texts.chain(files).collect();
    sources.sort_by_key(|(place, _)| *place);
    sources.into_iter().map(|(_, source)| source).collect()
}

fn of_extension(path: &Path) -> Option<Format> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "csv" => Some(Format::Csv),
        "json" => Some(Format::Json),
        "ndjson" | "jsonl" => Some(Format::Ndjson),
        "arrow" | "feather" => Some(Format::Arrow),
        "parquet" => Some(Format::Parquet),
        _ => None,
    }
}

fn pair(text: &str) -> Result<Pair, String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() && !value.is_empty() => Ok(Pair {
            key: key.trim().to_owned(),
            value: value.to_owned(),
        }),
        _ => Err("it has to be of the form NAME=VALUE".to_owned()),
    }
}

/// A pair whose key may stand in a `SET` statement as it is.
fn setting(text: &str) -> Result<Pair, String> {
    let pair = pair(text)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if pair.key.chars().all(is_plain) {
        Ok(pair)
    } else {
        Err(format!("{} is not the name of a setting", pair.key))
    }
}

fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("it has to be a number of at least 1".to_owned()),
        Ok(threads) => Ok(threads),
    }
}

/// Bytes of `2GiB`, `512 MB`, `64k` or `1000000`; a unit without `B` or with `iB` counts in powers of 1024.
fn size(text: &str) -> Result<usize, String> {
    let wrong = || "it has to be a size like 512MiB, 2GiB or 1500000000".to_owned();
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let unit = unit.trim().to_ascii_lowercase();
    let bytes: u128 = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.parse::<u128>().map_err(|_| wrong());
    let tens = u32::try_from(part.len())
        .ok()
        .and_then(|digits| 10u128.checked_pow(digits))
        .ok_or_else(wrong)?;
    let part = match part {
        "" => 0,
        part => digits(part)?,
    };
    let size = digits(whole)?
        .checked_mul(tens)
        .and_then(|whole| whole.checked_add(part))
        .and_then(|size| size.checked_mul(bytes))
        .ok_or_else(wrong)?
        / tens;
    match usize::try_from(size) {
        Ok(0) | Err(_) => Err(wrong()),
        Ok(size) => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;

    fn query(args: &[&str]) -> Result<Query, clap::Error> {
        let args = ["hyperslab"].iter().chain(args);
        match checked(&Args::command().try_get_matches_from(args)?)? {
            Task::Query(query) => Ok(query),
            _ => panic!("not a query"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn statements_keep_the_order_of_the_command_line() {
        let query = query(&["-c", "a", "-f", "b", "-c", "c", "--bail"]).unwrap();
        let sources: Vec<String> = query
            .sources
            .into_iter()
            .map(|source| match source {
                Source::Text(text) => text,
                Source::File(path) => path.display().to_string(),
            })
            .collect();
        assert_eq!(sources, ["a", "b", "c"]);
    }

    #[test]
    fn the_extension_tells_the_format_unless_it_is_given() {
        for (args, format) in [
            (&["-o", "a.CSV"][..], Format::Csv),
            (&["-o", "a.feather"], Format::Arrow),
            (&["-o", "a.csv", "--format", "json"], Format::Json),
            (&["-o", "a", "--format", "parquet"], Format::Parquet),
            (&[], Format::Table),
        ] {
            assert_eq!(query(args).unwrap().format, format, "{args:?}");
        }
        assert_eq!(query(&["-o", "a.xyz"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("2GiB", 2 << 30),
            ("1.5 k", 1536),
            ("10MB", 10_000_000),
            ("7", 7),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "GiB",
            "-1",
            "0",
            "1.2.3k",
            "2 apples",
            "99999999999TiB",
            "é",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pairs_need_both_sides() {
        assert!(query(&["--register", "name"]).is_err());
        assert!(query(&["--set", "a b=1"]).is_err());
        assert!(query(&["--threads", "0"]).is_err());
        let query = query(&["--set", "a.b=c=d"]).unwrap();
        let settings: Vec<(&str, &str)> = query
            .settings
            .iter()
            .map(|pair| (pair.key.as_str(), pair.value.as_str()))
            .collect();
        assert_eq!(settings, [("a.b", "c=d")]);
    }
}
