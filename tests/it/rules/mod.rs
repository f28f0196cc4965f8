//! Integration tests: rules.

mod check;
mod graph;
mod harness;
mod manager;
mod order;
mod quarantine;
mod unit_tests;
