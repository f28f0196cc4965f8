//! Scraping: targets, the scrape loop, exposition formats, staleness.

mod cache;
pub mod config;
mod fetch;
mod ingest;
mod metadata;
pub mod metrics;
mod negotiate;
pub mod parse;
pub mod target;
pub mod view;

pub use config::ScrapeConfig;
