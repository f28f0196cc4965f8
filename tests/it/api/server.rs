//! Sockets: shutdown, the connection limit, clients that go away or misbehave.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use watchfire::api;
use watchfire::query::{Engine, EngineOptions};
use watchfire::storage::{
    LabelAnswer, LabelRequest, SelectRequest, SeriesSet, Source, StorageError,
};
use watchfire::telemetry::clock::ManualClock;

use super::{NOW_MS, TestServer};

/// Longest wait for what must happen at once; reaching it fails the test.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// A store whose selects never end; it says when one began and when one was given up.
#[derive(Default)]
struct Stuck {
    began: Notify,
    dropped: Arc<Notify>,
}

struct TellOnDrop(Arc<Notify>);

impl Drop for TellOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Source for Stuck {
    fn select<'a>(
        &'a self,
        _: &'a SelectRequest,
    ) -> BoxFuture<'a, Result<SeriesSet, StorageError>> {
        Box::pin(async {
            let _tell = TellOnDrop(Arc::clone(&self.dropped));
            self.began.notify_one();
            std::future::pending().await
        })
    }

    fn label_names<'a>(
        &'a self,
        _: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(std::future::pending())
    }

    fn label_values<'a>(
        &'a self,
        _: &'a str,
        _: &'a LabelRequest,
    ) -> BoxFuture<'a, Result<LabelAnswer, StorageError>> {
        Box::pin(std::future::pending())
    }
}

async fn stuck_server() -> (TestServer, Arc<Stuck>) {
    let stuck = Arc::new(Stuck::default());
    let source = Arc::clone(&stuck);
    let server = TestServer::start_with(Arc::new(ManualClock::new(NOW_MS)), |state| {
        state.source = source;
    })
    .await;
    (server, stuck)
}

async fn raw(server: &TestServer, request: &str) -> TcpStream {
    let address = server.base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_query() {
    let (server, stuck) = stuck_server().await;
    let request = "GET /api/v1/query?query=up HTTP/1.1\r\nHost: x\r\n\r\n";
    let stream = raw(&server, request).await;
    soon("the query", stuck.began.notified()).await;
    drop(stream);
    soon("the cancellation", stuck.dropped.notified()).await;
}

#[tokio::test]
async fn a_timeout_parameter_ends_a_query_with_503() {
    let (server, _stuck) = stuck_server().await;
    let got = soon("the timeout", server.get("/api/v1/query?query=up&timeout=10ms")).await;
    assert_eq!(got.status, 503, "{}", got.body);
    assert_eq!(
        got.body,
        r#"{"status":"error","errorType":"timeout","error":"query timed out in query execution"}"#
    );
}

#[tokio::test]
async fn a_query_that_gets_no_slot_in_time_says_that_it_waited() {
    let stuck = Arc::new(Stuck::default());
    let source = Arc::clone(&stuck);
    let server = TestServer::start_with(Arc::new(ManualClock::new(NOW_MS)), |state| {
        state.source = source;
        state.engine = Engine::new(EngineOptions { max_concurrency: 1, ..Default::default() });
    })
    .await;
    let _first = raw(&server, "GET /api/v1/query?query=up HTTP/1.1\r\nHost: x\r\n\r\n").await;
    soon("the first query", stuck.began.notified()).await;
    let got = soon("the timeout", server.get("/api/v1/query?query=1&timeout=10ms")).await;
    assert_eq!(
        (got.status, got.body.as_str()),
        (
            503,
            r#"{"status":"error","errorType":"timeout","error":"query timed out in query queue"}"#
        )
    );
}

#[tokio::test]
async fn a_full_server_makes_new_connections_wait() {
    let server = TestServer::start_with(Arc::new(ManualClock::new(NOW_MS)), |state| {
        state.options.max_connections = 1;
    })
    .await;
    let request = "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut first = raw(&server, request).await;
    let mut buffer = [0; 1024];
    assert!(soon("the first answer", first.read(&mut buffer)).await.unwrap() > 0);
    let mut second = raw(&server, request).await;
    let mut one = [0; 1];
    let waits = tokio::time::timeout(Duration::from_millis(100), second.read(&mut one)).await;
    assert!(waits.is_err(), "the second connection was served beside the first");
    drop(first);
    assert_eq!(soon("the second answer", second.read(&mut one)).await.unwrap(), 1);
}

#[tokio::test]
async fn a_stopped_server_refuses_connections_and_returns() {
    let server = TestServer::start().await;
    let listener = api::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving =
        tokio::spawn(api::serve(vec![listener], Arc::clone(&server.state), shutdown.clone()));
    let client = TcpStream::connect(address).await.unwrap();
    shutdown.cancel();
    drop(client);
    soon("the end", serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn malformed_requests_get_an_error_and_harm_nobody() {
    let server = TestServer::start().await;
    for request in [
        "nonsense\r\n\r\n",
        "GET /api/v1/query?query=%ff%fe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 11534337\r\nConnection: close\r\n\r\nquery=1",
    ] {
        let mut stream = raw(&server, request).await;
        let mut text = Vec::new();
        // A refused body may come back as a reset after the answer.
        let _ = soon("the answer", stream.read_to_end(&mut text)).await;
        let text = String::from_utf8_lossy(&text);
        assert!(text.starts_with("HTTP/1.1 400"), "{request:?}: {text}");
    }
    assert_eq!(server.get("/-/healthy").await.status, 200);
}
