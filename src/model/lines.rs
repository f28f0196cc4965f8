//! Lines and columns of a text, in both directions, for those who show a person where in a
//! file something stands.

use std::ops::Range;

/// Line and column, both from 1, the column in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A text and where its lines start. A line ends with `\n`, `\r\n` or a lone `\r`, as in
/// YAML. Places beyond the text are its end, places inside a character its start.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let mut starts = vec![0];
        for (i, b) in bytes.iter().enumerate() {
            if *b == b'\n' || (*b == b'\r' && bytes.get(i + 1) != Some(&b'\n')) {
                starts.push(i + 1);
            }
        }
        Self { text, starts }
    }

    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Byte offsets at which lines start; at least one.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// Number of lines; what follows the last line break is one, be it empty.
    pub fn count(&self) -> usize {
        self.starts.len()
    }

    /// The bytes of a line, counted from 1, without its line break.
    pub fn line(&self, line: usize) -> Range<usize> {
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let end = self.starts.get(line).copied().unwrap_or(self.text.len());
        start..start + self.text[start..end.max(start)].trim_end_matches(['\n', '\r']).len()
    }

    /// The byte at which a position lies.
    pub fn offset(&self, at: Position) -> usize {
        let start = self.starts.get(at.line.saturating_sub(1)).copied();
        let start = start.unwrap_or(self.text.len());
        let column = at.column.saturating_sub(1);
        let rest = &self.text[start..];
        rest.char_indices().nth(column).map_or(self.text.len(), |(i, _)| start + i)
    }

    /// The position of a byte.
    pub fn position(&self, offset: usize) -> Position {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        Position { line, column: self.text[start..offset].chars().count() + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_offsets_are_inverse() {
        let text = "añb\r\nc\n\rd";
        let lines = Lines::new(text);
        for (i, _) in text.char_indices() {
            assert_eq!(lines.offset(lines.position(i)), i, "byte {i}");
        }
        let at = |offset| {
            let p = lines.position(offset);
            (p.line, p.column)
        };
        assert_eq!([at(0), at(1), at(2), at(3), at(99)], [(1, 1), (1, 2), (1, 2), (1, 3), (4, 2)]);
        let of = |line| &text[lines.line(line)];
        assert_eq!([of(1), of(2), of(3), of(4), of(9)], ["añb", "c", "", "d", ""]);
        assert_eq!(lines.offset(Position { line: 9, column: 1 }), text.len());
    }
}
