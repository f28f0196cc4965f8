//! `--web.config.file` while the service runs: read again when it, or a certificate, changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::api::AccessSource;
use crate::config::web::{Web, load};

/// What tells that a file is another than before; `None` of one that cannot be looked at.
type Stamp = Option<(SystemTime, u64)>;

struct Kept {
    web: Result<Arc<Web>, String>,
    files: Vec<(PathBuf, Stamp)>,
}

fn stamp(file: &Path) -> Stamp {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

impl Kept {
    fn new(path: &Path) -> Self {
        // Looked at before they are read: what changes meanwhile is read again.
        let before = stamp(path);
        let loaded = load(path);
        let mut files = vec![(path.to_owned(), before)];
        if let Ok(web) = &loaded {
            let others = web.files.iter().filter(|file| *file != path);
            files.extend(others.map(|file| (file.clone(), stamp(file))));
        }
        Self { web: loaded.map(Arc::new).map_err(|e| e.to_string()), files }
    }

    /// What is broken is tried again each time: which of its files was the cause is not
    /// known.
    fn is_current(&self) -> bool {
        self.web.is_ok() && self.files.iter().all(|(file, before)| stamp(file) == *before)
    }
}

/// Gives the settings of a file as they are when asked for. A file that cannot be used now is
/// an error.
pub(super) fn source(path: &Path) -> Result<AccessSource, String> {
    let first = Kept::new(path);
    if let Err(error) = &first.web {
        return Err(format!(
            "Unable to validate web configuration file (--web.config.file): {error}"
        ));
    }
    let (path, kept) = (path.to_owned(), Mutex::new(first));
    Ok(AccessSource(Arc::new(move || {
        let mut kept = kept.lock();
        if !kept.is_current() {
            *kept = Kept::new(&path);
        }
        kept.web.clone()
    })))
}
