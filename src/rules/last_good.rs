//! The last good text of every rule file, kept over restarts: a file that is bad when the
//! process starts goes on as it ran before.
//!
//! One copy per file, `HASH.yml` with the file's name in its first line, written whole
//! beside its place and renamed into it. A copy that cannot be written or read costs a
//! warning and nothing else.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::config::{GroupSpec, LoadOptions, LoadedFile, load_source};
use super::group::key;
use crate::model::Labels;

/// The folder of copies.
#[derive(Clone, Debug)]
pub(super) struct LastGood {
    dir: PathBuf,
}

impl LastGood {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Keeps what is good in a load, and drops the copies of files that are gone. While
    /// the list of files itself is in doubt nothing is dropped.
    pub(super) fn keep(&self, loaded: &[LoadedFile], all_known: bool) {
        let good = loaded.iter().filter_map(|f| Some((f.file.as_str(), f.text.as_deref()?)));
        for (file, text) in good {
            if let Err(error) = self.write(file, text) {
                let dir = self.dir.display();
                tracing::warn!(%error, file, %dir, "cannot keep a copy of a rule file");
            }
        }
        if all_known && let Err(error) = self.drop_others(loaded) {
            tracing::warn!(%error, dir = %self.dir.display(), "cannot drop old copies of rule files");
        }
    }

    /// The groups that the files with errors had when they were good last.
    pub(super) fn groups(&self, loaded: &[LoadedFile], options: &LoadOptions) -> Vec<GroupSpec> {
        let mut seen = HashSet::new();
        let mut groups = Vec::new();
        for file in loaded.iter().filter(|f| !f.rejected.is_empty()) {
            let Some(text) = self.read(&file.file) else { continue };
            let copy = load_source(&file.file, &text, options);
            groups.extend(copy.groups.into_iter().filter(|g| seen.insert(key(&g.file, &g.name))));
        }
        groups
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.join(format!("{:016x}.yml", Labels::from_pairs([("file", file)]).hash64()))
    }

    /// What a copy begins with: two files may share a hash, and people look into folders.
    fn head(file: &str) -> String {
        format!("# The last good version of {file:?}\n")
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        if self.read(file).is_some_and(|kept| kept == text) {
            return Ok(());
        }
        fs::create_dir_all(&self.dir)?;
        let path = self.path(file);
        let draft = path.with_extension("tmp");
        let mut out = fs::File::create(&draft)?;
        out.write_all(Self::head(file).as_bytes())?;
        out.write_all(text.as_bytes())?;
        out.sync_data()?;
        fs::rename(draft, path)
    }

    fn read(&self, file: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(file)).ok()?;
        text.strip_prefix(&Self::head(file)).map(str::to_owned)
    }

    fn drop_others(&self, loaded: &[LoadedFile]) -> io::Result<()> {
        let wanted: HashSet<PathBuf> = loaded.iter().map(|f| self.path(&f.file)).collect();
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if is_copy(&path) && !wanted.contains(&path) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn is_copy(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yml" || e == "tmp")
}

#[cfg(test)]
mod tests {
    use super::super::config::load_file;
    use super::*;

    #[test]
    fn what_was_good_is_found_again_and_what_is_gone_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let kept = LastGood::new(dir.path().join("kept"));
        let options = LoadOptions::default();
        let path = |name: &str| dir.path().join(name);
        let load = |names: &[&str]| -> Vec<LoadedFile> {
            names.iter().map(|name| load_file(&path(name), &options)).collect()
        };
        let write = |name: &str, expr: &str| {
            let text =
                format!("groups: [{{name: {name}, rules: [{{record: r, expr: '{expr}'}}]}}]");
            fs::write(path(name), text).unwrap();
        };
        let found = |names: &[&str]| -> Vec<String> {
            let groups = kept.groups(&load(names), &options);
            groups.iter().map(|g| format!("{} {}", g.name, g.rules[0].expr.printed)).collect()
        };
        for expr in ["1", "2"] {
            write("a", expr);
            write("b", expr);
            kept.keep(&load(&["a", "b"]), true);
        }
        assert!(found(&["a", "b"]).is_empty(), "they are good");
        write("a", "(");
        write("b", ")");
        kept.keep(&load(&["a", "b"]), true);
        assert_eq!(found(&["a", "b"]), ["a 2", "b 2"]);
        kept.keep(&load(&["a"]), false);
        assert_eq!(found(&["b"]), ["b 2"]);
        kept.keep(&load(&["a"]), true);
        assert!(found(&["b"]).is_empty());
        assert_eq!(found(&["a"]), ["a 2"]);
        // A copy of something else, under the same hash.
        let path = kept.path(&path("a").display().to_string());
        fs::write(path, "# The last good version of \"c\"\ngroups: []").unwrap();
        assert!(found(&["a"]).is_empty());
    }
}
