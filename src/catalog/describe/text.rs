//! The description of a dataset as text for people.

use std::fmt::{Display, Formatter, Result, Write};

use serde_json::Value;

use super::{Description, DimensionDescription, GroupDescription, VariableDescription};

/// Attributes of a dataset that are shown; the others are counted.
const SHOWN: &[&str] = &["title", "institution", "source", "Conventions"];

/// The attribute that is shown with the units, because it tells what they mean.
const CALENDAR: &str = "calendar";

/// Characters of a text of the file that are shown.
const LONGEST: usize = 100;

/// Widest column that others are aligned to.
const WIDEST: usize = 44;

impl Display for Description {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}: {}", line(&self.location), format_name(self.format))?;
        match self.stored_bytes {
            Some(bytes) => writeln!(f, ", {}", size(bytes))?,
            None => writeln!(f)?,
        }
        let mut rows = Rows::default();
        let shown = |name: &str| SHOWN.iter().any(|shown| shown.eq_ignore_ascii_case(name));
        for (name, value) in self.attributes.iter().filter(|(name, _)| shown(name)) {
            rows.push([line(name), short(&plain(value))]);
        }
        let more = self
            .attributes
            .iter()
            .filter(|(name, _)| !shown(name))
            .count();
        match more {
            0 => {}
            1 => rows.push(["1 further attribute".to_owned()]),
            _ => rows.push([format!("{more} further attributes")]),
        }
        rows.print(f, 2)?;
        for group in &self.groups {
            print_group(f, group)?;
        }
        if !self.tables.is_empty() {
            writeln!(f, "\ntables")?;
            let mut rows = Rows::default();
            for table in &self.tables {
                let mut rest = columns(&table.columns);
                if table.is_main {
                    rest.push_str("  (main table)");
                }
                rows.push([line(&table.name), count(table.rows, "row"), rest]);
            }
            rows.right(1).print(f, 2)?;
        }
        if let Some(example) = &self.example {
            writeln!(f, "\nexample\n  {}", line(example))?;
        }
        Ok(())
    }
}

fn print_group(f: &mut Formatter<'_>, group: &GroupDescription) -> Result {
    let heading = |f: &mut Formatter<'_>, what: &str| match group.path.as_str() {
        "" => writeln!(f, "\n{what}"),
        path => writeln!(f, "\n{}: {what}", line(path)),
    };
    if !group.dimensions.is_empty() {
        heading(f, "dimensions")?;
        let mut rows = Rows::default();
        for dimension in &group.dimensions {
            rows.push(dimension_row(dimension));
        }
        rows.right(1).print(f, 2)?;
    }
    for (role, what) in [
        ("data", "variables"),
        ("coordinate", "coordinate variables"),
        ("auxiliary coordinate", "auxiliary coordinates"),
        ("bounds", "bounds"),
    ] {
        let mut variables = group
            .variables
            .iter()
            .filter(|variable| variable.role == role)
            .peekable();
        if variables.peek().is_none() {
            continue;
        }
        heading(f, what)?;
        let mut rows = Rows::default();
        for variable in variables {
            rows.push(variable_row(variable));
            if role != "coordinate" {
                rows.note(storage(variable));
            }
            rows.note(encoding(variable));
            if let Some(problem) = &variable.problem {
                rows.note(format!("cannot be decoded: {}", line(problem)));
            }
        }
        rows.print(f, 2)?;
    }
    if !group.unreadable.is_empty() {
        heading(f, "unreadable")?;
        let mut rows = Rows::default();
        for array in &group.unreadable {
            rows.push([line(&array.path), line(&array.reason)]);
        }
        rows.print(f, 2)?;
    }
    Ok(())
}

fn dimension_row(dimension: &DimensionDescription) -> [String; 5] {
    let range = match (&dimension.coordinate, &dimension.problem) {
        (Some(range), _) => {
            let mut text = plain(&range.first);
            if dimension.length > 1 {
                let _ = write!(text, " … {}", plain(&range.last));
            }
            if let Some(units) = &range.units {
                let _ = write!(text, " {}", line(units));
            }
            if let Some(step) = &range.step {
                let _ = match range.calendar {
                    Some(_) => write!(text, ", every {step}"),
                    None => write!(text, ", step {step}"),
                };
            }
            if let Some(calendar) = range.calendar.filter(|name| *name != "standard") {
                let _ = write!(text, ", {calendar}");
            }
            match dimension.length {
                0 => String::new(),
                _ => text,
            }
        }
        (None, Some(problem)) => format!("coordinate cannot be read: {}", line(problem)),
        (None, None) => String::new(),
    };
    let unlimited = if dimension.unlimited { "unlimited" } else { "" };
    [
        line(&dimension.name),
        dimension.length.to_string(),
        unlimited.to_owned(),
        dimension.axis.map(String::from).unwrap_or_default(),
        range,
    ]
}

fn variable_row(variable: &VariableDescription) -> [String; 4] {
    let name = variable.path.rsplit('/').next().unwrap_or_default();
    let dimensions: Vec<String> = variable.dimensions.iter().map(|name| line(name)).collect();
    let data_type = if variable.stored_type == variable.column_type {
        variable.stored_type.clone()
    } else {
        format!("{} → {}", variable.stored_type, variable.column_type)
    };
    let mut about = variable.long_name.as_deref().map(short).unwrap_or_default();
    if let Some(standard) = variable.standard_name.as_deref().map(short)
        && standard != about
    {
        let _ = match about.is_empty() {
            true => write!(about, "{standard}"),
            false => write!(about, " [{standard}]"),
        };
    }
    let mut units = variable.units.as_deref().map(short).unwrap_or_default();
    if let Some((_, calendar)) = variable.encoding.iter().find(|(name, _)| name == CALENDAR) {
        let _ = write!(units, ", {}", short(&plain(calendar)));
    }
    [
        format!("{}({})", line(name), dimensions.join(", ")),
        data_type,
        units,
        about,
    ]
}

/// Shape, chunks, codecs and size in one line.
fn storage(variable: &VariableDescription) -> String {
    let product = |extents: &[u64]| {
        let texts: Vec<String> = extents.iter().map(u64::to_string).collect();
        texts.join("×")
    };
    let mut parts = Vec::new();
    if !variable.shape.is_empty() {
        let cells = count(variable.cells, "cell");
        parts.push(match variable.shape.len() {
            1 => cells,
            _ => format!("{} = {cells}", product(&variable.shape)),
        });
        parts.push(match variable.chunk_count {
            0 => "no chunks".to_owned(),
            1 => "1 chunk".to_owned(),
            n => format!("{} of {}", count(n, "chunk"), product(&variable.chunks)),
        });
    }
    parts.push(match variable.codecs.as_str() {
        "" | "none" => "uncompressed".to_owned(),
        codecs => line(codecs),
    });
    if let Some(bytes) = variable.decoded_bytes {
        parts.push(format!("{} decoded", size(bytes)));
    }
    parts.join(", ")
}

fn encoding(variable: &VariableDescription) -> String {
    let parts: Vec<String> = variable
        .encoding
        .iter()
        .filter(|(name, _)| name != CALENDAR)
        .map(|(name, value)| format!("{} {}", line(name), short(&plain(value))))
        .collect();
    parts.join(", ")
}

fn columns(names: &[String]) -> String {
    let mut text = String::new();
    for name in names {
        if text.chars().count() > LONGEST {
            text.push_str(", …");
            break;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&line(name));
    }
    text
}

fn format_name(format: &'static str) -> &'static str {
    match format {
        "netcdf4" => "netCDF-4",
        "netcdf3" => "netCDF-3",
        "hdf5" => "HDF5",
        "zarr" => "Zarr",
        "icechunk" => "Icechunk",
        "blosc2" => "Blosc2",
        other => other,
    }
}

/// A value of JSON without its quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => line(text),
        Value::Number(number) => {
            let text = number.to_string();
            text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
        }
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Null => "NULL".to_owned(),
        Value::Bool(_) | Value::Object(_) => line(&value.to_string()),
    }
}

/// A text of the file on one line: runs of space become one, and what would control a terminal is shown instead.
fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut shown = String::with_capacity(text.len());
    for c in words.join(" ").chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A text of the file, not longer than is good to read.
fn short(text: &str) -> String {
    let text = line(text);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// `1 row`, `11,510,640 rows`.
fn count(number: u64, what: &str) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match number {
        1 => format!("1 {what}"),
        _ => format!("{grouped} {what}s"),
    }
}

/// `1.2 MiB`.
fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => {
            // Ten times the size, rounded down: one decimal without floating point.
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// Rows whose columns are aligned.
#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    right: Option<usize>,
}

enum Row {
    Cells(Vec<String>),
    /// A line below the row before it.
    Note(String),
}

impl Rows {
    fn push<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(Row::Cells(cells.into()));
    }

    fn note(&mut self, text: String) {
        if !text.is_empty() {
            self.rows.push(Row::Note(text));
        }
    }

    /// Aligns a column to the right.
    fn right(mut self, column: usize) -> Self {
        self.right = Some(column);
        self
    }

    fn print(&self, f: &mut Formatter<'_>, indent: usize) -> Result {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            if let Row::Cells(cells) = row
                && cells.len() > 1
            {
                widths.resize(widths.len().max(cells.len()), 0);
                for (width, cell) in widths.iter_mut().zip(cells) {
                    let length = cell.chars().count();
                    if length <= WIDEST {
                        *width = length.max(*width);
                    }
                }
            }
        }
        for row in &self.rows {
            match row {
                Row::Note(text) => writeln!(f, "{:indent$}    {text}", "")?,
                Row::Cells(cells) => {
                    let mut text = " ".repeat(indent);
                    for (at, cell) in cells.iter().enumerate() {
                        let width = widths.get(at).copied().unwrap_or(0);
                        if width == 0 && cell.is_empty() {
                            continue;
                        }
                        if self.right == Some(at) {
                            let _ = write!(text, "{cell:>width$}  ");
                        } else {
                            let _ = write!(text, "{cell:<width$}  ");
                        }
                    }
                    writeln!(f, "{}", text.trim_end())?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(11_510_640, "row"), "11,510,640 rows");
        assert_eq!(count(1, "row"), "1 row");
        assert_eq!(count(100, "cell"), "100 cells");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(u64::MAX), "16777215.9 TiB");
    }

    #[test]
    fn texts_of_files_stay_on_their_line() {
        assert_eq!(line("a\n  b\u{1b}[2J"), "a b\\u{1b}[2J");
        assert_eq!(short(&"é".repeat(101)).chars().count(), LONGEST + 1);
    }
}
