//! Logs on standard error, in the two formats Prometheus writes (`--log.format`):
//! `time=... level=INFO source=manager.rs:12 msg="..." key=value`, or the same as JSON.

use std::fmt;
use std::str::FromStr;

use chrono::{SecondsFormat, Utc};
use thiserror::Error;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// `--log.level`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

/// `--log.format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Logfmt,
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("unrecognized log level {0}: use one of debug, info, warn, error")]
    Level(String),
    #[error("unrecognized log format {0}: use one of logfmt, json")]
    Format(String),
    #[error("logging was set up before: {0}")]
    Installed(#[from] TryInitError),
}

impl FromStr for LogLevel {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warn" => Ok(Self::Warn),
            "error" => Ok(Self::Error),
            _ => Err(LogError::Level(text.to_owned())),
        }
    }
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "logfmt" => Ok(Self::Logfmt),
            "json" => Ok(Self::Json),
            _ => Err(LogError::Format(text.to_owned())),
        }
    }
}

/// Sends this process's logs to standard error. Call once, before anything logs.
pub fn init(level: LogLevel, format: LogFormat) -> Result<(), LogError> {
    subscriber(level, format, std::io::stderr).try_init()?;
    Ok(())
}

fn subscriber<W>(level: LogLevel, format: LogFormat, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let own = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    // Libraries speak only when something is wrong: their debug output would drown ours.
    let filter =
        Targets::new().with_target("watchfire", own).with_default(own.min(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer()
        .event_format(LineFormat(format))
        .fmt_fields(LineFormat(format))
        .with_writer(writer);
    tracing_subscriber::registry().with(filter).with(lines)
}

/// One line per event.
#[derive(Clone, Copy)]
struct LineFormat(LogFormat);

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = FieldWriter::new(self.0);
        event.record(&mut fields);
        let mut line = String::with_capacity(128 + fields.rest.len());
        if self.0 == LogFormat::Json {
            line.push('{');
        }
        let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let metadata = event.metadata();
        push_pair(&mut line, self.0, "time", Raw::Text(&time));
        push_pair(&mut line, self.0, "level", Raw::Text(level_name(metadata.level())));
        push_pair(&mut line, self.0, "source", Raw::Text(&source(metadata)));
        push_pair(&mut line, self.0, "msg", Raw::Text(&fields.message));
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(known) = span.extensions().get::<FormattedFields<N>>() {
                join(&mut line, self.0, known);
            }
        }
        join(&mut line, self.0, &fields.rest);
        line.push_str(if self.0 == LogFormat::Json { "}\n" } else { "\n" });
        writer.write_str(&line)
    }
}

impl<'w> FormatFields<'w> for LineFormat {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = FieldWriter::new(self.0);
        fields.record(&mut visitor);
        writer.write_str(&visitor.rest)
    }
}

fn level_name(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}

/// `manager.rs:120`; `mod.rs` alone would say nothing, so its folder goes with it.
fn source(metadata: &Metadata<'_>) -> String {
    let path = metadata.file().unwrap_or("unknown");
    let mut parts = path.rsplit('/');
    let file = parts.next().unwrap_or(path);
    let line = metadata.line().unwrap_or(0);
    match parts.next() {
        Some(folder) if file == "mod.rs" => format!("{folder}/{file}:{line}"),
        _ => format!("{file}:{line}"),
    }
}

/// Collects an event's fields in one format, the message apart.
struct FieldWriter {
    format: LogFormat,
    message: String,
    rest: String,
}

/// A field's value before it is quoted.
enum Raw<'a> {
    Text(&'a str),
    /// Numbers and booleans, bare in JSON.
    Bare(&'a str),
}

impl FieldWriter {
    fn new(format: LogFormat) -> Self {
        Self { format, message: String::new(), rest: String::new() }
    }

    fn push(&mut self, field: &Field, value: Raw<'_>) {
        if field.name() == "message" {
            let (Raw::Text(text) | Raw::Bare(text)) = value;
            self.message.push_str(text);
        } else {
            push_pair(&mut self.rest, self.format, field.name(), value);
        }
    }
}

impl Visit for FieldWriter {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, Raw::Text(&format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, Raw::Text(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push(field, Raw::Text(&value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Raw::Bare(&value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Raw::Bare(&value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let text = crate::model::float::general(value);
        let raw = if value.is_finite() { Raw::Bare(&text) } else { Raw::Text(&text) };
        self.push(field, raw);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Raw::Bare(if value { "true" } else { "false" }));
    }
}

/// Appends already formatted pairs.
fn join(out: &mut String, format: LogFormat, pairs: &str) {
    if pairs.is_empty() {
        return;
    }
    push_separator(out, format);
    out.push_str(pairs);
}

fn push_separator(out: &mut String, format: LogFormat) {
    match format {
        LogFormat::Logfmt if !out.is_empty() => out.push(' '),
        LogFormat::Json if !out.is_empty() && out != "{" => out.push(','),
        _ => {}
    }
}

fn push_pair(out: &mut String, format: LogFormat, key: &str, value: Raw<'_>) {
    push_separator(out, format);
    match (format, value) {
        (LogFormat::Logfmt, Raw::Text(text) | Raw::Bare(text)) => {
            out.push_str(key);
            out.push('=');
            push_logfmt_value(out, text);
        }
        (LogFormat::Json, value) => {
            push_json_string(out, key);
            out.push(':');
            match value {
                Raw::Text(text) => push_json_string(out, text),
                Raw::Bare(text) => out.push_str(text),
            }
        }
    }
}

/// Quotes what holds spaces, quotes, `=` or control characters, as Go's slog does.
fn push_logfmt_value(out: &mut String, text: &str) {
    let plain = !text.is_empty()
        && text.chars().all(|c| c != '"' && c != '=' && !c.is_whitespace() && !c.is_control());
    if plain {
        out.push_str(text);
    } else {
        out.push_str(&crate::model::labels::quote(text));
    }
}

fn push_json_string(out: &mut String, text: &str) {
    use fmt::Write;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => {
                write!(out, "\\u{:04x}", c as u32).expect("BUG: writing to a String cannot fail");
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: LogLevel, format: LogFormat, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(level, format, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// The line without its time and line number.
    fn check(format: LogFormat, expected: &str) {
        let text = logged(LogLevel::Info, format, || {
            let span = tracing::info_span!("group", file = "a b.yml");
            let _inside = span.enter();
            tracing::warn!(target: "watchfire::rules", err = "bad \"x\"", n = 3, ok = true, v = 1.5, "Rule failed");
        });
        let (start, end) = match format {
            LogFormat::Logfmt => ("time=", " level="),
            LogFormat::Json => ("{\"time\":\"", "\",\"level\""),
        };
        let time = text.strip_prefix(start).and_then(|t| t.split(end).next()).unwrap();
        chrono::DateTime::parse_from_rfc3339(time).unwrap();
        let mut rest = text[start.len() + time.len()..].to_owned();
        let digits = rest.find(".rs:").unwrap() + 4;
        while rest.as_bytes()[digits].is_ascii_digit() {
            rest.remove(digits);
        }
        assert_eq!(rest, expected);
    }

    #[test]
    fn lines_are_those_of_prometheus() {
        check(
            LogFormat::Logfmt,
            " level=WARN source=logging.rs: msg=\"Rule failed\" file=\"a b.yml\" err=\"bad \\\"x\\\"\" n=3 ok=true v=1.5\n",
        );
        check(
            LogFormat::Json,
            "\",\"level\":\"WARN\",\"source\":\"logging.rs:\",\"msg\":\"Rule failed\",\"file\":\"a b.yml\",\"err\":\"bad \\\"x\\\"\",\"n\":3,\"ok\":true,\"v\":1.5}\n",
        );
    }

    #[test]
    fn levels_filter_and_libraries_are_quiet() {
        let log = || {
            tracing::debug!(target: "watchfire::scrape", "debug");
            tracing::error!(target: "watchfire", "error");
            tracing::info!(target: "hyper", "library");
        };
        let count = |level| logged(level, LogFormat::Logfmt, log).lines().count();
        assert_eq!(
            [count(LogLevel::Debug), count(LogLevel::Info), count(LogLevel::Error)],
            [2, 1, 1]
        );
    }

    #[test]
    fn unknown_settings_name_the_choices() {
        assert_eq!(
            "loud".parse::<LogLevel>().unwrap_err().to_string(),
            "unrecognized log level loud: use one of debug, info, warn, error"
        );
        assert_eq!("WARN".parse::<LogLevel>().unwrap(), LogLevel::Warn);
        assert!("xml".parse::<LogFormat>().is_err());
    }
}
