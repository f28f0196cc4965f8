//! What is different when the program is called as `promtool`, so that scripts written for
//! it need no change: how a wrong command line is told, and which commands ask for
//! `--experimental`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Takes `promtool` off a command line that is called so: by the program's own name, or by
/// a first word.
pub(crate) fn strip(mut args: Vec<OsString>) -> (Vec<OsString>, bool) {
    let by_name = args.first().and_then(|name| Path::new(name).file_stem());
    if by_name.is_some_and(|name| name == "promtool") {
        return (args, true);
    }
    let by_word = args.get(1).is_some_and(|word| word == "promtool");
    if by_word {
        args.remove(1);
    }
    (args, by_word)
}

/// Tells what is wrong with a command line as promtool does, with its exit code.
pub(crate) fn usage_error(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        error.exit();
    }
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    eprintln!("promtool: error: {}, try --help", first.trim_start_matches("error: "));
    ExitCode::from(1)
}

/// Refuses a command that promtool has only with `--experimental`.
pub(crate) fn ask_for_experimental() -> ExitCode {
    eprintln!("This command is experimental and requires the --experimental flag to be set.");
    ExitCode::from(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_taken_off() {
        let check = |args: &[&str], expected: &[&str], is_promtool: bool| {
            let args = args.iter().map(OsString::from).collect();
            let expected: Vec<OsString> = expected.iter().map(OsString::from).collect();
            assert_eq!(strip(args), (expected, is_promtool));
        };
        check(&["/bin/promtool", "check"], &["/bin/promtool", "check"], true);
        check(&["watchfire", "promtool", "check"], &["watchfire", "check"], true);
        check(&["watchfire", "check", "promtool"], &["watchfire", "check", "promtool"], false);
        check(&[], &[], false);
    }
}
