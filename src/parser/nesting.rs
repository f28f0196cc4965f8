//! The limit on nesting, checked before anything recursive sees the text, and the stack
//! that parsing within the limit needs.

use super::ast::Span;
use super::stack::with_stack;
use super::{NESTING_MAX, ParseError, ParseErrors};

/// Longest text accepted: spans are 32 bits wide.
const TEXT_MAX: usize = u32::MAX as usize - 1;

/// Nesting that any thread's stack can take. The generated parser uses several kilobytes
/// of stack a level, so 500 levels would not fit into a thread of two megabytes.
const SHALLOW_MAX: usize = 40;

/// Runs a parser of `text` where there is stack enough for it: here, or for the rare deep
/// nesting on a thread of its own. Refuses what nests deeper than [`NESTING_MAX`].
pub(super) fn guarded<T: Send>(
    text: &str,
    parse: impl FnOnce() -> Result<T, ParseErrors> + Send,
) -> Result<T, ParseErrors> {
    if depth(text)? <= SHALLOW_MAX {
        return parse();
    }
    with_stack(true, parse).unwrap_or_else(|e| {
        let message = format!("cannot start a thread to parse a deeply nested expression: {e}");
        let errors = vec![ParseError { span: 0..0, message }];
        Err(ParseErrors { input: text.to_owned(), errors })
    })
}

/// How deep the brackets of a text nest at most; an error beyond [`NESTING_MAX`], or for a text
/// that is too long. Strings and comments are skipped; what else is wrong is left to the
/// parser.
fn depth(text: &str) -> Result<usize, ParseErrors> {
    if text.len() > TEXT_MAX {
        let message = format!("expression is longer than {TEXT_MAX} bytes");
        let errors = vec![ParseError { span: 0..0, message }];
        return Err(ParseErrors { input: String::new(), errors });
    }
    let bytes = text.as_bytes();
    // Most expressions have few brackets in all, which are soon found.
    let opened = memchr::memchr3_iter(b'(', b'[', b'{', bytes).take(SHALLOW_MAX + 1).count();
    if opened <= SHALLOW_MAX {
        return Ok(opened);
    }
    let mut depth = 0usize;
    let mut deepest = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'(' | b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
                if depth > NESTING_MAX {
                    return Err(error(text, at as u32..at as u32 + 1));
                }
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' | b'\'' | b'`' => at = string_end(bytes, at),
            b'#' => {
                while bytes.get(at + 1).is_some_and(|b| !matches!(b, b'\n' | b'\r')) {
                    at += 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    Ok(deepest)
}

/// The error for nesting that is too deep.
pub(super) fn error(text: &str, span: Span) -> ParseErrors {
    let message = format!(
        "expression is nested too deeply: at most {NESTING_MAX} levels are allowed; split it into recording rules"
    );
    ParseErrors { input: text.to_owned(), errors: vec![ParseError { span, message }] }
}

/// Index of the closing quote of the string that opens at `at`, or where it ends without:
/// at a line break or the end of the text.
pub(super) fn string_end(bytes: &[u8], at: usize) -> usize {
    let open = bytes[at];
    let mut end = at + 1;
    while let Some(&byte) = bytes.get(end) {
        match byte {
            b'\\' if open != b'`' => end += 1,
            b'\n' if open != b'`' => return end,
            b if b == open => return end,
            _ => {}
        }
        end += 1;
    }
    bytes.len()
}
