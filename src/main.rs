//! The `watchfire` binary; everything is in the library.

fn main() {}
