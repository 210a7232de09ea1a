//! Writes the record batches of one result in a format, as they arrive.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::{FileWriter, StreamWriter};
use arrow::json::writer::{JsonFormat, LineDelimited};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::Result;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;

use super::args::Format;
use super::output::Sink;
use super::table::Table;

/// Encoded bytes of a Parquet row group that are held before they are written.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// Writes one result.
pub(crate) enum ResultWriter {
    Table(Box<Table>, Sink),
    Csv(arrow::csv::Writer<Sink>, SchemaRef),
    Json(arrow::json::Writer<Sink, JsonLines>),
    Ndjson(arrow::json::Writer<Sink, LineDelimited>),
    ArrowStream(StreamWriter<Sink>),
    ArrowFile(FileWriter<Sink>),
    Parquet(Box<ArrowWriter<Sink>>),
}

/// What the bytes end up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A stream that cannot be sought.
    Stream,
    /// A file.
    File,
}

impl ResultWriter {
    /// A writer of results with these columns; `max_rows` bounds what a table shows.
    pub(crate) fn new(
        format: Format,
        target: Target,
        schema: &SchemaRef,
        max_rows: Option<usize>,
        sink: Sink,
    ) -> Result<Self> {
        let json = || arrow::json::WriterBuilder::new().with_explicit_nulls(true);
        Ok(match (format, target) {
            (Format::Table, _) => Self::Table(Box::new(Table::new(schema, max_rows)), sink),
            (Format::Csv, _) => {
                let schema = flat_schema(schema);
                let mut writer = arrow::csv::Writer::new(sink);
                // The header, even if there are no rows.
                writer.write(&RecordBatch::new_empty(Arc::clone(&schema)))?;
                Self::Csv(writer, schema)
            }
            (Format::Json, _) => Self::Json(json().build(sink)),
            (Format::Ndjson, _) => Self::Ndjson(json().build(sink)),
            (Format::Arrow, Target::Stream) => {
                Self::ArrowStream(StreamWriter::try_new(sink, schema)?)
            }
            (Format::Arrow, Target::File) => Self::ArrowFile(FileWriter::try_new(sink, schema)?),
            (Format::Parquet, _) => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .build();
                let writer = ArrowWriter::try_new(sink, Arc::clone(schema), Some(properties))?;
                Self::Parquet(Box::new(writer))
            }
        })
    }

    /// Writes some rows.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Table(table, _) => table.push(batch)?,
            Self::Csv(writer, schema) => writer.write(&flat(batch, schema)?)?,
            Self::Json(writer) => writer.write(batch)?,
            Self::Ndjson(writer) => writer.write(batch)?,
            Self::ArrowStream(writer) => writer.write(batch)?,
            Self::ArrowFile(writer) => writer.write(batch)?,
            Self::Parquet(writer) => {
                writer.write(batch)?;
                if writer.in_progress_size() > ROW_GROUP_BYTES {
                    writer.flush()?;
                }
            }
        }
        Ok(())
    }

    /// Writes what comes after the last row.
    pub(crate) fn finish(self) -> Result<Sink> {
        Ok(match self {
            Self::Table(table, mut sink) => {
                table.print(&mut sink)?;
                sink
            }
            Self::Csv(writer, _) => writer.into_inner(),
            Self::Json(mut writer) => {
                writer.finish()?;
                writer.into_inner()
            }
            Self::Ndjson(mut writer) => {
                writer.finish()?;
                writer.into_inner()
            }
            Self::ArrowStream(writer) => writer.into_inner()?,
            Self::ArrowFile(writer) => writer.into_inner()?,
            Self::Parquet(writer) => writer.into_inner()?,
        })
    }
}

/// A JSON array with one element a line.
#[derive(Debug, Default)]
pub(crate) struct JsonLines;

impl JsonFormat for JsonLines {
    fn start_stream<W: Write>(&self, writer: &mut W) -> Result<(), ArrowError> {
        Ok(writer.write_all(b"[")?)
    }

    fn start_row<W: Write>(&self, writer: &mut W, is_first_row: bool) -> Result<(), ArrowError> {
        let between: &[u8] = if is_first_row { b"" } else { b",\n" };
        Ok(writer.write_all(between)?)
    }

    fn end_stream<W: Write>(&self, writer: &mut W) -> Result<(), ArrowError> {
        Ok(writer.write_all(b"]\n")?)
    }
}

/// The columns that CSV can hold: lists and the like as text.
fn flat_schema(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| {
            let is_nested = field.data_type().is_nested();
            let data_type = match is_nested {
                true => DataType::Utf8,
                false => field.data_type().clone(),
            };
            Field::new(field.name(), data_type, is_nested || field.is_nullable())
        })
        .collect();
    Arc::new(Schema::new(fields))
}

fn flat(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch
        .columns()
        .iter()
        .map(|column| match column.data_type().is_nested() {
            true => texts(column),
            false => Ok(Arc::clone(column)),
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

fn texts(column: &ArrayRef) -> Result<ArrayRef> {
    let options = FormatOptions::default().with_null("NULL");
    let formatter = ArrayFormatter::try_new(column, &options)?;
    let texts = (0..column.len())
        .map(|row| {
            column
                .is_valid(row)
                .then(|| formatter.value(row).try_to_string())
                .transpose()
        })
        .collect::<Result<StringArray, ArrowError>>()?;
    Ok(Arc::new(texts))
}
