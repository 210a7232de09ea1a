//! Bodies of the kernels that reduce a slice to one result.
//!
//! The loops are shaped for the compiler's loop vectoriser. Reductions of
//! integers stand as they are, since addition and minimum of integers associate.
//! Sums of `f64` do not associate: a loop computes a block of terms, and
//! [`add_up`] adds them in lanes.

use std::hint::black_box;

use super::accept::Test;
use super::lane::{Lane, Partial};

/// How many terms of a sum are computed before they are added. No tally
/// overflows in a block.
const BLOCK: usize = 128;

/// Sums side by side: two full vectors of `f64` at the highest level, half the
/// registers of the lowest.
const LANES: usize = 16;

#[inline(always)]
pub(super) fn sum<T: Lane>(v: &[T], test: impl Test<T>) -> (f64, u64) {
    let mut sum = 0.0;
    let mut count = 0;
    let mut terms = [zero::<T>(); BLOCK];
    for block in v.chunks(BLOCK) {
        let mut tally: T::Tally = zero();
        for (term, &x) in terms.iter_mut().zip(block) {
            let ok = test.test(x);
            *term = if ok { x } else { zero() };
            tally = tally.plus(T::tally(ok));
        }
        sum += add_up(&mut terms, block.len());
        count += tally.total();
    }
    (sum, count)
}

#[inline(always)]
pub(super) fn dot<T: Lane>(v: &[T], w: &[f64], test: impl Test<T>) -> (f64, u64) {
    let mut sum = 0.0;
    let mut count = 0;
    let mut terms = [0.0; BLOCK];
    for (v, w) in v.chunks(BLOCK).zip(w.chunks(BLOCK)) {
        let mut tally: T::Tally = zero();
        for ((term, &x), &w) in terms.iter_mut().zip(v).zip(w) {
            let ok = test.test(x);
            *term = if ok { x.to_f64() * w } else { 0.0 };
            tally = tally.plus(T::tally(ok));
        }
        sum += add_up(&mut terms, v.len().min(w.len()));
        count += tally.total();
    }
    (sum, count)
}

#[inline(always)]
pub(super) fn squares<T: Lane>(v: &[T], test: impl Test<T>, mean: f64) -> f64 {
    let mut sum = 0.0;
    let mut terms = [0.0; BLOCK];
    for block in v.chunks(BLOCK) {
        for (term, &x) in terms.iter_mut().zip(block) {
            let distance = x.to_f64() - mean;
            *term = if test.test(x) {
                distance * distance
            } else {
                0.0
            };
        }
        sum += add_up(&mut terms, block.len());
    }
    sum
}

#[inline(always)]
pub(super) fn sum_exact<T: Lane>(v: &[T], test: impl Test<T>) -> (i64, u64) {
    let mut sum = 0_i64;
    let mut count = 0;
    for run in v.chunks(T::RUN) {
        let mut whole: T::Whole = zero();
        let mut tally: T::Tally = zero();
        for &x in run {
            let ok = test.test(x);
            whole = whole.plus(if ok { x } else { zero() }.whole());
            tally = tally.plus(T::tally(ok));
        }
        sum = sum.wrapping_add(whole.total());
        count += tally.total();
    }
    (sum, count)
}

#[inline(always)]
pub(super) fn count<T: Lane>(v: &[T], test: impl Test<T>) -> u64 {
    let mut count = 0;
    for run in v.chunks(T::RUN) {
        let mut tally: T::Tally = zero();
        for &x in run {
            tally = tally.plus(T::tally(test.test(x)));
        }
        count += tally.total();
    }
    count
}

#[inline(always)]
pub(super) fn extremes<T: Lane>(v: &[T], test: impl Test<T>) -> (T, T) {
    // Hidden from the compiler: where it knows that no number is beyond, it
    // makes each step a choice of accumulators, which does not vectorise.
    let (lowest, highest) = black_box((T::LOWEST.key(), T::HIGHEST.key()));
    let (mut low, mut high) = (highest, lowest);
    for &x in v {
        // NaN has a key like any other number, so it is left out here.
        let ok = test.test(x) & (x >= T::LOWEST);
        let key = x.key();
        low = low.min(if ok { key } else { highest });
        high = high.max(if ok { key } else { lowest });
    }
    (T::from_key(low), T::from_key(high))
}

/// The sum of the first `used` terms; may overwrite a few behind them.
#[inline(always)]
fn add_up<T: Lane>(terms: &mut [T; BLOCK], used: usize) -> f64 {
    for term in terms.iter_mut().skip(used).take(LANES) {
        *term = zero();
    }
    let mut lanes = [0.0; LANES];
    let (chunks, _) = terms.as_chunks::<LANES>();
    for chunk in chunks.iter().take(used.div_ceil(LANES)) {
        for (lane, &term) in lanes.iter_mut().zip(chunk) {
            *lane += term.to_f64();
        }
    }
    lanes.iter().sum()
}

#[inline(always)]
fn zero<T: bytemuck::Pod>() -> T {
    T::zeroed()
}
