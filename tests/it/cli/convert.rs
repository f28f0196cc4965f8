//! `watchfire rules convert`: real rule files to every target and back, and how it exits.

use std::fs;

use watchfire::parser::ParserOptions;
use watchfire::rules::config::{GroupSpec, LoadOptions, check_source, load_source};
use watchfire::rules::convert::{ConvertError, Options, Target, convert};

use super::fmt::corpus;
use super::outcome;

fn groups(text: &str) -> Vec<GroupSpec> {
    let mut groups = load_source("", text, &LoadOptions::default()).groups;
    groups.iter_mut().for_each(|group| group.file.clear());
    groups
}

#[test]
fn the_corpus_goes_to_every_target_and_back() {
    let options = Options {
        parser: ParserOptions::default(),
        name: "corpus".to_owned(),
        ..Options::default()
    };
    let mut converted = 0;
    // Every file as an object, and in turn as one of the others: reading takes its time.
    let others = [Target::Prometheus, Target::Thanos, Target::Vmalert, Target::Mimir];
    for (i, (name, text)) in corpus().into_iter().enumerate() {
        if !check_source(&name, &text, &LoadOptions::default()).errors.is_empty() {
            continue;
        }
        for to in [Target::PrometheusRule, others[i % others.len()]] {
            let there = match convert(&name, &text, to, &options) {
                Ok(there) => there.text,
                Err(ConvertError::Empty | ConvertError::SameGroup(..)) => continue,
                Err(error) => panic!("{name} to {to:?}: {error}"),
            };
            converted += 1;
            // These keys and fields promtool does not know.
            if matches!(to, Target::Vmalert | Target::Mimir) {
                continue;
            }
            let report = check_source(&name, &there, &LoadOptions::default());
            assert!(report.errors.is_empty(), "{name} to {to:?}: {:?}", report.errors);
            let back = convert(&name, &there, Target::Prometheus, &options).unwrap();
            assert!(groups(&back.text) == groups(&text), "{name} to {to:?} and back");
        }
    }
    assert!(converted == 0 || converted > 350, "{converted}");
}

#[test]
fn losses_are_said_and_strict_writes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = [
        (
            "vm.yml",
            "groups:\n- name: g\n  eval_offset: 10s\n  rules:\n  - record: r\n    expr: x\n",
        ),
        ("plain.yml", "groups:\n- name: p\n  rules:\n  - record: r\n    expr: x\n"),
    ];
    for (name, text) in files {
        fs::write(dir.path().join(name), text).expect("a file");
    }
    let check = |args: &[&str], code: i32, parts: &[&str]| {
        let (got, text) = outcome(&[&["rules", "convert"], args].concat(), dir.path());
        assert_eq!(got, Some(code), "{args:?}: {text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{args:?}: {text}");
        text
    };
    let lost = "vm.yml:3:3: eval-offset: group \"g\": eval_offset: ";
    check(&["--to", "thanos", "vm.yml"], 0, &[lost, "groups:\n- name: g\n  rules:\n"]);
    let strict = check(&["--to", "thanos", "--strict", "vm.yml"], 3, &[lost, "nothing is written"]);
    assert!(!strict.contains("groups:"), "{strict}");
    check(&["--to", "vmalert", "--strict", "vm.yml"], 0, &["eval_offset: 10s"]);
    check(&["--to", "mimir", "plain.yml"], 0, &["namespace: plain\ngroups:\n"]);
    let object = ["--to", "prometheusrule", "--name", "n", "--namespace", "s", "--label", "a=b"];
    let stream = check(
        &[&object[..], &["plain.yml", "vm.yml"]].concat(),
        0,
        &["  name: n\n  namespace: s\n  labels:\n    a: b\nspec:\n  groups:\n", "---\napiVersion"],
    );
    assert_eq!(stream.matches("kind: PrometheusRule").count(), 2);
    check(&["--to", "thanos", "plain.yml", "vm.yml"], 1, &["--output-dir"]);
    check(&["--to", "thanos", "--output-dir", "out", "plain.yml", "vm.yml"], 0, &[lost]);
    assert!(dir.path().join("out/plain.yml").exists() && dir.path().join("out/vm.yml").exists());
    check(&["--to", "thanos", "--output-dir", ".", "plain.yml"], 1, &["the file that is read"]);
    check(&["--to", "thanos", "nowhere.yml"], 1, &["nowhere.yml: "]);
}
