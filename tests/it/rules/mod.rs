//! Integration tests: rules.

mod check;
mod harness;
mod manager;
mod quarantine;
mod unit_tests;
