//! CF conventions: the meaning of attributes.
//!
//! Floor 4. [`decode::Decoding`] says how the stored numbers of a variable become the values of its column,
//! [`time::TimeUnits`] what "days since …" counts, [`roles::roles`] what each variable is to the others.
//! [`encode::Encoding`] is the way back, from a column to stored elements.

pub mod calendar;
mod chars;
mod counts;
pub mod decode;
pub mod encode;
mod missing;
pub(crate) mod number;
mod options;
mod packing;
mod reference;
pub mod roles;
mod round;
pub mod time;

pub use chars::{join_chars, join_words};
