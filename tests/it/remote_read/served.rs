//! Our own answers to remote read: to a real Prometheus that reads from us, and to ourselves.

use super::*;
use crate::api::TestServer;
use watchfire::telemetry::clock::ManualClock;

async fn ours(sent: &proto::WriteRequest) -> TestServer {
    let server = TestServer::start_with(Arc::new(ManualClock::new(data::END_MS)), |state| {
        state.options.enable_remote_write_receiver = true;
    })
    .await;
    send(&server.base, sent).await;
    server
}

/// A Prometheus without samples of its own answers from ours.
#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_reads_from_us() {
    let sent = data::request(SEED);
    let server = ours(&sent).await;
    let dir = tempfile::tempdir().unwrap();
    let config = format!("remote_read:\n- url: {}/api/v1/read\n  read_recent: true\n", server.base);
    let Some((_prometheus, base)) = start_prometheus(dir.path(), &config) else { return };
    let (plain, source) = (Engine::new(EngineOptions::default()), local(&sent));
    let exprs = [
        "{job=~\".+\"}",
        "sometimes",
        "odd",
        "sum by (job) (count_over_time(requests_total[10m]))",
        "max_over_time(level[20m])",
        "sum by (job, le) (latency_seconds_bucket)",
        "flaky offset 10m",
    ];
    let mut compared = 0;
    for expr in exprs {
        for when in TIMES {
            let mut wanted = comparable(ask(&plain, &source, expr, *when).await).unwrap();
            // What we hand out carries our external labels, which Prometheus does not know
            // to take off.
            let results = wanted["data"]["result"].as_array_mut().unwrap();
            for result in results.iter_mut().filter(|_| !expr.contains(" by ")) {
                result["metric"]["replica"] = "a".into();
            }
            let wanted = Some(ordered(&wanted.to_string()));
            let got = server_says(&base, expr, *when).await;
            assert!(same(&wanted, &got), "{expr} {when:?}\n  {wanted:?}\n  {got:?}");
            compared += wanted.map_or(0, |v| v["data"]["result"].as_array().unwrap().len());
        }
    }
    assert!(compared > 200, "{compared} series compared");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_hand_out_we_read_back() {
    let sent = data::request(SEED);
    let server = ours(&sent).await;
    let remote = open(&server.base, DatasourceKind::RemoteRead, Evaluation::Here).await;
    let (plain, source) = (Engine::new(EngineOptions::default()), local(&sent));
    for expr in ["{job=~\".+\",replica=\"\"}", "{job=~\".+\",replica=\"a\"}"] {
        let got = comparable(ask(&plain, &remote, expr, TIMES[1]).await).unwrap();
        let count = got["data"]["result"].as_array().unwrap().len();
        // Ours is the label `replica`; nothing here is without it but what we store.
        assert!(count > 50, "{expr}: {count}");
    }
    let expr = "sum without (replica) ({job=~\".+\"})";
    let got = comparable(ask(&plain, &remote, expr, TIMES[1]).await);
    let wanted = comparable(ask(&plain, &source, expr, TIMES[1]).await);
    assert!(same(&wanted, &got));
}
