//! Rounding: floating-point numbers of time units to integers of microseconds.

use crate::cf::calendar::SECOND;

/// A thousandth, to the nearest integer, ties to even.
pub(crate) fn thousandth(value: i128) -> i128 {
    let (down, rest) = (value.div_euclid(1000), value.rem_euclid(1000));
    down + i128::from(rest > 500 || (rest == 500 && down.rem_euclid(2) == 1))
}

/// A floating-point number times an integer, rounded in three ways.
///
/// The exact product is first rounded to 64 significant bits: so does cftime, which computes in extended precision, and
/// the same file must not have other instants here.
pub(crate) struct Product {
    below: i128,
    above: i128,
    /// The nearest integer, ties to even.
    pub(crate) nearest: i128,
}

impl Product {
    /// `None` if the product is not finite or far out of range.
    pub(crate) fn new(value: f64, factor: i64) -> Option<Self> {
        const SIGNIFICANT: u32 = 64;
        if !value.is_finite() || value.abs() > 1e30 {
            return None;
        }
        let bits = value.to_bits();
        let (fraction, exponent) = (bits & ((1 << 52) - 1), (bits >> 52) & 0x7ff);
        let (mantissa, exponent) = match exponent {
            0 => (fraction, -1074),
            normal => (fraction | (1 << 52), i32::try_from(normal).ok()? - 1075),
        };
        let product = u128::from(mantissa).checked_mul(u128::try_from(factor).ok()?)?;
        let excess = (u128::BITS - product.leading_zeros()).saturating_sub(SIGNIFICANT);
        let (down, up, near) = shift_right(product, excess);
        let product = if near { up } else { down };
        let exponent = exponent + i32::try_from(excess).ok()?;
        let (down, up, near) = match u32::try_from(exponent) {
            Ok(left) if left < product.leading_zeros() => (product << left, product << left, false),
            Ok(_) if product == 0 => (0, 0, false),
            Ok(_) => return None,
            Err(_) => shift_right(product, exponent.unsigned_abs()),
        };
        let (down, up) = (i128::try_from(down).ok()?, i128::try_from(up).ok()?);
        let nearest = if near { up } else { down };
        Some(if value < 0.0 {
            Self {
                below: -up,
                above: -down,
                nearest: -nearest,
            }
        } else {
            Self {
                below: down,
                above: up,
                nearest,
            }
        })
    }

    /// The nearest microsecond; but if that is one off a whole second, the time is rounded towards
    /// the second. This too is what cftime does: 2134549.9166666665 hours are 55 minutes and no 59.999999 seconds.
    pub(crate) fn near_second(&self) -> i128 {
        match self.nearest.rem_euclid(SECOND.into()) {
            1 => self.below,
            999_999 => self.above,
            _ => self.nearest,
        }
    }
}

/// `value / 2^bits` rounded down and up, and whether up is nearer (ties to even).
fn shift_right(value: u128, bits: u32) -> (u128, u128, bool) {
    if bits == 0 || value == 0 {
        return (value, value, false);
    }
    let (Some(down), Some(half)) = (value.checked_shr(bits), 1u128.checked_shl(bits - 1)) else {
        return (0, 1, false);
    };
    let rest = value - (down << bits);
    let near = rest > half || (rest == half && down % 2 == 1);
    (down, down + u128::from(rest > 0), near)
}
