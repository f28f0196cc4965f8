//! Integration tests: rules.

mod check;
mod graph;
mod harness;
mod manager;
mod order;
mod unit_tests;
