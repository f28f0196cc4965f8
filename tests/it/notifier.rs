//! Integration tests: notifier.
