//! Commands, their arguments and fields: the part of a walk that yields values.

use super::MissingKey;
use super::exec::{Exec, Run};
use super::fields;
use super::functions::{self, Signature};
use super::node::{Command, Place, Term, TermKind};
use super::number::{Number, go_quote};
use super::value::{Type, Value};

impl<'t> Exec<'t, '_> {
    fn not_a_function(&self, args: &[Term], last: Option<&Value>) -> Run<()> {
        if args.len() > 1 || last.is_some() {
            return self.fault(format!("can't give argument to non-function {}", args[0]));
        }
        Ok(())
    }

    /// The value of one command of a pipeline; `last` is what the one before it gave.
    pub(super) fn command(
        &mut self,
        dot: &Value,
        command: &'t Command,
        last: Option<Value>,
    ) -> Run<Value> {
        self.step()?;
        let args = command.args.as_slice();
        let first = &args[0];
        match &first.kind {
            TermKind::Field(names) => {
                self.at(Place::Term(first));
                return self.field_chain(dot, dot.clone(), first, names, args, last);
            }
            TermKind::Chain(base, names) => return self.chain(dot, first, base, names, args, last),
            TermKind::Identifier(name) => {
                return self.function(dot, first, name, Place::Command(command), args, last);
            }
            TermKind::Pipe(pipe) => {
                self.not_a_function(args, last.as_ref())?;
                return self.deeper(|x| x.pipeline(dot, pipe));
            }
            TermKind::Variable(names) => return self.variable(dot, first, names, args, last),
            _ => {}
        }
        self.at(Place::Term(first));
        self.not_a_function(args, last.as_ref())?;
        match &first.kind {
            TermKind::Bool(b) => Ok(Value::Bool(*b)),
            TermKind::Dot => Ok(dot.clone()),
            TermKind::Number(number) => self.constant(number),
            TermKind::Str { text, .. } => Ok(Value::str(text.as_str())),
            _ => self.fault("nil is not a command"),
        }
    }

    /// A number where nothing says which type it should have.
    fn constant(&self, number: &Number) -> Run<Value> {
        let text = &number.text;
        if let Some((re, im)) = number.complex {
            return Ok(Value::Complex(re, im));
        }
        let hex = text.len() > 2
            && text.as_bytes()[0] == b'0'
            && matches!(text.as_bytes()[1], b'x' | b'X')
            && !text.contains(['p', 'P']);
        let looks_float =
            !hex && !text.starts_with('\'') && text.contains(['.', 'e', 'E', 'p', 'P']);
        match (number.float, number.int) {
            (Some(float), _) if looks_float => Ok(Value::Float(float)),
            (_, Some(int)) => Ok(Value::int(int)),
            _ => self.fault(format!("{text} overflows int")),
        }
    }

    fn chain(
        &mut self,
        dot: &Value,
        term: &'t Term,
        base: &'t Term,
        names: &'t [String],
        args: &'t [Term],
        last: Option<Value>,
    ) -> Run<Value> {
        self.at(Place::Term(term));
        if matches!(base.kind, TermKind::Nil) {
            return self.fault(format!("indirection through explicit nil in {term}"));
        }
        self.at(Place::Term(base));
        let receiver = match &base.kind {
            TermKind::Pipe(pipe) => self.deeper(|x| x.pipeline(dot, pipe))?,
            TermKind::Identifier(name) => {
                self.function(dot, base, name, Place::Term(base), &[], None)?
            }
            _ => {
                return self
                    .fault(format!("can't evaluate command {}", go_quote(&term.to_string())));
            }
        };
        self.field_chain(dot, receiver, term, names, args, last)
    }

    fn variable(
        &mut self,
        dot: &Value,
        term: &'t Term,
        names: &'t [String],
        args: &'t [Term],
        last: Option<Value>,
    ) -> Run<Value> {
        self.at(Place::Term(term));
        let name = names[0].as_str();
        let found = self.vars.iter().rev().find(|(n, _)| *n == name);
        let Some((_, value)) = found else {
            return self.fault(format!("undefined variable: {name}"));
        };
        let value = value.clone();
        if names.len() == 1 {
            self.not_a_function(args, last.as_ref())?;
            return Ok(value);
        }
        self.field_chain(dot, value, term, &names[1..], args, last)
    }

    /// `.X.Y.Z`, of which only the last can take arguments.
    fn field_chain(
        &mut self,
        dot: &Value,
        receiver: Value,
        term: &'t Term,
        names: &'t [String],
        args: &'t [Term],
        last: Option<Value>,
    ) -> Run<Value> {
        let mut receiver = receiver;
        // The static type is an interface once a field of that type was read.
        let mut boxed = false;
        let count = names.len();
        let mut last = last;
        for (i, name) in names.iter().enumerate() {
            let (args, last) =
                if i + 1 == count { (args, last.take()) } else { (&args[..0], None) };
            if let Value::Boxed(inner) = &receiver {
                (receiver, boxed) = (inner.as_ref().clone(), true);
            }
            (receiver, boxed) = self.field(dot, name, term, args, last, &receiver, boxed)?;
        }
        Ok(receiver)
    }

    #[allow(clippy::too_many_arguments, reason = "one recursive step with its whole context")]
    fn field(
        &mut self,
        dot: &Value,
        name: &'t str,
        term: &'t Term,
        args: &'t [Term],
        last: Option<Value>,
        receiver: &Value,
        boxed: bool,
    ) -> Run<(Value, bool)> {
        let Some(actual) = receiver.type_of() else {
            return match self.template.missing_key {
                MissingKey::Error => {
                    self.fault(format!("nil data; no entry for key {}", go_quote(name)))
                }
                _ => Ok((Value::Missing, false)),
            };
        };
        let shown = if boxed { Type::Any.name() } else { actual.name() };
        if matches!(receiver, Value::NilAny) {
            return self.fault(format!("nil pointer evaluating {shown}.{name}"));
        }
        if let Some(method) = fields::method(receiver, name) {
            if let Some(fault) = method.unusable {
                return self.fault(fault);
            }
            let run = |_: &mut Self, args: &[Value]| (method.run)(receiver, args);
            let value =
                self.call(dot, name, &method.signature, Place::Term(term), args, last, run)?;
            return Ok((value, false));
        }
        let has_args = args.len() > 1 || last.is_some();
        if let Some((value, boxed)) = fields::struct_field(receiver, name) {
            if has_args {
                return self
                    .fault(format!("{name} has arguments but cannot be invoked as function"));
            }
            return Ok((value, boxed));
        }
        let (found, zero) = match receiver {
            Value::Labels(labels) => (labels.get(name).map(Value::str), Value::str("")),
            Value::Map(map) => (map.get(name).cloned(), Value::NilAny),
            Value::Nil(kind) => {
                return if fields::has_field(*kind, name) {
                    self.fault(format!("nil pointer evaluating {shown}.{name}"))
                } else {
                    self.fault(format!("can't evaluate field {name} in type {shown}"))
                };
            }
            _ => return self.fault(format!("can't evaluate field {name} in type {shown}")),
        };
        if has_args {
            return self.fault(format!("{name} is not a method but has arguments"));
        }
        let boxed = matches!(receiver, Value::Map(_));
        match (found, self.template.missing_key) {
            (Some(value), _) => Ok((value, boxed)),
            (None, MissingKey::Zero) => Ok((zero, boxed)),
            (None, MissingKey::Invalid) => Ok((Value::Missing, false)),
            (None, MissingKey::Error) => {
                self.fault(format!("map has no entry for key {}", go_quote(name)))
            }
        }
    }

    fn function(
        &mut self,
        dot: &Value,
        term: &'t Term,
        name: &'t str,
        command: Place<'t>,
        args: &'t [Term],
        last: Option<Value>,
    ) -> Run<Value> {
        self.at(Place::Term(term));
        let Some(function) = functions::lookup(name, self.template.html) else {
            return self.fault(format!("{} is not a defined function", go_quote(name)));
        };
        if matches!(name, "and" | "or") {
            return self.short_circuit(dot, name, args, last);
        }
        if name == "call" {
            return self.call_value(dot, &function.signature, command, args, last);
        }
        let run = |x: &mut Self, values: &[Value]| (function.run)(x, values);
        self.call(dot, name, &function.signature, command, args, last, run)
    }

    /// `and` and `or` evaluate no further than they must.
    fn short_circuit(
        &mut self,
        dot: &Value,
        name: &str,
        args: &'t [Term],
        last: Option<Value>,
    ) -> Run<Value> {
        let args = args.get(1..).unwrap_or(&[]);
        if args.is_empty() && last.is_none() {
            return self.fault(format!("wrong number of args for {name}: want at least 1 got 0"));
        }
        let mut value = Value::Missing;
        for arg in args {
            value = self.arg(dot, Type::Reflect, arg)?;
            if value.truth() == (name == "or") {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    /// `call` needs a function as a value, and no value of a template is one.
    fn call_value(
        &mut self,
        dot: &Value,
        signature: &Signature,
        command: Place<'t>,
        args: &'t [Term],
        last: Option<Value>,
    ) -> Run<Value> {
        let callee = match (args.get(1), &last) {
            (Some(term), _) => term.to_string(),
            (None, Some(Value::Str(text))) => text.to_string(),
            (None, Some(value)) => format!("<{} Value>", value.type_name()),
            (None, None) => String::new(),
        };
        let run = |_: &mut Self, values: &[Value]| {
            Err(match values.first().and_then(Value::type_of) {
                None | Some(Type::Any) => "call of nil".to_owned(),
                Some(kind) => format!("non-function {callee} of type {}", kind.name()),
            })
        };
        self.call(dot, "call", signature, command, args, last, run)
    }

    /// Evaluates arguments, checks them against the signature, and calls. `args` holds the
    /// function itself first, or nothing at all.
    #[allow(clippy::too_many_arguments, reason = "one call with its whole context")]
    fn call(
        &mut self,
        dot: &Value,
        name: &str,
        signature: &Signature,
        place: Place<'t>,
        args: &'t [Term],
        last: Option<Value>,
        run: impl FnOnce(&mut Self, &[Value]) -> Result<Value, String>,
    ) -> Run<Value> {
        let args = args.get(1..).unwrap_or(&[]);
        let given = args.len() + usize::from(last.is_some());
        let fixed = signature.params.len();
        if signature.variadic.is_some() {
            if given < fixed {
                let got = args.len();
                return self.fault(format!(
                    "wrong number of args for {name}: want at least {fixed} got {got}"
                ));
            }
        } else if given != fixed {
            return self
                .fault(format!("wrong number of args for {name}: want {fixed} got {given}"));
        }
        let param = |i: usize| match signature.params.get(i) {
            Some(param) => *param,
            None => signature.variadic.unwrap_or(Type::Any),
        };
        let mut values = Vec::with_capacity(given);
        for (i, arg) in args.iter().enumerate() {
            values.push(self.arg(dot, param(i), arg)?);
        }
        if let Some(last) = last {
            let last = self.validate(last, param(args.len()))?;
            values.push(last);
        }
        match run(self, &values) {
            Ok(value) => {
                self.charge(value.weight())?;
                Ok(value)
            }
            Err(text) => {
                self.at(place);
                self.fault(format!("error calling {name}: {text}"))
            }
        }
    }

    /// An argument as the parameter's type.
    fn arg(&mut self, dot: &Value, param: Type, term: &'t Term) -> Run<Value> {
        self.at(Place::Term(term));
        let value = match &term.kind {
            TermKind::Dot => dot.clone(),
            TermKind::Nil if param.can_be_nil() => return Ok(nil_of(param)),
            TermKind::Nil => return self.fault(format!("cannot assign nil to {}", param.name())),
            TermKind::Field(names) => {
                self.field_chain(dot, dot.clone(), term, names, std::slice::from_ref(term), None)?
            }
            TermKind::Variable(names) => self.variable(dot, term, names, &[], None)?,
            TermKind::Pipe(pipe) => self.deeper(|x| x.pipeline(dot, pipe))?,
            TermKind::Identifier(name) => {
                self.function(dot, term, name, Place::Term(term), &[], None)?
            }
            TermKind::Chain(base, names) => self.chain(dot, term, base, names, &[], None)?,
            TermKind::Bool(_) | TermKind::Number(_) | TermKind::Str { .. } => {
                return self.literal(param, term);
            }
        };
        self.validate(value, param)
    }

    fn literal(&mut self, param: Type, term: &Term) -> Run<Value> {
        match (param, &term.kind) {
            (Type::Any | Type::Reflect, TermKind::Bool(b)) => Ok(Value::Bool(*b)),
            (Type::Any | Type::Reflect, TermKind::Number(number)) => self.constant(number),
            (Type::Any | Type::Reflect | Type::Str, TermKind::Str { text, .. }) => {
                Ok(Value::str(text.as_str()))
            }
            (Type::Str, _) => self.fault(format!("expected string; found {term}")),
            (Type::Int | Type::Duration, TermKind::Number(Number { int: Some(int), .. })) => {
                Ok(match param {
                    Type::Duration => Value::Duration(*int, param),
                    _ => Value::int(*int),
                })
            }
            (Type::Int | Type::Duration, _) => {
                self.fault(format!("expected integer; found {term}"))
            }
            _ => self.fault(format!("can't handle {term} for arg of type {}", param.name())),
        }
    }

    /// Checks a value against a parameter's type; one pointer is followed if need be.
    fn validate(&self, value: Value, param: Type) -> Run<Value> {
        let value = value.unboxed();
        let Some(actual) = value.type_of() else {
            if param.can_be_nil() {
                return Ok(nil_of(param));
            }
            return self.fault(format!("invalid value; expected {}", param.name()));
        };
        if actual == param || matches!(param, Type::Any | Type::Reflect) {
            return Ok(value);
        }
        match (value, param) {
            (Value::Time(t, Type::TimePtr), Type::Time) => Ok(Value::Time(t, Type::Time)),
            (Value::Duration(d, Type::DurationPtr), Type::Duration) => {
                Ok(Value::Duration(d, Type::Duration))
            }
            _ => {
                let (want, got) = (param.name(), actual.name());
                self.fault(format!("wrong type for value; expected {want}; got {got}"))
            }
        }
    }
}

/// The nil a parameter of this type takes.
fn nil_of(param: Type) -> Value {
    match param {
        Type::Reflect => Value::Missing,
        Type::Any => Value::NilAny,
        other => Value::Nil(other),
    }
}
