//! A batch of entries as the message that is sent.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rustc_hash::FxBuildHasher;

use super::super::proto::{self, Histogram, WriteRequest};
use super::super::proto2::{self, Symbols};
use super::super::{Version, WriteError, encode};
use super::log::Position;
use super::metrics::Counts;
use super::record::{Value, exemplar_to_proto};
use super::tee::Families;
use crate::model::metadata::Metadata;
use crate::model::{Labels, METRIC_NAME, TimestampMs};

/// Something in the queue of a shard.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub at: Position,
    pub labels: Labels,
    pub value: Value,
}

/// What a batch holds.
pub(super) fn counts(batch: &[Item]) -> Counts {
    let mut counts = Counts::default();
    batch.iter().for_each(|item| counts.add(&item.value));
    counts
}

/// The newest time of a batch.
pub(super) fn highest(batch: &[Item]) -> TimestampMs {
    batch.iter().map(|item| item.value.ts()).max().unwrap_or(TimestampMs::MIN)
}

/// The body of a request. Entries of one series come together, in their order.
pub(super) fn body(
    batch: &[Item],
    version: Version,
    families: &Families,
) -> Result<Vec<u8>, WriteError> {
    match version {
        Version::V1 => encode(&message_v1(batch)),
        Version::V2 => encode(&message_v2(batch, families)),
    }
}

/// Finds each item's series, in the order of their first items.
fn by_series<'a, S>(
    batch: &'a [Item],
    mut make: impl FnMut(&Labels) -> S,
    mut add: impl FnMut(&mut S, &'a Value),
) -> Vec<S> {
    let mut places: HashMap<&Labels, usize, FxBuildHasher> = HashMap::default();
    let mut all = Vec::new();
    for item in batch {
        let place = match places.entry(&item.labels) {
            Entry::Occupied(place) => *place.get(),
            Entry::Vacant(vacant) => {
                all.push(make(&item.labels));
                *vacant.insert(all.len() - 1)
            }
        };
        add(&mut all[place], &item.value);
    }
    all
}

fn message_v1(batch: &[Item]) -> WriteRequest {
    let make = |labels: &Labels| {
        let pairs = labels.iter();
        let labels = pairs.map(|(n, v)| proto::Label { name: n.into(), value: v.into() });
        proto::TimeSeries { labels: labels.collect(), ..proto::TimeSeries::default() }
    };
    let timeseries = by_series(batch, make, |series, value| match value {
        Value::Float(timestamp, value) => {
            series.samples.push(proto::Sample { value: *value, timestamp: *timestamp });
        }
        Value::Histogram(ts, value) => series.histograms.push(Histogram::of(*ts, value)),
        Value::Exemplar(exemplar) => series.exemplars.push(exemplar_to_proto(exemplar)),
    });
    WriteRequest { timeseries, metadata: Vec::new() }
}

fn message_v2(batch: &[Item], families: &Families) -> proto2::Request {
    let symbols = std::cell::RefCell::new(Symbols::default());
    let refs = |labels: &Labels| -> Vec<u32> {
        let mut symbols = symbols.borrow_mut();
        labels.iter().flat_map(|(n, v)| [symbols.place(n), symbols.place(v)]).collect()
    };
    let make = |labels: &Labels| proto2::TimeSeries {
        labels_refs: refs(labels),
        metadata: metadata_of(labels.get_or_empty(METRIC_NAME), families).map(|metadata| {
            let mut symbols = symbols.borrow_mut();
            proto2::Metadata {
                kind: i32::from(metadata.kind.code()),
                help_ref: symbols.place(&metadata.help),
                unit_ref: symbols.place(&metadata.unit),
            }
        }),
        ..proto2::TimeSeries::default()
    };
    let timeseries = by_series(batch, make, |series, value| match value {
        Value::Float(timestamp, value) => series.samples.push(proto2::Sample {
            value: *value,
            timestamp: *timestamp,
            start_timestamp: 0,
        }),
        Value::Histogram(ts, value) => series.histograms.push(Histogram::of(*ts, value)),
        Value::Exemplar(exemplar) => series.exemplars.push(proto2::Exemplar {
            labels_refs: refs(&exemplar.labels),
            value: exemplar.value,
            timestamp: exemplar.ts,
        }),
    });
    proto2::Request { symbols: symbols.into_inner().into_symbols(), timeseries }
}

/// What is known of the family a series belongs to.
fn metadata_of<'a>(name: &str, families: &'a Families) -> Option<&'a Metadata> {
    let endings = ["", "_total", "_bucket", "_count", "_sum", "_info", "_created"];
    endings.iter().find_map(|ending| families.get(name.strip_suffix(ending)?))
}

/// The body of a request of version 1.0 that holds metadata alone.
pub(super) fn metadata_body(families: &[(Box<str>, Metadata)]) -> Result<Vec<u8>, WriteError> {
    let metadata = families.iter().map(|(family, metadata)| proto::MetricMetadata {
        r#type: i32::from(metadata.kind.code()),
        metric_family_name: family.to_string(),
        help: metadata.help.to_string(),
        unit: metadata.unit.to_string(),
    });
    encode(&WriteRequest { timeseries: Vec::new(), metadata: metadata.collect() })
}
