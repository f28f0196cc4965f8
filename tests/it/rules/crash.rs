//! `watchfire serve`, killed again and again while alerts come and go.
//!
//! The test serves the metrics itself and takes the place of the Alertmanager, so it knows
//! what was true when, what the process could know, and what it told. Afterwards it holds
//! one against the other. `WATCHFIRE_CRASH_RUNS` sets how often the process is killed,
//! `WATCHFIRE_CRASH_SEED` repeats a run.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use watchfire::model::Clock;
use watchfire::telemetry::clock::SystemClock;

use crate::support::{Program, free_address, http_get};

const INSTANCES: usize = 6;
/// How far scrape, evaluation and delivery may lag behind what they are about.
const LAG_MS: i64 = 400;
const PATIENCE: Duration = Duration::from_secs(30);

/// The alerts: name, `for`, `keep_firing_for`.
const ALERTS: [(&str, i64, i64); 5] =
    [("Plain", 0, 0), ("Window", 0, 0), ("Wait", 1000, 0), ("Long", 2000, 0), ("Kept", 0, 1500)];

const RULES: &str = "
groups:
- name: crash
  rules:
  - {alert: Plain, expr: condition == 1}
  # Has no result just after a gap.
  - {alert: Window, expr: 'condition == 1 and count_over_time(condition[1s]) >= 2'}
  - {alert: Wait, expr: condition == 1, for: 1s}
  - {alert: Long, expr: condition == 1, for: 2s}
  - {alert: Kept, expr: condition == 1, keep_firing_for: 1500ms}
";

fn config(target: SocketAddr) -> String {
    format!(
        "global: {{scrape_interval: 100ms, scrape_timeout: 100ms, evaluation_interval: 150ms}}
rule_files: [rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{target}']}}]}}]}}
scrape_configs: [{{job_name: world, static_configs: [{{targets: ['{target}']}}]}}]
"
    )
}

fn now_ms() -> i64 {
    SystemClock::default().now_ms()
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

/// What the API says is active.
#[derive(Clone, Debug)]
struct Seen {
    alert: String,
    instance: usize,
    active_ms: i64,
}

#[derive(Default)]
struct World {
    conditions: Mutex<[bool; INSTANCES]>,
    /// When the metrics were read, and what they were.
    scrapes: Mutex<Vec<(i64, [bool; INSTANCES])>>,
    told: Mutex<Vec<Told>>,
    refuses: AtomicBool,
}

async fn metrics(State(world): State<Arc<World>>) -> String {
    let conditions = *world.conditions.lock().unwrap();
    world.scrapes.lock().unwrap().push((now_ms(), conditions));
    conditions.iter().enumerate().fold(String::new(), |mut text, (i, condition)| {
        let _ = writeln!(text, "condition{{i=\"{i}\"}} {}", u8::from(*condition));
        text
    })
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

/// A span of time, ends included.
type Span = (i64, i64);

struct Run {
    world: Arc<World>,
    target: SocketAddr,
    rng: StdRng,
    /// When each condition changes next.
    turns: [i64; INSTANCES],
    /// When the process was ready, and not yet told to end.
    up: Vec<Span>,
    /// Of that, when its notifications were taken.
    heard: Vec<Span>,
    seen: Vec<(i64, Vec<Seen>)>,
}

impl Run {
    fn start(seed: u64) -> Self {
        let world = Arc::new(World::default());
        let app = Router::new()
            .route("/metrics", get(metrics))
            .route("/api/v2/alerts", post(alerts))
            .with_state(world.clone());
        let (sender, address) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                axum::serve(listener, app).await.unwrap();
            });
        });
        let rng = StdRng::seed_from_u64(seed);
        let target = address.recv().unwrap();
        let (up, heard, seen) = (Vec::new(), Vec::new(), Vec::new());
        Self { world, target, rng, turns: [0; INSTANCES], up, heard, seen }
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
                    *turn = now + self.rng.random_range(1200..6000);
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
            "--log.level=warn".to_owned(),
            format!("--web.listen-address={address}"),
        ];
        let mut program = Program::watchfire(&args, dir);
        program.wait_ready(&format!("http://{address}/-/ready"));
        (program, address)
    }

    fn look(&mut self, address: SocketAddr) {
        let at = now_ms();
        let (_, body) = http_get(&format!("http://{address}/api/v1/alerts")).expect("an answer");
        let answer: Value = serde_json::from_str(&body).unwrap();
        let alerts = answer["data"]["alerts"].as_array().unwrap().iter().map(|alert| Seen {
            alert: alert["labels"]["alertname"].as_str().unwrap().to_owned(),
            instance: instance(alert),
            active_ms: time(&alert["activeAt"]),
        });
        self.seen.push((at, alerts.collect()));
    }

    /// One life of the process; `kill` ends it with SIGKILL.
    fn life(&mut self, dir: &Path, ms: i64, refuses_ms: i64, kill: bool) {
        let (mut program, address) = self.serve(dir);
        let ready = now_ms();
        self.look(address);
        self.live(ms - refuses_ms);
        let deaf = now_ms();
        self.world.refuses.store(refuses_ms > 0, Ordering::Relaxed);
        self.live(refuses_ms);
        if self.rng.random_bool(0.3) {
            self.look(address);
        }
        let end = now_ms();
        self.up.push((ready, end));
        self.heard.push((ready, if refuses_ms > 0 { deaf } else { end }));
        if kill {
            program.kill();
        } else {
            let status = program.terminate(PATIENCE).expect("it ends on SIGTERM");
            assert!(status.success(), "{status}:\n{}", program.log());
        }
        let log = program.log();
        assert!(!log.contains("alert state") && !log.contains("BUG"), "{log}");
        self.world.refuses.store(false, Ordering::Relaxed);
        if self.rng.random_bool(0.3) {
            self.live(1200);
        }
    }

    /// Spans between the first and the last scrape in a row that found the condition true,
    /// with the end of the last one before and the beginning of the next one.
    fn episodes(&self, instance: usize) -> Vec<Episode> {
        let scrapes = self.world.scrapes.lock().unwrap();
        let mut out: Vec<Episode> = Vec::new();
        let mut last_false = Some(0);
        for (at, conditions) in scrapes.iter() {
            match (conditions[instance], last_false.take()) {
                (true, Some(_)) => {
                    if let Some(before) = out.last_mut() {
                        before.next_ms = *at;
                    }
                    out.push(Episode { begin_ms: *at, end_ms: *at, next_ms: i64::MAX });
                }
                (true, None) => out.last_mut().unwrap().end_ms = *at,
                (false, _) => last_false = Some(*at),
            }
        }
        out
    }

    /// Whether there was a false scrape in a span: without one nothing may end or begin.
    fn was_false(&self, instance: usize, (from, to): Span) -> bool {
        let scrapes = self.world.scrapes.lock().unwrap();
        scrapes.iter().any(|(at, c)| (from..=to).contains(at) && !c[instance])
    }
}

#[derive(Clone, Copy, Debug)]
struct Episode {
    begin_ms: i64,
    end_ms: i64,
    /// When the next one begins.
    next_ms: i64,
}

#[derive(Debug, Default)]
struct Verdict {
    false_resolves: Vec<String>,
    restarted: Vec<String>,
    too_early: Vec<String>,
    lost_pages: Vec<String>,
    lost_ends: Vec<String>,
    /// How much there was to be wrong about.
    pages: usize,
    ends: usize,
    pending_over_a_kill: usize,
}

impl Run {
    fn judge(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for instance in 0..INSTANCES {
            let episodes = self.episodes(instance);
            for (alert, for_ms, keep_ms) in ALERTS {
                self.judge_told(&mut verdict, instance, alert, for_ms, keep_ms);
                self.judge_seen(&mut verdict, instance, alert, &episodes);
                for episode in &episodes {
                    self.judge_delivery(&mut verdict, instance, alert, (for_ms, keep_ms), *episode);
                }
            }
        }
        verdict
    }

    fn told(&self, instance: usize, alert: &str) -> Vec<Told> {
        let told = self.world.told.lock().unwrap();
        told.iter().filter(|t| t.instance == instance && t.alert == alert).cloned().collect()
    }

    fn judge_told(
        &self,
        verdict: &mut Verdict,
        instance: usize,
        alert: &str,
        for_ms: i64,
        keep_ms: i64,
    ) {
        let told = self.told(instance, alert);
        let ends: BTreeSet<(i64, i64)> =
            told.iter().filter(|t| t.is_resolved()).map(|t| (t.starts_ms, t.ends_ms)).collect();
        for (start, end) in ends {
            // Something was false since it fired, and for as long as it is to be kept.
            let until = end - keep_ms + LAG_MS;
            if !self.was_false(instance, (start - LAG_MS, until.min(end))) {
                verdict.false_resolves.push(format!("{alert} {instance}: {start}..{end}"));
            }
        }
        let starts: BTreeSet<i64> = told.iter().map(|t| t.starts_ms).collect();
        for start in &starts {
            if for_ms > LAG_MS
                && self.was_false(instance, (start - for_ms + LAG_MS, start - LAG_MS))
            {
                verdict.too_early.push(format!("{alert} {instance}: {start}"));
            }
        }
        let starts: Vec<i64> = starts.into_iter().collect();
        for pair in starts.windows(2) {
            if !self.was_false(instance, (pair[0] - LAG_MS, pair[1])) {
                verdict.restarted.push(format!("{alert} {instance} fired twice: {pair:?}"));
            }
        }
    }

    /// What is active goes on being active since when it was.
    fn judge_seen(
        &self,
        verdict: &mut Verdict,
        instance: usize,
        alert: &str,
        episodes: &[Episode],
    ) {
        let mut last: Option<i64> = None;
        for (at, alerts) in &self.seen {
            let seen = alerts.iter().find(|s| s.alert == alert && s.instance == instance);
            let since = seen.map(|s| s.active_ms);
            if let (Some(before), Some(now)) = (last, since)
                && before != now
                && !self.was_false(instance, (before - LAG_MS, now))
            {
                verdict.restarted.push(format!("{alert} {instance}: {before} became {now}"));
            }
            last = since.or(last);
            // The process before this one knew of it: so must this one.
            let Some(episode) = episodes.iter().rev().find(|e| e.begin_ms <= *at) else { continue };
            let Some(life) = self.up.iter().rev().find(|(_, end)| end < at) else { continue };
            let known_since = episode.begin_ms.max(life.0) + LAG_MS;
            if known_since < life.1 && episode.end_ms + LAG_MS > *at {
                verdict.pending_over_a_kill += 1;
                if since.is_none_or(|since| since > life.1) {
                    verdict.restarted.push(format!(
                        "{alert} {instance}: active since {}, killed at {}, then {since:?}",
                        episode.begin_ms, life.1
                    ));
                }
            }
        }
    }

    /// Where there was time to tell it, it was told.
    fn judge_delivery(
        &self,
        verdict: &mut Verdict,
        instance: usize,
        alert: &str,
        (for_ms, keep_ms): (i64, i64),
        episode: Episode,
    ) {
        let Episode { begin_ms, end_ms, next_ms } = episode;
        // Time enough to evaluate, and to send again what was refused.
        let enough = 3 * LAG_MS;
        let told = self.told(instance, alert);
        let of_episode =
            |t: &&Told| (begin_ms - LAG_MS..=end_ms + LAG_MS + for_ms).contains(&t.starts_ms);
        let could_page = self.heard.iter().any(|(from, to)| {
            let from = (*from).max(begin_ms + for_ms) + LAG_MS;
            from + enough <= (*to).min(end_ms)
        });
        let fired: Vec<_> = told.iter().filter(of_episode).collect();
        if could_page {
            verdict.pages += 1;
            // An earlier episode's alert may go on when the gap was shorter than it is kept.
            let goes_on = told
                .iter()
                .any(|t| !t.is_resolved() && t.at_ms >= begin_ms && t.at_ms <= end_ms + LAG_MS);
            if fired.is_empty() && !goes_on {
                verdict.lost_pages.push(format!("{alert} {instance}: {episode:?}"));
            }
        }
        let Some(start) = fired.iter().filter(|t| !t.is_resolved()).map(|t| t.starts_ms).max()
        else {
            return;
        };
        let could_end = self.heard.iter().enumerate().any(|(i, (from, to))| {
            // After a start the end is not believed for twice as long as the process was down.
            let down = i.checked_sub(1).map_or(0, |before| from - self.up[before].1 + LAG_MS);
            let from = (*from + 2 * down).max(end_ms + keep_ms) + LAG_MS;
            from + enough <= (*to).min(next_ms)
        });
        if could_end {
            verdict.ends += 1;
            if !fired.iter().any(|t| t.is_resolved() && t.starts_ms == start) {
                verdict.lost_ends.push(format!("{alert} {instance}: {episode:?} since {start}"));
            }
        }
    }
}

#[test]
fn killed_at_any_time_no_alert_is_lost_restarted_or_ended_falsely() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let kills = number("WATCHFIRE_CRASH_RUNS").unwrap_or(10);
    let seed = number("WATCHFIRE_CRASH_SEED").unwrap_or_else(|| rand::rng().random());
    eprintln!("{kills} kills, WATCHFIRE_CRASH_SEED={seed}");
    let dir = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(seed);
    std::fs::write(dir.path().join("prometheus.yml"), config(run.target)).expect("a config");
    std::fs::write(dir.path().join("rules.yml"), RULES).expect("rules");
    let mut killed = 0;
    while killed < kills {
        let kill = run.rng.random_bool(0.9);
        let refuses = run.rng.random_bool(0.3);
        let ms = run.rng.random_range(100..2600);
        run.life(dir.path(), ms, if refuses { ms / 3 } else { 0 }, kill);
        killed += u64::from(kill);
    }
    // In the end nothing is true any more, and there is time to tell it.
    run.turns = [i64::MAX; INSTANCES];
    *run.world.conditions.lock().unwrap() = [false; INSTANCES];
    run.life(dir.path(), 8000, 0, false);
    let verdict = run.judge();
    println!("{verdict:#?}");
    for (what, found) in [
        ("ended although their condition held", &verdict.false_resolves),
        ("started anew", &verdict.restarted),
        ("fired before their time", &verdict.too_early),
        ("were never told", &verdict.lost_pages),
        ("were never told to have ended", &verdict.lost_ends),
    ] {
        assert!(found.is_empty(), "alerts {what} (WATCHFIRE_CRASH_SEED={seed}): {found:#?}");
    }
    assert!(verdict.pages > 0 && verdict.ends > 0 && verdict.pending_over_a_kill > 0);
}
