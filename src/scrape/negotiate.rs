//! Which format to ask for, and which one came.

use thiserror::Error;

use super::config::{Escaping, ScrapeProtocol};
use super::parse::Format;
use crate::model::labels::quote;

/// Weight of the first protocol in tenths, as Prometheus counts down from.
const WEIGHT_MAX: usize = 6;

/// The `Accept` header: the protocols in order of preference, then anything.
pub(super) fn accept_header(protocols: &[ScrapeProtocol], escaping: Escaping) -> String {
    let mut parts = Vec::new();
    let mut weight = WEIGHT_MAX;
    for protocol in protocols {
        if *protocol == ScrapeProtocol::PrometheusProto {
            continue;
        }
        let knows_escaping = matches!(
            protocol,
            ScrapeProtocol::OpenMetricsText1_0_0 | ScrapeProtocol::PrometheusText1_0_0
        );
        let suffix = match knows_escaping {
            true => format!(";escaping={}", escaping.as_str()),
            false => String::new(),
        };
        parts.push(format!("{}{suffix};q=0.{weight}", protocol.media_type()));
        weight -= 1;
    }
    parts.push(format!("*/*;q=0.{weight}"));
    parts.join(",")
}

/// Why a body's format is unknown; texts are those of Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    #[error(
        "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol \
         specified for target"
    )]
    Blank,
    #[error(
        "received unsupported Content-Type {} and no fallback_scrape_protocol specified for \
         target", quote(.0)
    )]
    Unsupported(String),
    #[error(
        "received Content-Type {}, and the protobuf format is not served yet: take \
         PrometheusProto out of scrape_protocols", quote(.0)
    )]
    Protobuf(String),
}

/// The format of a body with this content type.
pub(super) fn format_of(
    content_type: &str,
    fallback: Option<ScrapeProtocol>,
) -> Result<Format, FormatError> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    match media_type.to_ascii_lowercase().as_str() {
        "text/plain" => return Ok(Format::Prometheus),
        "application/openmetrics-text" => return Ok(Format::OpenMetrics),
        "application/vnd.google.protobuf" => {
            return Err(FormatError::Protobuf(content_type.to_owned()));
        }
        _ => {}
    }
    match fallback {
        Some(ScrapeProtocol::PrometheusText0_0_4 | ScrapeProtocol::PrometheusText1_0_0) => {
            Ok(Format::Prometheus)
        }
        Some(ScrapeProtocol::OpenMetricsText0_0_1 | ScrapeProtocol::OpenMetricsText1_0_0) => {
            Ok(Format::OpenMetrics)
        }
        Some(ScrapeProtocol::PrometheusProto) => {
            Err(FormatError::Protobuf(content_type.to_owned()))
        }
        None if content_type.is_empty() => Err(FormatError::Blank),
        None => Err(FormatError::Unsupported(content_type.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::config::DEFAULT_PROTOCOLS;

    #[test]
    fn the_accept_header_is_that_of_prometheus() {
        assert_eq!(
            accept_header(&DEFAULT_PROTOCOLS, Escaping::AllowUtf8),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
    }

    #[test]
    fn the_content_type_or_else_the_fallback_decides() {
        let text = Some(ScrapeProtocol::PrometheusText0_0_4);
        for (content_type, fallback, expected) in [
            ("text/plain; version=0.0.4", None, Ok(Format::Prometheus)),
            ("application/openmetrics-text; version=1.0.0", text, Ok(Format::OpenMetrics)),
            ("text/html", text, Ok(Format::Prometheus)),
            ("", text, Ok(Format::Prometheus)),
            ("", None, Err(FormatError::Blank)),
            ("text/html", None, Err(FormatError::Unsupported("text/html".into()))),
        ] {
            assert_eq!(format_of(content_type, fallback), expected);
        }
    }
}
