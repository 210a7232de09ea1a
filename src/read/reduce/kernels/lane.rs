//! The stored number types that the kernels reduce.

/// A stored number type.
pub(crate) trait Lane: bytemuck::Pod + PartialOrd + Send + Sync + 'static {
    /// A number that no other is below: where a maximum starts.
    const LOWEST: Self;
    /// A number that no other is above: where a minimum starts.
    const HIGHEST: Self;
    /// How many numbers a `Tally` and a `Whole` hold without overflow.
    const RUN: usize;
    /// A counter as wide as the number, so that the mask of a comparison is
    /// added as it comes.
    type Tally: Partial<u64>;
    /// What a run of integers adds up in, modulo 2⁶⁴ for the widest.
    type Whole: Partial<i64>;
    /// An integer that orders as the number does: minima of integers vectorise,
    /// those of floats do not because of NaN and signed zeros.
    type Key: Ord + Copy;

    /// The number as `f64`, rounded if it has more than 53 significant bits.
    fn to_f64(self) -> f64;
    /// The integer modulo 2⁶⁴; a float towards zero, and at most the limits of `i64`.
    fn to_i64(self) -> i64;
    /// The number as a summand of an exact sum.
    fn whole(self) -> Self::Whole;
    /// The lower number, which is never a NaN if the other is a number.
    fn lower(self, other: Self) -> Self;
    /// The higher number, which is never a NaN if the other is a number.
    fn higher(self, other: Self) -> Self;
    /// One if `ok`, else nothing.
    fn tally(ok: bool) -> Self::Tally;
    /// The key of the number; that of a NaN is beyond an infinity.
    fn key(self) -> Self::Key;
    /// The number of a key.
    fn from_key(key: Self::Key) -> Self;
}

/// What a run of numbers adds up in before it goes into the total.
pub(crate) trait Partial<Total>: bytemuck::Pod {
    /// The sum of two partial sums.
    fn plus(self, other: Self) -> Self;
    /// This partial sum as a total.
    fn total(self) -> Total;
}

macro_rules! partials {
    ($($type:ty => $total:ty;)*) => { $(
        impl Partial<$total> for $type {
            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn total(self) -> $total {
                <$total>::from(self)
            }
        }
    )* };
}

partials! {
    u8 => u64;
    u16 => u64;
    u32 => u64;
    u64 => u64;
    i32 => i64;
    i64 => i64;
}

macro_rules! integers {
    ($($type:ty: tally $tally:ty, whole $whole:ty, run $run:literal;)*) => { $(
        impl Lane for $type {
            const LOWEST: Self = Self::MIN;
            const HIGHEST: Self = Self::MAX;
            const RUN: usize = $run;
            type Tally = $tally;
            type Whole = $whole;
            type Key = Self;

            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn to_i64(self) -> i64 {
                self as i64
            }
            #[inline(always)]
            fn whole(self) -> $whole {
                self as $whole
            }
            #[inline(always)]
            fn lower(self, other: Self) -> Self {
                self.min(other)
            }
            #[inline(always)]
            fn higher(self, other: Self) -> Self {
                self.max(other)
            }
            #[inline(always)]
            fn tally(ok: bool) -> $tally {
                <$tally>::from(ok)
            }
            #[inline(always)]
            fn key(self) -> Self {
                self
            }
            #[inline(always)]
            fn from_key(key: Self) -> Self {
                key
            }
        }
    )* };
}

integers! {
    i8: tally u8, whole i32, run 255;
    u8: tally u8, whole i32, run 255;
    i16: tally u16, whole i32, run 8192;
    u16: tally u16, whole i32, run 8192;
    i32: tally u32, whole i64, run 65536;
    u32: tally u32, whole i64, run 65536;
    i64: tally u64, whole i64, run 65536;
    u64: tally u64, whole i64, run 65536;
}

macro_rules! floats {
    ($($type:ty: tally $tally:ty, key $key:ty;)*) => { $(
        impl Lane for $type {
            const LOWEST: Self = Self::NEG_INFINITY;
            const HIGHEST: Self = Self::INFINITY;
            const RUN: usize = 65536;
            type Tally = $tally;
            type Whole = i64;
            type Key = $key;

            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            #[expect(clippy::cast_possible_truncation, reason = "documented")]
            fn to_i64(self) -> i64 {
                self as i64
            }
            #[inline(always)]
            fn whole(self) -> i64 {
                self.to_i64()
            }
            #[inline(always)]
            fn lower(self, other: Self) -> Self {
                self.min(other)
            }
            #[inline(always)]
            fn higher(self, other: Self) -> Self {
                self.max(other)
            }
            #[inline(always)]
            fn tally(ok: bool) -> $tally {
                <$tally>::from(ok)
            }
            #[inline(always)]
            fn key(self) -> $key {
                // Below zero, IEEE 754 numbers grow with the magnitude of their bits.
                let bits = self.to_bits().cast_signed();
                bits ^ ((bits >> (<$key>::BITS - 1)) & <$key>::MAX)
            }
            #[inline(always)]
            fn from_key(key: $key) -> Self {
                let bits = key ^ ((key >> (<$key>::BITS - 1)) & <$key>::MAX);
                Self::from_bits(bits.cast_unsigned())
            }
        }
    )* };
}

floats! {
    f32: tally u32, key i32;
    f64: tally u64, key i64;
}
