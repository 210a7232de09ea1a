//! Byte shuffle, bit shuffle and byte order of elements, undone.

use std::array;

/// Undoes the byte shuffle of elements of `size` bytes; a last incomplete element is copied.
///
/// ```text
/// shuffled  a0 b0 c0  a1 b1 c1  a2 b2 c2  rest      (size 3: elements a, b, c)
/// out       a0 a1 a2  b0 b1 b2  c0 c1 c2  rest
/// ```
///
/// Both slices have the same length; of a longer one the end is left alone.
pub(super) fn unshuffle(size: usize, shuffled: &[u8], out: &mut [u8]) {
    let length = shuffled.len().min(out.len());
    let count = length.checked_div(size).unwrap_or(0);
    if size == 1 || count <= 1 {
        copy(shuffled, out);
        return;
    }
    let (planes, rest) = shuffled.split_at(count * size);
    let (elements, tail) = out.split_at_mut(count * size);
    match size {
        2 => interleave::<2>(count, planes, elements),
        3 => interleave::<3>(count, planes, elements),
        4 => interleave::<4>(count, planes, elements),
        8 => interleave_fours::<2>(count, planes, elements),
        16 => interleave_fours::<4>(count, planes, elements),
        _ => interleave_in_groups(size, planes, elements),
    }
    copy(rest, tail);
}

/// Undoes the bit shuffle of elements of `size` bytes, of which there is a multiple of eight in `shuffled`.
///
/// Bit `b` of byte `j` of all elements is plane `8 j + b`, the first element in the lowest bit of its first byte.
/// `planes` is a buffer of its own, used for elements of more than one byte.
pub(super) fn bitunshuffle(size: usize, shuffled: &[u8], out: &mut [u8], planes: &mut Vec<u8>) {
    if size <= 1 {
        join_bits(shuffled, out);
        return;
    }
    let length = shuffled.len();
    let plane = length / size;
    if plane == 0 {
        return;
    }
    if planes.len() < length {
        planes.resize(length, 0);
    }
    let (planes, _) = planes.split_at_mut(length);
    let pairs = shuffled.chunks_exact(plane);
    for (bits, bytes) in pairs.zip(planes.chunks_exact_mut(plane)) {
        join_bits(bits, bytes);
    }
    unshuffle(size, planes, out);
}

/// Reverses the bytes of each element of `size` bytes in place.
pub(super) fn swap_bytes(size: usize, data: &mut [u8]) {
    match size {
        0 | 1 => {}
        2 => reverse_each::<2>(data),
        4 => reverse_each::<4>(data),
        8 => reverse_each::<8>(data),
        _ => data.chunks_exact_mut(size).for_each(<[u8]>::reverse),
    }
}

/// Copies what both slices have room for.
pub(super) fn copy(from: &[u8], to: &mut [u8]) {
    let length = from.len().min(to.len());
    let (from, _) = from.split_at(length);
    let (to, _) = to.split_at_mut(length);
    to.copy_from_slice(from);
}

fn reverse_each<const N: usize>(data: &mut [u8]) {
    let (elements, _) = data.as_chunks_mut::<N>();
    for element in elements {
        element.reverse();
    }
}

/// `N` planes of `count` bytes become `count` elements of `N` bytes.
fn interleave<const N: usize>(count: usize, planes: &[u8], elements: &mut [u8]) {
    let (elements, _) = elements.as_chunks_mut();
    merge::<u8, N>(rows(count, planes, 0), elements);
}

/// Elements of `4 M` bytes: first of four planes each, then of all, because more than four streams at once are slow.
fn interleave_fours<const M: usize>(count: usize, planes: &[u8], elements: &mut [u8]) {
    /// Elements at once: what is in between stays in the nearest cache.
    const RUN: usize = 256;
    let mut fours = [[[0; 4]; RUN]; M];
    let (elements, _) = elements.as_chunks_mut::<4>();
    let (elements, _) = elements.as_chunks_mut::<M>();
    for (index, run) in elements.chunks_mut(RUN).enumerate() {
        let length = run.len().min(RUN);
        for (four, fours) in fours.iter_mut().enumerate() {
            let (_, planes) = planes.split_at(4 * four * count);
            let (fours, _) = fours.split_at_mut(length);
            merge::<u8, 4>(rows(count, planes, index * RUN), fours);
        }
        merge(fours.each_ref().map(<[_; RUN]>::as_slice), run);
    }
}

/// Takes one item of each row in turn; this plain loop is what compilers turn into vector code.
fn merge<T: Copy, const N: usize>(rows: [&[T]; N], merged: &mut [[T; N]]) {
    let length = merged.len();
    let rows = rows.map(|row| row.split_at(length).0);
    for (i, items) in merged.iter_mut().enumerate() {
        *items = array::from_fn(|row| rows[row][i]);
    }
}

/// The first `N` planes of `count` bytes, from byte `start` of each on.
fn rows<const N: usize>(count: usize, planes: &[u8], start: usize) -> [&[u8]; N] {
    array::from_fn(|row| {
        let row = planes.get(row * count + start..(row + 1) * count);
        row.unwrap_or_default()
    })
}

/// Elements of any size: eight, four, two planes or one at a time.
fn interleave_in_groups(size: usize, planes: &[u8], elements: &mut [u8]) {
    /// Elements written between two groups of planes, so that they stay in the nearest cache.
    const RUN: usize = 256;
    let count = planes.len() / size;
    for (index, run) in elements.chunks_mut(RUN * size).enumerate() {
        let mut byte = 0;
        while byte < size {
            let (_, planes) = planes.split_at(byte * count);
            let start = index * RUN;
            byte += match size - byte {
                8.. => place::<8>(rows(count, planes, start), size, byte, run),
                4.. => place::<4>(rows(count, planes, start), size, byte, run),
                2.. => place::<2>(rows(count, planes, start), size, byte, run),
                _ => place::<1>(rows(count, planes, start), size, byte, run),
            };
        }
    }
}

/// Bytes `byte..byte + N` of the elements of `run`, from `rows`; returns `N`.
fn place<const N: usize>(rows: [&[u8]; N], size: usize, byte: usize, run: &mut [u8]) -> usize {
    let length = run.len() / size;
    let rows = rows.map(|row| row.split_at(length).0);
    for (i, element) in run.chunks_exact_mut(size).take(length).enumerate() {
        if let Some(bytes) = element.get_mut(byte..byte + N) {
            bytes.copy_from_slice(&array::from_fn::<u8, N, _>(|row| rows[row][i]));
        }
    }
    N
}

/// Eight planes of bits become one plane of bytes.
fn join_bits(bits: &[u8], bytes: &mut [u8]) {
    /// Bytes of each plane at once: all eight stay in the nearest cache.
    const RUN: usize = 128;
    let plane = bits.len() / 8;
    let planes: [&[u8]; 8] = rows(plane, bits, 0);
    let mut rows = [[0; RUN]; 8];
    for (run, bytes) in bytes.chunks_mut(8 * RUN).enumerate() {
        for (row, plane) in rows.iter_mut().zip(planes) {
            copy(plane.get(run * RUN..).unwrap_or_default(), row);
        }
        exchange::<4, RUN>(&mut rows, 0x0f);
        exchange::<2, RUN>(&mut rows, 0x33);
        exchange::<1, RUN>(&mut rows, 0x55);
        let (bytes, _) = bytes.as_chunks_mut();
        merge(rows.each_ref().map(<[_; RUN]>::as_slice), bytes);
    }
}

/// One of the three steps that exchange bit `e` of row `b` with bit `b` of row `e`, in every column by itself:
/// the bits of `low << DISTANCE` in each row with the bits of `low` in the row `DISTANCE` further down.
pub(super) fn exchange<const DISTANCE: usize, const RUN: usize>(
    rows: &mut [[u8; RUN]; 8],
    low: u8,
) {
    for group in rows.chunks_exact_mut(2 * DISTANCE) {
        let (upper, lower) = group.split_at_mut(DISTANCE);
        for (upper, lower) in upper.iter_mut().zip(lower) {
            for (a, b) in upper.iter_mut().zip(lower) {
                let moved = ((*a >> DISTANCE) ^ *b) & low;
                *b ^= moved;
                *a ^= moved << DISTANCE;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        (0..length).map(next).collect()
    }

    #[test]
    fn unshuffle_puts_the_bytes_of_an_element_together() {
        for size in [1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 255] {
            for length in [0, 1, 2, 15, 16, 17, 64, 255, 256, 1000, 4096, 5003] {
                let shuffled = bytes(length);
                let count = length / size;
                let mut expected = shuffled.clone();
                for element in 0..count {
                    for byte in 0..size {
                        expected[element * size + byte] = shuffled[byte * count + element];
                    }
                }
                let mut out = vec![0; length];
                unshuffle(size, &shuffled, &mut out);
                assert_eq!(out, expected, "size {size} length {length}");
            }
        }
    }

    #[test]
    fn bitunshuffle_puts_the_bits_of_an_element_together() {
        for size in [1, 2, 3, 4, 8, 16] {
            for count in [0, 8, 16, 24, 120, 128, 136, 1032] {
                let shuffled = bytes(count * size);
                let mut expected = vec![0; shuffled.len()];
                for element in 0..count {
                    for bit in 0..8 * size {
                        let plane = bit * count / 8;
                        let value = shuffled[plane + element / 8] >> (element % 8) & 1;
                        expected[element * size + bit / 8] |= value << (bit % 8);
                    }
                }
                let mut out = vec![0; shuffled.len()];
                bitunshuffle(size, &shuffled, &mut out, &mut Vec::new());
                assert_eq!(out, expected, "size {size} count {count}");
            }
        }
    }

    #[test]
    fn swap_bytes_reverses_whole_elements_only() {
        for size in [2, 3, 4, 8, 16] {
            let data = bytes(100);
            let mut swapped = data.clone();
            swap_bytes(size, &mut swapped);
            let mut expected = data.clone();
            for start in (0..100 / size * size).step_by(size) {
                expected[start..start + size].reverse();
            }
            assert_eq!(swapped, expected);
        }
    }
}
