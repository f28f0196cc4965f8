//! What Go's `html/template` adds to `text/template`: values are escaped for the place
//! they stand in, and comments are left out. Prometheus expands console pages that way.
//!
//! Served are the places where a page of text needs values: text, the text of `title` and
//! `textarea`, and quoted attributes that hold neither links, styles nor scripts. A value
//! anywhere else is refused rather than written unescaped.

use super::exec::{Exec, Run};
use super::functions::{Function, escape_html, row};
use super::number::go_quote;
use super::printf;
use super::value::{Type, Value};

/// Functions that only HTML templates have.
pub(super) static FUNCTIONS: &[Function] = &[row("tmpl", &[Type::Str, Type::Any], |x, args| {
    let [Value::Str(name), data] = args else { return Err("BUG: unchecked arguments".into()) };
    x.named(name, data).map(|page| Value::Html(page.into())).map_err(|abort| abort.0)
})];

/// Where in a page the output stands, as far as the literal text tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Spot {
    #[default]
    Text,
    Comment,
    /// Between `<` and the end of the element's name, which is collected.
    TagName(String),
    /// Within a tag, outside of attributes.
    Tag,
    /// The name of an attribute, and after it up to the value.
    AttributeName(String),
    /// An attribute's value: its quote (none: up to a space) and whether it is plain text.
    Value {
        quote: Option<char>,
        plain: bool,
    },
    /// The content of `script` or `style`.
    Code(&'static str),
}

/// Follows the literal text of a page.
#[derive(Debug, Default)]
pub(super) struct Page {
    spot: Spot,
    element: String,
}

/// Elements whose content is no markup.
const CODE: [&str; 2] = ["script", "style"];

/// Attributes whose values are links or code. Those that begin with `on` are code, too.
const UNSAFE: [&str; 17] = [
    "action",
    "archive",
    "background",
    "cite",
    "classid",
    "codebase",
    "data",
    "formaction",
    "href",
    "longdesc",
    "manifest",
    "poster",
    "profile",
    "src",
    "srcdoc",
    "srcset",
    "style",
];

impl Page {
    /// Takes literal text and gives what of it is written: all but comments.
    pub(super) fn literal(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if self.spot == Spot::Text && rest.starts_with("<!--") {
                self.spot = Spot::Comment;
                rest = &rest[4..];
                continue;
            }
            if self.spot == Spot::Comment {
                match rest.find("-->") {
                    Some(end) => {
                        self.spot = Spot::Text;
                        rest = &rest[end + 3..];
                    }
                    None => rest = "",
                }
                continue;
            }
            out.push(c);
            self.advance(c, rest);
            rest = &rest[c.len_utf8()..];
        }
        out
    }

    fn advance(&mut self, c: char, rest: &str) {
        let spot = std::mem::take(&mut self.spot);
        self.spot = match spot {
            Spot::Text if c == '<' && begins_tag(&rest[1..]) => Spot::TagName(String::new()),
            Spot::Code(element) if ends_element(rest, element) => Spot::TagName(String::new()),
            Spot::TagName(name) => match c {
                '>' => {
                    self.element = name;
                    self.content()
                }
                c if c.is_ascii_whitespace() => {
                    self.element = name;
                    Spot::Tag
                }
                c => Spot::TagName(name + &c.to_ascii_lowercase().to_string()),
            },
            Spot::Tag => match c {
                '>' => self.content(),
                c if c.is_ascii_whitespace() || c == '/' => Spot::Tag,
                c => Spot::AttributeName(c.to_ascii_lowercase().to_string()),
            },
            Spot::AttributeName(name) => match c {
                '>' => self.content(),
                '=' => {
                    let next = rest[1..].trim_start().chars().next();
                    match next.filter(|c| matches!(c, '"' | '\'')) {
                        // The quote itself opens the value.
                        Some(_) => Spot::AttributeName(format!("{name}=")),
                        None => Spot::Value { quote: None, plain: is_plain(&name) },
                    }
                }
                '"' | '\'' => {
                    let plain = is_plain(name.trim_end_matches('='));
                    Spot::Value { quote: Some(c), plain }
                }
                c if c.is_ascii_whitespace() && !name.ends_with('=') => Spot::Tag,
                c if c.is_ascii_whitespace() => Spot::AttributeName(name),
                c => Spot::AttributeName(name + &c.to_ascii_lowercase().to_string()),
            },
            Spot::Value { quote: Some(quote), .. } if c == quote => Spot::Tag,
            Spot::Value { quote: None, .. } if c == '>' => self.content(),
            Spot::Value { quote: None, .. } if c.is_ascii_whitespace() => Spot::Tag,
            spot => spot,
        };
    }

    /// What follows the `>` of the current element.
    fn content(&self) -> Spot {
        match CODE.iter().find(|code| **code == self.element) {
            Some(code) => Spot::Code(code),
            None => Spot::Text,
        }
    }

    /// What is written for a value at this place.
    pub(super) fn value(&self, value: &Value) -> Result<String, String> {
        let in_text = match &self.spot {
            Spot::Text => true,
            Spot::Comment => return Ok(String::new()),
            Spot::Value { quote: Some(_), plain: true } => false,
            spot => {
                let place = match spot {
                    Spot::Code(element) => format!("the content of <{element}>"),
                    Spot::Value { quote: None, .. } => "an attribute without quotes".to_owned(),
                    Spot::Value { .. } => "an attribute that holds a link or code".to_owned(),
                    _ => "a tag".to_owned(),
                };
                return Err(format!(
                    "a value in {place} is not supported: values may stand in text and in quoted attributes of plain text"
                ));
            }
        };
        Ok(match value {
            Value::Missing | Value::NilAny => String::new(),
            Value::Html(markup) if in_text && !matches!(&*self.element, "title" | "textarea") => {
                markup.to_string()
            }
            Value::Html(markup) => escape(markup),
            Value::Sample(_) => escape(&printf::sprint(std::slice::from_ref(value))[1..]),
            _ => escape(&printf::sprint(std::slice::from_ref(value))),
        })
    }
}

fn begins_tag(rest: &str) -> bool {
    rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!')
}

fn ends_element(rest: &str, element: &str) -> bool {
    rest.strip_prefix("</")
        .and_then(|r| r.get(..element.len()))
        .is_some_and(|name| name.eq_ignore_ascii_case(element))
}

fn is_plain(attribute: &str) -> bool {
    let name = attribute.strip_prefix("data-").unwrap_or(attribute);
    let name = name.rsplit_once(':').map_or(name, |(_, local)| local);
    let hidden = ["src", "uri", "url"].iter().any(|part| name.contains(part));
    !(name.starts_with("on") || UNSAFE.contains(&name) || hidden)
}

/// What `html/template` writes for text: as `html`, and `+`, which some browsers once read
/// anew.
fn escape(text: &str) -> String {
    escape_html(text).replace('+', "&#43;")
}

impl<'t> Exec<'t, '_> {
    /// The output of a template by its name, for `tmpl`.
    fn named(&mut self, name: &str, dot: &Value) -> Run<String> {
        if !self.template.trees.contains_key(name) {
            return Err(super::exec::Abort(format!(
                "html/template: {} is undefined",
                go_quote(name)
            )));
        }
        let page = self.page.as_mut().map(std::mem::take);
        let before = std::mem::take(&mut self.out);
        let result = self.call_template(name, dot.clone());
        self.page = page;
        let text = std::mem::replace(&mut self.out, before);
        result.map(|()| text)
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::template::{Template, TemplateData};

    fn check(text: &str, expected: Result<&str, &str>) {
        let data = TemplateData::standalone(None, "http://h", 0);
        let got = Template::parse_html("t", text)
            .and_then(|t| t.expand(&data, &mut |_| Err("no queries".into())));
        match (got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{text}"),
            (Err(got), Err(part)) => assert!(got.to_string().contains(part), "{text}: {got}"),
            (got, _) => panic!("{text}: {got:?}"),
        }
    }

    #[test]
    fn values_are_escaped_for_their_place() {
        for (text, expected) in [
            (r#"{{ "<b> & 'c' + \"d\"" }}"#, "&lt;b&gt; &amp; &#39;c&#39; &#43; &#34;d&#34;"),
            (r#"<i>{{ "<b>" | safeHtml }}</i>"#, "<i><b></i>"),
            (r#"a < {{ "<" }}"#, "a < &lt;"),
            (r#"<p title="{{ "a\"b" }}">x</p>"#, r#"<p title="a&#34;b">x</p>"#),
            (r#"<p title = '{{ "<b>" | safeHtml }}'>"#, "<p title = '&lt;b&gt;'>"),
            (r#"<!-- {{ "x" }} -->y"#, "y"),
            (r#"<title>{{ "<b>" | safeHtml }}</title>"#, "<title>&lt;b&gt;</title>"),
            (r#"<script>a="<b>"</script>{{ 1e21 }}"#, r#"<script>a="<b>"</script>1e&#43;21"#),
            ("{{ .Foo }}|{{ print nil }}", "|&lt;nil&gt;"),
            (r#"{{define "x"}}<u>{{.}}</u>{{end}}{{ tmpl "x" "<" }}"#, "<u>&lt;</u>"),
        ] {
            check(text, Ok(expected));
        }
    }

    #[test]
    fn a_value_is_refused_where_it_could_do_harm() {
        for (text, place) in [
            (r#"<script>{{ "x" }}</script>"#, "the content of <script>"),
            (r#"<a href="{{ "x" }}">"#, "holds a link or code"),
            (r#"<a onclick='{{ "x" }}'>"#, "holds a link or code"),
            (r#"<a b={{ "x" }}>"#, "an attribute without quotes"),
            (r#"<{{ "x" }}>"#, ""),
            (r#"<a {{ "x" }}>"#, "a value in a tag"),
            (r#"{{ tmpl "x" 1 }}"#, r#"html/template: "x" is undefined"#),
        ] {
            if place.is_empty() {
                check(text, Ok("<x>"));
            } else {
                check(text, Err(place));
            }
        }
        let text = Template::parse("t", r#"{{ tmpl "x" 1 }}"#).expect_err("text has no tmpl");
        assert!(text.to_string().contains(r#"function "tmpl" not defined"#), "{text}");
    }
}
