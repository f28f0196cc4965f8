//! What several integration tests need: the conformance data, free ports, and the real
//! programs the product talks to.

#![allow(dead_code, reason = "each test module uses its own part")]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A folder of the conformance data or the corpus (`conformance/parser`, `corpus/rules`),
/// which lie beside the project. `None` where they are absent, after saying so loudly.
pub fn shared(path: &str) -> Option<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if dir.exists() {
        return Some(dir);
    }
    eprintln!("SKIPPED: ../shared/{path} is not there; its cases did not run");
    None
}

/// Serves on a free port as long as the runtime lives; gives where.
pub async fn serve_app(app: axum::Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A loopback address nobody listens on at this moment.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
    listener.local_addr().expect("a bound address")
}

/// The `watchfire` binary under test: WATCHFIRE_BINARY, else the one built with the tests.
pub fn watchfire() -> PathBuf {
    let own = || env!("CARGO_BIN_EXE_watchfire").into();
    std::env::var_os("WATCHFIRE_BINARY").map_or_else(own, PathBuf::from)
}

/// A program that a test started; killed when dropped.
pub struct Program {
    name: String,
    child: Child,
    /// The last lines it wrote to standard error.
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Program {
    /// Starts a program found in `PATH`. `None` when it is not [`available`].
    pub fn start(name: &str, args: &[String]) -> Option<Self> {
        if !available(name) {
            return None;
        }
        Some(Self::spawn(name, Command::new(name).args(args)))
    }

    /// Starts the `watchfire` binary under test.
    pub fn watchfire(args: &[String], dir: &std::path::Path) -> Self {
        let mut command = Command::new(watchfire());
        Self::spawn("watchfire", command.args(args).current_dir(dir))
    }

    /// Starts whatever the command says.
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("start {name}: {e}"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().expect("a piped standard error");
        let sink = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                sink.lock().expect("the log").push(line);
            }
        });
        Self { name: name.to_owned(), child, log, reader: Some(reader) }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("the log").join("\n")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, then waits for the end; `None` if it does not end within the time.
    pub fn terminate(&mut self, patience: Duration) -> Option<std::process::ExitStatus> {
        let _ = Command::new("kill").arg(self.pid().to_string()).status();
        self.wait(patience)
    }

    /// Waits for the end; `None` if it does not end within the time.
    pub fn wait(&mut self, patience: Duration) -> Option<std::process::ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                // What it said last may not have been read yet.
                let _ = self.reader.take().map(std::thread::JoinHandle::join);
                return Some(status);
            }
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until `url` answers 200; fails the test with the program's log otherwise.
    pub fn wait_ready(&mut self, url: &str) {
        let ready = until(Duration::from_secs(60), || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended early with {status}:\n{}", self.name, self.log());
            }
            http_get(url).ok().filter(|(status, _)| *status == 200)
        });
        assert!(ready.is_some(), "{} did not get ready at {url}:\n{}", self.name, self.log());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs the program to its end, with this on standard input.
pub fn run_watchfire(args: &[&str], dir: &std::path::Path, stdin: &[u8]) -> std::process::Output {
    let mut child = Command::new(watchfire())
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("watchfire starts");
    // Dropping the pipe ends the input; a program that does not read it may end first.
    let _ = child.stdin.take().map(|mut pipe| pipe.write_all(stdin));
    child.wait_with_output().expect("watchfire ends")
}

/// True when `PATH` has the program. When it has not, says so loudly; with
/// WATCHFIRE_REQUIRE_PROGRAMS set (as tests/run.sh does) the test fails.
pub fn available(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join(name).is_file()) {
        return true;
    }
    let text = format!("{name} is not installed; run tests/run.sh, which fetches it");
    assert!(std::env::var_os("WATCHFIRE_REQUIRE_PROGRAMS").is_none(), "{text}");
    eprintln!("SKIPPED: {text}");
    false
}

/// Looks again and again until there is an answer, at most for `patience`: how tests wait
/// for other programs. Never an assertion about speed.
pub fn until<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Status and body of a GET.
pub fn http_get(url: &str) -> Result<(u16, String), String> {
    http(reqwest::Method::GET, url)
}

/// Status and body of a POST without a body.
pub fn http_post(url: &str) -> Result<(u16, String), String> {
    http(reqwest::Method::POST, url)
}

fn http(method: reqwest::Method, url: &str) -> Result<(u16, String), String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let fetch = async {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
        let response = client.request(method, url).send().await?;
        let status = response.status().as_u16();
        Ok::<_, reqwest::Error>((status, response.text().await?))
    };
    runtime.map_err(|e| e.to_string())?.block_on(fetch).map_err(|e| e.to_string())
}

/// A real Prometheus with this configuration, and where it listens. `None` without one.
pub fn start_prometheus(dir: &std::path::Path, config: &str) -> Option<(Program, String)> {
    let address = free_address();
    let file = dir.join("prometheus.yml");
    std::fs::write(&file, config.replace("SELF", &address.to_string())).unwrap();
    let args = [
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", dir.join("data").display()),
        format!("--web.listen-address={address}"),
        "--web.enable-remote-write-receiver".to_owned(),
        "--enable-feature=promql-per-step-stats,native-histograms".to_owned(),
    ];
    let base = format!("http://{address}");
    let mut program = Program::start("prometheus", &args)?;
    // The helper blocks on a runtime of its own, which may not stand inside another.
    let ready = format!("{base}/-/ready");
    std::thread::scope(|scope| scope.spawn(|| program.wait_ready(&ready)).join()).unwrap();
    Some((program, base))
}

/// Makes order irrelevant where Prometheus promises none.
pub fn ordered(text: &str) -> Value {
    let mut value: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in answer {text}"));
    for path in ["/data/result", "/data"] {
        if let Some(Value::Array(items)) = value.pointer_mut(path) {
            items.sort_by_key(|item| item["metric"].to_string() + &item.to_string());
        }
    }
    value
}

/// Equal, but for rounding in sample values: summation has been compensated differently
/// over the years. Floats are strings in JSON; `tolerance` is relative.
pub fn alike(theirs: &Value, ours: &Value, tolerance: f64) -> bool {
    match (theirs, ours) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b, tolerance))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b, tolerance)))
        }
        (Value::String(a), Value::String(b)) if a != b => {
            match (a.parse::<f64>(), b.parse::<f64>()) {
                (Ok(a), Ok(b)) => (a - b).abs() <= tolerance * a.abs().max(b.abs()),
                _ => false,
            }
        }
        (a, b) => a == b,
    }
}
