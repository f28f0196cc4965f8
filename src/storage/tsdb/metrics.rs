//! Counters of the embedded store, under Prometheus' names.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::exemplars::ExemplarMetrics;
use crate::telemetry::{Registry, Summary};

/// Label `type` of sample counters: `float` or `histogram`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct SampleType {
    r#type: &'static str,
}

/// Metrics of a log. Cloning shares the counters.
#[derive(Clone, Debug)]
pub(crate) struct LogMetrics {
    pub(crate) fsync_seconds: Summary,
    pub(crate) page_flushes: Counter,
    pub(crate) completed_pages: Counter,
    pub(crate) writes_failed: Counter,
    pub(crate) segment: Gauge,
    pub(crate) storage_bytes: Gauge,
    pub(crate) truncations: Counter,
    pub(crate) truncations_failed: Counter,
}

impl LogMetrics {
    /// Registers the metrics of the log `wal` or `out_of_order_wbl`.
    #[rustfmt::skip]
    fn new(r: &mut Adder<'_>, log: &str) -> Self {
        let name = |rest: &str| format!("prometheus_tsdb_{log}_{rest}");
        Self {
            fsync_seconds: r.summary(&name("fsync_duration_seconds"), "Duration of write log fsync."),
            page_flushes: r.counter(&name("page_flushes"), "Total number of page flushes."),
            completed_pages: r.counter(&name("completed_pages"), "Total number of completed pages."),
            writes_failed: r.counter(&name("writes_failed"), "Total number of write log writes that failed."),
            segment: r.gauge(&name("segment_current"), "Write log segment index that TSDB is currently writing to."),
            storage_bytes: r.gauge(&name("storage_size_bytes"), "Size of the write log directory."),
            truncations: r.counter(&name("truncations"), "Total number of write log truncations attempted."),
            truncations_failed: r.counter(&name("truncations_failed"), "Total number of write log truncations that failed."),
        }
    }

    /// Metrics nobody reads.
    pub(crate) fn unseen() -> Self {
        Self::new(&mut Adder { registry: &mut Registry::default() }, "wal")
    }
}

/// The store's metrics. Cloning shares the counters.
#[derive(Clone, Debug)]
pub struct TsdbMetrics {
    pub(crate) head_series: Gauge,
    pub(crate) head_series_created: Counter,
    pub(crate) head_series_removed: Counter,
    pub(crate) head_chunks: Gauge,
    pub(crate) head_chunks_created: Counter,
    pub(crate) head_chunks_removed: Counter,
    pub(crate) head_min_time: Gauge,
    pub(crate) head_max_time: Gauge,
    pub(crate) head_truncations: Counter,
    pub(crate) floats_appended: Counter,
    pub(crate) histograms_appended: Counter,
    pub(crate) out_of_order: Family<SampleType, Counter>,
    pub(crate) out_of_bound: Family<SampleType, Counter>,
    pub(crate) duplicates: Counter,
    pub(crate) active_appenders: Gauge,
    pub(crate) head_series_not_found: Counter,
    pub(crate) retention_seconds: Gauge,
    pub(crate) retention_bytes: Gauge,
    pub(crate) blocks_loaded: Gauge,
    pub(crate) blocks_bytes: Gauge,
    pub(crate) symbol_table_bytes: Gauge,
    pub(crate) lowest_timestamp: Gauge,
    pub(crate) reloads: Counter,
    pub(crate) reloads_failed: Counter,
    pub(crate) compactions: Counter,
    pub(crate) compactions_failed: Counter,
    pub(crate) compactions_triggered: Counter,
    pub(crate) vertical_compactions: Counter,
    pub(crate) time_retentions: Counter,
    pub(crate) size_retentions: Counter,
    pub(crate) compaction_seconds: Histogram,
    pub(crate) tombstone_cleanup_seconds: Histogram,
    pub(crate) wal: LogMetrics,
    /// Of the log of samples that came out of order.
    pub(crate) wbl: LogMetrics,
    pub(crate) late_appended: Family<SampleType, Counter>,
    pub(crate) too_old: Family<SampleType, Counter>,
    pub(crate) late_delta_seconds: Histogram,
    pub(crate) wal_truncate_seconds: Summary,
    pub(crate) head_gc_seconds: Summary,
    pub(crate) wal_corruptions: Counter,
    /// Entries whose series the log does not name.
    wal_unknown_refs: Family<SampleType, Counter>,
    wbl_unknown_refs: Family<SampleType, Counter>,
    pub(crate) mmap_corruptions: Counter,
    pub(crate) mmap_chunks: Counter,
    pub(crate) head_chunks_bytes: Gauge,
    pub(crate) snapshot_errors: Counter,
    pub(crate) checkpoints_created: Counter,
    pub(crate) checkpoints_failed: Counter,
    pub(crate) replay_seconds: Gauge<f64, AtomicU64>,
    pub(crate) isolation_high: Gauge,
    pub(crate) isolation_low: Gauge,
    pub(crate) exemplars: ExemplarMetrics,
}

impl Default for TsdbMetrics {
    /// Metrics nobody reads, for tests and tools.
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

impl TsdbMetrics {
    /// Counts entries of a log whose series it does not name.
    pub(crate) fn count_unknown(&self, late: bool, kind: &'static str, n: u64) {
        let family = if late { &self.wbl_unknown_refs } else { &self.wal_unknown_refs };
        if n > 0 {
            family.get_or_create(&SampleType { r#type: kind }).inc_by(n);
        }
    }

    /// Registers the metrics.
    #[rustfmt::skip]
    pub fn new(registry: &mut Registry) -> Self {
        let exemplars = ExemplarMetrics::new(registry);
        let mut r = Adder { registry };
        let (wal, wbl) = (LogMetrics::new(&mut r, "wal"), LogMetrics::new(&mut r, "out_of_order_wbl"));
        let late_appended: Family<SampleType, Counter> = Family::default();
        r.registry.register("prometheus_tsdb_head_out_of_order_samples_appended", "Total number of appended out of order samples.", late_appended.clone());
        let too_old: Family<SampleType, Counter> = Family::default();
        r.registry.register("prometheus_tsdb_too_old_samples", "Total number of out of order samples ingestion failed attempts with out of support enabled, but sample outside of time window.", too_old.clone());
        let appended: Family<SampleType, Counter> = Family::default();
        r.registry.register("prometheus_tsdb_head_samples_appended", "Total number of appended samples.", appended.clone());
        let out_of_order: Family<SampleType, Counter> = Family::default();
        r.registry.register("prometheus_tsdb_out_of_order_samples", "Total number of out of order samples ingestion failed attempts due to out of order being disabled.", out_of_order.clone());
        let out_of_bound: Family<SampleType, Counter> = Family::default();
        r.registry.register("prometheus_tsdb_out_of_bound_samples", "Total number of out of bound samples ingestion failed attempts with out of order support disabled.", out_of_bound.clone());
        let (wal_unknown_refs, wbl_unknown_refs): (Family<SampleType, Counter>, Family<SampleType, Counter>) = Default::default();
        r.registry.register("prometheus_tsdb_wal_replay_unknown_refs", "Total number of unknown series references encountered during WAL replay.", wal_unknown_refs.clone());
        r.registry.register("prometheus_tsdb_wbl_replay_unknown_refs", "Total number of unknown series references encountered during WBL replay.", wbl_unknown_refs.clone());
        let retention_seconds = r.gauge("prometheus_tsdb_retention_limit_seconds", "How long to retain samples in storage.");
        let replay_seconds = Gauge::default();
        r.registry.register("prometheus_tsdb_data_replay_duration_seconds", "Time taken to replay the data on disk.", replay_seconds.clone());
        for family in [&appended, &out_of_order, &out_of_bound, &late_appended, &too_old] {
            for kind in ["float", "histogram"] {
                let _ = family.get_or_create(&SampleType { r#type: kind });
            }
        }
        Self {
            head_series: r.gauge("prometheus_tsdb_head_series", "Total number of series in the head block."),
            head_series_created: r.counter("prometheus_tsdb_head_series_created", "Total number of series created in the head"),
            head_series_removed: r.counter("prometheus_tsdb_head_series_removed", "Total number of series removed in the head"),
            head_chunks: r.gauge("prometheus_tsdb_head_chunks", "Total number of chunks in the head block."),
            head_chunks_created: r.counter("prometheus_tsdb_head_chunks_created", "Total number of chunks created in the head"),
            head_chunks_removed: r.counter("prometheus_tsdb_head_chunks_removed", "Total number of chunks removed in the head"),
            head_min_time: r.gauge("prometheus_tsdb_head_min_time", "Minimum time bound of the head block. The unit is decided by the library consumer."),
            head_max_time: r.gauge("prometheus_tsdb_head_max_time", "Maximum timestamp of the head block. The unit is decided by the library consumer."),
            head_truncations: r.counter("prometheus_tsdb_head_truncations", "Total number of head truncations attempted."),
            floats_appended: counter_of(&appended, "float"),
            histograms_appended: counter_of(&appended, "histogram"),
            out_of_order,
            out_of_bound,
            duplicates: r.counter("watchfire_tsdb_duplicate_samples", "Samples dropped at commit because their series already had one for the timestamp."),
            active_appenders: r.gauge("prometheus_tsdb_head_active_appenders", "Number of currently active appender transactions"),
            head_series_not_found: r.counter("prometheus_tsdb_head_series_not_found", "Total number of requests for series that were not found."),
            retention_seconds,
            retention_bytes: r.gauge("prometheus_tsdb_retention_limit_bytes", "Max number of bytes to be retained in the tsdb blocks, configured 0 means disabled"),
            blocks_loaded: r.gauge("prometheus_tsdb_blocks_loaded", "Number of currently loaded data blocks"),
            blocks_bytes: r.gauge("prometheus_tsdb_storage_blocks_bytes", "The number of bytes that are currently used for local storage by all blocks."),
            symbol_table_bytes: r.gauge("prometheus_tsdb_symbol_table_size_bytes", "Size of symbol table in memory for loaded blocks"),
            lowest_timestamp: r.gauge("prometheus_tsdb_lowest_timestamp", "Lowest timestamp value stored in the database. The unit is decided by the library consumer."),
            reloads: r.counter("prometheus_tsdb_reloads", "Number of times the database reloaded block data from disk."),
            reloads_failed: r.counter("prometheus_tsdb_reloads_failures", "Number of times the database failed to reloadBlocks block data from disk."),
            compactions: r.counter("prometheus_tsdb_compactions", "Total number of compactions that were executed for the partition."),
            compactions_failed: r.counter("prometheus_tsdb_compactions_failed", "Total number of compactions that failed for the partition."),
            compactions_triggered: r.counter("prometheus_tsdb_compactions_triggered", "Total number of triggered compactions for the partition."),
            vertical_compactions: r.counter("prometheus_tsdb_vertical_compactions", "Total number of compactions done on overlapping blocks."),
            time_retentions: r.counter("prometheus_tsdb_time_retentions", "The number of times that blocks were deleted because the maximum time limit was exceeded."),
            size_retentions: r.counter("prometheus_tsdb_size_retentions", "The number of times that blocks were deleted because the maximum number of bytes was exceeded."),
            compaction_seconds: r.histogram("prometheus_tsdb_compaction_duration_seconds", "Duration of compaction runs", exponential_buckets(1.0, 2.0, 14)),
            tombstone_cleanup_seconds: r.histogram("prometheus_tsdb_tombstone_cleanup_seconds", "The time taken to recompact blocks to remove tombstones.", exponential_buckets(1.0, 2.0, 14)),
            wal,
            wbl,
            wal_unknown_refs,
            wbl_unknown_refs,
            late_appended,
            too_old,
            late_delta_seconds: r.histogram("prometheus_tsdb_sample_ooo_delta", "Delta in seconds by which a sample is considered out of order (reported regardless of OOO time window and whether sample is accepted or not).", [600.0, 1800.0, 3600.0, 7200.0, 10_800.0, 21_600.0, 43_200.0].into_iter()),
            wal_truncate_seconds: r.summary("prometheus_tsdb_wal_truncate_duration_seconds", "Duration of WAL truncation."),
            head_gc_seconds: r.summary("prometheus_tsdb_head_gc_duration_seconds", "Runtime of garbage collection in the head block."),
            mmap_corruptions: r.counter("prometheus_tsdb_mmap_chunk_corruptions", "Total number of memory-mapped chunk corruptions."),
            mmap_chunks: r.counter("prometheus_tsdb_mmap_chunks", "Total number of chunks that were memory-mapped."),
            head_chunks_bytes: r.gauge("prometheus_tsdb_head_chunks_storage_size_bytes", "Size of the chunks_head directory."),
            snapshot_errors: r.counter("prometheus_tsdb_snapshot_replay_error", "Total number snapshot replays that failed."),
            wal_corruptions: r.counter("prometheus_tsdb_wal_corruptions", "Total number of WAL corruptions."),
            checkpoints_created: r.counter("prometheus_tsdb_checkpoint_creations", "Total number of checkpoint creations attempted."),
            checkpoints_failed: r.counter("prometheus_tsdb_checkpoint_creations_failed", "Total number of checkpoint creations that failed."),
            replay_seconds,
            isolation_high: r.gauge("prometheus_tsdb_isolation_high_watermark", "The highest TSDB append ID that has been given out."),
            isolation_low: r.gauge("prometheus_tsdb_isolation_low_watermark", "The lowest TSDB append ID that is still referenced."),
            exemplars,
        }
    }

    /// How often the write-ahead log was found damaged.
    pub fn wal_corruption_count(&self) -> u64 {
        self.wal_corruptions.get()
    }

    pub(crate) fn count_out_of_order(&self, kind: &'static str) {
        counter_of(&self.out_of_order, kind).inc();
    }

    pub(crate) fn count_too_old(&self, kind: &'static str) {
        counter_of(&self.too_old, kind).inc();
    }

    pub(crate) fn count_late(&self, kind: &'static str) {
        counter_of(&self.late_appended, kind).inc();
    }

    pub(crate) fn count_out_of_bound(&self, kind: &'static str) {
        counter_of(&self.out_of_bound, kind).inc();
    }
}

fn counter_of(family: &Family<SampleType, Counter>, kind: &'static str) -> Counter {
    family.get_or_create(&SampleType { r#type: kind }).clone()
}

struct Adder<'a> {
    registry: &'a mut Registry,
}

impl Adder<'_> {
    fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        let metric = Gauge::default();
        self.registry.register(name, help, metric.clone());
        metric
    }

    fn summary(&mut self, name: &str, help: &str) -> Summary {
        let metric = Summary::default();
        self.registry.register(name, help, metric.clone());
        metric
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        buckets: impl Iterator<Item = f64>,
    ) -> Histogram {
        let metric = Histogram::new(buckets);
        self.registry.register(name, help, metric.clone());
        metric
    }

    fn counter(&mut self, name: &str, help: &str) -> Counter {
        let metric = Counter::default();
        self.registry.register(name, help, metric.clone());
        metric
    }
}
