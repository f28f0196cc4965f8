//! Where rules come from: servers, mounted directories, the API that writes them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{PATIENCE, Server};
use crate::support::{free_address, until};

fn rules(name: &str) -> String {
    format!("groups: [{{name: {name}, interval: 1s, rules: [{{record: 'r:{name}', expr: '1'}}]}}]")
}

fn serve(dir: &Path, rule_files: &str, more: &[&str]) -> Server {
    fs::write(dir.join("c.yml"), format!("rule_files: [{rule_files}]\n")).expect("a file");
    let mut args = vec![
        "serve".to_owned(),
        "--config.file=c.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        "--rules.refresh-interval=1s".to_owned(),
    ];
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    Server::start(dir, free_address(), &args)
}

fn wait_for(server: &Server, expected: &[&str]) {
    let names = || server.groups().into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    let found = until(PATIENCE, || (names() == expected).then_some(()));
    assert!(found.is_some(), "{:?} instead of {expected:?}\n{}", names(), server.program.log());
}

/// What a server of rules gives: a version and the text, or a failure.
#[derive(Default)]
struct Given {
    answer: Option<(u32, String)>,
    whole: usize,
    unchanged: usize,
}

async fn give(State(given): State<Arc<Mutex<Given>>>, headers: HeaderMap) -> Response {
    let mut given = given.lock().unwrap();
    let Some((version, text)) = given.answer.clone() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let etag = format!("\"{version}\"");
    if headers.get("if-none-match").is_some_and(|known| known == etag.as_str()) {
        given.unchanged += 1;
        return StatusCode::NOT_MODIFIED.into_response();
    }
    given.whole += 1;
    ([("etag", etag)], text).into_response()
}

#[test]
fn rules_of_a_server_are_followed_and_outlive_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let given = Arc::new(Mutex::new(Given::default()));
    let address = free_address();
    let app = Router::new().route("/rules.yml", get(give)).with_state(given.clone());
    let serving = runtime.spawn(async move {
        let listener = tokio::net::TcpListener::bind(address).await.expect("the address");
        axum::serve(listener, app).await
    });
    let answer = |version, text: &str| {
        given.lock().unwrap().answer = Some((version, text.to_owned()));
    };
    answer(1, &rules("first"));
    let url = format!("'http://{address}/rules.yml'");
    let mut server = serve(dir.path(), &url, &[]);
    wait_for(&server, &["first"]);
    let asked = until(PATIENCE, || (given.lock().unwrap().unchanged > 1).then_some(()));
    assert!(asked.is_some(), "what did not change is not sent again");
    assert_eq!(given.lock().unwrap().whole, 1);
    answer(2, &rules("second"));
    wait_for(&server, &["second"]);
    // Bad rules and a bad server change nothing, and are told.
    for broken in ["groups: [{name: second, rules: [{record: r, expr: '('}]}]", ""] {
        given.lock().unwrap().answer = (!broken.is_empty()).then(|| (3, broken.to_owned()));
        let set_aside = until(PATIENCE, || {
            let set_aside = server.get("/api/v1/rules")["data"].to_string();
            set_aside.contains("quarantine").then_some(())
        });
        assert!(set_aside.is_some(), "{}", server.get("/api/v1/rules"));
        wait_for(&server, &["second"]);
    }
    // Nor does a start without it.
    serving.abort();
    server.program.kill();
    let server = serve(dir.path(), &url, &[]);
    wait_for(&server, &["second"]);
}

#[test]
fn a_config_map_that_is_swapped_takes_effect_without_a_reload() {
    let dir = tempfile::tempdir().expect("a folder");
    let mount = dir.path().join("mount");
    for (version, name) in [("..1", "old"), ("..2", "new")] {
        fs::create_dir_all(mount.join(version)).expect("a folder");
        fs::write(mount.join(version).join("rules.yml"), rules(name)).expect("a file");
    }
    symlink("..1", mount.join("..data")).expect("a link");
    symlink("..data/rules.yml", mount.join("rules.yml")).expect("a link");
    let server = serve(dir.path(), "mount", &["--rules.watch-files"]);
    wait_for(&server, &["old"]);
    symlink("..2", mount.join("..new")).expect("a link");
    fs::rename(mount.join("..new"), mount.join("..data")).expect("a swap");
    wait_for(&server, &["new"]);
}

/// A request with a body; status and answer.
fn call(method: &str, url: &str, body: &str) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::new();
        let method = method.parse().expect("a method");
        let request = client.request(method, url).body(body.to_owned());
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    })
}

#[test]
fn rules_are_written_as_mimirs_ruler_has_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let closed = serve(dir.path(), "", &[]);
    let (status, text) =
        call("POST", &format!("http://{}/api/v1/rules/ns", closed.address), "name: a");
    assert_eq!(status, 404);
    assert!(text.contains("--web.enable-rules-api"), "{text}");
    drop(closed);

    let mut server = serve(dir.path(), "", &["--web.enable-rules-api"]);
    let base = format!("http://{}", server.address);
    let group = |name: &str| {
        format!("name: {name}\ninterval: 1s\nrules: [{{record: 'r:{name}', expr: '1'}}]\n")
    };
    for (method, path, body, status) in [
        ("GET", "/config/v1/rules", String::new(), 404),
        ("POST", "/api/v1/rules/ns", group("a"), 202),
        ("POST", "/config/v1/rules/ns", group("b"), 202),
        ("POST", "/prometheus/config/v1/rules/other%2Fone", group("a"), 202),
        ("POST", "/api/v1/rules/ns", "name: c\nrules: [{record: r, expr: '('}]".into(), 400),
        ("POST", "/api/v1/rules/ns", "[".into(), 400),
        ("GET", "/api/v1/rules/ns/a", String::new(), 200),
        ("GET", "/api/v1/rules/ns/none", String::new(), 404),
        ("GET", "/api/v1/rules/none", String::new(), 404),
        ("DELETE", "/api/v1/rules/ns/none", String::new(), 404),
        ("DELETE", "/api/v1/rules/none", String::new(), 404),
    ] {
        let (got, text) = call(method, &format!("{base}{path}"), &body);
        assert_eq!(got, status, "{method} {path}: {text}");
    }
    // What was accepted runs when the answer comes.
    let files = |server: &Server| {
        let groups = server.groups();
        groups.into_iter().map(|(file, name)| format!("{file} {name}")).collect::<Vec<_>>()
    };
    let all = ["ruler/ns a", "ruler/ns b", "ruler/other/one a"];
    assert_eq!(files(&server), all);
    let (_, list) = call("GET", &format!("{base}/config/v1/rules"), "");
    let list: serde_yaml::Value = serde_yaml::from_str(&list).expect("YAML");
    assert_eq!(list["ns"][1]["name"], serde_yaml::Value::from("b"));
    assert_eq!(list["other/one"][0]["rules"][0]["record"], serde_yaml::Value::from("r:a"));
    server.program.kill();
    let server = serve(dir.path(), "", &["--web.enable-rules-api"]);
    assert_eq!(files(&server), all, "over a kill");
    let base = format!("http://{}", server.address);
    assert_eq!(call("DELETE", &format!("{base}/api/v1/rules/ns/b"), "").0, 202);
    assert_eq!(call("DELETE", &format!("{base}/config/v1/rules/other%2Fone"), "").0, 202);
    assert_eq!(files(&server), ["ruler/ns a"]);
}
