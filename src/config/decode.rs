//! From a YAML tree to typed values, with Go's rules: an absent value leaves the default,
//! a text field takes any scalar as it is written, `yes` and `on` are booleans.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use std::sync::Arc;

use super::yaml::{Content, Entry, Node, YamlError};
use crate::yaml::{float, integer};

/// Reads a value of type `T` from a node.
pub(crate) fn from_node<T: de::DeserializeOwned>(node: &Node) -> Result<T, YamlError> {
    T::deserialize(node).map_err(|e| located(e, node.line()))
}

fn located(mut error: YamlError, line: usize) -> YamlError {
    if error.line == 0 {
        error.line = line;
    }
    error
}

impl de::Error for YamlError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::at(0, message.to_string())
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(unknown_field(field, expected))
    }
}

/// What to say about a key nothing knows.
pub(crate) fn unknown_field(field: &str, known: &[&str]) -> String {
    let distance = |known: &&&str| strsim::levenshtein(field, known);
    let close = known.iter().filter(|k| distance(k) <= 2).min_by_key(distance);
    match close {
        Some(close) => format!("unknown field {field:?}: did you mean {close:?}?"),
        None => format!("unknown field {field:?}: known here are {}", known.join(", ")),
    }
}

fn as_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            Some(true)
        }
        "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            Some(false)
        }
        _ => None,
    }
}

impl Node {
    fn cannot(&self, wanted: &str) -> YamlError {
        self.expected("this value", wanted)
    }

    fn integer(&self) -> Result<i128, YamlError> {
        if self.is_null() {
            return Ok(0);
        }
        self.plain().and_then(integer).ok_or_else(|| self.cannot("a whole number"))
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
            let number = <$type>::try_from(self.integer()?)
                .map_err(|_| self.cannot(concat!("a number that fits ", stringify!($type))))?;
            visitor.$visit(number).map_err(|e| located(e, self.line()))
        }
    )*};
}

impl<'de> Deserializer<'de> for &Node {
    type Error = YamlError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        let result = match (&self.content, self.plain()) {
            (Content::Sequence(_), _) => return self.deserialize_seq(visitor),
            (Content::Mapping(_), _) => return self.deserialize_map(visitor),
            (Content::Scalar { .. }, _) if self.is_null() => visitor.visit_unit(),
            (Content::Scalar { text, .. }, None) => visitor.visit_str(text),
            (Content::Scalar { .. }, Some(text)) => match (integer(text), float(text)) {
                _ if matches!(text, "true" | "True" | "TRUE") => visitor.visit_bool(true),
                _ if matches!(text, "false" | "False" | "FALSE") => visitor.visit_bool(false),
                (Some(n), _) if i64::try_from(n).is_ok() => visitor.visit_i64(n as i64),
                (_, Some(f)) => visitor.visit_f64(f),
                _ => visitor.visit_str(text),
            },
        };
        result.map_err(|e: YamlError| located(e, self.line()))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        let value = if self.is_null() { Some(false) } else { self.plain().and_then(as_bool) };
        let value = value.ok_or_else(|| self.cannot("a boolean (true or false)"))?;
        visitor.visit_bool(value).map_err(|e| located(e, self.line()))
    }

    integers!(
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64
    );

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        let value = if self.is_null() { Some(0.0) } else { self.plain().and_then(float) };
        let value = value.ok_or_else(|| self.cannot("a number"))?;
        visitor.visit_f64(value).map_err(|e| located(e, self.line()))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        let text = if self.is_null() { Some("") } else { self.scalar() };
        let text = text.ok_or_else(|| self.cannot("a text"))?;
        visitor.visit_str(text).map_err(|e| located(e, self.line()))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        let result = if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) };
        result.map_err(|e: YamlError| located(e, self.line()))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, YamlError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, YamlError> {
        visitor.visit_newtype_struct(self).map_err(|e: YamlError| located(e, self.line()))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        let items = Items { rest: self.items("this value")?.iter() };
        visitor.visit_seq(items).map_err(|e| located(e, self.line()))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, YamlError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, YamlError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        let entries = self.entries("this value")?.iter();
        let entries = Entries { rest: entries, value: None, fields: &[] };
        visitor.visit_map(entries).map_err(|e| located(e, self.line()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, YamlError> {
        let entries = self.entries("this value")?.iter();
        let entries = Entries { rest: entries, value: None, fields };
        visitor.visit_map(entries).map_err(|e| located(e, self.line()))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, YamlError> {
        let text = self.scalar().ok_or_else(|| self.cannot("a text"))?;
        visitor.visit_enum(Variant(text)).map_err(|e| located(e, self.line()))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        visitor.visit_unit()
    }
}

struct Items<'a> {
    rest: std::slice::Iter<'a, Arc<Node>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = YamlError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, YamlError> {
        let Some(node) = self.rest.next() else { return Ok(None) };
        seed.deserialize(node.as_ref()).map(Some).map_err(|e| located(e, node.line()))
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, Entry>,
    value: Option<&'a Node>,
    /// The fields of a struct; empty for a map, whose absent values are kept.
    fields: &'static [&'static str],
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = YamlError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, YamlError> {
        for (key, value) in self.rest.by_ref() {
            if value.is_null() && self.fields.contains(&key.name()) {
                continue;
            }
            self.value = Some(value);
            let text = StrDeserializer::<YamlError>::new(key.name());
            return seed.deserialize(text).map(Some).map_err(|e| located(e, key.line()));
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, YamlError> {
        let node = self.value.take().ok_or_else(|| YamlError::custom("a key without a value"))?;
        seed.deserialize(node).map_err(|e| located(e, node.line()))
    }
}

struct Variant<'a>(&'a str);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = YamlError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), YamlError> {
        let value = seed.deserialize(StrDeserializer::<YamlError>::new(self.0))?;
        Ok((value, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = YamlError;

    fn unit_variant(self) -> Result<(), YamlError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, YamlError> {
        Err(YamlError::custom("a single word is expected here"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, YamlError> {
        Err(YamlError::custom("a single word is expected here"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, YamlError> {
        Err(YamlError::custom("a single word is expected here"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml::parse;
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sample {
        text: String,
        flag: bool,
        number: u32,
        list: Vec<String>,
        map: BTreeMap<String, String>,
    }

    impl Default for Sample {
        fn default() -> Self {
            let (list, map) = (vec![], BTreeMap::new());
            Self { text: "default".into(), flag: true, number: 7, list, map }
        }
    }

    fn check(yaml: &str, expected: Result<Sample, &str>) {
        let got = parse(yaml).and_then(|doc| from_node::<Sample>(&doc.root));
        assert_eq!(got.map_err(|e| e.to_string()), expected.map_err(str::to_owned), "{yaml}");
    }

    #[test]
    fn values_are_read_as_go_reads_them() {
        let d = Sample::default;
        check("", Ok(d()));
        check("text:\nflag: ~\nnumber: null", Ok(d()));
        check("text: 1.10\nflag: no", Ok(Sample { text: "1.10".into(), flag: false, ..d() }));
        check("number: 0x10", Ok(Sample { number: 16, ..d() }));
        check(
            "map: {a: ~, b: yes}",
            Ok(Sample { map: [("a".into(), "".into()), ("b".into(), "yes".into())].into(), ..d() }),
        );
        check("map: &m {a: x}\nlist: [*n]", Err("line 2: unknown anchor"));
        check(
            "<<: {number: 9, text: a}\ntext: b",
            Ok(Sample { number: 9, text: "b".into(), ..d() }),
        );
    }

    #[test]
    fn errors_name_their_line_and_what_to_do() {
        check("text: a\ntxt: b", Err("line 2: unknown field \"txt\": did you mean \"text\"?"));
        check(
            "text: a\n\nbogus:",
            Err("line 3: unknown field \"bogus\": known here are text, flag, number, list, map"),
        );
        check("text: a\ntext: b", Err("line 2: key \"text\" already set in map on line 1"));
        check("map: {a: 1, a: 2}", Err("line 1: key \"a\" already set in map on line 1"));
        check(
            "list:\n  - a\n  - {b: c}",
            Err("line 3: this value must be a text, but is a mapping"),
        );
        check(
            "number: -1",
            Err("line 1: this value must be a number that fits u32, but is the text \"-1\""),
        );
        check("a:\n\t- b", Err("line 2: found character that cannot start any token"));
    }

    #[test]
    fn alias_bombs_and_deep_nesting_are_refused() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..9 {
            let p = i - 1;
            let refs = vec![format!("*a{p}"); 10].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        assert!(parse(&bomb).unwrap_err().message.contains("excessive aliasing"));
        let deep = "[".repeat(5000);
        assert!(parse(&deep).is_err());
    }
}
