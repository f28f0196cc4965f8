//! The query log (`global.query_log_file`): a line of JSON for every finished query, with
//! the keys of Prometheus'. A thread of its own writes them, so no query waits for the disk;
//! what the thread cannot keep up with is left out and counted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use parking_lot::Mutex;
use serde_json::{Map, Value as Json, json};

use crate::api::stats_json;
use crate::model::{Clock, TimestampMs};
use crate::query::{Engine, FinishedQuery, QueryLog, QueryMetrics, QueryOrigin};

/// Text that may wait for the disk. Beyond it lines are left out.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// Text written at once.
const BATCH_BYTES: usize = 256 << 10;

/// How long the end of the process waits for the disk.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// Which log is written.
#[derive(Default)]
pub(super) struct QueryLogs {
    /// Of the log in use.
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl QueryLogs {
    /// Puts the file of a configuration to use, "" for none. It is opened anew each time: the
    /// one of before may have been moved away. Where it cannot be opened, all stays as it was.
    pub(super) async fn apply(
        &self,
        engine: &Engine,
        file: &str,
        clock: &Arc<dyn Clock>,
    ) -> Result<(), String> {
        if file.is_empty() {
            engine.set_query_log(None);
            return Ok(());
        }
        let (path, clock) = (PathBuf::from(file), clock.clone());
        let metrics = engine.metrics().cloned();
        let open = move || QueryLogFile::open(&path, clock, metrics);
        let opened = tokio::task::spawn_blocking(open).await.map_err(io::Error::other).flatten();
        let (log, writer) = opened.map_err(|error| {
            format!("global.query_log_file: can't create json log file: open {file}: {error}")
        })?;
        engine.set_query_log(Some(Arc::new(log)));
        *self.writer.lock() = Some(writer);
        Ok(())
    }

    /// Writes what waits, once no query runs any more.
    pub(super) async fn close(&self, engine: &Engine) {
        engine.set_query_log(None);
        let Some(writer) = self.writer.lock().take() else { return };
        let ended = tokio::task::spawn_blocking(move || writer.join());
        if tokio::time::timeout(CLOSE_PATIENCE, ended).await.is_err() {
            tracing::error!("The last lines of the query log may be lost: the disk is too slow");
        }
    }
}

/// The open log. It is closed when it is dropped and what waits has been written.
pub(super) struct QueryLogFile {
    lines: Sender<String>,
    waiting: Arc<AtomicUsize>,
    /// That lines are left out has been said.
    told: AtomicBool,
    file: PathBuf,
    clock: Arc<dyn Clock>,
    metrics: Option<QueryMetrics>,
}

impl QueryLogFile {
    /// Opens the file to append to it, and makes it if there is none.
    pub(super) fn open(
        path: &Path,
        clock: Arc<dyn Clock>,
        metrics: Option<QueryMetrics>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let (lines, received) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            file,
            path: path.to_owned(),
            waiting: waiting.clone(),
            metrics: metrics.clone(),
            failed: false,
        };
        let thread = std::thread::Builder::new().name("query-log".to_owned());
        let writer = thread.spawn(move || writer.run(&received))?;
        let (told, file) = (AtomicBool::new(false), path.to_owned());
        Ok((Self { lines, waiting, told, file, clock, metrics }, writer))
    }
}

impl QueryLog for QueryLogFile {
    fn log(&self, query: &FinishedQuery<'_>) {
        let line = line(query, self.clock.now_ms());
        let len = line.len();
        let waiting = self.waiting.fetch_add(len, Ordering::Relaxed);
        if waiting + len <= WAITING_BYTES_MAX && self.lines.send(line).is_ok() {
            return;
        }
        self.waiting.fetch_sub(len, Ordering::Relaxed);
        if let Some(metrics) = &self.metrics {
            metrics.query_log_failed(1);
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            let file = self.file.display();
            tracing::error!(
                %file,
                "The disk is slower than queries finish: queries are left out of the query log \
                 (prometheus_engine_query_log_failures_total counts them)"
            );
        }
    }
}

/// The thread's side.
struct Writer {
    file: File,
    path: PathBuf,
    waiting: Arc<AtomicUsize>,
    metrics: Option<QueryMetrics>,
    /// The last batch could not be written.
    failed: bool,
}

impl Writer {
    fn run(mut self, lines: &Receiver<String>) {
        while let Ok(mut batch) = lines.recv() {
            let mut queries = 1;
            while batch.len() < BATCH_BYTES
                && let Ok(line) = lines.try_recv()
            {
                batch.push_str(&line);
                queries += 1;
            }
            self.write(&batch, queries);
            self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
        }
    }

    /// An error is told when it comes, not with every query.
    fn write(&mut self, batch: &str, queries: u64) {
        let written = self.file.write_all(batch.as_bytes());
        let file = self.path.display();
        match written {
            Ok(()) if self.failed => {
                self.failed = false;
                tracing::info!(%file, "The query log can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                if let Some(metrics) = &self.metrics {
                    metrics.query_log_failed(queries);
                }
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::error!(
                        %file, %error,
                        "The query log cannot be written; queries go on without it"
                    );
                }
            }
        }
    }
}

/// One line. `time`, `level` and `msg` are what Prometheus 3 begins it with, `ts` is what
/// Prometheus 2 called the time.
fn line(query: &FinishedQuery<'_>, now_ms: TimestampMs) -> String {
    let mut all = Map::new();
    all.insert("time".to_owned(), date(now_ms).into());
    all.insert("level".to_owned(), "INFO".into());
    all.insert("msg".to_owned(), "promql query logged".into());
    all.insert(
        "params".to_owned(),
        json!({
            "query": query.text,
            "start": date(query.start_ms),
            "end": date(query.end_ms),
            "step": query.step_ms / 1000,
        }),
    );
    if let Some(error) = query.error {
        all.insert("error".to_owned(), error.to_string().into());
    }
    let stats = serde_json::from_str::<Json>(&stats_json(query.stats));
    all.insert("stats".to_owned(), stats.unwrap_or_default());
    match query.origin {
        Some(QueryOrigin::Http { client_ip, method, path }) => {
            let origin = json!({"clientIP": client_ip, "method": method, "path": path});
            all.insert("httpRequest".to_owned(), origin);
        }
        Some(QueryOrigin::RuleGroup { file, name }) => {
            all.insert("ruleGroup".to_owned(), json!({"file": file, "name": name}));
        }
        None => {}
    }
    all.insert("ts".to_owned(), date(now_ms).into());
    Json::Object(all).to_string() + "\n"
}

/// `2006-01-02T15:04:05.000Z`; a time beyond what a calendar has, as its milliseconds.
fn date(ms: TimestampMs) -> String {
    DateTime::from_timestamp_millis(ms)
        .map_or_else(|| ms.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{QueryError, QueryStats};
    use crate::telemetry::Registry;
    use crate::telemetry::clock::ManualClock;

    fn finished<'a>(
        text: &'a str,
        error: Option<&'a QueryError>,
        stats: &'a QueryStats,
        origin: Option<&'a QueryOrigin>,
    ) -> FinishedQuery<'a> {
        FinishedQuery {
            text,
            start_ms: 1_500,
            end_ms: 10_000,
            step_ms: 2_500,
            error,
            stats,
            origin,
        }
    }

    #[test]
    fn a_line_says_what_was_asked_by_whom_and_what_it_took() {
        let stats = QueryStats { peak_samples: 5, ..QueryStats::default() };
        let error = QueryError::Execution("no \"luck\"".to_owned());
        let origin = QueryOrigin::RuleGroup { file: "r.yml".to_owned(), name: "g".to_owned() };
        let text = line(&finished("1\n+ 1", Some(&error), &stats, Some(&origin)), 61_000);
        assert!(text.ends_with("}\n") && text.matches('\n').count() == 1, "{text}");
        let got: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(
            got["params"],
            json!({"query": "1\n+ 1", "start": "1970-01-01T00:00:01.500Z",
                   "end": "1970-01-01T00:00:10.000Z", "step": 2})
        );
        assert_eq!(got["error"], "no \"luck\"");
        assert_eq!(got["ruleGroup"], json!({"file": "r.yml", "name": "g"}));
        assert_eq!(got["stats"]["samples"]["peakSamples"], 5);
        assert_eq!(got["ts"], "1970-01-01T00:01:01.000Z");
        assert_eq!(got.get("httpRequest").or(got.get("spanID")), None);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_stops_nothing() {
        let mut registry = Registry::default();
        let metrics = QueryMetrics::new(&mut registry);
        let clock = Arc::new(ManualClock::new(0));
        // Everything written to this device fails: it is full.
        let full = Path::new("/dev/full");
        let (log, _) = QueryLogFile::open(full, clock, Some(metrics)).unwrap();
        let stats = QueryStats::default();
        let text = "x".repeat(4 << 20);
        for _ in 0..64 {
            log.log(&finished(&text, None, &stats, None));
        }
        // What does not fail is what was left out, so all of them are counted.
        while log.waiting.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("prometheus_engine_query_log_failures_total 64\n"), "{text}");
    }
}
