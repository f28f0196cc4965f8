//! `watchfire tsdb verify`: reads everything and tells what is wrong.

use super::super::say;
use super::DirArg;
use crate::storage::tsdb::inspect;

pub(super) fn run(args: &DirArg) -> Result<(), String> {
    let (verified, errors) = inspect::verify(args.existing()?).map_err(|e| e.to_string())?;
    say(&format_args!(
        "{} blocks with {} series and {} samples, {} records of the write-ahead log",
        verified.blocks, verified.series, verified.samples, verified.log_records
    ));
    for error in &errors {
        eprintln!("error: {error}");
    }
    match errors.len() {
        0 => Ok(()),
        1 => Err("1 thing is wrong".to_owned()),
        n => Err(format!("{n} things are wrong")),
    }
}
