//! Stack for what descends a syntax tree: planning, evaluation, JSON. That takes some
//! kilobytes a level, and the limit on nesting allows more levels than fit into a thread of
//! two megabytes.

use std::io;

use super::Expr;

/// Levels that any thread's stack can take.
const SHALLOW_MAX: usize = 40;
/// Stack for [`super::NESTING_MAX`] levels, in bytes. Only what is used is ever backed.
pub(super) const DEEP_STACK: usize = 64 << 20;

impl Expr {
    /// True when the tree is too deep for the stack of just any thread.
    pub fn is_deep(&self) -> bool {
        let mut level: Vec<&Expr> = vec![self];
        for _ in 0..SHALLOW_MAX {
            level = level.into_iter().flat_map(Expr::children).collect();
            if level.is_empty() {
                return false;
            }
        }
        true
    }
}

/// Does something that descends a tree: here, or for the rare deep tree on a thread of its
/// own. Fails when no thread can be started.
pub fn with_stack<T: Send>(deep: bool, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    if !deep {
        return Ok(work());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(DEEP_STACK);
        let done = thread.spawn_scoped(scope, work)?.join();
        Ok(done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
