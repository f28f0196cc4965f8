//! Other systems as sources: remote read (`read.rs`), the query API of Prometheus and of
//! those that speak it (`api.rs`; of VictoriaMetrics `export.rs`, and `kept.rs` for what is
//! asked again and again). What several sources together come to is `fanout`'s and
//! `routes`' business; who asks, and why, is not known here.

mod api;
mod api_json;
mod client;
pub mod config;
mod endpoint;
mod export;
mod kept;
mod metrics;
mod read;
mod series;

use std::sync::Arc;

use thiserror::Error;

use super::{Source, StorageError};
use crate::http::HttpError;
use crate::model::{Clock, Labels, TimestampMs};

pub use config::{DatasourceConfig, DatasourceError, DatasourceKind, Evaluation, RemoteReadConfig};
pub use metrics::RemoteMetrics;

use endpoint::Endpoint;
use read::{Reader, Restriction};

/// What sources are made with, beside their configuration.
#[derive(Clone)]
pub struct Surroundings {
    pub clock: Arc<dyn Clock>,
    pub metrics: RemoteMetrics,
    /// `Watchfire/1.2.3`
    pub user_agent: String,
}

/// Why a source could not be made.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error(transparent)]
    Config(#[from] DatasourceError),
    #[error("{name}: {cause}")]
    Client { name: String, cause: HttpError },
}

/// The oldest time the local store is sure to have everything from; `None` while it opens.
pub type LocalStart = Arc<dyn Fn() -> Option<TimestampMs> + Send + Sync>;

/// A source over a server. Nobody is asked yet: a server that is down fails queries.
pub async fn open(
    config: &DatasourceConfig,
    around: &Surroundings,
) -> Result<Arc<dyn Source>, OpenError> {
    config.validate()?;
    let endpoint = Endpoint::new(&config.endpoint(), around).await?;
    let endpoint = Arc::new(endpoint);
    Ok(match config.kind {
        DatasourceKind::RemoteRead => Arc::new(Reader::new(
            endpoint,
            config.limits(),
            config::CHUNKED_READ_LIMIT,
            Restriction::default(),
        )),
        DatasourceKind::Prometheus | DatasourceKind::VictoriaMetrics => {
            Arc::new(api::ApiSource::new(endpoint, config).await)
        }
    })
}

/// A source over a `remote_read` section: `external_labels` are those of this server, which
/// the other end is taken to have on its series as well.
pub async fn open_remote_read(
    config: &RemoteReadConfig,
    external_labels: &Labels,
    local_start: LocalStart,
    around: &Surroundings,
) -> Result<Arc<dyn Source>, OpenError> {
    let endpoint = Endpoint::new(&config.endpoint(), around).await?;
    let restriction = Restriction {
        required: config.required_matchers(),
        external: match config.filter_external_labels {
            true => external_labels.clone(),
            false => Labels::empty(),
        },
        local_start: (!config.read_recent).then_some(local_start),
    };
    Ok(Arc::new(Reader::new(
        Arc::new(endpoint),
        config.limits(),
        config.chunked_read_limit,
        restriction,
    )))
}

/// What one answer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub series: usize,
    pub bytes: u64,
}

fn failed(name: &str, why: impl std::fmt::Display) -> StorageError {
    StorageError::Remote(format!("{name}: {why}"))
}
