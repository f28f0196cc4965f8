//! Watchfire: a PromQL evaluator and rule engine. `src/ARCHITECTURE.md` is the map.

pub mod aggregations;
pub mod api;
pub mod cli;
pub mod config;
pub mod diagnostics;
pub mod discovery;
pub mod exec;
pub mod functions;
pub mod http;
pub mod lint;
pub mod model;
pub mod notifier;
pub mod parser;
pub mod plan;
pub mod promqltest;
pub mod query;
pub mod relabel;
pub mod remote_read;
pub mod remote_write;
pub mod rules;
pub mod scrape;
pub mod storage;
pub mod telemetry;
pub mod vector;
mod yaml;
