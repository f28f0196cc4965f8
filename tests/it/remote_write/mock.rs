//! A receiver that keeps what it is sent and answers what a test wants.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use prost::Message;
use tokio::sync::Notify;
use watchfire::model::Labels;
use watchfire::remote_write::{WriteLimits, decode, proto, proto2};

/// What to answer.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A status with headers and a text.
    Say(u16, &'static [(&'static str, &'static str)], &'static str),
    /// Nothing, ever; the request was read.
    Hang,
}

/// A request, read.
#[derive(Clone, Debug)]
pub struct Taken {
    pub headers: HeaderMap,
    /// Labels, time and value of each float, in the order they were written.
    pub samples: Vec<(String, i64, f64)>,
    pub histograms: usize,
    pub exemplars: usize,
    /// Families of metadata, or of series that come with it.
    pub metadata: Vec<String>,
    /// The status it was answered with; 0 when it never was.
    pub status: u16,
}

#[derive(Default)]
struct Kept {
    taken: Mutex<Vec<Taken>>,
    replies: Mutex<VecDeque<Reply>>,
    changed: Notify,
}

/// See the module.
pub struct Mock {
    pub address: SocketAddr,
    kept: Arc<Kept>,
    server: tokio::task::JoinHandle<()>,
}

impl Mock {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_at(address: SocketAddr) -> Self {
        let kept = Arc::new(Kept::default());
        let app = Router::new().route("/write", post(take)).with_state(kept.clone());
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, kept, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}/write", self.address)
    }

    /// What the next requests are answered with; after that 204.
    pub fn reply(&self, replies: &[Reply]) {
        self.kept.replies.lock().unwrap().extend(replies.iter().cloned());
    }

    /// From now on 204.
    pub fn forget_replies(&self) {
        self.kept.replies.lock().unwrap().clear();
    }

    /// All requests so far.
    pub fn taken(&self) -> Vec<Taken> {
        self.kept.taken.lock().unwrap().clone()
    }

    /// Waits until what was taken is as wanted.
    pub async fn until(&self, wanted: impl Fn(&[Taken]) -> bool) -> Vec<Taken> {
        let look = async {
            loop {
                let changed = self.kept.changed.notified();
                let taken = self.taken();
                if wanted(&taken) {
                    return taken;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(60), look).await {
            Ok(taken) => taken,
            Err(_) => panic!("the receiver waited in vain; it has {:#?}", self.taken()),
        }
    }

    /// Samples that were accepted, in the order they came.
    pub fn accepted(&self) -> Vec<(String, i64, f64)> {
        accepted(&self.taken())
    }
}

/// Samples of the requests that were answered with success.
pub fn accepted(taken: &[Taken]) -> Vec<(String, i64, f64)> {
    let good = taken.iter().filter(|t| (200..300).contains(&t.status));
    good.flat_map(|t| t.samples.clone()).collect()
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(kept): State<Arc<Kept>>, headers: HeaderMap, body: Bytes) -> Response {
    let reply = kept.replies.lock().unwrap().pop_front();
    let reply = reply.unwrap_or(Reply::Say(204, &[], ""));
    let mut taken = read(headers, &body);
    if let Reply::Say(status, ..) = reply {
        taken.status = status;
    }
    kept.taken.lock().unwrap().push(taken);
    kept.changed.notify_waiters();
    match reply {
        Reply::Hang => std::future::pending().await,
        Reply::Say(status, headers, text) => {
            let mut response = (StatusCode::from_u16(status).unwrap(), text).into_response();
            for (name, value) in headers {
                let name = HeaderName::from_static(name);
                response.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            response
        }
    }
}

fn read(headers: HeaderMap, body: &[u8]) -> Taken {
    let bytes = decode(body, WriteLimits::default()).expect("a snappy body");
    let kind = headers["content-type"].to_str().unwrap();
    let mut taken = Taken {
        headers: headers.clone(),
        samples: Vec::new(),
        histograms: 0,
        exemplars: 0,
        metadata: Vec::new(),
        status: 0,
    };
    if kind.contains("write.v2.Request") {
        let request = proto2::Request::decode(&*bytes).expect("a message of 2.0");
        for series in &request.timeseries {
            let text = |at: u32| request.symbols[at as usize].as_str();
            let pairs = series.labels_refs.chunks(2).map(|pair| (text(pair[0]), text(pair[1])));
            let labels = Labels::from_pairs(pairs).to_string();
            let samples = series.samples.iter();
            taken.samples.extend(samples.map(|s| (labels.clone(), s.timestamp, s.value)));
            taken.histograms += series.histograms.len();
            taken.exemplars += series.exemplars.len();
            if let Some(metadata) = &series.metadata {
                taken.metadata.push(text(metadata.help_ref).to_owned());
            }
        }
        return taken;
    }
    let request = proto::WriteRequest::decode(&*bytes).expect("a message of 1.0");
    for series in &request.timeseries {
        let pairs = series.labels.iter().map(|l| (&*l.name, &*l.value));
        let labels = Labels::from_pairs(pairs).to_string();
        let samples = series.samples.iter();
        taken.samples.extend(samples.map(|s| (labels.clone(), s.timestamp, s.value)));
        taken.histograms += series.histograms.len();
        taken.exemplars += series.exemplars.len();
    }
    taken.metadata.extend(request.metadata.into_iter().map(|m| m.metric_family_name));
    taken
}
