//! Counts work in tests: the types everything is made of say here how much of them is
//! touched, so that a test can tell how much is done between two points of a program.
//! Outside of tests nothing is counted and nothing is left of the calls.

/// Notes work: slots of a block, pairs of a label set, samples. Each is some nanoseconds.
#[inline(always)]
pub(crate) fn effort(units: usize) {
    #[cfg(test)]
    counted::add(units);
    #[cfg(not(test))]
    let _ = units;
}

/// Notes that so many slots were made and cleared, which takes less than a nanosecond each
/// when the memory is at hand and several when the system has to find it first.
#[inline(always)]
pub(crate) fn clearing(slots: usize) {
    effort(slots / 8);
}

#[cfg(test)]
pub(crate) mod counted {
    use std::cell::Cell;

    thread_local! {
        static SINCE: Cell<usize> = const { Cell::new(0) };
        static LONGEST: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn add(units: usize) {
        SINCE.set(SINCE.get() + units);
        LONGEST.set(LONGEST.get().max(SINCE.get()));
    }

    /// A look at the interrupt: the next stretch of work begins.
    pub(crate) fn looked() {
        SINCE.set(0);
    }

    /// The work of the longest stretch on this thread since the last call.
    pub(crate) fn longest() -> usize {
        SINCE.set(0);
        LONGEST.take()
    }
}
