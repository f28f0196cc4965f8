//! Integration tests: rules.

mod check;
mod harness;
mod manager;
mod order;
mod together;
mod unit_tests;
