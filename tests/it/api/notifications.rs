//! `/api/v1/notifications`, and its stream.

use std::sync::Arc;

use serde_json::json;
use watchfire::api::{Notice, Phase};
use watchfire::telemetry::clock::ManualClock;

use super::server::soon;
use super::{NOW_MS, TestServer};

const LIST: &str = "/api/v1/notifications";
const LIVE: &str = "/api/v1/notifications/live";

/// One who listens.
struct Listener {
    response: reqwest::Response,
    text: String,
}

impl Listener {
    async fn new(server: &TestServer) -> Self {
        // What is compressed on its way would come when it is worth a block.
        let request = server.request("GET", LIVE).header("Accept-Encoding", "gzip");
        let response = soon("the headers", request.send()).await.unwrap();
        let header = |name: &str| response.headers().get(name).map(|v| v.to_str().unwrap());
        assert_eq!((response.status().as_u16(), header("content-encoding")), (200, None));
        assert_eq!(header("content-type"), Some("text/event-stream"));
        assert_eq!(header("cache-control"), Some("no-cache"));
        Self { response, text: String::new() }
    }

    /// The next event; `None` when the stream has ended.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(event);
            }
            let chunk = soon("the next event", self.response.chunk()).await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn hears(&mut self, notice: Notice, at: &str, active: bool) {
        let text = notice.text();
        let event = format!(r#"data: {{"text":"{text}","date":"{at}","active":{active}}}"#);
        assert_eq!(self.next().await, Some(event));
    }
}

async fn metric(server: &TestServer, name: &str) -> String {
    let text = server.get("/metrics").await.body;
    let start = format!("prometheus_api_notification_{name} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {start}in\n{text}")).to_owned()
}

#[tokio::test]
async fn notices_are_listed_and_streamed_while_they_hold_and_when_they_end() {
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let server = TestServer::start_with(clock.clone(), |_| {}).await;
    let notifications = &server.state.notifications;
    server.check(LIST, 200, r#"{"status":"success","data":[]}"#).await;

    // They are there to say that the server is not ready.
    server.state.readiness.set(Phase::Starting);
    notifications.raise(Notice::Starting);
    let mut early = Listener::new(&server).await;
    early.hears(Notice::Starting, "2023-11-14T22:13:20Z", true).await;
    clock.advance_ms(1500);
    notifications.raise(Notice::ReloadFailed);
    early.hears(Notice::ReloadFailed, "2023-11-14T22:13:21.5Z", true).await;
    notifications.clear(Notice::Starting);
    early.hears(Notice::Starting, "2023-11-14T22:13:20Z", false).await;
    notifications.clear(Notice::Starting);
    server.state.readiness.set(Phase::Ready);

    // Who comes later hears what holds still. Raised again, a notice has a new time.
    let mut late = Listener::new(&server).await;
    late.hears(Notice::ReloadFailed, "2023-11-14T22:13:21.5Z", true).await;
    clock.advance_ms(1000);
    notifications.raise(Notice::ReloadFailed);
    for listener in [&mut early, &mut late] {
        listener.hears(Notice::ReloadFailed, "2023-11-14T22:13:22.5Z", true).await;
    }
    let data = json!([{
        "text": "Configuration reload has failed.",
        "date": "2023-11-14T22:13:22.5Z",
        "active": true,
    }]);
    let body = server.get(LIST).await.body;
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&body).unwrap(),
        json!({"status": "success", "data": data})
    );
    // Updates are counted for each who was there when they came.
    assert_eq!(metric(&server, "updates_sent_total").await, "4");
    assert_eq!(metric(&server, "updates_dropped_total").await, "0");

    // A server that stops says so, and then its streams end.
    notifications.raise(Notice::Stopping);
    notifications.close();
    for listener in [&mut early, &mut late] {
        listener.hears(Notice::Stopping, "2023-11-14T22:13:22.5Z", true).await;
        assert_eq!(listener.next().await, None);
    }
    assert_eq!(server.get(LIVE).await.status, 204);
}

#[tokio::test]
async fn there_is_a_limit_on_who_listens_and_on_what_waits_for_them() {
    let server = TestServer::start().await;
    let notifications = &server.state.notifications;
    let mut idle = notifications.subscribe().unwrap();
    let first = Listener::new(&server).await;
    let refused = server.get(LIVE).await;
    assert_eq!((refused.status, refused.body.as_str()), (204, ""));
    assert_eq!(metric(&server, "active_subscribers").await, "2");
    // Whoever goes away makes room.
    drop(first);
    let gone = async {
        while metric(&server, "active_subscribers").await != "1" {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of a subscription", gone).await;

    // One that does not read misses what does not fit, and holds nobody up.
    for _ in 0..12 {
        notifications.raise(Notice::ReloadFailed);
    }
    assert_eq!(metric(&server, "updates_sent_total").await, "12");
    assert_eq!(metric(&server, "updates_dropped_total").await, "2");
    notifications.close();
    let mut heard = 0;
    while idle.next().await.is_some() {
        heard += 1;
    }
    assert_eq!(heard, 10);
}
