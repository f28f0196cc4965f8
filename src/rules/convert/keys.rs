//! What each ruler calls the keys of groups and rules, and what becomes of those it does
//! not have.

use super::{Loss, Target};
use crate::yaml::Node;

/// What happens to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    /// The target has it under another name.
    Rename(&'static str),
    /// The target does without, and does what the key says anyway.
    Drop,
    /// As `Drop`, but something is lost.
    Lose(Loss),
}

/// Watchfire's own keys.
const OWN: &[&str] = &[
    "on_no_data",
    "on_error",
    "missing_evals_to_resolve",
    "on_limit",
    "budget",
    "catch_up",
    "depends_on",
    "datasource",
];

/// What becomes of a key of a group with that value.
pub(super) fn of_group(key: &str, value: &Node, to: Target) -> Fate {
    use Target::{Mimir, PrometheusRule, Thanos, Vmalert};
    let text = value.scalar().unwrap_or_default();
    let off = value.is_null() || matches!(text, "" | "false" | "0");
    match key {
        "name" | "interval" | "limit" | "labels" | "rules" => Fate::Keep,
        "query_offset" | "evaluation_delay" | "eval_delay" => {
            let name = if to == Vmalert { "eval_delay" } else { "query_offset" };
            if key == name { Fate::Keep } else { Fate::Rename(name) }
        }
        "eval_alignment" | "align_evaluation_time_on_interval" => match to {
            Vmalert if key == "eval_alignment" => Fate::Keep,
            Vmalert => Fate::Rename("eval_alignment"),
            Mimir if key == "eval_alignment" => Fate::Rename("align_evaluation_time_on_interval"),
            Mimir => Fate::Keep,
            _ if off => Fate::Drop,
            _ => Fate::Lose(Loss::Alignment),
        },
        "partial_response_strategy" => match to {
            Thanos | PrometheusRule => Fate::Keep,
            _ if text.eq_ignore_ascii_case("warn") => Fate::Lose(Loss::PartialResponse),
            _ => Fate::Drop,
        },
        "source_tenants" if to == Mimir => Fate::Keep,
        "source_tenants" => Fate::Lose(Loss::Tenants),
        "type"
        | "concurrency"
        | "eval_offset"
        | "params"
        | "headers"
        | "notifier_headers"
        | "debug"
        | "tenant"
        | "extra_filter_labels"
            if to == Vmalert =>
        {
            Fate::Keep
        }
        "type" | "concurrency" | "debug" => Fate::Drop,
        "eval_offset" => Fate::Lose(Loss::EvalOffset),
        "tenant" => Fate::Lose(Loss::Tenants),
        "params" | "headers" | "notifier_headers" | "extra_filter_labels" => {
            Fate::Lose(Loss::Request)
        }
        key if OWN.contains(&key) => Fate::Lose(Loss::OwnKey),
        _ => Fate::Lose(Loss::UnknownKey),
    }
}

/// What becomes of a key of a rule.
pub(super) fn of_rule(key: &str, to: Target) -> Fate {
    match key {
        "record" | "alert" | "expr" | "for" | "keep_firing_for" | "labels" | "annotations" => {
            Fate::Keep
        }
        "debug" | "update_entries_limit" if to == Target::Vmalert => Fate::Keep,
        "debug" | "update_entries_limit" => Fate::Drop,
        key if OWN.contains(&key) => Fate::Lose(Loss::OwnKey),
        _ => Fate::Lose(Loss::UnknownKey),
    }
}
