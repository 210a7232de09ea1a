//! Who may import whom: a room may use the rooms on floors below it, and only those that the plan allows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::project;

/// For every room, what of the package it may import, and which other crates it must not.
fn rules() -> BTreeMap<&'static str, (Vec<&'static str>, Vec<&'static str>)> {
    let low = ["error"];
    let model = ["error", "array", "codec"];
    BTreeMap::from([
        (
            "error",
            (vec![], vec!["datafusion", "arrow", "tokio", "object_store"]),
        ),
        (
            "codec",
            (
                low.to_vec(),
                vec!["datafusion", "arrow", "tokio", "object_store"],
            ),
        ),
        ("store", (low.to_vec(), vec!["datafusion", "arrow"])),
        (
            "array",
            (model.to_vec(), vec!["datafusion", "tokio", "object_store"]),
        ),
        (
            "cf",
            (model.to_vec(), vec!["datafusion", "tokio", "object_store"]),
        ),
        (
            "format",
            (
                vec!["error", "array", "codec", "store", "format"],
                vec!["datafusion"],
            ),
        ),
        (
            "read",
            (
                vec!["error", "array", "codec", "store", "cf"],
                vec!["datafusion"],
            ),
        ),
        (
            "append",
            (
                vec!["error", "array", "codec", "store", "cf", "format"],
                vec!["datafusion"],
            ),
        ),
        (
            "query",
            (
                vec!["error", "array", "cf", "store", "read", "append"],
                vec![],
            ),
        ),
        (
            "catalog",
            (
                vec![
                    "error", "array", "cf", "store", "format", "read", "append", "query",
                ],
                vec![],
            ),
        ),
        (
            "session",
            (
                vec![
                    "error", "array", "cf", "store", "read", "append", "query", "catalog",
                ],
                vec![],
            ),
        ),
        (
            "server",
            (
                vec!["error", "store", "query", "catalog", "session"],
                vec![],
            ),
        ),
        (
            "reducer",
            (
                vec!["error", "codec", "store", "server"],
                vec!["datafusion", "arrow"],
            ),
        ),
        (
            "ingest",
            (
                vec![
                    "error", "array", "codec", "cf", "store", "read", "append", "query", "catalog",
                    "session",
                ],
                vec![],
            ),
        ),
    ])
}

#[test]
fn rooms_import_downwards_only() {
    let rules = rules();
    let mut wrong = Vec::new();
    for (path, text) in sources(&project("src")) {
        let room = match path.starts_with("server/reducer/") {
            true => "reducer",
            false => path.split(['/', '.']).next().unwrap(),
        };
        let Some((own, foreign)) = rules.get(room) else {
            assert!(["lib", "main", "cli"].contains(&room), "no rule for {path}");
            continue;
        };
        for line in code(&text) {
            for part in line.split("crate::").skip(1) {
                let imported = part
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap();
                if imported != room && !own.contains(&imported) {
                    wrong.push(format!("{path} imports {imported}: {line}"));
                }
            }
            for other in foreign {
                if line.contains(&format!("{other}::")) {
                    wrong.push(format!("{path} imports {other}: {line}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_format_never_imports_another_format() {
    for (path, text) in sources(&project("src/format")) {
        let format = path.split('/').next().unwrap();
        // What is in a repository of Icechunk is a Zarr hierarchy.
        let below = if format == "icechunk" { "zarr" } else { format };
        for line in
            code(&text).filter(|line| line.contains("crate::format::") && path.contains('/'))
        {
            let imported = line.split("crate::format::").nth(1).unwrap();
            let is_trait = imported.starts_with(|c: char| c.is_uppercase() || c == '{');
            let is_own = imported.starts_with(format) || imported.starts_with(below);
            assert!(is_trait || is_own, "{path}: {line}");
        }
    }
}

#[test]
fn files_say_what_they_are_and_stay_small() {
    for (path, text) in sources(&project("src")) {
        assert!(text.starts_with("//! "), "{path} has no caption");
        let lines = text.split("#[cfg(test)]").next().unwrap().lines().count();
        assert!(lines <= 700, "{path} has {lines} lines");
    }
}

#[test]
fn the_front_door_defines_nothing() {
    let text = fs::read_to_string(project("src/lib.rs")).unwrap();
    for line in code(&text) {
        assert!(
            ["pub mod ", "pub use ", "#[cfg(feature"]
                .iter()
                .any(|start| line.starts_with(start)),
            "lib.rs: {line}"
        );
    }
}

/// Lines of code outside of comments and tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split("#[cfg(test)]\nmod ")
        .next()
        .unwrap()
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
}

fn sources(root: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                if name.ends_with("tests.rs") {
                    continue;
                }
                files.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}
