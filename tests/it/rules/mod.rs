//! Integration tests: rules.

mod check;
mod crash;
mod harness;
mod manager;
mod order;
mod state;
mod unit_tests;
