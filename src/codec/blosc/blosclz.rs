//! The LZ77 format of Blosc's own compressor, decoded.
//!
//! ```text
//! 000nnnnn                            n + 1 literal bytes follow
//! LLLddddd [more length] D            a copy of LLL + 2 bytes from dddddD + 1 bytes back
//! LLL11111 [more length] 11111111 DD  a copy from DD + 8192 bytes back, DD big-endian
//! ```
//!
//! `LLL` = 7 adds the following bytes up to and including the first that is not 255. The upper three bits of the very
//! first byte say something else, it always starts literals.

/// Bytes that are copied at once where there is room.
const STRIDE: usize = 16;

/// Decodes into `out` and returns the number of bytes written; `None` for what is no such stream or needs more room.
pub(super) fn decompress(encoded: &[u8], out: &mut [u8]) -> Option<usize> {
    let (first, mut rest) = encoded.split_first()?;
    let mut control = usize::from(first & 31);
    let mut written = 0;
    loop {
        if control < 32 {
            let (literals, after) = rest.split_at_checked(control + 1)?;
            copy_literals(literals, rest, out, written)?;
            written += literals.len();
            rest = after;
        } else {
            let (length, distance) = read_match(control, &mut rest)?;
            copy_back(out, written, distance, length)?;
            written += length;
        }
        let Some((next, after)) = rest.split_first() else {
            return Some(written);
        };
        control = usize::from(*next);
        rest = after;
    }
}

/// Length and distance of a copy.
fn read_match(control: usize, rest: &mut &[u8]) -> Option<(usize, usize)> {
    let mut length = (control >> 5) + 2;
    if length == 9 {
        loop {
            let more = take(rest)?;
            length = length.checked_add(more)?;
            if more != 255 {
                break;
            }
        }
    }
    let low = take(rest)?;
    let near = (control & 31) << 8 | low;
    let distance = if near == 0x1fff {
        let high = take(rest)?;
        0x2000 + (high << 8 | take(rest)?)
    } else {
        near + 1
    };
    Some((length, distance))
}

fn take(rest: &mut &[u8]) -> Option<usize> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(usize::from(*first))
}

/// Copies `literals`, which begin `rest`, to `out[at..]`.
fn copy_literals(literals: &[u8], rest: &[u8], out: &mut [u8], at: usize) -> Option<()> {
    const WIDE: usize = 32;
    // There are at most 32 literals at a time, and a copy of fixed length is a few instructions.
    let room = out.get_mut(at..)?;
    match (rest.first_chunk::<WIDE>(), room.first_chunk_mut::<WIDE>()) {
        (Some(from), Some(to)) => *to = *from,
        _ => room.get_mut(..literals.len())?.copy_from_slice(literals),
    }
    Some(())
}

/// Copies `length` bytes from `distance` bytes in front of `at` to `at`; the two may overlap.
fn copy_back(out: &mut [u8], at: usize, distance: usize, length: usize) -> Option<()> {
    let start = at.checked_sub(distance)?;
    let end = at.checked_add(length)?;
    if end > out.len() {
        return None;
    }
    if distance >= length {
        if length <= STRIDE && distance >= STRIDE && at + STRIDE <= out.len() {
            let chunk = *out.get(start..)?.first_chunk::<STRIDE>()?;
            *out.get_mut(at..)?.first_chunk_mut()? = chunk;
        } else {
            out.copy_within(start..start + length, at);
        }
    } else if distance == 1 {
        let byte = *out.get(start)?;
        out.get_mut(at..end)?.fill(byte);
    } else {
        // What has been copied is itself the beginning of the pattern: twice as much with every turn.
        let mut to = at;
        while to < end {
            let count = (to - start).min(end - to);
            out.copy_within(start..start + count, to);
            to += count;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_copies_near_and_overlapping() {
        // "abc", then 9 + 1 bytes from 3 back, then 3 bytes from 1 back.
        let encoded = [0x22, b'a', b'b', b'c', 0xe0, 1, 2, 0x20, 0];
        let mut out = [0; 16];
        assert_eq!(decompress(&encoded, &mut out), Some(16));
        assert_eq!(&out, b"abcabcabcabcaaaa");
    }

    #[test]
    fn a_distance_of_16_bits_counts_from_8192() {
        // "abc", then more than 8192 bytes from 3 back, then 3 bytes from 8193 back.
        let mut encoded = vec![0x22, b'a', b'b', b'c', 0xe0];
        encoded.extend([255; 33]);
        encoded.extend([0, 2, 0x3f, 255, 0, 1]);
        let mut out = vec![0; 9000];
        let written = 3 + 9 + 255 * 33 + 3;
        assert_eq!(decompress(&encoded, &mut out), Some(written));
        assert_eq!(
            out[written - 3..written],
            out[written - 3 - 8193..written - 8193]
        );
        assert_eq!(out[written - 3..written], *b"abc");
    }

    #[test]
    fn a_copy_from_before_the_start_or_past_the_end_is_refused() {
        assert_eq!(decompress(&[0x20, b'a', 0x20, 1], &mut [0; 9]), None);
        assert_eq!(decompress(&[0x20, b'a', 0x40, 0], &mut [0; 4]), None);
        assert_eq!(decompress(&[0x21, b'a'], &mut [0; 9]), None);
        assert_eq!(decompress(&[], &mut [0; 9]), None);
    }
}
