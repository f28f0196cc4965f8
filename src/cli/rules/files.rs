//! Which rule files a person names: files, folders, patterns, standard input.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What the files of rules in a folder end in.
const EXTENSIONS: [&str; 3] = ["yml", "yaml", "rules"];

/// Files by name, each once, and whether standard input is one of them.
#[derive(Debug, Default)]
pub(in crate::cli) struct Named {
    pub files: BTreeSet<PathBuf>,
    pub stdin: bool,
}

/// The files that paths stand for. Nothing, or `-`, is standard input; a folder stands for
/// the rule files below it, and a pattern, where no file is called so, for what matches it.
pub(in crate::cli) fn named(paths: &[PathBuf]) -> Result<Named, String> {
    let mut named = Named { stdin: paths.is_empty(), ..Named::default() };
    for path in paths {
        if path == Path::new("-") {
            named.stdin = true;
        } else if path.is_dir() {
            let before = named.files.len();
            gather(path, &mut named.files).map_err(|e| format!("{}: {e}", path.display()))?;
            if named.files.len() == before {
                return Err(format!(
                    "{}: no file below it ends in .yml, .yaml or .rules",
                    path.display()
                ));
            }
        } else if path.exists() || !is_pattern(path) {
            named.files.insert(path.clone());
        } else {
            let pattern = path.to_string_lossy();
            let found = glob::glob(&pattern).map_err(|e| format!("{pattern}: {e}"))?;
            let before = named.files.len();
            named.files.extend(found.filter_map(Result::ok).filter(|f| f.is_file()));
            if named.files.len() == before {
                return Err(format!("{pattern}: no file matches"));
            }
        }
    }
    Ok(named)
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

/// Symbolic links to folders are not followed: they may lead in circles.
fn gather(folder: &Path, found: &mut BTreeSet<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            gather(&path, found)?;
        } else if path.extension().is_some_and(|e| EXTENSIONS.iter().any(|x| e == *x)) {
            found.insert(path);
        }
    }
    Ok(())
}
