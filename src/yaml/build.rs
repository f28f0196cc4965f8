//! Parser events to node trees.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::{Content, Document, Entry, Node, Position, Size, Style, SyntaxError, quick};
use crate::model::lines::Lines;

/// Deepest nesting, aliases followed; walks over the tree and its `Drop` may recurse safely
/// below it.
const DEPTH_MAX: usize = 200;
/// Documents with fewer nodes than this, aliases counted in full, are always accepted.
const NODES_FREE: u32 = 400_000;
/// Beyond that, aliases may multiply the nodes written by this much.
const AMPLIFICATION_MAX: u32 = 10;

/// go-yaml's words for a tab in indentation, and what to do.
const TAB: &str = "found character that cannot start any token (a tab indents; use spaces)";

/// Most places in one file that are mended; see [`parse`].
const MENDED_MAX: usize = 1000;
/// Text that is read again for their sake, in bytes: some seconds of it.
const REREAD_MAX: usize = 256 << 20;

/// Reads every document of a stream.
///
/// Two things that YAML readers of Go accept are refused by the parser and mended first: a
/// tab between `key:` and value is read as a space, and a line within a quoted scalar that
/// is indented too little is indented more, which folding takes away again. Line numbers
/// stay what they were, and so do columns of everything that starts a line's node.
pub(crate) fn parse(source: &str) -> Result<Vec<Document>, SyntaxError> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    match quick::parse(source) {
        Some(document) => Ok(vec![document]),
        None => parse_mended(source, usize::MAX),
    }
}

/// Reads the first document of a stream only. Where a second one starts is returned too;
/// whether it is well formed is not known.
pub(crate) fn parse_first(
    source: &str,
) -> Result<(Option<Document>, Option<Position>), SyntaxError> {
    let mut documents = parse_mended(source, 1)?.into_iter();
    Ok((documents.next(), documents.next().map(|second| second.at)))
}

fn parse_mended(source: &str, documents_max: usize) -> Result<Vec<Document>, SyntaxError> {
    let mut source = Cow::Borrowed(source.strip_prefix('\u{feff}').unwrap_or(source));
    let mut reread = 0;
    for _ in 0..MENDED_MAX {
        match parse_once(&source, documents_max) {
            Ok(documents) => return Ok(documents),
            Err(e) => {
                let (mended, from) = mend(&source, &e).ok_or(e)?;
                source = Cow::Owned(mended);
                reread += from;
            }
        }
        if reread > REREAD_MAX {
            break;
        }
    }
    parse_once(&source, documents_max)
}

/// The text without the error, and where the line of that begins.
fn mend(source: &str, error: &SyntaxError) -> Option<(String, usize)> {
    let from = Layout::new(source).offset(Position { line: error.at.line, column: 1 });
    let line = source[from..].lines().next()?;
    let mut mended = source.to_owned();
    if error.message.contains("valid YAML whitespace") {
        // Earlier tabs of the same line have been replaced.
        let tab = from + line.find(":\t")? + 1;
        mended.replace_range(tab..=tab, " ");
        Some((mended, from))
    } else if error.message.contains("invalid indentation in quoted scalar") {
        let start = Layout::new(source).offset(error.at);
        let end = start + quoted_len(&source[start..])?;
        let indent = " ".repeat(DEPTH_MAX);
        // Mended once it must pass, or be refused for good.
        if source[start..end].contains(&indent) {
            return None;
        }
        let mut indented = String::with_capacity(end - start + indent.len());
        let mut chars = source[start..end].chars().peekable();
        while let Some(c) = chars.next() {
            indented.push(c);
            if c == '\n' || c == '\r' && chars.peek() != Some(&'\n') {
                indented.push_str(&indent);
            }
        }
        if indented.len() == end - start {
            return None;
        }
        mended.replace_range(start..end, &indented);
        Some((mended, from))
    } else {
        None
    }
}

/// Bytes of a quoted scalar with its quotes.
fn quoted_len(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut rest = text.char_indices().skip(1).peekable();
    while let Some((i, c)) = rest.next() {
        if c == '\\' && quote == '"' {
            rest.next();
        } else if c == quote && rest.next_if(|(_, next)| c == '\'' && *next == c).is_none() {
            return Some(i + 1);
        }
    }
    None
}

/// Stops at the start of the document beyond `documents_max`, which is returned unread.
fn parse_once(source: &str, documents_max: usize) -> Result<Vec<Document>, SyntaxError> {
    let mut builder = Builder::new(source);
    for event in Parser::new_from_str(source) {
        let (event, span) = event.map_err(|e| scan_error(&e))?;
        builder.accept(event, span)?;
        if builder.documents.len() > documents_max {
            builder.layout.allow_tabs(span.start.line(), usize::MAX);
            break;
        }
    }
    builder.layout.check_tabs(source)?;
    Ok(builder.documents)
}

fn scan_error(e: &ScanError) -> SyntaxError {
    let message = match e.info() {
        info if info.contains("unknown anchor") => "unknown anchor referenced".to_owned(),
        info if info.contains("tab") => TAB.to_owned(),
        info => info.to_owned(),
    };
    SyntaxError {
        at: Position { line: e.marker().line().max(1), column: e.marker().col() + 1 },
        message,
    }
}

/// A collection whose end has not been reached.
struct Open {
    at: Position,
    anchor: usize,
    size: Size,
    items: Items,
    /// Written with brackets or braces; such lines may be indented by tabs.
    flow: bool,
}

enum Items {
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<Entry>, Option<Arc<Node>>),
}

struct Builder<'a> {
    layout: Layout<'a>,
    documents: Vec<Document>,
    open: Vec<Open>,
    anchors: HashMap<usize, Arc<Node>>,
    /// Nodes written, without what aliases stand for.
    written: u32,
    /// Where the event before this one ended.
    previous_end: Position,
}

impl<'a> Builder<'a> {
    fn new(source: &'a str) -> Self {
        Self {
            layout: Layout::new(source),
            documents: Vec::new(),
            open: Vec::new(),
            anchors: HashMap::new(),
            written: 0,
            previous_end: Position { line: 1, column: 1 },
        }
    }

    fn accept(&mut self, event: Event<'_>, span: Span) -> Result<(), SyntaxError> {
        let mut at = Position { line: span.start.line(), column: span.start.col() + 1 };
        let previous_end = std::mem::replace(
            &mut self.previous_end,
            Position { line: span.end.line(), column: span.end.col() + 1 },
        );
        match event {
            Event::DocumentStart(_) => {
                self.anchors.clear();
                self.written = 0;
                self.documents.push(Document { at, root: None });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.layout.note_scalar(style, span);
                if style_of(style) == Style::Block {
                    at = self.layout.block_header(previous_end).unwrap_or(at);
                } else if text.is_empty() && span.is_empty() {
                    // An absent value stands after its indicator, as go-yaml has it.
                    let indicator = self.layout.byte(self.layout.offset(at));
                    at.column += usize::from(matches!(indicator, Some(b':' | b'-' | b'?')));
                }
                let content = Content::Scalar {
                    text: text.into(),
                    style: style_of(style),
                    tag: tag.and_then(|t| short_tag(&t)),
                };
                let node = Node::new(at, content);
                self.written += 1;
                self.place(Arc::new(node), anchor)?;
            }
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned().ok_or_else(|| SyntaxError {
                    at,
                    message: "anchor value contains itself".to_owned(),
                })?;
                self.check_depth(at, node.size.height as usize)?;
                self.place(node, 0)?;
            }
            Event::SequenceStart(anchor, _) => {
                self.open(at, span, anchor, Items::Sequence(Vec::new()))?;
            }
            Event::MappingStart(anchor, _) => {
                self.open(at, span, anchor, Items::Mapping(Vec::new(), None))?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
            Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => {}
        }
        Ok(())
    }

    fn open(
        &mut self,
        at: Position,
        span: Span,
        anchor: usize,
        items: Items,
    ) -> Result<(), SyntaxError> {
        self.check_depth(at, 1)?;
        self.written += 1;
        let offset = self.layout.offset(at);
        let flow = !span.is_empty() && self.layout.byte(offset).is_some_and(|b| b"[{".contains(&b));
        self.open.push(Open { at, anchor, size: Size { nodes: 1, height: 1 }, items, flow });
        Ok(())
    }

    fn check_depth(&self, at: Position, height: usize) -> Result<(), SyntaxError> {
        if self.open.len() + height > DEPTH_MAX {
            let message = format!("exceeded max depth of {DEPTH_MAX}");
            return Err(SyntaxError { at, message });
        }
        Ok(())
    }

    fn close(&mut self, span: Span) -> Result<(), SyntaxError> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        if open.flow {
            self.layout.allow_tabs(open.at.line, span.end.line());
        }
        let content = match open.items {
            Items::Sequence(items) => Content::Sequence(items),
            Items::Mapping(entries, _) => Content::Mapping(entries),
        };
        let node = Node { at: open.at, content, size: open.size };
        self.place(Arc::new(node), open.anchor)
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Arc<Node>, anchor: usize) -> Result<(), SyntaxError> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let nodes = node.size.nodes;
        if nodes > NODES_FREE && nodes / AMPLIFICATION_MAX > self.written {
            let message = "document contains excessive aliasing".to_owned();
            return Err(SyntaxError { at: node.at, message });
        }
        let Some(parent) = self.open.last_mut() else {
            if let Some(document) = self.documents.last_mut() {
                document.root = Some(node);
            }
            return Ok(());
        };
        parent.size.hold(&node);
        match &mut parent.items {
            Items::Sequence(items) => items.push(node),
            Items::Mapping(entries, key) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.push((key, node)),
            },
        }
        Ok(())
    }
}

fn style_of(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted => Style::Quoted,
        ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
    }
}

/// `!!str` for a tag of the core schema; a bare `!` says "string".
fn short_tag(tag: &Tag) -> Option<Box<str>> {
    if tag.is_yaml_core_schema() {
        Some(format!("!!{}", tag.suffix).into())
    } else if tag.handle == "!" && tag.suffix.is_empty() {
        Some("!!str".into())
    } else {
        None
    }
}

/// Where lines start, and on which of them a tab may indent.
struct Layout<'a> {
    lines: Lines<'a>,
    /// By line index: continuation lines of scalars and lines inside flow collections.
    tabs_allowed: Vec<bool>,
}

impl<'a> Layout<'a> {
    fn new(source: &'a str) -> Self {
        let lines = Lines::new(source);
        let tabs_allowed = vec![false; lines.count()];
        Self { lines, tabs_allowed }
    }

    fn byte(&self, offset: usize) -> Option<u8> {
        self.lines.text().as_bytes().get(offset).copied()
    }

    fn offset(&self, at: Position) -> usize {
        self.lines.offset(at)
    }

    /// Where the `|` or `>` of a block scalar stands: the parser reports where its content
    /// starts. What may come before it are indicators, an anchor, a tag and comments.
    fn block_header(&self, from: Position) -> Option<Position> {
        let mut at = from;
        let mut rest = self.lines.text()[self.offset(from)..].chars();
        let mut skip = None;
        loop {
            let c = rest.next()?;
            match (skip, c) {
                (_, '\n') => {
                    skip = None;
                    at = Position { line: at.line + 1, column: 1 };
                    continue;
                }
                (Some('#'), _) => {}
                (_, ' ' | '\t' | '\r') => skip = None,
                (Some(_), _) | (None, ':' | '-' | '?') => {}
                (None, '#' | '&' | '!') => skip = Some(c),
                (None, '|' | '>') => return Some(at),
                (None, _) => return None,
            }
            at.column += 1;
        }
    }

    fn note_scalar(&mut self, style: ScalarStyle, span: Span) {
        let (first, last) = (span.start.line(), span.end.line());
        // A block scalar's end is the start of what follows it.
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        let last = if block && span.end.col() == 0 { last.saturating_sub(1) } else { last };
        if last > first {
            self.allow_tabs(first + 1, last);
        }
    }

    fn allow_tabs(&mut self, first_line: usize, last_line: usize) {
        let last_line = last_line.min(self.tabs_allowed.len());
        if let Some(lines) = self.tabs_allowed.get_mut(first_line.saturating_sub(1)..last_line) {
            lines.fill(true);
        }
    }

    /// YAML forbids tabs in indentation; the parser lets them pass.
    fn check_tabs(&self, source: &str) -> Result<(), SyntaxError> {
        for (i, start) in self.lines.starts().iter().enumerate() {
            if self.tabs_allowed[i] {
                continue;
            }
            let end = self.lines.starts().get(i + 1).copied().unwrap_or(source.len());
            let line = source[*start..end].trim_end();
            let mut tab = None;
            for (column, b) in line.bytes().enumerate() {
                match b {
                    b'\t' => {
                        tab.get_or_insert(column);
                    }
                    b' ' => {}
                    b'-' if matches!(line.as_bytes().get(column + 1), Some(b' ' | b'\t')) => {}
                    b'#' => {
                        tab = None;
                        break;
                    }
                    _ => break,
                }
            }
            if let (Some(column), false) = (tab, line.is_empty()) {
                return Err(SyntaxError {
                    at: Position { line: i + 1, column: column + 1 },
                    message: TAB.to_owned(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a text is read quickly; if so, then as the parser of all of YAML reads it.
    fn check(source: &str, quickly: bool) {
        let quick = quick::parse(source);
        assert_eq!(quick.is_some(), quickly, "{source}");
        if let Some(quick) = quick {
            let whole = parse_mended(source, usize::MAX).unwrap();
            assert_eq!(format!("{:#?}", [quick]), format!("{whole:#?}"), "{source}");
        }
    }

    #[test]
    fn what_is_read_quickly_is_read_the_same() {
        for source in [
            "a: b\n",
            "# first\n\na: b # c\n  # d\nb-c.d/e_1:   x y  \n",
            "a:\n  b:\n    c: 1\n  d: 2\ne: 3\n",
            "a:\nb: # nothing\nc: x\n",
            "- a\n- b: c\n  d: e\n-   f: g\n    h: i\n- - x\n  - y\n",
            "a:\n- b\n- c\nd:\n-   e\nf:\n  - g\n  -\n    h: i\n",
            "g:\n- n: a\n  r:\n  - l: B\n    e: |\n      up\n        == 0\n\n      # c\n    f: 5m\n",
            "a: |\n  x\n\n\nb: |-\n  y\n   z\n\n",
            "a: |\n  x\n  \n  y\n# c\nb: 1\n",
            "a: |-  \n   x\n",
            "a: 'it''s'''\nb: ''\nc: \"d: #e\"  # f\nd: '#'\n",
            "a: -1\nb: -x\nc: x#y\nd: a:b\ne: 10.0.0.1:80\n",
            "a: \u{e4}\u{1F600} b\nb: '\u{e4}'\nc: |\n  \u{e4}\n",
            "a: x'y\nb: x\"y z\"\nc: x & y * z ! [a] {b}, c | d > e % f @ g ` h ? i\n",
            "- |\n  x\n- 'y'\n-  z\n",
            "a:\n    - b: |\n        x\n      c: y\n",
            "a: ~\nb: null\n",
            "a: b\n\n\n#c\n",
        ] {
            check(source, true);
        }
    }

    #[test]
    fn what_is_not_simple_is_left_alone() {
        for source in [
            "",
            "\n",
            "a: b",
            "a",
            "a\n",
            "a: b\r\n",
            "a:\tb\n",
            "\ta: b\n",
            " a: b\n",
            "a: &x b\n",
            "a: *x\n",
            "<<: x\n",
            "a: {b: c}\n",
            "a: [b]\n",
            "a: >\n  b\n",
            "a: !!str b\n",
            "a: \"b\\n\"\n",
            "a: 'b\n  c'\n",
            "a: b\n  c\n",
            "a: b: c\n",
            "a: b:\n",
            "a: 'b' c\n",
            "a: 'b'#c\n",
            "'a': b\n",
            "? a\n",
            "a: |+\n  b\n",
            "a: |2\n  b\n",
            "a: |\n\n  b\n",
            "a: | # c\n  b\n",
            "a: |\nb: c\n",
            "a: |\n  b\n c\n",
            "a: |\n   b\n  c\n",
            "a:\n  b: c\n d: e\n",
            "a: b\n- c\n",
            "- a\nb: c\n",
            "-\n- a\n",
            "a: b\n---\nc: d\n",
            "---\na: b\n",
            "a: b\n...\n",
            "%YAML 1.2\n---\na: b\n",
            "a: @b\n",
            "a: `b\n",
            "a: ,b\n",
            "a: - b\n",
            "a: --- b\n",
            "a b: c\n",
            "a:b\n",
            "-a: b\n",
            "\u{feff}a: b\n",
            "a: \u{2028}\n",
            "a: \u{85}\n",
            "a: #b\n  c\n",
            "1: a\n",
            "a:\n  - b\n  c: d\n",
            "a:\n-\n  b: c\n",
            "- a: b\n c: d\n",
        ] {
            check(source, false);
        }
    }

    #[test]
    fn deep_nesting_is_left_alone() {
        let deep = |levels| (0..levels).map(|i| format!("{:i$}a:\n", "")).collect::<String>();
        check(&deep(40), true);
        check(&deep(60), false);
    }
}
