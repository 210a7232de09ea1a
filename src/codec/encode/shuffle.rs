//! Byte shuffle and bit shuffle of elements.

use crate::codec::shuffle::{copy, exchange};

/// Byte shuffle of elements of `size` bytes; a last incomplete element is copied.
///
/// ```text
/// elements  a0 a1 a2  b0 b1 b2  c0 c1 c2  rest      (size 3: elements a, b, c)
/// out       a0 b0 c0  a1 b1 c1  a2 b2 c2  rest
/// ```
///
/// Both slices have the same length; of a longer one the end is left alone.
pub(in crate::codec) fn shuffle(size: usize, elements: &[u8], out: &mut [u8]) {
    let length = elements.len().min(out.len());
    let count = length.checked_div(size).unwrap_or(0);
    if size == 1 || count <= 1 {
        copy(elements, out);
        return;
    }
    let (elements, rest) = elements.split_at(count * size);
    let (planes, tail) = out.split_at_mut(count * size);
    match size {
        2 => part_pairs(elements, planes),
        _ => part_words(size, elements, planes),
    }
    copy(rest, tail);
}

/// Bit shuffle of elements of `size` bytes, of which there is a multiple of eight.
///
/// Bit `b` of byte `j` of all elements is plane `8 j + b`, the first element in the lowest bit of its first byte.
/// `planes` is a buffer of its own, used for elements of more than one byte.
pub(in crate::codec) fn bitshuffle(
    size: usize,
    elements: &[u8],
    out: &mut [u8],
    planes: &mut Vec<u8>,
) {
    if size <= 1 {
        part_bits(elements, out);
        return;
    }
    let length = elements.len();
    let plane = length / size;
    if plane == 0 {
        return;
    }
    if planes.len() < length {
        planes.resize(length, 0);
    }
    let (planes, _) = planes.split_at_mut(length);
    shuffle(size, elements, planes);
    let pairs = planes.chunks_exact(plane);
    for (bytes, bits) in pairs.zip(out.chunks_exact_mut(plane)) {
        part_bits(bytes, bits);
    }
}

/// Elements of two bytes become two planes.
fn part_pairs(elements: &[u8], planes: &mut [u8]) {
    let (elements, _) = elements.as_chunks::<2>();
    let (low, high) = planes.split_at_mut(elements.len());
    for (element, (low, high)) in elements.iter().zip(low.iter_mut().zip(high)) {
        [*low, *high] = u16::from_le_bytes(*element).to_le_bytes();
    }
}

/// Elements of any size become planes: four bytes of them at a time, as words, and what is left one by one.
fn part_words(size: usize, elements: &[u8], planes: &mut [u8]) {
    /// Elements at once: they and their words stay in the nearest cache.
    const RUN: usize = 512;
    let count = elements.len() / size;
    let mut words = [0; RUN];
    for (index, run) in elements.chunks(RUN * size).enumerate() {
        let (words, _) = words.split_at_mut(run.len() / size);
        for (byte, group) in (0..).step_by(4).zip(planes.chunks_mut(4 * count)) {
            let is_word = group.len() == 4 * count;
            if is_word {
                take_words(size, byte, run, words);
            }
            for (inner, plane) in (0_u8..).zip(group.chunks_exact_mut(count)) {
                let out = plane.get_mut(index * RUN..).unwrap_or_default();
                if is_word {
                    take_bytes(8 * inner, words, out);
                } else {
                    let bytes = run.iter().skip(byte + usize::from(inner)).step_by(size);
                    out.iter_mut()
                        .zip(bytes)
                        .for_each(|(out, byte)| *out = *byte);
                }
            }
        }
    }
}

/// Bytes `byte..byte + 4` of all elements.
fn take_words(size: usize, byte: usize, elements: &[u8], words: &mut [u32]) {
    match size {
        4 => take_words_of::<4>(byte, elements, words),
        8 => take_words_of::<8>(byte, elements, words),
        16 => take_words_of::<16>(byte, elements, words),
        _ => {
            for (word, element) in words.iter_mut().zip(elements.chunks_exact(size)) {
                let bytes = element.get(byte..).and_then(<[u8]>::first_chunk);
                *word = bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes));
            }
        }
    }
}

/// The same for a size that the compiler knows.
fn take_words_of<const N: usize>(byte: usize, elements: &[u8], words: &mut [u32]) {
    let (elements, _) = elements.as_chunks::<N>();
    for (word, element) in words.iter_mut().zip(elements) {
        let bytes = element.get(byte..).and_then(<[u8]>::first_chunk);
        *word = bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes));
    }
}

/// Bits `shift..shift + 8` of all words; this plain loop is what compilers turn into vector code.
fn take_bytes(shift: u8, words: &[u32], out: &mut [u8]) {
    for (out, word) in out.iter_mut().zip(words) {
        [*out, ..] = (word >> shift).to_le_bytes();
    }
}

/// One plane of bytes becomes eight planes of bits.
fn part_bits(bytes: &[u8], bits: &mut [u8]) {
    /// Bytes of each plane at once: all eight stay in the nearest cache.
    const RUN: usize = 128;
    let plane = bits.len() / 8;
    let mut rows = [[0; RUN]; 8];
    let mut padded = [0; 8 * RUN];
    for (index, run) in bytes.chunks(8 * RUN).enumerate() {
        let run = if run.len() < padded.len() {
            copy(run, &mut padded);
            &padded
        } else {
            run
        };
        shuffle(8, run, rows.as_flattened_mut());
        exchange::<4, RUN>(&mut rows, 0x0f);
        exchange::<2, RUN>(&mut rows, 0x33);
        exchange::<1, RUN>(&mut rows, 0x55);
        if plane == 0 {
            return;
        }
        for (row, plane) in rows.iter().zip(bits.chunks_exact_mut(plane)) {
            copy(row, plane.get_mut(index * RUN..).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::shuffle::{bitunshuffle, unshuffle};

    fn bytes(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        (0..length).map(next).collect()
    }

    #[test]
    fn shuffle_is_what_unshuffle_undoes() {
        for size in [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 17, 24, 255] {
            for length in [0, 1, 2, 15, 16, 17, 64, 255, 256, 1000, 4096, 5003, 20_003] {
                let elements = bytes(length);
                let mut shuffled = vec![0; length];
                shuffle(size, &elements, &mut shuffled);
                let mut back = vec![0; length];
                unshuffle(size, &shuffled, &mut back);
                assert_eq!(back, elements, "size {size} length {length}");
            }
        }
    }

    #[test]
    fn bitshuffle_is_what_bitunshuffle_undoes() {
        for size in [1, 2, 3, 4, 8, 16] {
            for count in [0, 8, 16, 24, 120, 128, 136, 1024, 1032, 2056] {
                let elements = bytes(count * size);
                let mut shuffled = vec![0; elements.len()];
                bitshuffle(size, &elements, &mut shuffled, &mut Vec::new());
                let mut back = vec![0; elements.len()];
                bitunshuffle(size, &shuffled, &mut back, &mut Vec::new());
                assert_eq!(back, elements, "size {size} count {count}");
            }
        }
    }
}
