//! `watchfire serve`, killed again and again while alerts come and go.
//!
//! The test writes the samples itself and takes the place of the Alertmanager, so it knows
//! what was true when, what the process could know, and what it told. Afterwards the
//! [`judge`] holds one against the other. Between two lives the state log gets a torn tail
//! now and then; in some its directory is out of reach for a while, in some every change
//! waits for the disk; and its files are so small that they are succeeded all the time.
//!
//! `WATCHFIRE_CRASH_RUNS` sets how often the process is killed, `WATCHFIRE_CRASH_SEED`
//! repeats a run's choices, and `WATCHFIRE_CRASH_KEEP` names a folder where what is known of
//! a run that failed is left.

mod full_disk;
mod judge;

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

use self::judge::{ENOUGH_MS, Life, Look, Push, Record, Rule, Told, Verdict, judge};
use crate::support::{Program, free_address, http_get, until};

const INSTANCES: usize = 6;
const PATIENCE: Duration = Duration::from_secs(30);

const fn rule(name: &'static str, for_ms: i64, keep_ms: i64) -> Rule {
    Rule { name, for_ms, keep_ms, window: false }
}

const ALERTS: [Rule; 5] = [
    rule("Plain", 0, 0),
    Rule { window: true, ..rule("Window", 0, 0) },
    rule("Wait", 1000, 0),
    rule("Long", 2000, 0),
    rule("Kept", 0, 1500),
];

/// The last one says which ticks were evaluated to the end.
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
  - {record: tick, expr: vector(1)}
";

type Conditions = [bool; INSTANCES];

fn now_ms() -> i64 {
    SystemClock::default().now_ms()
}

/// What the process lives in.
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

/// A receiver of alerts, and where it listens.
fn receive(world: &Arc<World>) -> SocketAddr {
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
    address.recv().unwrap()
}

/// Writes the conditions every 100 ms, while there is a process.
fn push(world: &World) {
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let Some(process) = *world.process.lock().unwrap() else { continue };
        let (at_ms, conditions) = (now_ms(), *world.conditions.lock().unwrap());
        let acknowledged_ms = write(process, at_ms, conditions).then(now_ms);
        let conditions = conditions.to_vec();
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

/// What happens to the state log at a death.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It stays as it is, but for a torn tail.
    Stays,
    /// It is gone.
    Wiped,
}

/// What is done to one life of the process.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// How long it lasts from when it is ready.
    ms: i64,
    /// For so long at its end notifications are refused.
    refuses_ms: i64,
    /// SIGKILL, or else SIGTERM.
    kill: bool,
    /// The directory of the state log is out of reach for a while.
    loses_dir: bool,
}

struct Run {
    dir: tempfile::TempDir,
    world: Arc<World>,
    rng: StdRng,
    /// When each condition changes next.
    turns: [i64; INSTANCES],
    lives: Vec<Life>,
    looks: Vec<Look>,
    fate: Fate,
    torn: usize,
    outages: usize,
}

/// What a process starts from: the rules, and where to tell of alerts.
fn write_files(dir: &Path, receiver: SocketAddr) {
    let config = format!(
        "rule_files: [rules.yml]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{receiver}']}}]}}]}}\n"
    );
    std::fs::write(dir.join("prometheus.yml"), config).expect("a config");
    std::fs::write(dir.join("rules.yml"), RULES).expect("rules");
}

impl Run {
    fn start(seed: u64, fate: Fate) -> Self {
        let (dir, world) = (tempfile::tempdir().expect("a folder"), Arc::new(World::default()));
        write_files(dir.path(), receive(&world));
        let pushed = world.clone();
        std::thread::spawn(move || push(&pushed));
        let rng = StdRng::seed_from_u64(seed);
        let (turns, lives, looks) = ([0; INSTANCES], Vec::new(), Vec::new());
        Self { dir, world, rng, turns, lives, looks, fate, torn: 0, outages: 0 }
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

    fn serve(&mut self) -> (Program, SocketAddr) {
        let address = free_address();
        let sync = if self.rng.random_bool(0.2) { "always" } else { "never" };
        let args = [
            "serve".to_owned(),
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=data".to_owned(),
            "--rules.alert.resend-delay=500ms".to_owned(),
            "--rules.state-file-size=1".to_owned(),
            format!("--rules.state-sync={sync}"),
            "--web.enable-remote-write-receiver".to_owned(),
            "--log.level=warn".to_owned(),
            format!("--web.listen-address={address}"),
        ];
        let mut program = Program::watchfire(&args, self.dir.path());
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

    /// One life of the process. What it knows of its ticks in the end is left in `ticks`.
    fn life(&mut self, plan: Plan, ticks: Option<&mut Vec<i64>>) {
        let started_ms = now_ms();
        let (mut program, address) = self.serve();
        *self.world.process.lock().unwrap() = Some(address);
        self.look(address);
        self.live(plan.ms - plan.refuses_ms);
        if plan.loses_dir {
            self.lose_dir(address);
        }
        let mut deaf_ms = now_ms();
        self.world.refuses.store(plan.refuses_ms > 0, Ordering::Relaxed);
        self.live(plan.refuses_ms);
        if let Some(ticks) = ticks {
            *ticks = ticks_of(address);
        }
        self.look(address);
        if plan.refuses_ms == 0 {
            deaf_ms = now_ms();
        }
        if plan.kill {
            program.kill();
        } else {
            let status = program.terminate(PATIENCE).expect("it ends on SIGTERM");
            assert!(status.success(), "{status}:\n{}", program.log());
        }
        self.lives.push(Life { started_ms, deaf_ms, end_ms: now_ms() });
        *self.world.process.lock().unwrap() = None;
        let log = program.log();
        assert!(!log.contains("damage") && !log.contains("BUG"), "{log}");
        self.world.refuses.store(false, Ordering::Relaxed);
        match self.fate {
            Fate::Wiped => std::fs::remove_dir_all(self.state_dir()).expect("a state directory"),
            Fate::Stays if plan.kill && self.rng.random_bool(0.3) => self.tear(),
            Fate::Stays => {}
        }
        if self.rng.random_bool(0.3) {
            self.live(1200);
        }
    }

    fn state_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("data/alert_state")
    }

    /// Nothing can be written for a while. A state that could not be written is lost when
    /// the process dies, so the process lives until everything is.
    fn lose_dir(&mut self, address: SocketAddr) {
        let away = self.dir.path().join("data/away");
        std::fs::rename(self.state_dir(), &away).expect("a state directory");
        let ms = self.rng.random_range(200..1500);
        self.live(ms);
        self.outages += usize::from(metric(address, "watchfire_alert_state_failing") > 0.0);
        std::fs::rename(&away, self.state_dir()).expect("it can be put back");
        self.live(1200);
        let written = || (metric(address, "watchfire_alert_state_failing") == 0.0).then_some(());
        until(PATIENCE, written).expect("the state log can be written again");
        self.live(500);
    }

    /// The process died while it wrote: the newest file ends within a record.
    fn tear(&mut self) {
        let files = std::fs::read_dir(self.state_dir()).expect("a state directory");
        let files = files.map(|file| file.unwrap().path());
        let newest = files.filter(|f| f.extension().is_some_and(|e| e == "state")).max();
        let Some(newest) = newest else { return };
        let bytes = std::fs::read(&newest).expect("a state file");
        // The first record after the header of 16 bytes; its own head has 12.
        let length = |at: &[u8]| u32::from_le_bytes(at.try_into().unwrap()) as usize;
        let Some(frame) = bytes.get(20..24).and_then(|at| bytes.get(16..28 + length(at))) else {
            return;
        };
        let part = self.rng.random_range(1..frame.len());
        let mut file = std::fs::OpenOptions::new().append(true).open(&newest).unwrap();
        file.write_all(&frame[..part]).expect("a torn record");
        self.torn += 1;
    }

    /// Kills so often, lets everything end, and judges.
    fn judge(mut self, kills: u64, mut plan: impl FnMut(&mut StdRng) -> Plan) -> (Record, Verdict) {
        let mut killed = 0;
        while killed < kills {
            let plan = plan(&mut self.rng);
            self.life(plan, None);
            killed += u64::from(plan.kill);
            if plan.kill && killed % 50 == 0 {
                eprintln!("{killed} kills");
            }
        }
        // In the end nothing is true any more, and there is time to tell it.
        self.turns = [i64::MAX; INSTANCES];
        *self.world.conditions.lock().unwrap() = [false; INSTANCES];
        let mut ticks = Vec::new();
        let ms = 4 * ENOUGH_MS;
        let last = Plan { ms, refuses_ms: 0, kill: false, loses_dir: false };
        self.fate = Fate::Stays;
        self.life(last, Some(&mut ticks));
        eprintln!("{} torn tails, {} outages of the state directory", self.torn, self.outages);
        let record = Record {
            pushes: self.world.pushes.lock().unwrap().clone(),
            told: self.world.told.lock().unwrap().clone(),
            looks: self.looks,
            lives: self.lives,
            ticks: ticks.into_iter().collect(),
        };
        let verdict = judge(&record, &ALERTS);
        (record, verdict)
    }
}

fn metric(address: SocketAddr, name: &str) -> f64 {
    let (_, text) = http_get(&format!("http://{address}/metrics")).expect("metrics");
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("a metric")
}

/// Every tick that was ever evaluated to the end.
fn ticks_of(address: SocketAddr) -> Vec<i64> {
    let url = format!("http://{address}/api/v1/query?query=tick%5B12h%5D");
    let (_, body) = http_get(&url).expect("an answer");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let samples = answer["data"]["result"][0]["values"].as_array().expect("ticks");
    let ms = |sample: &Value| (sample[0].as_f64().unwrap() * 1000.0).round() as i64;
    samples.iter().map(ms).collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn killed_at_any_time_no_alert_is_lost_restarted_or_ended_falsely() {
    let kills = number("WATCHFIRE_CRASH_RUNS").unwrap_or(8);
    let seed = number("WATCHFIRE_CRASH_SEED").unwrap_or_else(|| rand::rng().random());
    eprintln!("{kills} kills, WATCHFIRE_CRASH_SEED={seed}");
    let (record, verdict) = Run::start(seed, Fate::Stays).judge(kills, |rng| {
        let kill = rng.random_bool(0.9);
        let refuses = rng.random_bool(0.3);
        let long = rng.random_bool(0.15);
        let ms = rng.random_range(if long { 4000..7000 } else { 50..2500 });
        let loses_dir = rng.random_bool(0.08);
        Plan { ms, refuses_ms: if refuses { ms / 3 } else { 0 }, kill, loses_dir }
    });
    println!("{verdict:#?}");
    let failed = verdict.failures().iter().any(|(_, found)| !found.is_empty());
    if let Some(dir) = std::env::var_os("WATCHFIRE_CRASH_KEEP").filter(|_| failed) {
        let path = Path::new(&dir).join(format!("crash-{seed}.txt"));
        std::fs::write(path, format!("{verdict:#?}\n{record:?}")).expect("a record");
    }
    for (what, found) in verdict.failures() {
        assert!(found.is_empty(), "alerts {what} (WATCHFIRE_CRASH_SEED={seed}): {found:#?}");
    }
    assert!(verdict.resolves > 0 && verdict.active_over_a_kill > 0 && verdict.ends > 0);
    // A process that evaluated next to nothing could not be found to be wrong.
    let lived: i64 = record.lives.iter().map(|life| life.end_ms - life.started_ms).sum();
    assert!(verdict.ticks as i64 > lived / 150 / 8, "{} ticks in {lived} ms", verdict.ticks);
}

#[test]
fn a_process_that_forgets_is_found_out() {
    // The longer a life, the more is active at its end.
    let plan = |rng: &mut StdRng| {
        let ms = rng.random_range(1500..3000);
        Plan { ms, refuses_ms: 0, kill: true, loses_dir: false }
    };
    let (_, verdict) = Run::start(rand::rng().random(), Fate::Wiped).judge(6, plan);
    assert!(!verdict.restarted.is_empty(), "{verdict:#?}");
}
