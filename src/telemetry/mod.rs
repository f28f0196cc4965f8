//! The program's own metrics and logs. Any room may count through it.
