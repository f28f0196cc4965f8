//! The set of groups that runs: loading, replacing, stopping, and what the API shows.
//!
//! What a load cannot use it sets aside, and what ran in its place before goes on; with
//! `strict`, a load that fails in any file changes nothing. A group that did not change
//! runs on untouched; one that did hands its alerts and series to its successor; one that is gone
//! ends its series two intervals later. The process' own end ends no series.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::budget::{AlertBudget, Load};
use super::config::{
    GroupSpec, LoadOptions, LoadedFile, Problem, ProblemKind, Rejected, Scope, Severity,
    load_fetched, load_file, load_source,
};
use super::group::{Context, Defaults, External, Group, key};
use super::last_good::LastGood;
use super::mates;
use super::metrics::Metrics;
use super::policy::RulePolicyDefaults;
use super::quarantine::{Quarantined, counts, mark, merge};
use super::reach::Writers;
use super::scheduler::{retire, supervise};
use super::state::{GroupFate, Peer, Restart, StateLog, handover};
use super::view::{GroupCostView, GroupView, QuarantinedView, RulesView};
use super::waves::EvaluationOptions;
use crate::model::duration::format_duration;
use crate::model::labels::quote;
use crate::model::{Clock, Labels};
use crate::notifier::Notifier;
use crate::query::{Engine, RunOptions};
use crate::storage::{Sink, Source};

/// How long a stopping manager lets queries finish before it cancels them.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);

/// What a manager works with for its whole life.
pub struct ManagerOptions {
    pub engine: Arc<Engine>,
    pub source: Arc<dyn Source>,
    pub sink: Arc<dyn Sink>,
    pub notifier: Arc<dyn Notifier>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    /// `--rules.alert.resend-delay`, 1m.
    pub resend_delay_ms: i64,
    /// `--rules.alert.for-outage-tolerance`, 1h.
    pub outage_tolerance_ms: i64,
    /// `--rules.alert.for-grace-period`, 10m.
    pub grace_period_ms: i64,
    pub load: LoadOptions,
    /// `--rules.on-no-data` and its like: what holds where a rule file says nothing.
    pub policy: RulePolicyDefaults,
    /// `--rules.strict`: one error anywhere refuses the whole load.
    pub strict: bool,
    /// Where copies of good rule files are kept, for a start with bad ones. Not with
    /// `strict`.
    pub last_good_dir: Option<PathBuf>,
    pub evaluation: EvaluationOptions,
    /// Which of the groups run here; all of them when there is none.
    pub shard: Option<Shard>,
    /// Where alerts that nothing is remembered of are restored from, instead of the source:
    /// one who runs the same rules and was there meanwhile.
    pub peer: Option<Arc<dyn Source>>,
    /// The same one, asked for all it knows of its alerts.
    pub handover: Option<Arc<dyn Peer>>,
}

/// What a reload may change.
#[derive(Clone, Debug)]
pub struct RuleSettings {
    pub sources: Vec<RuleSource>,
    /// `global.evaluation_interval`
    pub interval_ms: i64,
    /// `global.rule_query_offset`
    pub query_offset_ms: i64,
    pub external: External,
}

/// Where rules come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleSource {
    /// A path or glob pattern, absolute or relative to the working directory. One that
    /// matches nothing is no error, as in Prometheus.
    Pattern(String),
    /// Rules that lie in the program; `file` is the name they go by.
    Text { file: String, source: String },
    /// Rules that were had from elsewhere, or why they could not be had: then what was good
    /// last goes on.
    Fetched { file: String, source: Result<Arc<str>, String> },
}

/// A share of the groups, for several processes that divide the same rules among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 1 to `count`.
    pub number: u64,
    pub count: u64,
}

impl Shard {
    /// Whether a group belongs to it. Files are told apart by their last part alone, so that
    /// they may lie elsewhere in each process.
    fn has(&self, spec: &GroupSpec) -> bool {
        let file = spec.file.rsplit('/').next().unwrap_or_default();
        let labels = Labels::from_pairs([("file", file), ("group", spec.name.as_str())]);
        labels.hash64() % self.count == self.number - 1
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    /// Reads `2/3`.
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/');
        let numbers = numbers.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((number, count)) if (1..=count).contains(&number) => Ok(Self { number, count }),
            _ => Err(format!("{text:?} is not a share such as 1/3, 2/3 or 3/3")),
        }
    }
}

/// What went wrong with a load.
#[derive(Clone, Debug, Error)]
pub enum UpdateError {
    /// Every error of every file. Nothing changed.
    #[error("error loading rules, previous rule set restored: {}", list(.0))]
    Load(Vec<Problem>),
    /// Every error of every file. What can be used is used; what cannot is set aside, and
    /// its last good version goes on.
    #[error(
        "error loading rules, what cannot be used is set aside and its last good version \
         goes on: {}",
        list(.0)
    )]
    Quarantined(Vec<Problem>),
    #[error("the rule manager has been shut down")]
    ShutDown,
}

/// Most errors one text lists; the log has them all.
const LISTED_MAX: usize = 1000;

/// Every error, on lines of their own when there are several.
fn list(problems: &[Problem]) -> String {
    if let [only] = problems {
        return only.placed();
    }
    let mut text = format!("{} errors", problems.len());
    for problem in problems.iter().take(LISTED_MAX) {
        text.push('\n');
        text.push_str(&problem.placed());
    }
    if let Some(more @ 1..) = problems.len().checked_sub(LISTED_MAX) {
        text.push_str(&format!("\nand {more} more, which are in the log"));
    }
    text
}

/// What a load has come to.
struct Prepared {
    groups: Vec<Arc<Group>>,
    errors: Vec<Problem>,
    quarantined: Vec<Quarantined>,
}

/// A group and the task that evaluates it.
struct Running {
    group: Arc<Group>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Runs rule groups. One per process; share it by `Arc`.
pub struct Manager {
    context: Arc<Context>,
    load: LoadOptions,
    policy: RulePolicyDefaults,
    strict: bool,
    shard: Option<Shard>,
    last_good: Option<LastGood>,
    /// By group key; held for the length of an update.
    running: tokio::sync::Mutex<HashMap<String, Running>>,
    /// For readers, who never wait for an update.
    groups: Mutex<Vec<Arc<Group>>>,
    /// What the last load set aside.
    quarantine: Mutex<Arc<[Quarantined]>>,
    /// A first load has succeeded: groups that come later have nothing to restore.
    loaded: AtomicBool,
    shutdown: CancellationToken,
}

impl Manager {
    /// A manager without groups.
    pub fn new(options: ManagerOptions) -> Arc<Self> {
        let active = options.metrics.active_alerts.clone();
        let RulePolicyDefaults { max_active_alerts, active_alerts_bytes, .. } = options.policy;
        let most = Load { alerts: max_active_alerts, bytes: active_alerts_bytes };
        Arc::new(Self {
            context: Arc::new(Context {
                engine: options.engine,
                peer: options.peer,
                handover: options.handover,
                source: options.source,
                sink: options.sink,
                notifier: options.notifier,
                clock: options.clock,
                metrics: options.metrics,
                resend_delay_ms: options.resend_delay_ms,
                outage_tolerance_ms: options.outage_tolerance_ms,
                grace_period_ms: options.grace_period_ms,
                budget: AlertBudget::new(most, active),
                annotate_resolved: options.policy.annotate_resolved,
                state: OnceLock::new(),
                external: ArcSwap::default(),
                run: RunOptions::default(),
                evaluation: options.evaluation,
            }),
            load: options.load,
            policy: options.policy,
            strict: options.strict,
            shard: options.shard,
            last_good: options.last_good_dir.filter(|_| !options.strict).map(LastGood::new),
            running: tokio::sync::Mutex::default(),
            groups: Mutex::default(),
            quarantine: Mutex::new(Arc::new([])),
            loaded: AtomicBool::new(false),
            shutdown: CancellationToken::new(),
        })
    }

    /// Makes alerts go on from what a log holds, and go into it. Counts when it comes before
    /// the first [`Manager::update`]; alerts that the log does not know are restored from
    /// storage then, as without one.
    pub fn use_state(&self, log: StateLog) {
        let _ = self.context.state.set(log);
    }

    /// Loads the rules anew and makes them run. Replaced groups have finished their
    /// evaluation when this returns. Alerts of the first load are restored from storage.
    /// What an error changes is said by the error.
    ///
    /// External labels and URL take effect on groups that do not change, too (Prometheus
    /// keeps the old ones until such a group changes).
    ///
    /// Dropping the future does not stop the update: who asked for a reload may go away,
    /// half a reload must not stay.
    pub async fn update(self: &Arc<Self>, settings: RuleSettings) -> Result<(), UpdateError> {
        let manager = self.clone();
        let task = tokio::spawn(async move { manager.apply(settings).await });
        task.await.unwrap_or_else(|e| {
            let message = format!("BUG: loading rules panicked: {e}");
            Err(UpdateError::Load(failure("", message).problems))
        })
    }

    async fn apply(&self, settings: RuleSettings) -> Result<(), UpdateError> {
        let mut running = self.running.lock().await;
        if self.shutdown.is_cancelled() {
            return Err(UpdateError::ShutDown);
        }
        let Prepared { groups: new, errors, quarantined } =
            self.prepare(&settings, &running).await?;
        self.context.external.store(Arc::new(settings.external));
        self.loaded.store(true, Ordering::Relaxed);
        let mut old = std::mem::take(&mut *running);
        let mut order = Vec::with_capacity(new.len());
        let mut start = Vec::new();
        for group in new {
            let key = group.key();
            match old.get(&key).is_some_and(|o| o.group.equals(&group)).then(|| old.remove(&key)) {
                Some(Some(same)) => {
                    order.push(same.group.clone());
                    running.insert(key, same);
                }
                _ => {
                    order.push(group.clone());
                    start.push((group, old.remove(&key)));
                }
            }
        }
        for stopping in start.iter().filter_map(|(_, o)| o.as_ref()).chain(old.values()) {
            stopping.stop.cancel();
        }
        self.link(&order).await;
        let writers = Writers::new(order.iter().map(|group| (&group.spec, group.interval_ms)));
        for (group, replaced) in start {
            if let Some(replaced) = replaced {
                wait(replaced.task).await;
                group.copy_state(&replaced.group);
            }
            let restart = Restart {
                writers: &writers,
                outage_tolerance_ms: self.context.outage_tolerance_ms,
                lookback_ms: self.context.engine.options().lookback_ms,
                now_ms: self.context.clock.now_ms(),
            };
            if let Some(state) = self.context.state.get() {
                state.attach(&group, restart);
            }
            if self.context.handover.is_some() {
                handover::prepare(&group, restart);
            }
            running.insert(group.key(), self.start(group));
        }
        *self.groups.lock() = order;
        for (key, removed) in old {
            wait(removed.task).await;
            self.context.metrics.forget(&key);
            if let Some(state) = self.context.state.get() {
                state.forget_group(&removed.group);
            }
            tokio::spawn(retire(removed.group, self.context.clone(), self.shutdown.clone()));
        }
        if let Some(state) = self.context.state.get() {
            let runs: HashSet<String> = running.keys().cloned().collect();
            state.forget_unclaimed(|file, name| {
                // What was set aside may be mended, and then goes on.
                match quarantined.iter().any(|q| q.concerns(file, name)) {
                    true => GroupFate::Unread,
                    false if runs.contains(&key(file, name)) => GroupFate::Runs,
                    false => GroupFate::Gone,
                }
            });
        }
        self.context.metrics.set_quarantined(counts(&quarantined));
        *self.quarantine.lock() = quarantined.into();
        if errors.is_empty() { Ok(()) } else { Err(UpdateError::Quarantined(errors)) }
    }

    /// Stops every group after the rule it is evaluating and waits for that; queries that
    /// take long are cancelled. No series ends by it.
    pub async fn shutdown(&self) {
        self.shutdown.cancel();
        let mut running = self.running.lock().await;
        for group in running.values() {
            group.stop.cancel();
        }
        let cancel = self.context.run.cancel.clone();
        let impatience = tokio::spawn(async move {
            tokio::time::sleep(SHUTDOWN_PATIENCE).await;
            cancel.cancel();
        });
        for (_, group) in running.drain() {
            wait(group.task).await;
        }
        impatience.abort();
        if let Some(state) = self.context.state.get().cloned() {
            let closed = tokio::task::spawn_blocking(move || state.close()).await;
            if let Err(error) = closed {
                tracing::error!(%error, "BUG: closing the alert state log died");
            }
        }
    }

    /// Tells groups that tick together of each other, and people of circles among rules.
    async fn link(&self, groups: &[Arc<Group>]) {
        let (groups, shared) = (groups.to_vec(), self.context.evaluation.shared);
        match tokio::task::spawn_blocking(move || mates::link(&groups, shared)).await {
            Ok(problems) => problems.iter().for_each(report),
            Err(error) => tracing::error!(%error, "BUG: ordering rule groups panicked"),
        }
    }

    fn start(&self, group: Arc<Group>) -> Running {
        group.publish();
        let stop = self.shutdown.child_token();
        let task = tokio::spawn(supervise(group.clone(), self.context.clone(), stop.clone()));
        Running { group, stop, task }
    }

    /// Reads all files and plans all groups. An error means that nothing is to change.
    async fn prepare(
        &self,
        settings: &RuleSettings,
        running: &HashMap<String, Running>,
    ) -> Result<Prepared, UpdateError> {
        let (loaded, copies) = self.read(settings).await;
        let defaults = Defaults {
            interval_ms: settings.interval_ms,
            query_offset_ms: settings.query_offset_ms,
            policy: self.policy,
            align_groups: self.context.evaluation.align_groups,
        };
        let mut errors: Vec<Problem> = Vec::new();
        for file in &loaded {
            file.problems.iter().for_each(report);
            errors.extend(file.errors().cloned());
        }
        if self.strict && !errors.is_empty() {
            return Err(UpdateError::Load(errors));
        }
        let current = self.groups.lock().clone();
        let current = current.iter().map(|group| &group.spec);
        let last_good: Vec<&GroupSpec> = current.chain(&copies).collect();
        let (mut specs, mut quarantined) = merge(loaded, &last_good);
        if let Some(shard) = self.shard {
            specs.retain(|spec| shard.has(spec));
        }
        let mut groups = Vec::with_capacity(specs.len());
        for spec in specs {
            let (key, file, name) =
                (key(&spec.file, &spec.name), spec.origin.clone(), spec.name.clone());
            match self.plan(spec, defaults) {
                Ok(group) => groups.push(group),
                Err(problem) => {
                    report(&problem);
                    let last_good = running.get(&key).map(|running| running.group.clone());
                    let runs = last_good.as_ref().map(|_| key);
                    quarantined.push(Quarantined::group(&file, name, &problem, runs));
                    groups.extend(last_good);
                    errors.push(problem);
                }
            }
        }
        if self.strict && !errors.is_empty() {
            return Err(UpdateError::Load(errors));
        }
        Ok(Prepared { groups, errors, quarantined })
    }

    /// All files, and what those with errors held when they were good, if nothing of it runs
    /// yet.
    async fn read(&self, settings: &RuleSettings) -> (Vec<LoadedFile>, Vec<GroupSpec>) {
        let (sources, interval_ms) = (settings.sources.clone(), settings.interval_ms);
        let (options, store) = (self.load, self.last_good.clone());
        let first = !self.loaded.load(Ordering::Relaxed);
        let read = tokio::task::spawn_blocking(move || {
            let mut loaded = load_all(&sources, &options);
            loaded.iter_mut().for_each(|file| refuse_offsets(file, interval_ms));
            let mut copies = Vec::new();
            if let Some(store) = store {
                let in_doubt = |f: &LoadedFile| f.rejected.iter().any(|r| r.scope == Scope::Source);
                store.keep(&loaded, !loaded.iter().any(in_doubt));
                if first {
                    copies = store.groups(&loaded, &options);
                }
            }
            (loaded, copies)
        });
        read.await.unwrap_or_else(|e| {
            (vec![failure("", format!("BUG: reading rules panicked: {e}"))], Vec::new())
        })
    }

    fn plan(&self, spec: GroupSpec, defaults: Defaults) -> Result<Arc<Group>, Problem> {
        let (file, at, name) = (spec.file.clone(), spec.at, spec.name.clone());
        let restored = self.loaded.load(Ordering::Relaxed);
        let cx = &self.context;
        Group::new(spec, defaults, &cx.engine, &cx.metrics, restored).map(Arc::new).map_err(|e| {
            Problem {
                file,
                severity: Severity::Error,
                kind: ProblemKind::Rule,
                position: Some(at),
                message: format!("{at}: group \"{name}\": {e}"),
            }
        })
    }
}

impl Manager {
    /// What a replica that takes over must know of the alerts of a group; `None` when no such
    /// group runs here. Of files, the last part of the path counts when no whole one does:
    /// replicas may have them elsewhere.
    pub fn handover(&self, file: &str, group: &str) -> Option<Vec<u8>> {
        let groups = self.groups.lock().clone();
        let last = |path: &str| path.rsplit('/').next().map(str::to_owned);
        let named = || groups.iter().filter(|g| g.spec.name == group);
        let found = named().find(|g| g.spec.file == file).or_else(|| {
            let mut alike = named().filter(|g| last(&g.spec.file) == last(file));
            alike.next().filter(|_| alike.next().is_none())
        });
        found.map(|group| handover::told(group))
    }
}

impl RulesView for Manager {
    fn handover(&self, file: &str, group: &str) -> Option<Vec<u8>> {
        Manager::handover(self, file, group)
    }

    fn groups(&self) -> Vec<GroupView> {
        let groups = self.groups.lock().clone();
        let mut views: Vec<GroupView> = groups.iter().map(|g| g.view()).collect();
        let quarantine = self.quarantine.lock().clone();
        mark(&mut views, &quarantine);
        views
    }

    fn quarantined(&self) -> Vec<QuarantinedView> {
        let quarantine = self.quarantine.lock().clone();
        quarantine.iter().map(Quarantined::view).collect()
    }

    fn costs(&self) -> Vec<GroupCostView> {
        let groups = self.groups.lock().clone();
        groups.iter().map(|g| g.costs()).collect()
    }
}

/// Sets groups aside whose offset does not fit into the interval they have by default;
/// where a group names its interval itself, reading the file found this already.
fn refuse_offsets(file: &mut LoadedFile, interval_ms: i64) {
    let unfit = |g: &GroupSpec| {
        g.interval_ms.is_none() && g.eval_offset_ms.is_some_and(|o| o.abs() > interval_ms)
    };
    let (refused, groups): (Vec<_>, Vec<_>) =
        std::mem::take(&mut file.groups).into_iter().partition(unfit);
    file.groups = groups;
    for GroupSpec { file: of, name, at, .. } in refused {
        let problem = Problem {
            file: file.file.clone(),
            severity: Severity::Error,
            kind: ProblemKind::Rule,
            position: Some(at),
            message: format!(
                "{at}: group {}: field 'eval_offset': more than the interval of {} \
                 (global.evaluation_interval)",
                quote(&name),
                format_duration(interval_ms)
            ),
        };
        file.problems.push(problem.clone());
        let scope = Scope::Group { file: of, name };
        file.rejected.push(Rejected { scope, problems: vec![problem] });
    }
}

async fn wait(task: JoinHandle<()>) {
    if let Err(error) = task.await {
        tracing::error!(%error, "BUG: the task of a rule group died");
    }
}

fn report(problem: &Problem) {
    match problem.severity {
        Severity::Error => {
            tracing::error!(location = problem.location(), error = %problem, "loading rules failed")
        }
        Severity::Warning => tracing::warn!(location = problem.location(), "{problem}"),
        Severity::Note => tracing::info!(location = problem.location(), "{problem}"),
    }
}

fn failure(file: &str, message: String) -> LoadedFile {
    let problem = Problem {
        file: file.to_owned(),
        severity: Severity::Error,
        kind: ProblemKind::Syntax,
        position: None,
        message,
    };
    LoadedFile::unusable(file.to_owned(), Scope::Source, problem)
}

/// Every file once, sorted by name; files given as text among them.
pub fn load_all(sources: &[RuleSource], options: &LoadOptions) -> Vec<LoadedFile> {
    let mut seen = HashSet::new();
    let mut files = Vec::new();
    for source in sources {
        match source {
            RuleSource::Text { file, source } if seen.insert(file.clone()) => {
                files.push(load_source(file, source, options));
            }
            RuleSource::Text { .. } => {}
            RuleSource::Fetched { file, source } if seen.insert(file.clone()) => {
                files.push(load_fetched(file, source, options));
            }
            RuleSource::Fetched { .. } => {}
            RuleSource::Pattern(pattern) => match glob::glob(pattern) {
                Err(e) => files.push(failure(pattern, format!("bad pattern: {e}"))),
                Ok(paths) => {
                    for path in paths {
                        match path {
                            Ok(p) if seen.insert(p.display().to_string()) => {
                                files.push(load_file(&p, options));
                            }
                            Ok(_) => {}
                            Err(e) => files.push(failure(pattern, format!("cannot read: {e}"))),
                        }
                    }
                }
            },
        }
    }
    files.sort_by(|a, b| a.file.cmp(&b.file));
    files
}
