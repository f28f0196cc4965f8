//! The `watchfire` binary; everything is in the library.

use std::process::ExitCode;

/// Evaluation and scraping allocate much and from many threads.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    watchfire::cli::run()
}
