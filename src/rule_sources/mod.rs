//! Where rules come from beside files: servers (`url.rs`), directories that change under
//! way (`watch.rs`), and an API through which they are written (`store.rs`). What it all
//! comes to is a list of [`RuleSource`]s; what rules are is `rules`' business, and so is
//! going on with the last good version of what cannot be had.

mod metrics;
mod store;
mod url;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::http::{Client, ClientConfig};
use crate::model::Clock;
use crate::rules::RuleSource;
use crate::rules::config::LoadOptions;
use crate::telemetry::Registry;

pub use metrics::RuleSourceMetrics;
pub use store::{RulerError, RulerStore};

use self::url::Fetched;

/// What the sources of a process have in common.
#[derive(Clone)]
pub struct RuleSourceOptions {
    /// How often servers are asked, and files and directories looked at.
    pub interval: Duration,
    /// Whether files and directories are looked at; servers always are.
    pub watch_files: bool,
    /// How servers are asked.
    pub http: ClientConfig,
    pub user_agent: String,
    pub clock: Arc<dyn Clock>,
}

/// The sources that are not plain files, and what they hold now.
pub struct RuleSources {
    options: RuleSourceOptions,
    metrics: RuleSourceMetrics,
    state: Mutex<State>,
    store: Option<Arc<RulerStore>>,
    /// Woken when something has changed, so that rules are loaded anew.
    pub changed: Notify,
}

#[derive(Default)]
struct State {
    patterns: Vec<String>,
    fetched: BTreeMap<String, Fetched>,
    seen: watch::Seen,
}

/// True for an entry of `rule_files` that is asked of a server.
pub fn is_url(pattern: &str) -> bool {
    pattern.starts_with("http://") || pattern.starts_with("https://")
}

impl RuleSources {
    /// Sources that are empty but for what the store holds.
    pub fn new(
        options: RuleSourceOptions,
        store: Option<Arc<RulerStore>>,
        registry: &mut Registry,
    ) -> Self {
        let metrics = RuleSourceMetrics::new(registry);
        Self { options, metrics, state: Mutex::default(), store, changed: Notify::new() }
    }

    /// The rules that can be written through the API.
    pub fn store(&self) -> Option<&Arc<RulerStore>> {
        self.store.as_ref()
    }

    /// What to load rules from, for these entries of `rule_files`. Servers among them that
    /// were not asked yet are asked now.
    pub async fn load(&self, patterns: &[String]) -> Vec<RuleSource> {
        let new: Vec<String> = {
            let mut state = self.state.lock();
            state.patterns = patterns.to_vec();
            state.fetched.retain(|url, _| patterns.contains(url));
            let urls = patterns.iter().filter(|p| is_url(p));
            urls.filter(|url| !state.fetched.contains_key(*url)).cloned().collect()
        };
        self.ask(new).await;
        self.now()
    }

    /// What to load rules from now.
    fn now(&self) -> Vec<RuleSource> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if self.options.watch_files {
            state.seen = watch::look(&state.patterns);
        }
        let mut sources = Vec::new();
        for pattern in &state.patterns {
            match state.fetched.get(pattern) {
                Some(fetched) => sources.push(RuleSource::Fetched {
                    file: pattern.clone(),
                    source: fetched.text.clone(),
                }),
                None if is_url(pattern) => {}
                None => sources.extend(watch::patterns(pattern).map(RuleSource::Pattern)),
            }
        }
        sources.extend(self.store.iter().flat_map(|store| store.sources()));
        sources
    }

    /// Looks again and again whether something changed. Does not end.
    pub async fn follow(&self) {
        loop {
            tokio::time::sleep(self.options.interval).await;
            let (urls, patterns, seen) = {
                let state = self.state.lock();
                let urls: Vec<String> = state.fetched.keys().cloned().collect();
                (urls, state.patterns.clone(), state.seen.clone())
            };
            let mut changed = self.ask(urls).await;
            if self.options.watch_files {
                let look = tokio::task::spawn_blocking(move || watch::look(&patterns));
                changed |= look.await.is_ok_and(|now| now != seen);
            }
            if changed {
                self.changed.notify_one();
            }
        }
    }

    /// Asks servers; true when an answer is another than before.
    async fn ask(&self, urls: Vec<String>) -> bool {
        if urls.is_empty() {
            return false;
        }
        let options = &self.options;
        let client = Client::new(&options.http, &options.user_agent, options.clock.clone()).await;
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, "Rules cannot be fetched: the HTTP client options cannot be used");
                let mut state = self.state.lock();
                for url in urls {
                    let failed = || Fetched { text: Err(error.to_string()), etag: None };
                    state.fetched.entry(url).or_insert_with(failed);
                }
                return false;
            }
        };
        let asked = urls.iter().map(|url| {
            let before = self.state.lock().fetched.get(url).cloned();
            let client = &client;
            async move {
                let now = url::ask(client, url, before.as_ref(), options.interval).await;
                (url, before, now)
            }
        });
        let mut changed = false;
        for (url, before, now) in futures_util::future::join_all(asked).await {
            self.metrics.note(url, &now);
            if let Err(error) = &now.text {
                let url = url::shown(url);
                tracing::warn!(
                    url,
                    error,
                    "Rules cannot be fetched; the last good version goes on"
                );
            }
            changed |= before.is_some_and(|before| before.text != now.text);
            self.state.lock().fetched.insert(url.clone(), now);
        }
        changed
    }
}

/// Opens the store of rules that are written through the API.
pub fn open_store(
    dir: std::path::PathBuf,
    load: LoadOptions,
) -> Result<Arc<RulerStore>, RulerError> {
    RulerStore::open(dir, load).map(Arc::new)
}
