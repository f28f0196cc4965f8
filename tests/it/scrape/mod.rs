//! Scraping from the target's socket to the sink: against real exporters, and against a
//! small target that can do what real ones cannot be made to do.

mod failures;
mod lifecycle;
mod real;
mod rig;
mod tls;
