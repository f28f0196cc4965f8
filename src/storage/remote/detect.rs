//! What a server is, from what it answers: its language, whether remote read gives its
//! samples as they are stored, and a sign by which another server in its place is known.
//!
//! Every question is one that costs the server nothing. What does not answer is not guessed.

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, StatusCode};
use serde::Deserialize;

use super::api_json;
use super::client::QueryApi;
use super::endpoint::{Endpoint, Said};
use super::read_wire::empty_request;
use super::{DatasourceKind, Evaluation, failed};
use crate::storage::StorageError;

/// Only VictoriaMetrics' language has templates: to every other one this is no expression.
const IN_METRICSQL_ALONE: &str = "WITH (watchfire = 1) watchfire";
/// Most bytes of an answer; a configuration is the longest.
const BYTES_MAX: u64 = 16 << 20;

/// What says that a server is the one it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// When a Prometheus was started and when it read its configuration.
    Run(String),
    /// The version, or that it is not told.
    Build(String),
}

/// What a server turned out to be.
#[derive(Debug)]
pub(super) struct Found {
    pub kind: DatasourceKind,
    /// Why not what would cost less, for people.
    pub why: &'static str,
    pub identity: Identity,
}

/// Asks a server what it is: `read` is its endpoint of remote read, if it has one.
pub(super) async fn detect(
    api: &QueryApi,
    read: &Endpoint,
    evaluate: Evaluation,
) -> Result<Found, StorageError> {
    let identity = identity(api, None).await?;
    if speaks_metricsql(api).await? {
        let why = "it speaks MetricsQL";
        return Ok(Found { kind: DatasourceKind::VictoriaMetrics, why, identity });
    }
    let read = match evaluate {
        Evaluation::PushDown => Err("expressions are left to it"),
        // They may say which series are to be seen, and remote read takes none.
        _ if !api.endpoint.parameters.is_empty() => Err("its queries have parameters"),
        _ => is_read_as_stored(api, read, &identity).await,
    };
    Ok(match read {
        Ok(()) => {
            let why = "it has remote read and no external labels";
            Found { kind: DatasourceKind::RemoteRead, why, identity }
        }
        Err(why) => Found { kind: DatasourceKind::Prometheus, why, identity },
    })
}

/// Asks for the sign of a server, of the form that is known of it.
pub(super) async fn identity(
    api: &QueryApi,
    known: Option<&Identity>,
) -> Result<Identity, StorageError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Runtime {
        start_time: String,
        last_config_time: String,
    }
    if !matches!(known, Some(Identity::Build(_))) {
        let said = ask(api, &["status", "runtimeinfo"]).await?;
        if said.status == StatusCode::OK
            && let Ok((runtime, _)) = api_json::parse::<Runtime>(&said.body)
        {
            let Runtime { start_time, last_config_time } = runtime;
            return Ok(Identity::Run(format!("{start_time} {last_config_time}")));
        }
    }
    let said = ask(api, &["status", "buildinfo"]).await?;
    let body = String::from_utf8_lossy(&said.body);
    Ok(Identity::Build(format!("{} {body}", said.status)))
}

/// Whether the server takes for an expression what is one in MetricsQL alone.
async fn speaks_metricsql(api: &QueryApi) -> Result<bool, StorageError> {
    let form = [("query", IN_METRICSQL_ALONE)];
    let parameters = api.endpoint.parameters.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    let pairs = form.into_iter().chain(parameters);
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let request = || {
        let mut request = Request::new(Method::POST, api.url(&["query"]));
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        *request.body_mut() = Some(body.clone().into());
        request
    };
    let said = api.endpoint.whatever(request, BYTES_MAX).await?;
    is_metricsql(said.status, &said.body).ok_or_else(|| {
        let cut = || String::from_utf8_lossy(&said.body).chars().take(200).collect::<String>();
        let text = api_json::refusal(&said.body).unwrap_or_else(cut);
        failed(
            &api.endpoint.name,
            format_args!(
                "it cannot be told what {} is: asked a query, it answered {}: {}",
                api.endpoint.shown_url(),
                said.status,
                text.trim()
            ),
        )
    })
}

/// What an answer to that query says of the language; `None` for nothing.
fn is_metricsql(status: StatusCode, body: &[u8]) -> Option<bool> {
    if status == StatusCode::OK && api_json::parse::<serde::de::IgnoredAny>(body).is_ok() {
        return Some(true);
    }
    // VictoriaMetrics tells the status as the kind: it is busy, or keeps somebody out.
    let kind = api_json::error_type(body)?;
    let by_query = matches!(status.as_u16(), 400 | 422) && kind.parse::<u16>().is_err();
    let named = matches!(kind.as_str(), "bad_data" | "execution" | "internal");
    (by_query || named).then_some(false)
}

/// Whether remote read gives the series of the server as its queries see them; if not, why.
/// It adds the external labels to series, whether they have such labels of their own or not,
/// so a server that has some is not read by it. Whether it has is known of a Prometheus that
/// shows its configuration and says when it reads another one.
async fn is_read_as_stored(
    api: &QueryApi,
    read: &Endpoint,
    identity: &Identity,
) -> Result<(), &'static str> {
    #[derive(Deserialize)]
    struct Configuration {
        yaml: String,
    }
    let request = empty_request(read.url.clone()).ok_or("BUG: nothing can be asked")?;
    let again =
        || request.try_clone().unwrap_or_else(|| Request::new(Method::POST, read.url.clone()));
    let said =
        read.whatever(again, BYTES_MAX).await.map_err(|_| "it did not answer to remote read")?;
    let packed = ["application/x-protobuf", "application/x-streamed-protobuf"];
    if said.status != StatusCode::OK || !packed.iter().any(|kind| said.kind.starts_with(kind)) {
        return Err("it has no remote read");
    }
    const HIDDEN: &str = "it has remote read, but does not show whether it has external labels, \
                          which series would have then";
    if !matches!(identity, Identity::Run(_)) {
        return Err(HIDDEN);
    }
    let said = ask(api, &["status", "config"]).await.map_err(|_| HIDDEN)?;
    let shown = api_json::parse::<Configuration>(&said.body);
    let (Configuration { yaml }, _) = shown.map_err(|_| HIDDEN)?;
    match has_external_labels(&yaml) {
        Some(false) => Ok(()),
        Some(true) => Err("it has remote read, but external labels, which series would have then"),
        None => Err(HIDDEN),
    }
}

/// Whether a configuration as Prometheus prints it has external labels; `None` when it is
/// none.
fn has_external_labels(yaml: &str) -> Option<bool> {
    let mut lines = yaml.lines().skip_while(|line| *line != "global:");
    lines.next()?;
    let mut global = lines.take_while(|line| line.starts_with(' '));
    Some(global.any(|line| line.trim_start().starts_with("external_labels:")))
}

async fn ask(api: &QueryApi, path: &[&str]) -> Result<Said, StorageError> {
    let request = || Request::new(Method::GET, api.url(path));
    api.endpoint.whatever(request, BYTES_MAX).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_known_by_what_is_an_expression_in_it() {
        let check = |status: u16, body: &str, expected: Option<bool>| {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(is_metricsql(status, body.as_bytes()), expected, "{status} {body}");
        };
        let error =
            |kind: &str| format!(r#"{{"status":"error","errorType":"{kind}","error":"e"}}"#);
        check(
            200,
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
            Some(true),
        );
        check(400, &error("bad_data"), Some(false));
        check(422, &error("execution"), Some(false));
        check(500, &error("internal"), Some(false));
        check(400, r#"{"status":"error","error":"parse error"}"#, Some(false));
        check(503, &error("unavailable"), None);
        check(503, &error("503"), None);
        check(422, &error("422"), None);
        check(401, "Unauthorized", None);
        check(400, "missing route for this path", None);
        check(200, "<html>log in</html>", None);
    }

    #[test]
    fn external_labels_are_those_of_the_global_section() {
        let check =
            |yaml: &str, expected| assert_eq!(has_external_labels(yaml), expected, "{yaml}");
        check("global:\n  scrape_interval: 15s\n  external_labels:\n    a: b\n", Some(true));
        check(
            "global:\n  scrape_interval: 15s\nremote_write:\n- external_labels: x\n",
            Some(false),
        );
        check("runtime:\n  gogc: 75\nglobal:\n  scrape_interval: 15s\n", Some(false));
        check("target: all\n", None);
        check("", None);
    }
}
