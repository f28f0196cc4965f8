//! Scraping: targets, the scrape loop, exposition formats, staleness.

pub mod view;
