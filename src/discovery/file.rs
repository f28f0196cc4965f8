//! `file_sd_configs`: target groups in YAML or JSON files that others write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use notify::{RecursiveMode, Watcher};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::config::FileConfig;
use super::run::{Outlet, Surroundings};
use super::static_::ADDRESS;
use super::{TARGETS_MAX, TargetGroup};

/// The file a target was read from.
const FILE_PATH: &str = "__meta_filepath";
/// Largest file.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A group as files and servers write it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenGroup {
    #[serde(default)]
    pub targets: Vec<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl WrittenGroup {
    pub(super) fn into_group(self, source: String) -> TargetGroup {
        let target = |address| BTreeMap::from([(ADDRESS.to_owned(), address)]);
        let targets = self.targets.into_iter().map(target).collect();
        TargetGroup { source, labels: self.labels, targets }
    }
}

/// Never ends.
pub(super) async fn run(config: FileConfig, around: Surroundings, outlet: Outlet) {
    let (changes, mut changed) = mpsc::channel(1);
    // One place in the channel is enough: it says that something changed, not what.
    let notice = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|e| !e.kind.is_access()) {
            let _ = changes.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(notice)
        .inspect_err(|error| {
            tracing::error!(%error, "Error watching files: they are read at every refresh_interval only");
        })
        .ok();
    let mut known = BTreeMap::new();
    loop {
        // Before reading: what changes afterwards is reported.
        watch_folders(watcher.as_mut(), &config);
        known = read_all(&config, &around, known).await;
        outlet.put(known.values().flatten().cloned().collect());
        let next_ms = around.clock.now_ms().saturating_add(config.refresh_interval_ms);
        tokio::select! {
            Some(()) = changed.recv() => {}
            () = around.clock.sleep_until(next_ms) => {}
        }
    }
}

/// Watches the folders the patterns are in; ones that appear later are seen at the next
/// refresh. Mounted configuration is swapped by a link in the folder, so files themselves
/// would be the wrong thing to watch.
fn watch_folders(watcher: Option<&mut notify::RecommendedWatcher>, config: &FileConfig) {
    let Some(watcher) = watcher else { return };
    for pattern in &config.files {
        let folder = match Path::new(pattern).parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::warn!(folder = %folder.display(), %error, "Error adding file watch");
        }
    }
}

type Known = BTreeMap<PathBuf, Vec<TargetGroup>>;

/// Reads every file that exists. One that cannot be read keeps the groups it had; one that
/// is gone has none.
async fn read_all(config: &FileConfig, around: &Surroundings, mut before: Known) -> Known {
    let patterns = config.files.clone();
    let read = tokio::task::spawn_blocking(move || {
        let paths = patterns.iter().filter_map(|p| glob::glob(p).ok()).flatten().flatten();
        paths.map(|path| (read(&path), path)).collect::<Vec<_>>()
    });
    let mut known = Known::new();
    for (outcome, path) in read.await.unwrap_or_default() {
        match outcome {
            Ok(groups) => {
                known.insert(path, groups);
            }
            Err(error) => {
                around.metrics.file_read_errors.inc();
                tracing::error!(path = %path.display(), error, "Error reading file");
                if let Some(groups) = before.remove(&path) {
                    known.insert(path, groups);
                }
            }
        }
    }
    known
}

fn read(path: &Path) -> Result<Vec<TargetGroup>, String> {
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("the file has {size} bytes, at most {FILE_BYTES_MAX} are read"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let name = path.display().to_string();
    let groups: Option<Vec<Option<WrittenGroup>>> =
        serde_yaml::from_str(&text).map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    for (at, group) in groups.into_iter().flatten().enumerate() {
        let Some(group) = group else { return Err("nil target group item found".to_owned()) };
        let mut group = group.into_group(format!("{name}:{at}"));
        group.labels.insert(FILE_PATH.to_owned(), name.clone());
        found.push(group);
    }
    let targets: usize = found.iter().map(|group| group.targets.len()).sum();
    if targets > TARGETS_MAX {
        return Err(format!("the file has {targets} targets, at most {TARGETS_MAX} are read"));
    }
    Ok(found)
}
