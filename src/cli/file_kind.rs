//! Which file of the Prometheus world a file is: people hand the one kind to the command for
//! another, and are told which command is for it.

use std::io::Read;
use std::path::Path;

/// Of a larger file only the beginning is looked at.
const BYTES_MAX: u64 = 4 << 20;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Rules,
    Tests,
    Config,
}

impl FileKind {
    /// By the keys that only one kind has, at the beginning of a line.
    fn of(text: &str) -> Option<Self> {
        text.lines().find_map(|line| match line.split_once(':')?.0.trim_end() {
            "groups" => Some(Self::Rules),
            "tests" => Some(Self::Tests),
            "global"
            | "scrape_configs"
            | "scrape_config_files"
            | "alerting"
            | "remote_write"
            | "remote_read" => Some(Self::Config),
            _ => None,
        })
    }
}

/// A line of help for a file that was refused as one of a kind and is of another.
fn help(file: &Path, wanted: FileKind) -> Option<String> {
    let mut text = Vec::new();
    std::fs::File::open(file).ok()?.take(BYTES_MAX).read_to_end(&mut text).ok()?;
    let kind = FileKind::of(&String::from_utf8_lossy(&text)).filter(|kind| *kind != wanted)?;
    let name = file.display();
    let base = file.file_name().map_or_else(|| name.to_string(), |f| f.to_string_lossy().into());
    let is = match kind {
        FileKind::Rules => format!("a rule file, which `watchfire check rules {name}` checks"),
        FileKind::Tests => {
            format!("a file of unit tests, which `watchfire test rules {name}` runs")
        }
        FileKind::Config => {
            format!("a Prometheus configuration, which `watchfire check config {name}` checks")
        }
    };
    let how = match (kind, wanted) {
        (FileKind::Rules, FileKind::Tests) => format!(
            "; a test file names it under `rule_files: [{base}]` and has its cases under `tests:`"
        ),
        (FileKind::Rules, FileKind::Config) => {
            format!("; a configuration names it under `rule_files: [{base}]`")
        }
        (FileKind::Config, FileKind::Rules) => ", with the rule files it names".to_owned(),
        _ => String::new(),
    };
    Some(format!("help: {name} is {is}{how}"))
}

/// An error about a file, with that line behind it, if there is one.
pub(crate) fn helped(error: String, file: &Path, wanted: FileKind) -> String {
    match help(file, wanted) {
        Some(help) => format!("{error}\n{help}"),
        None => error,
    }
}

/// Says that line, if there is one.
pub(crate) fn show_help(file: &Path, wanted: FileKind) {
    if let Some(help) = help(file, wanted) {
        eprintln!("{help}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_keys() {
        let check = |text: &str, expected: Option<FileKind>| {
            assert_eq!(FileKind::of(text), expected, "{text}");
        };
        check("# rules\n---\ngroups:\n- name: g\n", Some(FileKind::Rules));
        check("rule_files: [tests]\nevaluation_interval: 1m\ntests :\n", Some(FileKind::Tests));
        check("global:\n  scrape_interval: 1m\nrule_files: []\n", Some(FileKind::Config));
        check("rule_files: []\n", None);
        check("  groups:\n- tests:\n", None);
        check("", None);
    }
}
