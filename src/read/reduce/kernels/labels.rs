//! Kernels that add a slice to the groups that labels give to its cells.
//!
//! A label beyond the accumulators belongs to no group, `u32::MAX` by custom.
//! These scatter one value at a time: callers use them where runs of equal
//! labels are too short for the row kernels.

use super::accept::{Accept, Test, with_test};
use super::lane::Lane;
use super::moments::add_to_moments;

/// Adds each accepted value to its group's sum.
pub(crate) fn add_labels<T: Lane>(acc: &mut [f64], labels: &[u32], v: &[T], accept: Accept<T>) {
    scatter(acc, labels, v, accept, |acc, x| *acc += x.to_f64());
}

/// Adds each accepted value to its group's sum, modulo 2⁶⁴.
pub(crate) fn add_labels_exact<T: Lane>(
    acc: &mut [i64],
    labels: &[u32],
    v: &[T],
    accept: Accept<T>,
) {
    scatter(acc, labels, v, accept, |acc, x| {
        *acc = acc.wrapping_add(x.to_i64());
    });
}

/// Adds each accepted value times its weight to its group's sum.
pub(crate) fn add_weighted_labels<T: Lane>(
    acc: &mut [f64],
    labels: &[u32],
    v: &[T],
    w: &[f64],
    accept: Accept<T>,
) {
    with_test!(accept, test => {
        for ((&label, &x), &w) in labels.iter().zip(v).zip(w) {
            if test.test(x) && let Some(acc) = group(acc, label) {
                *acc += x.to_f64() * w;
            }
        }
    });
}

/// Counts the accepted values of each group.
pub(crate) fn count_labels<T: Lane>(
    counts: &mut [u64],
    labels: &[u32],
    v: &[T],
    accept: Accept<T>,
) {
    scatter(counts, labels, v, accept, |count, _| *count += 1);
}

/// Counts the rejected values of each group.
pub(crate) fn reject_labels<T: Lane>(
    counts: &mut [u64],
    labels: &[u32],
    v: &[T],
    accept: Accept<T>,
) {
    with_test!(accept, test => {
        for (&label, &x) in labels.iter().zip(v) {
            if !test.test(x) && let Some(count) = group(counts, label) {
                *count += 1;
            }
        }
    });
}

/// Lowers each group's minimum to its accepted values; NaN is ignored.
pub(crate) fn min_labels<T: Lane>(acc: &mut [T], labels: &[u32], v: &[T], accept: Accept<T>) {
    scatter(acc, labels, v, accept, |acc, x| *acc = acc.lower(x));
}

/// Raises each group's maximum to its accepted values; NaN is ignored.
pub(crate) fn max_labels<T: Lane>(acc: &mut [T], labels: &[u32], v: &[T], accept: Accept<T>) {
    scatter(acc, labels, v, accept, |acc, x| *acc = acc.higher(x));
}

/// Takes each accepted value into the moments of its group.
pub(crate) fn moments_labels<T: Lane>(
    count: &mut [u64],
    mean: &mut [f64],
    m2: &mut [f64],
    labels: &[u32],
    v: &[T],
    accept: Accept<T>,
) {
    with_test!(accept, test => {
        for (&label, &x) in labels.iter().zip(v) {
            if test.test(x)
                && let (Some(count), Some(mean), Some(m2)) =
                    (group(count, label), group(mean, label), group(m2, label))
            {
                add_to_moments(count, mean, m2, x.to_f64(), true);
            }
        }
    });
}

/// Updates the group of each accepted value.
#[inline(always)]
fn scatter<A, T: Lane>(
    acc: &mut [A],
    labels: &[u32],
    v: &[T],
    accept: Accept<T>,
    update: impl Fn(&mut A, T),
) {
    with_test!(accept, test => {
        for (&label, &x) in labels.iter().zip(v) {
            if test.test(x) && let Some(acc) = group(acc, label) {
                update(acc, x);
            }
        }
    });
}

/// The accumulator of a label, if there is one.
#[inline(always)]
fn group<A>(acc: &mut [A], label: u32) -> Option<&mut A> {
    acc.get_mut(usize::try_from(label).ok()?)
}
