//! Integration tests: rules.

mod both_ways;
mod check;
mod graph;
mod harness;
mod manager;
mod order;
mod quarantine;
mod unit_tests;
mod writes;
