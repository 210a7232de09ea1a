//! Which stored numbers count in a reduction.

/// The stored numbers that count; the others are missing.
///
/// Bounds are inclusive. NaN is in no range, so `Range { low: -inf, high: inf }`
/// is the test for NaN; under `All` a NaN counts and spoils a sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Accept<T> {
    /// Every number.
    All,
    /// The numbers from `low` to `high`.
    Range {
        /// The smallest number that counts.
        low: T,
        /// The largest number that counts.
        high: T,
    },
    /// The numbers from `low` to `high`, save two (which may be equal).
    RangeExcept {
        /// The smallest number that counts.
        low: T,
        /// The largest number that counts.
        high: T,
        /// Numbers that do not count, such as fill values inside the range.
        except: [T; 2],
    },
}

impl<T: Copy + PartialOrd> Accept<T> {
    /// Whether `value` counts.
    pub(crate) fn accepts(self, value: T) -> bool {
        match self {
            Self::All => Any.test(value),
            Self::Range { low, high } => Within { low, high }.test(value),
            Self::RangeExcept { low, high, except } => {
                WithinExcept { low, high, except }.test(value)
            }
        }
    }
}

/// One arm of [`Accept`] as a type of its own, for loops without a branch.
pub(super) trait Test<T>: Copy {
    /// Whether `value` counts.
    fn test(self, value: T) -> bool;
}

/// The test of [`Accept::All`].
#[derive(Clone, Copy)]
pub(super) struct Any;

/// The test of [`Accept::Range`].
#[derive(Clone, Copy)]
pub(super) struct Within<T> {
    pub(super) low: T,
    pub(super) high: T,
}

/// The test of [`Accept::RangeExcept`].
#[derive(Clone, Copy)]
pub(super) struct WithinExcept<T> {
    pub(super) low: T,
    pub(super) high: T,
    pub(super) except: [T; 2],
}

impl<T> Test<T> for Any {
    #[inline(always)]
    fn test(self, _: T) -> bool {
        true
    }
}

// `&` and not `&&`: a branch in the lane would end the vectorisation.
impl<T: Copy + PartialOrd> Test<T> for Within<T> {
    #[inline(always)]
    fn test(self, value: T) -> bool {
        (value >= self.low) & (value <= self.high)
    }
}

impl<T: Copy + PartialOrd> Test<T> for WithinExcept<T> {
    #[inline(always)]
    fn test(self, value: T) -> bool {
        let [first, second] = self.except;
        (value >= self.low) & (value <= self.high) & (value != first) & (value != second)
    }
}

/// Evaluates an expression with `$test` bound to the test of an [`Accept`]:
/// the choice is made once, outside the loop.
macro_rules! with_test {
    ($accept:expr, $test:ident => $run:expr) => {{
        use $crate::read::reduce::kernels::accept::{Accept, Any, Within, WithinExcept};
        match $accept {
            Accept::All => {
                let $test = Any;
                $run
            }
            Accept::Range { low, high } => {
                let $test = Within { low, high };
                $run
            }
            Accept::RangeExcept { low, high, except } => {
                let $test = WithinExcept { low, high, except };
                $run
            }
        }
    }};
}
pub(super) use with_test;
