//! The sender against a receiver that does what a test wants.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use watchfire::config;
use watchfire::model::exemplar::Exemplar;
use watchfire::model::metadata::{Metadata, MetricType};
use watchfire::model::{FloatHistogram, Labels};
use watchfire::remote_write::send::{Nowhere, RemoteWriteConfig, Sender, SenderOptions};
use watchfire::storage::Sink;
use watchfire::telemetry::Registry;
use watchfire::telemetry::clock::SystemClock;

use super::mock::{Mock, Reply, accepted};
use crate::support::until;

/// A sender over a directory, and what it counts.
pub struct Rig {
    pub sender: Sender,
    sink: Arc<dyn Sink>,
    registry: Registry,
}

impl Rig {
    pub async fn start(dir: &Path, config: &[RemoteWriteConfig]) -> Self {
        let mut registry = Registry::default();
        let options = SenderOptions {
            dir: dir.to_owned(),
            queue_bytes_max: 64 << 20,
            flush_deadline: Duration::from_secs(20),
            user_agent: "Watchfire/test".to_owned(),
            clock: Arc::new(SystemClock::default()),
        };
        let sender = Sender::new(options, &mut registry);
        let sink = sender.tee(Arc::new(Nowhere));
        let labels = Labels::from_pairs([("region", "eu")]);
        sender.apply(config, &labels).await.expect("targets that can be used");
        Self { sender, sink, registry }
    }

    /// Commits one sample of each of some series at a time.
    pub fn commit(&self, series: usize, ts: i64) {
        let mut appender = self.sink.appender();
        for i in 0..series {
            let labels = Labels::from_pairs([("__name__", "m"), ("i", &i.to_string())]);
            appender.append(None, &labels, ts, ts as f64).expect("a sample");
        }
        appender.commit().expect("a commit");
    }

    /// The sum of a metric over its label sets that hold the text.
    fn metric(&self, name: &str, with: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("text");
        let lines = text.lines().filter(|l| l.starts_with(&format!("{name}{{")));
        let values = lines.filter(|l| l.contains(with)).filter_map(|l| l.rsplit(' ').next());
        values.map(|v| v.parse::<f64>().expect("a number")).sum()
    }

    /// Waits until a metric has a value.
    pub fn wait(&self, name: &str, with: &str, value: f64) {
        let found =
            until(Duration::from_secs(60), || (self.metric(name, with) == value).then_some(()));
        assert!(found.is_some(), "{name} {with} is {}", self.metric(name, with));
    }
}

pub fn target(url: &str, more: &str) -> Vec<RemoteWriteConfig> {
    let yaml = format!("remote_write:\n- url: {url}\n{more}");
    config::parse(&yaml, Path::new("")).expect("a configuration").config.remote_write
}

pub const FAST: &str =
    "  queue_config: {batch_send_deadline: 50ms, min_backoff: 5ms, max_backoff: 20ms}
  metadata_config: {send: false}
";

/// Every series has each time once, in order.
fn assert_whole(samples: &[(String, i64, f64)], series: usize, times: std::ops::Range<i64>) {
    let wanted: Vec<i64> = times.collect();
    for i in 0..series {
        let label = format!("i=\"{i}\"");
        let of_series: Vec<i64> =
            samples.iter().filter(|s| s.0.contains(&label)).map(|s| s.1).collect();
        assert_eq!(of_series, wanted, "series {i}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_arrives_in_order_with_the_protocols_headers() {
    for (message, version, kind) in [
        ("prometheus.WriteRequest", "0.1.0", "application/x-protobuf"),
        (
            "io.prometheus.write.v2.Request",
            "2.0.0",
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        ),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let mock = Mock::start().await;
        let yaml = format!("{FAST}  protobuf_message: {message}\n  headers: {{X-Scope: tenant}}\n");
        let rig = Rig::start(dir.path(), &target(&mock.url(), &yaml)).await;
        if version == "2.0.0" {
            let all = [
                ("x-prometheus-remote-write-samples-written", "100"),
                ("x-prometheus-remote-write-histograms-written", "0"),
            ];
            mock.reply(&vec![Reply::Say(204, Box::leak(Box::new(all)), ""); 50]);
        }
        for ts in 0..20 {
            rig.commit(30, ts);
        }
        let taken = mock.until(|taken| accepted(taken).len() >= 600).await;
        assert_whole(&accepted(&taken), 30, 0..20);
        let labels = &taken[0].samples[0].0;
        assert!(labels.contains("region=\"eu\""), "external labels are sent: {labels}");
        let header = |name: &str| taken[0].headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("x-prometheus-remote-write-version"), version);
        assert_eq!(header("content-type"), kind);
        assert_eq!(header("content-encoding"), "snappy");
        assert_eq!(header("user-agent"), "Watchfire/test");
        assert_eq!(header("x-scope"), "tenant");
        rig.wait("prometheus_remote_storage_samples_pending", "", 0.0);
        assert_eq!(rig.metric("prometheus_remote_storage_samples_dropped_total", ""), 0.0);
        rig.sender.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_decides_what_becomes_of_a_batch() {
    /// What is answered, more options, and: attempts, sent, failed, retried.
    type Case = (Reply, &'static str, (usize, f64, f64, f64));
    let cases: &[Case] = &[
        (Reply::Say(200, &[], ""), "", (1, 5.0, 0.0, 0.0)),
        (Reply::Say(500, &[], "no"), "", (2, 5.0, 0.0, 5.0)),
        (Reply::Say(503, &[("retry-after", "0")], "no"), "", (2, 5.0, 0.0, 5.0)),
        (Reply::Say(400, &[], "bad"), "", (1, 0.0, 5.0, 0.0)),
        (Reply::Say(404, &[], "gone"), "", (1, 0.0, 5.0, 0.0)),
        (Reply::Say(429, &[], "slow"), "", (1, 0.0, 5.0, 0.0)),
        (Reply::Say(429, &[("retry-after", "1")], "slow"), "retry", (2, 5.0, 0.0, 5.0)),
        // 2.0: without a word on what was written it counts as not written.
        (Reply::Say(204, &[], ""), "v2", (1, 0.0, 5.0, 0.0)),
        (
            Reply::Say(400, &[("x-prometheus-remote-write-samples-written", "3")], "two bad"),
            "v2",
            (1, 3.0, 2.0, 0.0),
        ),
    ];
    for (reply, more, (attempts, sent, failed, retried)) in cases {
        let dir = tempfile::tempdir().expect("a folder");
        let mock = Mock::start().await;
        let yaml = match *more {
            "v2" => format!("{FAST}  protobuf_message: io.prometheus.write.v2.Request\n"),
            "retry" => FAST.replace("queue_config: {", "queue_config: {retry_on_http_429: true, "),
            _ => FAST.to_owned(),
        };
        let rig = Rig::start(dir.path(), &target(&mock.url(), &yaml)).await;
        mock.reply(std::slice::from_ref(reply));
        rig.commit(5, 1);
        rig.wait("prometheus_remote_storage_samples_pending", "", 0.0);
        let taken = mock.until(|taken| taken.len() >= *attempts).await;
        assert_eq!(taken.len(), *attempts, "{reply:?}");
        for (name, expected) in [("", sent), ("_failed", failed), ("_retried", retried)] {
            let name = format!("prometheus_remote_storage_samples{name}_total");
            assert_eq!(rig.metric(&name, ""), *expected, "{name} {reply:?} {more}");
        }
        rig.sender.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn relabelling_and_options_say_what_is_sent() {
    let dir = tempfile::tempdir().expect("a folder");
    let mock = Mock::start().await;
    let yaml = "  queue_config: {batch_send_deadline: 50ms}
  send_exemplars: true
  send_native_histograms: true
  metadata_config: {send_interval: 1s}
  write_relabel_configs:
  - {source_labels: [i], regex: '1', action: drop}
  - {source_labels: [region], target_label: where}
  - {regex: region, action: labeldrop}
";
    let rig = Rig::start(dir.path(), &target(&mock.url(), yaml)).await;
    let exemplar =
        Exemplar { labels: Labels::from_pairs([("t", "1")]), value: 1.0, ts: 5, has_ts: false };
    for ts in [10, 20] {
        let mut appender = rig.sink.appender();
        for i in ["1", "2"] {
            let labels = Labels::from_pairs([("__name__", "m_total"), ("i", i)]);
            let series = appender.append(None, &labels, ts, 1.0).expect("a sample");
            appender.append_exemplar(series, exemplar.clone()).expect("an exemplar");
        }
        let histogram = FloatHistogram { count: 1.5, sum: 2.0, ..FloatHistogram::default() };
        let labels = Labels::from_pairs([("__name__", "h")]);
        appender.append_histogram(None, &labels, ts, &Arc::new(histogram)).expect("a histogram");
        let metadata =
            Metadata { kind: MetricType::Counter, unit: "".into(), help: "Things".into() };
        appender.append_metadata("m", &metadata);
        appender.commit().expect("a commit");
    }
    let metadata = |taken: &[super::mock::Taken]| taken.iter().any(|t| t.metadata == ["m"]);
    let taken = mock.until(|taken| accepted(taken).len() >= 2 && metadata(taken)).await;
    let sent = accepted(&taken);
    let labels = r#"{__name__="m_total", i="2", where="eu"}"#.to_owned();
    assert_eq!(sent, [(labels.clone(), 10, 1.0), (labels, 20, 1.0)]);
    assert_eq!(taken.iter().map(|t| t.histograms).sum::<usize>(), 2);
    assert_eq!(taken.iter().map(|t| t.exemplars).sum::<usize>(), 1, "seen again is not new");
    let dropped = "prometheus_remote_storage_samples_dropped_total";
    assert_eq!(rig.metric(dropped, "dropped_series"), 2.0);
    assert_eq!(rig.metric("prometheus_remote_storage_histograms_total", ""), 2.0);
    rig.sender.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_receiver_missed_arrives_once_over_restarts_and_other_shards() {
    let dir = tempfile::tempdir().expect("a folder");
    let address = crate::support::free_address();
    let url = format!("http://{address}/write");
    let mut ts = 0;
    // Each time another number of shards, which reads what is there in another way.
    for shards in [1, 4, 3] {
        let yaml = FAST
            .replace("{batch", &format!("{{min_shards: {shards}, max_samples_per_send: 7, batch"));
        let rig = Rig::start(dir.path(), &target(&url, &yaml)).await;
        for _ in 0..20 {
            rig.commit(11, ts);
            ts += 1;
        }
        let pending = rig.metric("prometheus_remote_storage_samples_pending", "");
        assert_eq!(pending, 11.0 * ts as f64, "with {shards} shards");
        rig.sender.shutdown().await;
    }
    let mock = Mock::start_at(address).await;
    // Some of it is taken, then the process ends, and again.
    for shards in [5, 2] {
        let yaml = FAST
            .replace("{batch", &format!("{{min_shards: {shards}, max_samples_per_send: 7, batch"));
        mock.reply(&vec![Reply::Say(204, &[], ""); 12]);
        mock.reply(&vec![Reply::Say(500, &[], "enough"); 100_000]);
        let rig = Rig::start(dir.path(), &target(&url, &yaml)).await;
        let before = mock.taken().len();
        mock.until(|taken| taken.len() > before + 14).await;
        rig.sender.shutdown().await;
        mock.forget_replies();
    }
    assert!(mock.accepted().len() < 660, "not everything was taken yet");
    let rig = Rig::start(dir.path(), &target(&url, FAST)).await;
    rig.wait("prometheus_remote_storage_samples_pending", "", 0.0);
    rig.sender.shutdown().await;
    let samples = mock.accepted();
    assert_eq!(samples.len(), 660);
    assert_whole(&samples, 11, 0..ts);
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .flat_map(|queue| std::fs::read_dir(queue.unwrap().path()).unwrap())
        .map(|file| file.unwrap().file_name())
        .filter(|name| name.len() == 8)
        .collect();
    assert_eq!(left.len(), 1, "segments that are sent are removed: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_tried_when_the_process_stops_is_sent_after_the_next_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let mock = Mock::start().await;
    let config = target(&mock.url(), FAST);
    mock.reply(&vec![Reply::Say(503, &[], "later"); 100_000]);
    let rig = Rig::start(dir.path(), &config).await;
    rig.commit(5, 0);
    mock.until(|taken| taken.len() > 2).await;
    // Nothing waits behind it.
    rig.sender.shutdown().await;
    mock.forget_replies();
    let rig = Rig::start(dir.path(), &config).await;
    rig.wait("prometheus_remote_storage_samples_pending", "", 0.0);
    assert_whole(&mock.accepted(), 5, 0..1);
    rig.sender.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_answer_was_never_heard_is_made_again_as_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let mock = Mock::start().await;
    let yaml = FAST.replace("{batch", "{max_samples_per_send: 10, batch");
    let (config, folder) = (target(&mock.url(), &yaml), dir.path().to_owned());
    // On threads of its own, so that it can die with them.
    let process = tokio::runtime::Runtime::new().expect("threads");
    let started = process.spawn(async move { Rig::start(&folder, &config).await });
    let rig = started.await.expect("a sender");
    mock.reply(&[Reply::Hang]);
    for ts in 0..7 {
        rig.commit(5, ts);
    }
    mock.until(|taken| !taken.is_empty()).await;
    // As in a crash: what is under way is cut off, and its end is not noted.
    process.shutdown_background();
    let settings = FAST.replace("{batch", "{max_samples_per_send: 100, batch");
    drop(rig);
    // A receiver that has had it says so in its own way.
    mock.reply(&[Reply::Say(400, &[], "out of order sample")]);
    let after = Rig::start(dir.path(), &target(&mock.url(), &settings)).await;
    after.wait("prometheus_remote_storage_samples_pending", "", 0.0);
    let taken = mock.taken();
    assert_eq!(taken[0].samples, taken[1].samples, "the very same request");
    let again = "prometheus_remote_storage_samples_dropped_total";
    assert_eq!(after.metric(again, "already_sent"), 10.0);
    assert_eq!(after.metric("prometheus_remote_storage_samples_failed_total", ""), 0.0);
    let mut all = taken[0].samples.clone();
    all.extend(accepted(&taken));
    assert_whole(&all, 5, 0..7);
    after.sender.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_loses_its_oldest_loudly_and_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let address = crate::support::free_address();
    let yaml = FAST.replace("{batch", "{max_disk_size: 64KiB, capacity: 10, batch");
    let config = target(&format!("http://{address}/write"), &yaml);
    let rig = Rig::start(dir.path(), &config).await;
    rig.commit(20, 0);
    // The first ones are on their way before the others fill the queue.
    let tried = || rig.metric("prometheus_remote_storage_samples_retried_total", "") > 0.0;
    assert!(until(Duration::from_secs(60), || tried().then_some(())).is_some());
    for ts in 1..2000 {
        rig.commit(20, ts);
    }
    let lost = rig.metric("watchfire_remote_storage_queue_lost_samples_total", "");
    assert!(lost > 0.0, "40,000 samples do not fit in 64 KiB");
    assert!(rig.metric("watchfire_remote_storage_queue_bytes", "") <= 65_536.0);
    let dropped = "prometheus_remote_storage_samples_dropped_total";
    assert_eq!(rig.metric(dropped, "queue_full"), lost);
    let mock = Mock::start_at(address).await;
    rig.wait("prometheus_remote_storage_samples_pending", "", 0.0);
    let samples = mock.accepted();
    assert_eq!(samples.len() as f64, 40_000.0 - lost, "what is not lost arrives");
    let first = samples.iter().map(|s| s.1).min().unwrap();
    assert!(samples.iter().filter(|s| s.1 == 1999).count() == 20, "the newest are there");
    assert!(first < 10, "what was in memory was sent though its segment had gone");
    rig.sender.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_options_loses_nothing_and_old_samples_can_be_left_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let mock = Mock::start().await;
    let rig = Rig::start(dir.path(), &target(&mock.url(), FAST)).await;
    mock.reply(&[Reply::Say(503, &[("retry-after", "120")], "later")]);
    rig.commit(3, 0);
    mock.until(|taken| taken.len() == 1).await;
    let relabelled =
        format!("{FAST}  write_relabel_configs: [{{target_label: new, replacement: 'yes'}}]\n");
    let committing = async {
        for ts in 1..200 {
            rig.commit(3, ts);
            tokio::task::yield_now().await;
        }
    };
    let labels = Labels::from_pairs([("region", "eu")]);
    let config = target(&mock.url(), &relabelled);
    let changing = rig.sender.apply(&config, &labels);
    let ((), changed) = tokio::join!(committing, changing);
    changed.expect("a target that can be used");
    rig.wait("prometheus_remote_storage_samples_pending", "", 0.0);
    assert_whole(&mock.accepted(), 3, 0..200);
    // Everything here is of 1970.
    let yaml = FAST.replace("{batch", "{sample_age_limit: 1h, batch");
    rig.sender.apply(&target(&mock.url(), &yaml), &labels).await.expect("a target");
    rig.commit(3, 200);
    rig.wait("prometheus_remote_storage_samples_pending", "", 0.0);
    let dropped = "prometheus_remote_storage_samples_dropped_total";
    assert_eq!(rig.metric(dropped, "too_old"), 3.0);
    rig.sender.shutdown().await;
}
