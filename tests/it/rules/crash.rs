//! `watchfire serve`, killed again and again while alerts come and go.
//!
//! The test writes the samples itself and takes the place of the Alertmanager, so it knows
//! what was true when, what the process could know, and what it told. Afterwards it holds
//! one against the other. `WATCHFIRE_CRASH_RUNS` sets how often the process is killed,
//! `WATCHFIRE_CRASH_SEED` repeats a run's choices.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use watchfire::model::Clock;
use watchfire::remote_write::{encode, proto};
use watchfire::telemetry::clock::SystemClock;

use crate::support::{Program, free_address, http_get};

const INSTANCES: usize = 6;
const PATIENCE: Duration = Duration::from_secs(30);
/// Time in which a living process has evaluated, sent, and sent again what was refused,
/// on a machine that has more to do.
const ENOUGH_MS: i64 = 2000;

/// An alert of the rules below.
#[derive(Clone, Copy)]
struct Rule {
    name: &'static str,
    for_ms: i64,
    keep_ms: i64,
    /// Its expression has no result just after a gap in the samples.
    needs_window: bool,
}

const fn rule(name: &'static str, for_ms: i64, keep_ms: i64) -> Rule {
    Rule { name, for_ms, keep_ms, needs_window: false }
}

const ALERTS: [Rule; 5] = [
    rule("Plain", 0, 0),
    Rule { needs_window: true, ..rule("Window", 0, 0) },
    rule("Wait", 1000, 0),
    rule("Long", 2000, 0),
    rule("Kept", 0, 1500),
];

const RULES: &str = "
groups:
- name: crash
  interval: 150ms
  rules:
  - {alert: Plain, expr: condition == 1}
  - {alert: Window, expr: 'condition == 1 and count_over_time(condition[1s]) >= 2'}
  - {alert: Wait, expr: condition == 1, for: 1s}
  - {alert: Long, expr: condition == 1, for: 2s}
  - {alert: Kept, expr: condition == 1, keep_firing_for: 1500ms}
";

type Conditions = [bool; INSTANCES];
/// A span of time, ends included.
type Span = (i64, i64);

fn now_ms() -> i64 {
    SystemClock::default().now_ms()
}

/// Samples that were written. One at a time is under way.
#[derive(Clone, Copy)]
struct Push {
    at_ms: i64,
    conditions: Conditions,
    /// When the process said that it has them. It may have them without saying so.
    acknowledged_ms: Option<i64>,
}

/// A notification that was taken.
#[derive(Clone, Debug)]
struct Told {
    at_ms: i64,
    alert: String,
    instance: usize,
    starts_ms: i64,
    ends_ms: i64,
}

impl Told {
    fn is_resolved(&self) -> bool {
        self.ends_ms <= self.at_ms
    }
}

#[derive(Default)]
struct World {
    conditions: Mutex<Conditions>,
    /// The process that is ready.
    process: Mutex<Option<SocketAddr>>,
    pushes: Mutex<Vec<Push>>,
    told: Mutex<Vec<Told>>,
    refuses: AtomicBool,
}

async fn alerts(State(world): State<Arc<World>>, Json(alerts): Json<Value>) -> StatusCode {
    if world.refuses.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let at_ms = now_ms();
    let told = alerts.as_array().unwrap().iter().map(|alert| Told {
        at_ms,
        alert: alert["labels"]["alertname"].as_str().unwrap().to_owned(),
        instance: instance(alert),
        starts_ms: time(&alert["startsAt"]),
        ends_ms: time(&alert["endsAt"]),
    });
    world.told.lock().unwrap().extend(told);
    StatusCode::OK
}

fn instance(alert: &Value) -> usize {
    alert["labels"]["i"].as_str().unwrap().parse().unwrap()
}

fn time(value: &Value) -> i64 {
    let text = value.as_str().unwrap();
    chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
}

/// Writes the conditions every 100 ms, while there is a process.
fn push(world: &World) {
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let Some(process) = *world.process.lock().unwrap() else { continue };
        let (at_ms, conditions) = (now_ms(), *world.conditions.lock().unwrap());
        let acknowledged_ms = write(process, at_ms, conditions).then(now_ms);
        world.pushes.lock().unwrap().push(Push { at_ms, conditions, acknowledged_ms });
    }
}

fn write(process: SocketAddr, at_ms: i64, conditions: Conditions) -> bool {
    let label = |name: &str, value: String| proto::Label { name: name.to_owned(), value };
    let series = |(i, condition): (usize, &bool)| proto::TimeSeries {
        labels: vec![label("__name__", "condition".to_owned()), label("i", i.to_string())],
        samples: vec![proto::Sample { value: f64::from(u8::from(*condition)), timestamp: at_ms }],
        ..proto::TimeSeries::default()
    };
    let timeseries = conditions.iter().enumerate().map(series).collect();
    let request = proto::WriteRequest { timeseries, ..proto::WriteRequest::default() };
    let body = encode(&request).expect("an encoded request");
    let head = format!(
        "POST /api/v1/write HTTP/1.1\r\nHost: w\r\nContent-Type: application/x-protobuf\r\n\
         Content-Encoding: snappy\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let exchange = || {
        let mut stream = TcpStream::connect(process)?;
        stream.write_all(&[head.as_bytes(), &body].concat())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    exchange().is_ok_and(|answer| answer.starts_with("HTTP/1.1 204"))
}

/// What the API said is active at a time: since when, by alert and instance.
struct Look {
    at_ms: i64,
    life: usize,
    active: Vec<(String, usize, i64)>,
}

impl Look {
    fn since(&self, rule: Rule, instance: usize) -> Option<i64> {
        let mut all = self.active.iter();
        all.find(|(name, i, _)| name == rule.name && *i == instance).map(|(_, _, since)| *since)
    }
}

/// One life of the process.
#[derive(Clone, Copy, Debug)]
struct Life {
    ready_ms: i64,
    /// From here on its notifications are refused.
    deaf_ms: i64,
    /// It is killed or told to end.
    end_ms: i64,
    /// How long there was none before.
    gap_ms: i64,
}

struct Run {
    world: Arc<World>,
    receiver: SocketAddr,
    rng: StdRng,
    /// When each condition changes next.
    turns: [i64; INSTANCES],
    lives: Vec<Life>,
    looks: Vec<Look>,
}

impl Run {
    fn start(seed: u64) -> Self {
        let world = Arc::new(World::default());
        let app = Router::new().route("/api/v2/alerts", post(alerts)).with_state(world.clone());
        let (sender, address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                axum::serve(listener, app).await.unwrap();
            });
        });
        let pushed = world.clone();
        std::thread::spawn(move || push(&pushed));
        let (rng, receiver) = (StdRng::seed_from_u64(seed), address.recv().unwrap());
        let (lives, looks) = (Vec::new(), Vec::new());
        Self { world, receiver, rng, turns: [0; INSTANCES], lives, looks }
    }

    /// Lets time pass, and conditions change when it is their turn.
    fn live(&mut self, ms: i64) {
        let end = now_ms() + ms;
        while now_ms() < end {
            let now = now_ms();
            let mut conditions = self.world.conditions.lock().unwrap();
            for (condition, turn) in conditions.iter_mut().zip(&mut self.turns) {
                if now >= *turn {
                    *condition = !*condition;
                    *turn = now + self.rng.random_range(1500..8000);
                }
            }
            drop(conditions);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn serve(&mut self, dir: &Path) -> (Program, SocketAddr) {
        let address = free_address();
        let args = [
            "serve".to_owned(),
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=data".to_owned(),
            "--rules.alert.resend-delay=500ms".to_owned(),
            "--web.enable-remote-write-receiver".to_owned(),
            "--log.level=warn".to_owned(),
            format!("--web.listen-address={address}"),
        ];
        let mut program = Program::watchfire(&args, dir);
        program.wait_ready(&format!("http://{address}/-/ready"));
        (program, address)
    }

    fn look(&mut self, address: SocketAddr) {
        let at_ms = now_ms();
        let (_, body) = http_get(&format!("http://{address}/api/v1/alerts")).expect("an answer");
        let answer: Value = serde_json::from_str(&body).unwrap();
        let alerts = answer["data"]["alerts"].as_array().unwrap().iter().map(|alert| {
            let name = alert["labels"]["alertname"].as_str().unwrap().to_owned();
            (name, instance(alert), time(&alert["activeAt"]))
        });
        self.looks.push(Look { at_ms, life: self.lives.len(), active: alerts.collect() });
    }

    /// One life of the process, of this length once it is ready; for the last part of it
    /// notifications are refused. `kill` ends it with SIGKILL.
    fn life(&mut self, dir: &Path, ms: i64, refuses_ms: i64, kill: bool) {
        let (mut program, address) = self.serve(dir);
        let ready_ms = now_ms();
        *self.world.process.lock().unwrap() = Some(address);
        self.look(address);
        self.live(ms - refuses_ms);
        let deaf_ms = now_ms();
        self.world.refuses.store(refuses_ms > 0, Ordering::Relaxed);
        self.live(refuses_ms);
        self.look(address);
        let end_ms = now_ms();
        let gap_ms = self.lives.last().map_or(0, |life: &Life| ready_ms - life.end_ms);
        self.lives.push(Life { ready_ms, deaf_ms, end_ms, gap_ms });
        if kill {
            program.kill();
        } else {
            let status = program.terminate(PATIENCE).expect("it ends on SIGTERM");
            assert!(status.success(), "{status}:\n{}", program.log());
        }
        *self.world.process.lock().unwrap() = None;
        let log = program.log();
        assert!(!log.contains("alert state") && !log.contains("BUG"), "{log}");
        self.world.refuses.store(false, Ordering::Relaxed);
        if self.rng.random_bool(0.3) {
            self.live(1200);
        }
    }

    fn judge(&self) -> Verdict {
        let mut verdict = Verdict::default();
        let told = self.world.told.lock().unwrap().clone();
        for instance in 0..INSTANCES {
            let history = History::new(&self.world.pushes.lock().unwrap(), instance);
            for rule in ALERTS {
                let told: Vec<Told> = told
                    .iter()
                    .filter(|t| t.instance == instance && t.alert == rule.name)
                    .cloned()
                    .collect();
                let case = Case { run: self, history: &history, rule, instance, told: &told };
                case.judge_ends(&mut verdict);
                case.judge_beginnings(&mut verdict);
                case.judge_looks(&mut verdict);
                for episode in &history.episodes {
                    case.judge_delivery(&mut verdict, *episode);
                }
            }
        }
        verdict
    }
}

/// What was written of one condition.
struct History {
    pushes: Vec<(Push, bool)>,
    episodes: Vec<Episode>,
}

/// A condition that holds, from the first sample that says so.
#[derive(Clone, Copy, Debug)]
struct Episode {
    begin_ms: i64,
    /// The last sample that says so.
    end_ms: i64,
    /// The beginning of the next one.
    next_ms: i64,
}

impl History {
    fn new(pushes: &[Push], instance: usize) -> Self {
        let pushes: Vec<_> = pushes.iter().map(|p| (*p, p.conditions[instance])).collect();
        let mut episodes: Vec<Episode> = Vec::new();
        let mut held = false;
        // Nobody but a process that has a sample acts upon it.
        for (push, holds) in pushes.iter().filter(|(push, _)| push.acknowledged_ms.is_some()) {
            let at = push.at_ms;
            match (held, *holds) {
                (false, true) => {
                    if let Some(before) = episodes.last_mut() {
                        before.next_ms = at;
                    }
                    episodes.push(Episode { begin_ms: at, end_ms: at, next_ms: i64::MAX });
                }
                (true, true) => episodes.last_mut().unwrap().end_ms = at,
                (_, false) => {}
            }
            held = *holds;
        }
        Self { pushes, episodes }
    }

    /// The episode that an alert that began to be something at a time belongs to.
    fn episode_at(&self, at_ms: i64) -> Option<Episode> {
        self.episodes.iter().rev().find(|e| e.begin_ms <= at_ms).copied()
    }

    /// Times of the samples in a span that said "no", whether acknowledged or not.
    fn denials(&self, (from, to): Span) -> impl Iterator<Item = i64> {
        let no = self.pushes.iter().filter(|(_, holds)| !holds).map(|(push, _)| push.at_ms);
        no.filter(move |at| (from..=to).contains(at))
    }

    fn is_denied(&self, span: Span) -> bool {
        self.denials(span).next().is_some()
    }
}

#[derive(Debug, Default)]
struct Verdict {
    false_resolves: Vec<String>,
    restarted: Vec<String>,
    too_early: Vec<String>,
    lost_pages: Vec<String>,
    lost_ends: Vec<String>,
    /// How much there was to be wrong about.
    resolves: usize,
    active_over_a_kill: usize,
    pages: usize,
    ends: usize,
}

/// One rule's alert about one condition.
struct Case<'a> {
    run: &'a Run,
    history: &'a History,
    rule: Rule,
    instance: usize,
    told: &'a [Told],
}

impl Case<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.rule.name, self.instance)
    }

    /// Whether the samples of the last second were too few, and not because of a restart.
    fn lacks_window(&self, at_ms: i64) -> bool {
        let pushes = self.history.pushes.iter().filter(|(push, _)| {
            push.acknowledged_ms.is_some() && (at_ms - 1000..=at_ms).contains(&push.at_ms)
        });
        let life = self.run.lives.iter().rev().find(|life| life.ready_ms <= at_ms);
        let settled = life.is_some_and(|life| at_ms - life.ready_ms > life.gap_ms);
        self.rule.needs_window && pushes.count() < 4 && settled
    }

    /// What ended had ended, and was kept for as long as it is to be kept.
    fn judge_ends(&self, verdict: &mut Verdict) {
        let ended = self.told.iter().filter(|t| t.is_resolved());
        let ended: BTreeSet<Span> = ended.map(|t| (t.starts_ms, t.ends_ms)).collect();
        verdict.resolves += ended.len();
        for (start, end) in ended {
            let episode = self.history.episode_at(start);
            let since = episode.map_or(start, |episode| episode.begin_ms);
            if !self.history.is_denied((since, end - self.rule.keep_ms)) && !self.lacks_window(end)
            {
                verdict.false_resolves.push(format!("{}: {start}..{end}", self.name()));
            }
        }
    }

    /// What fired did so once, and not before its time.
    fn judge_beginnings(&self, verdict: &mut Verdict) {
        let starts: BTreeSet<i64> = self.told.iter().map(|t| t.starts_ms).collect();
        let starts: Vec<i64> = starts.into_iter().collect();
        for start in &starts {
            // Two denials to one process, long enough apart for it to have looked, and not
            // just after its start, when absence may not be believed.
            let denials: Vec<i64> =
                self.history.denials((start - self.rule.for_ms, *start)).collect();
            let seen = self.run.lives.iter().any(|life| {
                let believed_ms = life.ready_ms + 2 * life.gap_ms + 500;
                let of_life = denials.iter().filter(|at| (believed_ms..=life.end_ms).contains(at));
                let (first, last) = (of_life.clone().min(), of_life.max());
                first.zip(last).is_some_and(|(first, last)| last - first > 800)
            });
            if seen {
                verdict.too_early.push(format!("{}: {start}", self.name()));
            }
        }
        for pair in starts.windows(2) {
            let since = self.history.episode_at(pair[0]).map_or(pair[0], |e| e.begin_ms);
            if !self.history.is_denied((since, pair[1])) && !self.rule.needs_window {
                verdict.restarted.push(format!("{} fired twice: {pair:?}", self.name()));
            }
        }
    }

    /// What was active before the process died is active since then afterwards.
    fn judge_looks(&self, verdict: &mut Verdict) {
        for pair in self.run.looks.windows(2) {
            let [before, after] = pair else { continue };
            let Some(since) = before.since(self.rule, self.instance) else { continue };
            let begin = self.history.episode_at(since).map_or(since, |e| e.begin_ms);
            if before.life == after.life || self.history.is_denied((begin, after.at_ms)) {
                continue;
            }
            verdict.active_over_a_kill += 1;
            let now = after.since(self.rule, self.instance);
            if now != Some(since) {
                verdict.restarted.push(format!(
                    "{}: active since {since}, seen at {}, after a kill since {now:?}",
                    self.name(),
                    before.at_ms
                ));
            }
        }
    }

    /// Where there was time to tell it, it was told.
    fn judge_delivery(&self, verdict: &mut Verdict, episode: Episode) {
        let Episode { begin_ms, end_ms, next_ms } = episode;
        let (for_ms, keep_ms) = (self.rule.for_ms, self.rule.keep_ms);
        let could_page = self.run.lives.iter().any(|life| {
            life.ready_ms.max(begin_ms + for_ms) + ENOUGH_MS <= life.deaf_ms.min(end_ms)
        });
        let of_episode: Vec<&Told> = self
            .told
            .iter()
            .filter(|t| {
                self.history.episode_at(t.starts_ms).is_some_and(|e| e.begin_ms == begin_ms)
            })
            .collect();
        // The alert of the episode before may go on when it is kept for longer than the gap.
        let told =
            |t: &Told| !t.is_resolved() && (begin_ms..=end_ms + ENOUGH_MS).contains(&t.at_ms);
        if could_page {
            verdict.pages += 1;
            if !self.told.iter().any(told) {
                verdict.lost_pages.push(format!("{}: {episode:?}", self.name()));
            }
        }
        let fired = of_episode.iter().filter(|t| !t.is_resolved()).map(|t| t.starts_ms);
        let Some(start) = fired.max() else { return };
        let could_end = self.run.lives.iter().any(|life| {
            // After a start the end is not believed for twice as long as the process was down.
            let from = (life.ready_ms + 2 * life.gap_ms).max(end_ms + keep_ms);
            from + ENOUGH_MS <= life.deaf_ms.min(next_ms)
        });
        if could_end {
            verdict.ends += 1;
            if !of_episode.iter().any(|t| t.is_resolved() && t.starts_ms == start) {
                verdict.lost_ends.push(format!("{}: {episode:?} since {start}", self.name()));
            }
        }
    }
}

#[test]
fn killed_at_any_time_no_alert_is_lost_restarted_or_ended_falsely() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let kills = number("WATCHFIRE_CRASH_RUNS").unwrap_or(8);
    let seed = number("WATCHFIRE_CRASH_SEED").unwrap_or_else(|| rand::rng().random());
    eprintln!("{kills} kills, WATCHFIRE_CRASH_SEED={seed}");
    let dir = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(seed);
    let config = format!(
        "rule_files: [rules.yml]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{}']}}]}}]}}\n",
        run.receiver
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).expect("a config");
    std::fs::write(dir.path().join("rules.yml"), RULES).expect("rules");
    let mut killed = 0;
    while killed < kills {
        let kill = run.rng.random_bool(0.9);
        let refuses = run.rng.random_bool(0.3);
        let long = run.rng.random_bool(0.15);
        let ms = run.rng.random_range(if long { 4000..7000 } else { 50..2500 });
        run.life(dir.path(), ms, if refuses { ms / 3 } else { 0 }, kill);
        killed += u64::from(kill);
    }
    // In the end nothing is true any more, and there is time to tell it.
    run.turns = [i64::MAX; INSTANCES];
    *run.world.conditions.lock().unwrap() = [false; INSTANCES];
    run.life(dir.path(), 10_000, 0, false);
    let verdict = run.judge();
    println!("{verdict:#?}");
    for (what, found) in [
        ("ended although their condition held", &verdict.false_resolves),
        ("began anew", &verdict.restarted),
        ("fired before their time", &verdict.too_early),
        ("were never told", &verdict.lost_pages),
        ("were never told to have ended", &verdict.lost_ends),
    ] {
        assert!(found.is_empty(), "alerts {what} (WATCHFIRE_CRASH_SEED={seed}): {found:#?}");
    }
    assert!(verdict.resolves > 0 && verdict.active_over_a_kill > 0 && verdict.ends > 0);
}
