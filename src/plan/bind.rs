//! Puts a plan on a grid: every `@`, offset, range and subquery step becomes a number of
//! milliseconds, and the selectors become requests to the source.

use super::Plan;
use super::node::{Hints, Node, RangeSource, Select, Subquery};
use crate::model::time::gcd;
use crate::model::{Matcher, StepGrid, TimestampMs};
use crate::parser::ast::{
    AtModifier, DurationExpr, DurationKind, DurationOp, RangeExtension, UnaryOp,
};

/// What binding needs beside the grid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BindOptions {
    pub lookback_ms: i64,
    /// Step of subqueries that name none.
    pub default_step_ms: i64,
    /// End of the query as asked for, which may lie beyond the last step: what `@ end()`
    /// and `end()` mean.
    pub end_ms: TimestampMs,
}

/// A plan's times. Indexed by the numbers of selectors and subqueries.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub grid: StepGrid,
    pub end_ms: TimestampMs,
    pub lookback_ms: i64,
    pub selects: Vec<BoundSelect>,
    /// The grid each subquery's input is evaluated on, and its range.
    pub subqueries: Vec<BoundSubquery>,
    /// What to fetch, each distinct need once.
    pub requests: Vec<Request>,
    /// Where samples are counted; the first is the query itself.
    pub scopes: Vec<StatsScope>,
}

/// A part of the plan with a grid of its own, as far as the statistics are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatsScope {
    pub grid: StepGrid,
    /// The scope around it.
    pub parent: usize,
    pub within: Within,
}

/// What makes a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    Query,
    /// Evaluated at the first step of the scope around it.
    Once,
    /// The input of a subquery; `bare` when the query is nothing else.
    Subquery {
        bare: bool,
    },
}

/// What selectors need from storage, and what the source may be told about its use.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub matchers: Vec<Matcher>,
    /// Closed interval.
    pub from_ms: TimestampMs,
    pub to_ms: TimestampMs,
    /// 0 for an instant.
    pub step_ms: i64,
    /// 0 for an instant selector.
    pub range_ms: i64,
    pub hints: Hints,
}

/// The times of one selector.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BoundSelect {
    /// Overrides the time of every step.
    pub at_ms: Option<TimestampMs>,
    pub offset_ms: i64,
    /// Length of the windows; 0 for an instant selector.
    pub range_ms: i64,
    /// First and last time a sample may have; empty when `from > to`.
    pub from_ms: TimestampMs,
    pub to_ms: TimestampMs,
    /// Index into `requests`.
    pub request: usize,
    /// Index into `scopes`.
    pub scope: usize,
}

impl BoundSelect {
    /// Where the selector looks at a step: `@` instead of the step, less the offset.
    #[inline]
    pub(crate) fn reference_ms(&self, step_ms: TimestampMs) -> TimestampMs {
        self.at_ms.unwrap_or(step_ms).saturating_sub(self.offset_ms)
    }
}

/// The times of one subquery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoundSubquery {
    pub grid: StepGrid,
    pub at_ms: Option<TimestampMs>,
    pub offset_ms: i64,
    pub range_ms: i64,
    /// Where its windows are counted: index into `scopes`.
    pub scope: usize,
}

impl Binding {
    /// By what times a binding to one step may be [moved](Self::move_by) so that it is the
    /// one of another step: multiples of the result. `None` when it has to be made anew:
    /// times are pinned, or lie where they wrap or change their sign.
    pub(crate) fn period_ms(&self) -> Option<i64> {
        let far = |ms: i64| ms.unsigned_abs() >= 1 << 50;
        let selects = self.selects.iter().map(|s| (s.at_ms, [s.from_ms, s.to_ms, s.offset_ms]));
        let grids = self.subqueries.iter().map(|s| (s.at_ms, [s.grid.start_ms, 0, s.offset_ms]));
        if !self.grid.is_instant()
            || far(self.grid.start_ms)
            || selects.chain(grids).any(|(at, all)| at.is_some() || all.into_iter().any(far))
        {
            return None;
        }
        // Steps of subqueries are multiples of their step since the epoch.
        self.subqueries.iter().try_fold(1, |period: i64, sub| {
            let step = sub.grid.step_ms;
            let period = (period / gcd(period, step)).checked_mul(step)?;
            (period < 1 << 50 && sub.grid.start_ms > step).then_some(period)
        })
    }

    /// Makes every time later by so much: a multiple of [`Self::period_ms`]. False when it
    /// would lead to where that does not hold; the binding is of no use then.
    pub(crate) fn move_by(&mut self, ms: i64) -> bool {
        self.grid.start_ms += ms;
        self.end_ms += ms;
        for select in &mut self.selects {
            select.from_ms += ms;
            select.to_ms += ms;
        }
        self.subqueries.iter_mut().for_each(|sub| sub.grid.start_ms += ms);
        self.scopes.iter_mut().for_each(|scope| scope.grid.start_ms += ms);
        self.period_ms().is_some()
    }

    /// The nodes a node reads, each with the grid it is evaluated on.
    pub(crate) fn inputs<'p>(&self, node: &'p Node, grid: StepGrid) -> Vec<(&'p Node, StepGrid)> {
        let inner = match node {
            Node::StepInvariant(_) => first_step(grid),
            _ => grid,
        };
        let mut inputs: Vec<_> = node.children().into_iter().map(|child| (child, inner)).collect();
        if let Some(RangeSource::Subquery(sub)) = node.range_source() {
            // The input of a subquery comes first among the children.
            inputs[0].1 = self.subqueries[sub.id].grid;
        }
        inputs
    }
}

impl Plan {
    /// Binds to a grid; fails when a computed duration comes out senseless. The text is the
    /// query's error.
    pub(crate) fn bind(&self, grid: StepGrid, options: BindOptions) -> Result<Binding, String> {
        let none = BoundSubquery { grid, at_ms: None, offset_ms: 0, range_ms: 0, scope: 0 };
        let mut binding = Binding {
            grid,
            end_ms: options.end_ms,
            lookback_ms: options.lookback_ms,
            selects: vec![BoundSelect::default(); self.selects],
            subqueries: vec![none; self.subqueries],
            requests: vec![],
            scopes: vec![StatsScope { grid, parent: 0, within: Within::Query }],
        };
        let mut binder = Binder { options, top: grid, binding: &mut binding };
        binder.node(&self.root, 0)?;
        Ok(binding)
    }
}

struct Binder<'a> {
    options: BindOptions,
    top: StepGrid,
    binding: &'a mut Binding,
}

impl Binder<'_> {
    /// Binds a node that stands in scope number `scope`.
    fn node(&mut self, node: &Node, scope: usize) -> Result<(), String> {
        let grid = self.binding.scopes[scope].grid;
        for select in node.own_selects() {
            self.select(select, grid, scope)?;
        }
        let mut inner = scope;
        match node {
            Node::StepInvariant(_) => inner = self.scope(first_step(grid), scope, Within::Once),
            _ => {
                if let Some(RangeSource::Subquery(sub)) = node.range_source() {
                    let sub_grid = self.subquery(sub, grid, scope)?;
                    let bare = matches!(node, Node::RangeResult(_));
                    let below = self.scope(sub_grid, scope, Within::Subquery { bare });
                    self.node(&sub.input, below)?;
                }
            }
        }
        let skip = usize::from(matches!(node.range_source(), Some(RangeSource::Subquery(_))));
        for child in node.children().into_iter().skip(skip) {
            self.node(child, inner)?;
        }
        Ok(())
    }

    /// The number of a new scope.
    fn scope(&mut self, grid: StepGrid, parent: usize, within: Within) -> usize {
        self.binding.scopes.push(StatsScope { grid, parent, within });
        self.binding.scopes.len() - 1
    }

    fn at(&self, at: Option<AtModifier>) -> Option<TimestampMs> {
        at.map(|at| match at {
            AtModifier::Timestamp(ms) => ms,
            AtModifier::Start => self.top.start_ms,
            AtModifier::End => self.options.end_ms,
        })
    }

    fn offset(&self, offset: &Option<DurationExpr>) -> Result<i64, String> {
        offset.as_ref().map_or(Ok(0), |d| self.duration_ms(d, false))
    }

    fn duration_ms(&self, duration: &DurationExpr, positive: bool) -> Result<i64, String> {
        let times = QueryTimes {
            step: if self.top.is_instant() { 0.0 } else { self.top.step_ms as f64 / 1000.0 },
            range: self.options.end_ms.saturating_sub(self.top.start_ms) as f64 / 1000.0,
        };
        duration_ms(duration, times, positive)
    }

    fn subquery(
        &mut self,
        sub: &Subquery,
        outer: StepGrid,
        scope: usize,
    ) -> Result<StepGrid, String> {
        let at_ms = self.at(sub.at);
        let offset_ms = self.offset(&sub.offset)?;
        let range_ms = self.duration_ms(&sub.range, true)?;
        let step_ms = match &sub.step {
            Some(step) => self.duration_ms(step, true)?,
            None => self.options.default_step_ms,
        };
        let step_ms = step_ms.max(1);
        let first = at_ms.unwrap_or(outer.start_ms).saturating_sub(offset_ms);
        let last = at_ms.unwrap_or(outer.end_ms()).saturating_sub(offset_ms);
        // Steps are multiples of the step since the epoch; the window is open at its start.
        let open_start = first.saturating_sub(range_ms);
        let mut start = step_ms * (open_start / step_ms);
        if start <= open_start {
            start += step_ms;
        }
        let grid = if outer.len == 0 {
            StepGrid { start_ms: start, step_ms, len: 0 }
        } else {
            StepGrid::range(start, last, step_ms)
                .ok_or_else(|| "subquery has too many steps: use a larger step".to_owned())?
        };
        self.binding.subqueries[sub.id] = BoundSubquery { grid, at_ms, offset_ms, range_ms, scope };
        Ok(grid)
    }

    fn select(&mut self, select: &Select, grid: StepGrid, scope: usize) -> Result<(), String> {
        let at_ms = self.at(select.at);
        let offset_ms = self.offset(&select.offset)?;
        let range_ms = match &select.range {
            Some(range) => self.duration_ms(range, true)?,
            None => 0,
        };
        let lookback_ms = self.options.lookback_ms;
        let first = at_ms.unwrap_or(grid.start_ms).saturating_sub(offset_ms);
        let last = at_ms.unwrap_or(grid.end_ms()).saturating_sub(offset_ms);
        let width = if select.range.is_some() { range_ms } else { lookback_ms };
        let (before, after) = match select.extension {
            Some(RangeExtension::Anchored) if select.range.is_some() => (lookback_ms, 0),
            Some(RangeExtension::Smoothed) if select.range.is_some() => (lookback_ms, lookback_ms),
            Some(RangeExtension::Smoothed) => (0, lookback_ms),
            _ => (0, 0),
        };
        let from_ms = first.saturating_sub(width).saturating_sub(before).saturating_add(1);
        let to_ms = last.saturating_add(after);
        let request = Request {
            matchers: select.matchers.clone(),
            from_ms,
            to_ms: if grid.len == 0 { from_ms.saturating_sub(1) } else { to_ms },
            step_ms: if grid.is_instant() { 0 } else { grid.step_ms },
            range_ms,
            hints: select.hints.clone(),
        };
        let request = share(&mut self.binding.requests, request);
        self.binding.selects[select.id] =
            BoundSelect { at_ms, offset_ms, range_ms, from_ms, to_ms, request, scope };
        Ok(())
    }
}

/// The number of the request that serves a need: one of those that are there, widened, when
/// it asks for the same series and overlaps in time; else a new one.
fn share(requests: &mut Vec<Request>, new: Request) -> usize {
    let shared = requests.iter_mut().enumerate().find(|(_, r)| {
        r.matchers == new.matchers
            && new.from_ms <= r.to_ms.saturating_add(1)
            && r.from_ms <= new.to_ms.saturating_add(1)
    });
    let Some((i, request)) = shared else {
        requests.push(new);
        return requests.len() - 1;
    };
    request.from_ms = request.from_ms.min(new.from_ms);
    request.to_ms = request.to_ms.max(new.to_ms);
    if (request.range_ms, &request.hints) != (new.range_ms, &new.hints) {
        // Two uses of the samples: a source must leave nothing out for the sake of either.
        request.range_ms = request.range_ms.max(new.range_ms);
        request.hints = Hints::default();
    }
    i
}

/// The grid of a step-invariant subtree.
pub(crate) fn first_step(grid: StepGrid) -> StepGrid {
    StepGrid { len: grid.len.min(1), ..grid }
}

/// `step()` and `range()` in seconds.
#[derive(Clone, Copy)]
struct QueryTimes {
    step: f64,
    range: f64,
}

/// A duration in ms. `positive` refuses what a range or a step cannot be.
fn duration_ms(duration: &DurationExpr, times: QueryTimes, positive: bool) -> Result<i64, String> {
    let seconds = match &duration.kind {
        DurationKind::Number(n) => n.value,
        _ => seconds(duration, times)?,
    };
    let fail = |what: &str| Err(at_span(duration, what));
    if !seconds.is_finite() {
        return fail("duration is NaN or infinite");
    }
    if positive && seconds <= 0.0 {
        return fail("duration must be greater than 0");
    }
    // What Go's time.Duration, nanoseconds in an i64, cannot hold.
    if seconds.abs() >= i64::MAX as f64 / 1e9 {
        return fail("duration is out of range");
    }
    Ok(match &duration.kind {
        // A literal is rounded to nanoseconds first, so 0.3 s is 300 ms.
        DurationKind::Number(_) => ((seconds * 1e9).round() / 1e6) as i64,
        _ => (seconds * 1000.0) as i64,
    })
}

fn at_span(duration: &DurationExpr, what: &str) -> String {
    format!("{}:{}: {what}", duration.span.start, duration.span.end)
}

fn seconds(duration: &DurationExpr, times: QueryTimes) -> Result<f64, String> {
    Ok(match &duration.kind {
        DurationKind::Number(n) => n.value,
        DurationKind::Step => times.step,
        DurationKind::Range => times.range,
        DurationKind::Paren(inner) => seconds(inner, times)?,
        DurationKind::Unary { op: UnaryOp::Plus, expr } => seconds(expr, times)?,
        DurationKind::Unary { op: UnaryOp::Minus, expr } => -seconds(expr, times)?,
        DurationKind::MinOf(a, b) => seconds(a, times)?.min(seconds(b, times)?),
        DurationKind::MaxOf(a, b) => seconds(a, times)?.max(seconds(b, times)?),
        DurationKind::Binary { op, lhs, rhs } => {
            let (l, r) = (seconds(lhs, times)?, seconds(rhs, times)?);
            match op {
                DurationOp::Add => l + r,
                DurationOp::Sub => l - r,
                DurationOp::Mul => l * r,
                DurationOp::Div if r == 0.0 => return Err(at_span(duration, "division by zero")),
                DurationOp::Div => l / r,
                DurationOp::Mod if r == 0.0 => return Err(at_span(duration, "modulo by zero")),
                DurationOp::Mod => l % r,
                DurationOp::Pow => l.powf(r),
            }
        }
    })
}
