//! Integration tests: rules.

mod check;
mod cost;
mod harness;
mod manager;
mod order;
mod quarantine;
mod unit_tests;
