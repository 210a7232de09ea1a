//! The block order of b2nd: a chunk is cut into blocks, each of them in one piece.

use crate::error::{Error, Result};

/// Puts the elements of a whole chunk, given in C order, into the order in which b2nd stores them.
///
/// ```text
/// chunk 2×5, blocks 2×3     a b c d e        blocks 0 and 1, the last one padded with zeros:
///                           f g h i j        a b c f g h │ d e 0 i j 0
/// ```
///
/// `item` is the size of an element; what `out` held is replaced.
///
/// # Errors
/// `Invalid` if `elements` are not those of one chunk, `Exhausted` if the padded chunk cannot be addressed.
pub fn cut(
    elements: &[u8],
    chunk: &[u64],
    block: &[u64],
    item: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    let too_large = || Error::Exhausted(format!("chunks of {chunk:?} cells cannot be addressed"));
    let axes = axes(chunk, block, item).ok_or_else(too_large)?;
    let size = |extent: fn(&Axis) -> usize| {
        let mut extents = axes.iter().map(extent);
        extents.try_fold(1_usize, usize::checked_mul)
    };
    let given = size(|axis| axis.chunk).ok_or_else(too_large)?;
    let padded = size(|axis| axis.blocks() * axis.block).ok_or_else(too_large)?;
    let block = size(|axis| axis.block).ok_or_else(too_large)?;
    if elements.len() != given {
        return Err(Error::Invalid(format!(
            "{} bytes were given for a chunk of {chunk:?} elements of {item} bytes",
            elements.len()
        )));
    }
    out.clear();
    out.resize(padded, 0);
    for (number, out) in out.chunks_exact_mut(block.max(1)).enumerate() {
        let mut rest = number;
        let mut start = 0;
        let mut steps = Vec::with_capacity(axes.len());
        let (mut stride, mut block_stride) = (1, 1);
        for axis in axes.iter().rev() {
            let first = rest % axis.blocks() * axis.block;
            rest /= axis.blocks();
            start += first * stride;
            steps.push(Step {
                count: axis.block.min(axis.chunk - first),
                stride,
                block_stride,
            });
            stride *= axis.chunk;
            block_stride *= axis.block;
        }
        copy(&steps, elements.get(start..).unwrap_or_default(), out);
    }
    Ok(())
}

/// An axis, in units of what is below it.
struct Axis {
    chunk: usize,
    block: usize,
}

impl Axis {
    fn blocks(&self) -> usize {
        self.chunk.div_ceil(self.block)
    }
}

/// How to walk along an axis of one block.
struct Step {
    count: usize,
    /// From one to the next, in the chunk.
    stride: usize,
    /// The same in the block.
    block_stride: usize,
}

/// The axes of a chunk down to single bytes; those that are not cut are one with the axis before.
fn axes(chunk: &[u64], block: &[u64], item: usize) -> Option<Vec<Axis>> {
    let mut axes: Vec<Axis> = Vec::new();
    let mut below = item;
    for (chunk, block) in chunk.iter().zip(block).rev() {
        let (chunk, block) = (usize::try_from(*chunk).ok()?, usize::try_from(*block).ok()?);
        let whole = chunk.checked_mul(below)?;
        if chunk == block {
            below = whole;
        } else {
            axes.push(Axis {
                chunk: whole,
                block: block.checked_mul(below)?,
            });
            below = 1;
        }
    }
    if below > 1 || axes.is_empty() {
        axes.push(Axis {
            chunk: below,
            block: below,
        });
    }
    axes.reverse();
    let valid = |axis: &Axis| axis.block > 0 && axis.chunk.checked_add(axis.block).is_some();
    axes.iter().all(valid).then_some(axes)
}

/// Copies what lies along the last of `steps`, which is the outermost.
fn copy(steps: &[Step], elements: &[u8], block: &mut [u8]) {
    match steps.split_last() {
        None => {}
        Some((run, [])) => {
            let elements = elements.get(..run.count).unwrap_or_default();
            if let Some(block) = block.get_mut(..elements.len()) {
                block.copy_from_slice(elements);
            }
        }
        Some((outer, inner)) => {
            for index in 0..outer.count {
                let elements = elements.get(index * outer.stride..).unwrap_or_default();
                let block = block.get_mut(index * outer.block_stride..);
                copy(inner, elements, block.unwrap_or_default());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn cut_of(elements: &[u8], chunk: &[u64], block: &[u64], item: usize) -> Vec<u8> {
        let mut out = vec![9; 3];
        cut(elements, chunk, block, item, &mut out).unwrap();
        out
    }

    #[test]
    fn blocks_at_the_edges_are_padded() {
        assert_eq!(
            cut_of(b"abcdefghij", &[2, 5], &[2, 3], 1),
            b"abcfghde\0ij\0"
        );
        assert_eq!(
            cut_of(b"abcdefghij", &[5, 1], &[2, 1], 2),
            b"abcdefghij\0\0"
        );
        assert_eq!(cut_of(b"abcd", &[], &[], 4), b"abcd");
        assert_eq!(cut_of(b"abcd", &[2, 2], &[2, 2], 1), b"abcd");
    }

    #[test]
    fn every_element_goes_where_its_coordinates_say() {
        for (chunk, block) in [
            ([4, 6, 5], [2, 6, 5]),
            ([4, 6, 5], [2, 4, 3]),
            ([1, 7, 3], [1, 2, 3]),
            ([5, 2, 4], [5, 1, 4]),
        ] {
            let cells: u64 = chunk.iter().product();
            let elements: Vec<u8> = (1..=u16::try_from(cells).unwrap())
                .flat_map(u16::to_le_bytes)
                .collect();
            let out = cut_of(&elements, &chunk, &block, 2);
            let mut expected = Vec::new();
            let counts = [0, 1, 2].map(|axis| chunk[axis].div_ceil(block[axis]));
            for number in 0..counts.iter().product::<u64>() {
                let at = [
                    number / counts[2] / counts[1],
                    number / counts[2] % counts[1],
                    number % counts[2],
                ];
                for cell in 0..block.iter().product::<u64>() {
                    let inner = [
                        cell / block[2] / block[1],
                        cell / block[2] % block[1],
                        cell % block[2],
                    ];
                    let place = [0, 1, 2].map(|axis| at[axis] * block[axis] + inner[axis]);
                    let inside = (0..3).all(|axis| place[axis] < chunk[axis]);
                    let value = (place[0] * chunk[1] + place[1]) * chunk[2] + place[2] + 1;
                    let value = if inside { value } else { 0 };
                    expected.extend(u16::try_from(value).unwrap().to_le_bytes());
                }
            }
            assert_eq!(out, expected, "{chunk:?} {block:?}");
        }
    }

    #[test]
    fn elements_of_another_chunk_are_refused() {
        let outcome = cut(b"abc", &[2], &[1], 1, &mut Vec::new());
        assert!(matches!(outcome, Err(Error::Invalid(_))));
    }
}
