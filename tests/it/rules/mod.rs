//! Integration tests: rules.

mod check;
mod harness;
mod manager;
mod unit_tests;
