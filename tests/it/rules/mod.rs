//! Integration tests: rules.

mod check;
mod harness;
mod limits;
mod manager;
mod order;
mod quarantine;
mod unit_tests;
