//! What Alertmanager's API v2 takes: a JSON array of alerts.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::OutgoingAlert;
use crate::model::{Labels, TimestampMs};

/// `Content-Type` of a payload.
pub(super) const CONTENT_TYPE: &str = "application/json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PostableAlert<'a> {
    #[serde(serialize_with = "as_object", skip_serializing_if = "Labels::is_empty")]
    annotations: &'a Labels,
    ends_at: String,
    starts_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "str::is_empty")]
    generator_url: &'a str,
    #[serde(serialize_with = "as_object")]
    labels: &'a Labels,
}

fn as_object<S: Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (name, value) in labels.iter() {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

/// RFC 3339 with milliseconds, in UTC. Times no calendar holds become the nearest one.
fn date_time(ms: TimestampMs) -> String {
    let limit = if ms < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
    DateTime::from_timestamp_millis(ms)
        .unwrap_or(limit)
        .to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The body that posts these alerts.
pub(super) fn encode<'a>(alerts: impl IntoIterator<Item = &'a OutgoingAlert>) -> Vec<u8> {
    let alerts: Vec<_> = alerts
        .into_iter()
        .map(|alert| PostableAlert {
            annotations: &alert.annotations,
            ends_at: date_time(alert.ends_at_ms),
            starts_at: date_time(alert.starts_at_ms),
            generator_url: &alert.generator_url,
            labels: &alert.labels,
        })
        .collect();
    serde_json::to_vec(&alerts).expect("BUG: alerts of texts always encode")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_encode_as_alertmanager_reads_them() {
        let alert = OutgoingAlert {
            labels: Labels::from_pairs([("alertname", "A"), ("job", "\"x\"")]),
            annotations: Labels::from_pairs([("summary", "s")]),
            starts_at_ms: 1_767_225_600_000,
            ends_at_ms: 1_767_225_661_005,
            generator_url: "http://p/graph?g0.expr=up&g0.tab=1".into(),
            receipt: super::super::Receipt::default(),
        };
        let bare = OutgoingAlert {
            annotations: Labels::empty(),
            generator_url: "".into(),
            ends_at_ms: i64::MAX,
            ..alert.clone()
        };
        let text = String::from_utf8(encode([&alert, &bare])).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"[{"annotations":{"summary":"s"},"endsAt":"2026-01-01T00:01:01.005Z","#,
                r#""startsAt":"2026-01-01T00:00:00.000Z","#,
                r#""generatorURL":"http://p/graph?g0.expr=up&g0.tab=1","#,
                r#""labels":{"alertname":"A","job":"\"x\""}},"#,
                r#"{"endsAt":"+262142-12-31T23:59:59.999Z","startsAt":"2026-01-01T00:00:00.000Z","#,
                r#""labels":{"alertname":"A","job":"\"x\""}}]"#
            )
        );
    }
}
