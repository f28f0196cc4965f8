//! Integration tests: rules.

mod check;
mod harness;
mod limits;
mod manager;
mod unit_tests;
