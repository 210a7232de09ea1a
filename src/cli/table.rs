//! The first rows of a result as a table for people.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// The rows of a result that are shown, and the number of those that are not.
///
/// ```text
/// +---------------------+-------+
/// | time                |   tas |
/// +---------------------+-------+
/// | 2002-01-01T00:00:00 | 273.5 |
/// | 2002-01-02T00:00:00 |  NULL |
/// +---------------------+-------+
/// (365 rows, 2 shown)
/// ```
#[derive(Debug)]
pub(crate) struct Table {
    names: Vec<Cell>,
    /// Whether a column is aligned to the right.
    right: Vec<bool>,
    shown: Vec<Vec<Cell>>,
    max_rows: usize,
    rows: usize,
}

/// The lines of a cell.
type Cell = Vec<String>;

impl Table {
    /// A table of at most `max_rows` rows.
    pub(crate) fn new(schema: &Schema, max_rows: Option<usize>) -> Self {
        let fields = schema.fields().iter();
        Self {
            names: fields.clone().map(|field| cell(field.name())).collect(),
            right: fields.map(|field| field.data_type().is_numeric()).collect(),
            shown: Vec::new(),
            max_rows: max_rows.unwrap_or(usize::MAX),
            rows: 0,
        }
    }

    /// Adds rows; those beyond the limit are only counted.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.rows += batch.num_rows();
        let take = batch.num_rows().min(self.max_rows - self.shown.len());
        if take == 0 {
            return Ok(());
        }
        let options = FormatOptions::default().with_null("NULL");
        let columns = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..take {
            let cells = columns
                .iter()
                .map(|column| Ok(cell(&column.value(row).try_to_string()?)))
                .collect::<Result<_, ArrowError>>()?;
            self.shown.push(cells);
        }
        Ok(())
    }

    /// Writes the table.
    pub(crate) fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let widths: Vec<usize> = self
            .names
            .iter()
            .enumerate()
            .map(|(column, name)| {
                let cells = self.shown.iter().filter_map(|row| row.get(column));
                cells.chain([name]).map(width).max().unwrap_or(0)
            })
            .collect();
        let rule = {
            let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            format!("+{}+", dashes.join("+"))
        };
        writeln!(out, "{rule}")?;
        self.print_row(out, &self.names, &widths)?;
        writeln!(out, "{rule}")?;
        for row in &self.shown {
            self.print_row(out, row, &widths)?;
        }
        if !self.shown.is_empty() {
            writeln!(out, "{rule}")?;
        }
        match (self.rows, self.shown.len()) {
            (1, 1) => writeln!(out, "(1 row)"),
            (rows, shown) if rows == shown => writeln!(out, "({rows} rows)"),
            (rows, shown) => writeln!(out, "({rows} rows, {shown} shown)"),
        }
    }

    fn print_row(
        &self,
        out: &mut impl Write,
        cells: &[Cell],
        widths: &[usize],
    ) -> std::io::Result<()> {
        let lines = cells.iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..lines {
            for ((cell, width), right) in cells.iter().zip(widths).zip(&self.right) {
                let text = cell.get(line).map_or("", String::as_str);
                if *right {
                    write!(out, "| {text:>width$} ")?;
                } else {
                    write!(out, "| {text:<width$} ")?;
                }
            }
            writeln!(out, "|")?;
        }
        Ok(())
    }
}

/// The lines of a text; characters that would control a terminal are shown instead of sent.
fn cell(text: &str) -> Cell {
    let lines = text.trim_end_matches('\n').split('\n').map(|line| {
        let mut shown = String::with_capacity(line.len());
        for c in line.chars() {
            if c.is_control() {
                shown.extend(c.escape_default());
            } else {
                shown.push(c);
            }
        }
        shown
    });
    lines.collect()
}

fn width(cell: &Cell) -> usize {
    cell.iter()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn rows_beyond_the_limit_are_counted() {
        let columns: Vec<(&str, ArrayRef, bool)> = vec![
            (
                "time",
                Arc::new(TimestampMicrosecondArray::from(vec![0, 1])),
                true,
            ),
            (
                "tas",
                Arc::new(Float64Array::from(vec![Some(273.5), None])),
                true,
            ),
            (
                "note",
                Arc::new(StringArray::from(vec!["a\nbc", "\u{1b}[2J"])),
                true,
            ),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let print = |max_rows| {
            let mut table = Table::new(&batch.schema(), max_rows);
            table.push(&batch).unwrap();
            table.push(&batch).unwrap();
            let mut out = Vec::new();
            table.print(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let expected = r"
+----------------------------+-------+-----------+
| time                       |   tas | note      |
+----------------------------+-------+-----------+
| 1970-01-01T00:00:00        | 273.5 | a         |
|                            |       | bc        |
| 1970-01-01T00:00:00.000001 |  NULL | \u{1b}[2J |
| 1970-01-01T00:00:00        | 273.5 | a         |
|                            |       | bc        |
+----------------------------+-------+-----------+
(4 rows, 3 shown)
";
        assert_eq!(print(Some(3)), expected.trim_start());
        assert!(print(None).ends_with("(4 rows)\n"));
    }
}
