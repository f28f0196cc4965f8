//! Integration tests: rules.

mod check;
mod crash;
mod graph;
mod harness;
mod manager;
mod order;
mod quarantine;
mod state;
mod unit_tests;
