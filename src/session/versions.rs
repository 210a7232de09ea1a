//! Statements about versions: `t FOR VERSION AS OF n`, `ROLLBACK t TO VERSION n`, `VACUUM t [DRY RUN]`.

use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::catalog::location::VERSION;

/// A statement that changes which versions there are; the engine's grammar knows none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// `ROLLBACK t TO VERSION n`, or of a snapshot: `'name'`
    RollBack {
        /// Name or location of the dataset.
        dataset: String,
        /// What it shall be again.
        version: String,
    },
    /// `VACUUM t`
    Vacuum {
        /// Name or location of the dataset.
        dataset: String,
    },
    /// `VACUUM t DRY RUN`
    ListOrphans {
        /// Name or location of the dataset.
        dataset: String,
    },
}

/// The change of versions that a statement asks for, if it is one.
pub(super) fn change(sql: &str, dialect: &dyn Dialect) -> Option<Change> {
    let first = sql.split_whitespace().next()?;
    if !first.eq_ignore_ascii_case("rollback") && !first.eq_ignore_ascii_case("vacuum") {
        return None;
    }
    let tokens = tokens(sql, dialect)?;
    let words: Vec<&Token> = tokens
        .iter()
        .map(|token| &token.token)
        .filter(|token| !matches!(token, Token::SemiColon))
        .collect();
    let (start, rest) = words.split_first()?;
    let (dataset, rest) = rest.split_first()?;
    let dataset = name(dataset)?.to_owned();
    match rest {
        [] if is(start, "vacuum") => Some(Change::Vacuum { dataset }),
        [dry, run] if is(start, "vacuum") && is(dry, "dry") && is(run, "run") => {
            Some(Change::ListOrphans { dataset })
        }
        [
            to,
            version,
            Token::Number(version_name, _) | Token::SingleQuotedString(version_name),
        ] if is(start, "rollback") && is(to, "to") && is(version, "version") => {
            Some(Change::RollBack {
                dataset,
                version: version_name.clone(),
            })
        }
        _ => None,
    }
}

/// The statement with `t FOR VERSION AS OF n` written as the table `"t#version=n"`, if there is any in it.
pub(super) fn rewrite(sql: &str, dialect: &dyn Dialect) -> Option<String> {
    if !sql.to_ascii_lowercase().contains("version") {
        return None;
    }
    let tokens = tokens(sql, dialect)?;
    let mut edits: Vec<(usize, usize, String)> = Vec::new();
    for (at, window) in tokens.windows(4).enumerate() {
        let [version, as_, of, number] = window else {
            continue;
        };
        let (Token::Number(version_name, _) | Token::SingleQuotedString(version_name)) =
            &number.token
        else {
            continue;
        };
        if !is(&version.token, "version") || !is(&as_.token, "as") || !is(&of.token, "of") {
            continue;
        }
        let before = tokens.get(..at)?;
        let (before, start) = match before.split_last() {
            Some((last, rest)) if is(&last.token, "for") => (rest, last),
            _ => (before, version),
        };
        let Some(table) = dataset_of(before) else {
            continue;
        };
        let named = name(&table.token)?;
        let quote = match &table.token {
            Token::SingleQuotedString(_) => '\'',
            _ => '"',
        };
        let named = format!("{named}{VERSION}{version_name}");
        let escaped = named.replace(quote, &format!("{quote}{quote}"));
        let new = format!("{quote}{escaped}{quote}");
        let place = |location: Location| offset(sql, location);
        edits.push((place(table.span.start)?, place(table.span.end)?, new));
        edits.push((
            place(start.span.start)?,
            place(number.span.end)?,
            String::new(),
        ));
    }
    if edits.is_empty() {
        return None;
    }
    edits.sort_by_key(|(start, _, _)| std::cmp::Reverse(*start));
    let mut rewritten = sql.to_owned();
    for (start, end, new) in edits {
        rewritten.replace_range(start..end, &new);
    }
    Some(rewritten)
}

/// Of the name that ends the tokens, the part that stands for a dataset.
fn dataset_of(tokens: &[TokenWithSpan]) -> Option<&TokenWithSpan> {
    let mut parts = Vec::new();
    let mut rest = tokens;
    while let Some((last, before)) = rest.split_last() {
        name(&last.token)?;
        parts.push(last);
        match before.split_last() {
            Some((dot, before)) if dot.token == Token::Period => rest = before,
            _ => break,
        }
    }
    // A table of a dataset, of a schema, or of a schema of a catalog.
    match parts.as_slice() {
        [_, schema] if name(&schema.token) == Some("public") => parts.first().copied(),
        [table] => Some(*table),
        [_, schema] | [_, schema, _] => Some(*schema),
        _ => None,
    }
}

pub(super) fn tokens(sql: &str, dialect: &dyn Dialect) -> Option<Vec<TokenWithSpan>> {
    let tokens = Tokenizer::new(dialect, sql).tokenize_with_location().ok()?;
    let says_something = |token: &TokenWithSpan| !matches!(token.token, Token::Whitespace(_));
    Some(tokens.into_iter().filter(says_something).collect())
}

/// The name that a token is.
fn name(token: &Token) -> Option<&str> {
    match token {
        Token::Word(word) => Some(&word.value),
        Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => Some(text),
        _ => None,
    }
}

pub(super) fn is(token: &Token, keyword: &str) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(keyword))
}

/// The byte at a place, whose lines and columns count from 1.
pub(super) fn offset(sql: &str, location: Location) -> Option<usize> {
    let line = usize::try_from(location.line).ok()?.checked_sub(1)?;
    let column = usize::try_from(location.column).ok()?.checked_sub(1)?;
    let start: usize = sql.split_inclusive('\n').take(line).map(str::len).sum();
    let text = sql.get(start..)?;
    let within = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    within.into_iter().nth(column).map(|at| start + at)
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;

    use super::*;

    #[test]
    fn versions_become_part_of_names() {
        let dialect = GenericDialect {};
        for (sql, expected) in [
            (
                "SELECT * FROM t FOR VERSION AS OF 3",
                Some("SELECT * FROM \"t#version=3\" "),
            ),
            (
                "SELECT é, 'version as of 3'\nFROM 'a b.zarr'.tas for version as of 12 x JOIN u",
                Some("SELECT é, 'version as of 3'\nFROM 'a b.zarr#version=12'.tas  x JOIN u"),
            ),
            (
                "SELECT * FROM \"a\".b VERSION AS OF 1, public.c VERSION AS OF 2",
                Some("SELECT * FROM \"a#version=1\".b , public.\"c#version=2\" "),
            ),
            (
                "SELECT * FROM \"t\" FOR VERSION AS OF 'it''s'",
                Some("SELECT * FROM \"t#version=it's\" "),
            ),
            ("SELECT version AS of FROM t", None),
            ("SELECT 'FOR VERSION AS OF 3'", None),
            ("SELECT 1", None),
        ] {
            assert_eq!(rewrite(sql, &dialect).as_deref(), expected, "{sql}");
        }
    }

    #[test]
    fn changes_of_versions() {
        let dialect = GenericDialect {};
        let dataset = || "a.zarr".to_owned();
        for (sql, expected) in [
            (
                "ROLLBACK 'a.zarr' TO VERSION 3;",
                Some(Change::RollBack {
                    dataset: dataset(),
                    version: "3".to_owned(),
                }),
            ),
            (
                "ROLLBACK 'a.zarr' TO VERSION 'v1'",
                Some(Change::RollBack {
                    dataset: dataset(),
                    version: "v1".to_owned(),
                }),
            ),
            (
                "vacuum \"a.zarr\"",
                Some(Change::Vacuum { dataset: dataset() }),
            ),
            (
                "VACUUM 'a.zarr' DRY RUN",
                Some(Change::ListOrphans { dataset: dataset() }),
            ),
            ("ROLLBACK", None),
            ("VACUUM 'a.zarr' FULL", None),
            ("SELECT 1", None),
        ] {
            assert_eq!(change(sql, &dialect), expected, "{sql}");
        }
    }
}
