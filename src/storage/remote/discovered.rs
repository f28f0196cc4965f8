//! A server that is asked what it is (`detect.rs`), when the source is made, and again when
//! it may have become another one: once in the tick of rules whether it is still the same,
//! and in full when it is not, when it failed, and every ten minutes.
//!
//! Until it has answered, nothing is evaluated by it, and every select fails as over any
//! server that is away. When it turned out to be something else than what was planned for,
//! whoever plans is told, and what was planned for the former one is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::api::ApiSource;
use super::client::QueryApi;
use super::detect::{self, Found, Identity};
use super::endpoint::{Endpoint, EndpointConfig};
use super::{DatasourceConfig, DatasourceKind, Evaluation, OpenError, Surroundings, failed};
use crate::storage::{
    LabelAnswer, LabelRequest, PUSHED, PUSHED_FOR, PushDown, SelectRequest, SeriesSet, Source,
    StorageError,
};

/// What was found holds so long for all that ask: rules of one tick see one server.
const FRESH_NS: u64 = 1_000_000_000;
/// One that failed is asked in full as often at most.
const DOUBT_NS: u64 = 10_000_000_000;
/// And each is, whatever it says, once in that.
const AGAIN_NS: u64 = 600_000_000_000;
/// How long a server may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Discovered {
    config: DatasourceConfig,
    api: QueryApi,
    /// Remote read, if the server has it.
    read: Arc<Endpoint>,
    changed: Arc<Notify>,
    /// What is found from then on is news to whoever plans.
    is_open: AtomicBool,
    known: ArcSwapOption<Known>,
    looked: Mutex<Looked>,
    /// One asks, the others wait for the answer.
    asking: tokio::sync::Mutex<()>,
}

/// What the server is.
struct Known {
    kind: DatasourceKind,
    identity: Identity,
    samples: Arc<dyn Source>,
    /// Labels, and series without samples.
    labels: Arc<dyn Source>,
}

#[derive(Default)]
struct Looked {
    /// When, by the steady clock, and what came of it.
    last: Option<(u64, Result<(), StorageError>)>,
    /// When it was last asked in full.
    whole_ns: Option<u64>,
    /// Something failed since.
    doubtful: bool,
    /// That it did not answer yet was told.
    told: bool,
}

impl Discovered {
    pub(super) async fn new(
        config: &DatasourceConfig,
        around: &Surroundings,
    ) -> Result<Self, OpenError> {
        let reach = config.endpoint();
        let endpoint = Arc::new(Endpoint::new(&reach, around).await?);
        let api = QueryApi { endpoint, limits: config.limits() };
        let url = api.url(&["read"]).to_string();
        let read = Endpoint::new(&EndpointConfig { url, ..reach }, around).await?;
        let this = Self {
            config: config.clone(),
            api,
            read: Arc::new(read),
            changed: around.changed.clone(),
            is_open: AtomicBool::new(false),
            known: ArcSwapOption::empty(),
            looked: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        };
        // A server that is down is found out about later.
        _ = this.known().await;
        this.is_open.store(true, Ordering::Relaxed);
        Ok(this)
    }

    /// What the server is now.
    async fn known(&self) -> Result<Arc<Known>, StorageError> {
        if let Some(known) = self.at_hand() {
            return known;
        }
        let _one = self.asking.lock().await;
        if let Some(known) = self.at_hand() {
            return known;
        }
        let asked = tokio::time::timeout(PATIENCE, self.look()).await;
        let found = asked.unwrap_or_else(|_| {
            let url = self.api.endpoint.shown_url();
            let within = format_args!("{url} did not say what it is within {PATIENCE:?}");
            Err(failed(&self.api.endpoint.name, within))
        });
        let mut looked = self.looked.lock();
        looked.last = Some((self.now_ns(), found.as_ref().map(|_| ()).map_err(Clone::clone)));
        if let Err(error) = &found
            && self.known.load().is_none()
            && !std::mem::replace(&mut looked.told, true)
        {
            tracing::warn!(
                %error,
                "It is not known yet what the server is: rules fail, and alerts stay as they \
                 are, until it answers"
            );
        }
        found
    }

    /// What was found a moment ago.
    fn at_hand(&self) -> Option<Result<Arc<Known>, StorageError>> {
        let looked = self.looked.lock();
        let (at_ns, outcome) = looked.last.as_ref()?;
        if self.now_ns().saturating_sub(*at_ns) >= FRESH_NS {
            return None;
        }
        match outcome {
            Ok(()) => self.known.load_full().map(Ok),
            Err(error) => Some(Err(error.clone())),
        }
    }

    /// Asks whether the server is what it was, or what it is.
    async fn look(&self) -> Result<Arc<Known>, StorageError> {
        let known = self.known.load_full();
        if let Some(known) = &known
            && !self.is_due()
            && detect::identity(&self.api, Some(&known.identity)).await? == known.identity
        {
            return Ok(known.clone());
        }
        let found = detect::detect(&self.api, &self.read, self.config.evaluate).await?;
        {
            let mut looked = self.looked.lock();
            looked.whole_ns = Some(self.now_ns());
            looked.doubtful = false;
        }
        let (kind, why) = (found.kind, found.why);
        let mut new = self.opened(found).await;
        let before = known.as_ref().map(|known| (known.kind, known.samples.push_down(None)));
        let same = before == Some((kind, new.samples.push_down(None)));
        if let (true, Some(known)) = (same, known) {
            // What it keeps of samples goes on.
            (new.samples, new.labels) = (known.samples.clone(), known.labels.clone());
        }
        let new = Arc::new(new);
        self.known.store(Some(new.clone()));
        if !same {
            let (url, kind) = (self.api.endpoint.shown_url(), kind.word());
            self.api.endpoint.metrics.is_a(kind);
            let name = &self.api.endpoint.name;
            tracing::info!(datasource = %name, url, r#type = kind, why, "A server is known");
            if self.is_open.load(Ordering::Relaxed) {
                self.changed.notify_one();
            }
        }
        Ok(new)
    }

    /// Whether it is time to ask for everything.
    fn is_due(&self) -> bool {
        let looked = self.looked.lock();
        let Some(whole_ns) = looked.whole_ns else { return true };
        let age_ns = self.now_ns().saturating_sub(whole_ns);
        age_ns >= AGAIN_NS || (looked.doubtful && age_ns >= DOUBT_NS)
    }

    async fn opened(&self, Found { kind, identity, .. }: Found) -> Known {
        let config = DatasourceConfig { kind, ..self.config.clone() };
        let endpoint = self.api.endpoint.clone();
        if kind == DatasourceKind::RemoteRead {
            let (kind_asked, evaluate) = (DatasourceKind::Prometheus, Evaluation::Here);
            let config = DatasourceConfig { kind: kind_asked, evaluate, ..config };
            let samples = super::reader(self.read.clone(), &config);
            let labels = Arc::new(ApiSource::new(endpoint, &config).await);
            return Known { kind, identity, samples, labels };
        }
        let samples: Arc<dyn Source> = Arc::new(ApiSource::new(endpoint, &config).await);
        Known { kind, identity, labels: samples.clone(), samples }
    }

    /// What failed may have failed because the server is another one now.
    fn noted<T>(&self, result: Result<T, StorageError>) -> Result<T, StorageError> {
        if result.is_err() {
            self.looked.lock().doubtful = true;
        }
        result
    }

    fn now_ns(&self) -> u64 {
        self.api.endpoint.now().1
    }

    /// Refuses what was planned for something else than what the server is.
    fn check(&self, known: &Known, request: &SelectRequest) -> Result<(), StorageError> {
        let named = |name: &str| request.matchers.iter().find(|m| &*m.name == name);
        if named(PUSHED).is_none() {
            return Ok(());
        }
        let evaluates = known.samples.push_down(None).map(PushDown::class);
        if named(PUSHED_FOR).map(|m| &*m.value) == evaluates {
            return Ok(());
        }
        Err(failed(
            &self.api.endpoint.name,
            format_args!(
                "{} has become another server since this was planned ({} now): ask again",
                self.api.endpoint.shown_url(),
                known.kind.word()
            ),
        ))
    }
}

impl Source for Discovered {
    fn select<'a>(
        &'a self,
        request: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async move {
            let known = self.known().await?;
            self.check(&known, request)?;
            let source = match request.hints.function.as_str() {
                "series" => &known.labels,
                _ => &known.samples,
            };
            self.noted(source.select(request).await)
        })
    }

    fn label_names<'a>(
        &'a self,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            let known = self.known().await?;
            self.noted(known.labels.label_names(request).await)
        })
    }

    fn label_values<'a>(
        &'a self,
        name: &'a str,
        request: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(async move {
            let known = self.known().await?;
            self.noted(known.labels.label_values(name, request).await)
        })
    }

    fn push_down(&self, _: Option<&str>) -> Option<PushDown> {
        let known = self.known.load();
        let push = known.as_ref()?.samples.push_down(None)?;
        Some(PushDown { may_change: true, ..push })
    }
}
