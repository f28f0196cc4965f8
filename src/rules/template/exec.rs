//! Walks a parsed template and writes its output. Errors name the node being evaluated,
//! as Go's do; every walk has a budget of steps, bytes and depth.

use std::sync::Arc;

use super::Template;
use super::html::Page;
use super::node::{BranchKind, List, Node, Pipe, Place};
use super::number::go_quote;
use super::printf;
use super::value::{Type, Value};
use crate::model::regex::{GoRegex, RegexError};
use crate::model::value::VectorSample;

/// Nodes, iterations and calls one expansion may take.
const MAX_STEPS: u32 = 1_000_000;
/// Bytes one expansion may produce, intermediate strings included.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// Depth of templates within templates, blocks and parentheses together. Go stops at
/// 100,000 templates; the stack of a worker thread bears less.
const MAX_DEPTH: usize = 250;

/// A finished error text, from `template: ` on.
#[derive(Debug)]
pub(super) struct Abort(pub String);

pub(super) type Run<T> = Result<T, Abort>;

/// What a node asks of the loop around it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// What an expansion is given beside the template.
pub(super) struct Env<'q> {
    pub external_url: &'q Arc<str>,
    /// Evaluation time.
    pub now_ms: i64,
    pub query: &'q mut dyn FnMut(&str) -> Result<Vec<VectorSample>, String>,
}

pub(super) struct Exec<'t, 'q> {
    pub(super) template: &'t Template,
    pub(super) env: Env<'q>,
    pub(super) out: String,
    /// Follows the page, in an HTML template.
    pub(super) page: Option<Page>,
    pub(super) vars: Vec<(&'t str, Value)>,
    place: Option<Place<'t>>,
    /// Name of the template being walked: the main one or one it invokes.
    current: &'t str,
    depth: usize,
    steps: u32,
    bytes: usize,
}

/// Runs the template with `.` being `dot`.
pub(super) fn execute(template: &Template, dot: Value, env: Env<'_>) -> Run<String> {
    let mut exec = Exec {
        template,
        env,
        out: String::new(),
        page: template.html.then(Page::default),
        vars: vec![("$", dot.clone())],
        place: None,
        current: &template.name,
        depth: 0,
        steps: 0,
        bytes: 0,
    };
    let Some(root) = template.trees.get(&template.name) else {
        let name = go_quote(&template.name);
        return exec.fault(format!("{name} is an incomplete or empty template"));
    };
    exec.list(&dot, root)?;
    Ok(exec.out)
}

impl<'t> Exec<'t, '_> {
    pub(super) fn fault<T>(&self, detail: impl AsRef<str>) -> Run<T> {
        let (name, detail) = (self.current, detail.as_ref());
        let Some(place) = self.place else {
            return Err(Abort(format!("template: {name}: {detail}")));
        };
        let before = self.template.text.get(..place.pos()).unwrap_or("");
        let line = 1 + before.bytes().filter(|b| *b == b'\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1);
        let (parsed, name) = (&self.template.name, go_quote(name));
        Err(Abort(format!(
            "template: {parsed}:{line}:{column}: executing {name} at <{place}>: {detail}"
        )))
    }

    pub(super) fn at(&mut self, place: Place<'t>) {
        self.place = Some(place);
    }

    /// A compiled expression, kept with the template.
    pub(super) fn regex(&self, source: &str) -> Result<GoRegex, RegexError> {
        self.template.pattern(source)
    }

    pub(super) fn step(&mut self) -> Run<()> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return self.fault(format!("more than {MAX_STEPS} steps"));
        }
        Ok(())
    }

    pub(super) fn charge(&mut self, bytes: usize) -> Run<()> {
        self.bytes += bytes;
        if self.bytes > MAX_BYTES {
            return self.fault(format!("more than {MAX_BYTES} bytes of text"));
        }
        Ok(())
    }

    pub(super) fn deeper<T>(&mut self, body: impl FnOnce(&mut Self) -> Run<T>) -> Run<T> {
        if self.depth >= MAX_DEPTH {
            return self.fault(format!("exceeded maximum template depth ({MAX_DEPTH})"));
        }
        self.depth += 1;
        let result = body(self);
        self.depth -= 1;
        result
    }

    fn list(&mut self, dot: &Value, list: &'t List) -> Run<Flow> {
        for node in &list.nodes {
            let flow = self.node(dot, node)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, dot: &Value, node: &'t Node) -> Run<Flow> {
        self.at(Place::Node(node));
        self.step()?;
        match node {
            Node::Text { text, .. } => {
                self.charge(text.len())?;
                match &mut self.page {
                    Some(page) => self.out.push_str(&page.literal(text)),
                    None => self.out.push_str(text),
                }
            }
            Node::Action { pipe, .. } => {
                let value = self.pipeline(dot, pipe)?;
                if pipe.decl.is_empty() {
                    self.at(Place::Node(node));
                    self.print(&value)?;
                }
            }
            Node::Branch { kind: BranchKind::Range, pipe, list, otherwise, .. } => {
                let mark = self.vars.len();
                let flow = self.deeper(|x| x.range(dot, pipe, list, otherwise.as_ref()));
                self.vars.truncate(mark);
                return flow;
            }
            Node::Branch { .. } => {
                let mark = self.vars.len();
                let flow = self.deeper(|x| x.branch(dot, node));
                self.vars.truncate(mark);
                return flow;
            }
            Node::Template { name, pipe, .. } => self.invoke(dot, name, pipe.as_ref())?,
            Node::Break { .. } => return Ok(Flow::Break),
            Node::Continue { .. } => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    /// `if` and `with`. A chain of `else if` is followed in a loop, however long it is.
    fn branch(&mut self, dot: &Value, node: &'t Node) -> Run<Flow> {
        let mut node = node;
        while let Node::Branch { kind, pipe, list, otherwise, .. } = node {
            self.at(Place::Node(node));
            self.step()?;
            let value = self.pipeline(dot, pipe)?;
            if value.truth() {
                return self.list(if *kind == BranchKind::With { &value } else { dot }, list);
            }
            match otherwise.as_ref().map(|list| (list, list.nodes.as_slice())) {
                None => return Ok(Flow::Next),
                Some((
                    _,
                    [next @ Node::Branch { kind: BranchKind::If | BranchKind::With, .. }],
                )) => {
                    node = next;
                }
                Some((list, _)) => return self.list(dot, list),
            }
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, value: &Value) -> Run<()> {
        if let Some(page) = &self.page {
            let text = page.value(value).or_else(|why| self.fault(why))?;
            self.charge(text.len())?;
            self.out.push_str(&text);
            return Ok(());
        }
        let text = match value {
            Value::Str(text) => {
                self.charge(text.len())?;
                self.out.push_str(text);
                return Ok(());
            }
            Value::Missing | Value::NilAny => "<no value>".to_owned(),
            // A pointer prints as what it points to.
            Value::Sample(_) => printf::sprint(std::slice::from_ref(value))[1..].to_owned(),
            _ => printf::sprint(std::slice::from_ref(value)),
        };
        self.charge(text.len())?;
        self.out.push_str(&text);
        Ok(())
    }

    fn invoke(&mut self, dot: &Value, name: &str, pipe: Option<&'t Pipe>) -> Run<()> {
        if !self.template.trees.contains_key(name) {
            return self.fault(format!("template {} not defined", go_quote(name)));
        }
        let dot = match pipe {
            Some(pipe) => self.pipeline(dot, pipe)?,
            None => Value::Missing,
        };
        self.call_template(name, dot)
    }

    /// Walks the template `name` with `.` being `dot`.
    pub(super) fn call_template(&mut self, name: &str, dot: Value) -> Run<()> {
        let Some((name, tree)) = self.template.trees.get_key_value(name) else {
            return Ok(());
        };
        self.deeper(|x| {
            // An invoked template sees no variables of its caller.
            let vars = std::mem::replace(&mut x.vars, vec![("$", dot.clone())]);
            let outer = std::mem::replace(&mut x.current, name);
            x.list(&dot, tree)?;
            x.vars = vars;
            x.current = outer;
            Ok(())
        })
    }

    fn range(
        &mut self,
        dot: &Value,
        pipe: &'t Pipe,
        list: &'t List,
        otherwise: Option<&'t List>,
    ) -> Run<Flow> {
        let value = self.pipeline(dot, pipe)?;
        let mark = self.vars.len();
        let mut ran = false;
        let mut each = |x: &mut Self, index: Value, element: Value| -> Run<bool> {
            ran = true;
            x.step()?;
            x.bind_iteration(pipe, mark, index, &element)?;
            let flow = x.list(&element, list)?;
            x.vars.truncate(mark);
            Ok(flow != Flow::Break)
        };
        match &value {
            Value::List(items, _) => {
                for (i, item) in items.iter().enumerate() {
                    if !each(self, Value::int(i as i64), item.clone())? {
                        break;
                    }
                }
            }
            Value::Vector(samples) => {
                for (i, sample) in samples.iter().enumerate() {
                    if !each(self, Value::int(i as i64), Value::Sample(sample.clone()))? {
                        break;
                    }
                }
            }
            Value::Labels(labels) => {
                for (name, value) in labels.iter() {
                    if !each(self, Value::str(name), Value::str(value))? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (key, value) in map.iter() {
                    let element = match value {
                        Value::NilAny => Value::NilAny,
                        value => Value::Boxed(Arc::new(value.clone())),
                    };
                    if !each(self, Value::str(key.as_str()), element)? {
                        break;
                    }
                }
            }
            Value::Int(count, kind) | Value::Duration(count, kind @ Type::Duration) => {
                self.one_variable(pipe, &value)?;
                for i in 0..*count {
                    let element = match kind {
                        Type::Duration => Value::Duration(i, *kind),
                        _ => Value::Int(i, *kind),
                    };
                    if !each(self, Value::Missing, element)? {
                        break;
                    }
                }
            }
            Value::Uint(count, kind) => {
                self.one_variable(pipe, &value)?;
                for i in 0..*count {
                    if !each(self, Value::Missing, Value::Uint(i, *kind))? {
                        break;
                    }
                }
            }
            Value::Missing | Value::Nil(Type::Labels | Type::Map | Type::Vector) => {}
            _ => {
                let text = printf::sprint(std::slice::from_ref(&value));
                let text = text.strip_prefix('&').unwrap_or(&text);
                return self.fault(format!("range can't iterate over {text}"));
            }
        }
        match otherwise {
            Some(otherwise) if !ran => self.list(dot, otherwise),
            _ => Ok(Flow::Next),
        }
    }

    fn one_variable(&self, pipe: &Pipe, value: &Value) -> Run<()> {
        if pipe.decl.len() < 2 {
            return Ok(());
        }
        let text = printf::sprint(std::slice::from_ref(value));
        self.fault(format!("can't use {text} to iterate over more than one variable"))
    }

    /// Gives a loop's variables the element, and before it the index when there are two.
    fn bind_iteration(
        &mut self,
        pipe: &'t Pipe,
        mark: usize,
        index: Value,
        element: &Value,
    ) -> Run<()> {
        match (pipe.decl.as_slice(), pipe.assign) {
            ([], _) => {}
            ([only], true) => self.assign(only, element.clone())?,
            ([first, second, ..], true) => {
                self.assign(first, index)?;
                self.assign(second, element.clone())?;
            }
            ([_], false) => self.vars[mark - 1].1 = element.clone(),
            ([_, _, ..], false) => {
                self.vars[mark - 1].1 = element.clone();
                self.vars[mark - 2].1 = index;
            }
        }
        Ok(())
    }

    fn assign(&mut self, name: &str, value: Value) -> Run<()> {
        match self.vars.iter_mut().rev().find(|(n, _)| *n == name) {
            Some(slot) => {
                slot.1 = value;
                Ok(())
            }
            None => self.fault(format!("undefined variable: {name}")),
        }
    }

    pub(super) fn pipeline(&mut self, dot: &Value, pipe: &'t Pipe) -> Run<Value> {
        self.at(Place::Pipe(pipe));
        let mut value = None;
        for command in &pipe.commands {
            let result = match self.command(dot, command, value)? {
                Value::NilAny => Value::Missing,
                other => other.unboxed(),
            };
            value = Some(result);
        }
        let value = value.unwrap_or(Value::Missing);
        for name in &pipe.decl {
            if pipe.assign {
                self.assign(name, value.clone())?;
            } else {
                self.vars.push((name, value.clone()));
            }
        }
        Ok(value)
    }
}
