//! Which brackets of an expression have no partner. Reads tokens only as far as strings and
//! comments go, so that it works on any text.

/// An opening or closing bracket without a partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lone {
    pub offset: usize,
    pub bracket: char,
}

/// The brackets in `text` that are never closed, outermost first.
pub(super) fn unclosed(text: &str) -> Vec<Lone> {
    let mut open: Vec<Lone> = Vec::new();
    let mut chars = text.char_indices();
    while let Some((offset, c)) = chars.next() {
        match c {
            '(' | '[' | '{' => open.push(Lone { offset, bracket: c }),
            ')' | ']' | '}' => {
                let partner = match c {
                    ')' => '(',
                    ']' => '[',
                    _ => '{',
                };
                // What was opened since cannot be closed any more, but is the mistake.
                if open.last().is_some_and(|o| o.bracket == partner) {
                    open.pop();
                }
            }
            '"' | '\'' | '`' => {
                while let Some((_, inner)) = chars.next() {
                    match inner {
                        '\\' if c != '`' => {
                            chars.next();
                        }
                        inner if inner == c => break,
                        _ => {}
                    }
                }
            }
            '#' => while chars.next().is_some_and(|(_, inner)| inner != '\n') {},
            _ => {}
        }
    }
    open
}

/// What closes a bracket.
pub(super) fn closing(bracket: char) -> char {
    match bracket {
        '(' => ')',
        '[' => ']',
        _ => '}',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        let check = |text: &str, expected: &[usize]| {
            let found: Vec<usize> = unclosed(text).iter().map(|l| l.offset).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("sum(rate(x[5m])", &[3]);
        check("a(b(", &[1, 3]);
        check("x{a=\"(\\\"(\",b='(',c=`\\`} # (\n (", &[29]);
        check("x{a=\"1\"[5m]", &[1]);
        check(")", &[]);
        check("\"unterminated (", &[]);
    }
}
