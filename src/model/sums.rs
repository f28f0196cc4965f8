//! Compensated summation as Prometheus does it (Neumaier's variant of Kahan's).

/// Adds `inc` to the running `(sum, compensation)`. An infinite sum forgets its compensation.
#[inline]
pub fn kahan_inc(inc: f64, sum: f64, c: f64) -> (f64, f64) {
    let t = sum + inc;
    let c = if t.is_infinite() {
        0.0
    } else if sum.abs() >= inc.abs() {
        c + ((sum - t) + inc)
    } else {
        c + ((inc - t) + sum)
    };
    (t, c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancellation_keeps_small_terms() {
        let (s, c) =
            [1.0, 1e100, 1.0, -1e100].into_iter().fold((0.0, 0.0), |(s, c), v| kahan_inc(v, s, c));
        assert_eq!(s + c, 2.0);
    }
}
