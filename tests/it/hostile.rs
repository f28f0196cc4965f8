//! Whatever is typed or sent as an expression, it is parsed or refused: no panic, no
//! unbounded time, up to 100 kB.

use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use proptest::prelude::*;
use watchfire::parser::{self, ParserOptions};

use crate::api::TestServer;

/// Longest input.
const BYTES_MAX: usize = 100_000;

/// Everything that takes an expression or a part of one. What is accepted also prints.
fn feed(text: &str) {
    let options = ParserOptions::all();
    match parser::parse(text, &options) {
        Ok(expr) => {
            let printed = expr.to_string();
            let again = parser::parse(&printed, &options).map(|e| e.to_string());
            assert_eq!(again.map_err(|e| e.to_string()), Ok(printed));
            let _ = (parser::pretty(&expr), parser::outline(&expr));
        }
        // Rendering walks the text as well.
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
    let _ = parser::parse_metric(text);
    let _ = parser::parse_metric_selector(text);
    let _ = parser::parse_series_description(text);
}

const TOKENS: &[&str] = &[
    "a",
    "sum",
    "by",
    "without",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "5m",
    "1",
    "0x1F",
    "1e3",
    "Inf",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "==",
    "!=",
    "=~",
    "!~",
    "=",
    "</",
    ">/",
    "<",
    ">",
    "or",
    "and",
    "unless",
    "atan2",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "fill",
    "fill_left",
    ",",
    ":",
    "offset",
    "@",
    "start",
    "end",
    "step",
    "range",
    "min_of",
    "\"s\"",
    "'",
    "`",
    "\"",
    "\\",
    "#",
    "\n",
    "rate",
    "anchored",
    "smoothed",
    "count_values",
    "info",
    "l=\"v\"",
    "{\"a.b\"}",
    "é",
    "\0",
    "\u{FFFD}",
    "[5m]",
    "[5m:]",
    "sum(",
    "-(",
    "x[",
    "{a=\"",
    "a:b",
    " ",
];

#[test]
fn one_token_a_hundred_thousand_bytes_long() {
    for token in TOKENS {
        for text in [
            token.repeat(BYTES_MAX / token.len()),
            format!("{token} ").repeat(BYTES_MAX / (token.len() + 1)),
        ] {
            feed(&text);
        }
    }
}

/// Queries of our own scripts.
fn seeds() -> Vec<String> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("promql-testdata");
    let mut queries = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let evals = text.lines().filter_map(|l| l.strip_prefix("eval instant at "));
        queries.extend(evals.filter_map(|l| Some(l.split_once(' ')?.1.to_owned())));
    }
    queries.sort();
    assert!(queries.len() > 100, "the scripts hold many queries");
    queries
}

/// One change of a text: what, where, how much, and a token to put in.
type Change = (u8, prop::sample::Index, usize, &'static str);

fn apply(text: &mut Vec<u8>, (what, at, len, token): &Change) {
    let from = at.index(text.len() + 1);
    let to = (from + len).min(text.len());
    match what % 5 {
        0 => drop(text.drain(from..to)),
        1 => drop(text.splice(from..from, token.bytes())),
        2 => {
            let copy = text[from..to].to_vec();
            text.splice(from..from, copy);
        }
        3 if from < text.len() => text[from] = text[from].wrapping_add(*len as u8),
        _ => drop(text.splice(from..to, token.bytes())),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bytes(bytes in prop::collection::vec(any::<u8>(), 0..BYTES_MAX)) {
        feed(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn token_soup(
        tokens in prop::collection::vec(prop::sample::select(TOKENS), 0..3_000),
        blank in any::<bool>(),
    ) {
        feed(&tokens.join(if blank { " " } else { "" }));
    }

    #[test]
    fn sound_expressions_with_changes(
        seed in prop::sample::select(seeds()),
        times in prop_oneof![4 => Just(1usize), 1 => 1..500usize],
        changes in prop::collection::vec(
            (any::<u8>(), any::<prop::sample::Index>(), 0..20usize, prop::sample::select(TOKENS)),
            0..8,
        ),
    ) {
        let mut text = vec![seed.as_str(); times].join(" or ").into_bytes();
        text.truncate(BYTES_MAX);
        changes.iter().for_each(|change| apply(&mut text, change));
        feed(&String::from_utf8_lossy(&text));
    }
}

#[tokio::test]
async fn broken_utf8_is_refused_by_the_api() {
    let server = TestServer::start().await;
    for query in ["%ff", "up{a=\"%c3%28\"}", "%f0%9f", "%00", "'%ed%a0%80'"] {
        for endpoint in ["query", "format_query", "parse_query"] {
            let got = server.get(&format!("/api/v1/{endpoint}?query={query}")).await;
            assert!(got.status == 400 || got.status == 200, "{endpoint} {query}: {}", got.body);
        }
    }
    let long = "(".repeat(BYTES_MAX);
    let got = server.post_form("/api/v1/query", &format!("query={long}")).await;
    assert!(got.status == 400 && got.body.contains("nested too deeply"), "{}", got.body);
}

#[test]
fn broken_utf8_is_refused_by_the_command_line() {
    let output = Command::new(env!("CARGO_BIN_EXE_watchfire"))
        .args(["promql", "parse"])
        .arg(std::ffi::OsStr::from_bytes(b"up{a=\"\xff\"}"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
