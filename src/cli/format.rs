//! Query results as text for a person, in the notation promtool prints.

use std::fmt::Write;

use serde_json::Value as Json;

use crate::model::labels::{is_legacy_metric_name, quote, quote_label_name};

/// `name{a="b"}`: a series of an API answer. Without a name only the braces are printed.
pub(crate) fn metric(labels: &Json) -> String {
    let Some(map) = labels.as_object() else { return "{}".to_owned() };
    let name = map.get("__name__").and_then(Json::as_str).unwrap_or("");
    let outside = name.is_empty() || is_legacy_metric_name(name);
    let mut pairs: Vec<String> = map
        .iter()
        .filter(|(k, _)| !outside || *k != "__name__")
        .map(|(k, v)| format!("{}={}", quote_label_name(k), quote(v.as_str().unwrap_or(""))))
        .collect();
    pairs.sort();
    let name = if outside { name } else { "" };
    match pairs.is_empty() {
        true if name.is_empty() => "{}".to_owned(),
        true => name.to_owned(),
        false => format!("{name}{{{}}}", pairs.join(", ")),
    }
}

/// `{__name__="name", a="b"}`: a label set, the name among the labels.
pub(crate) fn label_set(labels: &Json) -> String {
    let map = labels.as_object();
    let mut pairs: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{}={}", quote_label_name(k), quote(v.as_str().unwrap_or(""))))
        .collect();
    pairs.sort();
    format!("{{{}}}", pairs.join(", "))
}

/// The `data` of a query answer (`resultType` and `result`) as text, without a final newline.
pub(crate) fn result(data: &Json) -> String {
    let result = &data["result"];
    let rows = || result.as_array().into_iter().flatten();
    match data["resultType"].as_str() {
        Some("vector") => rows().map(vector_line).collect::<Vec<_>>().join("\n"),
        Some("matrix") => rows().map(matrix_lines).collect::<Vec<_>>().join("\n"),
        Some("scalar") => format!("scalar: {}", point(result)),
        _ => result[1].as_str().unwrap_or("").to_owned(),
    }
}

fn vector_line(row: &Json) -> String {
    let value = if row["value"].is_array() { &row["value"] } else { &row["histogram"] };
    format!("{} => {}", metric(&row["metric"]), point(value))
}

fn matrix_lines(row: &Json) -> String {
    let mut text = format!("{} =>", metric(&row["metric"]));
    for kind in ["values", "histograms"] {
        for value in row[kind].as_array().into_iter().flatten() {
            let _ = write!(text, "\n{}", point(value));
        }
    }
    text
}

/// `VALUE @[TIME]`.
fn point(pair: &Json) -> String {
    let value = match &pair[1] {
        Json::String(text) => text.clone(),
        histogram => histogram_text(histogram),
    };
    format!("{value} @[{}]", pair[0])
}

/// `{count:4, sum:2, [0,1]:4}`.
fn histogram_text(h: &Json) -> String {
    let text = |v: &Json| v.as_str().unwrap_or("").to_owned();
    let mut out = format!("{{count:{}, sum:{}", text(&h["count"]), text(&h["sum"]));
    for bucket in h["buckets"].as_array().into_iter().flatten() {
        let (open, close) = match bucket[0].as_i64() {
            Some(1) => ('[', ')'),
            Some(2) => ('(', ')'),
            Some(3) => ('[', ']'),
            _ => ('(', ']'),
        };
        let _ = write!(
            out,
            ", {open}{},{}{close}:{}",
            text(&bucket[1]),
            text(&bucket[2]),
            text(&bucket[3])
        );
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_read_as_promtool_prints_them() {
        let vector = json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "job": "a"}, "value": [1.5, "1"]},
            {"metric": {}, "value": [2, "NaN"]},
        ]});
        assert_eq!(result(&vector), "up{job=\"a\"} => 1 @[1.5]\n{} => NaN @[2]");
        let matrix = json!({"resultType": "matrix", "result": [
            {"metric": {"__name__": "up"}, "values": [[1, "1"], [2, "0"]]},
        ]});
        assert_eq!(result(&matrix), "up =>\n1 @[1]\n0 @[2]");
        let scalar = json!({"resultType": "scalar", "result": [3, "4"]});
        assert_eq!(result(&scalar), "scalar: 4 @[3]");
    }

    #[test]
    fn a_name_that_needs_quotes_stands_in_the_braces() {
        assert_eq!(metric(&json!({"__name__": "a.b", "c": "d"})), r#"{__name__="a.b", c="d"}"#);
    }
}
