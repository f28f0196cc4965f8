//! `file_sd_configs`: target groups in YAML or JSON files that others write.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use notify::{RecursiveMode, Watcher};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::config::FileConfig;
use super::run::{Outlet, Surroundings};
use super::static_::ADDRESS;
use super::{DiscoveryMetrics, TARGETS_MAX, TargetGroup};

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
    let watcher_errors = around.metrics.file_watcher_errors.clone();
    let notice = move |event: notify::Result<notify::Event>| {
        if event.is_err() {
            watcher_errors.inc();
        }
        if event.is_ok_and(|e| !e.kind.is_access()) {
            let _ = changes.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(notice)
        .inspect_err(|error| {
            around.metrics.file_watcher_errors.inc();
            tracing::error!(%error, "Error watching files: they are read at every refresh_interval only");
        })
        .ok();
    let mut known = BTreeMap::new();
    let mut shown = Shown { metrics: around.metrics.clone(), files: BTreeSet::new() };
    loop {
        // Before reading: what changes afterwards is reported.
        watch_folders(watcher.as_mut(), &config, &around);
        known = read_all(&config, &around, known, &mut shown).await;
        around.metrics.received(around.user);
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
fn watch_folders(
    watcher: Option<&mut notify::RecommendedWatcher>,
    config: &FileConfig,
    around: &Surroundings,
) {
    let Some(watcher) = watcher else { return };
    for pattern in &config.files {
        let folder = match Path::new(pattern).parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            around.metrics.file_watcher_errors.inc();
            tracing::warn!(folder = %folder.display(), %error, "Error adding file watch");
        }
    }
}

type Known = BTreeMap<PathBuf, Vec<TargetGroup>>;

/// Reads every file that exists. One that cannot be read keeps the groups it had; one that
/// is gone has none.
async fn read_all(
    config: &FileConfig,
    around: &Surroundings,
    mut before: Known,
    shown: &mut Shown,
) -> Known {
    let began_ns = around.clock.monotonic_ns();
    let patterns = config.files.clone();
    let read = tokio::task::spawn_blocking(move || {
        let paths = patterns.iter().filter_map(|p| glob::glob(p).ok()).flatten().flatten();
        paths.map(|path| (read(&path), path)).collect::<Vec<_>>()
    });
    let mut known = Known::new();
    let outcomes = read.await.unwrap_or_default();
    let seconds = around.clock.monotonic_ns().saturating_sub(began_ns) as f64 / 1e9;
    around.metrics.file_scan_duration.observe(seconds);
    shown.forget_others(&outcomes);
    for (outcome, path) in outcomes {
        match outcome {
            Ok((groups, modified_seconds)) => {
                shown.show(&path, modified_seconds);
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

/// The files whose times the metrics show; none any more when discovery ends.
struct Shown {
    metrics: DiscoveryMetrics,
    files: BTreeSet<String>,
}

impl Shown {
    fn show(&mut self, path: &Path, modified_seconds: f64) {
        let name = path.display().to_string();
        self.metrics.file_modified(&name, Some(modified_seconds));
        self.files.insert(name);
    }

    fn forget_others(&mut self, outcomes: &[(Result<Read, String>, PathBuf)]) {
        let there: BTreeSet<String> =
            outcomes.iter().map(|(_, path)| path.display().to_string()).collect();
        self.files.retain(|name| {
            let stays = there.contains(name);
            if !stays {
                self.metrics.file_modified(name, None);
            }
            stays
        });
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.files.iter().for_each(|name| self.metrics.file_modified(name, None));
    }
}

/// What a file holds, and when it was changed last, in seconds.
type Read = (Vec<TargetGroup>, f64);

fn read(path: &Path) -> Result<Read, String> {
    let metadata = std::fs::metadata(path).map_err(|e| e.to_string())?;
    let modified = metadata.modified().map_err(|e| e.to_string())?;
    let modified = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let size = metadata.len();
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
    Ok((found, modified.as_secs_f64()))
}
