//! Look-ups: `labels`, `label/<name>/values`, `series`.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{OriginalUri, Path, State};
use futures_util::future::try_join_all;

use super::super::error::ApiError;
use super::super::params::Params;
use super::super::query_json::{CHUNK_BYTES, push_labels};
use super::super::response::{ApiResult, Pieces, Success};
use super::super::state::ApiState;
use crate::model::Labels;
use crate::model::labels::quote;
use crate::storage::{LabelAnswer, LabelRequest, SelectHints, SelectRequest};

const TRUNCATED: &str = "results truncated due to limit";

/// Names of labels.
pub(super) async fn names(State(state): State<Arc<ApiState>>, params: Params) -> ApiResult {
    let limit = params.limit()?;
    let request = label_request(&params)?;
    let answer = state.source.label_names(&request).await?;
    Ok(strings(answer, limit))
}

/// Values of one label.
pub(super) async fn values(
    State(state): State<Arc<ApiState>>,
    OriginalUri(uri): OriginalUri,
    name: Result<Path<String>, PathRejection>,
    params: Params,
) -> ApiResult {
    // The one reason to reject a segment is that it is not UTF-8.
    let Ok(Path(name)) = name else { return Err(invalid_bytes(uri.path())) };
    let name = match name.strip_prefix("U__") {
        Some(escaped) => unescape_name(escaped).unwrap_or(name),
        None => name,
    };
    if name.is_empty() {
        return Err(ApiError::bad_data(format!("invalid label name: {}", quote(&name))));
    }
    let limit = params.limit()?;
    let request = label_request(&params)?;
    let answer = state.source.label_values(&name, &request).await?;
    Ok(strings(answer, limit))
}

/// The error for a name, in `/label/<name>/values`, that is not UTF-8; as in Go, bytes that
/// are no character are written in hexadecimal.
fn invalid_bytes(path: &str) -> ApiError {
    let segment = path.rsplit('/').nth(1).unwrap_or_default();
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(segment).collect();
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(quote(chunk.valid()).trim_matches('"'));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    ApiError::bad_data(format!("invalid label name: \"{text}\""))
}

fn label_request(params: &Params) -> Result<LabelRequest, ApiError> {
    let (from_ms, to_ms) = params.time_range()?;
    let matcher_sets = params.matcher_sets().map_err(ApiError::bad_data)?;
    Ok(LabelRequest { matcher_sets, from_ms, to_ms })
}

fn strings(answer: LabelAnswer, limit: usize) -> Success {
    let LabelAnswer { mut values, mut warnings } = answer;
    if limit > 0 && values.len() > limit {
        values.truncate(limit);
        warnings.push(TRUNCATED.to_owned());
    }
    Success::new(&values).annotated(warnings, Vec::new())
}

/// Label sets on their way out.
struct SeriesList {
    series: Vec<Labels>,
    next: usize,
}

impl Pieces for SeriesList {
    fn write_chunk(&mut self, out: &mut String) -> bool {
        let full = out.len() + CHUNK_BYTES;
        while let Some(labels) = self.series.get(self.next) {
            if self.next > 0 && out.len() >= full {
                return true;
            }
            out.push(if self.next == 0 { '[' } else { ',' });
            push_labels(out, labels);
            self.next += 1;
        }
        out.push_str(if self.series.is_empty() { "[]" } else { "]" });
        false
    }
}

/// Label sets of series.
pub(super) async fn series(State(state): State<Arc<ApiState>>, params: Params) -> ApiResult {
    params.well_formed()?;
    if params.all("match[]").is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let limit = params.limit()?;
    let (from_ms, to_ms) = params.time_range()?;
    let matcher_sets =
        params.matcher_sets().map_err(|e| ApiError::invalid_parameter("match[]", e))?;
    // One more than wanted tells whether something was cut.
    let wanted = if limit == 0 { 0 } else { limit + 1 };
    let requests: Vec<SelectRequest> = matcher_sets
        .into_iter()
        .map(|matchers| SelectRequest {
            matchers,
            from_ms,
            to_ms,
            hints: SelectHints {
                function: "series".to_owned(),
                limit: wanted,
                ..SelectHints::default()
            },
        })
        .collect();
    let sets = try_join_all(requests.iter().map(|request| state.source.select(request))).await?;
    let mut warnings: Vec<String> = Vec::new();
    let mut found: Vec<Labels> = Vec::new();
    let several = sets.len() > 1;
    for set in sets {
        warnings.extend(set.warnings);
        found.extend(set.series.iter().map(|series| series.labels().clone()));
    }
    // Each set is sorted and without duplicates; a stable sort merges what is sorted.
    if several {
        found.sort();
        found.dedup();
    }
    if limit > 0 && found.len() > limit {
        found.truncate(limit);
        warnings.push(TRUNCATED.to_owned());
    }
    let list = SeriesList { series: found, next: 0 };
    Ok(Success::pieces(list).annotated(warnings, Vec::new()))
}

/// Undoes the `U__` escaping of names that are no legacy names: `_HEX_` is a character,
/// `__` an underscore. `None` when the text was not made by that escaping.
fn unescape_name(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('_') {
        name.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            name.push('_');
            rest = after;
            continue;
        }
        let (digits, after) = rest.split_once('_')?;
        if digits.len() > 6 {
            return None;
        }
        name.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
        rest = after;
    }
    name.push_str(rest);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_read_back() {
        for (escaped, expected) in [
            ("my_2e_label", Some("my.label")),
            ("a__b", Some("a_b")),
            ("_1f600_", Some("😀")),
            ("plain", Some("plain")),
            ("bad_zz_", None),
            ("open_2e", None),
        ] {
            assert_eq!(unescape_name(escaped).as_deref(), expected, "{escaped}");
        }
    }
}
