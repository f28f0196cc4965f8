//! Integration tests: rules.

mod check;
mod harness;
mod manager;
mod order;
mod unit_tests;
