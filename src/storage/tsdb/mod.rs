//! The embedded time-series database.
