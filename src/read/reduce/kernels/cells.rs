//! Bodies of the kernels that add a slice to the accumulators of its cells.

use super::accept::Test;
use super::lane::Lane;
use super::moments::add_to_moments;

#[inline(always)]
pub(super) fn add_cells<T: Lane>(acc: &mut [f64], v: &[T], test: impl Test<T>) -> u64 {
    let mut rejected = 0;
    for (acc, &x) in acc.iter_mut().zip(v) {
        let ok = test.test(x);
        *acc += if ok { x.to_f64() } else { 0.0 };
        rejected += u64::from(!ok);
    }
    rejected
}

#[inline(always)]
pub(super) fn add_cells_exact<T: Lane>(acc: &mut [i64], v: &[T], test: impl Test<T>) -> u64 {
    let mut rejected = 0;
    for (acc, &x) in acc.iter_mut().zip(v) {
        let ok = test.test(x);
        *acc = acc.wrapping_add(if ok { x.to_i64() } else { 0 });
        rejected += u64::from(!ok);
    }
    rejected
}

#[inline(always)]
pub(super) fn add_scaled_cells<T: Lane>(
    acc: &mut [f64],
    v: &[T],
    weight: f64,
    test: impl Test<T>,
) -> u64 {
    let mut rejected = 0;
    for (acc, &x) in acc.iter_mut().zip(v) {
        let ok = test.test(x);
        *acc += if ok { x.to_f64() * weight } else { 0.0 };
        rejected += u64::from(!ok);
    }
    rejected
}

#[inline(always)]
pub(super) fn add_weighted_cells<T: Lane>(
    acc: &mut [f64],
    v: &[T],
    w: &[f64],
    test: impl Test<T>,
) -> u64 {
    let mut rejected = 0;
    for ((acc, &x), &w) in acc.iter_mut().zip(v).zip(w) {
        let ok = test.test(x);
        *acc += if ok { x.to_f64() * w } else { 0.0 };
        rejected += u64::from(!ok);
    }
    rejected
}

#[inline(always)]
pub(super) fn count_cells<T: Lane>(counts: &mut [u64], v: &[T], test: impl Test<T>) {
    for (count, &x) in counts.iter_mut().zip(v) {
        *count += u64::from(test.test(x));
    }
}

#[inline(always)]
pub(super) fn reject_cells<T: Lane>(counts: &mut [u64], v: &[T], test: impl Test<T>) {
    for (count, &x) in counts.iter_mut().zip(v) {
        *count += u64::from(!test.test(x));
    }
}

#[inline(always)]
pub(super) fn min_cells<T: Lane>(acc: &mut [T], v: &[T], test: impl Test<T>) {
    for (acc, &x) in acc.iter_mut().zip(v) {
        *acc = acc.lower(if test.test(x) { x } else { T::HIGHEST });
    }
}

#[inline(always)]
pub(super) fn max_cells<T: Lane>(acc: &mut [T], v: &[T], test: impl Test<T>) {
    for (acc, &x) in acc.iter_mut().zip(v) {
        *acc = acc.higher(if test.test(x) { x } else { T::LOWEST });
    }
}

#[inline(always)]
pub(super) fn moments_cells<T: Lane>(
    count: &mut [u64],
    mean: &mut [f64],
    m2: &mut [f64],
    v: &[T],
    test: impl Test<T>,
) {
    for (((count, mean), m2), &x) in count.iter_mut().zip(mean).zip(m2).zip(v) {
        add_to_moments(count, mean, m2, x.to_f64(), test.test(x));
    }
}
