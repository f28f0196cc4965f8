//! Servers that are down, slow, broken or talk nonsense: each query ends with an error that
//! says so, and with nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use watchfire::model::Matcher;
use watchfire::storage::remote::{self, DatasourceConfig, DatasourceKind, Evaluation};
use watchfire::storage::{SelectHints, SelectRequest, StorageError};

use super::{PATIENCE, surroundings};
use crate::support::free_address;

/// A server that answers the n-th request with the n-th text, later ones with the last.
pub struct Fake {
    pub base: String,
    requests: Arc<AtomicUsize>,
    /// Told when a client went away before it was answered.
    left: Arc<Notify>,
}

/// How a request is answered.
#[derive(Clone)]
pub enum Answer {
    /// Written as it is, then the connection is closed.
    Bytes(Vec<u8>),
    /// The connection is closed at once.
    Nothing,
    /// Never.
    Never,
}

impl Fake {
    pub async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (requests, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (count, gone) = (requests.clone(), left.clone());
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let n = count.fetch_add(1, Ordering::SeqCst);
                let answer = answers[n.min(answers.len() - 1)].clone();
                tokio::spawn(serve(stream, answer, gone.clone()));
            }
        });
        Self { base, requests, left }
    }
}

async fn serve(mut stream: TcpStream, answer: Answer, left: Arc<Notify>) {
    let mut read = vec![0; 64 << 10];
    let _ = stream.read(&mut read).await;
    match answer {
        Answer::Nothing => {}
        Answer::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            // Closing with unread bytes would reset the connection.
            while stream.read(&mut read).await.is_ok_and(|n| n > 0) {}
        }
        Answer::Never => {
            while stream.read(&mut read).await.is_ok_and(|n| n > 0) {}
            left.notify_one();
        }
    }
}

pub fn http(status: &str, kind: &str, body: &[u8]) -> Answer {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    Answer::Bytes([head.as_bytes(), body].concat())
}

fn json(status: &str, body: &str) -> Answer {
    http(status, "application/json", body.as_bytes())
}

const STREAM: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
const VECTOR: &str = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;

async fn select(
    base: &str,
    kind: DatasourceKind,
    change: impl FnOnce(&mut DatasourceConfig),
) -> Result<usize, StorageError> {
    let mut config = DatasourceConfig {
        url: base.to_owned(),
        name: "far".to_owned(),
        kind,
        evaluate: Evaluation::Here,
        ..DatasourceConfig::default()
    };
    change(&mut config);
    let source = remote::open(&config, &surroundings()).await.unwrap();
    let found = tokio::time::timeout(PATIENCE, source.select(&request())).await;
    found.expect("a query ends").map(|set| set.series.len())
}

fn request() -> SelectRequest {
    let hints =
        SelectHints { range_ms: 300_000, function: "rate".to_owned(), ..SelectHints::default() };
    let matchers = vec![Matcher::equal("__name__", "up")];
    SelectRequest { matchers, from_ms: 1, to_ms: 300_000, hints }
}

/// The error of one answer, whatever it is asked for.
async fn check(kind: DatasourceKind, answer: Answer, expected: &str) {
    let fake = Fake::start(vec![answer]).await;
    let error = select(&fake.base, kind, |_| {}).await.unwrap_err().to_string();
    assert!(error.starts_with("far: ") && error.contains(expected), "{error}");
}

#[tokio::test]
async fn what_is_no_answer_is_an_error_that_says_so() {
    use DatasourceKind::{Prometheus, RemoteRead, VictoriaMetrics};
    let refused = json(
        "422 Unprocessable Entity",
        r#"{"status":"error","errorType":"execution","error":"too many"}"#,
    );
    check(
        Prometheus,
        refused,
        "returned http status 422 Unprocessable Entity: execution: too many",
    )
    .await;
    check(Prometheus, json("200 OK", "<html>"), "no answer of the Prometheus HTTP API").await;
    check(Prometheus, json("200 OK", &VECTOR[..40]), "EOF while parsing").await;
    let scalar = r#"{"status":"success","data":{"resultType":"string","result":[]}}"#;
    check(Prometheus, json("200 OK", scalar), "expected a vector or a matrix, got a string").await;
    let histogram = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b"},"histograms":[[1,{}]]}]}}"#;
    check(Prometheus, json("200 OK", histogram), "use a datasource of type remote_read").await;
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"status\":".to_vec();
    check(Prometheus, Answer::Bytes(half), "broke off").await;
    check(VictoriaMetrics, http("200 OK", "text/plain", b"{\"metric\":"), "no line of an export")
        .await;
    check(
        RemoteRead,
        http("400 Bad Request", "text/plain", b"exceeded sample limit (5)\n"),
        "400 Bad Request: exceeded sample limit (5)",
    )
    .await;
    check(RemoteRead, http("200 OK", "application/x-protobuf", b"garbage"), "snappy").await;
    check(RemoteRead, http("200 OK", STREAM, &[5, 0, 0, 0, 0, 1, 2]), "in the middle of a frame")
        .await;
    check(RemoteRead, http("200 OK", STREAM, &[1, 0, 0, 0, 0, 1]), "checksum mismatch").await;
    check(RemoteRead, http("200 OK", STREAM, &[0xff; 30]), "the length of a frame").await;
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/x-streamed-protobuf\r\n\r\n".to_vec();
    check(RemoteRead, Answer::Bytes(chunked), "broke off").await;
    check(RemoteRead, http("200 OK", "text/html", b""), "far: ").await;
}

#[tokio::test]
async fn what_may_pass_is_asked_again_and_what_may_not_is_not() {
    let check = async |answers: Vec<Answer>, asked: usize, works: bool| {
        let fake = Fake::start(answers).await;
        let result = select(&fake.base, DatasourceKind::Prometheus, |_| {}).await;
        assert_eq!(result.is_ok(), works, "{result:?}");
        assert_eq!(fake.requests.load(Ordering::SeqCst), asked, "{result:?}");
    };
    let fine = || json("200 OK", VECTOR);
    let down = || json("503 Service Unavailable", "");
    check(vec![down(), json("429 Too Many Requests", ""), fine()], 3, true).await;
    check(vec![Answer::Nothing, fine()], 2, true).await;
    check(vec![down()], 4, false).await;
    check(vec![json("400 Bad Request", ""), fine()], 1, false).await;
    check(vec![json("404 Not Found", ""), fine()], 1, false).await;
    // An answer that began is none to be had again.
    check(vec![json("200 OK", "{"), fine()], 1, false).await;
    let nobody = format!("http://{}", free_address());
    let error = select(&nobody, DatasourceKind::RemoteRead, |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn nobody_waits_longer_than_the_timeout() {
    for kind in [DatasourceKind::Prometheus, DatasourceKind::RemoteRead] {
        let fake = Fake::start(vec![Answer::Never]).await;
        let error = select(&fake.base, kind, |config| config.timeout_ms = 100).await.unwrap_err();
        assert!(error.to_string().contains("no whole answer from"), "{error}");
        tokio::time::timeout(PATIENCE, fake.left.notified()).await.expect("the request ends");
    }
}

#[tokio::test]
async fn a_query_that_is_dropped_takes_its_request_along() {
    let fake = Fake::start(vec![Answer::Never]).await;
    let config = DatasourceConfig {
        url: fake.base.clone(),
        kind: DatasourceKind::RemoteRead,
        ..DatasourceConfig::default()
    };
    let source = remote::open(&config, &surroundings()).await.unwrap();
    let asking = tokio::spawn(async move { source.select(&request()).await.map(|_| ()) });
    while fake.requests.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    asking.abort();
    tokio::time::timeout(PATIENCE, fake.left.notified()).await.expect("the request ends");
}

#[tokio::test]
async fn answers_have_limits() {
    let series: Vec<String> =
        (0..50).map(|i| format!(r#"{{"metric":{{"i":"{i}"}},"values":[[1,"1"]]}}"#)).collect();
    let body = format!(
        r#"{{"status":"success","data":{{"resultType":"matrix","result":[{}]}}}}"#,
        series.join(",")
    );
    let fake = Fake::start(vec![json("200 OK", &body)]).await;
    let kind = DatasourceKind::Prometheus;
    assert_eq!(select(&fake.base, kind, |_| {}).await, Ok(50));
    let error = select(&fake.base, kind, |c| c.max_series = 49).await.unwrap_err();
    assert!(error.to_string().contains("more than 49 series"), "{error}");
    let error = select(&fake.base, kind, |c| c.max_response_bytes = 1000).await.unwrap_err();
    assert!(error.to_string().contains("raise max_response_bytes"), "{error}");
}

/// An answer packed in a way, with that many bytes of the body.
fn packed(encoding: &str, body: &[u8], cut: Option<usize>) -> Answer {
    let mut packed = match encoding {
        "gzip" => {
            use std::io::Write;
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::bulk::compress(body, 3).unwrap(),
        _ => body.to_vec(),
    };
    packed.truncate(cut.unwrap_or(usize::MAX));
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: {encoding}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        packed.len()
    );
    Answer::Bytes([head.into_bytes(), packed].concat())
}

#[tokio::test]
async fn packed_answers_are_read_and_a_bomb_is_refused() {
    let one = r#"{"metric":{"i":"1"},"values":[[1,"1"]]}"#;
    let body =
        format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{one}]}}}}"#);
    let kind = DatasourceKind::Prometheus;
    for encoding in ["gzip", "zstd", "identity"] {
        let fake = Fake::start(vec![packed(encoding, body.as_bytes(), None)]).await;
        assert_eq!(select(&fake.base, kind, |_| {}).await, Ok(1), "{encoding}");
    }
    for encoding in ["gzip", "zstd"] {
        let bomb = vec![b' '; 64 << 20];
        let fake = Fake::start(vec![packed(encoding, &bomb, None)]).await;
        let error = select(&fake.base, kind, |c| c.max_response_bytes = 1 << 20).await;
        let text = error.unwrap_err().to_string();
        assert!(text.contains("more than 1048576 bytes"), "{encoding}: {text}");
        let fake = Fake::start(vec![packed(encoding, body.as_bytes(), Some(20))]).await;
        let text = select(&fake.base, kind, |_| {}).await.unwrap_err().to_string();
        assert!(text.contains(&format!(": {encoding}: ")), "{encoding}: {text}");
    }
    let fake = Fake::start(vec![packed("br", body.as_bytes(), None)]).await;
    let text = select(&fake.base, kind, |_| {}).await.unwrap_err().to_string();
    assert!(text.contains("Content-Encoding \"br\", which was not asked for"), "{text}");
}
