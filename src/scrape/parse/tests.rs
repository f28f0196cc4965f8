//! Tables of what both formats accept, refuse and mean.

use proptest::prelude::*;

use super::*;

/// One line per entry: `family TYPE counter`, `{labels} value @ts # {labels} value @ts`.
fn render(parser: Parser<'_>) -> String {
    let mut out = String::new();
    for entry in parser {
        let line = entry.and_then(|entry| {
            Ok(match entry {
                Entry::Comment => "comment".to_owned(),
                Entry::Help { family, text } => format!("{family} HELP {text:?}"),
                Entry::Type { family, kind } => format!("{family} TYPE {}", kind.as_str()),
                Entry::Unit { family, unit } => format!("{family} UNIT {unit:?}"),
                Entry::Series(series) => {
                    let mut pairs = LabelPairs::default();
                    series.labels(&mut pairs)?;
                    let mut line = format!("{} {:?}", pairs.build(), series.value);
                    if let Some(ts) = series.ts {
                        line += &format!(" @{ts}");
                    }
                    if let Some(exemplar) = series.exemplar {
                        let mut pairs = LabelPairs::default();
                        exemplar.labels(&mut pairs)?;
                        line += &format!(" # {} {:?}", pairs.build(), exemplar.value);
                        if let Some(ts) = exemplar.ts {
                            line += &format!(" @{ts}");
                        }
                    }
                    line
                }
            })
        });
        out += &line.unwrap_or_else(|e| format!("error: {e}"));
        out.push('\n');
    }
    out
}

fn check(format: Format, input: &str, expected: &str) {
    let got = render(Parser::new(input.as_bytes(), format));
    assert_eq!(got.trim_end(), expected, "{input}");
}

fn prom(input: &str, expected: &str) {
    check(Format::Prometheus, input, expected);
}

fn om(input: &str, expected: &str) {
    check(Format::OpenMetrics, input, expected);
}

#[test]
fn the_prometheus_format_is_read() {
    prom("a 1", r#"{__name__="a"} 1.0"#);
    prom("\n\n a{b=\"c\"} 2 123\n", r#"{__name__="a", b="c"} 2.0 @123"#);
    prom("a { b = \"c\" , d=\"e\", }\t3\t \n", r#"{__name__="a", b="c", d="e"} 3.0"#);
    prom("a{}1", r#"{__name__="a"} 1.0"#);
    prom("a{z=\"1\",b=\"2\"} NaN", r#"{__name__="a", b="2", z="1"} NaN"#);
    prom(r#"a{b="x\"y\\z\nw\q"} 1"#, r#"{__name__="a", b="x\"y\\z\nw\\q"} 1.0"#);
    prom("a{b=\"x}y\"} +Inf", r#"{__name__="a", b="x}y"} inf"#);
    prom(r#"{"a.b",c="d"} 1"#, r#"{__name__="a.b", c="d"} 1.0"#);
    prom(r#"{c="d","a b"} 1"#, r#"{__name__="a b", c="d"} 1.0"#);
    prom(r#"a{"b.c"="d"} 1"#, r#"{__name__="a", "b.c"="d"} 1.0"#);
    prom("a{b=\"é\"} 1e3", r#"{__name__="a", b="é"} 1000.0"#);
    prom("# HELP a  text \\n \\\" \\\\\n", r#"a HELP " text \n \\\" \\""#);
    prom("# TYPE a counter\n#TYPE a x\n# foo\n#\n", "a TYPE counter\ncomment\ncomment\ncomment");
    prom("# HELP a\n# HELP \"a.b\" x\n", "a HELP \"\"\na.b HELP \"x\"");
    prom("# HELPx\n# TYPE\n", "comment\ncomment");
    prom("", "");
}

#[test]
fn bounds_are_written_in_one_way() {
    prom(
        "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh{quantile=\"1\"} 1",
        "h TYPE histogram\n{__name__=\"h_bucket\", le=\"1.0\"} 1.0\n{__name__=\"h_bucket\", \
         le=\"+Inf\"} 1.0\n{__name__=\"h\", quantile=\"1\"} 1.0",
    );
    om(
        "# TYPE s summary\ns{quantile=\"1e-5\"} 1\ns{le=\"1\"} 1\n# EOF",
        "s TYPE summary\n{__name__=\"s\", quantile=\"1e-05\"} 1.0\n{__name__=\"s\", le=\"1\"} 1.0",
    );
}

#[test]
fn what_the_prometheus_format_refuses() {
    for (input, expected) in [
        ("a", r#"line 1: expected value after metric, got the end of the data while parsing: "a""#),
        ("a\n", r#"line 1: expected value after metric, got "\n" while parsing: "a\n""#),
        ("\n\n1a 1\n", r#"line 3: expected a valid start token, got "1" while parsing: "1""#),
        (
            "a x\n",
            r#"line 1: strconv.ParseFloat: parsing "x": invalid syntax while parsing: "a x""#,
        ),
        ("a 0x1p3\n", r#"line 1: unsupported character in float while parsing: "a 0x1p3""#),
        ("a 1 -1\n", r#"line 1: expected timestamp or new record, got "-" while parsing: "a 1 -""#),
        (
            "a 1 2 3\n",
            r#"line 1: expected next entry after timestamp, got "3" while parsing: "a 1 2 3""#,
        ),
        ("a{b=c} 1\n", r#"line 1: expected label value, got "c" while parsing: "a{b=c}""#),
        ("a{b} 1\n", r#"line 1: expected equal, got "}" while parsing: "a{b}""#),
        ("a{1=\"x\"} 1\n", r#"line 1: expected label name, got "1" while parsing: "a{1=\"x\"}""#),
        ("a{,} 1\n", r#"line 1: expected label name, got "," while parsing: "a{,}""#),
        ("a{\"b\"} 1\n", r#"line 1: metric name already set while parsing: "a{\"b\"}""#),
        ("{\"a\",\"b\"} 1\n", r#"line 1: metric name already set while parsing: "{\"a\",\"b\"}""#),
        ("{b=\"c\"} 1\n", r#"line 1: metric name not set while parsing: "{b=\"c\"}""#),
        ("# TYPE a foo\n", r#"line 1: invalid metric type "foo""#),
        ("# TYPE a gauge \n", r#"line 1: invalid metric type "gauge ""#),
        (
            "# HELP 1 a\n",
            r##"line 1: expected metric name after HELP, got "1" while parsing: "# HELP 1""##,
        ),
    ] {
        prom(input, &format!("error: {expected}"));
    }
    let bytes = b"a 1\nb{c=\"\xff\"} 1\n";
    assert!(render(text(bytes)).contains("error: line 2: invalid UTF-8 label value"));
}

#[test]
fn openmetrics_is_read() {
    om("# EOF", "");
    om("# EOF\n", "");
    om(
        "# TYPE a_seconds counter\n# HELP a_seconds x\\\"y\n# UNIT a_seconds seconds\na_seconds_total{b=\"c\"} 1 \
         1.5 # {id=\"x\"} 0.5 2\n# EOF\n",
        "a_seconds TYPE counter\na_seconds HELP \"x\\\"y\"\na_seconds UNIT \"seconds\"\n\
         {__name__=\"a_seconds_total\", b=\"c\"} 1.0 @1500 # {id=\"x\"} 0.5 @2000",
    );
    om("a 1 # {} 2\n# EOF", "{__name__=\"a\"} 1.0 # {} 2.0");
    om("{\"a.b\"} 1 -1\n# EOF", "{__name__=\"a.b\"} 1.0 @-1000");
    om(
        "# TYPE a info\n# TYPE b stateset\n# TYPE c unknown\n# EOF",
        "a TYPE info\nb TYPE stateset\nc TYPE unknown",
    );
}

#[test]
fn what_openmetrics_refuses() {
    for (input, expected) in [
        ("", "line 1: data does not end with # EOF"),
        ("a 1\n", "line 2: data does not end with # EOF"),
        ("a 1", "line 1: data does not end with # EOF"),
        ("# EOF\na", "line 1: unexpected data after # EOF"),
        ("\n# EOF", r#"line 1: expected a valid start token, got "\n" while parsing: "\n""#),
        (
            "# comment\n# EOF",
            r##"line 1: expected a valid start token, got "#" while parsing: "#""##,
        ),
        ("a  1\n# EOF", r#"line 1: expected value after metric, got " " while parsing: "a  ""#),
        ("a\t1\n# EOF", r#"line 1: expected value after metric, got "\t" while parsing: "a\t""#),
        (
            "a 1 \n# EOF",
            r#"line 1: expected timestamp or comment, got "\n" while parsing: "a 1 \n""#,
        ),
        ("a 1 NaN\n# EOF", "line 1: invalid timestamp NaN"),
        (
            "a 1 # {b=\"c\"}\n# EOF",
            r#"line 1: expected value after exemplar labels, got "\n" while parsing: "a 1 # {b=\"c\"}\n""#,
        ),
        ("a 1 # {\"b\"} 1\n# EOF", r#"line 1: expected equal, got "}" while parsing: "{\"b\"}""#),
        ("# UNIT a b\n# EOF", r#"line 1: unit "b" not a suffix of metric "a""#),
        ("# HELP a\n# EOF", "line 1: expected text in HELP"),
        ("# TYPE a bogus\n# EOF", r#"line 1: invalid metric type "bogus""#),
        (
            "a{b = \"c\"} 1\n# EOF",
            r#"line 1: expected equal, got " " while parsing: "a{b = \"c\"}""#,
        ),
        (
            "a{b=\"c\"d=\"e\"} 1\n# EOF",
            r#"line 1: expected comma or brace close, got "d" while parsing: "a{b=\"c\"d=\"e\"}""#,
        ),
        (
            "a{b=\"c\nd\"} 1\n# EOF",
            r#"line 1: expected label value, got "\"" while parsing: "a{b=\"c\nd\"}""#,
        ),
    ] {
        let got = render(openmetrics(input.as_bytes()));
        assert_eq!(got.lines().last(), Some(format!("error: {expected}").as_str()), "{input}");
    }
}

#[test]
fn a_name_that_stands_twice_is_found() {
    let mut pairs = LabelPairs::default();
    let Some(Ok(Entry::Series(series))) = text(b"a{b=\"1\",c=\"2\",b=\"3\"} 1").next() else {
        panic!("no series");
    };
    series.labels(&mut pairs).unwrap();
    assert_eq!(pairs.duplicate(), Some("b"));
}

proptest! {
    #[test]
    fn no_input_makes_the_parser_panic_or_run_on(
        input in proptest::collection::vec(
            prop_oneof![
                Just(b'{'), Just(b'}'), Just(b'"'), Just(b'\\'), Just(b'\n'), Just(b' '),
                Just(b'='), Just(b','), Just(b'#'), Just(b'a'), Just(b'1'), any::<u8>(),
            ],
            0..200,
        )
    ) {
        for format in [Format::Prometheus, Format::OpenMetrics] {
            let entries = Parser::new(&input, format).take(1000).map(|entry| {
                if let Ok(Entry::Series(series)) = &entry {
                    let _ = series.labels(&mut LabelPairs::default());
                }
            });
            prop_assert!(entries.count() <= input.len() + 1);
        }
    }
}
