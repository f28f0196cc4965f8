//! Why evaluating a rule failed.

use thiserror::Error;

use super::alert::AlertError;
use crate::query::QueryError;
use crate::storage::{AppendError, StorageError};

/// Shown as a rule's last error. Texts are Prometheus'.
#[derive(Clone, Debug, Error)]
pub enum RuleError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("rule result is not a vector or scalar")]
    NotAVector,
    #[error("vector contains metrics with the same labelset after applying rule labels")]
    Duplicate,
    #[error("exceeded limit of {limit} with {found} series")]
    Limit { limit: usize, found: usize },
    #[error(transparent)]
    Alert(#[from] AlertError),
    /// Some samples were refused; the others are stored.
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("rule sample appending failed: {0}")]
    Commit(#[from] StorageError),
    /// A defect of this program; state is as it was before.
    #[error("BUG: the evaluation panicked: {0}")]
    Panic(String),
}
