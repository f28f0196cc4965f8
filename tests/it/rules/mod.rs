//! Integration tests: rules.

mod both_ways;
mod check;
mod cost;
mod crash;
mod graph;
mod harness;
mod limits;
mod manager;
mod order;
mod quarantine;
mod state;
mod together;
mod unit_tests;
mod writes;
