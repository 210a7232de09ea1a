//! The kernels compiled for each level of vector instructions, chosen at run time.
#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "calls of functions that need instructions which only detection can promise"
    )
)]

use std::fmt;
use std::sync::LazyLock;

use super::accept::{Accept, with_test};
use super::lane::Lane;
use super::{cells, rows};

/// A set of vector instructions, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "other processors have the baseline alone")
)]
pub enum Level {
    /// What the crate is compiled for: SSE2 on x86-64, NEON on AArch64.
    Baseline,
    /// x86-64-v3: AVX2.
    V3,
    /// x86-64-v4: AVX-512.
    V4,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Baseline => "baseline",
            Self::V3 => "x86-64-v3",
            Self::V4 => "x86-64-v4",
        })
    }
}

/// The highest level of this processor, at which all kernels run.
pub fn level() -> Level {
    static LEVEL: LazyLock<Level> = LazyLock::new(detect);
    *LEVEL
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    macro_rules! all_detected {
        ($($feature:tt)*) => { $(is_x86_feature_detected!($feature))&&* };
    }
    if !all_detected!("avx2" "fma" "bmi1" "bmi2") {
        Level::Baseline
    } else if !all_detected!("avx512f" "avx512bw" "avx512dq" "avx512vl" "avx512cd") {
        Level::V3
    } else {
        Level::V4
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Baseline
}

/// Defines each kernel twice: for the callers, and in `at` for a level that the
/// caller names. The arguments before `;` come before the `accept` that every
/// kernel has, those after it behind.
macro_rules! kernels {
    ($(
        $(#[$doc:meta])*
        fn $name:ident<T: $bound:ident>(
            $($before:ident: $before_type:ty),*; $($after:ident: $after_type:ty),*
        ) -> $output:ty = $body:path;
    )*) => {
        $(
            $(#[$doc])*
            pub(crate) fn $name<T: $bound>(
                $($before: $before_type,)* accept: Accept<T>, $($after: $after_type,)*
            ) -> $output {
                at::$name(Level::V4, $($before,)* accept, $($after,)*)
            }
        )*

        /// The kernels at a given level, or at the highest below it that the
        /// processor has.
        pub(super) mod at {
            use super::{Accept, Lane, Level, cells, level, rows, with_test};

            $(
                #[inline]
                pub(crate) fn $name<T: $bound>(
                    wanted: Level,
                    $($before: $before_type,)* accept: Accept<T>, $($after: $after_type,)*
                ) -> $output {
                    #[inline(always)]
                    fn body<T: $bound>(
                        $($before: $before_type,)* accept: Accept<T>, $($after: $after_type,)*
                    ) -> $output {
                        with_test!(accept, test => $body($($before,)* test, $($after,)*))
                    }

                    #[cfg(target_arch = "x86_64")]
                    #[target_feature(enable = "avx2,fma,bmi1,bmi2")]
                    fn v3<T: $bound>(
                        $($before: $before_type,)* accept: Accept<T>, $($after: $after_type,)*
                    ) -> $output {
                        body($($before,)* accept, $($after,)*)
                    }

                    #[cfg(target_arch = "x86_64")]
                    #[target_feature(
                        enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,fma,bmi1,bmi2"
                    )]
                    fn v4<T: $bound>(
                        $($before: $before_type,)* accept: Accept<T>, $($after: $after_type,)*
                    ) -> $output {
                        body($($before,)* accept, $($after,)*)
                    }

                    match wanted.min(level()) {
                        #[cfg(target_arch = "x86_64")]
                        // SAFETY: `level` has detected every feature of `v4`.
                        Level::V4 => unsafe { v4($($before,)* accept, $($after,)*) },
                        #[cfg(target_arch = "x86_64")]
                        // SAFETY: `level` has detected every feature of `v3`.
                        Level::V3 => unsafe { v3($($before,)* accept, $($after,)*) },
                        #[cfg(not(target_arch = "x86_64"))]
                        Level::V3 | Level::V4 => body($($before,)* accept, $($after,)*),
                        Level::Baseline => body($($before,)* accept, $($after,)*),
                    }
                }
            )*
        }
    };
}

kernels! {
    /// The sum and the number of the accepted values.
    fn sum<T: Lane>(v: &[T];) -> (f64, u64) = rows::sum;
    /// The sum modulo 2⁶⁴ and the number of the accepted values.
    fn sum_exact<T: Lane>(v: &[T];) -> (i64, u64) = rows::sum_exact;
    /// The number of the accepted values.
    fn count<T: Lane>(v: &[T];) -> u64 = rows::count;
    /// The lowest and the highest accepted value, `(HIGHEST, LOWEST)` if there is
    /// none. NaN is ignored, even where it is accepted.
    fn extremes<T: Lane>(v: &[T];) -> (T, T) = rows::extremes;
    /// The sum of the squared distances of the accepted values from `mean`.
    fn squares<T: Lane>(v: &[T]; mean: f64) -> f64 = rows::squares;
    /// The sum of the accepted values times their weights `w`, and their number.
    fn dot<T: Lane>(v: &[T], w: &[f64];) -> (f64, u64) = rows::dot;

    /// Adds each accepted value to its cell; returns how many were rejected.
    fn add_cells<T: Lane>(acc: &mut [f64], v: &[T];) -> u64 = cells::add_cells;
    /// Adds each accepted value to its cell modulo 2⁶⁴; returns how many were rejected.
    fn add_cells_exact<T: Lane>(acc: &mut [i64], v: &[T];) -> u64 = cells::add_cells_exact;
    /// Adds each accepted value times `weight` to its cell; returns how many were rejected.
    fn add_scaled_cells<T: Lane>(acc: &mut [f64], v: &[T], weight: f64;) -> u64
        = cells::add_scaled_cells;
    /// Adds each accepted value times its weight to its cell; returns how many were rejected.
    fn add_weighted_cells<T: Lane>(acc: &mut [f64], v: &[T], w: &[f64];) -> u64
        = cells::add_weighted_cells;
    /// Counts the accepted value of each cell.
    fn count_cells<T: Lane>(counts: &mut [u64], v: &[T];) -> () = cells::count_cells;
    /// Counts the rejected value of each cell.
    fn reject_cells<T: Lane>(counts: &mut [u64], v: &[T];) -> () = cells::reject_cells;
    /// Lowers each cell's minimum to its accepted value; NaN is ignored.
    fn min_cells<T: Lane>(acc: &mut [T], v: &[T];) -> () = cells::min_cells;
    /// Raises each cell's maximum to its accepted value; NaN is ignored.
    fn max_cells<T: Lane>(acc: &mut [T], v: &[T];) -> () = cells::max_cells;
    /// Takes each accepted value into the moments of its cell.
    fn moments_cells<T: Lane>(
        count: &mut [u64], mean: &mut [f64], m2: &mut [f64], v: &[T];
    ) -> () = cells::moments_cells;
}
