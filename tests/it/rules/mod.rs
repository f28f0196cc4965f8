//! Integration tests: rules.

mod check;
mod faults;
mod harness;
mod manager;
mod order;
mod policy;
mod unit_tests;
