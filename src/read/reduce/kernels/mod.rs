//! Vectorised reductions over contiguous slices of stored numbers.
//!
//! Each kernel tests in the lane whether a stored number counts ([`Accept`]),
//! so that no validity bitmap is ever built, and is compiled once for each
//! [`Level`](dispatch::Level) of vector instructions. Slices of unequal length are used as far
//! as the shortest one goes.
//!
//! ```text
//! one group, the slice is a row of it      sum, count, extremes, squares, dot
//! one group for each cell of the slice     *_cells
//! the group of each cell is in `labels`    *_labels
//! ```

mod accept;
mod cells;
mod dispatch;
mod labels;
mod lane;
mod moments;
mod rows;

#[cfg(test)]
mod tests;

pub(crate) use accept::Accept;
pub use dispatch::{Level, level};
pub(crate) use dispatch::{
    add_cells, add_cells_exact, add_scaled_cells, add_weighted_cells, count, count_cells, dot,
    extremes, max_cells, min_cells, moments_cells, reject_cells, squares, sum, sum_exact,
};
pub(crate) use labels::{
    add_labels, add_labels_exact, add_weighted_labels, count_labels, max_labels, min_labels,
    moments_labels, reject_labels,
};
pub(crate) use lane::Lane;
pub(crate) use moments::merge_moments;
