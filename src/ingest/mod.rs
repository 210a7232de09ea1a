//! Datasets that grow by slices: each is opened, checked against the target, and appended in one transaction.
//!
//! ```text
//! config      what is said               files, schema, merged
//! slice       a path, URL or query       -> variables with values        waits until it is complete
//! outline     first slice + config       -> blueprint of a new target
//! check       slice x target             -> fits, is there already, or an error     labels, units
//! extend      slices + target            -> one transaction
//! copy        boxes of a variable        -> regions of a transaction
//! attributes  slice + config + SQL       -> attributes of the target
//! ```

mod attributes;
mod check;
pub mod config;
mod copy;
mod extend;
mod labels;
mod outline;
mod report;
mod slice;
mod target;
mod units;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{cast, concat};
use arrow::datatypes::SchemaRef;

use crate::append::{AppendOptions, IfExists, Outcome, Target, Transaction};
use crate::array::Variable;
use crate::catalog::{format_for, tables};
use crate::cf::decode::DecodeOptions;
use crate::error::{Error, Result, Within};
use crate::query::insert::append_options;
use crate::session::{Session, sentence};
use crate::store::Store;
use crate::store::write::Durability;

use check::{Addition, Verdict};
use config::{AppendConfig, Polling};
use copy::Copy;
use report::Phase;
use slice::{Rows, Slice};
use target::{Known, is_coordinate};

pub use report::{Action, Profile, Report, SliceReport};
pub use slice::SliceItem;

/// How often a slice is tried again because another program was faster.
const TRIES: usize = 5;

impl Session {
    /// Appends slices to the target that `config` names, one behind the other, each whole or not at all.
    ///
    /// # Errors
    /// The first failure ends it; slices before it have been appended. `NotFound` when a slice or the directory of the
    /// target is not there, `Invalid` naming slice, variable and value when a slice does not fit, `Conflict` when
    /// another writer does not finish in time.
    pub async fn append(&self, slices: &[SliceItem], config: AppendConfig) -> Result<Report> {
        let mut ingest = Ingest::new(self, config).await?;
        let mut report = Report::default();
        let mut left = slices;
        while !left.is_empty() {
            let done = ingest.slices(left).await?;
            left = left.get(done.len().max(1)..).unwrap_or_default();
            report.slices.extend(done);
        }
        report.profile = ingest.profile();
        Ok(report)
    }
}

/// Most slices of one transaction: each may have a file open.
const GROUP: u64 = 128;

/// With so many bytes, slices make up a transaction.
const GROUP_BYTES: u64 = 64 << 20;

/// For so long, slices that are opened wait for others to make up a transaction with them.
const GROUP_TIME: Duration = Duration::from_secs(1);

/// A target that takes slices.
#[derive(Debug)]
pub struct Ingest<'a> {
    session: &'a Session,
    config: AppendConfig,
    options: AppendOptions,
    target: Target,
    /// How the values of the target are decoded.
    decode: DecodeOptions,
    /// What was known of the target after the last slice, and its version then.
    known: Option<(Known, Option<u64>)>,
    /// Whether the target that is there is to be removed.
    removes: bool,
    profile: Profile,
}

/// A slice that has been opened, but perhaps not yet laid out.
enum Opened {
    Slice(Slice),
    Rows(String, SchemaRef, Vec<RecordBatch>),
}

impl<'a> Ingest<'a> {
    /// A target by its configuration; nothing has been looked at yet, except what it is stored as.
    ///
    /// # Errors
    /// `Invalid` when no target is named, or it is no dataset.
    pub async fn new(session: &'a Session, config: AppendConfig) -> Result<Self> {
        if config.target.is_empty() {
            return Err(Error::Invalid(
                "no target is given: --target or target_dir says where it is".into(),
            ));
        }
        let catalog = session.catalog();
        let mut options = append_options(&catalog.options())?;
        if config.disable_rollback {
            options.durability = Durability::None;
        }
        if let Some(seconds) = config.lock_timeout {
            options.lock.timeout = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        }
        let store = Store::open_with(&config.target, &config.target_storage_options.pairs())?;
        let usual = Target::new(store.clone(), format_for(&config.target));
        let (format, name) = if usual.exists().await? {
            let opened = catalog.open_store(store.clone(), None).await?;
            (opened.format, opened.dataset.format)
        } else {
            let format = format_for(&config.target);
            // What is made in an HDF5 file is a netCDF-4 dataset.
            let name = match format.name() {
                "hdf5" => "netcdf4",
                name => name,
            };
            (format, name)
        };
        Ok(Self {
            session,
            options,
            target: Target::new(store, format),
            decode: DecodeOptions {
                decode: true,
                nan_as_null: true,
                default_fill: name == "netcdf4",
            },
            known: None,
            removes: config.force_new,
            config,
            profile: Profile::default(),
        })
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &AppendConfig {
        &self.config
    }

    /// How long things took so far.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile.clone()
    }

    /// Appends the first of some slices, and those behind it that one transaction can take with it: those that are there
    /// at once, are no queries, and have not too many bytes together.
    ///
    /// # Errors
    /// As [`Session::append`], about the first of them; the target is as it was before.
    pub async fn slices(&mut self, items: &[SliceItem]) -> Result<Vec<SliceReport>> {
        let Some(item) = items.first() else {
            return Ok(Vec::new());
        };
        let clock = self.profile.start();
        let opened = self.open(item, self.config.slice_polling).await;
        let opened = opened.within(|| format!("slice {}", item.name()));
        self.profile.end(Phase::Open, clock);
        let mut group = vec![(item, opened?)];
        let reports = if self.config.dry_run {
            let [(item, opened)] = group.as_slice() else {
                return Ok(Vec::new());
            };
            vec![self.dry(opened, item).await?]
        } else {
            self.append(&mut group, items).await?
        };
        self.profile.slices += reports.len() as u64;
        Ok(reports)
    }

    /// Opens slices behind those of a group, as far as the same transaction can take them.
    async fn gather<'b>(
        &mut self,
        group: &mut Vec<(&'b SliceItem, Opened)>,
        items: &'b [SliceItem],
    ) {
        let most = self.config.commit_slices.unwrap_or(GROUP).min(GROUP);
        if attributes::has_expressions(&self.config) {
            // They are asked of the target as it is with each slice.
            return;
        }
        let clock = self.profile.start();
        let bytes = |opened: &Opened| match opened {
            Opened::Slice(slice) => slice.bytes(),
            Opened::Rows(..) => u64::MAX,
        };
        let mut size = group.iter().map(|(_, opened)| bytes(opened)).sum::<u64>();
        for item in items.iter().skip(group.len()) {
            let is_full = group.len() as u64 >= most || size >= GROUP_BYTES;
            if is_full || clock.elapsed() >= GROUP_TIME || !matches!(item, SliceItem::Location(_)) {
                break;
            }
            // Who waits for a slice does not let those before it wait.
            let polling = self.config.slice_polling.map(|polling| Polling {
                timeout: Duration::ZERO,
                ..polling
            });
            // What is wrong with it is said when its turn comes.
            let Ok(opened) = self.open(item, polling).await else {
                break;
            };
            size = size.saturating_add(bytes(&opened));
            group.push((item, opened));
        }
        self.profile.end(Phase::Open, clock);
    }

    async fn open(&self, item: &SliceItem, polling: Option<Polling>) -> Result<Opened> {
        Ok(match item {
            SliceItem::Location(location) => {
                let options = self.config.slice_storage_options.pairs();
                let store = Store::open_with(location, &options)?;
                let catalog = self.session.catalog();
                let opened = slice::open(catalog, &store, polling).await?;
                let options = catalog.options();
                let decode = DecodeOptions {
                    decode: true,
                    nan_as_null: true,
                    ..tables::decode_options(&opened, &options)
                };
                Opened::Slice(Slice::of_dataset(&opened, &decode)?)
            }
            SliceItem::Query(query) => {
                let failed = |error| Error::Invalid(sentence(&error));
                let frame = self.session.sql(query).await.map_err(failed)?;
                let schema = Arc::clone(frame.schema().inner());
                let batches = frame.collect().await.map_err(failed)?;
                Opened::Rows(item.name().to_owned(), schema, batches)
            }
            SliceItem::Rows {
                name,
                schema,
                batches,
            } => Opened::Rows(name.clone(), Arc::clone(schema), batches.clone()),
        })
    }

    /// Lays rows out by the dimensions of the target, or those of the configuration.
    fn lay_out(&self, opened: &Opened, known: Option<&Known>) -> Result<Option<Slice>> {
        let Opened::Rows(_, schema, batches) = opened else {
            return Ok(None);
        };
        let has = |name: &str| schema.field_with_name(name).is_ok();
        let mut variables = HashMap::new();
        let mut names: Vec<String> = Vec::new();
        let append_dim = &self.config.append_dim;
        if let Some(known) = known {
            for variable in known
                .variables
                .iter()
                .filter(|variable| has(&variable.name))
            {
                variables.insert(variable.name.clone(), variable.dimensions.clone());
                for dimension in &variable.dimensions {
                    if !names.contains(dimension) {
                        names.push(dimension.clone());
                    }
                }
            }
        } else {
            for field in schema.fields() {
                if let Some(dims) = self.config.variable(field.name()).dims {
                    variables.insert(field.name().clone(), dims);
                }
            }
            let longest = variables.values().max_by_key(|dims| dims.len());
            names = longest.cloned().unwrap_or_else(|| {
                let fields = schema.fields().iter().map(|field| field.name());
                let is_dimension = |name: &&String| {
                    *name == append_dim || self.config.fixed_dims.contains_key(*name)
                };
                fields.filter(is_dimension).cloned().collect()
            });
        }
        let values = |name: &str| {
            let known = known.filter(|_| name != append_dim)?;
            let is_axis = known.variables.iter().any(|v| is_coordinate(v, name));
            let fixed = known.fixed.get(name).filter(|_| is_axis)?;
            Some(Arc::clone(&fixed.values))
        };
        let options = self.session.catalog().options();
        let rows = Rows {
            schema: Arc::clone(schema),
            batches,
            dimensions: names
                .iter()
                .map(|name| (name.clone(), values(name)))
                .collect(),
            variables,
            fill: options.insert_missing == "fill",
        };
        let laid = slice::from_rows(&rows, &self.decode).map_err(|error| match error {
            Error::Invalid(text) if known.is_none() => Error::Invalid(format!(
                "{text}; of a new target, fixed_dims or the dims of variables say which columns are dimensions, which are \
                 now ({})",
                names.join(", ")
            )),
            error => error,
        });
        laid.map(Some)
    }

    async fn append<'b>(
        &mut self,
        group: &mut Vec<(&'b SliceItem, Opened)>,
        items: &'b [SliceItem],
    ) -> Result<Vec<SliceReport>> {
        for _ in 0..TRIES {
            let exists = !self.removes && self.target.exists().await?;
            let done = if exists {
                self.gather(group, items).await;
                self.extend(group).await?
            } else if let Some((item, opened)) = group.first() {
                self.create(opened, item).await?.map(|report| vec![report])
            } else {
                None
            };
            if let Some(reports) = done {
                return Ok(reports);
            }
            self.known = None;
        }
        Err(Error::Conflict(format!(
            "{}: other programs change the dataset all the time; slice {} was not appended",
            self.target.store().location(),
            group.first().map_or("", |(item, _)| item.name())
        )))
    }

    /// Makes the target of its first slice; `None` when somebody else was faster.
    async fn create(&mut self, opened: &Opened, item: &SliceItem) -> Result<Option<SliceReport>> {
        let place = || format!("slice {}", item.name());
        let clock = self.profile.start();
        let laid = self.lay_out(opened, None).within(place)?;
        let slice = pick(opened, laid.as_ref())?;
        let addition = check::first(slice, &self.config).await.within(place)?;
        let blueprint = outline::blueprint(slice, &self.config, &self.target)
            .await
            .within(place)?;
        self.profile.end(Phase::Check, clock);

        let clock = self.profile.start();
        let existing = if self.removes {
            IfExists::Remove
        } else {
            IfExists::Refuse
        };
        let begun = self.target.create(&blueprint, existing, self.options).await;
        self.profile.end(Phase::Begin, clock);
        let mut transaction = match begun {
            Ok(transaction) => transaction,
            Err(Error::Conflict(_)) if !self.removes && self.target.exists().await? => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let clock = self.profile.start();
        let filled = self.fill_first(&mut transaction, slice).await.within(place);
        self.profile.end(Phase::Copy, clock);
        let (known, filled) = match filled {
            Ok(done) => done,
            Err(error) => {
                transaction.abandon().await?;
                return Err(error);
            }
        };
        let clock = self.profile.start();
        let outcome = transaction.commit("create").await?;
        self.profile.end(Phase::Commit, clock);
        let Outcome::Committed { version } = outcome else {
            return Ok(None);
        };
        self.removes = false;
        self.known = Some((known, version));
        Ok(Some(self.report(
            item,
            Action::Created,
            0,
            &addition,
            filled,
            version,
        )))
    }

    /// Writes everything of the first slice; returns what is known then, and which variables have missing values only.
    async fn fill_first(
        &self,
        transaction: &mut Transaction,
        slice: &Slice,
    ) -> Result<(Known, Vec<String>)> {
        let append_dim = &self.config.append_dim;
        let dataset = transaction.dataset().clone();
        let mut filled = Vec::new();
        for variable in &dataset.root.variables {
            let source = slice.variable(&variable.name)?;
            if source.is_none() {
                filled.push(variable.name.clone());
            }
            let mut copy = Copy::new(variable, None, &self.decode)?;
            copy.add(source, 0, &self.config, &self.decode)?;
            copy.run(transaction).await.map_err(|failed| failed.error)?;
        }
        let mut known = Known::of_first(slice, &dataset, append_dim, &self.decode).await?;
        if !self.config.attrs.is_empty() {
            let axes = axes(&known, Some(slice), append_dim).await?;
            let before = None;
            let attributes =
                attributes::merged(self.session, before, &slice.attributes, &self.config, &axes)
                    .await?;
            transaction.set_attributes("", &attributes)?;
            known.attributes = attributes;
        }
        Ok((known, filled))
    }

    /// What is known of the target, as a transaction found it.
    async fn known(&mut self, transaction: &Transaction) -> Result<Known> {
        let dataset = transaction.dataset();
        let length = target::length(&dataset.root.variables, &self.config.append_dim);
        if let Some((known, version)) = self.known.take()
            && version.is_some()
            && version == transaction.version()
            && Some(known.length) == length
        {
            // Nobody has changed it since; only the variables are described anew.
            return Ok(Known {
                variables: dataset.root.variables.clone(),
                attributes: dataset.root.attributes.clone(),
                ..known
            });
        }
        self.reread(transaction).await
    }

    async fn reread(&self, transaction: &Transaction) -> Result<Known> {
        let store = transaction.store();
        let dimension = &self.config.append_dim;
        Known::of_dataset(store, transaction.dataset(), dimension, &self.decode).await
    }

    /// Says what appending a slice would change.
    async fn dry(&mut self, opened: &Opened, item: &SliceItem) -> Result<SliceReport> {
        let place = || format!("slice {}", item.name());
        let store = self.target.store();
        if self.known.is_none() && !self.removes && self.target.exists().await? {
            let opened = self
                .session
                .catalog()
                .open_store(store.clone(), None)
                .await?;
            let dimension = &self.config.append_dim;
            let known = Known::of_dataset(store, &opened.dataset, dimension, &self.decode).await?;
            self.known = Some((known, None));
        }
        let Some((mut known, _)) = self.known.take() else {
            let laid = self.lay_out(opened, None).within(place)?;
            let slice = pick(opened, laid.as_ref())?;
            let addition = check::first(slice, &self.config).await.within(place)?;
            let blueprint = outline::blueprint(slice, &self.config, &self.target)
                .await
                .within(place)?;
            let dataset = blueprint.dataset(store.location(), "zarr")?;
            let dimension = &self.config.append_dim;
            let known = Known::of_first(slice, &dataset, dimension, &self.decode).await?;
            let missing = absent(&known.variables, slice);
            self.known = Some((known, None));
            return Ok(self.report(item, Action::Created, 0, &addition, missing, None));
        };
        let laid = self.lay_out(opened, Some(&known)).within(place)?;
        let slice = pick(opened, laid.as_ref())?;
        let verdict = check::against(slice, &known, &self.config, &self.decode)
            .await
            .within(place)?;
        let before = known.length;
        let (action, addition) = match verdict {
            Verdict::Fits(addition) => {
                known.grow(addition.length, addition.labels.as_ref());
                (Action::Appended, addition)
            }
            Verdict::Present => (Action::Skipped, check::alone(slice, &self.config).await?),
        };
        let growing: Vec<Arc<Variable>> = known.growing(&self.config.append_dim).cloned().collect();
        let missing = absent(&growing, slice);
        self.known = Some((known, None));
        Ok(self.report(item, action, before, &addition, missing, None))
    }

    fn report(
        &self,
        item: &SliceItem,
        action: Action,
        start: u64,
        addition: &Addition,
        filled: Vec<String>,
        version: Option<u64>,
    ) -> SliceReport {
        let ends = addition.labels.as_ref().and_then(labels::Labels::ends);
        SliceReport {
            slice: item.name().to_owned(),
            action,
            dry_run: self.config.dry_run,
            dimension: self.config.append_dim.clone(),
            start,
            length: addition.length,
            labels: ends.map(|(first, last)| (first.to_owned(), last.to_owned())),
            filled,
            version,
        }
    }
}

fn pick<'a>(opened: &'a Opened, laid: Option<&'a Slice>) -> Result<&'a Slice> {
    match (opened, laid) {
        (Opened::Slice(slice), _) | (Opened::Rows(..), Some(slice)) => Ok(slice),
        (Opened::Rows(name, ..), None) => {
            Err(Error::Invalid(format!("the rows of {name} have no place")))
        }
    }
}

/// The names of variables that a slice does not have.
fn absent(variables: &[Arc<Variable>], slice: &Slice) -> Vec<String> {
    let has = |name: &str| matches!(slice.variable(name), Ok(Some(_)));
    variables
        .iter()
        .filter(|variable| !has(&variable.name))
        .map(|variable| variable.name.clone())
        .collect()
}

/// The one-dimensional coordinates of the target with those of a slice.
async fn axes(
    known: &Known,
    slice: Option<&Slice>,
    append_dim: &str,
) -> Result<HashMap<String, ArrayRef>> {
    let mut axes = HashMap::new();
    for variable in &known.variables {
        let name = &variable.name;
        if is_coordinate(variable, name)
            && name != append_dim
            && let Some(fixed) = known.fixed.get(name)
        {
            axes.insert(name.clone(), Arc::clone(&fixed.values));
        }
    }
    let mut parts: Vec<ArrayRef> = known.label_values.iter().cloned().collect();
    let own = slice.map(|slice| slice.variable(append_dim)).transpose()?;
    if let Some(own) = own.flatten() {
        let new = own.all().await?;
        let failed = |error| Error::Invalid(format!("labels of {append_dim}: {error}"));
        match parts.first() {
            Some(first) => {
                let new = cast(&new, first.data_type()).map_err(failed)?;
                parts.push(new);
            }
            None => parts.push(new),
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        axes.insert(append_dim.to_owned(), concat(&parts).map_err(failed)?);
    }
    Ok(axes)
}
