//! `format_query` and `parse_query`: what the parser makes of an expression.

use std::sync::Arc;

use axum::extract::State;

use super::super::error::{ApiError, ErrorKind};
use super::super::params::Params;
use super::super::response::{ApiResult, Success};
use super::super::state::ApiState;
use super::ast;
use crate::parser::{self, Expr};

fn parse(state: &ApiState, params: &Params) -> Result<Expr, ApiError> {
    parser::parse(params.get("query"), &state.engine.options().parser)
        .map_err(|errors| ApiError::invalid_parameter("query", errors))
}

fn answer(expr: Expr, make: impl FnOnce(&Expr) -> Success + Send) -> ApiResult {
    parser::with_stack(expr.is_deep(), || make(&expr))
        .map_err(|e| ApiError::new(ErrorKind::Internal, format!("cannot start a thread: {e}")))
}

/// The expression in its standard layout.
pub(super) async fn format_query(State(state): State<Arc<ApiState>>, params: Params) -> ApiResult {
    answer(parse(&state, &params)?, |expr| Success::new(&parser::pretty(expr)))
}

/// The syntax tree.
pub(super) async fn parse_query(State(state): State<Arc<ApiState>>, params: Params) -> ApiResult {
    answer(parse(&state, &params)?, |expr| Success::new(&ast::to_json(expr)))
}
