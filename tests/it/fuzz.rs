//! The fuzz targets run over the inputs that are kept: seeds, and every input that ever
//! was a finding. What fuzzes for hours is `tests/fuzz.sh`.

use std::path::{Path, PathBuf};

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
