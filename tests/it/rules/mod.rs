//! Integration tests: rules.

mod check;
