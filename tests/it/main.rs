//! The one integration binary: each module is a boundary of the product.

mod api;
mod cli;
mod config;
mod differential;
mod discovery;
mod exemplars;
mod fuzz;
mod hostile;
mod http;
mod notifier;
mod parser;
mod promql;
mod promqltest;
mod query_log;
mod remote_read;
mod remote_write;
mod rules;
mod scrape;
mod serve;
mod sidecar;
mod storage;
mod support;
mod templates;
mod templates_oracle;
mod web_config;
