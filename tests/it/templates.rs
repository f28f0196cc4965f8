//! Alert templates against recorded expansions of Prometheus, and what no input may do.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value as Json;
use watchfire::model::value::VectorSample;
use watchfire::model::{FloatHistogram, Labels, Sample};
use watchfire::rules::template::{MissingKey, Template, TemplateData, TemplateError, TemplateList};

use crate::support::shared;

fn number(json: &Json) -> f64 {
    match json {
        Json::String(text) => text.parse().expect("a float"),
        other => other.as_f64().expect("a number"),
    }
}

fn integer<T: std::str::FromStr>(json: &Json) -> T {
    let text = json.as_str().map_or_else(|| json.to_string(), str::to_owned);
    text.parse().ok().expect("an integer")
}

fn list(data: &Json) -> Option<TemplateList> {
    let items = data.get("items")?.as_array().expect("items is a list");
    let floats = || items.iter().map(number).collect();
    let signed = || items.iter().map(integer).collect();
    let unsigned = || items.iter().map(integer).collect();
    Some(match data["of"].as_str().expect("a type") {
        "float64" => TemplateList::Floats(floats()),
        "string" => TemplateList::Strings(
            items.iter().map(|i| i.as_str().expect("a string").to_owned()).collect(),
        ),
        "int" => TemplateList::Ints(signed()),
        "int64" => TemplateList::Int64s(signed()),
        "uint" => TemplateList::Uints(unsigned()),
        "uint64" => TemplateList::Uint64s(unsigned()),
        other => panic!("unknown element type {other}"),
    })
}

fn sample(json: &Json) -> VectorSample {
    let labels = json["labels"].as_object().expect("labels");
    let pairs = labels.iter().map(|(n, v)| (n, v.as_str().expect("a label value")));
    let sample = match json.get("histogram") {
        Some(h) => Sample::Histogram(Arc::new(FloatHistogram {
            count: number(&h["count"]),
            sum: number(&h["sum"]),
            ..FloatHistogram::default()
        })),
        None => Sample::Float(number(&json["value"])),
    };
    VectorSample { labels: Labels::from_pairs(pairs), ts: integer(&json["timestamp_ms"]), sample }
}

fn expand_case(common: &Json, case: &Json) -> Result<String, TemplateError> {
    let name = common["name"].as_str().or(common["template_name"].as_str()).unwrap_or("test");
    let text = case["template"].as_str().expect("a template");
    let options: Vec<&str> = match case.get("options") {
        None => vec!["missingkey=zero"],
        Some(options) => {
            options.as_array().expect("options").iter().filter_map(Json::as_str).collect()
        }
    };
    let missing = match options.first() {
        Some(&"missingkey=zero") => MissingKey::Zero,
        Some(&"missingkey=error") => MissingKey::Error,
        _ => MissingKey::Invalid,
    };
    let template = Template::parse(name, text)?.with_missing_key(missing);
    let url = common["external_url"].as_str().expect("an external URL");
    let now_ms = common["now_ms"].as_i64().or(common["timestamp_ms"].as_i64()).expect("a time");
    let data = TemplateData::standalone(case.get("data").and_then(list), url, now_ms);
    let result: Vec<VectorSample> = case["query_result"]
        .as_array()
        .map(|samples| samples.iter().map(sample).collect())
        .unwrap_or_default();
    template.expand(&data, &mut |_| Ok(result.clone()))
}

#[test]
fn expansions_equal_those_of_prometheus() {
    let Some(dir) = shared("conformance/templates") else { return };
    let text = std::fs::read_to_string(dir.join("expansion.json")).expect("readable cases");
    let all: Json = serde_json::from_str(&text).expect("valid JSON");
    let cases = all["cases"].as_array().expect("a list of cases");
    let mut ran = 0;
    let mut failures = Vec::new();
    // The HTML-escaping variant serves console pages, which this product does not have.
    for case in cases.iter().filter(|c| c["html"] != true) {
        ran += 1;
        let got = expand_case(&all["common"], case);
        let (got, expected) = match case.get("error") {
            Some(error) => (got.map_err(|e| e.to_string()).unwrap_err_or_ok(), error.as_str()),
            None => (got.unwrap_or_else(|e| format!("ERROR {e}")), case["output"].as_str()),
        };
        if Some(got.as_str()) != expected {
            failures.push(format!("{}: got {got:?}, expected {expected:?}", case["id"]));
        }
    }
    assert!(failures.is_empty(), "{} of {ran} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(ran > 50, "only {ran} cases found");
}

trait EitherText {
    fn unwrap_err_or_ok(self) -> String;
}

impl EitherText for Result<String, String> {
    fn unwrap_err_or_ok(self) -> String {
        self.unwrap_or_else(|error| error)
    }
}

fn alert_data() -> TemplateData {
    TemplateData::alert(
        Labels::from_pairs([("__name__", "up"), ("instance", "a:9090"), ("job", "node")]),
        Labels::from_pairs([("cluster", "eu")]),
        "http://prometheus.example/base",
        &Sample::Float(0.5),
        1_353_755_652_000,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Any text either expands or gives an error; pieces that are templates are likelier
    /// to reach far than random characters.
    #[test]
    fn no_text_panics(pieces in proptest::collection::vec(prop_oneof![
        Just("{{".to_owned()), Just("}}".to_owned()), Just(" ".to_owned()),
        Just("{{- ".to_owned()), Just(" -}}".to_owned()), Just("|".to_owned()),
        Just("{{ range $i, $x := ".to_owned()), Just("{{ if ".to_owned()),
        Just("{{ else }}".to_owned()), Just("{{ end }}".to_owned()),
        Just("{{ with ".to_owned()), Just("{{ define \"x\" }}".to_owned()),
        Just("{{ template \"x\" . }}".to_owned()), Just("query \"up\" ".to_owned()),
        Just("first ".to_owned()), Just("printf \"%".to_owned()), Just("\" ".to_owned()),
        Just("$value ".to_owned()), Just("$labels.job ".to_owned()), Just("$x ".to_owned()),
        Just("(".to_owned()), Just(")".to_owned()), Just(".Format ".to_owned()),
        Just("(now | toTime)".to_owned()), Just("humanizeDuration ".to_owned()),
        Just("slice \"aé\" 1 2 ".to_owned()), Just("index $labels \"job\" ".to_owned()),
        Just("nil ".to_owned()), Just("1e400 ".to_owned()), Just("-0x1p-1074 ".to_owned()),
        Just("'\\U".to_owned()), Just("{{ break }}".to_owned()),
        "[ -~]{0,6}", "\\PC{0,3}",
    ], 0..24)) {
        let text = pieces.concat();
        if let Ok(template) = Template::parse_alert("A", &text) {
            let _ = template.expand(&alert_data(), &mut |_| Ok(Vec::new()));
        }
    }

    #[test]
    fn no_format_panics(format in "(%[-+# 0]{0,2}[0-9]{0,3}(\\.[0-9*]{0,2})?(\\[[0-9]\\])?[a-zA-Z%]?|\\PC){0,6}") {
        for value in ["$value", "$labels", "(now | toTime)", "nil", "\"é\"", "-7", "(toDuration 1)"] {
            let text = format!("{{{{ printf {} {value} 1 2 }}}}", serde_json::to_string(&format).expect("JSON"));
            if let Ok(template) = Template::parse_alert("A", &text) {
                let _ = template.expand(&alert_data(), &mut |_| Ok(Vec::new()));
            }
        }
    }
}
