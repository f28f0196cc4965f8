//! Reading a state directory: every file in order, each up to its last finished change.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use prost::Message;
use rustc_hash::FxHashMap;

use super::frame::{FILE_HEADER_BYTES, FrameReader, Header, Item, VERSION, read_header};
use super::record::{AlertRecord, Record, is_last_of_change, numbers};
use super::{GroupKey, RuleIdentity, StateError};
use crate::model::TimestampMs;
use crate::rules::alert::{Alert, AlertStates};

/// What the files say, and what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// By number.
    pub rules: BTreeMap<u32, RuleImage>,
    pub watermarks: FxHashMap<GroupKey, TimestampMs>,
    /// Sizes by generation.
    pub files: BTreeMap<u64, u64>,
    /// Generations to be set aside rather than deleted.
    pub damaged: BTreeSet<u64>,
    pub problems: Vec<Problem>,
    /// No number from here on, and no generation, was used.
    pub next_rule: u32,
    pub next_generation: u64,
    by_identity: FxHashMap<RuleIdentity, u32>,
}

/// What is known of a rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RuleImage {
    pub identity: RuleIdentity,
    pub restored: bool,
    /// Of the file that defines it.
    pub generation: u64,
    pub alerts: FxHashMap<u32, Alert>,
    /// Ticks whose notifications were delivered.
    pub delivered: BTreeSet<TimestampMs>,
}

/// Something wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub file: PathBuf,
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Something is lost that was acted upon; else only what the end of the process cut off.
    pub is_damage: bool,
    pub what: String,
}

/// Name of the file of a generation.
pub(super) fn file_name(generation: u64) -> String {
    format!("{generation:08}.state")
}

fn generation_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".state")?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

impl RuleImage {
    /// The alerts as they go on. One whose last notification may not have reached every
    /// Alertmanager counts as never sent: it is sent again by the next evaluation.
    pub(super) fn into_states(self) -> AlertStates {
        let mut states = AlertStates::default();
        for mut alert in self.alerts.into_values() {
            if alert.last_sent_at_ms.is_some_and(|at| !self.delivered.contains(&at)) {
                alert.last_sent_at_ms = None;
            }
            states.insert(alert);
        }
        states
    }
}

/// Reads all files of a directory. Only a directory that cannot be listed is an error.
pub(super) fn replay(dir: &Path) -> Result<Replayed, StateError> {
    let mut generations = Vec::new();
    let list = |e| StateError::io("list directory", dir, e);
    for entry in fs::read_dir(dir).map_err(list)? {
        let name = entry.map_err(list)?.file_name();
        generations.extend(name.to_str().and_then(generation_of));
    }
    generations.sort_unstable();
    let mut out = Replayed { next_rule: 1, next_generation: 1, ..Replayed::default() };
    for generation in generations {
        out.next_generation = generation + 1;
        let path = dir.join(file_name(generation));
        if let Err(error) = out.read_file(generation, &path) {
            out.problem(&path, 0, true, format!("cannot be read: {error}"));
            out.damaged.insert(generation);
        }
    }
    Ok(out)
}

impl Replayed {
    fn problem(&mut self, file: &Path, offset: u64, is_damage: bool, what: String) {
        self.problems.push(Problem { file: file.to_owned(), offset, is_damage, what });
    }

    fn read_file(&mut self, generation: u64, path: &Path) -> io::Result<()> {
        let mut file = File::open(path)?;
        self.files.insert(generation, file.metadata()?.len());
        let mut header = Vec::with_capacity(FILE_HEADER_BYTES);
        (&mut file).take(FILE_HEADER_BYTES as u64).read_to_end(&mut header)?;
        match read_header(&header) {
            Header::Good => {}
            Header::Torn => {
                self.problem(path, 0, false, "ends within its header".to_owned());
                return Ok(());
            }
            // What follows is checked by itself.
            Header::Damaged => {
                self.damaged.insert(generation);
                self.problem(path, 0, true, "has a damaged header".to_owned());
            }
            Header::Newer(version) => {
                self.damaged.insert(generation);
                let text = format!(
                    "is of version {version}, this program reads up to {VERSION}; it is set \
                     aside and alerts go on without it"
                );
                self.problem(path, 0, true, text);
                return Ok(());
            }
        }
        let end = self.find_end(generation, path, FrameReader::new(&file))?;
        file.seek(SeekFrom::Start(FILE_HEADER_BYTES as u64))?;
        self.apply_until(generation, path, end, FrameReader::new(&file))
    }

    /// Notes what is wrong, and gives the end of the last change that was finished.
    fn find_end(
        &mut self,
        generation: u64,
        path: &Path,
        mut reader: FrameReader<impl Read>,
    ) -> io::Result<u64> {
        let (mut finished, mut last) = (FILE_HEADER_BYTES as u64, FILE_HEADER_BYTES as u64);
        let mut torn = false;
        while let Some(item) = reader.next()? {
            match item {
                Item::Frame { end, payload } => {
                    last = end;
                    if is_last_of_change(payload) {
                        finished = end;
                    }
                }
                Item::Damaged { from, to } => {
                    self.damaged.insert(generation);
                    let text = format!("is damaged: {} bytes are lost", to - from);
                    self.problem(path, from, true, text);
                }
                Item::Torn { from } => {
                    torn = true;
                    self.problem(path, from, false, "ends within a record".to_owned());
                }
            }
        }
        if finished < last && !torn {
            self.problem(path, finished, false, "ends within a change".to_owned());
        }
        Ok(finished)
    }

    fn apply_until(
        &mut self,
        generation: u64,
        path: &Path,
        limit: u64,
        mut reader: FrameReader<impl Read>,
    ) -> io::Result<()> {
        let (mut last, mut lost) = (FILE_HEADER_BYTES as u64, None);
        let mut unreadable = None;
        while let Some(item) = reader.next()? {
            let Item::Frame { end, payload } = item else { continue };
            if end > limit {
                break;
            }
            match Record::decode(payload) {
                Ok(record) => {
                    if !self.apply(generation, record) {
                        lost.get_or_insert(last);
                    }
                }
                Err(e) => {
                    unreadable.get_or_insert((last, e.to_string()));
                }
            }
            last = end;
        }
        if let Some((offset, error)) = unreadable {
            self.damaged.insert(generation);
            self.problem(path, offset, true, format!("holds a record that is none: {error}"));
        }
        if let Some(offset) = lost {
            self.damaged.insert(generation);
            let text = "changes alerts whose beginning is lost; those alerts start anew";
            self.problem(path, offset, true, text.to_owned());
        }
        Ok(())
    }

    /// Applies a record; false when it needs something that is not there.
    fn apply(&mut self, generation: u64, record: Record) -> bool {
        for mark in record.watermarks {
            let key = GroupKey { file: mark.file, name: mark.group };
            match mark.tick_ms {
                Some(tick) => self.watermarks.insert(key, tick),
                None => self.watermarks.remove(&key),
            };
        }
        for number in record.forgotten {
            self.forget(number);
        }
        let number = record.rule;
        if number == 0 {
            return true;
        }
        self.next_rule = self.next_rule.max(number.saturating_add(1));
        if let Some(define) = record.define {
            let restored = define.restored;
            let Some(identity) = define.identity() else { return false };
            self.define(number, identity, restored, generation);
        }
        let Some(rule) = self.rules.get_mut(&number) else {
            // Late news of a rule that is gone say nothing.
            return record.put.is_empty() && record.sent.is_empty();
        };
        for number in numbers(&record.remove) {
            rule.alerts.remove(&number);
        }
        let mut complete = true;
        for put in record.put {
            complete &= rule.put(put);
        }
        for sent in &record.sent {
            for number in numbers(&sent.numbers) {
                match rule.alerts.get_mut(&number) {
                    Some(alert) => {
                        alert.last_sent_at_ms = Some(sent.tick_ms);
                        alert.valid_until_ms = Some(sent.valid_until_ms);
                    }
                    None => complete = false,
                }
            }
        }
        rule.delivered.extend(record.delivered);
        complete
    }

    fn define(&mut self, number: u32, identity: RuleIdentity, restored: bool, generation: u64) {
        self.forget(number);
        // The same rule under another number is one that was removed and came back.
        if let Some(before) = self.by_identity.insert(identity.clone(), number) {
            self.rules.remove(&before);
        }
        let image = RuleImage {
            identity,
            restored,
            generation,
            alerts: FxHashMap::default(),
            delivered: BTreeSet::new(),
        };
        self.rules.insert(number, image);
    }

    fn forget(&mut self, number: u32) {
        if let Some(image) = self.rules.remove(&number) {
            self.by_identity.remove(&image.identity);
        }
    }
}

impl RuleImage {
    fn put(&mut self, record: AlertRecord) -> bool {
        let number = record.number;
        let known = self.alerts.get(&number).map(|alert| &alert.labels);
        match record.alert(known) {
            Some(alert) => {
                self.alerts.insert(number, alert);
                true
            }
            None => false,
        }
    }
}
