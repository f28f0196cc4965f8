//! A bar on standard error while something takes long: only where a person looks at a
//! terminal, never in a pipe, under CI or with NO_COLOR.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far some work is. Cheap to copy; copies are about the same work.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: Arc<ProgressBar>,
}

impl Progress {
    /// A bar of `total` steps, or one that nobody sees.
    pub(crate) fn new(what: &'static str, total: usize) -> Self {
        let wanted = wanted(std::io::stderr().is_terminal(), |name| std::env::var_os(name));
        let target = if wanted && total > 1 {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {wide_msg}");
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what);
        Self { bar: Arc::new(bar) }
    }

    /// One step is done.
    pub(crate) fn step(&self) {
        self.bar.inc(1);
    }

    /// What is being worked on.
    pub(crate) fn at(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// Does something that writes to the terminal, with the bar out of its way.
    pub(crate) fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        self.bar.suspend(act)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if Arc::strong_count(&self.bar) == 1 {
            self.bar.finish_and_clear();
        }
    }
}

/// Whether a bar is shown.
fn wanted(is_terminal: bool, env: impl Fn(&str) -> Option<OsString>) -> bool {
    let set = |name: &str| env(name).is_some_and(|value| !value.is_empty());
    is_terminal && !set("NO_COLOR") && !set("CI") && env("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_person_at_a_terminal_sees_a_bar() {
        let check = |terminal: bool, set: &[(&str, &str)], expected: bool| {
            let env = |name: &str| {
                set.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
            };
            assert_eq!(wanted(terminal, env), expected, "{terminal} {set:?}");
        };
        check(true, &[], true);
        check(true, &[("TERM", "xterm")], true);
        check(false, &[], false);
        check(true, &[("NO_COLOR", "1")], false);
        check(true, &[("NO_COLOR", "")], true);
        check(true, &[("CI", "true")], false);
        check(true, &[("TERM", "dumb")], false);
    }
}
