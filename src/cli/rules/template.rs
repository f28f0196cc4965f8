//! `watchfire rules template`: one template, expanded for one alert.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::cli::{FeatureFlags, eval, fail, query, say, small_runtime};
use crate::model::value::VectorSample;
use crate::model::{Labels, Sample, TimestampMs, Value};
use crate::query::{Engine, RunOptions};
use crate::rules::template::{Template, TemplateData};
use crate::storage::Source;

#[derive(Debug, Args)]
pub(crate) struct TemplateArgs {
    /// The text of a label or annotation, as '{{ $labels.job }} has {{ $value | humanize }}'.
    #[arg(allow_hyphen_values = true)]
    text: String,
    /// The sample's value: what $value is.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    value: f64,
    /// A label of the sample, as job=api: what $labels has. May be repeated.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// An external label: what $externalLabels has. May be repeated.
    #[arg(long = "external-label", value_name = "NAME=VALUE", value_parser = pair)]
    external_labels: Vec<(String, String)>,
    /// The server's own URL: what $externalURL is.
    #[arg(long, default_value = "http://localhost:9090", value_name = "URL")]
    external_url: String,
    /// The alert's name, which error texts mention.
    #[arg(long, default_value = "test", value_name = "NAME")]
    alert: String,
    /// Evaluation time: RFC 3339 or Unix seconds. Left out: the newest timestamp in the
    /// file of samples, or now.
    #[arg(long)]
    time: Option<String>,
    /// Samples that `query` reads: a file in Prometheus' text format or OpenMetrics; `-` is
    /// standard input. Left out, queries find no series.
    #[arg(long, value_name = "FILE")]
    data: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Runs `watchfire rules template`: prints the expansion, or fails with the error that the
/// alert would carry.
pub(crate) fn run(args: &TemplateArgs, features: &FeatureFlags) -> ExitCode {
    match expand(args, features) {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn expand(args: &TemplateArgs, features: &FeatureFlags) -> Result<String, String> {
    let given = args.time.as_deref().map(query::seconds).transpose()?.map(eval::to_ms);
    let data = args.data.as_deref().map(eval::Data::load).transpose()?;
    let newest = data.as_ref().and_then(eval::Data::newest_ms);
    let now_ms = given.or(newest).unwrap_or_else(|| eval::to_ms(query::now_seconds()));
    let source = data.unwrap_or_default().into_source(now_ms)?;
    let engine = Engine::new(features.engine());
    let runtime = small_runtime().map_err(|e| e.to_string())?;
    let template = Template::parse_alert(&args.alert, &args.text).map_err(|e| e.to_string())?;
    let data = TemplateData::alert(
        Labels::from_pairs(args.labels.iter().map(|(n, v)| (n, v))),
        Labels::from_pairs(args.external_labels.iter().map(|(n, v)| (n, v))),
        args.external_url.trim_end_matches('/'),
        &Sample::Float(args.value),
        now_ms,
    );
    let ask = |expr: &str| runtime.block_on(ask(&engine, &source, expr, now_ms));
    template.expand(&data, &mut { ask }).map_err(|e| e.to_string())
}

async fn ask(
    engine: &Arc<Engine>,
    source: &Arc<dyn Source>,
    expr: &str,
    at: TimestampMs,
) -> Result<Vec<VectorSample>, String> {
    let prepared = engine.prepare(expr).map_err(|e| e.to_string())?;
    let result = prepared.instant(source, at, &RunOptions::default()).await;
    match result.map_err(|e| e.to_string())?.value {
        Value::Vector(samples) => Ok(samples),
        Value::Scalar { ts, value } => {
            Ok(vec![VectorSample { labels: Labels::empty(), ts, sample: Sample::Float(value) }])
        }
        Value::String { .. } | Value::Matrix(_) => {
            Err("query result is not a vector or scalar".to_owned())
        }
    }
}
