//! Count, mean and sum of squared distances from the mean, one value or one set at a time.

/// The moments `(count, mean, m2)` of two sets taken together (Chan's formula).
pub(crate) fn merge_moments(first: (u64, f64, f64), second: (u64, f64, f64)) -> (u64, f64, f64) {
    let ((n1, mean1, m2_1), (n2, mean2, m2_2)) = (first, second);
    if n1 == 0 {
        return second;
    }
    if n2 == 0 {
        return first;
    }
    let count = n1 + n2;
    let (n1, n2, n) = (n1 as f64, n2 as f64, count as f64);
    let apart = mean2 - mean1;
    let mean = mean1 + apart * (n2 / n);
    let m2 = m2_1 + m2_2 + apart * apart * (n1 * n2 / n);
    (count, mean, m2)
}

/// Takes `x` into the moments if `ok` (Welford's formula), without a branch.
#[inline(always)]
pub(super) fn add_to_moments(count: &mut u64, mean: &mut f64, m2: &mut f64, x: f64, ok: bool) {
    *count += u64::from(ok);
    let distance = x - *mean;
    // The quotient is 0/0 for the first, rejected value of a group: select after dividing.
    *mean += if ok { distance / *count as f64 } else { 0.0 };
    *m2 += if ok { distance * (x - *mean) } else { 0.0 };
}
