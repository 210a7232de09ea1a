//! SQL text in, record batches out.

mod by_name;
mod statement;
mod transaction;
mod versions;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Result, SchemaError, TableReference};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::dynamic_file::DynamicListTableFactory;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{FunctionRegistry, SessionStateBuilder, SessionStateDefaults};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, dialect_from_str};

use crate::append::{Outcome, Target, Vacuum};
use crate::catalog::copy::{self, DatasetFormat};
use crate::catalog::factory::{DatasetTableFactory, STORED_AS};
use crate::catalog::provider::DatasetCatalog;
use crate::catalog::quote::identifier;
use crate::catalog::{Catalog, Opened, functions, tables};
use crate::error::Error;
use crate::query::insert::append_options;
use crate::query::{self, HyperslabOptions, engine_error};

use statement::Kind;
use versions::Change;

pub use crate::catalog::guard::{Access, Guard};
pub use statement::Prepared;
pub use transaction::Transaction;

/// Limits of a session.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Most bytes that the statements of the session may hold; `None` sets no limit.
    pub memory_limit: Option<usize>,
    /// Number of partitions that work at the same time; `None` is one a core.
    pub threads: Option<usize>,
    /// What sessions share: memory and what is kept of files. Without it, a session has its own.
    pub runtime: Option<Arc<RuntimeEnv>>,
}

/// A session: datasets with names, settings, and the engine that answers statements about them.
#[derive(Clone)]
pub struct Session {
    engine: Arc<dyn Engine>,
    catalog: Arc<Catalog>,
}

/// What holds the engine's session. That plans can be sent between threads takes the compiler seconds to find out, for
/// everything anew that holds a session; of this it knows.
trait Engine: Send + Sync {
    fn context(&self) -> &SessionContext;
}

impl Engine for SessionContext {
    fn context(&self) -> &SessionContext {
        self
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("datasets", &self.catalog.names())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session without limits.
    ///
    /// # Errors
    /// When the engine cannot be set up.
    pub fn new() -> Result<Self> {
        Self::with_options(&SessionOptions::default())
    }

    /// A session with limits.
    ///
    /// # Errors
    /// When the engine cannot be set up.
    pub fn with_options(options: &SessionOptions) -> Result<Self> {
        let mut config = SessionConfig::new()
            .with_information_schema(true)
            .with_option_extension(HyperslabOptions::default());
        if let Some(threads) = options.threads {
            config = config.with_target_partitions(threads.max(1));
        }
        let runtime = match (&options.runtime, options.memory_limit) {
            (Some(runtime), _) => Arc::clone(runtime),
            (None, limit) => runtime(limit)?,
        };
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_physical_optimizer_rules(query::rules(PhysicalOptimizer::new().rules))
            .build();
        let context = SessionContext::new_with_state(state);
        let catalog = install(&context)?;
        Ok(Self {
            engine: Arc::new(context),
            catalog,
        })
    }

    /// The engine's own session, for everything that is not about arrays.
    #[must_use]
    pub fn context(&self) -> &SessionContext {
        self.engine.context()
    }

    /// What opens datasets.
    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Opens the dataset at a path or URL.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub async fn open(&self, location: &str) -> Result<Arc<Opened>, Error> {
        self.catalog.open(location).await
    }

    /// Gives the dataset at a path or URL a name: `FROM name` is its main table, `FROM name.tas` one of its tables.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub async fn register(&self, name: &str, location: &str) -> Result<(), Error> {
        self.catalog.open(location).await?;
        self.catalog.name(name, location);
        Ok(())
    }

    /// Reaches what is at or below a location with options of its store (`aws_…`, `google_…`, `azure_…`, `allow_http`), which count
    /// more than those of the environment.
    pub fn reach(&self, location: &str, options: Vec<(String, String)>) {
        self.catalog.reach(location, options);
    }

    /// Lets statements use only the locations that `guard` allows, and not change settings of the process.
    pub fn confine(&self, guard: Arc<dyn Guard>) {
        self.catalog.confine(guard);
    }

    /// Plans a statement; nothing has run yet, except statements that only change the session (`SET`, `CREATE`).
    ///
    /// # Errors
    /// When the statement is wrong, or a dataset it names cannot be opened.
    pub async fn sql(&self, sql: &str) -> Result<DataFrame> {
        let prepared = self.prepare(sql).await?;
        self.run(prepared).await
    }

    /// Reads a statement; nothing has run yet. Parameters are `$1`, `$2`, … or `?`.
    ///
    /// # Errors
    /// As [`Session::sql`].
    pub async fn prepare(&self, sql: &str) -> Result<Prepared> {
        let (change, rewritten) = self.versions(sql);
        if let Some(change) = change {
            return Ok(Prepared(Kind::Change(change)));
        }
        let sql = rewritten.as_deref().unwrap_or(sql);
        let named = self.by_name(sql).await?;
        let sql = named.as_deref().unwrap_or(sql);
        match self.context().state().create_logical_plan(sql).await {
            Ok(plan) => Ok(Prepared(Kind::Plan(plan))),
            Err(error) => Err(self.explain(sql, error).await),
        }
    }

    /// Plans a statement that has been read, as [`Session::sql`] does.
    ///
    /// # Errors
    /// As [`Session::sql`].
    pub async fn run(&self, prepared: Prepared) -> Result<DataFrame> {
        match prepared.0 {
            Kind::Change(change) => {
                let done = self.change(change).await.map_err(engine_error)?;
                self.context().read_batch(done)
            }
            Kind::Plan(plan) => {
                let plan = statement::confined(plan, &self.catalog)?;
                self.context().execute_logical_plan(plan).await
            }
        }
    }

    /// Lets a dataset, given by name or location, be again what it was as a version, which goes by its number, or where the
    /// format has them by a snapshot, tag or branch.
    ///
    /// # Errors
    /// As [`Target::roll_back`](crate::append::Target::roll_back).
    pub async fn roll_back(&self, dataset: &str, version: &str) -> Result<Outcome, Error> {
        let options = append_options(&self.catalog.options())?;
        let target = self.target(dataset).await?;
        target.roll_back(version, options).await
    }

    /// Removes, or only lists, what belongs to no version of a dataset, given by name or location.
    ///
    /// # Errors
    /// As [`Target::vacuum`](crate::append::Target::vacuum).
    pub async fn vacuum(&self, dataset: &str, vacuum: Vacuum) -> Result<Vec<String>, Error> {
        let options = append_options(&self.catalog.options())?;
        self.target(dataset).await?.vacuum(vacuum, options).await
    }

    async fn target(&self, dataset: &str) -> Result<Target, Error> {
        let named = self.catalog.location_of(dataset);
        self.catalog
            .target(named.as_deref().unwrap_or(dataset))
            .await
    }

    async fn change(&self, change: Change) -> Result<RecordBatch, Error> {
        let (name, values): (_, ArrayRef) = match change {
            Change::RollBack { dataset, version } => {
                match self.roll_back(&dataset, &version).await? {
                    Outcome::Committed { version } => {
                        ("version", Arc::new(UInt64Array::from(vec![version])))
                    }
                    Outcome::Conflict => {
                        return Err(Error::Conflict(format!(
                            "{dataset}: another program has changed the dataset meanwhile, try again"
                        )));
                    }
                }
            }
            Change::Vacuum { dataset } => {
                let removed = self.vacuum(&dataset, Vacuum::Removed).await?;
                ("removed", Arc::new(StringArray::from(removed)))
            }
            Change::ListOrphans { dataset } => {
                let orphans = self.vacuum(&dataset, Vacuum::Listed).await?;
                ("orphan", Arc::new(StringArray::from(orphans)))
            }
        };
        RecordBatch::try_from_iter([(name, values)]).map_err(|e| Error::Invalid(e.to_string()))
    }

    /// How statements are written.
    fn dialect(&self) -> Box<dyn Dialect> {
        let state = self.context().state();
        dialect_from_str(state.config_options().sql_parser.dialect)
            .unwrap_or_else(|| Box::new(GenericDialect {}))
    }

    /// An `INSERT … BY NAME` with the columns of its query written out, if it is one.
    async fn by_name(&self, sql: &str) -> Result<Option<String>> {
        let parts = by_name::split(sql, self.dialect().as_ref());
        let Some((head, query)) = parts else {
            return Ok(None);
        };
        let plan = match self.context().state().create_logical_plan(query).await {
            Ok(plan) => plan,
            Err(error) => return Err(self.explain(query, error).await),
        };
        let fields = plan.schema().fields().iter();
        let names: Vec<String> = fields.map(|field| identifier(field.name())).collect();
        Ok(Some(format!("{head}({}) {query}", names.join(", "))))
    }

    /// What a statement says about versions: the change that it is, or what it is in the engine's grammar.
    fn versions(&self, sql: &str) -> (Option<Change>, Option<String>) {
        let dialect = self.dialect();
        let change = versions::change(sql, dialect.as_ref());
        let rewritten = versions::rewrite(sql, dialect.as_ref());
        let text = rewritten.as_deref().unwrap_or(sql);
        let numbered = statement::numbered(text, dialect.as_ref());
        (change, numbered.or(rewritten))
    }

    /// Runs a statement; rows come as they are found.
    ///
    /// # Errors
    /// As [`Session::sql`]; errors of the execution come through the stream.
    pub async fn stream(&self, sql: &str) -> Result<SendableRecordBatchStream> {
        self.sql(sql).await?.execute_stream().await
    }

    /// A column that is not there: says where in the dataset it is.
    async fn explain(&self, sql: &str, error: DataFusionError) -> DataFusionError {
        let Some(column) = missing_column(&error) else {
            return error;
        };
        let state = self.context().state();
        let dialect = state.config_options().sql_parser.dialect;
        let Ok(statement) = state.sql_to_statement(sql, &dialect) else {
            return error;
        };
        for reference in references(&state, &statement) {
            let (location, table) = match &reference {
                TableReference::Bare { table } => (table.to_string(), None),
                TableReference::Partial { schema, table }
                | TableReference::Full { schema, table, .. } => {
                    (schema.to_string(), Some(table.to_string()))
                }
            };
            let location = self.catalog.location_of(&location).unwrap_or(location);
            let Ok(opened) = self.catalog.open(&location).await else {
                continue;
            };
            let table = match table {
                Some(table) => table,
                None => match tables::main_table(&opened) {
                    Ok(table) => table.name,
                    Err(_) => continue,
                },
            };
            let options = self.catalog.options();
            if let Some(reason) = tables::explain_missing(&opened, &table, &column, &options) {
                return engine_error(Error::Invalid(reason));
            }
        }
        error
    }
}

/// What sessions can share, in which statements hold at most `memory_limit` bytes.
pub(crate) fn runtime(memory_limit: Option<usize>) -> Result<Arc<RuntimeEnv>> {
    let builder = RuntimeEnvBuilder::new();
    match memory_limit {
        None => builder.build_arc(),
        Some(limit) => builder
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(limit)))
            .build_arc(),
    }
}

/// Puts datasets into an existing session: paths and named datasets as tables, `STORED AS`, table functions, SQL
/// functions, optimizer rules and settings. What the session has already stays.
///
/// # Errors
/// When the session refuses one of the parts.
pub fn install(context: &SessionContext) -> Result<Arc<Catalog>> {
    let catalog = Arc::new(Catalog::default());
    let state = context.state_ref();
    {
        let mut state = state.write();
        let options = state.config_mut().options_mut();
        if options.extensions.get::<HyperslabOptions>().is_none() {
            options.extensions.insert(HyperslabOptions::default());
        }
        for extension in copy::EXTENSIONS {
            let format = Arc::new(DatasetFormat::new(extension));
            state.register_file_format(format, true)?;
        }
        for name in STORED_AS {
            let factory = Arc::new(DatasetTableFactory::new(Arc::clone(&catalog)));
            state
                .table_factories_mut()
                .insert((*name).to_owned(), factory);
        }
    }
    for (name, function) in functions::functions(&catalog) {
        context.register_udtf(name, function);
    }
    register_sql_functions(context)?;
    install_rules(context)?;
    let files = DynamicListTableFactory::new(Default::default());
    files.session_store().with_state(context.state_weak_ref());
    let files = Arc::new(files);
    catalog.attach(context.state_weak_ref());
    let names = context.catalog_names();
    for name in names {
        if let Some(inner) = context.catalog(&name) {
            let with_datasets =
                DatasetCatalog::new(inner, Arc::clone(&catalog), Arc::clone(&files) as _);
            context.register_catalog(name, Arc::new(with_datasets));
        }
    }
    Ok(catalog)
}

/// Puts our rules among those of the session, if they are not there.
fn install_rules(context: &SessionContext) -> Result<()> {
    let state = context.state_ref();
    let mut state = state.write();
    let before = state.clone();
    let rules = query::rules(before.physical_optimizers().to_vec());
    if rules.len() == before.physical_optimizers().len() {
        return Ok(());
    }
    // Only a state that is built anew takes other rules; whatever else it says stays.
    *state = SessionStateBuilder::new_from_existing(before.clone())
        .with_session_id(before.session_id().to_owned())
        .with_physical_optimizer_rules(rules)
        .build();
    let create = before.config_options().catalog.clone();
    state.config_mut().options_mut().catalog = create;
    let state = &mut *state;
    let of = SessionState::scalar_functions;
    restore(state, of(&before), of, SessionState::register_udf)?;
    let of = SessionState::aggregate_functions;
    restore(state, of(&before), of, SessionState::register_udaf)?;
    let of = SessionState::window_functions;
    restore(state, of(&before), of, SessionState::register_udwf)
}

/// What gives a state a function, and gives the one back that it replaces.
type Register<F> = fn(&mut SessionState, Arc<F>) -> Result<Option<Arc<F>>>;

/// Functions may claim the same name as an alias, and building a state anew settles that by chance: gives every name
/// back to the function that had it.
fn restore<F>(
    state: &mut SessionState,
    before: &HashMap<String, Arc<F>>,
    of: fn(&SessionState) -> &HashMap<String, Arc<F>>,
    register: Register<F>,
) -> Result<()> {
    // Giving one back may take another; no function has so many aliases that this goes on for long.
    for _ in 0..8 {
        let owners: Vec<Arc<F>> = before
            .iter()
            .filter(|(name, owner)| {
                let owns = of(state)
                    .get(*name)
                    .is_some_and(|now| Arc::ptr_eq(now, owner));
                !owns
            })
            .map(|(_, owner)| Arc::clone(owner))
            .collect();
        if owners.is_empty() {
            break;
        }
        for owner in owners {
            register(state, owner)?;
        }
    }
    Ok(())
}

/// Registers our SQL functions over those of the engine; functions that the session has from elsewhere stay.
fn register_sql_functions(context: &SessionContext) -> Result<()> {
    let ours = hyperslab_udfs::all();
    let engine = SessionStateDefaults::default_scalar_functions();
    for function in ours.scalar {
        let present = context.udf(function.name()).ok();
        if present.is_none_or(|present| engine.contains(&present)) {
            context.register_udf(Arc::unwrap_or_clone(function));
        }
    }
    let state = context.state_ref();
    for rewrite in ours.rewrites {
        state.write().register_function_rewrite(rewrite)?;
    }
    Ok(())
}

/// The tables a statement refers to.
fn references(state: &SessionState, statement: &Statement) -> Vec<TableReference> {
    let normalize = state.config_options().sql_parser.enable_ident_normalization;
    resolve_table_references(statement, normalize)
        .map(|(tables, _)| tables)
        .unwrap_or_default()
}

/// The column that an error says is missing.
fn missing_column(error: &DataFusionError) -> Option<String> {
    match error.find_root() {
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, .. } => Some(field.name.clone()),
            _ => None,
        },
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => {
            missing_column(inner)
        }
        _ => None,
    }
}

/// The error as one sentence for a person: what went wrong and where, without the layers it came through.
#[must_use]
pub fn sentence(error: &DataFusionError) -> String {
    let text = match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            sentence(inner)
        }
        DataFusionError::Shared(inner) => sentence(inner),
        DataFusionError::External(inner) => outer_sentence(inner.as_ref()),
        DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
            ArrowError::ExternalError(inner) => outer_sentence(inner.as_ref()),
            ArrowError::DivideByZero => "division by zero".to_owned(),
            ArrowError::IoError(text, _) => text.clone(),
            other => other.to_string(),
        },
        DataFusionError::Collection(errors) => {
            let all: Vec<String> = errors.iter().map(sentence).collect();
            all.join("; ")
        }
        DataFusionError::Plan(text)
        | DataFusionError::Configuration(text)
        | DataFusionError::Execution(text) => text.clone(),
        DataFusionError::ResourcesExhausted(text) => format!("out of memory: {text}"),
        DataFusionError::NotImplemented(text) => format!("not implemented: {text}"),
        DataFusionError::IoError(error) => error.to_string(),
        DataFusionError::SchemaError(error, _) => error.to_string(),
        DataFusionError::SQL(error, _) => {
            let text = error.to_string();
            format!(
                "syntax error: {}",
                text.trim_start_matches("sql parser error: ")
            )
        }
        other => other.strip_backtrace(),
    };
    let text = text
        .split(DataFusionError::BACK_TRACE_SEP)
        .next()
        .unwrap_or_default();
    // Layers that turned an error into text left their names in it.
    let mut text = text.trim();
    while let Some(rest) = LAYERS.iter().find_map(|layer| text.strip_prefix(layer)) {
        text = rest.trim_start();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What layers of the engine put in front of the text of an error.
const LAYERS: &[&str] = &[
    "Error during planning:",
    "Execution error:",
    "External error:",
    "External:",
    "Arrow error:",
    "Schema error:",
    "SQL error:",
    "sql parser error:",
];

/// The sentence of an error that came from outside of the engine, perhaps with one of the engine inside.
fn outer_sentence(error: &(dyn std::error::Error + 'static)) -> String {
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return sentence(error);
    }
    if let Some(ArrowError::ExternalError(inner)) = error.downcast_ref::<ArrowError>() {
        return outer_sentence(inner.as_ref());
    }
    error.to_string()
}
