//! Compensated summation as Prometheus does it (Neumaier's variant of Kahan's).

use multiversion::multiversion;

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

/// Values worked on side by side in registers: two of the widest there are.
const LANES: usize = 16;

/// `kahan_inc` of each value with the sum and the compensation at its place, to the bit; all
/// three are of one length.
///
/// The rounding error of an addition is a float, and there are two ways to get at it: from
/// the larger of the two numbers, as Neumaier does, or without asking which one that is
/// (Knuth's two-sum), which takes half the instructions when done for many at once. Both are
/// exact unless something overflows, and then the second gives no finite number.
///
/// Compiled for wider registers too, which are chosen where a machine has them; operations
/// are never fused, so every machine gives the same bits.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn kahan_inc_columns(values: &[f64], sums: &mut [f64], cs: &mut [f64]) {
    let len = values.len().min(sums.len()).min(cs.len());
    let (values, values_rest) = values[..len].as_chunks::<LANES>();
    let (sums, sums_rest) = sums[..len].as_chunks_mut::<LANES>();
    let (cs, cs_rest) = cs[..len].as_chunks_mut::<LANES>();
    for ((values, sums), cs) in values.iter().zip(sums).zip(cs) {
        let (mut totals, mut compensations) = ([0.0; LANES], [0.0; LANES]);
        let mut finite = true;
        for i in 0..LANES {
            let (sum, inc) = (sums[i], values[i]);
            let total = sum + inc;
            let added = total - sum;
            let error = (sum - (total - added)) + (inc - added);
            totals[i] = total;
            compensations[i] = cs[i] + error;
            finite &= compensations[i].abs() < f64::INFINITY;
        }
        if finite {
            (*sums, *cs) = (totals, compensations);
        } else {
            each(values, sums, cs);
        }
    }
    each(values_rest, sums_rest, cs_rest);
}

fn each(values: &[f64], sums: &mut [f64], cs: &mut [f64]) {
    for ((v, sum), c) in values.iter().zip(sums).zip(cs) {
        (*sum, *c) = kahan_inc(*v, *sum, *c);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers of all sizes, and what else a float can be.
    fn number() -> impl Strategy<Value = f64> {
        let special = vec![
            0.0,
            -0.0,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MAX,
            -f64::MAX,
            5e-324,
            -5e-324,
            1e-308,
            f64::MIN_POSITIVE,
            1.797e308,
            9.98e291,
            -9.98e291,
            1e16,
            1.0,
        ];
        let scaled = (-1.0..1.0f64, -1070i32..1023).prop_map(|(m, e)| m * 2f64.powi(e));
        prop_oneof![6 => -1e3..1e3f64, 3 => scaled, 2 => prop::sample::select(special)]
    }

    proptest! {
        #[test]
        fn columns_equal_single_additions_bit_for_bit(
            rows in prop::collection::vec(prop::collection::vec(number(), 19), 1..12),
        ) {
            let (mut sums, mut cs) = (rows[0].clone(), vec![0.0; 19]);
            let (mut expected_sums, mut expected_cs) = (sums.clone(), cs.clone());
            for row in &rows[1..] {
                kahan_inc_columns(row, &mut sums, &mut cs);
                each(row, &mut expected_sums, &mut expected_cs);
                let same = |a: &[f64], b: &[f64]| {
                    let same = |(a, b): (&f64, &f64)| {
                        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
                    };
                    a.iter().zip(b).all(same)
                };
                prop_assert!(same(&sums, &expected_sums), "{sums:?} {expected_sums:?}");
                prop_assert!(same(&cs, &expected_cs), "{cs:?} {expected_cs:?}");
            }
        }
    }

    #[test]
    fn cancellation_keeps_small_terms() {
        let (s, c) =
            [1.0, 1e100, 1.0, -1e100].into_iter().fold((0.0, 0.0), |(s, c), v| kahan_inc(v, s, c));
        assert_eq!(s + c, 2.0);
    }
}
