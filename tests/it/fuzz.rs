//! The fuzz targets run over the inputs that are kept: seeds, and every input that ever
//! was a finding, and over some of what comes of changing and mixing them. What fuzzes for
//! hours, led by coverage, is `tests/fuzz.sh`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

#[path = "../../fuzz/src/targets.rs"]
mod targets;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn kept_inputs_are_no_findings() {
    for (name, target) in targets::TARGETS {
        let seeds = files(&root().join("fuzz/seeds").join(name));
        assert!(!seeds.is_empty(), "fuzz/seeds/{name} is empty");
        for seed in seeds {
            eprintln!("{}", seed.display());
            target(&std::fs::read(&seed).unwrap());
        }
    }
}

#[test]
fn every_target_has_a_binary_and_every_binary_a_target() {
    let manifest = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    let binaries: Vec<&str> =
        manifest.lines().filter_map(|l| l.strip_prefix("path = \"fuzz_targets/")).collect();
    let expected: Vec<String> =
        targets::TARGETS.iter().map(|(name, _)| format!("{name}.rs\"")).collect();
    assert_eq!(binaries, expected);
    for (name, _) in targets::TARGETS {
        let binary = root().join(format!("fuzz/fuzz_targets/{name}.rs"));
        let text = std::fs::read_to_string(&binary).unwrap();
        assert!(text.contains(&format!("watchfire_fuzz::{name}(data)")), "{}", binary.display());
    }
}

#[test]
fn expressions_of_our_scripts_are_no_findings() {
    let mut ran = 0;
    for file in files(&root().join("promql-testdata")) {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let Some((_, query)) =
                line.strip_prefix("eval instant at ").and_then(|rest| rest.split_once(' '))
            else {
                continue;
            };
            targets::promql(query.as_bytes());
            targets::evaluate(query.as_bytes());
            ran += 1;
        }
    }
    assert!(ran > 100, "only {ran} expressions found");
}

/// What a number of the environment says, or else.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Inputs a target is known by: its seeds and what the repository has of their kind.
fn known_inputs(target: &str) -> Vec<Vec<u8>> {
    let mut paths = files(&root().join("fuzz/seeds").join(target));
    let more = match target {
        "script" | "promql" | "evaluate" | "selectors" => "promql-testdata",
        "rules" | "lint" => "rules",
        "unit_tests" => "rules/tests",
        _ => "",
    };
    if !more.is_empty() {
        paths.extend(files(&root().join(more)).into_iter().filter(|path| path.is_file()));
    }
    let mut all = vec![];
    for path in paths {
        let data = std::fs::read(&path).unwrap();
        if path.extension().is_none_or(|e| e != "test") {
            all.push(data);
            continue;
        }
        let text = String::from_utf8(data).unwrap();
        if target == "script" {
            // A script stops making sense at its first change: commands are changed alone.
            all.extend(text.split("\nclear\n").map(|part| part.as_bytes().to_vec()));
        } else {
            let queries = text.lines().filter_map(|line| {
                Some(line.strip_prefix("eval instant at ")?.split_once(' ')?.1.as_bytes().to_vec())
            });
            all.extend(queries);
        }
    }
    all
}

/// Where words begin and end.
fn edges(data: &[u8]) -> Vec<usize> {
    let kind = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | 128.. => 0,
        b' ' | b'\n' => 1,
        other => other,
    };
    let inner = (1..data.len()).filter(|i| kind(data[*i]) != kind(data[*i - 1]));
    std::iter::once(0).chain(inner).chain([data.len()]).collect()
}

/// A stretch of up to so many words, mostly whole ones.
fn stretch(rng: &mut StdRng, data: &[u8], words_max: usize) -> std::ops::Range<usize> {
    let edges = edges(data);
    let first = rng.random_range(0..edges.len());
    let last = (first + rng.random_range(0..=words_max)).min(edges.len() - 1);
    let (from, to) = (edges[first], edges[last]);
    if rng.random_ratio(1, 10) && from < to { from..rng.random_range(from..to) } else { from..to }
}

const WORDS: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "1e308",
    "1e-320",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551616",
    "NaN",
    "+Inf",
    "-Inf",
    "0.9999999",
    "1ms",
    "292y",
    "5m",
    "\"\"",
    "\u{fffd}",
    "é",
    "{{",
    "}}",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "[5m:1m]",
    "[1m]",
    "offset",
    "@",
    "@ end()",
    "smoothed",
    "anchored",
    "bool",
    "by ()",
    "without ()",
    "on ()",
    "group_left ()",
    "fill (1)",
    "and",
    "or",
    "unless",
    "rate(",
    "sum(",
    "*a",
    "&a ",
    "<<: *a",
    "|",
    "- ",
    ": ",
    "#",
    "\n",
    "\t",
    "stale",
    "_x3",
    "x1000000",
    "!!binary ",
    "~",
    "null",
    "\"",
    "'",
    "\\",
    "%%",
    "\0",
    "=~",
    "\".*\"",
    "\"(\"",
];

/// Some changes of an input, with stretches of its like.
fn changed(rng: &mut StdRng, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut data = inputs.choose(rng).expect("inputs").clone();
    for _ in 0..rng.random_range(1..6) {
        let words_max = *[1, 3, 10, 40].choose(rng).expect("a number");
        let place = stretch(rng, &data, words_max);
        let new: Vec<u8> = match rng.random_range(0..8) {
            0 => vec![],
            1 => WORDS.choose(rng).expect("words").as_bytes().to_vec(),
            2 => data[place.clone()].repeat(rng.random_range(2..5)),
            3 => vec![rng.random()],
            4 => data[stretch(rng, &data, words_max)].to_vec(),
            _ => {
                let other = inputs.choose(rng).expect("inputs");
                other[stretch(rng, other, words_max)].to_vec()
            }
        };
        data.splice(place, new);
    }
    data
}

/// `WATCHFIRE_FUZZ_TURNS=100000 WATCHFIRE_FUZZ_TARGET=evaluate WATCHFIRE_FUZZ_SEED=2` make
/// it a fuzzer that needs no tools.
#[test]
fn changed_inputs_are_no_findings() {
    let turns = number("WATCHFIRE_FUZZ_TURNS", 25);
    let seed = number("WATCHFIRE_FUZZ_SEED", 1);
    let only = std::env::var("WATCHFIRE_FUZZ_TARGET").ok();
    let asked = |name: &str| only.as_ref().is_none_or(|only| only == name);
    for (name, target) in targets::TARGETS.iter().filter(|(name, _)| asked(name)) {
        let inputs = known_inputs(name);
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..turns {
            let input = changed(&mut rng, &inputs);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&input))) {
                eprintln!("a finding of {name}: b\"{}\"", input.escape_ascii());
                resume_unwind(panic);
            }
        }
    }
}
