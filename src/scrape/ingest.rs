//! From a body to stored samples: one atomic batch for each scrape, its report series
//! and staleness markers among them. Synchronous; what time it is and how long the scrape
//! took so far is handed in.

use std::sync::Arc;

use thiserror::Error;

use super::cache::{Known, Lookup, SeriesCache};
use super::config::Limits;
use super::metadata::FamilyMetadata;
use super::metrics::ScrapeMetrics;
use super::parse::{self, Entry, Format, LabelPairs, ParseError, Parser, Series};
use crate::model::exemplar::{Exemplar, ExemplarError};
use crate::model::labels::quote;
use crate::model::value::stale_nan;
use crate::model::{Labels, LabelsBuilder, METRIC_NAME, TimestampMs};
use crate::relabel::{NameScheme, RelabelConfig, Verdict, apply};
use crate::storage::{AppendError, Appender, SeriesRef, Sink, StorageError};

/// How samples of a target are made; equal settings mean the same text is the same series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SampleSettings {
    /// The target's own labels.
    pub target: Labels,
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub track_timestamps_staleness: bool,
    pub relabel: Arc<[RelabelConfig]>,
    pub names: NameScheme,
    pub limits: Limits,
    pub extra_metrics: bool,
    pub timeout_ms: i64,
}

/// How far in the future a sample may lie: beyond, its clock is wrong.
const FUTURE_MAX_MS: i64 = 10 * 60_000;

/// Why a body was refused as a whole; texts are those of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IngestError {
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("sample limit exceeded")]
    SampleLimit,
    #[error("missing metric name (__name__ label)")]
    NoName,
    #[error("invalid metric name or label names: {0}")]
    InvalidNames(String),
    #[error("label name {} is not unique: invalid sample", quote(.0))]
    DuplicateLabel(String),
    #[error("{what} limit exceeded (metric: {metric}, {found_is}: {found}, limit: {limit})")]
    LabelLimit { what: &'static str, metric: String, found_is: String, found: usize, limit: u64 },
    #[error(transparent)]
    Storage(#[from] AppendError),
}

/// What one scrape amounted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Sample lines in the body.
    pub scraped: u64,
    /// Those left after relabelling.
    pub kept: u64,
    /// Series the target had not shown before.
    pub series_added: u64,
}

/// What the report series say.
#[derive(Clone, Copy)]
pub(super) struct Report<'a> {
    pub at_ms: TimestampMs,
    /// Seconds since the scrape began, asked when the samples are appended.
    pub elapsed: &'a dyn Fn() -> f64,
    /// Size of the body; -1 when it exceeded its limit.
    pub body_bytes: f64,
}

/// The state of one target's ingestion.
pub(super) struct Ingester {
    sink: Arc<dyn Sink>,
    metrics: ScrapeMetrics,
    settings: SampleSettings,
    cache: SeriesCache,
    pub metadata: Arc<FamilyMetadata>,
    report_series: Vec<(&'static str, Known)>,
}

/// Samples the appender refuses without failing the scrape.
#[derive(Default)]
struct Refused {
    out_of_order: u64,
    duplicate: u64,
    out_of_bounds: u64,
    too_old: u64,
}

impl Ingester {
    pub fn new(sink: Arc<dyn Sink>, metrics: ScrapeMetrics, settings: SampleSettings) -> Self {
        let metadata = Arc::new(FamilyMetadata::default());
        let cache = SeriesCache::default();
        Self { sink, metrics, settings, cache, metadata, report_series: Vec::new() }
    }

    /// Takes new settings; series are looked at anew when they are made differently.
    pub fn configure(&mut self, settings: SampleSettings) {
        if settings != self.settings {
            self.cache.reset();
            self.settings = settings;
        }
    }

    /// Stores a body and its report in one batch. When the body is refused, only the
    /// report and staleness markers are stored, and the reason is returned.
    pub fn ingest(
        &mut self,
        body: &[u8],
        format: Format,
        report: Report<'_>,
    ) -> (Counts, Option<IngestError>, Result<(), StorageError>) {
        let mut appender = self.sink.appender();
        self.cache.begin();
        let (counts, refusal) = self.append_body(appender.as_mut(), body, format, report.at_ms);
        if refusal.is_some() {
            // Dropping the batch takes back what was appended of a bad body.
            drop(appender);
            let stored = self.store_failure(report, counts);
            return (counts, refusal, stored);
        }
        // An empty body is a scrape without series: what was there before ends, and texts
        // stay known.
        let ended = if body.is_empty() { self.cache.fail() } else { self.cache.succeed() };
        mark_stale(appender.as_mut(), &ended, report.at_ms);
        self.append_report(appender.as_mut(), report, true, counts);
        (counts, None, appender.commit())
    }

    /// Stores that a scrape failed before there was a body.
    pub fn ingest_failure(&mut self, report: Report<'_>) -> Result<(), StorageError> {
        self.cache.begin();
        self.store_failure(report, Counts::default())
    }

    fn store_failure(&mut self, report: Report<'_>, counts: Counts) -> Result<(), StorageError> {
        let mut appender = self.sink.appender();
        let ended = self.cache.fail();
        mark_stale(appender.as_mut(), &ended, report.at_ms);
        self.append_report(appender.as_mut(), report, false, counts);
        appender.commit()
    }

    /// Ends every series of the target, its report series included.
    pub fn end(&mut self, at_ms: TimestampMs) -> Result<(), StorageError> {
        let mut appender = self.sink.appender();
        self.cache.begin();
        mark_stale(appender.as_mut(), &self.cache.fail(), at_ms);
        let report: Vec<Known> = self.report_series.drain(..).map(|(_, known)| known).collect();
        mark_stale(appender.as_mut(), &report, at_ms);
        appender.commit()
    }

    fn append_body(
        &mut self,
        appender: &mut dyn Appender,
        body: &[u8],
        format: Format,
        at_ms: TimestampMs,
    ) -> (Counts, Option<IngestError>) {
        let mut counts = Counts::default();
        let mut refused = Refused::default();
        let mut over_limit = false;
        let mut pairs = LabelPairs::default();
        self.metadata.begin();
        for entry in Parser::new(body, format) {
            let result = match entry {
                Ok(Entry::Series(series)) => {
                    counts.scraped += 1;
                    let full = self.settings.limits.samples;
                    over_limit |= full > 0 && counts.kept >= full;
                    self.append_series(
                        appender,
                        &series,
                        &mut pairs,
                        at_ms,
                        over_limit,
                        &mut refused,
                        &mut counts,
                    )
                }
                Ok(entry) => {
                    self.metadata.note(&entry, appender);
                    Ok(())
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = result {
                return (counts, Some(error));
            }
        }
        self.metadata.end();
        self.count_refused(&refused);
        let limit = self.settings.limits.samples;
        if limit > 0 && counts.kept > limit {
            self.metrics.exceeded_sample_limit.inc();
            return (counts, Some(IngestError::SampleLimit));
        }
        (counts, None)
    }

    #[allow(clippy::too_many_arguments, reason = "the state of one loop, spelt out")]
    fn append_series<'b>(
        &mut self,
        appender: &mut dyn Appender,
        series: &Series<'b>,
        pairs: &mut LabelPairs<'b>,
        at_ms: TimestampMs,
        over_limit: bool,
        refused: &mut Refused,
        counts: &mut Counts,
    ) -> Result<(), IngestError> {
        let own_ts = series.ts.filter(|_| self.settings.honor_timestamps);
        let (slot, first, is_new) = match self.cache.look_up(series.raw) {
            Lookup::Dropped => return Ok(()),
            Lookup::Known { slot, first } => (slot, first, false),
            Lookup::New => {
                series.labels(pairs)?;
                let labels = self.settings.series_labels(pairs)?;
                if labels.is_empty() {
                    self.cache.insert(series.raw, None);
                    return Ok(());
                }
                self.settings.check(&labels).inspect_err(|error| {
                    if matches!(error, IngestError::LabelLimit { .. }) {
                        self.metrics.exceeded_label_limits.inc();
                    }
                })?;
                let known = Known { series: None, labels };
                (self.cache.insert(series.raw, Some(known)), true, true)
            }
        };
        counts.kept += 1;
        if over_limit {
            // The rest is only counted, so that the report says how many there are.
            return Ok(());
        }
        if !first && own_ts.is_none() {
            refused.duplicate += 1;
            return Ok(());
        }
        let known = self.cache.known(slot);
        let ts = own_ts.unwrap_or(at_ms);
        let result = if ts > at_ms.saturating_add(FUTURE_MAX_MS) {
            Err(AppendError::OutOfBounds)
        } else {
            appender.append(known.series, &known.labels, ts, series.value)
        };
        match result {
            Ok(found) => {
                counts.series_added += u64::from(is_new);
                let track = own_ts.is_none() || self.settings.track_timestamps_staleness;
                self.cache.stored(slot, found, track);
                if let Some(exemplar) = &series.exemplar {
                    self.append_exemplar(appender, found, exemplar, ts)?;
                }
                return Ok(());
            }
            Err(AppendError::OutOfOrder) => refused.out_of_order += 1,
            Err(AppendError::DuplicateForTimestamp) => refused.duplicate += 1,
            Err(AppendError::OutOfBounds) => refused.out_of_bounds += 1,
            Err(AppendError::TooOld) => refused.too_old += 1,
            Err(error) => return Err(error.into()),
        }
        self.cache.lost(slot);
        Ok(())
    }

    /// Exemplars that are refused fail nothing.
    fn append_exemplar(
        &self,
        appender: &mut dyn Appender,
        series: SeriesRef,
        found: &parse::Exemplar<'_>,
        sample_ms: TimestampMs,
    ) -> Result<(), IngestError> {
        let mut pairs = LabelPairs::default();
        found.labels(&mut pairs)?;
        let exemplar = Exemplar {
            labels: pairs.build(),
            value: found.value,
            ts: found.ts.unwrap_or(sample_ms),
            has_ts: found.ts.is_some(),
        };
        if let Err(error) = appender.append_exemplar(series, exemplar) {
            if error == ExemplarError::OutOfOrder {
                self.metrics.exemplar_out_of_order.inc();
            }
            tracing::debug!(target = %self.settings.target, %error, "exemplar refused");
        }
        Ok(())
    }

    fn count_refused(&self, refused: &Refused) {
        self.metrics.out_of_order.inc_by(refused.out_of_order);
        self.metrics.duplicate_timestamp.inc_by(refused.duplicate);
        self.metrics.out_of_bounds.inc_by(refused.out_of_bounds);
        for (count, what) in [
            (refused.out_of_order, "Error on ingesting out-of-order samples"),
            (
                refused.duplicate,
                "Error on ingesting samples with different value but same timestamp",
            ),
            (
                refused.out_of_bounds,
                "Error on ingesting samples that are too old or are too far into the future",
            ),
            (refused.too_old, "Error on ingesting samples that are too old"),
        ] {
            if count > 0 {
                tracing::warn!(target = %self.settings.target, num_dropped = count, "{what}");
            }
        }
    }

    fn append_report(
        &mut self,
        appender: &mut dyn Appender,
        report: Report<'_>,
        up: bool,
        counts: Counts,
    ) {
        let limits = self.settings.limits;
        let mut samples = vec![
            ("up", f64::from(u8::from(up))),
            ("scrape_duration_seconds", (report.elapsed)()),
            ("scrape_samples_scraped", counts.scraped as f64),
            ("scrape_samples_post_metric_relabeling", counts.kept as f64),
            ("scrape_series_added", counts.series_added as f64),
        ];
        if self.settings.extra_metrics {
            samples.push(("scrape_timeout_seconds", self.settings.timeout_ms as f64 / 1000.0));
            samples.push(("scrape_sample_limit", limits.samples as f64));
            samples.push(("scrape_body_size_bytes", report.body_bytes));
        }
        for (name, value) in samples {
            let index = self.report_series.iter().position(|(n, _)| *n == name);
            let index = index.unwrap_or_else(|| {
                let labels = report_labels(name, &self.settings.target);
                self.report_series.push((name, Known { series: None, labels }));
                self.report_series.len() - 1
            });
            let known = &mut self.report_series[index].1;
            match appender.append(known.series, &known.labels, report.at_ms, value) {
                Ok(found) => known.series = Some(found),
                Err(error) => {
                    tracing::debug!(series = %known.labels, %error, "report sample refused");
                }
            }
        }
    }
}

fn mark_stale(appender: &mut dyn Appender, ended: &[Known], at_ms: TimestampMs) {
    for known in ended {
        // A newer sample, of a target that is back elsewhere, is no reason to complain.
        let _: Result<SeriesRef, AppendError> =
            appender.append(known.series, &known.labels, at_ms, stale_nan());
    }
}

/// Labels of a report series: the target's, whatever `honor_labels` says.
fn report_labels(name: &str, target: &Labels) -> Labels {
    target.builder().set(METRIC_NAME, name).build()
}

impl SampleSettings {
    /// Joins a series' labels with the target's and relabels them. Empty when dropped.
    fn series_labels(&self, pairs: &LabelPairs<'_>) -> Result<Labels, IngestError> {
        if let Some(name) = pairs.duplicate() {
            return Err(IngestError::DuplicateLabel(name.to_owned()));
        }
        let mut labels = LabelsBuilder::default();
        for (name, value) in pairs.iter() {
            labels.set(name, value);
        }
        let exposed = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| value);
        let mut clashes = Vec::new();
        for (name, value) in self.target.iter() {
            match exposed(name) {
                // An exposed empty label keeps the target's away: that is how a gateway
                // says that a series has no instance.
                Some(_) if self.honor_labels => continue,
                Some(own) if !own.is_empty() => clashes.push((name, own)),
                _ => {}
            }
            labels.set(name, value);
        }
        for (name, value) in clashes {
            let mut renamed = format!("exported_{name}");
            while labels.contains(&renamed) {
                renamed.insert_str(0, "exported_");
            }
            labels.set(&renamed, value);
        }
        if apply(&self.relabel, &mut labels) == Verdict::Drop {
            return Ok(Labels::empty());
        }
        Ok(labels.build())
    }

    /// Checks names and label limits.
    fn check(&self, labels: &Labels) -> Result<(), IngestError> {
        let metric = labels.metric_name();
        if metric.is_empty() {
            return Err(IngestError::NoName);
        }
        if self.names == NameScheme::Legacy {
            let metric_ok = crate::model::labels::is_legacy_metric_name(metric);
            if !metric_ok || !labels.iter().all(|(name, _)| self.names.allows_label(name)) {
                return Err(IngestError::InvalidNames(labels.to_string()));
            }
        }
        let over = |found: usize, limit: u64| limit > 0 && found as u64 > limit;
        let exceeded = |what, found_is: String, found, limit| IngestError::LabelLimit {
            what,
            metric: metric.to_owned(),
            found_is,
            found,
            limit,
        };
        let count = labels.len();
        if over(count, self.limits.labels) {
            let found_is = "number of labels".to_owned();
            return Err(exceeded("label_limit", found_is, count, self.limits.labels));
        }
        for (name, value) in labels.iter() {
            if over(name.len(), self.limits.label_name_bytes) {
                let found_is = format!("label name: {name}, length");
                let limit = self.limits.label_name_bytes;
                return Err(exceeded("label_name_length_limit", found_is, name.len(), limit));
            }
            if over(value.len(), self.limits.label_value_bytes) {
                let found_is = format!("label name: {name}, value: {}, length", quote(value));
                let limit = self.limits.label_value_bytes;
                return Err(exceeded("label_value_length_limit", found_is, value.len(), limit));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
