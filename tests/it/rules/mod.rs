//! Integration tests: rules.

mod check;
mod graph;
mod harness;
mod manager;
mod order;
mod quarantine;
mod together;
mod unit_tests;
