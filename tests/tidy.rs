//! The house rules as a test: who may name whom, where walls stand, how large a file
//! may grow, that every file says what it is for. Text checks on purpose: they see what
//! a reader sees, and they run in a blink.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms and the rooms below them that they may name. `telemetry` is open to all.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("telemetry", &["model"]),
    ("yaml", &["model"]),
    ("vector", &["model"]),
    ("relabel", &["model"]),
    ("http", &["model"]),
    ("functions", &["model", "vector"]),
    ("aggregations", &["model", "vector", "functions"]),
    ("parser", &["model", "vector", "functions", "aggregations"]),
    ("diagnostics", &["model", "functions", "aggregations", "parser"]),
    ("storage", &["model", "vector", "http"]),
    ("remote_read", &["model", "vector", "storage"]),
    ("remote_write", &["model", "vector", "relabel", "http", "storage"]),
    ("plan", &["model", "vector", "functions", "aggregations", "parser", "storage"]),
    ("exec", &["model", "vector", "functions", "aggregations", "parser", "plan", "storage"]),
    (
        "query",
        &["model", "vector", "functions", "aggregations", "parser", "plan", "exec", "storage"],
    ),
    ("discovery", &["model", "relabel", "http"]),
    ("scrape", &["model", "relabel", "http", "storage", "discovery"]),
    ("notifier", &["model", "relabel", "http", "discovery"]),
    ("rules", &["model", "yaml", "vector", "functions", "parser", "query", "storage", "notifier"]),
    ("rule_sources", &["model", "http", "rules"]),
    ("lint", &["model", "yaml", "functions", "aggregations", "parser", "diagnostics", "rules"]),
    (
        "config",
        &[
            "model",
            "yaml",
            "parser",
            "relabel",
            "http",
            "storage",
            "remote_write",
            "discovery",
            "scrape",
            "notifier",
            "rules",
        ],
    ),
    (
        "api",
        &[
            "model",
            "vector",
            "functions",
            "aggregations",
            "parser",
            "query",
            "storage",
            "remote_read",
            "remote_write",
            "relabel",
            "scrape",
            "rules",
            "rule_sources",
            "notifier",
            "config",
        ],
    ),
    ("promqltest", &["model", "vector", "functions", "aggregations", "parser", "query", "storage"]),
];

/// Text that may occur only under the given paths (below `src/`).
const WALLS: &[(&str, &[&str])] = &[
    ("pest", &["parser/syntax.rs", "parser/build.rs", "parser/build/", "parser/syntax/"]),
    (
        "tokio",
        &[
            "http/",
            "remote_write/send/",
            "rule_sources/",
            "scrape/",
            "discovery/",
            "rules/",
            "notifier/",
            "api/",
            "cli/",
            "query/",
            "telemetry/",
            "promqltest/",
            "storage/remote/",
        ],
    ),
    ("saphyr_parser", &["yaml/"]),
    (
        "serde_json",
        &[
            "api/",
            "http/",
            "notifier/",
            "cli/",
            "diagnostics/",
            "storage/remote/",
            // A block's description is a JSON file.
            "storage/tsdb/block/meta.rs",
        ],
    ),
    ("memmap2", &["storage/tsdb/block/mapped.rs"]),
    ("unsafe", &["storage/tsdb/block/mapped.rs"]),
    ("annotate_snippets", &["diagnostics/"]),
    // The type is also that of a file's time.
    ("SystemTime::now", &["cli/", "telemetry/"]),
    ("Instant::now", &["cli/", "telemetry/"]),
    ("Utc::now", &["cli/", "telemetry/"]),
    ("Local::now", &["cli/", "telemetry/"]),
    ("println!", &["cli/"]),
    ("storage::tsdb", &["cli/", "storage/tsdb/"]),
    ("storage::remote", &["cli/", "config/", "storage/"]),
    ("storage::memory", &["cli/", "storage/", "promqltest/", "rules/unit_test"]),
];

/// Text that occurs nowhere in production code.
const BANNED: &[&str] =
    &["todo!(", "unimplemented!(", ".unwrap()", "dbg!(", "panic!(", "anyhow", "TODO", "FIXME"];

/// Longest file in lines, tests included.
const LINES_MAX: usize = 1000;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a readable source tree") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// A source file: path below `src/`, and its code without comments and unit tests.
struct Source {
    path: String,
    text: String,
    code: Vec<(usize, String)>,
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    rust_files(&src)
        .into_iter()
        .map(|file| {
            let path = file.strip_prefix(&src).expect("below src").display().to_string();
            let text = fs::read_to_string(&file).expect("UTF-8 source");
            let code = production_code(&path, &text);
            Source { path, text, code }
        })
        .collect()
}

fn production_code(path: &str, text: &str) -> Vec<(usize, String)> {
    let file = path.rsplit('/').next().unwrap_or(path);
    if file == "tests.rs" || file.ends_with("_tests.rs") || path.contains("/tests/") {
        return Vec::new();
    }
    let lines: Vec<&str> = text.lines().collect();
    let mut code = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let next_is_tests = lines.get(i + 1).is_some_and(|l| {
            let l = l.trim_start();
            l.starts_with("mod ") && l.contains("test") && l.ends_with('{')
        });
        if line.trim() == "#[cfg(test)]" && next_is_tests {
            break;
        }
        let bare = line.trim_start();
        if bare.starts_with("//") {
            continue;
        }
        let cut = line.find(" // ").map_or(*line, |at| &line[..at]);
        code.push((i + 1, cut.to_owned()));
    }
    code
}

/// Rooms named by `crate::room` or `use crate::{room, room::x}`.
fn named_rooms(code: &[(usize, String)]) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    let joined: String = code.iter().fold(String::new(), |mut all, (_, line)| {
        let _ = writeln!(all, "{line}");
        all
    });
    let line_of = |at: usize| code[joined[..at].matches('\n').count()].0;
    for (at, _) in joined.match_indices("crate::") {
        let rest = &joined[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0_usize;
            let mut item = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => named.push((line_of(at), std::mem::take(&mut item))),
                    c if depth == 0 => item.push(c),
                    _ => {}
                }
            }
            named.push((line_of(at), item));
        } else {
            named.push((line_of(at), rest.to_owned()));
        }
    }
    named
        .into_iter()
        .map(|(line, text)| {
            let room: String =
                text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            (line, room)
        })
        .filter(|(_, room)| !room.is_empty())
        .collect()
}

fn report(problems: &[String], rule: &str) {
    assert!(problems.is_empty(), "{rule}:\n  {}", problems.join("\n  "));
}

#[test]
fn a_room_names_only_rooms_below_it() {
    let rooms: BTreeSet<&str> = LAYERS.iter().map(|(room, _)| *room).collect();
    let mut problems = Vec::new();
    for source in sources() {
        let room = source.path.split(['/', '.']).next().expect("a path has a first part");
        if matches!(room, "main" | "lib" | "cli") {
            continue;
        }
        let Some((_, below)) = LAYERS.iter().find(|(name, _)| *name == room) else {
            problems.push(format!("src/{}: room {room} is not in LAYERS", source.path));
            continue;
        };
        for (line, named) in named_rooms(&source.code) {
            let known = rooms.contains(named.as_str()) || named == "cli";
            if known && named != room && named != "telemetry" && !below.contains(&named.as_str()) {
                problems.push(format!("src/{}:{line} names {named}", source.path));
            }
        }
    }
    report(&problems, "a module names only modules below it (src/ARCHITECTURE.md)");
}

#[test]
fn walls_stand() {
    let mut problems = Vec::new();
    for source in sources() {
        for (word, homes) in WALLS {
            if homes.iter().any(|home| source.path.starts_with(home)) {
                continue;
            }
            for (line, text) in &source.code {
                if contains_word(text, word) {
                    problems.push(format!("src/{}:{line} names {word}", source.path));
                }
            }
        }
    }
    report(&problems, "some names stay behind their wall");
}

fn contains_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let boundary = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
        boundary(text[..at].chars().next_back())
            && (word.ends_with('!') || boundary(text[at + word.len()..].chars().next()))
    })
}

#[test]
fn production_code_neither_panics_nor_puts_work_off() {
    let mut problems = Vec::new();
    for source in sources() {
        for (line, text) in &source.code {
            for banned in BANNED {
                if text.contains(banned) {
                    problems.push(format!("src/{}:{line} has {banned}", source.path));
                }
            }
            if text.contains(".expect(\"") && !text.contains(".expect(\"BUG: ") {
                problems.push(format!("src/{}:{line} expects without \"BUG: ...\"", source.path));
            }
        }
    }
    report(&problems, "errors are values; `expect(\"BUG: ...\")` is the only panic");
}

#[test]
fn every_file_says_what_it_is_for_and_stays_readable() {
    let mut problems = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//!") {
            problems.push(format!("src/{} does not begin with a module doc", source.path));
        }
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            problems.push(format!("src/{} has {lines} lines: split it", source.path));
        }
    }
    let main = fs::read_to_string(root().join("src/main.rs")).expect("src/main.rs");
    if main.lines().count() > 40 {
        problems.push("src/main.rs is longer than 40 lines".to_owned());
    }
    report(&problems, "files are documented and of readable size");
}

#[test]
fn the_map_shows_every_room() {
    let map = fs::read_to_string(root().join("src/ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let missing: Vec<String> = LAYERS
        .iter()
        .map(|(room, _)| *room)
        .chain(["cli"])
        .filter(|room| !map.contains(&format!("`{room}/`")))
        .map(|room| format!("`{room}/` is not described in src/ARCHITECTURE.md"))
        .collect();
    report(&missing, "src/ARCHITECTURE.md describes every room");
}

#[test]
fn the_layering_check_sees_grouped_imports() {
    let code = vec![
        (1, "use crate::{model::Labels, exec::{a, b}};".to_owned()),
        (2, "fn f() { crate::query::g() }".to_owned()),
    ];
    let rooms: Vec<String> = named_rooms(&code).into_iter().map(|(_, room)| room).collect();
    assert_eq!(rooms, ["model", "exec", "query"]);
}
