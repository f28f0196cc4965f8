//! `watchfire rules fmt`: rule files in the standard layout.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::files;
use crate::cli::{FeatureFlags, fail, say};
use crate::rules::config::read_text;
use crate::rules::fmt::format;

#[derive(Debug, Args)]
pub(crate) struct FmtArgs {
    /// Files, folders (*.yml, *.yaml, *.rules), patterns; `-` or nothing is standard input.
    paths: Vec<PathBuf>,
    /// List the files that are not formatted, and write nothing.
    #[arg(long, conflicts_with_all = ["diff", "write"])]
    check: bool,
    /// Show what formatting would change, and write nothing.
    #[arg(long, conflicts_with = "write")]
    diff: bool,
    /// Write files in place, each whole or not at all, and list those that changed.
    #[arg(short, long)]
    write: bool,
}

/// Exit code when files are not formatted.
const UNFORMATTED: u8 = 3;

/// Runs `watchfire rules fmt`.
pub(crate) fn run(args: &FmtArgs, features: &FeatureFlags) -> ExitCode {
    let named = match files::named(&args.paths) {
        Ok(named) => named,
        Err(error) => return fail(&error),
    };
    if args.write && named.stdin {
        return fail(&"standard input cannot be written to; name files, or leave --write out");
    }
    let (mut failed, mut changed, mut all) = (false, 0, 0);
    let stdin = named.stdin.then(|| ("standard input".to_owned(), None));
    let files = named.files.iter().map(|file| (file.display().to_string(), Some(file)));
    for (name, file) in stdin.into_iter().chain(files) {
        all += 1;
        let read = match file {
            Some(file) => read_text(file),
            None => crate::cli::check::stdin_text(),
        };
        let outcome = read.map_err(|e| format!("{name}: {e}")).and_then(|old| {
            let named = if file.is_some() { name.as_str() } else { "" };
            let new = format(named, &old, &features.parser()).map_err(|e| e.to_string());
            let new = new.map_err(|e| match e.contains(&name) {
                true => e,
                false => format!("{name}: {e}"),
            })?;
            changed += usize::from(old != new);
            show(args, &name, file, (&old, &new))
        });
        if let Err(error) = outcome {
            failed = true;
            eprintln!("{error}");
        }
    }
    if args.check && changed > 0 {
        eprintln!(
            "{changed} of {all} files not formatted; `watchfire rules fmt --write` formats them"
        );
    }
    match (failed, changed > 0 && (args.check || args.diff)) {
        (true, _) => ExitCode::from(1),
        (false, true) => ExitCode::from(UNFORMATTED),
        (false, false) => ExitCode::SUCCESS,
    }
}

fn show(
    args: &FmtArgs,
    name: &str,
    file: Option<&PathBuf>,
    (old, new): (&str, &str),
) -> Result<(), String> {
    if args.check || args.diff || args.write {
        if old == new {
            return Ok(());
        }
        if args.diff {
            print(&difference(name, old, new));
            return Ok(());
        }
        if let (true, Some(file)) = (args.write, file) {
            replace(file, new).map_err(|e| format!("{name}: {e}"))?;
        }
        say(&name);
    } else {
        print(new);
    }
    Ok(())
}

/// As `say` without a line break of its own.
pub(super) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Puts a text in the place of a file, at once, with the file's permissions. A link goes on
/// being one.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let file = file.canonicalize()?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let new = file.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let written = (|| {
        let mut out = std::fs::OpenOptions::new().write(true).create_new(true).open(&new)?;
        out.write_all(text.as_bytes())?;
        out.set_permissions(std::fs::metadata(&file)?.permissions())?;
        out.sync_all()?;
        std::fs::rename(&new, &file)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}

/// Lines shown around a change.
const CONTEXT: usize = 3;

/// How far the next line that both have is looked for.
const REACH: usize = 2_000;

/// What differs, in unified form.
fn difference(name: &str, old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut out = format!("--- {name}\n+++ {name} (formatted)\n");
    let changes = changes(&old, &new);
    let mut rest = changes.as_slice();
    while !rest.is_empty() {
        let near = |pair: &[Change]| pair[1].old.start - pair[0].old.end <= 2 * CONTEXT;
        let len = 1 + rest.windows(2).take_while(|pair| near(pair)).count();
        let (hunk, others) = rest.split_at(len);
        rest = others;
        let (first, last) = (&hunk[0], &hunk[len - 1]);
        let before = first.old.start.min(CONTEXT);
        let after = (old.len() - last.old.end).min(CONTEXT);
        let span = |start: usize, end: usize| (start - before, end - start + before + after);
        let (old_at, old_len) = span(first.old.start, last.old.end);
        let (new_at, new_len) = span(first.new.start, last.new.end);
        out += &format!("@@ -{},{old_len} +{},{new_len} @@\n", old_at + 1, new_at + 1);
        let mut next = old_at;
        let same = |out: &mut String, range: std::ops::Range<usize>| {
            old[range].iter().for_each(|line| *out += &format!(" {line}\n"));
        };
        for change in hunk {
            same(&mut out, next..change.old.start);
            old[change.old.clone()].iter().for_each(|line| out += &format!("-{line}\n"));
            new[change.new.clone()].iter().for_each(|line| out += &format!("+{line}\n"));
            next = change.old.end;
        }
        same(&mut out, next..next + after);
    }
    out
}

/// Lines that became others.
struct Change {
    old: std::ops::Range<usize>,
    new: std::ops::Range<usize>,
}

/// After each difference it goes on at the nearest line that both have.
fn changes(old: &[&str], new: &[&str]) -> Vec<Change> {
    let (mut i, mut j) = (0, 0);
    let mut found = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        let meet = |distance: usize| {
            (0..=distance).rev().map(move |x| (i + x, j + distance - x)).find(|(x, y)| {
                *x < old.len() && *y < new.len() && old[*x] == new[*y] && !old[*x].trim().is_empty()
            })
        };
        let (x, y) = (1..REACH).find_map(meet).unwrap_or((old.len(), new.len()));
        found.push(Change { old: i..x, new: j..y });
        (i, j) = (x, y);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_read_as_those_of_diff() {
        let old: String = (1..=20).map(|i| format!("{i}\n")).collect();
        let new = old.replace("2\n3\n", "3\n2\n").replace("18\n", "").replace("20\n", "20\nx\n");
        assert_eq!(
            difference("f", &old, &new),
            "--- f\n+++ f (formatted)\n@@ -1,6 +1,6 @@\n 1\n-2\n 3\n+2\n 4\n 5\n 6\n@@ -15,6 +15,6 @@\n 15\n 16\n 17\n-18\n 19\n 20\n+x\n"
        );
    }
}
