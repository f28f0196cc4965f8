//! `expect` lines: what is to be said about the outcome beside its values.

use crate::model::regex::AnchoredRegex;

/// What a text must look like.
#[derive(Clone, Debug)]
pub(super) enum TextMatch {
    /// Any text will do.
    Any,
    /// Exactly this one.
    Message(String),
    /// One in which the expression matches somewhere.
    Pattern { source: String, regex: AnchoredRegex },
}

impl TextMatch {
    /// A pattern that may match anywhere in the text.
    pub(super) fn pattern(source: &str) -> Result<Self, String> {
        let regex = AnchoredRegex::new(&format!(".*(?:{source}).*"))
            .map_err(|e| format!("invalid regex {source:?}: {e}"))?;
        Ok(Self::Pattern { source: source.to_owned(), regex })
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Message(message) => message == text,
            Self::Pattern { regex, .. } => regex.is_match(text),
        }
    }

    /// For failure texts.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Any => "any text".to_owned(),
            Self::Message(message) => format!("{message:?}"),
            Self::Pattern { source, .. } => format!("a match of /{source}/"),
        }
    }
}

/// What is expected of the warnings, or of the infos.
#[derive(Clone, Debug, Default)]
pub(super) struct Annotated {
    /// Each must match some annotation, and each annotation one of these.
    pub(super) wanted: Vec<TextMatch>,
    /// There must be none.
    pub(super) none: bool,
}

impl Annotated {
    /// `kind` is `warning` or `info`.
    pub(super) fn check(&self, kind: &str, texts: &[String]) -> Result<(), String> {
        if self.none && !texts.is_empty() {
            return Err(format!("expected no {kind}, got {texts:?}"));
        }
        if self.wanted.is_empty() {
            return Ok(());
        }
        if texts.is_empty() {
            let wanted: Vec<String> = self.wanted.iter().map(TextMatch::describe).collect();
            return Err(format!("expected {kind} {}, got none", wanted.join(" and ")));
        }
        for wanted in &self.wanted {
            if !texts.iter().any(|text| wanted.matches(text)) {
                return Err(format!("expected {kind} {}, got {texts:?}", wanted.describe()));
            }
        }
        match texts.iter().find(|text| !self.wanted.iter().any(|wanted| wanted.matches(text))) {
            Some(text) => Err(format!("unexpected {kind} {text:?}")),
            None => Ok(()),
        }
    }
}

/// Everything the `expect` lines of a block say.
#[derive(Clone, Debug, Default)]
pub(super) struct Expectations {
    pub(super) ordered: bool,
    pub(super) fail: Option<TextMatch>,
    pub(super) warn: Annotated,
    pub(super) info: Annotated,
}

/// Error of a line that begins with `expect` and is none.
const INVALID: &str =
    "invalid expect statement, must match `expect <type> <match_type>: <string>` format";

impl Expectations {
    /// Takes what follows the word `expect`.
    pub(super) fn add(&mut self, rest: &str) -> Result<(), String> {
        let (kind, rest) = match rest.split_once(char::is_whitespace) {
            Some((kind, rest)) => (kind, rest.trim()),
            None => (rest, ""),
        };
        let text = if rest.is_empty() {
            TextMatch::Any
        } else if let Some(message) = rest.strip_prefix("msg:").map(str::trim) {
            TextMatch::Message(message.to_owned())
        } else if let Some(source) = rest.strip_prefix("regex:").map(str::trim) {
            TextMatch::pattern(source)?
        } else {
            return Err(INVALID.to_owned());
        };
        match kind {
            "ordered" => self.ordered = true,
            "fail" if self.fail.is_some() => {
                return Err(
                    "invalid expect lines, multiple expect fail lines are not allowed".to_owned()
                );
            }
            "fail" => self.fail = Some(text),
            "warn" => self.warn.wanted.push(text),
            "info" => self.info.wanted.push(text),
            "no_warn" => self.warn.none = true,
            "no_info" => self.info.none = true,
            _ => return Err(INVALID.to_owned()),
        }
        for (kind, annotated) in [("warn", &self.warn), ("info", &self.info)] {
            if annotated.none && !annotated.wanted.is_empty() {
                return Err(format!(
                    "invalid expect lines, {kind} and no_{kind} cannot be used together"
                ));
            }
        }
        Ok(())
    }
}
