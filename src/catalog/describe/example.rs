//! A statement that shows how to ask for rows of a dataset.

use datafusion::sql::sqlparser::ast::{Expr, SelectItem, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::GroupDescription;
use crate::catalog::quote::{identifier, literal};
use crate::catalog::{Opened, tables};

/// A statement that reads some rows of the main table, those of the first instant if there is time; `None` when none
/// of its rows can be read as they are.
pub(super) fn example(
    opened: &Opened,
    main: &tables::TableParts,
    groups: &[GroupDescription],
) -> Option<String> {
    let described = |path: &str| {
        let mut variables = groups.iter().flat_map(|group| &group.variables);
        variables.find(|variable| variable.path == path)
    };
    let dimension = |name: &str| {
        let mut dimensions = groups.iter().flat_map(|group| &group.dimensions);
        dimensions.find(|dimension| dimension.name == name)
    };
    let names = || main.dimensions.iter().map(|(name, _)| name.as_str());
    if names().any(|name| dimension(name).is_some_and(|found| found.problem.is_some())) {
        return None;
    }
    let rank = main.dimensions.len();
    // Auxiliary coordinates come first in a table, and are not what it is about.
    let data = main.variable_names().find(|name| {
        main.variable(name)
            .filter(|variable| variable.dimensions.len() == rank)
            .and_then(|variable| described(&variable.path))
            .is_some_and(|variable| variable.role == "data" && variable.problem.is_none())
    });
    let mut columns: Vec<String> = names().chain(data).map(quoted).collect();
    columns.dedup();
    let columns = match columns.is_empty() {
        true => "*".to_owned(),
        false => columns.join(", "),
    };
    let location = literal(opened.store.location());
    let instant = names().find_map(|name| {
        let time = dimension(name).filter(|dimension| dimension.axis == Some('T'))?;
        let first = time.coordinate.as_ref()?.first.as_str()?;
        Some(format!(" WHERE {} = '{first}'", quoted(name)))
    });
    let instant = instant.unwrap_or_default();
    Some(format!(
        "SELECT {columns} FROM {location}{instant} LIMIT 10"
    ))
}

/// A name as SQL takes it: in quotes, unless it means itself without them.
fn quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.chars().all(is_plain) && is_identifier(name) {
        name.to_owned()
    } else {
        identifier(name)
    }
}

/// Whether a word stands for a column wherever an expression can be; keywords do not everywhere.
fn is_identifier(word: &str) -> bool {
    let statement = format!("SELECT {word}, {word}, {word} FROM t WHERE {word} = 1");
    let Ok(statements) = Parser::parse_sql(&GenericDialect {}, &statement) else {
        return false;
    };
    let [Statement::Query(query)] = statements.as_slice() else {
        return false;
    };
    query.body.as_select().is_some_and(|select| {
        let is_column = |item: &SelectItem| {
            matches!(item, SelectItem::UnnamedExpr(Expr::Identifier(name)) if name.value == word)
        };
        // Some keywords end the list.
        select.projection.len() == 3 && select.projection.iter().all(is_column)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_keywords_are_quoted() {
        for plain in ["time", "lat", "t2m", "_x", "level", "value"] {
            assert_eq!(quoted(plain), plain);
        }
        for name in ["end", "null", "from", "Tair", "2m", "a b", ""] {
            assert_eq!(quoted(name), format!("\"{name}\""));
        }
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
