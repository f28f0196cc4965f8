//! Finds and reads the files that `watchfire test` runs.

use std::fs;
use std::path::{Path, PathBuf};

/// Largest file.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Reads one, if it is not too large.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let error = |e: std::io::Error| format!("{}: {e}", path.display());
    let bytes = fs::metadata(path).map_err(error)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(format!(
            "{}: the file has {bytes} bytes, at most {FILE_BYTES_MAX} are read; split it",
            path.display()
        ));
    }
    fs::read_to_string(path).map_err(error)
}

/// What a path stands for: itself, or the files below it that end in `.EXTENSION`, in
/// alphabetical order.
pub(super) fn found(path: &Path, extension: &str) -> Vec<Result<PathBuf, String>> {
    if !path.is_dir() {
        return vec![Ok(path.to_owned())];
    }
    let mut found = Vec::new();
    search(path, extension, &mut found);
    if found.is_empty() {
        found.push(Err(format!("{}: no file below it ends in .{extension}", path.display())));
    }
    found
}

/// Symbolic links to folders are not followed: they may lead in circles.
fn search(folder: &Path, extension: &str, found: &mut Vec<Result<PathBuf, String>>) {
    let mut entries = match fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(error) => return found.push(Err(format!("{}: {error}", folder.display()))),
    };
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            search(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) && !path.is_dir() {
            found.push(Ok(path));
        }
    }
}
