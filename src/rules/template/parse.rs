//! Text to tree, by recursive descent with three tokens of look-ahead, as the grammar of
//! Go's `text/template` needs. Errors are worded as Go words them.

use std::collections::BTreeMap;

use super::lex::{Kind, Lexer, Token};
use super::node::{BranchKind, Command, List, Node, Pipe, Term, TermKind};
use super::number::{Number, go_quote, unquote};

/// Deepest nesting of parentheses and of blocks. Go allows far more; the trees are walked
/// recursively, so the depth is what the stack of a worker thread bears.
pub(super) const MAX_NESTING: usize = 100;

/// Longest chain of `else if`: walked in a loop, but still a nested tree.
const MAX_CHAIN: usize = 400;

/// A finished error text, from `template: ` on.
#[derive(Debug)]
pub(super) struct Fault(pub String);

type Parsed<T> = Result<T, Fault>;

/// The templates of a text by name: its own and those it defines.
pub(super) type Trees = BTreeMap<String, List>;

/// Parses a text. `known` says which functions exist.
pub(super) fn parse(name: &str, text: &str, known: fn(&str) -> bool) -> Parsed<Trees> {
    let mut parser =
        Parser { lexer: Lexer::new(text), name, known, trees: Trees::new(), at: Cursor::new() };
    let root = parser.top()?;
    parser.add(name.to_owned(), root)?;
    Ok(parser.trees)
}

/// What belongs to the template being parsed: each definition has its own.
struct Cursor<'t> {
    token: [Token<'t>; 3],
    peeked: usize,
    vars: Vec<String>,
    /// Line of the action being parsed; 0 outside.
    action_line: usize,
    range_depth: usize,
    depth: usize,
}

impl Cursor<'_> {
    fn new() -> Self {
        Self {
            token: [Token::none(), Token::none(), Token::none()],
            peeked: 0,
            vars: vec!["$".to_owned()],
            action_line: 0,
            range_depth: 0,
            depth: 0,
        }
    }
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    name: &'t str,
    known: fn(&str) -> bool,
    trees: Trees,
    at: Cursor<'t>,
}

/// What ended a list of nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closer {
    End,
    Else,
}

impl Closer {
    fn text(self) -> &'static str {
        match self {
            Self::End => "{{end}}",
            Self::Else => "{{else}}",
        }
    }
}

/// One step of a list.
enum Item {
    Node(Node),
    Closer(Closer),
}

impl<'t> Parser<'t> {
    fn next(&mut self) -> Token<'t> {
        if self.at.peeked > 0 {
            self.at.peeked -= 1;
        } else {
            self.at.token[0] = self.lexer.next();
        }
        self.at.token[self.at.peeked].clone()
    }

    fn backup(&mut self) {
        self.at.peeked += 1;
    }

    fn backup2(&mut self, first: Token<'t>) {
        self.at.token[1] = first;
        self.at.peeked = 2;
    }

    fn backup3(&mut self, first: Token<'t>, second: Token<'t>) {
        self.at.token[1] = second;
        self.at.token[2] = first;
        self.at.peeked = 3;
    }

    fn peek(&mut self) -> &Token<'t> {
        if self.at.peeked == 0 {
            self.at.peeked = 1;
            self.at.token[0] = self.lexer.next();
        }
        &self.at.token[self.at.peeked - 1]
    }

    fn next_non_space(&mut self) -> Token<'t> {
        loop {
            let token = self.next();
            if token.kind != Kind::Space {
                return token;
            }
        }
    }

    fn peek_non_space(&mut self) -> Token<'t> {
        let token = self.next_non_space();
        self.backup();
        token
    }

    fn fault<T>(&self, text: impl AsRef<str>) -> Parsed<T> {
        let (name, line) = (self.name, self.at.token[0].line);
        Err(Fault(format!("template: {name}:{line}: {}", text.as_ref())))
    }

    fn unexpected<T>(&self, token: &Token<'t>, context: &str) -> Parsed<T> {
        if token.kind != Kind::Error {
            return self.fault(format!("unexpected {} in {context}", token.describe()));
        }
        let mut text = token.describe();
        if self.at.action_line != 0 && self.at.action_line != token.line {
            if !text.ends_with(" action") {
                text.push_str(" in action");
            }
            text.push_str(&format!(" started at {}:{}", self.name, self.at.action_line));
        }
        self.fault(text)
    }

    fn need(&mut self, kinds: &[Kind], context: &str) -> Parsed<Token<'t>> {
        let token = self.next_non_space();
        if kinds.contains(&token.kind) { Ok(token) } else { self.unexpected(&token, context) }
    }

    fn enter(&mut self) -> Parsed<()> {
        if self.at.depth >= MAX_NESTING {
            return self.fault("max expression depth exceeded");
        }
        self.at.depth += 1;
        Ok(())
    }

    /// Runs `body` as the parser of another template of the same text.
    fn nested<T>(&mut self, body: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let mut inner = Cursor::new();
        inner.depth = self.at.depth;
        let outer = std::mem::replace(&mut self.at, inner);
        let result = body(self);
        self.at = outer;
        result
    }

    fn add(&mut self, name: String, tree: List) -> Parsed<()> {
        match self.trees.get(&name) {
            Some(old) if !old.is_blank() => {
                if tree.is_blank() {
                    return Ok(());
                }
                let name = go_quote(&name);
                self.fault(format!("template: multiple definition of template {name}"))
            }
            _ => {
                let mut tree = tree;
                tree.shrink();
                self.trees.insert(name, tree);
                Ok(())
            }
        }
    }

    /// The whole text. Only here may a template be defined.
    fn top(&mut self) -> Parsed<List> {
        let mut list = List::default();
        while self.peek().kind != Kind::Eof {
            if self.peek().kind == Kind::LeftDelim {
                let delim = self.next();
                if self.next_non_space().kind == Kind::Define {
                    self.nested(Self::definition)?;
                    continue;
                }
                self.backup2(delim);
            }
            match self.text_or_action()? {
                Item::Node(node) => list.nodes.push(node),
                Item::Closer(closer) => {
                    return self.fault(format!("unexpected {}", closer.text()));
                }
            }
        }
        Ok(list)
    }

    fn definition(&mut self) -> Parsed<()> {
        const CONTEXT: &str = "define clause";
        let token = self.need(&[Kind::String, Kind::RawString], CONTEXT)?;
        let name = self.unquoted(&token)?;
        self.need(&[Kind::RightDelim], CONTEXT)?;
        let (list, closer) = self.item_list()?;
        if closer != Closer::End {
            return self.fault(format!("unexpected {} in {CONTEXT}", closer.text()));
        }
        self.add(name, list)
    }

    fn unquoted(&self, token: &Token<'t>) -> Parsed<String> {
        match unquote(&token.val) {
            Some(text) => Ok(text),
            None => self.fault("invalid syntax"),
        }
    }

    fn item_list(&mut self) -> Parsed<(List, Closer)> {
        let mut list = List::default();
        while self.peek_non_space().kind != Kind::Eof {
            match self.text_or_action()? {
                Item::Node(node) => list.nodes.push(node),
                Item::Closer(closer) => return Ok((list, closer)),
            }
        }
        self.fault("unexpected EOF")
    }

    fn text_or_action(&mut self) -> Parsed<Item> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Text => {
                Ok(Item::Node(Node::Text { pos: token.pos, text: token.val.into_owned() }))
            }
            Kind::LeftDelim => {
                self.at.action_line = token.line;
                let item = self.action()?;
                self.at.action_line = 0;
                Ok(item)
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self) -> Parsed<Item> {
        let token = self.next_non_space();
        let node = match token.kind {
            Kind::Block => self.block()?,
            Kind::Break | Kind::Continue => self.loop_control(&token)?,
            Kind::Else => return self.otherwise(),
            Kind::End => {
                self.need(&[Kind::RightDelim], "end")?;
                return Ok(Item::Closer(Closer::End));
            }
            Kind::If => self.branch(BranchKind::If)?,
            Kind::Range => self.branch(BranchKind::Range)?,
            Kind::Template => self.template()?,
            Kind::With => self.branch(BranchKind::With)?,
            _ => {
                self.backup();
                let pos = self.peek().pos;
                // Variables declared here live until the enclosing `end`.
                Node::Action { pos, pipe: self.pipeline("command", Kind::RightDelim)? }
            }
        };
        Ok(Item::Node(node))
    }

    fn loop_control(&mut self, word: &Token<'t>) -> Parsed<Node> {
        let breaks = word.kind == Kind::Break;
        let context = if breaks { "{{break}}" } else { "{{continue}}" };
        self.need(&[Kind::RightDelim], context)?;
        if self.at.range_depth == 0 {
            return self.fault(format!("{context} outside {{{{range}}}}"));
        }
        let pos = word.pos;
        Ok(if breaks { Node::Break { pos } } else { Node::Continue { pos } })
    }

    fn otherwise(&mut self) -> Parsed<Item> {
        if !matches!(self.peek_non_space().kind, Kind::If | Kind::With) {
            self.need(&[Kind::RightDelim], "else")?;
        }
        Ok(Item::Closer(Closer::Else))
    }

    fn branch(&mut self, kind: BranchKind) -> Parsed<Node> {
        self.enter()?;
        let node = self.branch_link(kind, 0);
        self.at.depth -= 1;
        node
    }

    /// A branch that is the `link`th of its chain of `else if`s.
    fn branch_link(&mut self, kind: BranchKind, link: usize) -> Parsed<Node> {
        if link > MAX_CHAIN {
            return self.fault(format!("more than {MAX_CHAIN} times else in a row"));
        }
        let context = match kind {
            BranchKind::If => "if",
            BranchKind::With => "with",
            BranchKind::Range => "range",
        };
        let vars = self.at.vars.len();
        let pipe = self.pipeline(context, Kind::RightDelim)?;
        let in_range = usize::from(kind == BranchKind::Range);
        self.at.range_depth += in_range;
        let (list, closer) = self.item_list()?;
        self.at.range_depth -= in_range;
        let mut otherwise = None;
        if closer == Closer::Else {
            let next = self.peek().kind;
            let chained =
                matches!((kind, next), (BranchKind::If, Kind::If) | (BranchKind::With, Kind::With));
            otherwise = Some(if chained {
                // `else if` is an `if` within the `else` that shares its `end`.
                self.next();
                List { nodes: vec![self.branch_link(kind, link + 1)?] }
            } else {
                let (list, closer) = self.item_list()?;
                if closer != Closer::End {
                    return self.fault(format!("expected end; found {}", closer.text()));
                }
                list
            });
        }
        self.at.vars.truncate(vars);
        Ok(Node::Branch { pos: pipe.pos, kind, pipe, list, otherwise })
    }

    fn template_name(&mut self, context: &str) -> Parsed<(usize, String)> {
        let token = self.next_non_space();
        match token.kind {
            Kind::String | Kind::RawString => Ok((token.pos, self.unquoted(&token)?)),
            _ => self.unexpected(&token, context),
        }
    }

    fn block(&mut self) -> Parsed<Node> {
        const CONTEXT: &str = "block clause";
        let (pos, name) = self.template_name(CONTEXT)?;
        let pipe = self.pipeline(CONTEXT, Kind::RightDelim)?;
        self.enter()?;
        let (list, closer) = self.nested(Self::item_list)?;
        self.at.depth -= 1;
        if closer != Closer::End {
            return self.fault(format!("unexpected {} in {CONTEXT}", closer.text()));
        }
        self.add(name.clone(), list)?;
        Ok(Node::Template { pos, name, pipe: Some(pipe) })
    }

    fn template(&mut self) -> Parsed<Node> {
        const CONTEXT: &str = "template clause";
        let (pos, name) = self.template_name(CONTEXT)?;
        let mut pipe = None;
        if self.next_non_space().kind != Kind::RightDelim {
            self.backup();
            pipe = Some(self.pipeline(CONTEXT, Kind::RightDelim)?);
        }
        Ok(Node::Template { pos, name, pipe })
    }

    fn pipeline(&mut self, context: &str, end: Kind) -> Parsed<Pipe> {
        let mut pipe = Pipe { pos: self.peek_non_space().pos, ..Pipe::default() };
        self.declarations(&mut pipe, context)?;
        loop {
            let token = self.next_non_space();
            match token.kind {
                kind if kind == end => {
                    self.check_pipeline(&pipe, context)?;
                    return Ok(pipe);
                }
                Kind::Bool
                | Kind::CharConstant
                | Kind::Complex
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Nil
                | Kind::RawString
                | Kind::String
                | Kind::Variable
                | Kind::LeftParen => {
                    self.backup();
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return self.unexpected(&token, context),
            }
        }
    }

    /// `$x :=`, `$x =`, and in a range `$i, $x :=`.
    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Parsed<()> {
        loop {
            let variable = self.peek_non_space();
            if variable.kind != Kind::Variable {
                return Ok(());
            }
            self.next();
            // A space after the variable is a token too: in `$x foo` both must go back.
            let after = self.peek().clone();
            let next = self.peek_non_space();
            let comma = next.kind == Kind::Char && next.val == ",";
            if matches!(next.kind, Kind::Assign | Kind::Declare) || comma {
                self.next_non_space();
                pipe.decl.push(variable.val.clone().into_owned());
                self.at.vars.push(variable.val.clone().into_owned());
            }
            if comma {
                if context == "range" && pipe.decl.len() < 2 {
                    match self.peek_non_space().kind {
                        Kind::Variable | Kind::RightDelim | Kind::RightParen => continue,
                        _ => return self.fault("range can only initialize variables"),
                    }
                }
                return self.fault(format!("too many declarations in {context}"));
            }
            match next.kind {
                Kind::Assign => pipe.assign = true,
                Kind::Declare => pipe.assign = false,
                _ if after.kind == Kind::Space => self.backup3(variable, after),
                _ => self.backup2(variable),
            }
            return Ok(());
        }
    }

    fn check_pipeline(&self, pipe: &Pipe, context: &str) -> Parsed<()> {
        if pipe.commands.is_empty() {
            return self.fault(format!("missing value for {context}"));
        }
        for (i, command) in pipe.commands.iter().enumerate().skip(1) {
            if matches!(
                command.args[0].kind,
                TermKind::Bool(_)
                    | TermKind::Dot
                    | TermKind::Nil
                    | TermKind::Number(_)
                    | TermKind::Str { .. }
            ) {
                let stage = i + 1;
                return self.fault(format!("non executable command in pipeline stage {stage}"));
            }
        }
        Ok(())
    }

    fn command(&mut self) -> Parsed<Command> {
        let mut command = Command { pos: self.peek_non_space().pos, args: Vec::new() };
        loop {
            self.peek_non_space();
            if let Some(operand) = self.operand()? {
                command.args.push(operand);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::RightDelim | Kind::RightParen => self.backup(),
                Kind::Pipe => {}
                _ => return self.unexpected(&token, "operand"),
            }
            break;
        }
        if command.args.is_empty() {
            return self.fault("empty command");
        }
        Ok(command)
    }

    /// A term and the fields asked of it; `None` when the next token starts no term.
    fn operand(&mut self) -> Parsed<Option<Term>> {
        let Some(term) = self.term()? else { return Ok(None) };
        if self.peek().kind != Kind::Field {
            return Ok(Some(term));
        }
        let pos = self.peek().pos;
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(self.next().val[1..].to_owned());
        }
        let kind = match term.kind {
            TermKind::Field(mut names) => {
                names.append(&mut fields);
                TermKind::Field(names)
            }
            TermKind::Variable(mut names) => {
                names.append(&mut fields);
                TermKind::Variable(names)
            }
            TermKind::Bool(_)
            | TermKind::Str { .. }
            | TermKind::Number(_)
            | TermKind::Nil
            | TermKind::Dot => {
                let text = go_quote(&term.to_string());
                return self.fault(format!("unexpected . after term {text}"));
            }
            _ => TermKind::Chain(Box::new(term), fields),
        };
        Ok(Some(Term { pos, kind }))
    }

    fn term(&mut self) -> Parsed<Option<Term>> {
        let token = self.next_non_space();
        let pos = token.pos;
        let kind = match token.kind {
            Kind::Identifier => {
                if !(self.known)(&token.val) {
                    let name = go_quote(&token.val);
                    return self.fault(format!("function {name} not defined"));
                }
                TermKind::Identifier(token.val.into_owned())
            }
            Kind::Dot => TermKind::Dot,
            Kind::Nil => TermKind::Nil,
            Kind::Variable => {
                if !self.at.vars.iter().any(|v| *v == token.val) {
                    let name = go_quote(&token.val);
                    return self.fault(format!("undefined variable {name}"));
                }
                TermKind::Variable(vec![token.val.into_owned()])
            }
            Kind::Field => TermKind::Field(vec![token.val[1..].to_owned()]),
            Kind::Bool => TermKind::Bool(token.val == "true"),
            Kind::CharConstant | Kind::Complex | Kind::Number => {
                let number = if token.kind == Kind::CharConstant {
                    Number::parse_char(&token.val)
                } else {
                    Number::parse(&token.val)
                };
                match number {
                    Ok(number) => TermKind::Number(number),
                    Err(text) => return self.fault(text),
                }
            }
            Kind::LeftParen => {
                self.enter()?;
                let pipe = self.pipeline("parenthesized pipeline", Kind::RightParen)?;
                self.at.depth -= 1;
                TermKind::Pipe(pipe)
            }
            Kind::String | Kind::RawString => {
                TermKind::Str { text: self.unquoted(&token)?, quoted: token.val.into_owned() }
            }
            _ => {
                self.backup();
                return Ok(None);
            }
        };
        // A parenthesized pipeline stands where its first token stands.
        let pos = if let TermKind::Pipe(pipe) = &kind { pipe.pos } else { pos };
        Ok(Some(Term { pos, kind }))
    }
}
