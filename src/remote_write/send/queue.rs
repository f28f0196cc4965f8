//! What one shard is to send next. Bounded: whoever fills it waits.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::batch::Item;
use super::log::Position;

struct State {
    items: VecDeque<Item>,
    /// Taken and not finished.
    under_way: usize,
    /// Everything of this shard before it is done.
    done: Position,
    /// The first batch ends here: it was under way before.
    boundary: Option<Position>,
    /// Everything before it has been put in.
    filled: Position,
}

/// See the module. One task fills, one takes.
pub(super) struct Queue {
    capacity: usize,
    state: Mutex<State>,
    arrived: Notify,
    space: Notify,
}

impl Queue {
    pub fn new(capacity: usize, from: Position, boundary: Option<Position>) -> Self {
        let items = VecDeque::new();
        let state = State { items, under_way: 0, done: from, boundary, filled: from };
        Self { capacity, state: Mutex::new(state), arrived: Notify::new(), space: Notify::new() }
    }

    /// Puts items in, waiting for room; `full` is called each time there is none.
    pub async fn push(&self, items: Vec<Item>, mut full: impl FnMut()) {
        let mut items = items.into_iter().peekable();
        loop {
            {
                let mut state = self.state.lock();
                let room = self.capacity.saturating_sub(state.items.len());
                state.items.extend(items.by_ref().take(room));
            }
            self.arrived.notify_one();
            if items.peek().is_none() {
                return;
            }
            full();
            self.space.notified().await;
        }
    }

    /// Notes that everything before a place has been put in.
    pub fn filled(&self, upto: Position) {
        let mut state = self.state.lock();
        state.filled = upto;
        if state.items.is_empty() && state.under_way == 0 {
            state.done = state.done.max(upto);
        }
        if state.boundary.is_some() {
            self.arrived.notify_one();
        }
    }

    /// The next batch: `max` items or all there is room for, or what there is when the first of them has waited for
    /// the deadline or nobody wants to wait any more (`flush`). `None` once halted, or when
    /// there is nothing left and nobody waits.
    pub async fn take(
        &self,
        max: usize,
        deadline: Duration,
        flush: &CancellationToken,
        halt: &CancellationToken,
    ) -> Option<(Vec<Item>, bool)> {
        let mut waited = false;
        loop {
            let is_empty = {
                let mut state = self.state.lock();
                if halt.is_cancelled() {
                    return None;
                }
                let hurry = waited || flush.is_cancelled();
                if let Some(batch) = state.batch(max, self.capacity, hurry) {
                    drop(state);
                    self.space.notify_one();
                    return Some(batch);
                }
                state.items.is_empty()
            };
            if is_empty {
                waited = false;
                tokio::select! {
                    () = self.arrived.notified() => {}
                    () = halt.cancelled() => {}
                }
            } else {
                let enough = self.has(max.min(self.capacity));
                tokio::select! {
                    () = enough => {}
                    () = tokio::time::sleep(deadline) => waited = true,
                    () = flush.cancelled() => waited = true,
                    () = halt.cancelled() => {}
                }
            }
        }
    }

    /// Completes when there are that many items, or the batch that was interrupted is whole.
    async fn has(&self, count: usize) {
        loop {
            self.arrived.notified().await;
            let state = self.state.lock();
            if state.items.len() >= count || state.boundary.is_some() {
                return;
            }
        }
    }

    /// Notes that the batch that was taken is finished, which ended before a place. One that
    /// is not sent is never finished: the queue stays where it was before it.
    pub fn finished(&self, upto: Position) {
        let mut state = self.state.lock();
        state.under_way = 0;
        state.done = state.done.max(upto);
    }

    /// Where everything before is done, and whether nothing waits.
    pub fn done(&self) -> (Position, bool) {
        let mut state = self.state.lock();
        let is_idle = state.items.is_empty() && state.under_way == 0;
        if is_idle {
            state.done = state.done.max(state.filled);
        }
        (state.done, is_idle)
    }
}

impl State {
    /// A batch and whether it was under way before.
    fn batch(&mut self, max: usize, capacity: usize, hurry: bool) -> Option<(Vec<Item>, bool)> {
        if let Some(boundary) = self.boundary {
            let whole = self.filled >= boundary
                || self.items.back().is_some_and(|item| item.at >= boundary)
                || self.items.len() >= capacity;
            if !whole {
                return None;
            }
            self.boundary = None;
            let count = self.items.partition_point(|item| item.at < boundary);
            if count > 0 {
                return Some((self.drain(count), true));
            }
        }
        let count = self.items.len().min(max);
        // A queue that holds less than a batch will never hold more.
        let is_full = self.items.len() >= max.min(capacity);
        (is_full || count > 0 && hurry).then(|| (self.drain(count), false))
    }

    fn drain(&mut self, count: usize) -> Vec<Item> {
        self.under_way = count;
        self.items.drain(..count).collect()
    }
}
