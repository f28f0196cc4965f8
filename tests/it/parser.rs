//! Integration tests: parser. The conformance data of `conformance/parser`, and properties.

use std::fmt::Write;

use proptest::prelude::*;
use serde_json::Value;
use watchfire::model::Labels;
use watchfire::model::histogram::{CounterResetHint, FloatHistogram, Span};
use watchfire::parser::{self, ParserOptions, SeriesValue, ast::ExprKind};

use crate::support;

/// The cases of one file, or nothing when the data is absent.
fn cases(file: &str) -> Vec<Value> {
    let Some(dir) = support::shared("conformance/parser") else { return Vec::new() };
    let text = std::fs::read_to_string(dir.join(file)).expect("readable");
    let mut data: Value = serde_json::from_str(&text).expect("JSON");
    match data["cases"].take() {
        Value::Array(cases) => cases,
        _ => panic!("{file} has no cases"),
    }
}

/// The input of a case; broken UTF-8 becomes U+FFFD, as it does at the product's rim.
fn input(case: &Value) -> String {
    if let Some(text) = case["input"].as_str() {
        return text.to_owned();
    }
    let hex = case["input_hex"].as_str().expect("input or input_hex");
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex"))
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("{key} in {case}"))
}

fn node_name(kind: &ExprKind) -> &'static str {
    match kind {
        ExprKind::Number(_) => "NumberLiteral",
        ExprKind::String(_) => "StringLiteral",
        ExprKind::VectorSelector(_) => "VectorSelector",
        ExprKind::MatrixSelector(_) => "MatrixSelector",
        ExprKind::Subquery(_) => "SubqueryExpr",
        ExprKind::Call(_) => "Call",
        ExprKind::Aggregate(_) => "AggregateExpr",
        ExprKind::Binary(_) => "BinaryExpr",
        ExprKind::Unary { .. } => "UnaryExpr",
        ExprKind::Paren(_) => "ParenExpr",
    }
}

/// Differences found in a file: all are shown together.
#[derive(Default)]
struct Differences(String);

impl Differences {
    fn add(&mut self, input: &str, expected: &str, got: &str) {
        let input: String = input.chars().take(120).collect();
        writeln!(self.0, "{input:?}\n  expected {expected}\n  got      {got}").expect("String");
    }

    fn none(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

#[test]
fn expressions_are_accepted_and_refused_as_by_prometheus() {
    let mut differences = Differences::default();
    for case in cases("expressions.json") {
        let input = input(&case);
        let got = parser::parse(&input, &ParserOptions::all());
        let (expected, got) = match (case["valid"] == true, &got) {
            (true, Ok(expr)) => (text(&case, "node").to_owned(), node_name(&expr.kind).to_owned()),
            (true, Err(errors)) => ("success".to_owned(), errors.to_string()),
            (false, Ok(_)) => (text(&case, "error_text").to_owned(), "success".to_owned()),
            (false, Err(errors)) => (text(&case, "error_text").to_owned(), errors.to_string()),
        };
        if expected != got {
            differences.add(&input, &expected, &got);
        }
    }
    differences.none();
}

/// Parses what must parse.
fn expr(input: &str) -> parser::Expr {
    parser::parse(input, &ParserOptions::all()).unwrap_or_else(|e| panic!("{input}: {e}"))
}

#[test]
fn expressions_print_as_prometheus_prints_them() {
    let mut differences = Differences::default();
    for case in cases("print.json") {
        let got = expr(text(&case, "input")).to_string();
        if got != text(&case, "expected") {
            differences.add(text(&case, "input"), text(&case, "expected"), &got);
        }
    }
    for case in cases("pretty.json") {
        let line_max = case["max_line"].as_u64().expect("max_line") as usize;
        let got = parser::pretty::pretty_within(&expr(text(&case, "input")), line_max);
        if got != text(&case, "expected") {
            differences.add(text(&case, "input"), text(&case, "expected"), &got);
        }
    }
    differences.none();
}

#[test]
fn selectors_are_extracted_in_order() {
    for case in cases("selectors.json") {
        let expr = expr(text(&case, "input"));
        let got: Vec<String> = expr
            .selectors()
            .iter()
            .map(|matchers| {
                let matchers: Vec<String> = matchers.iter().map(ToString::to_string).collect();
                format!("{{{}}}", matchers.join(", "))
            })
            .collect();
        let expected: Vec<&str> = case["selectors"]
            .as_array()
            .expect("selectors")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(got, expected);
    }
}

/// All messages with positions, not only the first.
#[test]
fn every_error_of_an_expression_is_reported() {
    let mut differences = Differences::default();
    for case in cases("expressions.json") {
        // Positions shift where broken bytes have become U+FFFD.
        if case["valid"] == true || case["input_hex"].is_string() {
            continue;
        }
        let input = input(&case);
        let Err(got) = parser::parse(&input, &ParserOptions::all()) else { continue };
        let total = case["errors_total"].as_u64().unwrap_or(got.errors.len() as u64);
        let expected: Vec<String> = case["errors"]
            .as_array()
            .expect("errors")
            .iter()
            .map(|e| format!("{}..{} {}", e["start"], e["end"], text(e, "message")))
            .collect();
        let got: Vec<String> = got
            .errors
            .iter()
            .map(|e| format!("{}..{} {}", e.span.start, e.span.end, e.message))
            .collect();
        if got.iter().take(10).ne(expected.iter()) || got.len() as u64 != total {
            let got = got[..got.len().min(10)].join("; ");
            differences.add(&input, &format!("{total}: {}", expected.join("; ")), &got);
        }
    }
    differences.none();
}

/// A number of the data: `null` for none, words for what JSON has no numbers for.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(word) => Some(word.parse().expect("a number")),
        value => value.as_f64(),
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().map(|a| a.iter().filter_map(number).collect()).unwrap_or_default()
}

fn spans(value: &Value) -> Vec<Span> {
    let spans = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let field = |span: &Value, key: &str| span[key].as_i64().expect("an integer");
    spans
        .iter()
        .map(|s| Span { offset: field(s, "offset") as i32, length: field(s, "length") as u32 })
        .collect()
}

fn histogram(value: &Value) -> FloatHistogram {
    let float = |key: &str| number(&value[key]).unwrap_or(0.0);
    FloatHistogram {
        counter_reset_hint: match value["counter_reset_hint"].as_str() {
            Some("reset") => CounterResetHint::Reset,
            Some("not_reset") => CounterResetHint::NotReset,
            Some("gauge") => CounterResetHint::Gauge,
            _ => CounterResetHint::Unknown,
        },
        schema: value["schema"].as_i64().unwrap_or(0) as i32,
        zero_threshold: float("zero_threshold"),
        zero_count: float("zero_count"),
        count: float("count"),
        sum: float("sum"),
        positive_spans: spans(&value["positive_spans"]),
        positive_buckets: numbers(&value["positive_buckets"]),
        negative_spans: spans(&value["negative_spans"]),
        negative_buckets: numbers(&value["negative_buckets"]),
        custom_values: numbers(&value["custom_values"]),
    }
}

fn values(case: &Value) -> Vec<SeriesValue> {
    if let Some(histograms) = case["histograms"].as_array() {
        return histograms
            .iter()
            .map(|h| SeriesValue::Histogram {
                histogram: histogram(h).into(),
                hint_written: h["counter_reset_hint"].is_string(),
            })
            .collect();
    }
    let values = case["values"].as_array().expect("values or histograms");
    values.iter().map(|v| number(v).map_or(SeriesValue::Missing, SeriesValue::Float)).collect()
}

#[test]
fn series_are_read_as_by_prometheus() {
    for case in cases("series.json") {
        if case["printed"].is_string() {
            let text = text(&case, "printed");
            assert_eq!(histogram(&case["histogram"]).test_expression(), text);
            let read = parser::parse_series_values(text).expect("sound");
            let [SeriesValue::Histogram { histogram, .. }] = &read[..] else {
                panic!("{text}: {read:?}")
            };
            assert_eq!(histogram.test_expression(), text);
            continue;
        }
        let input = text(&case, "input");
        let got = parser::parse_series_description(input);
        if case["valid"] == true {
            let got = got.unwrap_or_else(|e| panic!("{input}: {e}"));
            let labels = case["labels"].as_object().expect("labels");
            let labels = labels.iter().map(|(n, v)| (n.as_str(), v.as_str().expect("text")));
            assert_eq!(got.labels, Labels::from_pairs(labels), "{input}");
            assert_eq!(got.values, values(&case), "{input}");
        } else {
            let message = got.expect_err(input).to_string();
            let expected = case["error"].as_str().unwrap_or_default();
            assert!(message.contains(expected), "{input}: {message}, not {expected}");
        }
    }
}

/// A label value or string in quotes, with whatever characters.
fn quoted() -> impl Strategy<Value = String> {
    // U+FFFD as such stands for broken UTF-8 and is refused.
    any::<String>()
        .prop_map(|text| watchfire::model::labels::quote(&text).replace('\u{FFFD}', "\\ufffd"))
}

fn number_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<f64>()
            .prop_map(|v| format!("{v:?}"))
            .prop_filter("finite", |v| v.parse::<f64>().is_ok_and(f64::is_finite)),
        Just("Inf".to_owned()),
        Just("NaN".to_owned()),
        (0..1_000_000u32).prop_map(|v| v.to_string()),
        (1..1000u32, "[smhdwy]|ms").prop_map(|(n, unit)| format!("{n}{unit}")),
    ]
}

fn duration_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (1..1000u32, "[smhdwy]|ms").prop_map(|(n, unit)| format!("{n}{unit}")),
        (1..100_000u32).prop_map(|ms| format!("{}", f64::from(ms) / 1000.0)),
        Just("step()".to_owned()),
        Just("range()".to_owned()),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), "[-+*/%^]", inner.clone())
                .prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("min_of({a}, {b})")),
            inner.prop_map(|a| format!("(-{a})")),
        ]
    })
}

fn selector_text() -> impl Strategy<Value = String> {
    let matcher = prop_oneof![
        ("[a-z_]{1,3}", "=|!=", quoted()).prop_map(|(l, op, v)| format!("{l}{op}{v}")),
        (quoted(), quoted()).prop_map(|(l, v)| format!("{l}={v}")),
        ("[a-z_]{1,3}", "=~|!~", "[a-z|.]{0,3}x[*+?]?")
            .prop_map(|(l, op, v)| format!("{l}{op}'{v}'")),
        ("[a-z]{1,2}", "[a-z ]{0,3}").prop_map(|(l, v)| format!("{l} != `{v}`")),
    ];
    let name = prop_oneof![
        Just("sum".to_owned()),
        Just("on_x:y".to_owned()),
        "[a-z]{1,4}_x",
        prop::sample::select(&["by", "offset", "start", "fill", "anchored", "without", "info"][..])
            .prop_map(str::to_owned),
    ];
    let braces = prop::collection::vec(matcher, 0..3).prop_map(|m| format!("{{{}}}", m.join(",")));
    let modifiers = prop_oneof![
        Just(String::new()),
        Just(" @ start()".to_owned()),
        (-1_000_000i64..1_000_000).prop_map(|ms| format!(" @ {}", ms as f64 / 1000.0)),
        duration_text().prop_map(|d| format!(" offset ({d})")),
        (1..500u32).prop_map(|m| format!(" smoothed offset -{m}m")),
        Just(" anchored @ end()".to_owned()),
    ];
    (name, braces, modifiers)
        .prop_map(|(name, braces, modifiers)| format!("{name}{braces}{modifiers}"))
}

/// A call of any function that gives a vector, with arguments of its types.
fn call_text(vector: impl Strategy<Value = String> + Clone) -> impl Strategy<Value = String> {
    use watchfire::model::value::ValueType;
    let calls: Vec<_> = watchfire::functions::all()
        // The second argument of info() is not any vector.
        .filter(|spec| spec.returns == ValueType::InstantVector && spec.name != "info")
        .map(|spec| (spec.name, spec.args))
        .collect();
    let args = (vector, duration_text(), duration_text(), number_text(), quoted());
    (prop::sample::select(calls), args).prop_map(|((name, types), (v, d, step, n, s))| {
        let arg = |kind: &ValueType| match kind {
            ValueType::InstantVector => v.clone(),
            ValueType::RangeVector => format!("({v})[{d}:{step}]"),
            ValueType::Scalar => n.clone(),
            ValueType::String => s.clone(),
        };
        format!("{name}({})", types.iter().map(arg).collect::<Vec<_>>().join(", "))
    })
}

/// An aggregation by any aggregator.
fn aggregation_text(
    vector: impl Strategy<Value = String> + Clone,
) -> impl Strategy<Value = String> {
    use watchfire::model::value::ValueType;
    let all: Vec<_> = watchfire::aggregations::all().map(|spec| (spec.name, spec.param)).collect();
    let grouping = prop::sample::select(&["", "by ()", "by (a, on)", "without (\"b c\")"][..]);
    let args = (vector, number_text(), quoted(), grouping);
    (prop::sample::select(all), args).prop_map(|((name, param), (v, n, s, grouping))| match param {
        None => format!("{name} {grouping} ({v})"),
        Some(ValueType::String) => format!("{name} {grouping} ({s}, {v})"),
        Some(_) => format!("{name}({n}, {v}) {grouping}"),
    })
}

/// Expressions that are vectors, so that any may stand in any other.
fn vector_text() -> impl Strategy<Value = String> {
    selector_text().prop_recursive(5, 40, 3, |inner| {
        let op = "[-+*/%^]|==|!=|<=|>=|<|>|</|>/|and|or|unless|atan2|== bool";
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (inner.clone(), "[-+*/^]", number_text())
                .prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| {
                format!("({a}) / on (a, \"b.c\") group_left (d) fill_right (-1) ({b})")
            }),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| {
                format!("({a}) >= bool ignoring () group_right () fill (Inf) # why\n ({b})")
            }),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("({a}) - on () fill_left (0x1F) ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) unless on (by) ({b})")),
            call_text(inner.clone()),
            aggregation_text(inner.clone()),
            inner.clone().prop_map(|a| format!("scalar({a}) + ({a})")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("-{a}")),
            inner.clone().prop_map(|a| format!("sum by (a, \"b c\") ({a})")),
            (number_text(), inner.clone()).prop_map(|(n, a)| format!("topk without () ({n}, {a})")),
            (selector_text(), duration_text()).prop_map(|(_, d)| format!("rate(x[{d}] offset 1m)")),
            (inner.clone(), duration_text())
                .prop_map(|(a, d)| format!("sum_over_time(({a})[{d}:])")),
            (inner, quoted())
                .prop_map(|(a, s)| format!("label_replace({a}, \"a\", {s}, \"b\", '')")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The text is the rule's identity: it must survive being read back, also when pretty.
    #[test]
    fn printing_is_a_fixed_point(text in vector_text()) {
        let Ok(expr) = parser::parse(&text, &ParserOptions::all()) else { return Ok(()) };
        let printed = expr.to_string();
        let again = parser::parse(&printed, &ParserOptions::all());
        prop_assert_eq!(again.map(|e| e.to_string()).map_err(|e| e.to_string()), Ok(printed.clone()));
        let pretty = parser::pretty(&expr);
        let again = parser::parse(&pretty, &ParserOptions::all());
        prop_assert_eq!(again.map(|e| e.to_string()).map_err(|e| e.to_string()), Ok(printed));
    }

    #[test]
    fn generated_expressions_are_mostly_sound(text in vector_text()) {
        if let Err(errors) = parser::parse(&text, &ParserOptions::all()) {
            let message = errors.to_string();
            let known = ["duration must be greater than 0", "by zero", "out of range", "bool modifier"];
            prop_assert!(known.iter().any(|k| message.contains(k)), "{}: {}", text, message);
        }
    }

    #[test]
    fn nothing_panics(text in any::<String>(), soup in "[-a-z0-9_:(){}\\[\\]\"'`,=~!@#+*/%^<> \\\\.]{0,40}") {
        for text in [text, soup] {
            let _ = parser::parse(&text, &ParserOptions::default());
            let _ = parser::parse_metric(&text);
            let _ = parser::parse_metric_selector(&text);
            let _ = parser::parse_series_description(&format!("x {text}"));
            let _ = parser::parse_series_description(&format!("x {{{{{text}"));
            if let Ok(regex) = watchfire::model::regex::GoRegex::new(&text) {
                let _ = regex.replace_all("a-b:9 \u{e9}", "$1$0");
            }
            let _ = watchfire::model::regex::AnchoredRegex::new(&text).map(|r| r.is_match(&text));
        }
    }
}
