//! Numbers, weights and labels to test the kernels with.
#![expect(
    clippy::cast_possible_truncation,
    reason = "tests make numbers of any type"
)]

use std::fmt::Debug;

use crate::read::reduce::kernels::{Accept, Lane};

/// A number type that tests can make.
pub(super) trait Sample: Lane + Debug {
    /// Numbers that kernels could stumble over.
    const ODD: [Self; 4];
    /// A small number, the lowest few being negative if the type can be.
    fn small(seed: u64) -> Self;
}

macro_rules! samples {
    ($($type:ty: $odd:expr;)*) => { $(
        impl Sample for $type {
            const ODD: [Self; 4] = $odd;
            fn small(seed: u64) -> Self {
                let magnitude = (seed % 50) as Self;
                if seed & 64 == 0 || <$type>::LOWEST == <$type>::default() {
                    magnitude
                } else {
                    <$type>::default() - magnitude
                }
            }
        }
    )* };
}

samples! {
    i8: [Self::MIN, Self::MAX, -1, 0];
    i16: [Self::MIN, Self::MAX, -1, 0];
    i32: [Self::MIN, Self::MAX, -1, 0];
    i64: [Self::MIN, Self::MAX, -1, 0];
    u8: [Self::MIN, Self::MAX, 1, 254];
    u16: [Self::MIN, Self::MAX, 1, 65534];
    u32: [Self::MIN, Self::MAX, 1, 1 << 31];
    u64: [Self::MIN, Self::MAX, 1, 1 << 63];
    f32: [Self::NAN, -Self::NAN, Self::INFINITY, 9.96921e36];
    f64: [Self::NAN, -Self::NAN, Self::NEG_INFINITY, 1e20];
}

/// Numbers that look random, and are the same in each run.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    pub(super) fn numbers<T: Sample>(&mut self, len: usize) -> Vec<T> {
        (0..len)
            .map(|_| match self.roll() % 16 {
                odd @ 0..4 => T::ODD[odd as usize],
                _ => T::small(self.roll()),
            })
            .collect()
    }

    pub(super) fn weights(&mut self, len: usize) -> Vec<f64> {
        (0..len).map(|_| (self.roll() % 9) as f64 - 2.0).collect()
    }
}

pub(super) fn accepts<T: Sample>() -> Vec<Accept<T>> {
    let (low, high) = (T::small(64 + 40), T::small(45));
    vec![
        Accept::All,
        Accept::Range {
            low: T::LOWEST,
            high: T::HIGHEST,
        },
        Accept::Range { low, high },
        Accept::Range {
            low: high,
            high: T::small(3),
        },
        Accept::RangeExcept {
            low,
            high,
            except: [T::small(7), T::small(64 + 9)],
        },
        Accept::RangeExcept {
            low: T::LOWEST,
            high: T::HIGHEST,
            except: [T::ODD[3]; 2],
        },
    ]
}

/// Calls the check with slices of all lengths, aligned and not, and of several blocks.
pub(super) fn for_slices<T: Sample>(check: impl Fn(&[T], &[f64], &[u32])) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for len in (0..70).chain([127, 128, 129, 255, 256, 600, 9001]) {
        let skip = len % 4;
        let numbers = dice.numbers(len + skip);
        let weights = dice.weights(len + skip);
        let labels: Vec<u32> = (0..len)
            .map(|_| match dice.roll() % 9 {
                8 => u32::MAX,
                label => label as u32,
            })
            .collect();
        check(&numbers[skip..], &weights[skip..], &labels);
    }
}

#[track_caller]
pub(super) fn assert_close(found: &[f64], expected: &[f64], scale: f64, of: &dyn Debug) {
    assert_eq!(found.len(), expected.len());
    for (&a, &b) in found.iter().zip(expected) {
        let close = (a - b).abs() <= 1e-12 * (b.abs() + scale);
        assert!(
            close || a == b || (a.is_nan() && b.is_nan()),
            "{a} is not {b}: {of:?}"
        );
    }
}
