//! Integration tests: promql.
