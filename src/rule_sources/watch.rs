//! Noticing that rule files have changed: by looking at them now and then, which works for
//! what is mounted from a ConfigMap (a link that is swapped), from a network, and for files
//! that are renamed into place.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What was seen of the files that patterns match: where each really lies, its inode, size
/// and time of change.
pub(super) type Seen = BTreeMap<PathBuf, Option<(PathBuf, u64, u64, i64, i64)>>;

/// The patterns an entry stands for: a directory stands for the rule files in it.
pub(super) fn patterns(entry: &str) -> impl Iterator<Item = String> {
    let is_dir = Path::new(entry).is_dir();
    let dir = glob::Pattern::escape(entry.trim_end_matches('/'));
    let all = match is_dir {
        true => vec![format!("{dir}/*.yml"), format!("{dir}/*.yaml")],
        false => vec![entry.to_owned()],
    };
    all.into_iter()
}

/// Looks at all files that the entries match.
pub(super) fn look(entries: &[String]) -> Seen {
    let mut seen = Seen::new();
    let files = entries.iter().filter(|entry| !super::is_url(entry));
    for pattern in files.flat_map(|entry| patterns(entry)) {
        let Ok(paths) = glob::glob(&pattern) else { continue };
        for path in paths.flatten() {
            let state = look_at(&path);
            seen.insert(path, state);
        }
    }
    seen
}

fn look_at(path: &Path) -> Option<(PathBuf, u64, u64, i64, i64)> {
    let real = path.canonicalize().ok()?;
    let meta = std::fs::metadata(&real).ok()?;
    Some((real, meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_config_map_that_is_swapped_is_seen() {
        let dir = tempfile::tempdir().expect("a folder");
        let mount = dir.path().join("mount");
        // As the kubelet does it: a link to a link to the present version.
        for version in ["..1", "..2"] {
            fs::create_dir_all(mount.join(version)).expect("a folder");
            fs::write(mount.join(version).join("rules.yml"), "groups: []").expect("a file");
        }
        symlink("..1", mount.join("..data")).expect("a link");
        symlink("..data/rules.yml", mount.join("rules.yml")).expect("a link");
        let entries = [mount.display().to_string()];
        let before = look(&entries);
        assert_eq!(before.len(), 1, "{before:?}");
        assert_eq!(look(&entries), before, "nothing changed");
        symlink("..2", mount.join("..new")).expect("a link");
        fs::rename(mount.join("..new"), mount.join("..data")).expect("a swap");
        let after = look(&entries);
        assert_ne!(after, before);
        fs::remove_file(mount.join("rules.yml")).expect("a removal");
        assert!(look(&entries).is_empty());
    }
}
