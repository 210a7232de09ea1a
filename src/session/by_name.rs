//! `INSERT INTO t BY NAME SELECT …`: columns go to those of the same name, in whatever order they come.

use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::versions::{is, offset, tokens};

/// A statement in parts: what is before `BY NAME`, and the query behind it. `None` if it is none of these.
pub(super) fn split<'a>(sql: &'a str, dialect: &dyn Dialect) -> Option<(&'a str, &'a str)> {
    let first = sql.split_whitespace().next()?;
    let starts = ["insert", "replace", "explain"];
    if !starts.iter().any(|word| first.eq_ignore_ascii_case(word)) {
        return None;
    }
    let tokens = tokens(sql, dialect)?;
    let is_into = |token: &Token| is(token, "into") || is(token, "overwrite");
    let into = tokens.iter().position(|token| is_into(&token.token))?;
    let mut name = tokens.iter().enumerate().skip(into + 1);
    let (at, by) = name.find(|(at, token)| {
        let next = tokens.get(at + 1);
        is(&token.token, "by") && next.is_some_and(|next| is(&next.token, "name"))
    })?;
    // Nothing but the name of the table is in between.
    let mut between = tokens.get(into + 1..at)?.iter().peekable();
    while between
        .next_if(|token| is(&token.token, "into") || is(&token.token, "table"))
        .is_some()
    {}
    let is_name = |token: &Token| matches!(token, Token::Word(_) | Token::SingleQuotedString(_));
    if between.len() % 2 == 0 {
        return None;
    }
    for (place, token) in between.enumerate() {
        let fits = match place % 2 {
            0 => is_name(&token.token),
            _ => token.token == Token::Period,
        };
        if !fits {
            return None;
        }
    }
    let head = sql.get(..offset(sql, by.span.start)?)?;
    let query = sql.get(offset(sql, tokens.get(at + 1)?.span.end)?..)?;
    Some((head, query))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;

    #[test]
    fn statements_are_split_where_it_says_by_name() {
        for (sql, expected) in [
            (
                "INSERT INTO 'a.zarr' BY NAME SELECT * FROM b",
                Some(("INSERT INTO 'a.zarr' ", " SELECT * FROM b")),
            ),
            (
                "explain insert into a.\"b c\" by  name\nselect 1 as x",
                Some(("explain insert into a.\"b c\" ", "\nselect 1 as x")),
            ),
            (
                "INSERT OVERWRITE a BY NAME SELECT 2 AS y;",
                Some(("INSERT OVERWRITE a ", " SELECT 2 AS y;")),
            ),
            ("INSERT INTO a SELECT x AS by, name FROM b", None),
            ("INSERT INTO a (x) SELECT 'INTO t BY NAME'", None),
            ("SELECT * FROM a ORDER BY name", None),
            ("INSERT INTO a SELECT x FROM b ORDER BY name", None),
        ] {
            assert_eq!(split(sql, &GenericDialect {}), expected, "{sql}");
        }
    }
}
