//! Groups.

use crate::lint::context::{Findings, GroupCx, finding};
use crate::model::duration::format_duration;
use crate::rules::config::RuleKind;

/// `group/interval`
pub(in crate::lint) fn interval(cx: &GroupCx<'_>, out: &mut Findings<'_>) {
    let lookback = cx.project.settings.lookback_ms();
    let Some(interval) = cx.spec.interval_ms.filter(|ms| *ms > lookback) else { return };
    let Some((_, node)) = cx.written.field("interval") else { return };
    let records = cx.spec.rules.iter().any(|r| matches!(r.kind, RuleKind::Recording { .. }));
    let consequence = if records {
        "what its rules record is gone between evaluations: graphs have gaps and alerts on it \
         resolve"
    } else {
        "ALERTS is gone between evaluations"
    };
    let found = finding(format!(
        "the interval of {} is longer than the lookback of {}",
        format_duration(interval),
        format_duration(lookback)
    ));
    out.group(
        cx,
        found
            .at(cx.file.span(node))
            .note(consequence)
            .help(format!("evaluate it at least every {}", format_duration(lookback))),
    );
}
