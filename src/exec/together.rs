//! Several plans evaluated as one: what they have in common is evaluated first, once; then
//! each of them, reading it. Each ends as it would alone, and none sees another's failure.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rayon::prelude::*;

use super::cx::{Cx, ExecOptions, Interrupt, Result as ExecResult};
use super::found::Found;
use super::memo::Memo;
use super::shared::Shared;
use crate::plan::common::{Common, Commons, node_at};
use crate::plan::{Binding, Plan};

/// One of the plans.
pub(crate) struct Member {
    pub plan: Arc<Plan>,
    pub binding: Arc<Binding>,
    /// For each request of the binding, its number among those of all members.
    pub requests: Vec<u32>,
    /// The settings it would have alone.
    pub options: ExecOptions,
}

/// All of them, with what they read.
pub(crate) struct Together {
    pub members: Vec<Member>,
    /// What the members have in common.
    pub commons: Commons,
    /// What these very plans have worked out before, if they come again.
    pub memo: Option<Arc<Memo>>,
    pub found: Vec<Arc<Found>>,
    /// The closed intervals the series were asked for.
    pub intervals: Vec<(i64, i64)>,
    /// For each request one of the same series over a longer interval around its own, if
    /// there is any.
    pub around: Vec<Option<u32>>,
    /// Members, and what they share, may be evaluated at the same time.
    pub parallel: bool,
    /// Bytes that shared results and samples may take.
    pub max_shared_bytes: u64,
}

/// Evaluates all members: `run` gets each with its number and gives its result; the error
/// is the text of a panic. `begin` gives what stops the part about to be evaluated, a
/// member or something they share, and `now_ns` is a clock that only goes forward.
pub(crate) fn together<T: Send>(
    all: &Together,
    now_ns: &(dyn Fn() -> u64 + Sync),
    begin: &(dyn Fn() -> Interrupt + Sync),
    run: &(dyn Fn(usize, ExecResult<Cx>) -> T + Sync),
) -> Vec<Result<T, String>> {
    let Commons { all: common, by_node, selectors } = &all.commons;
    let room = Arc::new(AtomicU64::new(all.max_shared_bytes));
    let found = decoded_once(all, selectors, &room);
    let shared = Arc::new(Shared::new(by_node.clone(), common.iter().map(|c| c.readers), room));
    let series_of = |member: &Member| -> Vec<Arc<Found>> {
        member.requests.iter().map(|r| found[*r as usize].clone()).collect()
    };
    let parallel = all.parallel;
    let record = |number: usize, part: &Common| {
        let member = &all.members[part.member];
        let started = now_ns();
        // Only samples are limited here: each reader answers for its series itself.
        let (binding, series) = (member.binding.clone(), series_of(member));
        let mut cx = Cx::with_series_bytes(binding, series, member.options, begin(), 0);
        cx.shared = Some(shared.clone());
        cx.memo = all.memo.clone();
        let elapsed = || now_ns().saturating_sub(started);
        let node = node_at(&member.plan.root, &part.path);
        let record = || shared.record(number as u32, &cx, node, part.grid, elapsed);
        // Whoever reads it meets what went wrong itself.
        let _ = catch_unwind(AssertUnwindSafe(record));
    };
    let deepest = common.iter().map(|c| c.depth).max().unwrap_or(0);
    for depth in 0..=deepest {
        let level: Vec<(usize, &Common)> =
            common.iter().enumerate().filter(|(_, c)| c.depth == depth).collect();
        each(parallel, level, |(number, part)| record(number, part));
    }
    let members: Vec<(usize, &Member)> = all.members.iter().enumerate().collect();
    each(parallel, members, |(number, member)| {
        let cx = Cx::new(member.binding.clone(), series_of(member), member.options, begin());
        let run = || {
            let cx = cx.map(|mut cx| {
                cx.shared = Some(shared.clone());
                cx.memo = all.memo.clone();
                cx
            });
            run(number, cx)
        };
        catch_unwind(AssertUnwindSafe(run)).map_err(|panic| panic_text(&*panic))
    })
}

/// What was found, where several selectors read the same samples so that those are decoded
/// once: over the longest interval they are asked for.
fn decoded_once(all: &Together, selectors: &[u32], room: &Arc<AtomicU64>) -> Vec<Arc<Found>> {
    let mut readers = selectors.to_vec();
    for (around, selectors) in all.around.iter().zip(selectors) {
        if let Some(around) = around {
            readers[*around as usize] += selectors;
        }
    }
    let mut found = all.found.clone();
    let shorter = |request: &usize| all.around[*request].is_some();
    // Longer intervals first: shorter ones read them.
    let (short, long): (Vec<usize>, Vec<usize>) = (0..found.len()).partition(shorter);
    for request in long.into_iter().chain(short) {
        if readers[request] < 2 && all.around[request].is_none() {
            continue;
        }
        let (from_ms, to_ms) = all.intervals[request];
        let around = all.around[request].map(|around| found[around as usize].clone());
        found[request] = match around {
            Some(around) => all.found[request].read_through(&around),
            None => all.found[request].decoded_once(from_ms, to_ms, room),
        };
    }
    found
}

/// Maps in order, in parallel where allowed.
fn each<I: Send, T: Send>(
    parallel: bool,
    items: Vec<I>,
    f: impl Fn(I) -> T + Sync + Send,
) -> Vec<T> {
    if parallel && items.len() > 1 {
        items.into_par_iter().map(f).collect()
    } else {
        items.into_iter().map(f).collect()
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
