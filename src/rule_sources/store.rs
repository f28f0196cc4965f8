//! Rules that are written through an API compatible with Mimir's ruler: groups by
//! namespace, a file each, durable before the writer is told.
//!
//! ```text
//! DIR/NAMESPACE/GROUP.yml    names percent-encoded; the file holds `groups:` with one group
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use thiserror::Error;

use crate::rules::RuleSource;
use crate::rules::config::{LoadOptions, load_source};

/// What stays as it is in the name of a file.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');
/// Longest name of a namespace or group, encoded: what file systems take.
const NAME_MAX: usize = 240;
/// Most groups kept.
const GROUPS_MAX: usize = 100_000;

/// Why rules were not written or found.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RulerError {
    #[error("unable to decode rule group: {0}")]
    NotYaml(String),
    #[error("invalid rule group: {0}")]
    Invalid(String),
    #[error("{what} name {name:?} is {why}")]
    Name { what: &'static str, name: String, why: &'static str },
    #[error("group does not exist")]
    NoGroup,
    #[error("no rule groups found")]
    NoGroups,
    #[error("there are {GROUPS_MAX} rule groups already; delete some")]
    TooMany,
    #[error("{what} {path}: {cause}")]
    Io { what: &'static str, path: String, cause: String },
}

/// Groups by namespace and name, as YAML of one group.
type Namespaces = BTreeMap<String, BTreeMap<String, Arc<str>>>;

/// See the module.
pub struct RulerStore {
    dir: PathBuf,
    load: LoadOptions,
    groups: Mutex<Namespaces>,
}

impl RulerStore {
    /// Reads what was written before.
    pub(super) fn open(dir: PathBuf, load: LoadOptions) -> Result<Self, RulerError> {
        fs::create_dir_all(&dir).map_err(io("create directory", &dir))?;
        let mut groups = Namespaces::new();
        for namespace in entries(&dir)? {
            if !namespace.is_dir() {
                continue;
            }
            for file in entries(&namespace)? {
                if file.extension().is_none_or(|e| e != "yml") {
                    continue;
                }
                let text = fs::read_to_string(&file).map_err(io("read", &file))?;
                // What is damaged is told when rules are loaded: it is set aside then.
                groups.entry(decoded(&namespace)).or_default().insert(decoded(&file), text.into());
            }
        }
        Ok(Self { dir, load, groups: Mutex::new(groups) })
    }

    /// A source for each namespace.
    pub(super) fn sources(&self) -> Vec<RuleSource> {
        let groups = self.groups.lock();
        let source = |(namespace, groups): (&String, &BTreeMap<String, Arc<str>>)| {
            let mut text = String::from("groups:\n");
            groups.values().for_each(|group| text.push_str(body(group)));
            RuleSource::Fetched { file: format!("ruler/{namespace}"), source: Ok(text.into()) }
        };
        groups.iter().map(source).collect()
    }

    /// Checks and keeps a group: a YAML mapping, as one of a rule file's `groups`.
    pub fn put(&self, namespace: &str, body: &str) -> Result<(), RulerError> {
        let value: serde_yaml::Value =
            serde_yaml::from_str(body).map_err(|e| RulerError::NotYaml(e.to_string()))?;
        let name = value.get("name").and_then(serde_yaml::Value::as_str);
        let name = name.ok_or_else(|| RulerError::NotYaml("it has no name".to_owned()))?.to_owned();
        let groups = serde_yaml::Value::Sequence(vec![value]);
        let file = serde_yaml::Mapping::from_iter([("groups".into(), groups)]);
        let text = serde_yaml::to_string(&file).map_err(|e| RulerError::NotYaml(e.to_string()))?;
        let loaded = load_source(&name, &text, &self.load);
        let errors: Vec<String> = loaded.errors().map(|e| e.message.clone()).collect();
        if !errors.is_empty() {
            return Err(RulerError::Invalid(errors.join("; ")));
        }
        let path = self.path(namespace, &name)?;
        let mut all = self.groups.lock();
        let count: usize = all.values().map(BTreeMap::len).sum();
        let known = all.get(namespace).is_some_and(|groups| groups.contains_key(&name));
        if !known && count >= GROUPS_MAX {
            return Err(RulerError::TooMany);
        }
        self.write(&path, &text)?;
        all.entry(namespace.to_owned()).or_default().insert(name, text.into());
        Ok(())
    }

    /// Removes a group.
    pub fn delete(&self, namespace: &str, group: &str) -> Result<(), RulerError> {
        let path = self.path(namespace, group)?;
        let mut all = self.groups.lock();
        let groups = all.get_mut(namespace).ok_or(RulerError::NoGroup)?;
        if !groups.contains_key(group) {
            return Err(RulerError::NoGroup);
        }
        fs::remove_file(&path).map_err(io("remove", &path))?;
        groups.remove(group);
        if groups.is_empty() {
            all.remove(namespace);
        }
        if let Some(dir) = path.parent() {
            sync_dir(dir);
            // It is left when something else lies in it.
            _ = fs::remove_dir(dir);
        }
        Ok(())
    }

    /// Removes a namespace with its groups.
    pub fn delete_namespace(&self, namespace: &str) -> Result<(), RulerError> {
        let groups: Vec<String> = {
            let all = self.groups.lock();
            let groups = all.get(namespace).ok_or(RulerError::NoGroups)?;
            groups.keys().cloned().collect()
        };
        groups.iter().try_for_each(|group| match self.delete(namespace, group) {
            Err(RulerError::NoGroup) => Ok(()),
            done => done,
        })
    }

    /// One group as YAML.
    pub fn group(&self, namespace: &str, group: &str) -> Result<String, RulerError> {
        let all = self.groups.lock();
        let text = all.get(namespace).and_then(|groups| groups.get(group));
        let value = parsed(text.ok_or(RulerError::NoGroup)?)?;
        printed(&value)
    }

    /// The groups of a namespace, or of all, as YAML: a mapping of namespaces to lists.
    pub fn list(&self, namespace: Option<&str>) -> Result<String, RulerError> {
        let all = self.groups.lock();
        let mut found = serde_yaml::Mapping::new();
        for (name, groups) in all.iter().filter(|(n, _)| namespace.is_none_or(|w| *n == w)) {
            let groups = groups.values().map(|text| parsed(text)).collect::<Result<_, _>>()?;
            found.insert(name.as_str().into(), serde_yaml::Value::Sequence(groups));
        }
        if found.is_empty() {
            return Err(RulerError::NoGroups);
        }
        printed(&serde_yaml::Value::Mapping(found))
    }

    fn path(&self, namespace: &str, group: &str) -> Result<PathBuf, RulerError> {
        let dir = self.dir.join(encoded("namespace", namespace)?);
        Ok(dir.join(format!("{}.yml", encoded("group", group)?)))
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), RulerError> {
        let dir = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(dir).map_err(io("create directory", dir))?;
        let draft = path.with_extension("tmp");
        let written = fs::File::create(&draft).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(io("write", &draft))?;
        fs::rename(&draft, path).map_err(io("write", path))?;
        sync_dir(dir);
        sync_dir(&self.dir);
        Ok(())
    }
}

/// The list item of a file with one group.
fn body(text: &str) -> &str {
    text.strip_prefix("groups:\n").unwrap_or(text)
}

/// The group of a file that holds one.
fn parsed(text: &str) -> Result<serde_yaml::Value, RulerError> {
    let file: serde_yaml::Value =
        serde_yaml::from_str(text).map_err(|e| RulerError::NotYaml(e.to_string()))?;
    let group = file.get("groups").and_then(|groups| groups.get(0)).cloned();
    group.ok_or(RulerError::NoGroup)
}

fn printed(value: &serde_yaml::Value) -> Result<String, RulerError> {
    serde_yaml::to_string(value).map_err(|e| RulerError::NotYaml(e.to_string()))
}

fn encoded(what: &'static str, name: &str) -> Result<String, RulerError> {
    let wrong = |why| RulerError::Name { what, name: name.to_owned(), why };
    if name.is_empty() {
        return Err(wrong("empty"));
    }
    let encoded = utf8_percent_encode(name, PLAIN).to_string();
    if encoded.len() > NAME_MAX { Err(wrong("too long")) } else { Ok(encoded) }
}

fn decoded(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    percent_decode_str(&stem).decode_utf8_lossy().into_owned()
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, RulerError> {
    let entries = fs::read_dir(dir).map_err(io("list", dir))?;
    let paths = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>();
    paths.map_err(io("list", dir))
}

fn sync_dir(dir: &Path) {
    // A file system that cannot do this has written it in its own way.
    _ = fs::File::open(dir).and_then(|dir| dir.sync_all());
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RulerError {
    let path = path.display().to_string();
    move |e| RulerError::Io { what, path, cause: e.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = "name: a/b\nrules:\n- record: x:y\n  expr: |\n    1 +\n    2\n";

    fn open(dir: &Path) -> RulerStore {
        RulerStore::open(dir.to_owned(), LoadOptions::default()).expect("a store")
    }

    #[test]
    fn groups_are_kept_over_restarts_and_bad_ones_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = open(dir.path());
        assert_eq!(store.list(None), Err(RulerError::NoGroups));
        store.put("../up", GROUP).expect("a good group");
        store.put("../up", "name: second\nrules: [{alert: A, expr: up == 0}]").expect("another");
        for (body, expected) in [
            ("name: x\nrules: [{record: r, expr: 'sum('}]", "invalid rule group: "),
            ("rules: []", "unable to decode rule group: it has no name"),
            ("[", "unable to decode rule group: "),
            ("name: x\nunknown: 1", "invalid rule group: "),
        ] {
            let error = store.put("ns", body).expect_err(body).to_string();
            assert!(error.starts_with(expected), "{body}: {error}");
        }
        drop(store);
        let store = open(dir.path());
        let loaded: Vec<_> = store
            .sources()
            .into_iter()
            .map(|source| match source {
                RuleSource::Fetched { file, source: Ok(text) } => (file, text),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(loaded.len(), 1);
        let file = load_source(&loaded[0].0, &loaded[0].1, &LoadOptions::default());
        assert!(file.is_valid(), "{:?}", file.problems);
        let names: Vec<&str> = file.groups.iter().map(|g| g.name.as_str()).collect();
        assert_eq!((loaded[0].0.as_str(), names), ("ruler/../up", vec!["a/b", "second"]));
        assert!(store.group("../up", "a/b").expect("it is there").contains("x:y"));
        assert_eq!(store.group("../up", "c"), Err(RulerError::NoGroup));
        store.delete("../up", "a/b").expect("it is there");
        assert_eq!(store.delete("../up", "a/b"), Err(RulerError::NoGroup));
        store.delete_namespace("../up").expect("it is there");
        assert_eq!(store.delete_namespace("../up"), Err(RulerError::NoGroups));
        assert!(open(dir.path()).sources().is_empty());
        assert!(!dir.path().parent().expect("a parent").join("up").exists());
    }
}
