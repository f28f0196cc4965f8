//! YAML as Go's reader takes it: a tree whose nodes know their line, so that every error
//! can name it. Keys that stand twice are refused, `<<` merges, anchors are followed with
//! a budget. How a tree becomes typed values is `decode`'s business.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde::Deserialize;
use serde::de::IgnoredAny;
use thiserror::Error;

/// Deepest nesting; a configuration needs about ten levels.
const DEPTH_MAX: usize = 100;
/// Most nodes a document may have once its aliases are followed.
const NODES_MAX: usize = 1_000_000;

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {message}")]
pub struct YamlError {
    /// From 1; 0 while the place is not yet known.
    pub line: usize,
    pub message: String,
}

impl YamlError {
    pub(crate) fn at(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// A value and the line it starts on.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub line: usize,
    pub kind: Rc<Kind>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// `plain` is false for quoted and block scalars, which are always text.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    /// In file order, keys distinct, merges applied.
    Mapping(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub text: String,
    pub line: usize,
}

impl Node {
    /// True for an absent value: nothing, `~` or `null`.
    pub fn is_null(&self) -> bool {
        match &*self.kind {
            Kind::Scalar { text, plain: true } => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// The entries of a mapping; none for an absent value.
    pub fn entries(&self, what: &str) -> Result<&[(Key, Node)], YamlError> {
        match &*self.kind {
            Kind::Mapping(entries) => Ok(entries),
            _ if self.is_null() => Ok(&[]),
            _ => Err(self.expected(what, "a mapping")),
        }
    }

    /// The items of a sequence; none for an absent value.
    pub fn items(&self, what: &str) -> Result<&[Node], YamlError> {
        match &*self.kind {
            Kind::Sequence(items) => Ok(items),
            _ if self.is_null() => Ok(&[]),
            _ => Err(self.expected(what, "a list")),
        }
    }

    /// The value of a key of a mapping.
    pub fn get(&self, name: &str) -> Option<&Node> {
        match &*self.kind {
            Kind::Mapping(entries) => entries.iter().find(|(k, _)| k.text == name).map(|(_, v)| v),
            _ => None,
        }
    }

    /// Splits a mapping into the entries whose key satisfies `wanted` and the others.
    pub fn split(&self, wanted: impl Fn(&str) -> bool) -> (Node, Node) {
        let (mut yes, mut no) = (Vec::new(), Vec::new());
        if let Kind::Mapping(entries) = &*self.kind {
            for (key, value) in entries {
                let side = if wanted(&key.text) { &mut yes } else { &mut no };
                side.push((key.clone(), value.clone()));
            }
        }
        let node = |entries| Node { line: self.line, kind: Rc::new(Kind::Mapping(entries)) };
        (node(yes), node(no))
    }

    /// `field X must be a list, but is a mapping`.
    pub fn expected(&self, what: &str, wanted: &str) -> YamlError {
        let found = match &*self.kind {
            Kind::Scalar { text, .. } => format!("the text {text:?}"),
            Kind::Sequence(_) => "a list".into(),
            Kind::Mapping(_) => "a mapping".into(),
        };
        YamlError::at(self.line, format!("{what} must be {wanted}, but is {found}"))
    }
}

/// A document and where a second one begins, which Go ignores.
#[derive(Debug)]
pub(crate) struct Document {
    pub root: Node,
    pub second_line: Option<usize>,
}

/// Reads the first document; an empty text is a null.
pub(crate) fn parse(text: &str) -> Result<Document, YamlError> {
    check_syntax(text)?;
    let mut reader =
        Reader { events: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    reader.document()
}

/// Lets the scanner that shares its ancestry with Go's judge the syntax (tabs, quoting):
/// the one used for the tree takes a little more.
fn check_syntax(text: &str) -> Result<(), YamlError> {
    let Some(first) = serde_yaml::Deserializer::from_str(text).next() else { return Ok(()) };
    IgnoredAny::deserialize(first).map(|_| ()).map_err(|e| {
        let line = e.location().map_or(0, |l| l.line());
        let text = e.to_string();
        let message = text.split(" at line ").next().unwrap_or(&text);
        YamlError::at(line, message)
    })
}

struct Reader<'a> {
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), YamlError> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(e)) => Err(YamlError::at(e.marker().line(), e.info().to_owned())),
            None => Err(YamlError::at(0, "the text ends too early")),
        }
    }

    fn document(&mut self) -> Result<Document, YamlError> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => {
                    let root = scalar(span.start.line(), String::new(), true);
                    return Ok(Document { root, second_line: None });
                }
                Event::DocumentStart(_) => break,
                _ => {}
            }
        }
        let (event, span) = self.next()?;
        let root = self.node(event, span, 0)?;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(Document { root, second_line: None }),
                Event::DocumentStart(_) => {
                    return Ok(Document { root, second_line: Some(span.start.line()) });
                }
                _ => {}
            }
        }
    }

    fn count(&mut self, line: usize, nodes: usize) -> Result<(), YamlError> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            let message = format!("more than {NODES_MAX} values once aliases are followed");
            return Err(YamlError::at(line, message));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, YamlError> {
        let line = span.start.line();
        let before = self.nodes;
        self.count(line, 1)?;
        if depth > DEPTH_MAX {
            return Err(YamlError::at(line, format!("nested deeper than {DEPTH_MAX} levels")));
        }
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && !is_string_tag(tag.as_deref());
                (scalar(line, text.into_owned(), plain), anchor)
            }
            Event::SequenceStart(anchor, _) => (self.sequence(line, depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(line, depth)?, anchor),
            Event::Alias(id) => {
                let (node, size) = self
                    .anchors
                    .get(&id)
                    .cloned()
                    .ok_or_else(|| YamlError::at(line, "unknown anchor"))?;
                self.count(line, size)?;
                return Ok(Node { line, kind: node.kind });
            }
            other => return Err(YamlError::at(line, format!("unexpected {other:?}"))),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn sequence(&mut self, line: usize, depth: usize) -> Result<Node, YamlError> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(Node { line, kind: Rc::new(Kind::Sequence(items)) });
            }
            items.push(self.node(event, span, depth + 1)?);
        }
    }

    fn mapping(&mut self, line: usize, depth: usize) -> Result<Node, YamlError> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut merges = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key_line = span.start.line();
            let key = self.node(event, span, depth + 1)?;
            let Kind::Scalar { text, plain } = &*key.kind else {
                return Err(YamlError::at(key_line, "a key must be a plain text"));
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if *plain && text == "<<" {
                merges.push(value);
                continue;
            }
            if let Some(first) = seen.insert(text.clone(), key_line) {
                let message = format!("key {text:?} already set in map on line {first}");
                return Err(YamlError::at(key_line, message));
            }
            entries.push((Key { text: text.clone(), line: key_line }, value));
        }
        for merge in merges {
            self.merge(&merge, &mut entries, &mut seen)?;
        }
        Ok(Node { line, kind: Rc::new(Kind::Mapping(entries)) })
    }

    /// Adds the merged mapping's entries that are not set; the first of several wins.
    fn merge(
        &mut self,
        merge: &Node,
        entries: &mut Vec<(Key, Node)>,
        seen: &mut HashMap<String, usize>,
    ) -> Result<(), YamlError> {
        match &*merge.kind {
            Kind::Mapping(merged) => {
                self.count(merge.line, merged.len())?;
                for (key, value) in merged {
                    if !seen.contains_key(&key.text) {
                        seen.insert(key.text.clone(), key.line);
                        entries.push((key.clone(), value.clone()));
                    }
                }
                Ok(())
            }
            Kind::Sequence(items) => {
                items.iter().try_for_each(|item| self.merge(item, entries, seen))
            }
            Kind::Scalar { .. } => Err(YamlError::at(
                merge.line,
                "map merge requires map or sequence of maps as the value",
            )),
        }
    }
}

fn scalar(line: usize, text: String, plain: bool) -> Node {
    Node { line, kind: Rc::new(Kind::Scalar { text, plain }) }
}

fn is_string_tag(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.suffix == "str" || tag.handle.ends_with("!str"))
}
