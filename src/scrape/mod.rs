//! Scraping: targets, the scrape loop, exposition formats, staleness.

pub mod config;
pub mod view;

pub use config::ScrapeConfig;
