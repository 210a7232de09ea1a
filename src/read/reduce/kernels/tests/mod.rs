//! Every kernel, number type and level against definitions written out one value at a time.

use super::dispatch::{Level, at};
use super::*;
use sample::{Dice, Sample, accepts, assert_close, for_slices};

mod sample;

fn levels() -> impl Iterator<Item = Level> {
    [Level::Baseline, Level::V3, Level::V4]
        .into_iter()
        .filter(|&other| other <= level())
}

fn rows<T: Sample>() {
    for_slices::<T>(|v, w, _| {
        for accept in accepts::<T>() {
            let kept: Vec<(T, f64)> = v
                .iter()
                .copied()
                .zip(w.iter().copied())
                .filter(|&(x, _)| accept.accepts(x))
                .collect();
            let number = kept.len() as u64;
            let sum: f64 = kept.iter().map(|(x, _)| x.to_f64()).sum();
            let dot: f64 = kept.iter().map(|(x, w)| x.to_f64() * w).sum();
            let squares: f64 = kept.iter().map(|(x, _)| (x.to_f64() - 1.5).powi(2)).sum();
            let size: f64 = kept
                .iter()
                .map(|(x, _)| x.to_f64().abs())
                .filter(|x| x.is_finite())
                .sum();
            let low = kept
                .iter()
                .fold(T::HIGHEST, |low, &(x, _)| if x < low { x } else { low });
            let high = kept
                .iter()
                .fold(T::LOWEST, |high, &(x, _)| if x > high { x } else { high });
            for level in levels() {
                let of = (level, accept, v.len());
                let found = at::sum(level, v, accept);
                assert_close(&[found.0], &[sum], size, &of);
                assert_eq!(found.1, number, "{of:?}");
                let found = at::dot(level, v, w, accept);
                assert_close(&[found.0], &[dot], size * 8.0, &of);
                assert_eq!(found.1, number, "{of:?}");
                assert_close(&[at::squares(level, v, accept, 1.5)], &[squares], 0.0, &of);
                assert_eq!(at::count(level, v, accept), number, "{of:?}");
                assert!(at::extremes(level, v, accept) == (low, high), "{of:?}");
            }
        }
    });
}

fn cells<T: Sample>() {
    for_slices::<T>(|v, w, _| {
        for accept in accepts::<T>() {
            let rejected = v.iter().filter(|&&x| !accept.accepts(x)).count() as u64;
            let or_zero = |x: T, weight: f64| {
                if accept.accepts(x) {
                    x.to_f64() * weight
                } else {
                    0.0
                }
            };
            let sums: Vec<f64> = v
                .iter()
                .zip(w)
                .map(|(&x, &w)| w + or_zero(x, 1.0))
                .collect();
            let scaled: Vec<f64> = v
                .iter()
                .zip(w)
                .map(|(&x, &w)| w + or_zero(x, 0.3))
                .collect();
            let products: Vec<f64> = v.iter().zip(w).map(|(&x, &w)| w + or_zero(x, w)).collect();
            let counts: Vec<u64> = v
                .iter()
                .map(|&x| 5 + u64::from(accept.accepts(x)))
                .collect();
            let rejects: Vec<u64> = v
                .iter()
                .map(|&x| 5 + u64::from(!accept.accepts(x)))
                .collect();
            let start: Vec<T> = v
                .iter()
                .rev()
                .map(|&x| if x >= T::LOWEST { x } else { T::small(4) })
                .collect();
            let lows: Vec<T> = start
                .iter()
                .zip(v)
                .map(|(&low, &x)| if accept.accepts(x) && x < low { x } else { low })
                .collect();
            let highs: Vec<T> = start
                .iter()
                .zip(v)
                .map(|(&high, &x)| {
                    if accept.accepts(x) && x > high {
                        x
                    } else {
                        high
                    }
                })
                .collect();
            for level in levels() {
                let of = (level, accept, v.len());
                let mut acc = w.to_vec();
                assert_eq!(
                    at::add_cells(level, &mut acc, v, accept),
                    rejected,
                    "{of:?}"
                );
                assert_close(&acc, &sums, 0.0, &of);
                let mut acc = w.to_vec();
                assert_eq!(
                    at::add_scaled_cells(level, &mut acc, v, 0.3, accept),
                    rejected
                );
                assert_close(&acc, &scaled, 0.0, &of);
                let mut acc = w.to_vec();
                assert_eq!(
                    at::add_weighted_cells(level, &mut acc, v, w, accept),
                    rejected
                );
                assert_close(&acc, &products, 0.0, &of);
                let mut acc = vec![5; v.len()];
                at::count_cells(level, &mut acc, v, accept);
                assert_eq!(acc, counts, "{of:?}");
                let mut acc = vec![5; v.len()];
                at::reject_cells(level, &mut acc, v, accept);
                assert_eq!(acc, rejects, "{of:?}");
                let mut acc = start.clone();
                at::min_cells(level, &mut acc, v, accept);
                assert_eq!(acc, lows, "{of:?}");
                let mut acc = start.clone();
                at::max_cells(level, &mut acc, v, accept);
                assert_eq!(acc, highs, "{of:?}");
            }
        }
    });
}

/// Moments in whatever order the kernels take values against the two-pass definition.
fn moments<T: Sample>() {
    let mut dice = Dice(77);
    let rows: Vec<Vec<T>> = (0..20)
        .map(|_| {
            let mut row = dice.numbers::<T>(61);
            row[0] = T::ODD[1]; // a cell without an accepted value
            row
        })
        .collect();
    let accept = Accept::RangeExcept {
        low: T::small(64 + 49),
        high: T::small(49),
        except: [T::ODD[0], T::ODD[1]],
    };
    let column = |cell: usize| -> Vec<f64> {
        rows.iter()
            .map(|row| row[cell])
            .filter(|&x| accept.accepts(x))
            .map(T::to_f64)
            .collect()
    };
    for level in levels() {
        let (mut count, mut mean, mut m2) = (vec![0; 61], vec![0.0; 61], vec![0.0; 61]);
        for row in &rows {
            at::moments_cells(level, &mut count, &mut mean, &mut m2, row, accept);
        }
        for cell in 0..61 {
            check_moments((count[cell], mean[cell], m2[cell]), &column(cell));
        }
    }

    let labels: Vec<u32> = (0..61)
        .map(|cell| if cell % 5 == 4 { u32::MAX } else { cell % 5 })
        .collect();
    let (mut count, mut mean, mut m2) = (vec![0; 4], vec![0.0; 4], vec![0.0; 4]);
    for row in &rows {
        moments_labels(&mut count, &mut mean, &mut m2, &labels, row, accept);
    }
    for group in 0..4 {
        let cells: Vec<f64> = (group..61).step_by(5).flat_map(column).collect();
        check_moments((count[group], mean[group], m2[group]), &cells);
        for split in [0, 1, cells.len() / 2, cells.len()] {
            let (head, tail) = cells.split_at(split);
            let merged = merge_moments(two_pass(head), two_pass(tail));
            check_moments(merged, &cells);
        }
    }
}

fn two_pass(values: &[f64]) -> (u64, f64, f64) {
    if values.is_empty() {
        return (0, 0.0, 0.0);
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (
        values.len() as u64,
        mean,
        values.iter().map(|x| (x - mean).powi(2)).sum(),
    )
}

#[track_caller]
fn check_moments(found: (u64, f64, f64), values: &[f64]) {
    let expected = two_pass(values);
    assert_eq!(found.0, expected.0);
    assert_close(
        &[found.1, found.2],
        &[expected.1, expected.2],
        100.0,
        &values,
    );
}

fn labels<T: Sample>() {
    for_slices::<T>(|v, w, labels| {
        for accept in accepts::<T>() {
            // The labels 6 and 7 are beyond the accumulators.
            let mut sums = vec![0.5; 6];
            let mut products = vec![0.5; 6];
            let mut counts = vec![3; 6];
            let mut rejects = vec![3; 6];
            let mut lows = vec![T::HIGHEST; 6];
            let mut highs = vec![T::LOWEST; 6];
            add_labels(&mut sums, labels, v, accept);
            add_weighted_labels(&mut products, labels, v, w, accept);
            count_labels(&mut counts, labels, v, accept);
            reject_labels(&mut rejects, labels, v, accept);
            min_labels(&mut lows, labels, v, accept);
            max_labels(&mut highs, labels, v, accept);
            for group in 0..6 {
                let members = || (0..v.len()).filter(move |&i| labels[i] == group);
                let kept = || members().filter(|&i| accept.accepts(v[i]));
                let group = group as usize;
                let sum = kept().fold(0.5, |sum, i| sum + v[i].to_f64());
                let product = kept().fold(0.5, |sum, i| sum + v[i].to_f64() * w[i]);
                assert_close(
                    &[sums[group], products[group]],
                    &[sum, product],
                    0.0,
                    &accept,
                );
                assert_eq!(counts[group], 3 + kept().count() as u64);
                assert_eq!(
                    rejects[group],
                    3 + (members().count() - kept().count()) as u64
                );
                let low = kept().fold(T::HIGHEST, |low, i| if v[i] < low { v[i] } else { low });
                let high = kept().fold(T::LOWEST, |high, i| if v[i] > high { v[i] } else { high });
                assert_eq!((lows[group], highs[group]), (low, high));
            }
        }
    });
}

fn exact<T: Sample>() {
    for_slices::<T>(|v, _, labels| {
        for accept in accepts::<T>() {
            let or_zero = |x: T| if accept.accepts(x) { x.to_i64() } else { 0 };
            let number = v.iter().filter(|&&x| accept.accepts(x)).count() as u64;
            let sum = v.iter().fold(0_i64, |sum, &x| sum.wrapping_add(or_zero(x)));
            let cells: Vec<i64> = v
                .iter()
                .map(|&x| or_zero(x).wrapping_add(i64::MAX))
                .collect();
            for level in levels() {
                let of = (level, accept, v.len());
                assert_eq!(at::sum_exact(level, v, accept), (sum, number), "{of:?}");
                let mut acc = vec![i64::MAX; v.len()];
                let rejected = at::add_cells_exact(level, &mut acc, v, accept);
                assert_eq!(
                    (acc, rejected),
                    (cells.clone(), v.len() as u64 - number),
                    "{of:?}"
                );
            }
            let mut groups = vec![0; 6];
            add_labels_exact(&mut groups, labels, v, accept);
            for (group, &found) in (0_u32..).zip(&groups) {
                let expected = v
                    .iter()
                    .zip(labels)
                    .filter(|&(_, &label)| label == group)
                    .fold(0_i64, |sum, (&x, _)| sum.wrapping_add(or_zero(x)));
                assert_eq!(found, expected);
            }
        }
    });
}

macro_rules! for_types {
    ($($type:ident: $($check:ident)*;)*) => { $(
        mod $type {
            $(
                #[test]
                fn $check() {
                    super::$check::<$type>();
                }
            )*
        }
    )* };
}

for_types! {
    i8: rows cells labels moments exact;
    i16: rows cells labels moments exact;
    i32: rows cells labels moments exact;
    i64: rows cells labels moments exact;
    u8: rows cells labels moments exact;
    u16: rows cells labels moments exact;
    u32: rows cells labels moments exact;
    u64: rows cells labels moments exact;
    f32: rows cells labels moments exact;
    f64: rows cells labels moments exact;
}

#[test]
fn partial_sums_of_narrow_integers_do_not_overflow() {
    for level in levels() {
        let bytes = vec![u8::MAX; 100_000];
        assert_eq!(
            at::sum_exact(level, &bytes, Accept::All),
            (25_500_000, 100_000)
        );
        assert_eq!(at::count(level, &bytes, Accept::All), 100_000);
        let shorts = vec![u16::MAX; 200_000];
        assert_eq!(
            at::sum_exact(level, &shorts, Accept::All),
            (13_107_000_000, 200_000)
        );
        let words = vec![i32::MIN; 200_000];
        let expected = (i64::from(i32::MIN) * 200_000, 200_000);
        assert_eq!(at::sum_exact(level, &words, Accept::All), expected);
        assert_eq!(
            at::sum(level, &words, Accept::All),
            (expected.0 as f64, 200_000)
        );
    }
}

#[test]
fn the_shortest_slice_decides() {
    let v = [1.0_f32; 300];
    let w = [2.0; 200];
    for level in levels() {
        assert_eq!(at::dot(level, &v, &w, Accept::All), (400.0, 200));
        assert_eq!(at::dot(level, &v[..100], &w, Accept::All), (200.0, 100));
        let mut acc = vec![0.0; 250];
        assert_eq!(
            at::add_weighted_cells(level, &mut acc, &v, &w, Accept::All),
            0
        );
        assert_eq!(acc.iter().sum::<f64>(), 400.0);
        let (mut count, mut mean, mut m2) = (vec![0; 9], vec![0.0; 7], vec![0.0; 8]);
        at::moments_cells(level, &mut count, &mut mean, &mut m2, &v, Accept::All);
        assert_eq!(count, [1, 1, 1, 1, 1, 1, 1, 0, 0]);
    }
    let mut counts = [0; 2];
    count_labels(&mut counts, &[0, 1, 1], &v, Accept::All);
    assert_eq!(counts, [1, 2]);
}

#[test]
fn rejected_values_do_not_meet_infinite_weights() {
    let (v, w) = ([f32::NAN, 1.0], [f64::INFINITY, 1.0]);
    let numbers = Accept::Range {
        low: f32::NEG_INFINITY,
        high: f32::INFINITY,
    };
    for level in levels() {
        assert_eq!(at::dot(level, &v, &w, numbers), (1.0, 1));
        let mut acc = [0.0; 2];
        assert_eq!(at::add_weighted_cells(level, &mut acc, &v, &w, numbers), 1);
        assert_eq!(acc, [0.0, 1.0]);
        assert_eq!(
            at::add_scaled_cells(level, &mut acc, &v, f64::INFINITY, numbers),
            1
        );
        assert_eq!(acc, [0.0, f64::INFINITY]);
    }
}

#[test]
fn levels_have_names() {
    assert_eq!(Level::V3.to_string(), "x86-64-v3");
    assert!(level() >= Level::Baseline);
}
