//! The registries of functions and aggregators as a list, as JSON and as the reference
//! page `docs/functions.md`.

use std::fmt::Write;

use clap::ValueEnum;
use serde_json::{Value as Json, json};

use crate::aggregations::{self, AggregatorSpec};
use crate::functions::{self, Arity, FunctionSpec, HistogramPolicy, LabelEffect, Stability};

/// Forms of the list.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
    Markdown,
}

/// All functions, then all aggregators, each by name.
pub(super) fn reference(format: Format) -> String {
    let mut functions: Vec<_> = functions::all().collect();
    functions.sort_by_key(|f| f.name);
    let mut aggregators: Vec<_> = aggregations::all().collect();
    aggregators.sort_by_key(|a| a.name);
    match format {
        Format::Text => text(&functions, &aggregators),
        Format::Json => json!({
            "functions": functions.iter().map(|f| function_json(f)).collect::<Vec<_>>(),
            "aggregators": aggregators.iter().map(|a| aggregator_json(a)).collect::<Vec<_>>(),
        })
        .to_string(),
        Format::Markdown => markdown(&functions, &aggregators),
    }
}

fn stability(stability: Stability) -> &'static str {
    match stability {
        Stability::Stable => "stable",
        Stability::Experimental => "experimental",
    }
}

fn labels(effect: LabelEffect) -> &'static str {
    match effect {
        LabelEffect::Keep => "kept",
        LabelEffect::DropMetadata => "without `__name__`, `__type__` and `__unit__`",
        LabelEffect::DropName => "without `__name__`",
        LabelEffect::Own => "made by the function",
    }
}

fn histograms(policy: HistogramPolicy) -> &'static str {
    match policy {
        HistogramPolicy::Drop => "dropped",
        HistogramPolicy::Accept => "accepted",
        HistogramPolicy::Only => "required; floats are dropped",
        HistogramPolicy::Kernel => "decided for each window, as described",
    }
}

fn text(functions: &[&FunctionSpec], aggregators: &[&AggregatorSpec]) -> String {
    let rows = functions
        .iter()
        .map(|f| (FunctionSpec::signature(f), f.stability, f.doc))
        .chain(aggregators.iter().map(|a| (AggregatorSpec::signature(a), a.stability, a.doc)));
    let mut out = String::new();
    for (signature, stage, doc) in rows {
        let mark = if stage == Stability::Experimental { "  (experimental)" } else { "" };
        let _ = writeln!(out, "{signature}{mark}\n    {doc}");
    }
    out
}

fn function_json(spec: &FunctionSpec) -> Json {
    let (min, max) = match spec.arity {
        Arity::Exact => (spec.args.len(), Some(spec.args.len())),
        Arity::Optional(n) => (spec.args.len().saturating_sub(n), Some(spec.args.len())),
        Arity::Variadic { min, max } => (min, max),
    };
    json!({
        "name": spec.name,
        "signature": FunctionSpec::signature(spec),
        "args": spec.args.iter().map(|t| t.documented()).collect::<Vec<_>>(),
        "argsMin": min,
        "argsMax": max,
        "returns": spec.returns.documented(),
        "stability": stability(spec.stability),
        "labels": labels(spec.labels).replace('`', ""),
        "histograms": histograms(spec.histograms),
        "doc": spec.doc,
        "example": spec.example,
    })
}

fn aggregator_json(spec: &AggregatorSpec) -> Json {
    json!({
        "name": spec.name,
        "signature": AggregatorSpec::signature(spec),
        "param": spec.param.map(|kind| kind.documented()),
        "stability": stability(spec.stability),
        "doc": spec.doc,
        "example": spec.example,
    })
}

const INTRODUCTION: &str = "\
# Functions and aggregators

Every function and aggregator of PromQL that Watchfire knows. This page is made from the
tables in `src/functions/` and `src/aggregations/`; after changing them, refresh it with

```sh
cargo run -- promql functions --format markdown > docs/functions.md
```

In a signature `[...]` may be left out and `...` repeats the last argument. What is
experimental needs `--enable-feature=promql-experimental-functions`. \"Histograms\" are
native histogram samples; classic histograms are plain series with an `le` label.
";

fn markdown(functions: &[&FunctionSpec], aggregators: &[&AggregatorSpec]) -> String {
    let mut out = INTRODUCTION.to_owned();
    let _ = write!(out, "\n## Functions\n");
    for spec in functions {
        let facts = format!(
            "{}; labels: {}; histograms: {}",
            stability(spec.stability),
            labels(spec.labels),
            histograms(spec.histograms)
        );
        section(
            &mut out,
            spec.name,
            &FunctionSpec::signature(spec),
            &facts,
            spec.doc,
            spec.example,
        );
    }
    let _ = write!(out, "\n## Aggregators\n");
    for spec in aggregators {
        let facts = stability(spec.stability);
        section(
            &mut out,
            spec.name,
            &AggregatorSpec::signature(spec),
            facts,
            spec.doc,
            spec.example,
        );
    }
    out
}

fn section(out: &mut String, name: &str, signature: &str, facts: &str, doc: &str, example: &str) {
    let _ = write!(
        out,
        "\n### {name}\n\n```\n{signature}\n```\n\n*{facts}*\n\n{doc}\n\n```promql\n{example}\n```\n"
    );
}
