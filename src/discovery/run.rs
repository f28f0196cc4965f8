//! Runs the discovery of one configuration and keeps what it found last.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::config::DiscoveryConfig;
use super::metrics::{DiscoveryMetrics, DiscoveryUser};
use super::{TargetGroup, dns, file, http};
use crate::http::HttpError;
use crate::model::Clock;

/// What discovery works with.
#[derive(Clone)]
pub struct Surroundings {
    pub clock: Arc<dyn Clock>,
    pub metrics: DiscoveryMetrics,
    /// For whom.
    pub user: DiscoveryUser,
    pub user_agent: String,
    /// Name server to ask instead of the system's; for tests.
    pub name_server: Option<std::net::SocketAddr>,
}

/// The groups of all providers of a configuration, in its order.
pub type Groups = Arc<Vec<TargetGroup>>;

/// Discovery that runs until this is dropped.
pub struct Discovery {
    found: watch::Receiver<Groups>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Discovery {
    /// Starts every provider. Needs a tokio runtime. Until a provider has answered once it
    /// has no groups; when it fails later, it keeps those it had. Metrics know it as `set`.
    pub async fn start(
        config: &DiscoveryConfig,
        set: &str,
        around: &Surroundings,
    ) -> Result<Self, HttpError> {
        let count = config.dns_sd_configs.len()
            + config.file_sd_configs.len()
            + config.http_sd_configs.len();
        let (sender, found) = watch::channel(Groups::default());
        let shared = Arc::new(Shared { parts: Mutex::new(vec![Vec::new(); count]), sender });
        let outlet = |at| Outlet { shared: shared.clone(), at, set: set.into() };
        let mut outlets = (0..count).map(outlet);
        let mut clients = Vec::with_capacity(config.http_sd_configs.len());
        // What can fail comes before any task runs.
        for config in &config.http_sd_configs {
            clients.push(
                crate::http::Client::new(&config.http, &around.user_agent, around.clock.clone())
                    .await?,
            );
        }
        let mut tasks = Vec::with_capacity(count);
        for (config, outlet) in config.dns_sd_configs.iter().zip(&mut outlets) {
            tasks.push(tokio::spawn(dns::run(config.clone(), around.clone(), outlet)));
        }
        for (config, outlet) in config.file_sd_configs.iter().zip(&mut outlets) {
            tasks.push(tokio::spawn(file::run(config.clone(), around.clone(), outlet)));
        }
        let with_client = config.http_sd_configs.iter().zip(clients);
        for ((config, client), outlet) in with_client.zip(&mut outlets) {
            tasks.push(tokio::spawn(http::run(config.clone(), client, around.clone(), outlet)));
        }
        Ok(Self { found, tasks })
    }

    /// What is known now.
    pub fn groups(&self) -> Groups {
        self.found.borrow().clone()
    }

    /// Calls `notice` after every change, as long as this lives.
    pub fn on_change(&mut self, notice: impl Fn() + Send + 'static) {
        let mut found = self.found.clone();
        self.tasks.push(tokio::spawn(async move {
            while found.changed().await.is_ok() {
                notice();
            }
        }));
    }
}

/// What the providers of one configuration have found, each in its slot.
struct Shared {
    parts: Mutex<Vec<Vec<TargetGroup>>>,
    sender: watch::Sender<Groups>,
}

/// Where one provider puts what it finds.
pub(super) struct Outlet {
    shared: Arc<Shared>,
    at: usize,
    /// Whose provider it is.
    set: Arc<str>,
}

impl Outlet {
    /// Replaces what the provider found before.
    pub(super) fn put(&self, groups: Vec<TargetGroup>) {
        let mut parts = self.shared.parts.lock();
        if parts[self.at] == groups {
            return;
        }
        parts[self.at] = groups;
        let all = Arc::new(parts.concat());
        // Under the lock, so that a later state is never replaced by an earlier one.
        self.shared.sender.send_replace(all);
    }
}

/// Refreshes now and then every `interval_ms`. A failure is logged and counted, and what
/// was found before stays.
pub(super) async fn refresh_forever<F>(
    mechanism: &'static str,
    what: &str,
    interval_ms: i64,
    around: &Surroundings,
    outlet: &Outlet,
    mut refresh: impl FnMut() -> F,
) where
    F: Future<Output = Result<Vec<TargetGroup>, String>>,
{
    loop {
        let began_ns = around.clock.monotonic_ns();
        let outcome = refresh().await;
        let seconds = around.clock.monotonic_ns().saturating_sub(began_ns) as f64 / 1e9;
        around.metrics.refreshed(mechanism, &outlet.set, seconds, outcome.is_ok());
        match outcome {
            Ok(groups) => {
                around.metrics.received(around.user);
                outlet.put(groups);
            }
            Err(error) => {
                tracing::error!(
                    discovery = mechanism,
                    config = what,
                    error,
                    "Unable to refresh target groups"
                );
            }
        }
        around.clock.sleep_until(around.clock.now_ms().saturating_add(interval_ms)).await;
    }
}
