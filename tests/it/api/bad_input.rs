//! What no well-behaved client sends: broken bodies, wrong headers, bad encodings and
//! unknown paths each get their status and text, and the server goes on.

use std::sync::Arc;

use watchfire::remote_write::Version;
use watchfire::telemetry::clock::ManualClock;

use super::{NOW_MS, TestServer, answer};

async fn server() -> TestServer {
    TestServer::start_with(Arc::new(ManualClock::new(NOW_MS)), |state| {
        state.options.enable_remote_write_receiver = true;
        state.options.remote_write_messages = vec![Version::V1];
    })
    .await
}

#[tokio::test]
async fn remote_write_says_what_it_does_not_read() {
    let server = server().await;
    let proto = "application/x-protobuf";
    let not_proto = |got: &str| {
        format!("expected application/x-protobuf as the first (media) part, got {got} content-type")
    };
    let unknown = |message: &str| {
        format!(
            "got application/x-protobuf;proto={message} content type; unknown type for remote \
             write protobuf message {message}, supported: prometheus.WriteRequest, \
             io.prometheus.write.v2.Request"
        )
    };
    let encoding = |got: &str| {
        format!(
            "{got} encoding (compression) is not accepted by this server; only snappy is acceptable"
        )
    };
    let parameter = "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters \
                     to be key-values, got charset in application/x-protobuf;charset content-type";
    let v2 = "io.prometheus.write.v2.Request protobuf message is not accepted by this server; \
              only accepts prometheus.WriteRequest";
    let packed = |bytes: &[u8]| snap::raw::Encoder::new().compress_vec(bytes).unwrap();
    // An announced size of 4 GiB in five bytes.
    let bomb = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
    for (kind, compression, body, status, expected) in [
        ("application/json", "snappy", vec![], 415, not_proto("application/json")),
        ("yolo", "snappy", vec![], 415, not_proto("yolo")),
        ("text/plain; charset=utf-8", "", vec![], 415, not_proto("text/plain; charset=utf-8")),
        ("application/x-protobuf;proto=yolo", "snappy", vec![], 415, unknown("yolo")),
        ("application/x-protobuf;charset", "snappy", vec![], 415, parameter.to_owned()),
        (
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            "snappy",
            vec![],
            415,
            v2.to_owned(),
        ),
        (proto, "zstd", vec![], 415, encoding("zstd")),
        (proto, "gzip", vec![], 415, encoding("gzip")),
        (proto, "Snappy", vec![], 415, encoding("Snappy")),
        (proto, "snappy", vec![], 400, "snappy: corrupt input".to_owned()),
        (proto, "snappy", b"no snappy".to_vec(), 400, "snappy: corrupt input".to_owned()),
        (proto, "", b"no snappy".to_vec(), 400, "snappy: corrupt input".to_owned()),
        ("", "", b"no snappy".to_vec(), 400, "snappy: corrupt input".to_owned()),
        (
            proto,
            "snappy",
            bomb,
            413,
            "snappy: decoded size of 4294967295 bytes is above".to_owned(),
        ),
        (proto, "snappy", packed(b"\xff\xff no protobuf"), 400, "proto: ".to_owned()),
        (
            proto,
            "snappy",
            vec![0; (32 << 20) + 1],
            413,
            "the request body has more than".to_owned(),
        ),
        (
            "application/x-protobuf;proto=prometheus.WriteRequest",
            "snappy",
            packed(b""),
            204,
            String::new(),
        ),
        (proto, "", packed(b""), 204, String::new()),
        ("", "", packed(b""), 204, String::new()),
    ] {
        let mut request = server.request("POST", "/api/v1/write").body(body);
        for (name, value) in [("Content-Type", kind), ("Content-Encoding", compression)] {
            if !value.is_empty() {
                request = request.header(name, value);
            }
        }
        let got = answer(request).await;
        let context = format!("{kind:?} {compression:?}: {} {}", got.status, got.body);
        assert_eq!(got.status, status, "{context}");
        assert!(got.body.starts_with(&expected), "{context}");
        let exact = status == 415;
        assert!(!exact || got.body.trim_end() == expected, "{context}");
    }
    server.check("/-/healthy", 200, "Watchfire is Healthy.\n").await;
}

#[tokio::test]
async fn unknown_paths_and_bad_forms_are_refused_in_words() {
    let server = server().await;
    for (method, path, status, expected) in [
        ("GET", "/api/v1/nothing", 404, "404 page not found"),
        ("GET", "/api/v2/query", 404, "404 page not found"),
        ("GET", "/api/v1/query/", 404, "404 page not found"),
        ("GET", "/api/v1/%ff", 404, "404 page not found"),
        ("GET", "/../etc/passwd", 404, "404 page not found"),
        ("DELETE", "/api/v1/query", 405, "Method Not Allowed"),
        ("PUT", "/api/v1/write", 405, "Method Not Allowed"),
        ("GET", "/api/v1/query", 400, "{\"status\":\"error\",\"errorType\":\"bad_data\""),
        ("GET", "/api/v1/query?query=%ff", 400, "{\"status\":\"error\",\"errorType\":\"bad_data\""),
        ("GET", "/api/v1/query?query=%zz", 400, "{\"status\":\"error\",\"errorType\":\"bad_data\""),
        (
            "GET",
            "/api/v1/query?query=1;time=1",
            400,
            "{\"status\":\"error\",\"errorType\":\"bad_data\"",
        ),
        (
            "GET",
            "/api/v1/series?match[]=up&x=%zz",
            400,
            "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"error parsing form values: invalid URL escape \\\"%zz\\\"\"}",
        ),
        (
            "GET",
            "/api/v1/series?match[]=up&x=1%2",
            400,
            "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"error parsing form values: invalid URL escape \\\"%2\\\"\"}",
        ),
        (
            "GET",
            "/api/v1/series?match[]=up;x=1",
            400,
            "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"error parsing form values: invalid semicolon separator in query\"}",
        ),
        ("GET", "/api/v1/query?query=1&query=2", 200, "{\"status\":\"success\""),
        (
            "GET",
            "/api/v1/label/a%ff/values",
            400,
            r#"{"status":"error","errorType":"bad_data","error":"invalid label name: \"a\\xff\""}"#,
        ),
    ] {
        let got = answer(server.request(method, path)).await;
        let context = format!("{method} {path}: {} {}", got.status, got.body);
        assert_eq!(got.status, status, "{context}");
        assert!(got.body.starts_with(expected), "{context}");
    }
    for (form, status, expected) in [
        ("query=%zz", 400, "\"errorType\":\"bad_data\""),
        ("query=1%2", 400, "\"errorType\":\"bad_data\""),
        ("=1", 400, "\"errorType\":\"bad_data\""),
        ("&&&", 400, "\"errorType\":\"bad_data\""),
        ("query=1&", 200, "\"status\":\"success\""),
        ("query=1%2B1", 200, ",\"2\"]"),
    ] {
        let got = server.post_form("/api/v1/query", form).await;
        let context = format!("{form}: {} {}", got.status, got.body);
        assert_eq!(got.status, status, "{context}");
        assert!(got.body.contains(expected), "{context}");
    }
}
