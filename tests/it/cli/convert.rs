//! `watchfire rules convert`: real rule files to every target and back, and how it exits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use watchfire::parser::ParserOptions;
use watchfire::rules::config::{GroupSpec, LoadOptions, check_source, load_source};
use watchfire::rules::convert::{ConvertError, Converted, Loss, Options, Target, convert};

use super::fmt::corpus;
use super::outcome;
use crate::remote_read::start_victoria_metrics;
use crate::support::{available, http_get};

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

/// Every file of the corpus that can be converted, by its number.
fn corpus_for(to: Target) -> Vec<(usize, String, Converted)> {
    let options = Options { name: "corpus".to_owned(), ..Options::default() };
    let files = corpus().into_iter().enumerate();
    let converted = files.filter_map(|(i, (name, text))| {
        let converted = convert(&name, &text, to, &options).ok()?;
        Some((i, text, converted))
    });
    converted.collect()
}

/// The text without these keys of groups and rules.
fn without_keys(text: &str, keys: &[&str]) -> String {
    let mut out = String::new();
    let mut inside = None;
    for line in text.lines() {
        let depth = line.len() - line.trim_start_matches([' ', '-']).len();
        if inside.is_some_and(|key| depth > key || line.trim().is_empty()) {
            continue;
        }
        let is_key = keys.iter().any(|key| line[depth..].starts_with(&format!("{key}:")));
        inside = is_key.then_some(depth);
        if !is_key {
            out += line;
            out.push('\n');
        } else if line.trim_start().starts_with("- ") {
            panic!("the first key of a mapping is left out: {line}");
        }
    }
    out
}

/// Debian's vmalert (1.79) is older than some keys; it takes all the others, and refuses
/// what was said to be refused.
#[test]
fn vmalert_takes_the_corpus() {
    const NEWER: &[&str] = &[
        "keep_firing_for",
        "eval_offset",
        "eval_delay",
        "eval_alignment",
        "headers",
        "notifier_headers",
        "update_entries_limit",
        "debug",
    ];
    if !available("vmalert") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let dry_run = |pattern: &Path| {
        let mut command = Command::new("vmalert");
        command.arg("-dryRun").arg(format!("-rule={}", pattern.display()));
        let output = command.output().expect("vmalert starts");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let mut taken = 0;
    for (i, _, converted) in corpus_for(Target::Vmalert) {
        let text = without_keys(&converted.text, NEWER);
        if !converted.warnings.iter().any(|warning| warning.loss == Loss::Names) {
            taken += 1;
            fs::write(dir.path().join(format!("{i}.yml")), text).expect("a file");
            continue;
        }
        let odd = dir.path().join("names.txt");
        fs::write(&odd, text).expect("a file");
        let (is_taken, log) = dry_run(&odd);
        assert!(!is_taken && log.contains("unexpected token"), "{}: {log}", converted.text);
    }
    if taken > 0 {
        assert!(taken > 190, "{taken}");
        let (is_taken, log) = dry_run(&dir.path().join("*.yml"));
        assert!(is_taken, "{log}");
    }
}

/// What promtool makes of each file of a folder.
fn promtool(dir: &Path) -> BTreeMap<String, String> {
    let mut files: Vec<_> =
        fs::read_dir(dir).expect("a folder").map(|e| e.unwrap().path()).collect();
    files.sort();
    // Verdicts go to either stream, so both are one.
    let script = "exec promtool check rules --lint=none \"$@\" 2>&1";
    let output = Command::new("sh").args(["-c", script, "sh"]).args(files).output();
    let text = output.expect("promtool starts").stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut found = BTreeMap::new();
    for part in text.split("Checking ").skip(1) {
        let (file, verdict) = part.split_once('\n').expect("a verdict");
        let name = Path::new(file).file_name().expect("a name").to_string_lossy().into_owned();
        found.insert(name, verdict.trim().to_owned());
    }
    found
}

/// A file that the real promtool takes, it takes as well when it has been converted; and
/// objects and other dialects become what it takes.
#[test]
fn promtool_takes_the_corpus() {
    if !available("promtool") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (before, after) = (dir.path().join("before"), dir.path().join("after"));
    for dir in [&before, &after] {
        fs::create_dir(dir).expect("a folder");
    }
    for (i, text, converted) in corpus_for(Target::Prometheus) {
        fs::write(before.join(format!("{i}.yml")), text).expect("a file");
        fs::write(after.join(format!("{i}.yml")), converted.text).expect("a file");
    }
    let (before, after) = (promtool(&before), promtool(&after));
    let taken = |verdicts: &BTreeMap<String, String>| -> BTreeSet<String> {
        let taken = verdicts.iter().filter(|(_, verdict)| verdict.starts_with("SUCCESS"));
        taken.map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(before.len(), after.len());
    let lost: Vec<_> = taken(&before).difference(&taken(&after)).cloned().collect();
    assert!(lost.is_empty(), "{lost:?}");
    // What Debian's promtool (2.42) does not know of Prometheus 3.
    const NEWER: &[&str] = &[
        "field labels not found in type rulefmt.RuleGroup",
        "field query_offset not found in type rulefmt.RuleGroup",
        "invalid annotation name: {{ $value }}",
        "parse error: unexpected string",
    ];
    for (name, verdict) in &after {
        let is_newer = NEWER.iter().any(|reason| verdict.contains(reason));
        assert!(verdict.starts_with("SUCCESS") || is_newer, "{name}: {verdict}");
    }
    assert!(after.is_empty() || taken(&after).len() > 190, "{}", taken(&after).len());
}

/// What a real VictoriaMetrics (1.79) refuses is said to be lost.
#[test]
fn functions_that_victoria_metrics_lacks_are_named() {
    // Later versions have them.
    const NEWER: &[&str] = &["day_of_year", "mad_over_time"];
    // It has them, of its own histograms and of its own grid.
    const OTHER: &[&str] =
        &["end", "histogram_avg", "histogram_stddev", "histogram_stdvar", "start", "step"];
    let dir = tempfile::tempdir().expect("a folder");
    let Some((_server, base)) = start_victoria_metrics(dir.path()) else { return };
    let options = Options { parser: ParserOptions::all(), ..Options::default() };
    let page = include_str!("../../../docs/functions.md");
    let (mut refused, mut named) = (BTreeSet::new(), BTreeSet::new());
    for part in page.split("\n### ").skip(1) {
        let name = part.lines().next().unwrap_or_default();
        let example = part.split("```promql\n").nth(1).and_then(|rest| rest.lines().next());
        let example = example.unwrap_or_else(|| panic!("{name} has no example"));
        let query: String = url::form_urlencoded::byte_serialize(example.as_bytes()).collect();
        let answer = http_get(&format!("{base}/api/v1/query?query={query}")).expect("an answer");
        if answer.0 != 200 {
            refused.insert(name.to_owned());
        }
        let rule =
            format!("groups:\n- name: g\n  rules:\n  - record: r\n    expr: |\n      {example}\n");
        let converted = convert("f", &rule, Target::Vmalert, &options);
        let converted = converted.unwrap_or_else(|e| panic!("{name}: {e}"));
        let functions = converted.warnings.into_iter().filter(|w| w.loss == Loss::Function);
        named.extend(functions.filter_map(|warning| warning.key));
    }
    let expected: BTreeSet<String> =
        named.iter().cloned().chain(NEWER.iter().map(|n| (*n).to_owned())).collect();
    let seen: BTreeSet<String> =
        refused.iter().cloned().chain(OTHER.iter().map(|n| (*n).to_owned())).collect();
    assert_eq!(expected, seen);
}
