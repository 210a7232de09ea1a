//! Cuts a text into its SQL statements.

/// One statement of a text, without the `;` that ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Statement<'a> {
    /// The statement, from its first word on; comments before that are left out.
    pub(crate) text: &'a str,
    /// The line of the text, counted from 1, on which it begins.
    pub(crate) line: usize,
}

/// The statements of a text: what `;` ends, and whether the rest that is not ended says anything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Statements<'a> {
    /// Those that a `;` ends.
    pub(crate) ended: Vec<Statement<'a>>,
    /// What comes after the last of them to the very end, if it is more than space and comments.
    pub(crate) rest: Option<Statement<'a>>,
}

impl<'a> Statements<'a> {
    /// All statements, the last one whether it is ended or not.
    pub(crate) fn all(self) -> impl Iterator<Item = Statement<'a>> {
        self.ended.into_iter().chain(self.rest)
    }
}

/// Cuts `text` at every `;` that is not within quotes or a comment.
///
/// ```text
/// 'it''s; "'  "a;b"  `a;b`  E'it\'s;'  $$a;b$$  $tag$a;b$tag$  -- a;b  /* a; /* b; */ c; */
/// ```
pub(crate) fn split(text: &str) -> Statements<'_> {
    let mut scanner = Scanner { text, at: 0 };
    let mut ended = Vec::new();
    // Where the current statement begins, once it has a first word.
    let mut start: Option<usize> = None;
    while let Some(token) = scanner.next() {
        match token {
            Token::Space => {}
            Token::Word(from) => {
                start.get_or_insert(from);
            }
            Token::End(end) => {
                if let Some(start) = start.take() {
                    ended.push(statement(text, start, end));
                }
            }
        }
    }
    let rest = start.map(|start| Statement {
        text: text.get(start..).unwrap_or_default(),
        ..statement(text, start, start)
    });
    Statements { ended, rest }
}

fn statement(text: &str, start: usize, end: usize) -> Statement<'_> {
    let before = text.get(..start).unwrap_or_default();
    Statement {
        text: text.get(start..end).unwrap_or_default().trim_end(),
        line: 1 + before.matches('\n').count(),
    }
}

enum Token {
    /// Space or a comment.
    Space,
    /// Anything that says something, from here on.
    Word(usize),
    /// A `;` here.
    End(usize),
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn next(&mut self) -> Option<Token> {
        let from = self.at;
        let rest = self.rest();
        let first = rest.chars().next()?;
        match first {
            ';' => {
                self.at += 1;
                return Some(Token::End(from));
            }
            '\'' | '"' | '`' => {
                self.at += 1;
                self.quoted(first, Escape::Doubling);
            }
            '$' => self.dollar(),
            _ if rest.starts_with("--") => {
                self.at += rest.find('\n').unwrap_or(rest.len());
                return Some(Token::Space);
            }
            _ if rest.starts_with("/*") => {
                self.comment();
                return Some(Token::Space);
            }
            _ if first.is_whitespace() => {
                self.at += first.len_utf8();
                return Some(Token::Space);
            }
            'e' | 'E' if rest.get(1..).is_some_and(|rest| rest.starts_with('\'')) => {
                self.at += 2;
                self.quoted('\'', Escape::Backslash);
            }
            _ if is_name(first) => {
                // A name as a whole: the `$` and `e` within it begin nothing.
                let end = rest.find(|c| !is_name(c) && c != '$');
                self.at += end.unwrap_or(rest.len());
            }
            _ => self.at += first.len_utf8(),
        }
        Some(Token::Word(from))
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// To behind the closing quote.
    fn quoted(&mut self, quote: char, escape: Escape) {
        let mut chars = self.rest().char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if c == '\\' && matches!(escape, Escape::Backslash) {
                chars.next();
            } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
                self.at += at + quote.len_utf8();
                return;
            }
        }
        self.at = self.text.len();
    }

    /// To behind `$tag$ … $tag$`, or behind the `$` of a placeholder.
    fn dollar(&mut self) {
        let rest = self.rest().get(1..).unwrap_or_default();
        let tag = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let quote = match (rest.get(..tag), rest.get(tag..)) {
            (Some(tag), Some(after)) if after.starts_with('$') => format!("${tag}$"),
            _ => {
                self.at += 1;
                return;
            }
        };
        let body = self.at + quote.len();
        let end = self
            .text
            .get(body..)
            .and_then(|text| text.find(&quote))
            .map(|end| body + end + quote.len());
        self.at = end.unwrap_or(self.text.len());
    }

    /// To behind the end of a comment; comments nest.
    fn comment(&mut self) {
        let mut depth = 0usize;
        while let Some(c) = self.rest().chars().next() {
            if self.rest().starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if self.rest().starts_with("*/") {
                depth = depth.saturating_sub(1);
                self.at += 2;
                if depth == 0 {
                    return;
                }
            } else {
                self.at += c.len_utf8();
            }
        }
    }
}

/// How a quote within quotes is written.
#[derive(Clone, Copy)]
enum Escape {
    /// Twice.
    Doubling,
    /// Twice, or after a backslash.
    Backslash,
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        split(text).all().map(|statement| statement.text).collect()
    }

    #[test]
    fn semicolons_end_statements() {
        assert_eq!(
            texts("SELECT 1; SELECT 2 ;\n;; SELECT 3"),
            ["SELECT 1", "SELECT 2", "SELECT 3"]
        );
        assert_eq!(texts(" \n-- nothing; at all\n/* ; */ ;"), [""; 0]);
        assert_eq!(texts(""), [""; 0]);
    }

    #[test]
    fn semicolons_in_quotes_and_comments_do_not() {
        for one in [
            "SELECT 'a;b'",
            "SELECT 'it''s;'",
            "SELECT ';' AS \"a\"\";b\"",
            "SELECT `a;b`",
            r"SELECT E'it\'s;'",
            r"SELECT e'it''\';'",
            r"SELECT 'a\'",
            "SELECT $$a;'b$$",
            "SELECT $é_1$a;$$;$é_1$",
            "SELECT 1 -- a; 'b\n + 1",
            "SELECT /* ; /* ' ; */ ; */ 1",
            "SELECT $1, $2",
            "SELECT a$b$c",
            "SELECT ée'x;'",
        ] {
            let two = format!("{one}; SELECT 2");
            assert_eq!(texts(&two), [one, "SELECT 2"]);
        }
    }

    #[test]
    fn what_is_not_ended_is_the_rest() {
        for rest in ["SELECT 'a;", "SELECT \"a;", "SELECT $$a;", "SELECT 1 /* ;"] {
            let text = format!("SELECT 0; {rest}");
            let statements = split(&text);
            assert_eq!(statements.ended.len(), 1, "{rest}");
            assert_eq!(statements.rest.map(|rest| rest.text), Some(rest));
        }
        assert_eq!(split("SELECT 0; -- done").rest, None);
    }

    #[test]
    fn statements_know_their_lines() {
        let lines: Vec<usize> = split("-- a\nSELECT 1;\n\n/*\n*/ SELECT\n2; SELECT 3")
            .all()
            .map(|statement| statement.line)
            .collect();
        assert_eq!(lines, [2, 5, 6]);
    }
}
