//! A rule over a server that fails in every way it can: the alert stays as it is until the
//! server says that its condition is gone.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::rules::harness::{Harness, SECOND, Setup};

/// What the server does with a query.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    /// `m{job="x"}` is 1.
    Well,
    /// It is 0.
    Over,
    Refusing,
    Busy,
    Silent,
    Babbling,
    /// Half an answer.
    Torn,
    /// A whole answer that says that half of it is missing.
    Partial,
}

async fn serve(mut stream: TcpStream, mood: Mood) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    // Forms are short: head and body come together or one after the other.
    while !request.windows(5).any(|w| w == b"time=") {
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => request.extend_from_slice(&buffer[..n]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let time: f64 =
        text.rsplit("time=").next().unwrap().split('&').next().unwrap().parse().unwrap();
    let is_range = text.contains("%5B");
    let kind = if is_range { "matrix" } else { "vector" };
    let value = u8::from(mood != Mood::Over);
    let point = match is_range {
        true => format!("\"values\":[[{time},\"{value}\"]]"),
        false => format!("\"value\":[{time},\"{value}\"]"),
    };
    let series = format!("{{\"metric\":{{\"__name__\":\"m\",\"job\":\"x\"}},{point}}}");
    let answer = |series: &str, more: &str| {
        format!(
            "{{\"status\":\"success\",\"data\":{{\"resultType\":\"{kind}\",\"result\":[{series}]}}{more}}}"
        )
    };
    let whole = answer(&series, "");
    let (status, body, length) = match mood {
        Mood::Well | Mood::Over => ("200 OK", whole.clone(), whole.len()),
        Mood::Partial => {
            let body = answer("", ",\"warnings\":[\"shard 2 is down\"]");
            let length = body.len();
            ("200 OK", body, length)
        }
        Mood::Refusing => ("422 Unprocessable Entity", String::new(), 0),
        Mood::Busy => ("503 Service Unavailable", String::new(), 0),
        Mood::Babbling => ("200 OK", "<html>".to_owned(), 6),
        Mood::Torn => ("200 OK", whole[..20].to_owned(), whole.len()),
        Mood::Silent => {
            while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
            return;
        }
    };
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all((head + &body).as_bytes()).await;
    let _ = stream.shutdown().await;
    while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
}

async fn start(mood: Arc<Mutex<Mood>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mood = *mood.lock().unwrap();
            tokio::spawn(serve(stream, mood));
        }
    });
    base
}

#[tokio::test(flavor = "multi_thread")]
async fn no_failure_of_a_server_ends_an_alert() {
    let mood = Arc::new(Mutex::new(Mood::Well));
    let config = DatasourceConfig {
        url: start(mood.clone()).await,
        name: "far".to_owned(),
        evaluate: Evaluation::Here,
        timeout_ms: 2000,
        ..DatasourceConfig::default()
    };
    let source = remote::open(&config, &surroundings()).await.unwrap();
    let setup = Setup { source: Some(source), ..Setup::default() };
    let mut harness = Harness::with(Arc::default(), 1_000_000 * SECOND, setup);
    let rules =
        "groups: [{name: g, interval: 1m, rules: [{alert: A, expr: m > 0, on_no_data: keep}]}]";
    harness.load(rules).await.unwrap();
    harness.tick().await;
    assert_eq!(harness.alerting("A").alerts.len(), 1);
    assert!(harness.sent().iter().all(|alert| alert.ends_at_ms > harness.clock.now()));
    for next in
        [Mood::Refusing, Mood::Busy, Mood::Silent, Mood::Babbling, Mood::Torn, Mood::Partial]
    {
        *mood.lock().unwrap() = next;
        harness.tick().await;
        assert_eq!(harness.alerting("A").alerts.len(), 1, "{next:?}");
        let failed = !harness.rule("A").last_error.is_empty();
        assert_eq!(failed, next != Mood::Partial, "{next:?}");
        let ended = harness.sent().into_iter().any(|a| a.ends_at_ms <= harness.clock.now());
        assert!(!ended, "{next:?} resolved the alert");
    }
    *mood.lock().unwrap() = Mood::Well;
    harness.tick().await;
    assert_eq!(harness.rule("A").last_error, "");
    assert_eq!(harness.alerting("A").alerts.len(), 1);
    *mood.lock().unwrap() = Mood::Over;
    let at = harness.tick().await;
    assert!(harness.sent().iter().any(|alert| alert.ends_at_ms <= at), "it ends when it ends");
}
