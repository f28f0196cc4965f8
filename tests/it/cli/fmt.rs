//! `watchfire rules fmt`: over real rule files nothing is lost, and nothing is written that
//! should not be.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;
use watchfire::parser::ParserOptions;
use watchfire::rules::config::{LoadOptions, load_source};
use watchfire::rules::fmt::format;

use super::{outcome, watchfire};
use crate::support::shared;

/// The rule files of the corpus.
pub(super) fn corpus() -> Vec<(String, String)> {
    let Some(dir) = shared("corpus/rules") else { return Vec::new() };
    let mut folders = vec![dir];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "yml" || e == "yaml") {
                let text = fs::read_to_string(&path).expect("a text");
                files.push((path.display().to_string(), text));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn the_corpus_keeps_its_meaning_and_is_formatted_once() {
    let parser = ParserOptions::default();
    let options = LoadOptions { dialects: true, ignore_unknown_fields: true, ..Default::default() };
    let (mut formatted, mut changed) = (0, 0);
    let files = corpus();
    for (name, text) in &files {
        let before = load_source(name, text, &options);
        let new = match format(name, text, &parser) {
            Ok(new) => new,
            Err(error) => {
                assert!(!before.is_valid(), "{name}: {error}");
                continue;
            }
        };
        formatted += 1;
        changed += usize::from(new != *text);
        let after = load_source(name, &new, &options);
        assert!(before.is_valid() && before.groups == after.groups, "{name}");
        let comments = |text: &str| text.lines().filter(|l| l.trim().starts_with('#')).count();
        assert_eq!(comments(text), comments(&new), "{name}: comments");
        let again = format(name, &new, &parser);
        assert_eq!(again.as_deref(), Ok(&*new), "{name}: formatted once more");
    }
    assert!(files.is_empty() || formatted > 190 && changed > 100, "{formatted}, {changed}");
}

/// Rule files from a string of choices; when it ends, each choice is the first.
struct Made<'a> {
    choices: std::slice::Iter<'a, u8>,
    comments: usize,
}

impl Made<'_> {
    fn choose(&mut self, of: u8) -> u8 {
        self.choices.next().map_or(0, |choice| choice % of)
    }

    fn comment(&mut self) -> String {
        self.comments += 1;
        format!("# c{} # it's \"x", self.comments)
    }

    /// What stands between two tokens of an expression.
    fn gap(&mut self) -> String {
        match self.choose(8) {
            0..4 => " ".to_owned(),
            4 => "\n".to_owned(),
            5 => format!(" {}\n", self.comment()),
            6 => format!("\n  {}\n", self.comment()),
            _ => format!("  {}\n\n {}\n", self.comment(), self.comment()),
        }
    }

    fn tokens(&mut self, deep: usize, out: &mut Vec<&'static str>) {
        match if deep == 0 { self.choose(3) } else { self.choose(9) } {
            0 => out.push("up"),
            1 => out.extend(["m", "{", "b", "=", "'x # no'", ",", "a", "=~", "\"(y|#)\"", "}"]),
            2 => out.extend(["a_rather_long_name_of_a_series:rate5m", "{", "}", "offset", "5m"]),
            3 => {
                out.extend(["sum", "by", "(", "a", ",", "b", ")", "("]);
                self.tokens(deep - 1, out);
                out.push(")");
            }
            4 => {
                out.extend(["topk", "(", "3", ","]);
                self.tokens(deep - 1, out);
                out.extend([")", "without", "(", "a", ")"]);
            }
            5 => {
                out.extend(["max_over_time", "(", "("]);
                self.tokens(deep - 1, out);
                out.extend([")", "[5m:1m]", ")"]);
            }
            6 => {
                out.extend(["-", "("]);
                self.tokens(deep - 1, out);
                out.push(")");
            }
            7 => {
                out.extend(["label_replace", "("]);
                self.tokens(deep - 1, out);
                out.extend([",", "'a'", ",", "\"# $1\"", ",", "'b'", ",", "''", ")"]);
            }
            _ => {
                self.tokens(deep - 1, out);
                let operators: [&[&str]; 4] =
                    [&["+"], &["*", "on", "(", "a", ")", "group_left", "(", ")"], &["and"], &[">"]];
                out.extend(operators[usize::from(self.choose(4))]);
                self.tokens(deep - 1, out);
            }
        }
    }

    fn expression(&mut self) -> String {
        let mut tokens = Vec::new();
        self.tokens(3, &mut tokens);
        let mut out = String::from("(");
        for token in tokens {
            out += &self.gap();
            out += token;
        }
        out + &self.gap() + ")"
    }

    fn rule(&mut self) -> String {
        let expr = self.expression();
        let indented = |by: &str| expr.replace('\n', &format!("\n{by}"));
        let above = match self.choose(3) {
            0 => String::new(),
            _ => format!("    {}\n", self.comment()),
        };
        let quoted = expr.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let rule = match self.choose(3) {
            0 => format!("    - expr: |\n        {}\n      record: r\n", indented("        ")),
            1 => format!("    - {{expr: \"{quoted}\", record: r, labels: {{a: b, c: '#'}}}}\n"),
            _ => {
                let (first, second) = (self.comment(), self.comment());
                format!(
                    "    - labels: {{a: b, {first}\n          {second}\n        c: \"\",}}\n      \
                     expr: \"{quoted}\"\n      record: r\n"
                )
            }
        };
        above + &rule
    }

    fn file(&mut self) -> String {
        let rules: String = (0..=self.choose(3)).map(|_| self.rule()).collect();
        format!("groups:\n  - rules:\n{rules}    name: g\n")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn made_files_keep_their_meaning_and_comments(choices in vec(any::<u8>(), 0..250)) {
        let parser = ParserOptions::default();
        let mut made = Made { choices: choices.iter(), comments: 0 };
        let text = made.file();
        let before = load_source("f", &text, &LoadOptions::default());
        prop_assert!(before.is_valid(), "{:?}\n{}", before.errors().next(), text);
        let new = match format("f", &text, &parser) {
            Ok(new) => new,
            Err(error) => return Err(TestCaseError::fail(format!("{error}\n{text}"))),
        };
        let after = load_source("f", &new, &LoadOptions::default());
        prop_assert!(before.groups == after.groups, "{}\n{}", text, new);
        for i in 1..=made.comments {
            let comment = format!("# c{i} # it's \"x");
            let count = new.lines().filter(|line| line.ends_with(&comment)).count();
            prop_assert_eq!(count, 1, "{}\n{}\n{}", comment, text, new);
        }
        prop_assert!(!new.contains("- {") && !new.contains("labels: {"), "{}", new);
        let again = format("f", &new, &parser);
        prop_assert_eq!(again.as_deref(), Ok(&*new), "{}", text);
    }
}

/// A tab in a comment is enough for the parser of all of YAML to be used.
#[test]
fn the_corpus_is_read_the_same_with_and_without_the_quick_reader() {
    let options = LoadOptions::default();
    for (name, text) in corpus() {
        let newline = if text.ends_with('\n') { "" } else { "\n" };
        let quick = load_source(&name, &text, &options);
        let whole = load_source(&name, &format!("{text}{newline}# \t\n"), &options);
        let shown = |loaded: &watchfire::rules::config::LoadedFile| {
            format!("{:#?}{:#?}", loaded.groups, loaded.problems)
        };
        assert!(shown(&quick) == shown(&whole), "{name}");
    }
}

const UNTIDY: &str =
    "groups:\n- name: g\n  rules:\n  - expr: up==0\n    alert: A\n    # why\n    for: 5m\n";
const TIDY: &str =
    "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up == 0\n    # why\n    for: 5m\n";
const BROKEN: &str = "groups:\n- name: {{ .Values.x }}-rules\n";

#[test]
fn exit_codes_say_what_is_unformatted_or_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in [("untidy.yml", UNTIDY), ("tidy.yml", TIDY), ("broken.yml", BROKEN)] {
        fs::write(dir.path().join(name), text).expect("a file");
    }
    let check = |args: &[&str], code: i32, parts: &[&str]| {
        let (got, text) = outcome(&[&["rules", "fmt"], args].concat(), dir.path());
        assert_eq!(got, Some(code), "{args:?}: {text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{args:?}: {text}");
    };
    check(&["untidy.yml"], 0, &[TIDY.trim_end()]);
    check(&["--check", "tidy.yml"], 0, &[""]);
    let count = "1 of 2 files not formatted; `watchfire rules fmt --write` formats them";
    check(&["--check", "tidy.yml", "untidy.yml"], 3, &["untidy.yml", count]);
    check(
        &["--diff", "untidy.yml"],
        3,
        &["-  - expr: up==0\n", "+  - alert: A\n", "@@ -1,7 +1,7 @@"],
    );
    check(&["--check", "."], 1, &["broken.yml: yaml: ", "untidy.yml"]);
    check(&["nowhere.yml"], 1, &["nowhere.yml: "]);
    check(&["--check", "--write", "tidy.yml"], 2, &["cannot be used with"]);
    let output = watchfire(&["rules", "fmt", "-"], dir.path(), Some(UNTIDY.as_bytes()));
    assert_eq!(String::from_utf8_lossy(&output.stdout), TIDY);
    check(&["--write", "-"], 1, &["standard input"]);
}

#[test]
fn files_are_written_whole_and_stay_what_they_were() {
    let dir = tempfile::tempdir().expect("a folder");
    let (file, link) = (dir.path().join("real.yml"), dir.path().join("link.yml"));
    fs::write(&file, UNTIDY).expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("permissions");
    symlink(&file, &link).expect("a link");
    fs::write(dir.path().join("broken.yml"), BROKEN).expect("a file");
    let (code, text) = outcome(&["rules", "fmt", "-w", "link.yml", "broken.yml"], dir.path());
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(fs::read_to_string(&file).expect("a file"), TIDY);
    assert!(link.is_symlink());
    let mode = fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(fs::read_to_string(dir.path().join("broken.yml")).expect("a file"), BROKEN);
    let left = fs::read_dir(dir.path()).expect("a folder").count();
    assert_eq!(left, 3, "nothing else is left behind");
}
