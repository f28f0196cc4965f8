//! What a query may cost, as its client is told. (That a query waits for a slot, and what it
//! says when it gets none: `server.rs`.)

use std::sync::Arc;
use std::time::Duration;

use watchfire::query::{Engine, EngineOptions};
use watchfire::telemetry::clock::ManualClock;

use super::{NOW_MS, TestServer};

/// Asks a server with these limits, which holds 20 series of 60 samples.
async fn check(limits: EngineOptions, path: &str, status: u16, kind: &str, error: &str) {
    let server = TestServer::start_with(Arc::new(ManualClock::new(NOW_MS)), |state| {
        state.engine = Engine::new(limits);
    })
    .await;
    let samples: Vec<_> = (0..60).map(|i| (NOW_MS - i64::from(59 - i) * 1000, 1.0)).collect();
    for i in 0..20 {
        server.store(&[("__name__", "m"), ("i", &i.to_string())], &samples);
    }
    let expected = format!(r#"{{"status":"error","errorType":"{kind}","error":"{error}"}}"#);
    server.check(path, status, &expected).await;
    // The server goes on, within the same limits.
    server
        .check(
            &format!("/api/v1/query?query=1&time={}", NOW_MS / 1000),
            200,
            &format!(
                r#"{{"status":"success","data":{{"resultType":"scalar","result":[{},"1"]}}}}"#,
                NOW_MS / 1000
            ),
        )
        .await;
}

const TOO_MANY: &str =
    "query processing would load too many samples into memory in query execution";

#[tokio::test]
async fn samples() {
    let limits = || EngineOptions { max_samples: 1000, ..EngineOptions::default() };
    let time = NOW_MS / 1000;
    check(limits(), "/api/v1/query?query=m[2m]", 422, "execution", TOO_MANY).await;
    let range = format!("query_range?query=m&start={}&end={time}&step=1", time - 59);
    check(limits(), &format!("/api/v1/{range}"), 422, "execution", TOO_MANY).await;
}

#[tokio::test]
async fn steps() {
    check(
        EngineOptions::default(),
        "/api/v1/query_range?query=m&start=0&end=11001&step=1",
        400,
        "bad_data",
        "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query \
         resolution (?step=XX)",
    )
    .await;
    // Steps of a subquery count as samples.
    let path = "/api/v1/query?query=sum_over_time(m[1d:1ms])";
    check(EngineOptions::default(), path, 422, "execution", TOO_MANY).await;
    let path = "/api/v1/query?query=sum_over_time(m[10y:1ms])";
    let error = "invalid parameter \\\"query\\\": subquery has too many steps: use a larger step";
    check(EngineOptions::default(), path, 400, "bad_data", error).await;
}

#[tokio::test]
async fn memory() {
    check(
        EngineOptions { max_memory_bytes: 10_000, ..EngineOptions::default() },
        "/api/v1/query?query=m[2m]",
        422,
        "execution",
        "query would hold more than 10000 bytes in memory in query execution: select fewer \
         series or a shorter time, or raise --query.max-memory-bytes",
    )
    .await;
}

#[tokio::test]
async fn time() {
    let server = |timeout| EngineOptions { timeout, ..EngineOptions::default() };
    let error = "query timed out in query execution";
    let patient = server(Duration::from_secs(100));
    check(patient, "/api/v1/query?query=m&timeout=0s", 503, "timeout", error).await;
}

#[tokio::test]
async fn nesting() {
    let query = |levels: usize| format!("{}m{}", "abs(".repeat(levels), ")".repeat(levels));
    check(
        EngineOptions::default(),
        &format!("/api/v1/query?query={}", query(501)),
        400,
        "bad_data",
        "invalid parameter \\\"query\\\": 1:2004: parse error: expression is nested too deeply: at \
         most 500 levels are allowed; split it into recording rules",
    )
    .await;
    // What is allowed is also evaluated: the stack holds it.
    let server = TestServer::start().await;
    server.store(&[("__name__", "m")], &[(NOW_MS, -1.0)]);
    let deep = [
        query(499),
        format!("{}m{}", "-(".repeat(249), ")".repeat(249)),
        format!("{}m{}", "(1%2B".repeat(249), ")".repeat(249)),
        format!("{}m{}", "(m%2B".repeat(249), ")".repeat(249)),
        format!("{}m{}", "(m%20or%20".repeat(249), ")".repeat(249)),
        format!("{}m{}", "sum(".repeat(499), ")".repeat(499)),
        format!("{}m{}", "topk(1,".repeat(499), ")".repeat(499)),
        format!("{}m{}", "max_over_time(".repeat(248), "[1m:1m])".repeat(248)),
    ];
    for query in deep {
        for endpoint in ["query", "format_query", "parse_query"] {
            eprintln!("{endpoint} {}...", &query[..20]);
            let got = server.get(&format!("/api/v1/{endpoint}?query={query}")).await;
            assert_eq!(got.status, 200, "{endpoint} {}... {}", &query[..20], got.body);
        }
    }
}
