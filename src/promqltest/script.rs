//! Text to commands. A line that begins with `#` counts as empty; an empty line ends the
//! block of a command; indentation means nothing.

use super::Failure;
use super::eval::{self, Eval};
use super::load::{self, Load};

/// What a script consists of.
#[derive(Debug)]
pub(super) enum Command {
    Clear,
    Load(Load),
    Eval(Box<Eval>),
}

/// A command and where it stands; or what is wrong with it.
pub(super) type Step = Result<(usize, String, Command), Failure>;

/// A line of a block, with its number from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub(super) number: usize,
    pub(super) text: &'a str,
}

/// What is wrong, and in which line.
pub(super) type LineError = (usize, String);

/// Reads a whole script. A block with an error is skipped to its end.
pub(super) fn parse(text: &str) -> Vec<Step> {
    let lines: Vec<Line<'_>> = text
        .split('\n')
        .enumerate()
        .map(|(i, line)| {
            let line = line.trim();
            Line { number: i + 1, text: if line.starts_with('#') { "" } else { line } }
        })
        .collect();
    let mut steps = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let head = lines[at];
        at += 1;
        if head.text.is_empty() {
            continue;
        }
        let length = lines[at..].iter().position(|l| l.text.is_empty()).unwrap_or(lines.len() - at);
        let block = &lines[at..at + length];
        let word = head.text.split_whitespace().next().unwrap_or("").to_ascii_lowercase();
        let command = if word == "clear" {
            // `clear` has no block: what follows it is a command of its own.
            Ok((Command::Clear, 0))
        } else if word.starts_with("load") {
            load::parse(head, block).map(|load| (Command::Load(load), length))
        } else if word.starts_with("eval") {
            eval::parse(head, block).map(|(eval, used)| (Command::Eval(Box::new(eval)), used))
        } else {
            Err((head.number, format!("invalid command {}", crate::model::labels::quote(&word))))
        };
        match command {
            Ok((command, used)) => {
                at += used;
                steps.push(Ok((head.number, head.text.to_owned(), command)));
            }
            Err((line, message)) => {
                at += length;
                steps.push(Err(Failure { line, command: head.text.to_owned(), message }));
            }
        }
    }
    steps
}
