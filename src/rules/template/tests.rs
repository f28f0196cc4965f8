//! What `promtool`, the oracle of the integration tests, is too old for, parse errors that
//! must be exact, and the limits.

use super::*;

fn expand(text: &str) -> Result<String, TemplateError> {
    let data = TemplateData::alert(
        Labels::from_pairs([("job", "node")]),
        Labels::from_pairs([("cluster", "eu")]),
        "http://h:9090/a%20b/?x=/y",
        &Sample::Float(0.5),
        1_353_755_652_250,
    );
    let template = Template::parse("test", text)?;
    template.expand(&data, &mut |_| Err("no storage".to_owned()))
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
}

#[track_caller]
fn fails(text: &str, expected: &str) {
    let error = expand(text).expect_err(text);
    assert_eq!(error.detail(), expected, "{text}");
}

#[test]
fn parse_errors_are_worded_as_go_words_them() {
    fails("{{", "template: test:1: unclosed action");
    fails("{{ .a }", "template: test:1: unexpected \"}\" in operand");
    fails("{{ foo }}", "template: test:1: function \"foo\" not defined");
    fails("{{ 1) }}", "template: test:1: unexpected right paren");
    fails(
        "{{\n\n \"a }}",
        "template: test:3: unterminated quoted string in action started at test:1",
    );
    fails("{{\n 1", "template: test:2: unclosed action started at test:1");
}

#[test]
fn newer_functions_and_forms_work() {
    check("{{ now }} {{ now | toTime }}", "1.35375565225e+09 2012-11-24 11:14:12.25 +0000 UTC");
    check("{{ toDuration 90.5 }} {{ (toDuration -1).Seconds }}", "1m30.5s -1");
    check("{{ humanizeDuration (toDuration 5).Abs }}", "5s");
    check("{{ urlQueryEscape \"a b&c\" }}", "a+b%26c");
    check("{{ externalURL }} {{ pathPrefix }}", "http://h:9090/a%20b/?x=/y /a b/");
    check("{{ parseDuration \"-1h\" }}", "-3600");
    check("{{ range 3 }}{{ . }}{{ end }}{{ range $i := 2 }}{{ $i }}{{ end }}", "01201");
    check("{{ range 0 }}x{{ else }}none{{ end }}", "none");
    check("{{ with 0 }}a{{ else with .Value }}{{ . }}{{ else }}c{{ end }}", "0.5");
    check("{{ .ExternalLabels.cluster }} {{ .Labels }} {{ .Value }}", "eu map[job:node] 0.5");
    check("{{ $x := 0 }}{{ range $x = .Labels }}{{ end }}{{ $x }}", "node");
}

#[test]
fn newer_errors_are_worded_as_go_words_them() {
    for (text, expected) in [
        ("{{ call 1 }}", "1:3 <call 1>: error calling call: non-function 1 of type int"),
        ("{{ (toTime 0).Date }}", "1:11 <0>: function Date has 3 return values; should be 1 or 2"),
        (
            "{{ (toTime 0).ISOWeek }}",
            "1:11 <0>: invalid function signature for ISOWeek: second return value should be \
             error; is int",
        ),
        (
            "{{ range $a, $b := 3 }}{{ end }}",
            "1:19 <3>: can't use 3 to iterate over more than one variable",
        ),
        ("{{ query \"up\" }}", "1:3 <query \"up\">: error calling query: no storage"),
        (
            "{{ humanize (toDuration 1) }}",
            "1:3 <humanize (toDuration 1)>: error calling humanize: can't convert \
             *time.Duration to float",
        ),
        ("{{ .Value.Foo }}", "1:9 <.Value.Foo>: can't evaluate field Foo in type interface {}"),
        (
            "{{ reReplaceAll \"(\" \"\" \"\" }}",
            "1:3 <reReplaceAll \"(\" \"\" \"\">: error calling reReplaceAll: regexp: \
             Compile(`(`): error parsing regexp: missing closing ): `(`",
        ),
        (
            "{{ match \"(\" \"\" }}",
            "1:3 <match \"(\" \"\">: error calling match: error parsing regexp: missing \
             closing ): `(`",
        ),
    ] {
        let (place, rest) = expected.split_once(' ').expect("a place");
        fails(text, &format!("template: test:{place}: executing \"test\" at {rest}"));
    }
}

#[test]
fn histograms_print_and_have_fields() {
    let histogram = crate::model::FloatHistogram { count: 3.0, sum: 10.5, ..Default::default() };
    let value = Sample::Histogram(Arc::new(histogram));
    let data = TemplateData::alert(Labels::empty(), Labels::empty(), "", &value, 0);
    let text =
        "{{ $value }} {{ $value.Count }} {{ $value.Sum }} {{ printf \"%s %T\" $value $value }}";
    let template = Template::parse_alert("A", text).expect("a template");
    let got = template.expand(&data, &mut |_| Ok(Vec::new()));
    let printed = "{count:3, sum:10.5}";
    assert_eq!(got, Ok(format!("{printed} 3 10.5 {printed} *histogram.FloatHistogram")));
    let template = Template::parse_alert("A", "{{ $value | humanize }}").expect("a template");
    let error = template.expand(&data, &mut |_| Ok(Vec::new())).expect_err("no number");
    assert!(error.detail().ends_with("can't convert *histogram.FloatHistogram to float"));
}

#[test]
fn an_alert_without_actions_is_its_text() {
    let template = Template::parse_alert("A", "plain } text").expect("a template");
    let data = TemplateData::standalone(None, "", 0);
    assert_eq!(template.expand(&data, &mut |_| Ok(Vec::new())).as_deref(), Ok("plain } text"));
    let error = Template::parse_alert("A", "{{ end }}").expect_err("no template");
    assert_eq!(
        error_text(&error),
        "<error expanding template: error parsing template __alert_A: \
         template: __alert_A:1: unexpected {{end}}>"
    );
}

#[test]
fn everything_has_a_limit() {
    let deep = |open: &str, close: &str, n: usize| open.repeat(n) + &close.repeat(n);
    let too_deep = "template: test:1: max expression depth exceeded";
    fails(&format!("{{{{ {} }}}}", deep("(", ")", 20_000)), too_deep);
    fails(&deep("{{ if 1 }}", "{{ end }}", 20_000), too_deep);
    check(&deep("{{ if 1 }}", "{{ end }}", parse::MAX_NESTING), "");
    check(&format!("{{{{ {}1{} }}}}", "(".repeat(100), ")".repeat(100)), "1");
    let chain = |n: usize| "{{ if 0 }}a".to_owned() + &"{{ else if 0 }}b".repeat(n);
    check(&(chain(400) + "{{ else }}c{{ end }}"), "c");
    fails(&(chain(20_000) + "{{ end }}"), "template: test:1: more than 400 times else in a row");
    let x =
        "{{ define \"x\" }}{{ if 1 }}{{ template \"x\" }}{{ end }}{{ end }}{{ template \"x\" }}";
    let error = expand(x).expect_err("endless").detail().to_owned();
    assert!(error.ends_with("exceeded maximum template depth (250)"), "{error}");
    let error = expand("{{ range 100000000 }}{{ end }}").expect_err("too long").to_string();
    assert!(error.ends_with("more than 1000000 steps"), "{error}");
    let error = expand("{{ range 10000 }}{{ $x := printf \"%10000d\" 1 }}{{ end }}");
    let error = error.expect_err("too much").to_string();
    assert!(error.ends_with("more than 16777216 bytes of text"), "{error}");
}
