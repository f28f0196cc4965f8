//! `--config.auto-reload`: the configuration is loaded again when one of its files changes.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::service::Service;
use crate::cli::features::FeatureFlags;
use crate::cli::flags::ServeFlags;
use crate::config::{self, Config};
use crate::rule_sources;

/// What is looked at, and what was seen last.
pub(super) struct Watched {
    /// `None` when nothing is watched.
    file: Option<PathBuf>,
    interval: Duration,
    digest: Option<[u8; 32]>,
}

impl Watched {
    /// Of the configuration that has just been loaded.
    pub fn new(flags: &ServeFlags, features: &FeatureFlags, config: &Config) -> Self {
        let is_on = flags.auto_reload || features.auto_reload();
        let file = flags.config_file.clone().filter(|_| is_on);
        let digest = file.as_ref().and_then(|file| digest(file, config).ok());
        Self { file, interval: flags.auto_reload_interval, digest }
    }
}

/// Looks again and again, and has the service load what changed.
pub(super) async fn run(service: Arc<Service>, mut watched: Watched) -> Infallible {
    let Some(file) = watched.file else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(watched.interval.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let path = file.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let loaded = config::load(&path).map_err(|e| e.to_string())?;
            digest(&path, &loaded.config)
        });
        let seen = match looked.await {
            Ok(Ok(seen)) => Some(seen),
            // What cannot be read is loaded once, to be told as any reload that fails.
            Ok(Err(error)) => {
                tracing::debug!(err = error, "The configuration cannot be read");
                None
            }
            Err(error) => {
                tracing::error!("BUG: looking for changes of the configuration died: {error}");
                continue;
            }
        };
        if seen == watched.digest {
            continue;
        }
        watched.digest = seen;
        tracing::info!("Configuration file change detected, reloading the configuration.");
        if let Err(error) = service.reload().await {
            tracing::error!("Error reloading config: {error}");
        }
    }
}

/// Of everything the configuration is made of: the file, rule files, scrape files.
fn digest(file: &Path, config: &Config) -> Result<[u8; 32], String> {
    let mut files = vec![file.to_owned()];
    let patterns = config.rule_files.iter().filter(|name| !rule_sources::is_url(name));
    for pattern in patterns.chain(&config.scrape_config_files) {
        let found = glob::glob(pattern).map_err(|e| format!("{pattern}: {e}"))?;
        files.extend(found.filter_map(Result::ok));
    }
    let mut all = Sha256::new();
    for file in files {
        let bytes = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        all.update(file.as_os_str().as_encoded_bytes());
        all.update((bytes.len() as u64).to_le_bytes());
        all.update(bytes);
    }
    Ok(all.finalize().into())
}
