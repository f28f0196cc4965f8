//! A real Prometheus and Watchfire side by side: starting both, writing the same samples
//! into both, and reading what they cost.

#![allow(dead_code, reason = "each bench uses its own part")]

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The programs, in the order of every pair of figures.
pub const PROGRAMS: [(&str, &str); 2] =
    [("prometheus", "prometheus"), ("watchfire", env!("CARGO_BIN_EXE_watchfire"))];

pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a program with a configuration file, its data below `home`, and waits until it
    /// is ready. `None` when it cannot be started.
    #[allow(dead_code, reason = "not every bench needs no more than this")]
    pub fn start(program: (&str, &str), home: &Path, config: &Path) -> Option<Self> {
        Self::start_with(program, home, config, &[])
    }

    /// As `start`, with further flags.
    pub fn start_with(
        (name, program): (&str, &str),
        home: &Path,
        config: &Path,
        flags: &[&str],
    ) -> Option<Self> {
        fs::create_dir_all(home).ok()?;
        Self::launch(name, "/-/ready", |address| {
            let mut command = Command::new(program);
            if name == "watchfire" {
                command.arg("serve");
            }
            command
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", home.join("data").display()))
                .arg(format!("--web.listen-address={address}"))
                .arg("--web.enable-remote-write-receiver")
                .arg("--web.enable-lifecycle")
                .arg("--log.level=error")
                .args(flags)
                .stderr(Stdio::inherit());
            command
        })
    }

    /// Starts what is made for the address it is to listen on, and waits until `ready`
    /// answers. `None` when it cannot be started.
    pub fn launch(
        name: &str,
        ready: &str,
        make: impl FnOnce(SocketAddr) -> Command,
    ) -> Option<Self> {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).ok()?;
        let mut command = make(address);
        command.env("GOMAXPROCS", processors().to_string()).stdout(Stdio::null());
        let child = command.spawn().ok()?;
        let server = Self { child, address };
        let ready = server.url(ready);
        for _ in 0..3000 {
            if is_ready(&ready) {
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("{name} did not get ready");
        None
    }

    /// Ends it, in order or by a kill, and waits for that.
    #[allow(dead_code, reason = "not every bench restarts servers")]
    pub fn end(&mut self, kill: bool) {
        if kill {
            let _ = self.child.kill();
        } else {
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        }
        let _ = self.child.wait();
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn resident_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
        let kib: f64 = line.split_whitespace().nth(1).and_then(|v| v.parse().ok()).unwrap_or(0.0);
        kib / 1024.0
    }

    /// Processor seconds of all threads, user and system, since the start.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        let field = |i: usize| -> f64 {
            after.split_whitespace().nth(i).and_then(|v| v.parse().ok()).unwrap_or(0.0)
        };
        (field(11) + field(12)) / 100.0
    }
}

/// Whether it answers 200; that it does not yet is nothing to tell.
fn is_ready(url: &str) -> bool {
    exchange(url, None).is_some_and(|(status, _)| status == 200)
}

pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// One request with `curl`'s semantics kept in-process: GET, or POST of a remote-write body.
/// What is not a success is told.
pub fn http(url: &str, write: Option<Vec<u8>>) -> Option<String> {
    let (status, text) = exchange(url, write)?;
    if !(200..300).contains(&status) {
        eprintln!("{url}: {status}: {text}");
        return None;
    }
    Some(text)
}

/// Status and body of the answer to one request; `None` when there is no answer.
fn exchange(url: &str, write: Option<Vec<u8>>) -> Option<(u16, String)> {
    thread_local! {
        static CLIENT: (tokio::runtime::Runtime, reqwest::Client) = {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            (runtime, reqwest::Client::new())
        };
    }
    CLIENT.with(|(runtime, client)| {
        runtime.block_on(async {
            let request = match write {
                Some(body) => client
                    .post(url)
                    .header("Content-Encoding", "snappy")
                    .header("Content-Type", "application/x-protobuf")
                    .header("X-Prometheus-Remote-Write-Version", "0.1.0")
                    .body(body),
                None => client.get(url),
            };
            let response = request.send().await.ok()?;
            let status = response.status().as_u16();
            Some((status, response.text().await.ok()?))
        })
    })
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn bytes_field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// One series of a remote-write 1.0 request; labels in order of their names.
pub fn series<'a>(
    request: &mut Vec<u8>,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    samples: impl Iterator<Item = (i64, f64)>,
) {
    let mut message = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        bytes_field(&mut label, 0x0a, name.as_bytes());
        bytes_field(&mut label, 0x12, value.as_bytes());
        bytes_field(&mut message, 0x0a, &label);
    }
    for (ts, value) in samples {
        let mut sample = vec![0x09];
        sample.extend_from_slice(&value.to_le_bytes());
        sample.push(0x10);
        varint(&mut sample, ts as u64);
        bytes_field(&mut message, 0x12, &sample);
    }
    bytes_field(request, 0x0a, &message);
}

/// The body of a remote-write request.
pub fn compressed(request: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(request).expect("compressible")
}
