//! The prompt: reads lines from a terminal until a statement is complete, and runs it.

use std::io::{BufRead, Write};

use super::sql::Runner;
use super::statements::split;

const WELCOME: &str = concat!(
    "hyperslab ",
    env!("CARGO_PKG_VERSION"),
    ": a statement ends with ; and \\q leaves"
);

/// Runs what is entered, until the end of the input or a word that leaves.
pub(crate) async fn run(runner: &mut Runner, mut lines: impl BufRead, prompt: &mut impl Write) {
    // A prompt that cannot be shown is no reason to stop listening.
    let _ = writeln!(prompt, "{WELCOME}");
    let mut entered = String::new();
    loop {
        let _ = write!(prompt, "{}", ask(&entered)).and_then(|()| prompt.flush());
        let mut line = String::new();
        match lines.read_line(&mut line) {
            Ok(0) | Err(_) => {
                let _ = writeln!(prompt);
                return;
            }
            Ok(_) => {}
        }
        if entered.is_empty() && leaves(&line) {
            return;
        }
        entered.push_str(&line);
        let statements = split(&entered);
        for statement in &statements.ended {
            if runner.statement(None, *statement).await.is_break() {
                return;
            }
        }
        entered = statements
            .rest
            .map_or(String::new(), |rest| rest.text.to_owned());
    }
}

fn ask(entered: &str) -> &'static str {
    if entered.is_empty() {
        "hyperslab> "
    } else {
        "      ...> "
    }
}

fn leaves(line: &str) -> bool {
    let word = line.trim().trim_end_matches(';').trim_end();
    ["\\q", "exit", "quit"].contains(&word.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_words_leave() {
        for word in ["\\q\n", " exit ;", "QUIT"] {
            assert!(leaves(word), "{word}");
        }
        assert!(!leaves("SELECT exit"));
    }
}
