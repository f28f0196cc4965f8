//! Syntax tree to logical plan, and the passes that make it cheaper.
