//! What a target last said about its metric families.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::parse::Entry;
use crate::model::metadata::{Metadata, MetricType};
use crate::storage::Appender;

/// A family is forgotten after this many scrapes without it.
const SCRAPES_KEPT: u64 = 10;
/// Most families remembered of one target; further ones are left out.
const FAMILIES_MAX: usize = 100_000;

/// Metadata of one target's families. Written by its loop, read by the API.
#[derive(Debug, Default)]
pub(super) struct FamilyMetadata {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    scrape: u64,
    families: BTreeMap<Box<str>, Family>,
}

#[derive(Debug)]
struct Family {
    metadata: Metadata,
    seen: u64,
}

impl FamilyMetadata {
    /// Starts a scrape.
    pub fn begin(&self) {
        self.state.lock().scrape += 1;
    }

    /// Takes one entry of a body; hands news on to storage.
    pub fn note(&self, entry: &Entry<'_>, appender: &mut dyn Appender) {
        let family = match entry {
            Entry::Help { family, .. }
            | Entry::Type { family, .. }
            | Entry::Unit { family, .. } => &**family,
            _ => return,
        };
        let mut state = self.state.lock();
        let scrape = state.scrape;
        if !state.families.contains_key(family) {
            if state.families.len() >= FAMILIES_MAX {
                return;
            }
            let empty: Arc<str> = Arc::from("");
            let metadata = Metadata { kind: MetricType::Unknown, unit: empty.clone(), help: empty };
            state.families.insert(family.into(), Family { metadata, seen: scrape });
        }
        let Some(known) = state.families.get_mut(family) else { return };
        known.seen = scrape;
        let metadata = &mut known.metadata;
        let changed = match entry {
            Entry::Help { text, .. } if *metadata.help != **text => {
                metadata.help = Arc::from(&**text);
                true
            }
            Entry::Type { kind, .. } if metadata.kind != *kind => {
                metadata.kind = *kind;
                true
            }
            Entry::Unit { unit, .. } if *metadata.unit != **unit => {
                metadata.unit = Arc::from(&**unit);
                true
            }
            _ => false,
        };
        if changed {
            appender.append_metadata(family, metadata);
        }
    }

    /// Ends a scrape that went well: forgets what was long not heard of.
    pub fn end(&self) {
        let mut state = self.state.lock();
        let oldest = state.scrape.saturating_sub(SCRAPES_KEPT);
        state.families.retain(|_, family| family.seen >= oldest);
    }

    /// All families, by name.
    pub fn all(&self) -> Vec<(String, Metadata)> {
        let state = self.state.lock();
        state.families.iter().map(|(name, f)| (name.to_string(), f.metadata.clone())).collect()
    }
}
