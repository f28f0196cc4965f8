//! The flags of `watchfire serve`: Prometheus' own names and defaults. Where Watchfire
//! departs (it listens on loopback, and keeps data in `./watchfire-data`), the help says so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command};

use crate::model::duration::parse_duration;
use crate::rules::Shard;
use crate::rules::policy::{OnError, OnLimit, OnNoData, UnknownWord, parse_budget};
use crate::rules::state::STATE_FILE_BYTES_MIN;

/// Flags of `watchfire serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeFlags {
    /// Configuration file in Prometheus' format. Without it Watchfire watches itself.
    #[arg(long = "config.file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Load the configuration again when it, a rule file or a file of scrape_config_files
    /// has changed. Also --enable-feature=auto-reload-config.
    #[arg(long = "config.auto-reload")]
    pub auto_reload: bool,
    /// How often it is looked for changes.
    #[arg(long = "config.auto-reload-interval", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub auto_reload_interval: Duration,

    /// Address to listen on for HTTP; repeatable. Loopback only unless you say otherwise.
    #[arg(long = "web.listen-address", value_name = "ADDR", default_value = "127.0.0.1:9090")]
    pub listen_addresses: Vec<String>,
    /// File that enables TLS, basic authentication or response headers, in the format of
    /// Prometheus. It is read anew when it or a certificate changes.
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config_file: Option<PathBuf>,
    /// Maximum duration before timing out read of the request, and closing idle connections.
    #[arg(long = "web.read-timeout", value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub read_timeout: Duration,
    /// Maximum number of simultaneous connections across all listeners.
    #[arg(long = "web.max-connections", value_name = "N", default_value_t = 512)]
    pub max_connections: usize,
    /// Most subscribers of /api/v1/notifications/live.
    #[arg(long = "web.max-notifications-subscribers", value_name = "N", default_value_t = 16)]
    pub max_notifications_subscribers: usize,
    /// URL under which Watchfire is reachable from outside, used in links back to it.
    #[arg(long = "web.external-url", value_name = "URL", default_value = "")]
    pub external_url: String,
    /// Prefix of the internal routes; defaults to the path of --web.external-url.
    #[arg(long = "web.route-prefix", value_name = "PATH")]
    pub route_prefix: Option<String>,
    /// Enable shutdown and reload via HTTP (POST /-/quit, POST /-/reload).
    #[arg(long = "web.enable-lifecycle")]
    pub enable_lifecycle: bool,
    /// Enable API endpoints for admin control actions.
    #[arg(long = "web.enable-admin-api")]
    pub enable_admin_api: bool,
    /// Accept remote write requests on /api/v1/write.
    #[arg(long = "web.enable-remote-write-receiver")]
    pub enable_remote_write_receiver: bool,
    /// Protobuf messages of remote write to accept; may be given several times.
    #[arg(
        long = "web.remote-write-receiver.accepted-protobuf-messages",
        value_name = "MESSAGE",
        value_parser = ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"],
        default_values = ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"]
    )]
    pub remote_write_messages: Vec<String>,
    /// Enable writing rules through the API, as Mimir's ruler has it: /api/v1/rules/NAMESPACE
    /// and /config/v1/rules. They are kept in ruler in --storage.tsdb.path.
    #[arg(long = "web.enable-rules-api")]
    pub enable_rules_api: bool,
    /// Title of the web page.
    #[arg(
        long = "web.page-title",
        value_name = "TEXT",
        default_value = "Watchfire: PromQL and rules"
    )]
    pub page_title: String,
    /// Regex of origins that may read answers from another site; anchored.
    #[arg(long = "web.cors.origin", value_name = "REGEX", default_value = ".*")]
    pub cors_origin: String,

    /// Directory of the data. (Prometheus' default is data/.)
    #[arg(long = "storage.tsdb.path", value_name = "DIR", default_value = "watchfire-data")]
    pub storage_path: PathBuf,
    /// Data directory of a running Prometheus to answer queries and evaluate alerting rules
    /// from, instead of data of one's own: it is followed as it grows, nothing is written
    /// there, and its owner is not asked anything. Nothing is scraped or taken in;
    /// recording rules need remote_write and are refused without. Alerts are still remembered in --storage.tsdb.path.
    /// (Prometheus has no such flag.)
    #[arg(long = "storage.tsdb.read-only", value_name = "DIR")]
    pub storage_read_only: Option<PathBuf>,
    /// How long to keep samples.
    #[arg(long = "storage.tsdb.retention.time", value_name = "DURATION", default_value = "15d", value_parser = duration)]
    pub retention_time: Duration,
    /// Most bytes of blocks and write-ahead log to keep; 0 for no limit. Units: B, KB, MB,
    /// GB, TB, PB, EB, each 1024 of the one before.
    #[arg(long = "storage.tsdb.retention.size", value_name = "BYTES", default_value = "0", value_parser = bytes)]
    pub retention_size: u64,
    /// What a block covers at least. For tests.
    #[arg(long = "storage.tsdb.min-block-duration", value_name = "DURATION", default_value = "2h", value_parser = duration, hide = true)]
    pub min_block_duration: Duration,
    /// What a compacted block covers at most. For tests; a tenth of the retention time, or 31
    /// days if that is less, when it is left out.
    #[arg(long = "storage.tsdb.max-block-duration", value_name = "DURATION", value_parser = duration, hide = true)]
    pub max_block_duration: Option<Duration>,
    /// Bytes at which a segment of the write-ahead log is complete.
    #[arg(long = "storage.tsdb.wal-segment-size", value_name = "BYTES", default_value = "128MB", value_parser = bytes, hide = true)]
    pub wal_segment_size: u64,
    /// Compress the write-ahead log.
    #[arg(long = "storage.tsdb.wal-compression", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub wal_compression: bool,
    /// Compression of the write-ahead log.
    #[arg(long = "storage.tsdb.wal-compression-type", value_name = "TYPE", default_value = "snappy", value_parser = ["snappy", "zstd"])]
    pub wal_compression_type: String,

    /// How long stopping waits for samples to be sent on by remote write. What is not sent
    /// then stays in the queue on disk and is sent after the next start.
    #[arg(long = "storage.remote.flush-deadline", value_name = "DURATION", default_value = "1m", value_parser = duration)]
    pub remote_flush_deadline: Duration,
    /// Most bytes a queue of remote write takes on disk, under remote_write in
    /// --storage.tsdb.path, unless its queue_config has a max_disk_size. Beyond it the oldest
    /// samples are dropped. (Prometheus' queue is in memory.)
    #[arg(long = "storage.remote.queue-max-disk-size", value_name = "BYTES", default_value = "8GB", value_parser = bytes)]
    pub remote_queue_bytes_max: u64,

    /// Minimum age of an alert that was active before a restart to be restored: alerts
    /// with a shorter `for` start anew.
    #[arg(long = "rules.alert.for-grace-period", value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub for_grace_period: Duration,
    /// Longest outage after which the `for` state of alerts is restored.
    #[arg(long = "rules.alert.for-outage-tolerance", value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub for_outage_tolerance: Duration,
    /// Minimum time to wait before an alert is sent to Alertmanager again.
    #[arg(long = "rules.alert.resend-delay", value_name = "DURATION", default_value = "1m", value_parser = duration)]
    pub resend_delay: Duration,
    /// Evaluate rules that do not depend on each other together: what several of them
    /// select and compute is selected and computed once. Results are the same either way.
    #[arg(long = "rules.shared-evaluation", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub shared_evaluation: bool,
    /// Keep results of rules in memory and lay them over what the storage answers to rules
    /// until it shows them: always, never, or when the storage does not show at once what
    /// was written to it (auto; the embedded storage does).
    #[arg(long = "rules.read-your-writes", value_name = "WHEN", default_value = "auto", value_parser = ["auto", "always", "never"])]
    pub read_your_writes: String,
    /// Evaluate all rule groups at whole multiples of their interval instead of at places
    /// of their own. Groups that tick together are ordered by what they read of each other
    /// and share what they query.
    #[arg(long = "rules.align-groups", default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub align_groups: bool,
    /// Rule evaluations that may run beside those that run anyway, over all groups, with
    /// --enable-feature=concurrent-rule-eval. Results are the same either way.
    #[arg(long = "rules.max-concurrent-evals", value_name = "N", default_value_t = 4)]
    pub max_concurrent_evals: usize,

    /// Directory in which alerts are remembered over restarts; empty to remember none.
    /// Default: alert_state in --storage.tsdb.path. (Prometheus has no such flag.)
    #[arg(long = "rules.state-dir", value_name = "DIR")]
    pub state_dir: Option<String>,
    /// What a change of alerts waits for before it is acted upon: "never" for the disk (it
    /// survives the death of the process), or "always" (it survives a power cut).
    #[arg(long = "rules.state-sync", value_name = "WHEN", default_value = "never", value_parser = ["never", "always"])]
    pub state_sync: String,
    /// Bytes that a file of the alert state has at least before a new one succeeds it; for
    /// tests, which want to see many successions.
    #[arg(long = "rules.state-file-size", value_name = "BYTES", default_value_t = STATE_FILE_BYTES_MIN, hide = true)]
    pub state_file_bytes_min: u64,
    /// How often servers among rule_files (http:// or https://) are asked whether their rules
    /// have changed, and with --rules.watch-files files are looked at.
    #[arg(long = "rules.refresh-interval", value_name = "DURATION", default_value = "1m", value_parser = duration)]
    pub rules_refresh_interval: Duration,
    /// Use rule files as soon as they are seen to have changed, without a reload; directories
    /// mounted from ConfigMaps too.
    #[arg(long = "rules.watch-files", default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub rules_watch_files: bool,
    /// HTTP client options with which servers are asked for rules, in a file of their own.
    #[arg(long = "rules.http.config.file", value_name = "FILE")]
    pub rules_http_config: Option<PathBuf>,
    /// Run the groups of this share alone (1/3, 2/3 or 3/3): several processes divide the
    /// same rules among them, by a hash of file and group name.
    #[arg(long = "rules.shard", value_name = "I/N")]
    pub rules_shard: Option<Shard>,
    /// Another Watchfire that runs the same rules: just before its first evaluation a group
    /// goes on from the alerts as they are there, if that is newer than what is remembered
    /// here. Of a Prometheus, since when alerts are active.
    #[arg(long = "state.peer", value_name = "URL")]
    pub state_peer: Option<String>,
    /// HTTP client options (TLS, credentials, headers, proxy) with which the peer is asked, in
    /// a file of their own. Credentials in the URL are used for basic authentication.
    #[arg(long = "state.peer.http.config.file", value_name = "FILE", requires = "state_peer")]
    pub state_peer_http_config: Option<PathBuf>,
    /// All or nothing: a rule file that cannot be used stops the start and refuses a
    /// reload, as in Prometheus. Without it what is bad is set aside, its last good version
    /// goes on, and everything else runs.
    #[arg(long = "rules.strict")]
    pub rules_strict: bool,
    /// What alerts do when their rule's selectors match no series at all, unless the rule
    /// or its group says (on_no_data): resolve, keep, or fire. Prometheus: resolve.
    #[arg(long = "rules.on-no-data", value_name = "WORD", default_value_t = OnNoData::Resolve, value_parser = word::<OnNoData>)]
    pub on_no_data: OnNoData,
    /// What alerts do when their rule's query fails (on_error): keep, resolve, or fire.
    /// Prometheus: keep.
    #[arg(long = "rules.on-error", value_name = "WORD", default_value_t = OnError::Keep, value_parser = word::<OnError>)]
    pub on_error: OnError,
    /// Evaluations in a row an alert must be missing from before it resolves
    /// (missing_evals_to_resolve). Prometheus: 1.
    #[arg(long = "rules.missing-evals-to-resolve", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub missing_evals_to_resolve: u32,
    /// What a rule does that makes more than its group's limit (on_limit): fail, or
    /// truncate. Prometheus: fail.
    #[arg(long = "rules.on-limit", value_name = "WORD", default_value_t = OnLimit::Fail, value_parser = word::<OnLimit>)]
    pub on_limit: OnLimit,
    /// Oldest missed evaluation of a group that is made up for (catch_up). Prometheus: 0s,
    /// none.
    #[arg(long = "rules.catch-up", value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub catch_up: Duration,
    /// Most pending and firing alerts over all rules; 0 is no limit, as in Prometheus. What
    /// is active stays, what would come on top is refused, and the rule says so in an alert
    /// of its own.
    #[arg(long = "rules.max-active-alerts", value_name = "N", default_value_t = 0)]
    pub max_active_alerts: usize,
    /// Memory that pending and firing alerts over all rules may take, in bytes, as
    /// watchfire_rules_active_alerts_bytes counts it: their texts, what is known of them,
    /// and their two series in the store. 0 is no limit. What would go beyond is refused as
    /// with --rules.max-active-alerts.
    #[arg(long = "rules.active-alerts-memory", value_name = "BYTES", default_value_t = 0)]
    pub active_alerts_memory: usize,
    /// Say why in resolved notifications, in an annotation watchfire_resolved_reason.
    #[arg(long = "rules.annotate-resolved")]
    pub annotate_resolved: bool,
    /// Share of its interval a group may take before that is reported (budget).
    #[arg(long = "rules.group-budget", value_name = "SHARE", default_value = "1.0", value_parser = parse_budget)]
    pub group_budget: f64,

    /// Alerts waiting for one Alertmanager; beyond it the oldest are dropped.
    #[arg(
        long = "alertmanager.notification-queue-capacity",
        value_name = "N",
        default_value_t = 10_000
    )]
    pub notification_queue_capacity: usize,
    /// Most alerts sent to an Alertmanager in one request.
    #[arg(long = "alertmanager.notification-batch-size", value_name = "N", default_value_t = 256)]
    pub notification_batch_size: usize,
    /// Send the alerts still queued before shutting down.
    #[arg(long = "alertmanager.drain-notification-queue-on-shutdown", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub drain_notification_queue: bool,

    /// Most samples of one query answered by remote read with samples; 0 for no limit. It
    /// does not apply to streamed chunks.
    #[arg(
        long = "storage.remote.read-sample-limit",
        value_name = "N",
        default_value_t = 50_000_000
    )]
    pub remote_read_sample_limit: usize,
    /// Remote read requests answered at once; further ones wait. 0 for no limit.
    #[arg(long = "storage.remote.read-concurrent-limit", value_name = "N", default_value_t = 10)]
    pub remote_read_concurrent_limit: usize,
    /// Most bytes of a frame of streamed chunks, before it is sent.
    #[arg(long = "storage.remote.read-max-bytes-in-frame", value_name = "BYTES", default_value_t = 1 << 20)]
    pub remote_read_max_bytes_in_frame: usize,

    /// How far back an instant selector looks for a sample.
    #[arg(long = "query.lookback-delta", value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub lookback_delta: Duration,
    /// Maximum time a query may take before being aborted.
    #[arg(long = "query.timeout", value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub query_timeout: Duration,
    /// Maximum number of queries executed concurrently.
    #[arg(long = "query.max-concurrency", value_name = "N", default_value_t = 20)]
    pub query_max_concurrency: usize,
    /// Maximum number of samples a single query can load into memory.
    #[arg(long = "query.max-samples", value_name = "N", default_value_t = 50_000_000)]
    pub query_max_samples: usize,
    /// Maximum memory a single query can hold, in bytes: its samples (16 each), histograms
    /// and the labels of the series it selects. (Prometheus has no such flag.)
    #[arg(long = "query.max-memory-bytes", value_name = "BYTES", default_value_t = 2 << 30)]
    pub query_max_memory_bytes: u64,

    /// Only log messages with the given severity or above.
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info", value_parser = ["debug", "info", "warn", "error"])]
    pub log_level: String,
    /// Output format of log messages.
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt", value_parser = ["logfmt", "json"])]
    pub log_format: String,
}

/// Flags of Prometheus that Watchfire accepts, so that a command line need not change,
/// but does not act upon (yet): name, and whether it takes a value. Each one given is
/// named in a warning at start.
const UNSERVED: &[(&str, bool)] = &[
    ("web.console.templates", true),
    ("web.console.libraries", true),
    ("web.user-assets", true),
    ("web.enable-otlp-receiver", false),
    ("web.search.max-limit", true),
    ("storage.tsdb.retention", true),
    ("storage.tsdb.retention.percentage", true),
    ("storage.tsdb.no-lockfile", false),
    ("storage.tsdb.head-chunks-write-queue-size", true),
    ("storage.tsdb.allow-overlapping-blocks", false),
    ("storage.tsdb.delay-compact-file.path", true),
    ("storage.agent.path", true),
    ("agent", false),
    ("auto-gomaxprocs", false),
    ("auto-gomemlimit", false),
    ("auto-gomemlimit.ratio", true),
    ("scrape.adjust-timestamps", false),
    ("scrape.timestamp-tolerance", true),
    ("scrape.discovery-reload-interval", true),
    ("alertmanager.timeout", true),
];

/// The unserved flags as arguments of `serve`; they do not show in its help.
pub(crate) fn unserved_args() -> impl Iterator<Item = Arg> {
    UNSERVED.iter().map(|(name, takes_value)| {
        let arg = Arg::new(*name).long(*name).hide(true);
        arg.action(if *takes_value { ArgAction::Append } else { ArgAction::SetTrue })
    })
}

/// Unserved flags that were given.
pub(crate) fn unserved_given(matches: &ArgMatches) -> Vec<&'static str> {
    let given = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
    UNSERVED.iter().map(|(name, _)| *name).filter(|name| given(name)).collect()
}

/// A Prometheus duration as a flag.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let ms = parse_duration(text).map_err(|e| format!("{e} (want e.g. 30s, 5m, 1h30m)"))?;
    Ok(Duration::from_millis(ms.unsigned_abs()))
}

/// A number of bytes as a flag: `512MB`, `10GiB`; the units are powers of 1024 either way.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a number of bytes (want e.g. 512MB, 10GB)");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_suffix('B').unwrap_or(unit);
    let power = match unit.strip_suffix('i').unwrap_or(unit) {
        "" => 0,
        "K" | "k" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        "E" => 6,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * 1024f64.powi(power);
    if bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// A word of a choice as a flag.
fn word<T: FromStr<Err = UnknownWord>>(text: &str) -> Result<T, UnknownWord> {
    text.parse()
}

/// The value every flag of `serve` has in effect, by its name on the command line: what
/// `/api/v1/status/flags` shows.
pub(crate) fn effective(serve: &Command, matches: &ArgMatches) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    for arg in serve.get_arguments() {
        let Some(name) = arg.get_long() else { continue };
        let values: Vec<String> = match matches.try_get_raw(arg.get_id().as_str()) {
            Ok(Some(values)) => values.map(|v| v.to_string_lossy().into_owned()).collect(),
            _ => Vec::new(),
        };
        flags.insert(name.to_owned(), values.join(","));
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_powers_of_1024() {
        for (text, expected) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("1KB", Some(1 << 10)),
            ("1.5MB", Some(3 << 19)),
            ("10GiB", Some(10 << 30)),
            ("2EB", Some(2 << 60)),
            ("", None),
            ("MB", None),
            ("1XB", None),
            ("-1", None),
            ("100EB", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
    }
}
