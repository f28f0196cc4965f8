//! What has been made of a text and is still in use, or was a moment ago, so that it need
//! not be made again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;

/// Entries up to which nobody looks for those that are out of use.
const SWEEP_MIN: usize = 64;

/// How many that were made last are kept: rules that are checked one by one are dropped one
/// by one, and neighbours use the same expressions.
const RECENT: usize = 16;

/// By text. Holds nothing else alive; what is out of use leaves when the entries have
/// doubled.
pub(super) struct Known<T>(LazyLock<Mutex<Entries<T>>>);

struct Entries<T> {
    by_text: HashMap<Box<str>, Weak<T>>,
    sweep_at: usize,
    recent: VecDeque<Arc<T>>,
}

impl<T> Known<T> {
    pub(super) const fn new() -> Self {
        let none = || {
            let (by_text, recent) = (HashMap::new(), VecDeque::new());
            Mutex::new(Entries { by_text, sweep_at: SWEEP_MIN, recent })
        };
        Self(LazyLock::new(none))
    }

    /// What is in use for the text, or what `make` makes; two at once may both make it.
    pub(super) fn get_or_make<E>(
        &self,
        text: &str,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        if let Some(known) = self.0.lock().by_text.get(text).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let made = Arc::new(make()?);
        let mut entries = self.0.lock();
        if entries.by_text.len() >= entries.sweep_at {
            entries.by_text.retain(|_, made| made.strong_count() > 0);
            entries.sweep_at = SWEEP_MIN.max(2 * entries.by_text.len());
        }
        entries.by_text.insert(text.into(), Arc::downgrade(&made));
        entries.recent.truncate(RECENT - 1);
        entries.recent.push_front(made.clone());
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_is_shared_and_the_rest_forgotten() {
        let known: Known<String> = Known::new();
        let make = |text: &str| known.get_or_make(text, || Ok::<_, ()>(text.to_owned())).unwrap();
        let kept = make("kept");
        for i in 0..10 * SWEEP_MIN {
            make(&i.to_string());
        }
        assert!(Arc::ptr_eq(&kept, &make("kept")));
        assert!(known.0.lock().by_text.len() <= SWEEP_MIN + RECENT + 1);
        assert_eq!(known.get_or_make("bad", || Err(7)).unwrap_err(), 7);
        assert!(known.get_or_make("kept", || Err(7)).is_ok(), "nothing is made twice");
    }
}
