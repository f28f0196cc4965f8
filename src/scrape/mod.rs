//! Scraping: targets, the scrape loop, exposition formats, staleness.

mod cache;
pub mod config;
mod fetch;
mod ingest;
pub mod lint;
pub mod manager;
mod metadata;
pub mod metrics;
mod negotiate;
pub mod parse;
pub mod target;
pub mod view;
mod worker;

pub use config::ScrapeConfig;
pub use manager::{ManagerOptions, ScrapeManager};
pub use metrics::ScrapeMetrics;
pub use view::ScrapeView;
