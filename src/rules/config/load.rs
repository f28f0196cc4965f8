//! Files and streams to groups.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::kubernetes::{self, Kind};
use super::lint::duplicates_of;
use super::problem::{Problem, ProblemKind, Severity, render};
use super::validate::{Dialect, Reader};
use super::verdicts::Verdicts;
use super::{DuplicateRule, GroupSpec, LoadOptions, Position};
use crate::yaml;

/// Largest rule file that is read.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What one file holds. Whoever wants all or nothing must not use the groups when there
/// is an error among the problems.
#[derive(Clone, Debug)]
pub struct LoadedFile {
    pub file: String,
    /// The groups that can be used, with those of their rules that can be used.
    pub groups: Vec<GroupSpec>,
    pub problems: Vec<Problem>,
    /// What cannot be used. Of a group that is refused whole its rules are not listed.
    pub rejected: Vec<Rejected>,
    /// What was read from a file that is good whole.
    pub text: Option<Box<str>>,
}

/// A part of a file that cannot be used, and why.
#[derive(Clone, Debug)]
pub struct Rejected {
    pub scope: Scope,
    /// Its errors; at least one.
    pub problems: Vec<Problem>,
}

/// How much of what a file holds an error makes unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// It is not even known which files there are.
    Source,
    /// Any group of the file that is not among its groups: the file cannot be read, or a
    /// group has no name to know it by.
    File,
    /// As `File`, for one Kubernetes object (`NAMESPACE/NAME`) of the file.
    Object(String),
    /// `file` is that of [`GroupSpec::file`].
    Group { file: String, name: String },
    /// One rule of a group that can be used.
    Rule { file: String, group: String, rule: Box<RejectedRule> },
}

impl Scope {
    /// The rule, if it is one.
    pub(in crate::rules) fn rule(&self) -> Option<&RejectedRule> {
        match self {
            Self::Rule { rule, .. } => Some(rule),
            _ => None,
        }
    }
}

/// What is known of a rule that cannot be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RejectedRule {
    /// Its place among the rules of the group as written, from 0.
    pub index: usize,
    pub is_alert: bool,
    /// "" when the rule has none that can be read.
    pub name: String,
    /// As written.
    pub expr: String,
    pub labels: BTreeMap<String, String>,
    pub at: Position,
}

impl LoadedFile {
    /// A file nothing can be taken from.
    pub(in crate::rules) fn unusable(file: String, scope: Scope, problem: Problem) -> Self {
        let rejected = vec![Rejected { scope, problems: vec![problem.clone()] }];
        Self { file, groups: Vec::new(), problems: vec![problem], rejected, text: None }
    }

    /// True when the file may be used.
    pub fn is_valid(&self) -> bool {
        self.errors().next().is_none()
    }

    /// The problems for which the file is refused.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|p| p.severity == Severity::Error)
    }

    /// The number of rules.
    pub fn rule_count(&self) -> usize {
        self.groups.iter().map(|g| g.rules.len()).sum()
    }
}

/// What `check rules` says about one file.
#[derive(Clone, Debug)]
pub struct CheckReport {
    pub file: String,
    /// Number of rules; 0 when there are errors.
    pub rules: usize,
    pub errors: Vec<Problem>,
    /// Warnings and notes.
    pub remarks: Vec<Problem>,
    /// Found only in files without errors.
    pub duplicates: Vec<DuplicateRule>,
    /// What was read; see `leave`.
    read: Option<Arc<Vec<yaml::Document>>>,
}

impl CheckReport {
    /// The lines promtool prints under `FAILED:`.
    pub fn error_lines(&self) -> Vec<String> {
        render(&self.errors)
    }

    /// For a process that is about to end: what was read is not given back node by node, as
    /// it goes with the process at once.
    pub fn leave(self) {
        std::mem::forget(self.read);
    }
}

/// Reads and checks one file.
pub fn check_file(path: &Path, options: &LoadOptions) -> CheckReport {
    let file = path.display().to_string();
    match read_text(path) {
        Ok(source) => check_source(&file, &source, options),
        Err(message) => report(unreadable(file, message), Vec::new()),
    }
}

/// Checks text that comes from no file, such as standard input (`file` is then "").
pub fn check_source(file: &str, source: &str, options: &LoadOptions) -> CheckReport {
    let parsed = yaml::parse(source);
    let verdicts = Verdicts::new(parsed.as_deref().unwrap_or_default(), &options.parser);
    let mut reader = Reader::new(file, source, *options).checking(verdicts);
    read(&mut reader, &parsed);
    let (loaded, made) = reader.finish_check();
    CheckReport { read: parsed.ok().map(Arc::new), ..report(loaded, made) }
}

fn report(loaded: LoadedFile, made: Vec<DuplicateRule>) -> CheckReport {
    let valid = loaded.is_valid();
    let (rules, duplicates) = if valid { (made.len(), duplicates_of(made)) } else { (0, vec![]) };
    let (errors, remarks) =
        loaded.problems.into_iter().partition(|p| p.severity == Severity::Error);
    CheckReport { file: loaded.file, rules, errors, remarks, duplicates, read: None }
}

/// Reads one file. A file that cannot be read is a problem like any other.
pub fn load_file(path: &Path, options: &LoadOptions) -> LoadedFile {
    let file = path.display().to_string();
    match read_text(path) {
        Ok(source) => {
            let loaded = load_source(&file, &source, options);
            let text = loaded.is_valid().then(|| source.into_boxed_str());
            LoadedFile { text, ..loaded }
        }
        Err(message) => unreadable(file, message),
    }
}

/// Reads what was had from elsewhere under a name. What could not be had is a problem like
/// any other.
pub(in crate::rules) fn load_fetched(
    file: &str,
    source: &Result<std::sync::Arc<str>, String>,
    options: &LoadOptions,
) -> LoadedFile {
    match source {
        Ok(source) => {
            let loaded = load_source(file, source, options);
            let text = loaded.is_valid().then(|| (**source).into());
            LoadedFile { text, ..loaded }
        }
        Err(why) => unreadable(file.to_owned(), why.clone()),
    }
}

fn unreadable(file: String, message: String) -> LoadedFile {
    let problem = Problem {
        file: file.clone(),
        severity: Severity::Error,
        kind: ProblemKind::Syntax,
        position: None,
        message,
    };
    LoadedFile::unusable(file, Scope::File, problem)
}

/// The text of a file; an error says why it cannot be had.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|e| format!("cannot read the file: {e}"))?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("the file has {size} bytes; at most {FILE_BYTES_MAX} are read"));
    }
    let bytes = std::fs::read(path).map_err(|e| format!("cannot read the file: {e}"))?;
    String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n');
        format!("yaml: line {}: invalid UTF-8: the file must be UTF-8 text", line.count() + 1)
    })
}

/// Reads a rule file or a stream of Kubernetes objects.
///
/// Of a stream of plain rule files only the first document counts, as in Prometheus, and a
/// warning says so. As soon as one document is a Kubernetes object, every document counts:
/// `PrometheusRule` objects, lists of them, and plain rule files; other kinds are skipped
/// with a note. Objects may share group names; from the second on such a group's `file` is
/// `FILE#NAMESPACE/NAME`, so that every group has an identity of its own.
pub fn load_source(file: &str, source: &str, options: &LoadOptions) -> LoadedFile {
    load_documents(file, source, &yaml::parse(source), options)
}

/// Reads what `source` has been parsed to.
pub(super) fn load_documents(
    file: &str,
    source: &str,
    parsed: &Result<Vec<yaml::Document>, yaml::SyntaxError>,
    options: &LoadOptions,
) -> LoadedFile {
    let mut reader = Reader::new(file, source, *options);
    read(&mut reader, parsed);
    reader.finish()
}

fn read(reader: &mut Reader<'_>, parsed: &Result<Vec<yaml::Document>, yaml::SyntaxError>) {
    match parsed {
        Ok(documents) => read_documents(reader, documents),
        Err(e) => {
            let mark = reader.mark();
            reader.problem(Severity::Error, ProblemKind::Syntax, Some(e.at), e.to_string());
            reader.reject_since(mark, &Dialect::Prometheus, Scope::File);
        }
    }
}

fn read_documents(reader: &mut Reader<'_>, documents: &[yaml::Document]) {
    let kinds: Vec<Option<Kind>> =
        documents.iter().map(|d| d.root.as_deref().and_then(kubernetes::kind)).collect();
    if kinds.iter().all(Option::is_none) {
        read_plain_stream(reader, documents);
        return;
    }
    let mut found = false;
    for (document, kind) in documents.iter().zip(kinds) {
        let Some(root) = &document.root else { continue };
        match kind {
            Some(kind) => found |= kubernetes::read(reader, root, &kind),
            None if root.is_null() => {}
            None => {
                found = true;
                reader.read_groups(root, Dialect::Prometheus);
            }
        }
    }
    if !found {
        let message = "no rule file and no PrometheusRule object among its documents".to_owned();
        let at = Position { line: 1, column: 1 };
        let mark = reader.mark();
        reader.problem(Severity::Error, ProblemKind::Rule, Some(at), message);
        reader.reject_since(mark, &Dialect::Prometheus, Scope::File);
    }
}

fn read_plain_stream(reader: &mut Reader<'_>, documents: &[yaml::Document]) {
    if let Some(root) = documents.first().and_then(|d| d.root.as_ref()) {
        reader.read_groups(root, Dialect::Prometheus);
    }
    let ignored = documents.iter().skip(1).filter_map(|d| d.root.as_ref());
    for root in ignored.filter(|root| !root.is_null()) {
        let message = format!(
            "{}: only the first YAML document of a rule file is used; this one is ignored, \
             rules and all",
            root.at
        );
        reader.problem(Severity::Warning, ProblemKind::Rule, Some(root.at), message);
    }
}
