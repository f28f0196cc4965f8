//! Integration tests: scrape.
