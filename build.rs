//! Has the linker lay the functions that short commands run next to each other. Without it
//! they lie all over a program of twenty megabytes, and as the kernel maps what is around
//! each, a command holds three times as much of it as it runs (`link/commands.sh` makes the
//! list and shows the figures).

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| var(name).is_ok_and(|v| v == value);
    // Somebody's own linker may not know linker scripts: then functions lie as they come.
    let flags = var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let own_linker = var("RUSTC_LINKER").is_ok() || flags.contains("link");
    let linux = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if linux && is("PROFILE", "release") && !own_linker {
        let root = var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
        println!("cargo::rustc-link-arg-bin=watchfire=-T{root}/link/commands.ld");
    }
}
