//! `--storage.tsdb.read-only`: rules over the data directory of a running Prometheus, which
//! is only read. What rules make has no place in it: it is sent to `remote_write` and laid
//! over what is read for some minutes. Where there is no `remote_write`, recording rules are
//! refused, and the series of alerts are forgotten after those minutes.

use crate::rules::config::{LoadOptions, RuleKind};
use crate::rules::{self, RuleSource};

/// Fails when there are rules whose results nothing would keep.
pub(super) fn refuse_recording_rules(
    sources: &[RuleSource],
    options: &LoadOptions,
) -> Result<(), String> {
    let mut found = Vec::new();
    for file in rules::load_all(sources, options) {
        for group in file.groups {
            for rule in group.rules {
                if let RuleKind::Recording { record } = &rule.kind {
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
         configure remote_write, or leave them to the server that owns the directory"
    ))
}
