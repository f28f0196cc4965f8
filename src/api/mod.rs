//! The HTTP side: Prometheus' API, federation, self-metrics, lifecycle and the web page.
//!
//! [`router()`] makes the routes over an [`ApiState`], [`serve`] runs them on sockets. What
//! the state holds are ports: this room knows neither which storage answers nor which
//! manager runs rules and scrapes. Everything a client sees (paths, parameters, JSON,
//! number layout, status codes, error texts) is Prometheus' own.

mod access;
mod error;
mod federate;
mod go_time;
mod json;
mod lifecycle;
mod metrics;
mod middleware;
mod notifications;
mod params;
mod query_json;
mod response;
mod router;
mod server;
mod state;
pub mod v1;
mod web;

pub use access::AccessSource;
pub use metrics::ApiMetrics;
pub use notifications::{Notice, Notification, Notifications, Subscription};
pub use query_json::{result_json, stats_json};
pub use router::router;
pub use server::{ServeError, bind, serve};
pub use state::{
    ApiOptions, ApiState, Phase, Readiness, ReloadHandle, Ruler, RuntimeInfo, StatusView,
    StoreAdmin, TsdbHead, TsdbStat, TsdbStatus, WalReplay,
};
pub use v1::{RemoteRead, tree_json};
