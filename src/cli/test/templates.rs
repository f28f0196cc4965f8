//! `watchfire test templates`: expands the templates of case files and compares.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Deserialize;
use serde_json::Value as Json;

use super::files;
use crate::cli::{fail, say};
use crate::model::value::VectorSample;
use crate::model::{FloatHistogram, Labels, Sample, TimestampMs};
use crate::rules::template::{MissingKey, Template, TemplateData, TemplateList};

#[derive(Debug, Args)]
pub(crate) struct TemplatesArgs {
    /// Case files, and folders that are searched for `*.json` at any depth.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    #[serde(default)]
    common: Common,
    cases: Vec<Case>,
}

/// What the cases of a file share.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Common {
    template_name: String,
    external_url: String,
    now_ms: TimestampMs,
}

impl Default for Common {
    fn default() -> Self {
        Self { template_name: "test".to_owned(), external_url: String::new(), now_ms: 0 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    template: String,
    /// Whether it is an HTML template.
    #[serde(default)]
    html: bool,
    /// Absent: `missingkey=zero`, which Prometheus sets. Empty: Go's defaults.
    options: Option<Vec<String>>,
    data: Option<Json>,
    #[serde(default)]
    query_result: Vec<QuerySample>,
    output: Option<String>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuerySample {
    labels: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    timestamp_ms: TimestampMs,
    value: Option<Json>,
    histogram: Option<CountAndSum>,
}

/// What templates see of a histogram.
#[derive(Debug, Deserialize)]
struct CountAndSum {
    count: Json,
    sum: Json,
}

/// Runs `watchfire test templates`: 1 when a case failed or a file could not be read.
pub(crate) fn run(args: &TemplatesArgs) -> ExitCode {
    let (mut passed, mut failed, mut broken) = (0, 0, false);
    for path in args.paths.iter().flat_map(|path| files::found(path, "json")) {
        match path.and_then(|path| check_file(&path)) {
            Ok((right, wrong)) => {
                passed += right;
                failed += wrong;
            }
            Err(error) => {
                fail(&error);
                broken = true;
            }
        }
    }
    say(&format_args!("{passed} passed, {failed} failed"));
    ExitCode::from(u8::from(failed > 0 || broken))
}

/// Runs the cases of a file, says which differ, and counts those that passed and failed.
fn check_file(path: &std::path::Path) -> Result<(usize, usize), String> {
    let text = files::read(path)?;
    let file: CaseFile =
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut failures = Vec::new();
    for case in &file.cases {
        if let Err(why) = check(&file.common, case) {
            failures.push(format!("  FAILED {}: {}\n{why}", case.id, case.template));
        }
    }
    let passed = file.cases.len() - failures.len();
    say(&format_args!("{}: {passed} passed, {} failed", path.display(), failures.len()));
    failures.iter().for_each(|failure| say(failure));
    Ok((passed, failures.len()))
}

fn check(common: &Common, case: &Case) -> Result<(), String> {
    let expected = match (&case.output, &case.error) {
        (Some(output), None) => Ok(output.clone()),
        (None, Some(error)) => Err(error.clone()),
        _ => return Err("    a case has either output or error".to_owned()),
    };
    let got = expand(common, case)?;
    if got == expected {
        return Ok(());
    }
    let shown = |result: &Result<String, String>| match result {
        Ok(text) => format!("{text:?}"),
        Err(error) => format!("error {error:?}"),
    };
    Err(format!("    expected: {}\n    got:      {}", shown(&expected), shown(&got)))
}

/// What the template expands to. The outer error is one of the case itself.
fn expand(common: &Common, case: &Case) -> Result<Result<String, String>, String> {
    let missing = match case.options.as_deref() {
        None => MissingKey::Zero,
        Some([]) => MissingKey::Invalid,
        Some([option]) if option == "missingkey=zero" => MissingKey::Zero,
        Some([option]) if option == "missingkey=error" => MissingKey::Error,
        Some([option]) if matches!(&**option, "missingkey=default" | "missingkey=invalid") => {
            MissingKey::Invalid
        }
        Some(other) => return Err(format!("    unknown options {other:?}")),
    };
    let list = case.data.as_ref().map(list).transpose()?;
    let result: Vec<VectorSample> =
        case.query_result.iter().map(sample).collect::<Result<_, _>>()?;
    let parse = if case.html { Template::parse_html } else { Template::parse };
    let data = TemplateData::standalone(list, common.external_url.as_str(), common.now_ms);
    let expanded = parse(&common.template_name, &case.template).and_then(|template| {
        template.with_missing_key(missing).expand(&data, &mut |_| Ok(result.clone()))
    });
    Ok(expanded.map_err(|e| e.to_string()))
}

/// `{"of": TYPE, "items": [...]}` as a list of that Go type.
fn list(data: &Json) -> Result<TemplateList, String> {
    let wrong = || format!("    data {data} is no {{\"of\": TYPE, \"items\": [...]}}");
    let items = data.get("items").and_then(Json::as_array).ok_or_else(wrong)?;
    let kind = data.get("of").and_then(Json::as_str).ok_or_else(wrong)?;
    let all = |items: &[Json]| items.iter().map(float).collect::<Result<Vec<f64>, _>>();
    Ok(match kind {
        "float64" => TemplateList::Floats(all(items)?),
        "string" => TemplateList::Strings(
            items.iter().map(|i| i.as_str().unwrap_or_default().to_owned()).collect(),
        ),
        "int" => TemplateList::Ints(integers(items)?),
        "int64" => TemplateList::Int64s(integers(items)?),
        "uint" => TemplateList::Uints(integers(items)?),
        "uint64" => TemplateList::Uint64s(integers(items)?),
        _ => return Err(wrong()),
    })
}

/// Whole numbers; those beyond what JSON readers keep stand as texts.
fn integers<T: std::str::FromStr>(items: &[Json]) -> Result<Vec<T>, String> {
    let text = |item: &Json| item.as_str().map_or_else(|| item.to_string(), str::to_owned);
    let parse = |item| text(item).parse().map_err(|_| format!("    {item} is no such integer"));
    items.iter().map(parse).collect()
}

/// A number, or the text of one that JSON lacks, as `"NaN"`.
fn float(json: &Json) -> Result<f64, String> {
    let number = match json {
        Json::String(text) => text.parse().ok(),
        other => other.as_f64(),
    };
    number.ok_or_else(|| format!("    {json} is no number"))
}

fn sample(given: &QuerySample) -> Result<VectorSample, String> {
    let sample = match (&given.histogram, &given.value) {
        (Some(h), None) => Sample::Histogram(Arc::new(FloatHistogram {
            count: float(&h.count)?,
            sum: float(&h.sum)?,
            ..FloatHistogram::default()
        })),
        (None, Some(value)) => Sample::Float(float(value)?),
        _ => return Err("    a sample has either value or histogram".to_owned()),
    };
    Ok(VectorSample { labels: Labels::from_pairs(&given.labels), ts: given.timestamp_ms, sample })
}
