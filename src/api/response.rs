//! Answers: `{"status":"success","data":...,"warnings":[...],"infos":[...]}` or
//! `{"status":"error","errorType":"...","error":"..."}`.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::error::ApiError;
use super::json::to_json;
use crate::model::Labels;
use crate::model::annotation::{Severity, capped};

/// A successful answer.
pub(crate) struct Success {
    data: Data,
    warnings: Vec<String>,
    infos: Vec<String>,
}

enum Data {
    Json(Vec<u8>),
    Pieces(Box<dyn Pieces>),
}

/// The `data` of an answer that may be large: written piece by piece, while it is sent.
pub(crate) trait Pieces: Send + 'static {
    /// Appends some tens of kilobytes. False when nothing is left.
    fn write_chunk(&mut self, out: &mut String) -> bool;
}

pub(crate) type ApiResult = Result<Success, ApiError>;

impl Success {
    /// An answer with this data.
    pub(crate) fn new<T: Serialize + ?Sized>(data: &T) -> Self {
        Self { data: Data::Json(to_json(data)), warnings: Vec::new(), infos: Vec::new() }
    }

    /// An answer that is written while it is sent.
    pub(crate) fn pieces(body: impl Pieces) -> Self {
        Self { data: Data::Pieces(Box::new(body)), warnings: Vec::new(), infos: Vec::new() }
    }

    /// Adds warnings and infos; at most ten of each are shown.
    pub(crate) fn annotated(mut self, warnings: Vec<String>, infos: Vec<String>) -> Self {
        self.warnings = capped(warnings, Severity::Warning);
        self.infos = capped(infos, Severity::Info);
        self
    }
}

const HEAD: &str = r#"{"status":"success","data":"#;

impl IntoResponse for Success {
    fn into_response(self) -> Response {
        let mut tail = Vec::new();
        for (name, texts) in [("warnings", &self.warnings), ("infos", &self.infos)] {
            if !texts.is_empty() {
                tail.extend_from_slice(format!(",\"{name}\":").as_bytes());
                tail.extend_from_slice(&to_json(texts));
            }
        }
        tail.push(b'}');
        let body = match self.data {
            Data::Json(json) => Body::from([HEAD.as_bytes(), &json, &tail].concat()),
            Data::Pieces(pieces) => body_of_pieces(pieces, tail),
        };
        json_response(StatusCode::OK, body)
    }
}

/// A small result is one body of known length; a large one is sent piece by piece, so that
/// its text is never in memory as a whole.
fn body_of_pieces(mut pieces: Box<dyn Pieces>, tail: Vec<u8>) -> Body {
    let mut first = String::from(HEAD);
    if !pieces.write_chunk(&mut first) {
        let mut bytes = first.into_bytes();
        bytes.extend_from_slice(&tail);
        return Body::from(bytes);
    }
    let rest = std::iter::from_fn({
        let mut tail = Some(tail);
        move || {
            tail.as_ref()?;
            let mut chunk = String::new();
            let more = pieces.write_chunk(&mut chunk);
            let mut bytes = chunk.into_bytes();
            if !more {
                bytes.extend(tail.take().unwrap_or_default());
            }
            Some(bytes)
        }
    });
    let chunks = std::iter::once(first.into_bytes()).chain(rest);
    Body::from_stream(stream::iter(chunks.map(Ok::<_, std::convert::Infallible>)))
}

/// A JSON response.
pub(crate) fn json_response(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A plain-text response with Go's line end, as `http.Error` writes it.
pub(crate) fn text_response(status: StatusCode, text: &str) -> Response {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    status: &'a str,
    #[serde(rename = "errorType")]
    error_type: &'a str,
    error: &'a str,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body =
            ErrorBody { status: "error", error_type: self.kind.as_str(), error: &self.message };
        json_response(self.kind.status(), to_json(&body))
    }
}

/// A label set as a JSON object.
pub(crate) struct LabelMap<'a>(pub(crate) &'a Labels);

impl Serialize for LabelMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.0.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::ErrorKind;
    use super::*;

    fn body_of(response: Response) -> (u16, String) {
        let status = response.status().as_u16();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime.block_on(axum::body::to_bytes(response.into_body(), 1 << 30)).unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn the_envelope_leaves_out_what_is_empty() {
        let names = ["a", "b"];
        assert_eq!(
            body_of(Success::new(&names).into_response()),
            (200, r#"{"status":"success","data":["a","b"]}"#.to_owned())
        );
        let annotated = Success::new(&names).annotated(vec!["w <1>".into()], vec!["i".into()]);
        assert_eq!(
            body_of(annotated.into_response()).1,
            r#"{"status":"success","data":["a","b"],"warnings":["w \u003c1\u003e"],"infos":["i"]}"#
        );
    }

    #[test]
    fn at_most_ten_warnings_are_shown() {
        let warnings: Vec<String> = (0..12).map(|i| format!("w{i}")).collect();
        let (_, body) = body_of(Success::new("x").annotated(warnings, vec![]).into_response());
        assert!(body.ends_with(r#""w9","2 more warning annotations omitted"]}"#), "{body}");
    }

    #[test]
    fn an_error_has_its_type_and_status() {
        for (kind, status, word) in [
            (ErrorKind::BadData, 400, "bad_data"),
            (ErrorKind::Execution, 422, "execution"),
            (ErrorKind::Canceled, 499, "canceled"),
            (ErrorKind::Timeout, 503, "timeout"),
            (ErrorKind::Internal, 500, "internal"),
            (ErrorKind::Unavailable, 500, "unavailable"),
        ] {
            let expected = format!(r#"{{"status":"error","errorType":"{word}","error":"no"}}"#);
            assert_eq!(body_of(ApiError::new(kind, "no").into_response()), (status, expected));
        }
    }
}
