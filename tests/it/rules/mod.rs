//! Integration tests: rules.

mod check;
mod harness;
mod manager;
mod together;
mod unit_tests;
