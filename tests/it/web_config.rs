//! `--web.config.file` as clients meet it: curl, with certificates from openssl, beside a
//! real Prometheus that is given the same file; and `--config.auto-reload`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;

use crate::support::{Program, available, free_address, http_get, run_watchfire, until};

fn openssl(dir: &Path, args: &str) {
    let mut command = Command::new("openssl");
    let output = command.args(args.split(' ')).current_dir(dir).output().expect("openssl");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args}: {said}");
}

/// A certificate authority `ca.crt`, and what it signed for 127.0.0.1: `{name}.crt`.
fn certificates(dir: &Path, ca: &str, names: &[&str]) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(dir, &format!("req -x509 {key} -keyout {ca}.key -out {ca}.crt -subj /CN={ca}"));
    fs::write(dir.join("san.ext"), "subjectAltName=IP:127.0.0.1\n").expect("a file");
    for name in names {
        openssl(dir, &format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        openssl(
            dir,
            &format!(
                "x509 -req -in {name}.csr -CA {ca}.crt -CAkey {ca}.key -CAcreateserial \
                 -out {name}.crt -days 2 -extfile san.ext"
            ),
        );
    }
}

/// Status, HTTP version and two headers of an answer; 0 when there is none.
fn curl(dir: &Path, url: &str, args: &str) -> String {
    let mut command = Command::new("curl");
    command.args(["-s", "-o", "/dev/null", "--max-time", "20", "-w"]);
    command
        .arg("%{http_code} %{http_version} [%header{www-authenticate}] [%header{x-frame-options}]");
    let output = command.args(args.split_whitespace()).arg(url).current_dir(dir).output();
    let said = String::from_utf8_lossy(&output.expect("curl").stdout).into_owned();
    match said.strip_prefix("000 ") {
        Some(_) => "none".to_owned(),
        None => said,
    }
}

fn web_config(dir: &Path, text: &str) {
    fs::write(dir.join("web.yml.new"), text).expect("a file");
    fs::rename(dir.join("web.yml.new"), dir.join("web.yml")).expect("a file");
}

fn start(dir: &Path, address: SocketAddr) -> Program {
    let args = [
        "serve".to_owned(),
        "--config.file=config.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        "--web.config.file=web.yml".to_owned(),
        format!("--web.listen-address={address}"),
    ];
    Program::watchfire(&args, dir)
}

fn start_prometheus(dir: &Path, address: SocketAddr) -> Option<Program> {
    let args = [
        format!("--config.file={}", dir.join("config.yml").display()),
        format!("--storage.tsdb.path={}", dir.join("prometheus").display()),
        format!("--web.config.file={}", dir.join("web.yml").display()),
        format!("--web.listen-address={address}"),
    ];
    Program::start("prometheus", &args)
}

#[test]
fn who_may_ask_is_decided_as_by_prometheus() {
    if !available("openssl") || !available("curl") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    certificates(dir, "ca", &["server", "client"]);
    certificates(dir, "other", &["stranger"]);
    fs::write(dir.join("config.yml"), "global: {}\n").expect("a file");
    let config = |hash: &str| {
        format!(
            "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  \
             client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.crt\n\
             http_server_config:\n  headers:\n    X-Frame-Options: deny\n\
             basic_auth_users:\n  alice: {hash}\n  bob: {hash}\n"
        )
    };
    web_config(dir, &config(&bcrypt::hash("secret", 4).expect("a hash")));
    let (ours, theirs) = (free_address(), free_address());
    let mut watchfire = start(dir, ours);
    let prometheus = start_prometheus(dir, theirs);
    let user = "--cacert ca.crt -u alice:secret";
    let ready = |address: SocketAddr| {
        let url = format!("https://{address}/-/ready");
        let ready = until(Duration::from_secs(60), || {
            Some(curl(dir, &url, user)).filter(|said| said.starts_with("200 "))
        });
        assert!(ready.is_some(), "{url}");
    };
    ready(ours);
    if prometheus.is_some() {
        ready(theirs);
    }
    let check = |args: &str, path: &str, expected: &str| {
        let got = curl(dir, &format!("https://{ours}{path}"), args);
        assert_eq!(got, expected, "{args} {path}");
        if prometheus.is_some() {
            let got = curl(dir, &format!("https://{theirs}{path}"), args);
            assert_eq!(got, expected, "Prometheus: {args} {path}");
        }
    };
    let (fine, refused) = ("200 2 [] [deny]", "401 2 [Basic] [deny]");
    for path in ["/-/healthy", "/metrics", "/api/v1/labels"] {
        check("--cacert ca.crt", path, refused);
        check(user, path, fine);
    }
    let path = "/api/v1/query?query=1";
    check(&format!("{user} --http1.1"), path, "200 1.1 [] [deny]");
    check(&format!("{user} --tlsv1.2 --tls-max 1.2"), path, fine);
    check("--cacert ca.crt -u bob:secret", path, fine);
    check("--cacert ca.crt -u alice:Secret", path, refused);
    check("--cacert ca.crt -u carol:secret", path, refused);
    check("--cacert ca.crt -H Authorization:Bearer", path, refused);
    check(&format!("{user} --cert client.crt --key client.key"), path, fine);
    check(&format!("{user} --cert stranger.crt --key stranger.key"), path, "none");
    check("--cacert other.crt -u alice:secret", path, "none");
    let plain = curl(dir, &format!("http://{ours}{path}"), "-u alice:secret");
    assert!(!plain.starts_with("200"), "{plain}");

    // What changes holds at once: a password, a certificate by another authority.
    web_config(dir, &config(&bcrypt::hash("changed", 5).expect("a hash")));
    check(user, path, refused);
    check("--cacert ca.crt -u alice:changed", path, fine);
    certificates(dir, "ca2", &["server"]);
    check("--cacert ca.crt -u alice:changed", path, "none");
    check("--cacert ca2.crt -u alice:changed", path, fine);
    // What cannot be read lets nobody in, and what can again does.
    web_config(dir, "tls_server_config: [\n");
    check("--cacert ca2.crt -u alice:changed", path, "none");
    web_config(dir, &config(&bcrypt::hash("changed", 4).expect("a hash")));
    check("--cacert ca2.crt -u alice:changed", path, fine);
    assert!(watchfire.terminate(Duration::from_secs(60)).is_some_and(|status| status.success()));
}

#[test]
fn what_cannot_be_served_stops_the_start() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("config.yml"), "global: {}\n").expect("a file");
    let check = |text: &str, expected: &str| {
        web_config(dir.path(), text);
        let args = ["serve", "--config.file=config.yml", "--web.config.file=web.yml"];
        let address = format!("--web.listen-address={}", free_address());
        let output = run_watchfire(&[&args[..], &[&address]].concat(), dir.path(), b"");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}: {said}");
        assert!(said.contains(expected), "{text}: {said}");
    };
    check("tls_server_config: {cert_file: x}\n", "missing one of key or key_file");
    check("basic_auth_users: {a: b}\n", "hashedSecret too short");
    check("nonsense: 1\n", "nonsense");
    check("rate_limit: {burst: 1, interval: 1s}\n", "rate_limit: limits on the rate");
}

#[test]
fn changed_files_are_loaded_by_themselves() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let write = |name: &str, text: &str| {
        fs::write(dir.join("new"), text).expect("a file");
        fs::rename(dir.join("new"), dir.join(name)).expect("a file");
    };
    let rules =
        |name: &str| format!("groups:\n- name: {name}\n  rules: [{{record: r, expr: '1'}}]\n");
    write("config.yml", "rule_files: ['rules*.yml']\n");
    write("rules1.yml", &rules("first"));
    let address = free_address();
    let args = [
        "serve".to_owned(),
        "--config.file=config.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        "--config.auto-reload-interval=50ms".to_owned(),
        "--enable-feature=auto-reload-config".to_owned(),
        format!("--web.listen-address={address}"),
    ];
    let mut program = Program::watchfire(&args, dir);
    program.wait_ready(&format!("http://{address}/-/ready"));
    let get = |path: &str| -> Json {
        let (_, body) = http_get(&format!("http://{address}{path}")).expect("an answer");
        serde_json::from_str(&body).expect("JSON")
    };
    let wait_for = |expected: &[&str], is_loaded: bool| {
        let found = until(Duration::from_secs(60), || {
            let answer = get("/api/v1/rules");
            let groups = answer["data"]["groups"].as_array()?.iter();
            let names: Vec<String> =
                groups.filter_map(|group| Some(group["name"].as_str()?.to_owned())).collect();
            let info = get("/api/v1/status/runtimeinfo");
            let as_expected = names == expected && info["data"]["reloadConfigSuccess"] == is_loaded;
            as_expected.then_some(())
        });
        assert!(found.is_some(), "{expected:?}, {is_loaded}: {}", program.log());
    };
    wait_for(&["first"], true);
    write("rules1.yml", &rules("changed"));
    wait_for(&["changed"], true);
    write("rules2.yml", &rules("another"));
    wait_for(&["changed", "another"], true);
    write("config.yml", "rule_files: [\n");
    wait_for(&["changed", "another"], false);
    write("config.yml", "rule_files: ['rules2.yml']\n");
    wait_for(&["another"], true);
    let reloads = program.log().matches("file change detected").count();
    assert_eq!(reloads, 4, "{}", program.log());
}

#[test]
fn without_configuration_it_watches_itself_behind_tls() {
    if !available("openssl") || !available("curl") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    certificates(dir, "ca", &["server"]);
    web_config(dir, "tls_server_config: {cert_file: server.crt, key_file: server.key}\n");
    let address = free_address();
    let args = [
        "serve".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        "--web.config.file=web.yml".to_owned(),
        format!("--web.listen-address={address}"),
    ];
    let program = Program::watchfire(&args, dir);
    let url = format!("https://{address}/api/v1/query?query=up");
    let seen = until(Duration::from_secs(60), || {
        let mut curl = Command::new("curl");
        let answer = curl.args(["-s", "--cacert", "ca.crt", &url]).current_dir(dir).output();
        let answer: Json = serde_json::from_slice(&answer.expect("curl").stdout).ok()?;
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    });
    assert_eq!(seen.as_deref(), Some("1"), "{}", program.log());
}
