//! `format_query` and `parse_query`: what the parser makes of an expression.

use std::sync::Arc;

use axum::extract::State;

use super::super::error::ApiError;
use super::super::params::Params;
use super::super::response::{ApiResult, Success};
use super::super::state::ApiState;
use super::ast;
use crate::parser::{self, Expr};

fn parse(state: &ApiState, params: &Params) -> Result<Expr, ApiError> {
    parser::parse(params.get("query"), &state.engine.options().parser)
        .map_err(|errors| ApiError::invalid_parameter("query", errors))
}

/// The expression in its standard layout.
pub(super) async fn format_query(State(state): State<Arc<ApiState>>, params: Params) -> ApiResult {
    Ok(Success::new(&parser::pretty(&parse(&state, &params)?)))
}

/// The syntax tree.
pub(super) async fn parse_query(State(state): State<Arc<ApiState>>, params: Params) -> ApiResult {
    Ok(Success::new(&ast::to_json(&parse(&state, &params)?)))
}
