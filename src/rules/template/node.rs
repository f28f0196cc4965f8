//! The parse tree, and how a node is printed in error texts.

use std::fmt;

use super::number::{Number, go_quote};

/// Nodes in a row: the body of a template, a branch or a loop.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    pub nodes: Vec<Node>,
}

impl List {
    /// True when nothing but space would be printed and nothing done.
    pub(super) fn is_blank(&self) -> bool {
        self.nodes.iter().all(|n| match n {
            Node::Text { text, .. } => text.trim().is_empty(),
            _ => false,
        })
    }

    /// Gives back room that lists keep for growing: rules keep their trees for good.
    pub(super) fn shrink(&mut self) {
        self.nodes.shrink_to_fit();
        for node in &mut self.nodes {
            match node {
                Node::Action { pipe, .. } | Node::Template { pipe: Some(pipe), .. } => {
                    pipe.shrink();
                }
                Node::Branch { pipe, list, otherwise, .. } => {
                    pipe.shrink();
                    list.shrink();
                    otherwise.iter_mut().for_each(List::shrink);
                }
                _ => {}
            }
        }
    }
}

impl Pipe {
    fn shrink(&mut self) {
        self.decl.shrink_to_fit();
        self.commands.shrink_to_fit();
        for command in &mut self.commands {
            command.args.shrink_to_fit();
            command.args.iter_mut().for_each(Term::shrink);
        }
    }
}

impl Term {
    fn shrink(&mut self) {
        match &mut self.kind {
            TermKind::Field(names) | TermKind::Variable(names) => names.shrink_to_fit(),
            TermKind::Chain(term, names) => {
                names.shrink_to_fit();
                term.shrink();
            }
            TermKind::Pipe(pipe) => pipe.shrink(),
            _ => {}
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BranchKind {
    If,
    With,
    Range,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Text { pos: usize, text: String },
    Action { pos: usize, pipe: Pipe },
    Branch { pos: usize, kind: BranchKind, pipe: Pipe, list: List, otherwise: Option<List> },
    Template { pos: usize, name: String, pipe: Option<Pipe> },
    Break { pos: usize },
    Continue { pos: usize },
}

/// Commands joined by `|`, and the variables that take the result.
#[derive(Clone, Debug, Default)]
pub(super) struct Pipe {
    pub pos: usize,
    pub assign: bool,
    /// Names with their `$`.
    pub decl: Vec<String>,
    pub commands: Vec<Command>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Command {
    pub pos: usize,
    /// Never empty: the parser refuses an empty command.
    pub args: Vec<Term>,
}

#[derive(Clone, Debug)]
pub(super) struct Term {
    pub pos: usize,
    pub kind: TermKind,
}

#[derive(Clone, Debug)]
pub(super) enum TermKind {
    Identifier(String),
    Dot,
    Nil,
    Bool(bool),
    Number(Number),
    Str {
        quoted: String,
        text: String,
    },
    /// `.a.b`
    Field(Vec<String>),
    /// `$x.a.b`: the variable first, with its `$`.
    Variable(Vec<String>),
    /// Fields of a parenthesized pipeline or a function without arguments.
    Chain(Box<Term>, Vec<String>),
    Pipe(Pipe),
}

/// Where execution stands, for the `at <...>` of an error.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'t> {
    Node(&'t Node),
    Pipe(&'t Pipe),
    Command(&'t Command),
    Term(&'t Term),
}

impl Place<'_> {
    pub(super) fn pos(&self) -> usize {
        match self {
            Self::Node(
                Node::Text { pos, .. }
                | Node::Action { pos, .. }
                | Node::Branch { pos, .. }
                | Node::Template { pos, .. }
                | Node::Break { pos }
                | Node::Continue { pos },
            ) => *pos,
            Self::Pipe(pipe) => pipe.pos,
            Self::Command(command) => command.pos,
            Self::Term(term) => term.pos,
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => node.fmt(f),
            Self::Pipe(pipe) => pipe.fmt(f),
            Self::Command(command) => command.fmt(f),
            Self::Term(term) => term.fmt(f),
        }
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.nodes.iter().try_for_each(|n| n.fmt(f))
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { text, .. } => f.write_str(text),
            Self::Action { pipe, .. } => write!(f, "{{{{{pipe}}}}}"),
            Self::Branch { kind, pipe, list, otherwise, .. } => {
                let word = match kind {
                    BranchKind::If => "if",
                    BranchKind::With => "with",
                    BranchKind::Range => "range",
                };
                write!(f, "{{{{{word} {pipe}}}}}{list}")?;
                if let Some(otherwise) = otherwise {
                    write!(f, "{{{{else}}}}{otherwise}")?;
                }
                f.write_str("{{end}}")
            }
            Self::Template { name, pipe, .. } => {
                write!(f, "{{{{template {}", go_quote(name))?;
                if let Some(pipe) = pipe {
                    write!(f, " {pipe}")?;
                }
                f.write_str("}}")
            }
            Self::Break { .. } => f.write_str("{{break}}"),
            Self::Continue { .. } => f.write_str("{{continue}}"),
        }
    }
}

impl fmt::Display for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.decl.is_empty() {
            let op = if self.assign { "=" } else { ":=" };
            write!(f, "{} {op} ", self.decl.join(", "))?;
        }
        for (i, command) in self.commands.iter().enumerate() {
            if i > 0 {
                f.write_str(" | ")?;
            }
            command.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, arg) in self.args.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            match &arg.kind {
                TermKind::Pipe(pipe) => write!(f, "({pipe})")?,
                _ => arg.fmt(f)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            TermKind::Identifier(name) => f.write_str(name),
            TermKind::Dot => f.write_str("."),
            TermKind::Nil => f.write_str("nil"),
            TermKind::Bool(b) => write!(f, "{b}"),
            TermKind::Number(number) => f.write_str(&number.text),
            TermKind::Str { quoted, .. } => f.write_str(quoted),
            TermKind::Field(names) => names.iter().try_for_each(|n| write!(f, ".{n}")),
            TermKind::Variable(names) => f.write_str(&names.join(".")),
            TermKind::Chain(base, names) => {
                match &base.kind {
                    TermKind::Pipe(pipe) => write!(f, "({pipe})")?,
                    _ => base.fmt(f)?,
                }
                names.iter().try_for_each(|n| write!(f, ".{n}"))
            }
            TermKind::Pipe(pipe) => pipe.fmt(f),
        }
    }
}
