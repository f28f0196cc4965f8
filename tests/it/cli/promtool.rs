//! The program in the place of promtool: recorded cases, and the real promtool beside it.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;

use super::{outcome, said, watchfire};
use crate::support::{available, http_get, shared, start_prometheus, until};

/// Cases whose texts were recorded from 3.5.3, when duration expressions were still
/// experimental and `anchored` and `fill` were unknown words; only their exit code counts.
const OLDER_TEXTS: &[&str] = &["promql-experimental-functions"];

/// Only as promtool the program asks for --experimental.
const PROMTOOLS_OWN: &[&str] = &["promql", "format", "up"];

/// Lines that come from a YAML reader, whose words are its own; and 3.14 lists the two
/// series of a duplicate in the order of labels.
fn is_other_text(line: &str) -> bool {
    line.contains("yaml:")
        || line.starts_with("line ")
        || line.starts_with("promtool: error")
        || line.contains("err: found duplicate series for the match group")
}

/// Runs one recorded case and says what is different.
fn differences(case: &Json, args: &[&str], files: &Path) -> Vec<String> {
    let stdin = case["stdin_file"].as_str();
    let stdin = stdin.map(|file| fs::read(files.join(file)).expect("the input"));
    let output = watchfire(args, files, stdin.as_deref());
    let said = said(&output);
    let expect = &case["expect"];
    let (want, got) = (expect["exit_code"].as_i64(), output.status.code().map(i64::from));
    if want != got {
        return vec![format!("{args:?}: exit {got:?}, want {want:?}:\n{said}")];
    }
    if args.iter().any(|a| OLDER_TEXTS.contains(&a.trim_start_matches("--enable-feature="))) {
        return Vec::new();
    }
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    let mut wrong = Vec::new();
    for line in expect["key_lines"].as_array().into_iter().flatten() {
        let line = line.as_str().unwrap_or("");
        if !is_other_text(line) && !lines.contains(&line) {
            wrong.push(format!("{args:?}: {line:?} is missing in:\n{said}"));
        }
    }
    let whole = expect["stdout"].as_str().filter(|_| case["command"] == "check metrics");
    if whole.is_some_and(|whole| whole.as_bytes() != output.stdout) {
        wrong.push(format!("{args:?}: want\n{whole:?}, got\n{said}"));
    }
    wrong
}

#[test]
fn recorded_cases_come_out_alike() {
    let Some(dir) = shared("conformance/promtool") else { return };
    let text = fs::read_to_string(dir.join("cases.json")).expect("the cases");
    let cases: Json = serde_json::from_str(&text).expect("JSON");
    let files = dir.join("files");
    let (mut ran, mut wrong) = (0, Vec::new());
    for case in cases["cases"].as_array().expect("a list") {
        let args: Vec<&str> =
            case["args"].as_array().expect("args").iter().filter_map(Json::as_str).collect();
        let as_promtool: Vec<&str> = std::iter::once("promtool").chain(args.clone()).collect();
        ran += 1;
        wrong.extend(differences(case, &as_promtool, &files));
        if args != PROMTOOLS_OWN {
            wrong.extend(differences(case, &args, &files));
        }
    }
    assert!(ran > 110, "only {ran} cases were found");
    assert!(wrong.is_empty(), "{} of {ran} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// What the real promtool says and how it ends. `None`, said, where there is none.
fn promtool(args: &[&str], dir: &Path, stdin: &str) -> Option<(Option<i32>, String)> {
    if !available("promtool") {
        return None;
    }
    let input = dir.join("stdin");
    fs::write(&input, stdin).expect("an input");
    let mut command = Command::new("promtool");
    command.args(args).current_dir(dir).stdin(fs::File::open(input).expect("an input"));
    let output = command.output().expect("promtool runs");
    Some((output.status.code(), said(&output)))
}

#[test]
fn metrics_are_linted_as_by_promtool() {
    let dir = tempfile::tempdir().expect("a folder");
    let check = |args: &[&str], body: &str| {
        let args: Vec<&str> = ["check", "metrics"].iter().chain(args).copied().collect();
        let Some(theirs) = promtool(&args, dir.path(), body) else { return };
        let output = watchfire(&args, dir.path(), Some(body.as_bytes()));
        assert_eq!((output.status.code(), said(&output)), theirs, "{body}");
    };
    for (name, kind) in [
        ("foo_bucket", "counter"),
        ("camelCase_ms", "gauge"),
        ("a:b_total", "gauge"),
        ("gauge_x_gauge", "gauge"),
        ("x_gauges", "gauge"),
        ("x_counter_total", "counter"),
        ("x_kilometers_sec_ms", "gauge"),
        ("x_milliseconds_count", "counter"),
        ("x_count", "gauge"),
        ("x_sum", "untyped"),
        ("s_x", "gauge"),
        ("seconds", "gauge"),
        ("x_mebibytes", "gauge"),
        ("X_Hours", "gauge"),
        ("x_KB", "gauge"),
    ] {
        for labels in ["", "{aB=\"1\",le=\"2\",quantile=\"3\"}", "{a=\"}\\n\\\"\"}"] {
            check(&[], &format!("# HELP {name} x\n# TYPE {name} {kind}\n{name}{labels} 1\n"));
            check(&["--extended"], &format!("{name}{labels} 1\n"));
        }
    }
    let parts = "# HELP h_fahrenheit x\n# TYPE h_fahrenheit histogram\nh_fahrenheit_bucket{le=\"1\",aB=\"1\"} 1\nh_fahrenheit_bucket{le=\"+Inf\",aB=\"1\"} 1\nh_fahrenheit_sum{aB=\"1\"} 1\nh_fahrenheit_count{aB=\"1\"} 1\n# HELP s_s h\n# TYPE s_s summary\ns_s{quantile=\"1\",le=\"3\"} 1\ns_s_sum{le=\"3\"} 1\ns_s_count{le=\"3\"} 1\n";
    check(&[], parts);
    check(
        &["--extended"],
        "# HELP h x\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n# HELP g x\n# TYPE g gauge\ng{a=\"1\"} 1\n",
    );
    // An empty body, and one without its last line break.
    check(&["--extended"], "");
    check(&[], "x 1");
    // Newer than the real one here: series that stand twice.
    let twice = watchfire(&["check", "metrics"], dir.path(), Some(b"# HELP x y\nx 1\nx 2\n"));
    assert_eq!(said(&twice), "x metric not unique\n");
}

#[test]
fn web_configurations_get_promtools_verdict() {
    let dir = tempfile::tempdir().expect("a folder");
    let make = |name: &str| {
        let made = rcgen(dir.path(), name);
        assert!(made, "openssl makes a certificate");
    };
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: there is no openssl to make certificates with");
        return;
    }
    make("a");
    make("b");
    let check = |config: &str| {
        fs::write(dir.path().join("w.yml"), config).expect("a file");
        let Some(theirs) = promtool(&["check", "web-config", "w.yml"], dir.path(), "") else {
            return;
        };
        let ours = outcome(&["check", "web-config", "w.yml"], dir.path());
        assert_eq!(ours.0, theirs.0, "{config}: {} {}", ours.1, theirs.1);
        // Words of readers of YAML and PEM are their own, and some were changed since.
        let same = |text: &str| {
            text.trim_end()
                .replace("missing cert_file", "missing one of cert or cert_file")
                .replace("missing key_file", "missing one of key or key_file")
                .replace("tls: ", "")
                .replace("password of user \"a\": ", "")
        };
        if !["yaml", "PEM", "Atoi"].iter().any(|word| theirs.1.contains(word)) {
            let cut = |text: &str| same(text).split(": no such file").next().map(str::to_owned);
            let ours = ours.1.replace(": No such file or directory (os error 2)", "");
            let ours = ours.replace(&format!("{}/", dir.path().display()), "");
            assert_eq!(cut(&ours), cut(&theirs.1), "{config}");
        }
    };
    let pair = "cert_file: a.pem, key_file: a.key";
    for tls in [
        pair.to_owned(),
        "cert_file: a.pem, key_file: b.key".to_owned(),
        "cert_file: a.pem".to_owned(),
        "key_file: a.key".to_owned(),
        "cert_file: nope.pem, key_file: a.key".to_owned(),
        "cert_file: a.key, key_file: a.key".to_owned(),
        "min_version: TLS13, max_version: TLS12".to_owned(),
        "cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA256]".to_owned(),
        "client_auth_type: NoClientCert".to_owned(),
        format!("{pair}, client_auth_type: Foo"),
        format!("{pair}, client_auth_type: RequireAndVerifyClientCert"),
        format!("{pair}, client_ca_file: a.pem"),
        format!("{pair}, client_ca_file: nope, client_auth_type: RequestClientCert"),
        format!("{pair}, client_ca_file: a.pem, client_auth_type: RequestClientCert"),
        format!("{pair}, min_version: TLS14"),
        format!("{pair}, cipher_suites: [abc]"),
        format!("{pair}, curve_preferences: [X25519, abc]"),
        format!("{pair}, unknown: x"),
    ] {
        check(&format!("tls_server_config: {{{tls}}}"));
    }
    let hash = "y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";
    for hash in [
        "b".to_owned(),
        format!("$2{hash}"),
        format!("x2{hash}"),
        format!("$3{hash}"),
        format!("$2{}", hash.replace("10", "99")),
        format!("$2{}", hash.replace("10", "ab")),
    ] {
        check(&format!("basic_auth_users: {{a: '{hash}'}}"));
    }
    for config in [
        "",
        "http_server_config: {http2: false, headers: {X-Foo: a}}",
        "http_server_config: {headers: {X-Frame-Options: a}}",
        "http_server_config: {headers: {X-Frame-Options: deny}}",
        "http_server_config: {headers: {x-frame-options: deny}}",
        "http_server_config: {foo: a}",
        "foo: bar",
        "[a]",
    ] {
        check(config);
    }
}

/// A certificate and its key, as `NAME.pem` and `NAME.key`.
fn rcgen(dir: &Path, name: &str) -> bool {
    let mut command = Command::new("openssl");
    command.current_dir(dir).args(["req", "-x509", "-newkey", "rsa:2048", "-nodes"]);
    command.args(["-days", "2", "-subj", "/CN=localhost"]);
    command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
    command.output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_server_is_asked_and_given_metrics() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some((_prometheus, url)) = start_prometheus(dir.path(), "global: {}\n") else { return };
    let check = |args: &[&str], code: i32, text: &str| {
        let (got, said) = outcome(args, dir.path());
        assert_eq!((got, said.contains(text)), (Some(code), true), "{args:?}: {said}");
    };
    let at = format!("--url={url}/");
    check(&["check", "healthy", &at], 0, "  SUCCESS:  Prometheus Server is Healthy.");
    check(&["check", "ready", &at], 0, "  SUCCESS:  Prometheus Server is Ready.");
    let elsewhere = format!("--url={url}/nowhere");
    check(
        &["check", "healthy", &elsewhere],
        1,
        &format!("check failed: URL={url}/nowhere, status=404"),
    );
    check(&["check", "ready", "--url=http://127.0.0.1:1"], 1, "127.0.0.1:1");

    let body =
        "# HELP x_total y\n# TYPE x_total counter\nx_total{a=\"b\"} 3\nx_total{job=\"own\"} 4\n";
    fs::write(dir.path().join("m.prom"), body).expect("a file");
    fs::write(dir.path().join("bad.prom"), "x{ 3\n").expect("a file");
    check(
        &["push", "metrics", &url, "m.prom"],
        0,
        "Parsing metrics file m.prom\n  SUCCESS: metrics file m.prom pushed to remote write.",
    );
    check(&["push", "metrics", &url, "bad.prom", "m.prom"], 1, "  FAILED: line 2: ");
    check(&["push", "metrics", &url, "absent.prom"], 1, "  FAILED: open absent.prom: ");
    check(
        &["push", "metrics", &url, "m.prom", "--remote-write.path=/nowhere"],
        1,
        "  FAILED: server returned HTTP status 404",
    );
    check(&["push", "metrics", &url, "m.prom", "--label=nonsense"], 1, "want NAME=VALUE");
    let stdin = ["push", "metrics", &format!("{url}/api/v1/write"), "--label=job=other"];
    let output = watchfire(&stdin, dir.path(), Some(b"y 1\n"));
    assert_eq!(
        said(&output),
        "Parsing standard input\n  SUCCESS: metrics pushed to remote write.\n"
    );
    let find = |expr: &str| {
        let found = until(std::time::Duration::from_secs(20), || {
            let (_, said) = outcome(&["query", "instant", &url, expr], dir.path());
            Some(said).filter(|said| !said.is_empty())
        });
        let found = found.unwrap_or_default();
        found.split(" @[").next().unwrap_or_default().to_owned()
    };
    assert_eq!(find("x_total{a='b'}"), "x_total{a=\"b\", job=\"promtool\"} => 3");
    assert_eq!(find("x_total{job='own'}"), "x_total{job=\"own\"} => 4");
    assert_eq!(find("y"), "y{job=\"other\"} => 1");

    check(
        &["debug", "metrics", &url],
        0,
        "Compiling debug information complete, all files written in \"debug.tar.gz\".",
    );
    let packed = fs::File::open(dir.path().join("debug.tar.gz")).expect("an archive");
    let list = Command::new("tar").arg("tz").stdin(packed).output().expect("tar runs");
    assert_eq!(String::from_utf8_lossy(&list.stdout), "metrics.txt\n");
    check(&["debug", "metrics", "http://127.0.0.1:1"], 1, "error completing debug command: ");
    assert!(http_get(&format!("{url}/-/healthy")).is_ok());
}

#[test]
fn discovery_shows_what_relabelling_makes_of_targets() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file");
    write("targets.json", r#"[{"targets": ["b:1"], "labels": {"x": "y"}}]"#);
    write(
        "c.yml",
        "scrape_configs:\n- job_name: one\n  static_configs: [{targets: ['a:1', 'a:2', 'a/b']}]\n  relabel_configs: [{source_labels: [__address__], regex: 'a:2', action: drop}]\n- job_name: two\n  file_sd_configs: [{files: [targets.json]}]\n",
    );
    let check = |args: &[&str], expected: &[(&str, &str)]| {
        let all: Vec<&str> = ["check", "service-discovery"].iter().chain(args).copied().collect();
        let (code, said) = outcome(&all, dir.path());
        assert_eq!(code, Some(0), "{said}");
        let json: Json = serde_json::from_str(&said).expect("JSON");
        let found = json.as_array().expect("a list").iter().map(|target| {
            let address = target["discoveredLabels"]["__address__"].as_str().unwrap_or("");
            let outcome = target["error"].as_str().or(target["labels"]["instance"].as_str());
            (address.to_owned(), outcome.unwrap_or("").to_owned())
        });
        let expected = expected.iter().map(|(a, o)| ((*a).to_owned(), (*o).to_owned()));
        assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    };
    check(
        &["c.yml", "one"],
        &[("a:1", "a:1"), ("a:2", ""), ("a/b", "\"a/b\" is not a valid hostname")],
    );
    check(&["c.yml", "two", "--timeout=1s"], &[("b:1", "b:1")]);
    let (code, said) = outcome(&["check", "service-discovery", "c.yml", "three"], dir.path());
    assert_eq!(
        (code, said.as_str()),
        (Some(1), "Job three not found. Select one of:\n\tone\n\ttwo")
    );
}

#[test]
fn outcomes_of_tests_are_written_for_ci() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file");
    write("r.yml", "groups: [{name: g, rules: [{record: y, expr: x * 2}]}]\n");
    write(
        "t.yml",
        "rule_files: [r.yml]\ntests:\n- name: right\n  input_series: [{series: x, values: 1 2}]\n  promql_expr_test: [{expr: y, eval_time: 1m, exp_samples: [{labels: y, value: 4}]}]\n- input_series: [{series: x, values: 1 2}]\n  promql_expr_test: [{expr: y, eval_time: 1m, exp_samples: [{labels: y, value: 5}]}]\n",
    );
    let args = ["test", "--junit=out.xml", "rules", "t.yml", "absent.yml"];
    assert_eq!(outcome(&args, dir.path()).0, Some(1));
    let xml = fs::read_to_string(dir.path().join("out.xml")).expect("a file");
    for part in [
        "<testsuite name=\"t.yml\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\" timestamp=\"",
        "<testcase name=\"right\">\n    </testcase>",
        "<testcase name=\"unnamed#1\">\n      <failure>expr: &quot;y&quot;, time: 1m,&#10;",
        "<testsuite name=\"absent.yml\" tests=\"1\" failures=\"0\" errors=\"1\"",
        "<testcase name=\"unknown\">\n      <error>cannot read absent.yml: ",
    ] {
        assert!(xml.contains(part), "no {part} in:\n{xml}");
    }
    let (code, said) = outcome(&["test", "promql", "--junit=x", "x.test"], dir.path());
    assert_eq!((code, said.as_str()), (Some(1), "error: --junit is for `test rules`"));
}

#[test]
fn a_wrong_command_line_ends_as_promtools() {
    let dir = tempfile::tempdir().expect("a folder");
    let check = |args: &[&str], code: i32, start: &str| {
        let (got, said) = outcome(args, dir.path());
        assert_eq!((got, said.starts_with(start)), (Some(code), true), "{args:?}: {said}");
    };
    check(&["promtool", "check", "nonsense"], 1, "promtool: error: ");
    check(&["promtool", "check", "rules", "--nonsense"], 1, "promtool: error: ");
    check(&["check", "rules", "--nonsense"], 2, "error: ");
    check(
        &["promtool", "promql", "format", "x"],
        1,
        "This command is experimental and requires the --experimental flag to be set.",
    );
    check(&["promtool", "promql", "format", "--experimental", "x"], 0, "x");
    check(&["promql", "format", "x"], 0, "x");
}
