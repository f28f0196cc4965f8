//! Integration tests: rules.

mod behaviour;
mod both_ways;
mod catch_up;
mod check;
mod cost;
mod crash;
mod faults;
mod graph;
pub mod harness;
mod late;
mod limits;
mod manager;
mod order;
mod policy;
mod quarantine;
mod state;
mod together;
mod unit_tests;
mod writes;
