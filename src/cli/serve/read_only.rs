//! `--storage.tsdb.read-only`: rules over the data directory of a running Prometheus, which
//! is only read. What rules make has no place in it: the series of alerts are laid over what
//! is read for some minutes and then forgotten, and recording rules are refused.

use std::sync::Arc;

use crate::model::metadata::Metadata;
use crate::model::{FloatHistogram, Labels, TimestampMs};
use crate::rules::config::{LoadOptions, RuleKind};
use crate::rules::{self, RuleSource};
use crate::storage::{AppendError, Appender, SeriesRef, Sink, StorageError};

/// Where the results of rules go when nothing keeps them. A sender to a remote system takes
/// its place.
pub(super) struct Discard;

impl Sink for Discard {
    fn appender(&self) -> Box<dyn Appender> {
        Box::new(Self)
    }

    fn shows_at_once(&self) -> bool {
        false
    }
}

impl Appender for Discard {
    fn append(
        &mut self,
        _: Option<SeriesRef>,
        _: &Labels,
        _: TimestampMs,
        _: f64,
    ) -> Result<SeriesRef, AppendError> {
        Ok(SeriesRef(0))
    }

    fn append_histogram(
        &mut self,
        _: Option<SeriesRef>,
        _: &Labels,
        _: TimestampMs,
        _: &Arc<FloatHistogram>,
    ) -> Result<SeriesRef, AppendError> {
        Ok(SeriesRef(0))
    }

    fn append_metadata(&mut self, _: &str, _: &Metadata) {}

    fn commit(self: Box<Self>) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Fails when there are rules whose results nothing would keep.
pub(super) fn refuse_recording_rules(
    sources: &[RuleSource],
    options: &LoadOptions,
) -> Result<(), String> {
    let mut found = Vec::new();
    for file in rules::load_all(sources, options) {
        for group in file.groups {
            for rule in group.rules {
                if let RuleKind::Recording { record } = rule.kind {
                    found.push(format!("{record} ({}, group {:?})", group.file, group.name));
                }
            }
        }
    }
    let Some(first) = found.first() else { return Ok(()) };
    let more = match found.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    Err(format!(
        "recording rules have nowhere to write to with --storage.tsdb.read-only: {first}{more}; \
         leave them to the server that owns the directory, and only alerting rules here"
    ))
}
