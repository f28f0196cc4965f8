//! Rules, notifier and embedded storage in this process, by a clock that stands still until
//! it is moved. The Alertmanager is the real one, and so is what it tells its receiver.
//!
//! The Alertmanager goes by the machine's clock: an alert whose `endsAt` lies in the past
//! has ended. So the rig's time begins [`BEHIND`] before now: what ends within that time has
//! ended, what is sent to last four minutes has not. All times in texts are seconds since
//! the rig's zero.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tempfile::TempDir;
use watchfire::discovery::{DiscoveryMetrics, StaticConfig};
use watchfire::model::value::is_stale_nan;
use watchfire::model::{Clock, Labels, Matcher};
use watchfire::notifier::{
    self, AlertingConfig, AlertmanagerConfig, Notifier, NotifierOptions, OutgoingAlert, Receipt,
};
use watchfire::rules::{EvaluationOptions, RuleSource};
use watchfire::storage::memory::MemoryStorage;
use watchfire::storage::tsdb::{Tsdb, TsdbOptions};
use watchfire::storage::{SelectHints, SelectRequest, Sink, Source};
use watchfire::telemetry::Registry;
use watchfire::telemetry::clock::SystemClock;
use watchfire::vector::RawSamples;

use crate::rules::faults::{Faulty, FaultySink};
use crate::rules::harness::{Harness, SECOND, Setup};
use crate::support::{Program, free_address};

/// How far behind the machine's clock a rig begins.
pub const BEHIND: i64 = 150 * SECOND;

/// How long to wait for another program; no statement about speed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until `look` gives what is expected, and fails with what it gave last.
pub async fn reaches<T, F>(what: &str, expected: &T, mut look: impl FnMut() -> F)
where
    T: PartialEq + std::fmt::Debug,
    F: Future<Output = T>,
{
    let end = Instant::now() + PATIENCE;
    loop {
        let began = Instant::now();
        let got = look().await;
        if got == *expected {
            return;
        }
        if Instant::now() >= end {
            assert_eq!(&got, expected, "{what}");
        }
        // A look that takes long leaves the others as much time as it took.
        tokio::time::sleep(began.elapsed().max(Duration::from_millis(10))).await;
    }
}

/// The real Alertmanager, and what it sent on.
pub struct Alertmanager {
    pub address: SocketAddr,
    client: reqwest::Client,
    pages: Arc<Mutex<Vec<Json>>>,
    _program: Program,
    _dir: TempDir,
}

impl Alertmanager {
    /// Starts one that tells a receiver of every alert by itself, as soon as it can.
    pub async fn start() -> Option<Arc<Self>> {
        Self::start_with("100ms").await
    }

    /// As `start`; of each alert it looks that often whether its receiver is to hear more.
    pub async fn start_with(group_interval: &str) -> Option<Arc<Self>> {
        watchfire::http::install_crypto_provider();
        let pages: Arc<Mutex<Vec<Json>>> = Arc::default();
        let kept = pages.clone();
        let take = axum::routing::post(async move |body: String| {
            let page: Json = serde_json::from_str(&body).unwrap();
            kept.lock().unwrap().extend(page["alerts"].as_array().unwrap().iter().cloned());
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let receiver = listener.local_addr().unwrap();
        let app = axum::Router::new().route("/", take);
        // On a thread of its own: a page that is not answered in time is sent again.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, app).await
            })
        });

        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("alertmanager.yml");
        let text = format!(
            "route: {{receiver: pager, group_by: ['...'], group_wait: 0s, \
             group_interval: {group_interval}, repeat_interval: 1h}}\n\
             receivers: [{{name: pager, webhook_configs: [{{url: 'http://{receiver}/'}}]}}]\n"
        );
        std::fs::write(&config, text).unwrap();
        let address = free_address();
        let args = [
            format!("--config.file={}", config.display()),
            format!("--storage.path={}", dir.path().join("data").display()),
            format!("--web.listen-address={address}"),
            "--cluster.listen-address=".to_owned(),
        ];
        let program = Program::start("prometheus-alertmanager", &args)?;
        let client = reqwest::Client::new();
        let this = Self { address, client, pages, _program: program, _dir: dir };
        reaches("the Alertmanager", &true, || async {
            this.client.get(this.url("/-/ready")).send().await.is_ok_and(|r| r.status() == 200)
        })
        .await;
        Some(Arc::new(this))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A set of this Alertmanager alone.
    pub fn set(&self) -> AlertmanagerConfig {
        set(self.address)
    }

    /// The active alerts that carry `run`, as the API shows them.
    pub async fn alerts(&self, run: &str) -> Vec<Json> {
        let url = self.url(&format!("/api/v2/alerts?filter=run%3D%22{run}%22"));
        let answer = self.client.get(url).send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error} in {answer}"))
    }

    /// How many alerts it was sent, as it counts them itself.
    pub async fn received(&self, status: &str) -> f64 {
        let text = self.client.get(self.url("/metrics")).send().await.unwrap();
        let text = text.text().await.unwrap();
        let start =
            format!("alertmanager_alerts_received_total{{status=\"{status}\",version=\"v2\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&start));
        value.map_or(0.0, |value| value.parse().unwrap())
    }
}

/// A set of one Alertmanager.
pub fn set(address: SocketAddr) -> AlertmanagerConfig {
    AlertmanagerConfig {
        static_configs: vec![StaticConfig {
            targets: vec![address.to_string()],
            labels: BTreeMap::new(),
        }],
        ..AlertmanagerConfig::default()
    }
}

/// Stands before the notifier and notes what passes.
struct Watched {
    inner: Arc<notifier::Manager>,
    posted: Mutex<Vec<OutgoingAlert>>,
    /// Every hand-over under way holds a clone.
    under_way: Arc<()>,
}

impl Notifier for Watched {
    fn send(&self, mut alerts: Vec<OutgoingAlert>) {
        self.posted.lock().unwrap().extend(alerts.iter().cloned());
        let Some(first) = alerts.first() else { return };
        let (receipt, token) = (first.receipt.clone(), self.under_way.clone());
        let receipt = Receipt::new(move || {
            let _ = &token;
            receipt.offered();
            receipt.accepted();
        });
        alerts.iter_mut().for_each(|alert| alert.receipt = receipt.clone());
        self.posted.lock().unwrap().iter_mut().for_each(|a| a.receipt = Receipt::default());
        self.inner.send(alerts);
    }
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// Told to.
    Clean,
    /// What is on the disk is what is left.
    Crash,
}

pub struct Rig {
    pub h: Harness,
    pub am: Arc<Alertmanager>,
    pub notifier: Arc<notifier::Manager>,
    pub notifier_metrics: Registry,
    /// What rules read from and write to.
    pub source: Arc<Faulty>,
    pub sink: Arc<FaultySink>,
    watched: Arc<Watched>,
    tsdb: Arc<Tsdb>,
    dir: TempDir,
    /// Label `run` of all that the rig sends: several share the Alertmanager.
    run: String,
    zero: i64,
    /// When removed groups, of an interval of ten seconds, end their series; how many do.
    retiring: Vec<(i64, usize)>,
}

/// What a rig has that is not usual.
#[derive(Default)]
pub struct RigSetup {
    pub notifier: NotifierOptions,
    /// [`BEHIND`] when 0.
    pub behind_ms: i64,
}

static RUNS: AtomicUsize = AtomicUsize::new(0);

impl Rig {
    /// A process with this Alertmanager that has no rules yet.
    pub async fn new(am: &Arc<Alertmanager>) -> Self {
        Self::with(am, RigSetup::default()).await
    }

    pub async fn with(am: &Arc<Alertmanager>, setup: RigSetup) -> Self {
        let run = RUNS.fetch_add(1, Ordering::Relaxed).to_string();
        let now_ms = SystemClock::default().now_ms();
        // Ticks of groups of ten and of twenty seconds lie at whole multiples.
        let behind_ms = if setup.behind_ms == 0 { BEHIND } else { setup.behind_ms };
        let zero = (now_ms - behind_ms).div_euclid(20 * SECOND) * 20 * SECOND;
        let dir = tempfile::tempdir().unwrap();
        let mut rig = Self::start(am.clone(), dir, run, zero, zero, setup).await;
        // Later loads have nothing to restore: their series are written from the start.
        rig.load("groups: []").await;
        rig
    }

    async fn start(
        am: Arc<Alertmanager>,
        dir: TempDir,
        run: String,
        zero: i64,
        now_ms: i64,
        setup: RigSetup,
    ) -> Self {
        let tsdb_clock = Arc::new(SystemClock::default());
        let tsdb = Tsdb::open(dir.path().join("tsdb"), TsdbOptions::default(), tsdb_clock).unwrap();
        let source = Faulty::new(tsdb.clone());
        let sink = FaultySink::new(tsdb.clone());
        let mut notifier_metrics = Registry::default();
        let discovery = DiscoveryMetrics::new(&mut notifier_metrics);
        let clock = Arc::new(SystemClock::default());
        let notifier =
            notifier::Manager::new(setup.notifier, clock, discovery, &mut notifier_metrics);
        let notifier = Arc::new(notifier);
        let watched = Arc::new(Watched {
            inner: notifier.clone(),
            posted: Mutex::default(),
            under_way: Arc::new(()),
        });
        let setup = Setup {
            source: Some(source.clone()),
            sink: Some(sink.clone()),
            notifier: Some(watched.clone()),
            // At whole multiples of the interval: texts can name the times of ticks.
            evaluation: EvaluationOptions { align_groups: true, ..EvaluationOptions::default() },
            ..Setup::default()
        };
        let mut h = Harness::with(Arc::new(MemoryStorage::new()), now_ms, setup);
        h.settings.interval_ms = 10 * SECOND;
        h.remember(&dir.path().join("state"));
        let retiring = Vec::new();
        let rig = Self {
            h,
            am,
            notifier,
            notifier_metrics,
            source,
            sink,
            watched,
            tsdb,
            dir,
            run,
            zero,
            retiring,
        };
        rig.send_to(vec![rig.am.set()]).await;
        rig
    }

    /// What every alert gets on its way out.
    pub fn external(&self) -> Labels {
        Labels::from_pairs([("run", self.run.as_str())])
    }

    /// Makes alerts go to these Alertmanagers.
    pub async fn send_to(&self, alertmanagers: Vec<AlertmanagerConfig>) {
        let config = AlertingConfig { alertmanagers, ..AlertingConfig::default() };
        self.notifier.apply(&config, &self.external()).await.unwrap();
    }

    pub async fn load(&mut self, rules: &str) {
        self.load_as("f.yml", rules).await;
    }

    /// Loads rules from a file of that name, instead of those there are.
    pub async fn load_as(&mut self, file: &str, rules: &str) {
        let (file, source) = (file.to_owned(), rules.to_owned());
        self.h.load_from(vec![RuleSource::Text { file, source }]).await.unwrap();
        let retired = self.h.sleepers - self.h.retiring - self.h.group_count();
        if retired > 0 {
            self.h.retiring += retired;
            self.retiring.push((self.h.clock.now() + 20 * SECOND, retired));
        }
    }

    /// Stores a sample now; `series` is `name` or `name/label=value,...`.
    pub fn put(&self, series: &str, value: f64) {
        self.put_all([(series.to_owned(), value)]);
    }

    pub fn put_all(&self, samples: impl IntoIterator<Item = (String, f64)>) {
        let mut appender = Sink::appender(&*self.tsdb);
        for (series, value) in samples {
            let (name, rest) = series.split_once('/').unwrap_or((&series, ""));
            let pairs = rest.split(',').filter_map(|p| p.split_once('='));
            let labels = Labels::from_pairs(pairs.chain([("__name__", name)]));
            appender.append(None, &labels, self.h.clock.now(), value).unwrap();
        }
        appender.commit().unwrap();
    }

    /// The machine's time at the rig's zero.
    pub fn zero(&self) -> i64 {
        self.zero
    }

    /// Moves the clock to that many seconds; everything due on the way is done, and its
    /// notifications have arrived or failed.
    pub async fn advance(&mut self, seconds: i64) {
        let end = self.zero + seconds * SECOND;
        loop {
            let at = self.h.clock_next().min(end);
            while let Some((_, count)) = self.retiring.pop_if(|(due, _)| *due <= at) {
                self.h.sleepers -= count;
                self.h.retiring -= count;
            }
            self.h.advance_to(at).await;
            let under_way = &self.watched.under_way;
            reaches("delivery", &1, async || Arc::strong_count(under_way)).await;
            if at == end {
                return;
            }
        }
    }

    /// Ends the process and starts another one on what it left, after so many milliseconds.
    /// It has no rules yet.
    pub async fn restart(self, how: End, after_ms: i64) -> Self {
        let Self { h, am, notifier, tsdb, dir, run, zero, .. } = self;
        let now_ms = h.clock.now() + after_ms;
        let dir = match how {
            End::Crash => {
                let copy = tempfile::tempdir().unwrap();
                copy_dir(dir.path(), copy.path());
                copy
            }
            End::Clean => {
                h.manager.shutdown().await;
                notifier.shutdown().await;
                tsdb.close().unwrap();
                dir
            }
        };
        drop(h);
        Self::start(am, dir, run, zero, now_ms, RigSetup::default()).await
    }

    fn seconds(&self, ms: i64) -> String {
        let seconds = (ms - self.zero) as f64 / 1000.0;
        format!("{seconds}")
    }

    /// What was handed to the notifier since the last call: `LABELS START..END`.
    pub fn posted(&self) -> Vec<String> {
        let posted = std::mem::take(&mut *self.watched.posted.lock().unwrap());
        let text = |a: &OutgoingAlert| {
            let (start, end) = (self.seconds(a.starts_at_ms), self.seconds(a.ends_at_ms));
            format!("{} {start}..{end}", a.labels)
        };
        posted.iter().map(text).collect()
    }

    /// An alert as the Alertmanager shows it: `LABELS START..END`, then its annotations.
    fn line(&self, alert: &Json) -> Option<String> {
        let pairs = |object: &Json| {
            let texts = object.as_object().unwrap().iter();
            Labels::from_pairs(texts.map(|(n, v)| (n.clone(), v.as_str().unwrap().to_owned())))
        };
        let labels = pairs(&alert["labels"]);
        if labels.get("run") != Some(&self.run) {
            return None;
        }
        let time = |name: &str| {
            let text = alert[name].as_str().unwrap();
            let ms = chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis();
            if ms < 0 { String::new() } else { self.seconds(ms) }
        };
        let labels = labels.retain(|name| name != "run");
        let mut line = format!("{labels} {}..{}", time("startsAt"), time("endsAt"));
        for (name, value) in pairs(&alert["annotations"]).iter() {
            line.push_str(&format!(" {name}={value:?}"));
        }
        Some(line)
    }

    /// Waits until the Alertmanager has exactly these active alerts, by labels.
    pub async fn held(&self, what: &str, expected: &[&str]) {
        let expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
        reaches(what, &expected, || async {
            let alerts = self.am.alerts(&self.run).await;
            let mut lines: Vec<String> = alerts.iter().filter_map(|a| self.line(a)).collect();
            lines.sort();
            lines
        })
        .await;
    }

    /// One active alert as the Alertmanager's API shows it.
    pub async fn raw(&self) -> Vec<Json> {
        self.am.alerts(&self.run).await
    }

    /// What the Alertmanager told its receiver, by labels and start: `STATUS LABELS
    /// START..END`. Two pages about the same are two lines.
    pub fn pages(&self) -> Vec<String> {
        let pages = self.am.pages.lock().unwrap();
        let line = |page: &Json| Some((self.line(page)?, page["status"].as_str()?.to_owned()));
        let mut lines: Vec<_> = pages.iter().filter_map(line).collect();
        lines.sort();
        lines.into_iter().map(|(line, status)| format!("{status} {line}")).collect()
    }

    /// Waits until these pages, and no others, were sent.
    pub async fn paged(&self, what: &str, expected: &[&str]) {
        let expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
        reaches(what, &expected, async || self.pages()).await;
    }

    /// All samples of a metric, a line for each series: `LABELS SECONDS=VALUE ...`. A value
    /// that goes on is not repeated: `10=1 20 30`; a series that ends: `40=stale`. Values of
    /// `ALERTS_FOR_STATE` are seconds since the rig's zero, too.
    pub async fn stored(&self, name: &str) -> Vec<String> {
        let request = SelectRequest {
            matchers: vec![Matcher::equal("__name__", name)],
            from_ms: self.zero - 1000 * SECOND,
            to_ms: self.zero + 10_000 * SECOND,
            hints: SelectHints::default(),
        };
        let found = Source::select(&*self.tsdb, &request).await.unwrap();
        let mut out = Vec::new();
        for series in found.series {
            let mut samples = RawSamples::default();
            series.read_into(request.from_ms, request.to_ms, &mut samples).unwrap();
            let mut line = series.labels().retain(|n| n != "__name__").to_string();
            let mut last = String::new();
            for (ts, v) in samples.ts.iter().zip(&samples.vs) {
                let value = match name {
                    _ if is_stale_nan(*v) => "stale".to_owned(),
                    "ALERTS_FOR_STATE" => self.seconds(*v as i64 * SECOND),
                    _ => v.to_string(),
                };
                line.push_str(&format!(" {}", self.seconds(*ts)));
                if value != last {
                    line.push_str(&format!("={value}"));
                }
                last = value;
            }
            out.push(line);
        }
        out.sort();
        out
    }

    /// The value of one of the notifier's metrics for an Alertmanager.
    pub fn sent_metric(&self, name: &str, address: SocketAddr) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.notifier_metrics).unwrap();
        let start = format!(
            "prometheus_notifications_{name}{{alertmanager=\"http://{address}/api/v2/alerts\"}} "
        );
        let value = text.lines().find_map(|l| l.strip_prefix(&start));
        value.unwrap_or_else(|| panic!("no {start}in\n{text}")).parse().unwrap()
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            // A file that nothing needs any more may be deleted meanwhile.
            let _ = std::fs::copy(entry.path(), to);
        }
    }
}
