//! Table functions over datasets: `read_array`, `array_info`, `array_attributes`, `array_chunks`, `array_versions`.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, ListBuilder, StringArray, StringBuilder,
    TimestampMillisecondArray, UInt64Array, UInt64Builder,
};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::catalog::{MemTable, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;

use crate::append::log::Log;
use crate::array::chunk::ChunkAddress;
use crate::array::hyperslab::parse_slices;
use crate::array::{AttributeValue, Attributes, Group, Variable};
use crate::catalog::provider::{block_on, open_blocking};
use crate::catalog::{Catalog, Opened, tables};
use crate::cf::roles::{Role, roles};
use crate::error::{Error, Within};
use crate::format::{Reference, Snapshot, Versions};
use crate::query::engine_error;
use crate::query::table::{ArrayTable, options};
use crate::store::unstamped;

/// The table functions, by name.
#[must_use]
pub fn functions(catalog: &Arc<Catalog>) -> Vec<(&'static str, Arc<dyn TableFunctionImpl>)> {
    let function = |kind| -> Arc<dyn TableFunctionImpl> {
        Arc::new(DatasetFunction {
            catalog: Arc::clone(catalog),
            kind,
        })
    };
    vec![
        ("read_array", function(Kind::Read)),
        ("array_info", function(Kind::Info)),
        ("array_attributes", function(Kind::Attributes)),
        ("array_chunks", function(Kind::Chunks)),
        ("array_versions", function(Kind::Versions)),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Read,
    Info,
    Attributes,
    Chunks,
    Versions,
}

impl Kind {
    fn usage(self) -> &'static str {
        match self {
            Self::Read => "read_array('location' [, 'variable' [, '0:2, 4:6, ::3']])",
            Self::Info => "array_info('location')",
            Self::Attributes => "array_attributes('location')",
            Self::Chunks => "array_chunks('location', 'variable')",
            Self::Versions => "array_versions('location')",
        }
    }

    fn arguments(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Read => 1..=3,
            Self::Info | Self::Attributes | Self::Versions => 1..=1,
            Self::Chunks => 2..=2,
        }
    }
}

#[derive(Debug)]
struct DatasetFunction {
    catalog: Arc<Catalog>,
    kind: Kind,
}

impl TableFunctionImpl for DatasetFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let texts = args
            .exprs()
            .iter()
            .map(|expr| self.text(expr))
            .collect::<Result<Vec<String>>>()?;
        let wrong = || {
            engine_error(Error::Invalid(format!(
                "wrong number of arguments; use {}",
                self.kind.usage()
            )))
        };
        if !self.kind.arguments().contains(&texts.len()) {
            return Err(wrong());
        }
        let location = texts.first().ok_or_else(wrong)?;
        let location = self
            .catalog
            .location_of(location)
            .unwrap_or_else(|| location.clone());
        let opened = open_blocking(&self.catalog, &location)?;
        match self.kind {
            Kind::Read => {
                let variable = texts.get(1).map(String::as_str);
                let slices = texts.get(2).map(String::as_str);
                read_array(&opened, variable, slices, &options(args.session()))
            }
            Kind::Info => table(info(&opened)?),
            Kind::Attributes => table(attributes(&opened)?),
            Kind::Chunks => {
                let variable = texts.get(1).ok_or_else(wrong)?;
                table(chunks(&opened, variable)?)
            }
            Kind::Versions => table(match opened.format.versions() {
                Some(kept) => snapshots(&opened, kept)?,
                None => versions(&opened)?,
            }),
        }
    }
}

impl DatasetFunction {
    fn text(&self, expr: &Expr) -> Result<String> {
        match expr {
            Expr::Literal(
                ScalarValue::Utf8(Some(text))
                | ScalarValue::LargeUtf8(Some(text))
                | ScalarValue::Utf8View(Some(text)),
                _,
            ) => Ok(text.clone()),
            other => Err(engine_error(Error::Invalid(format!(
                "argument {other} is not a text in single quotes; use {}",
                self.kind.usage()
            )))),
        }
    }
}

fn table(batch: RecordBatch) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(MemTable::try_new(
        batch.schema(),
        vec![vec![batch]],
    )?))
}

fn read_array(
    opened: &Opened,
    variable: Option<&str>,
    slices: Option<&str>,
    options: &crate::query::HyperslabOptions,
) -> Result<Arc<dyn TableProvider>> {
    let parts = match variable {
        Some(variable) => tables::table(opened, variable),
        None => tables::main_table(opened),
    }
    .map_err(engine_error)?;
    let mut grid = block_on(tables::grid(opened, &parts, options))
        .map_err(DataFusionError::IoError)?
        .map_err(engine_error)?;
    if let Some(slices) = slices {
        grid.window = parse_slices(slices, &grid.shape())
            .within(|| format!("{}: {}", opened.store.location(), parts.name))
            .map_err(engine_error)?;
    }
    Ok(Arc::new(ArrayTable::new(Arc::new(grid))))
}

/// Every variable of a dataset with its group and role.
pub(crate) fn variables(opened: &Opened) -> Vec<(&Group, Arc<Variable>, Role)> {
    let roles = roles(&opened.dataset.root);
    let mut all = Vec::new();
    for group in opened.dataset.root.walk() {
        for (variable, role) in tables::with_roles(&roles, group) {
            all.push((group, variable, role));
        }
    }
    all
}

pub(crate) fn role_name(role: &Role) -> &'static str {
    match role {
        Role::Coordinate => "coordinate",
        Role::Auxiliary => "auxiliary coordinate",
        Role::Bounds { .. } => "bounds",
        Role::Data => "data",
    }
}

fn info(opened: &Opened) -> Result<RecordBatch> {
    let mut columns: Vec<Vec<Option<String>>> = vec![Vec::new(); 10];
    let mut shapes = ListBuilder::new(UInt64Builder::new());
    let mut chunks = ListBuilder::new(UInt64Builder::new());
    let mut dimensions = ListBuilder::new(StringBuilder::new());
    let (mut cells, mut chunk_counts) = (Vec::new(), Vec::new());
    let mut push = |texts: [Option<String>; 10]| {
        for (column, text) in columns.iter_mut().zip(texts) {
            column.push(text);
        }
    };
    for (group, variable, role) in variables(opened) {
        let layout = &variable.layout;
        let text = |name| variable.attributes.text(name).map(str::to_owned);
        push([
            Some(variable.path.clone()),
            Some(group.path.clone()),
            Some(variable.name.clone()),
            Some(role_name(&role).to_owned()),
            Some(layout.element.name()),
            Some(layout.pipeline.to_string()),
            text("units"),
            text("standard_name"),
            text("long_name"),
            None,
        ]);
        for name in &variable.dimensions {
            dimensions.values().append_value(name);
        }
        dimensions.append(true);
        shapes.values().append_slice(variable.shape());
        shapes.append(true);
        chunks.values().append_slice(layout.grid.chunk_shape());
        chunks.append(true);
        cells.push(Some(variable.cells()));
        chunk_counts.push(Some(layout.grid.len()));
    }
    for group in opened.dataset.root.walk() {
        for array in &group.unreadable {
            let path = if group.path.is_empty() {
                array.name.clone()
            } else {
                format!("{}/{}", group.path, array.name)
            };
            let mut texts: [Option<String>; 10] = Default::default();
            texts[0] = Some(path);
            texts[1] = Some(group.path.clone());
            texts[2] = Some(array.name.clone());
            texts[9] = Some(array.reason.clone());
            push(texts);
            dimensions.append(false);
            shapes.append(false);
            chunks.append(false);
            cells.push(None);
            chunk_counts.push(None);
        }
    }
    let mut texts = columns
        .into_iter()
        .map(|column| -> ArrayRef { Arc::new(StringArray::from(column)) });
    let mut next = || {
        texts
            .next()
            .unwrap_or_else(|| Arc::new(StringArray::from(Vec::<&str>::new())))
    };
    batch(vec![
        ("variable", next()),
        ("group", next()),
        ("name", next()),
        ("role", next()),
        ("type", next()),
        ("dimensions", Arc::new(dimensions.finish())),
        ("shape", Arc::new(shapes.finish())),
        ("chunks", Arc::new(chunks.finish())),
        ("cells", Arc::new(UInt64Array::from(cells))),
        ("chunk_count", Arc::new(UInt64Array::from(chunk_counts))),
        ("codecs", next()),
        ("units", next()),
        ("standard_name", next()),
        ("long_name", next()),
        ("unreadable", next()),
    ])
}

fn attributes(opened: &Opened) -> Result<RecordBatch> {
    let mut columns: [Vec<Option<String>>; 4] = Default::default();
    let mut add = |variable: Option<&str>, attributes: &Attributes| {
        for (name, value) in &attributes.0 {
            columns[0].push(variable.map(str::to_owned));
            columns[1].push(Some(name.clone()));
            columns[2].push(Some(type_name(value)));
            columns[3].push(Some(value.to_string()));
        }
    };
    for group in opened.dataset.root.walk() {
        let owner = (!group.path.is_empty()).then_some(group.path.as_str());
        add(owner, &group.attributes);
        for variable in &group.variables {
            add(Some(&variable.path), &variable.attributes);
        }
    }
    let [variables, names, types, values] = columns;
    let text = |column: Vec<Option<String>>| -> ArrayRef { Arc::new(StringArray::from(column)) };
    batch(vec![
        ("variable", text(variables)),
        ("name", text(names)),
        ("type", text(types)),
        ("value", text(values)),
    ])
}

fn type_name(value: &AttributeValue) -> String {
    match value {
        AttributeValue::Text(_) | AttributeValue::Texts(_) => "string".into(),
        AttributeValue::Integers { element, .. } | AttributeValue::Floats { element, .. } => {
            element.name()
        }
        AttributeValue::Json(_) => "json".into(),
    }
}

/// The versions that the format keeps itself, the newest first.
fn snapshots(opened: &Opened, versions: &dyn Versions) -> Result<RecordBatch> {
    let main = || Reference::Branch(versions.default_branch().to_owned());
    let reference = opened.reference.clone().unwrap_or_else(main);
    let history = block_on(versions.history(&opened.store, &reference))
        .map_err(DataFusionError::IoError)?
        .within(|| opened.store.location())
        .map_err(engine_error)?;
    let time = |snapshot: &Snapshot| {
        let since = snapshot.time.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_millis()).ok()
    };
    let text = |of: &dyn Fn(&Snapshot) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(history.iter().map(of)))
    };
    batch(vec![
        ("version", text(&|snapshot| snapshot.id.clone())),
        (
            "time",
            Arc::new(TimestampMillisecondArray::from_iter(
                history.iter().map(time),
            )),
        ),
        ("message", text(&|snapshot| snapshot.message.clone())),
        ("branches", text(&|snapshot| snapshot.branches.join(", "))),
        ("tags", text(&|snapshot| snapshot.tags.join(", "))),
    ])
}

/// The versions that can be read, and those that cannot any more.
fn versions(opened: &Opened) -> Result<RecordBatch> {
    if !opened.members.is_empty() {
        return Err(engine_error(Error::Unsupported(format!(
            "{}: each of the files has versions of its own",
            opened.store.location()
        ))));
    }
    let log = block_on(Log::read(&opened.store))
        .map_err(DataFusionError::IoError)?
        .within(|| opened.store.location())
        .map_err(engine_error)?;
    let entries = || log.0.iter();
    let times = entries().map(|entry| i64::try_from(entry.time).unwrap_or(i64::MAX));
    let lengths = entries().map(|entry| {
        let lengths = entry.lengths.iter();
        let each: Vec<String> = lengths
            .map(|(name, length)| format!("{name}={length}"))
            .collect();
        each.join(", ")
    });
    let columns: [(&str, ArrayRef); 5] = [
        (
            "version",
            Arc::new(UInt64Array::from_iter_values(
                entries().map(|entry| entry.version),
            )),
        ),
        (
            "time",
            Arc::new(TimestampMillisecondArray::from_iter_values(times)),
        ),
        (
            "operation",
            Arc::new(StringArray::from_iter_values(
                entries().map(|entry| &entry.operation),
            )),
        ),
        ("lengths", Arc::new(StringArray::from_iter_values(lengths))),
        (
            "readable",
            Arc::new(BooleanArray::from_iter(
                entries().map(|entry| Some(log.version(entry.version).is_ok())),
            )),
        ),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

fn chunks(opened: &Opened, name: &str) -> Result<RecordBatch> {
    let parts = tables::table(opened, name).map_err(engine_error)?;
    let short = parts.name.rsplit('/').next().unwrap_or(&parts.name);
    let variable = parts.variable(short).ok_or_else(|| {
        engine_error(Error::NotFound(format!(
            "{} has no variable '{name}'",
            opened.store.location()
        )))
    })?;
    let mut parts = Vec::new();
    match &variable.members {
        None => parts.push((opened, variable, 0, 0)),
        Some(members) => {
            for part in &members.parts {
                let file = opened.members.get(part.dataset).map_or(opened, Arc::as_ref);
                parts.push((file, &part.variable, members.axis, part.range.start));
            }
        }
    }
    let mut coords = ListBuilder::new(UInt64Builder::new());
    let mut starts = ListBuilder::new(UInt64Builder::new());
    let (mut kinds, mut objects) = (Vec::new(), Vec::new());
    let (mut offsets, mut lengths) = (Vec::new(), Vec::new());
    let mut numbers: Vec<u64> = Vec::new();
    let mut files: Vec<&str> = Vec::new();
    for (file, variable, axis, first) in parts {
        let grid = &variable.layout.grid;
        let own: Vec<u64> = (0..grid.len()).collect();
        let addresses = block_on(variable.index.locate(&own))
            .map_err(DataFusionError::IoError)?
            .within(|| format!("{}: {name}", file.store.location()))
            .map_err(engine_error)?;
        for (number, address) in own.iter().zip(addresses) {
            for (dim, (at, extent)) in grid
                .coord(*number)
                .iter()
                .zip(grid.chunk_shape())
                .enumerate()
            {
                coords.values().append_value(*at);
                let before = if dim == axis { first } else { 0 };
                starts.values().append_value(before + at * extent);
            }
            coords.append(true);
            starts.append(true);
            let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            let (kind, object, offset, length) = match address {
                ChunkAddress::Missing => ("missing", None, None, None),
                ChunkAddress::Inline(bytes) | ChunkAddress::Encoded(bytes) => {
                    ("inline", None, None, Some(signed(bytes.len() as u64)))
                }
                ChunkAddress::Range {
                    object,
                    offset,
                    length,
                    ..
                } => (
                    "range",
                    Some(object),
                    Some(signed(offset)),
                    Some(signed(length)),
                ),
                ChunkAddress::Foreign {
                    location,
                    offset,
                    length,
                } => (
                    "foreign",
                    Some(location),
                    Some(signed(offset)),
                    Some(signed(length)),
                ),
                ChunkAddress::Object(object) => ("object", Some(object), None, None),
            };
            kinds.push(kind);
            objects.push(object.map(|object| unstamped(&object).to_owned()));
            offsets.push(offset);
            lengths.push(length);
        }
        files.extend(own.iter().map(|_| file.store.location()));
        numbers.extend(own);
    }
    batch(vec![
        ("chunk", Arc::new(UInt64Array::from(numbers))),
        ("coord", Arc::new(coords.finish())),
        ("start", Arc::new(starts.finish())),
        ("stored", Arc::new(StringArray::from(kinds))),
        ("object", Arc::new(StringArray::from(objects))),
        ("offset", Arc::new(Int64Array::from(offsets))),
        ("length", Arc::new(Int64Array::from(lengths))),
        ("file", Arc::new(StringArray::from(files))),
    ])
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, values)| Field::new(*name, values.data_type().clone(), true))
        .collect();
    let values = columns.into_iter().map(|(_, values)| values).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), values)?)
}
