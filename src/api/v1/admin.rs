//! `admin/tsdb/*`: deleting series and copying the store, for who may do that.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use super::super::error::{ApiError, ErrorKind};
use super::super::params::Params;
use super::super::response::{ApiResult, Success};
use super::super::state::{ApiState, StoreAdmin};
use crate::model::labels::quote;
use crate::parser::parse_metric_selector;
use crate::storage::StorageError;

/// Does something with the store on a thread that may block.
async fn with_store<T: Send + 'static>(
    state: &ApiState,
    work: impl FnOnce(&dyn StoreAdmin) -> Result<T, StorageError> + Send + 'static,
) -> Result<T, ApiError> {
    let Some(store) = state.status.admin() else {
        let why = "this server has no embedded store (TSDB)";
        return Err(ApiError::new(ErrorKind::Unavailable, why));
    };
    let done = tokio::task::spawn_blocking(move || work(store.as_ref())).await;
    let internal = |why: String| ApiError::new(ErrorKind::Internal, why);
    done.map_err(|e| internal(format!("BUG: {e}")))?.map_err(|e| internal(e.to_string()))
}

fn check_enabled(state: &ApiState) -> Result<(), ApiError> {
    if state.options.enable_admin_api {
        return Ok(());
    }
    Err(ApiError::new(ErrorKind::Unavailable, "admin APIs disabled"))
}

/// Deletes samples.
pub(super) async fn delete_series(
    State(state): State<Arc<ApiState>>,
    params: Params,
) -> Result<StatusCode, ApiError> {
    check_enabled(&state)?;
    params.well_formed()?;
    let selectors = params.all("match[]");
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let (from_ms, to_ms) = params.time_range()?;
    let mut sets = Vec::new();
    for selector in selectors {
        let matchers = parse_metric_selector(selector);
        sets.push(matchers.map_err(|e| ApiError::invalid_parameter("match[]", e))?);
    }
    with_store(&state, move |store| store.delete_series(&sets, from_ms, to_ms)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes deleted samples from the disk.
pub(super) async fn clean_tombstones(
    State(state): State<Arc<ApiState>>,
) -> Result<StatusCode, ApiError> {
    check_enabled(&state)?;
    with_store(&state, |store| store.clean_tombstones()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize)]
struct Snapshot {
    name: String,
}

/// Copies the store.
pub(super) async fn snapshot(State(state): State<Arc<ApiState>>, params: Params) -> ApiResult {
    check_enabled(&state)?;
    let skip_head = match params.get("skip_head") {
        "" => false,
        text => parse_bool(text).ok_or_else(|| {
            let why = format!(
                "unable to parse boolean 'skip_head' argument: strconv.ParseBool: parsing {}: invalid syntax",
                quote(text)
            );
            ApiError::invalid_parameter("skip_head", why)
        })?,
    };
    let name = with_store(&state, move |store| store.snapshot(skip_head)).await?;
    Ok(Success::new(&Snapshot { name }))
}

/// The words Go takes for a truth value.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
