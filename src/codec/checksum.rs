//! Checksums that follow the bytes they protect.

use crate::error::{Error, Result};

/// Bytes of either checksum.
pub(super) const LENGTH: usize = 4;

/// The data in front of an HDF5 Fletcher-32 checksum, after it has been compared.
pub(super) fn verify_fletcher32(checked: &[u8]) -> Result<&[u8]> {
    let (data, stored) = split(checked, "Fletcher-32")?;
    let computed = fletcher32(data);
    // Libraries before HDF5 1.6.3 stored the bytes of both halves in the opposite order; HDF5 still reads that.
    let [a, b, c, d] = computed.to_le_bytes();
    if stored == computed || stored == u32::from_le_bytes([b, a, d, c]) {
        Ok(data)
    } else {
        Err(mismatch("Fletcher-32", stored, computed))
    }
}

/// The data in front of a CRC-32C, after it has been compared.
pub(super) fn verify_crc32c(checked: &[u8]) -> Result<&[u8]> {
    let (data, stored) = split(checked, "CRC-32C")?;
    let computed = crc32c::crc32c(data);
    if stored == computed {
        Ok(data)
    } else {
        Err(mismatch("CRC-32C", stored, computed))
    }
}

/// HDF5's Fletcher-32: big-endian words of 16 bits, an odd byte is the upper half of a last word.
///
/// Both sums are those of end-around carry: a multiple of 65535 is 65535, except for 0 itself.
pub(super) fn fletcher32(data: &[u8]) -> u32 {
    /// Words side by side in the inner loop.
    const LANES: usize = 16;
    /// Rows of words until a sum of sums might not fit 32 bits.
    const ROWS: usize = 256;

    let (words, odd) = data.as_chunks::<2>();
    let mut sums = Sums::default();
    for block in words.chunks(ROWS * LANES) {
        let (rows, rest) = block.as_chunks::<LANES>();
        let mut sum = [0_u32; LANES];
        let mut sum_of_sums = [0_u32; LANES];
        for row in rows {
            for lane in 0..LANES {
                sum[lane] += u32::from(u16::from_be_bytes(row[lane]));
                sum_of_sums[lane] += sum[lane];
            }
        }
        // A word of lane l that has m rows left (its own included) counts LANES * m - l times.
        sums.second += sums.first * (rows.len() * LANES) as u64;
        for (lane, (sum, sum_of_sums)) in (0_u64..).zip(sum.iter().zip(sum_of_sums)) {
            sums.first += u64::from(*sum);
            sums.second += LANES as u64 * u64::from(sum_of_sums) - lane * u64::from(*sum);
        }
        for word in rest {
            sums.add(u16::from_be_bytes(*word));
        }
        sums.first = fold(sums.first);
        sums.second = fold(sums.second);
    }
    if let [byte] = odd {
        sums.add(u16::from_be_bytes([*byte, 0]));
    }
    let [.., a, b] = fold(sums.second).to_be_bytes();
    let [.., c, d] = fold(sums.first).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[derive(Default)]
struct Sums {
    first: u64,
    second: u64,
}

impl Sums {
    fn add(&mut self, word: u16) {
        self.first += u64::from(word);
        self.second += self.first;
    }
}

fn fold(sum: u64) -> u64 {
    match sum {
        0 => 0,
        sum => (sum - 1) % 0xffff + 1,
    }
}

fn split<'a>(checked: &'a [u8], name: &str) -> Result<(&'a [u8], u32)> {
    match checked.split_last_chunk::<LENGTH>() {
        Some((data, stored)) => Ok((data, u32::from_le_bytes(*stored))),
        None => Err(Error::Corrupt(format!(
            "{} bytes are too few for a {name} checksum",
            checked.len()
        ))),
    }
}

fn mismatch(name: &str, stored: u32, computed: u32) -> Error {
    Error::Corrupt(format!(
        "the {name} checksum {stored:#010x} was stored, but that of the data is {computed:#010x}"
    ))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// The definition, word by word.
    fn slow_fletcher32(data: &[u8]) -> u32 {
        let (mut first, mut second) = (0_u32, 0_u32);
        for word in data.chunks(2) {
            let low = word.get(1).copied().unwrap_or(0);
            first += u32::from(u16::from_be_bytes([word[0], low]));
            first = (first & 0xffff) + (first >> 16);
            second += first;
            second = (second & 0xffff) + (second >> 16);
        }
        second << 16 | first
    }

    #[test]
    fn fletcher32_is_the_same_in_blocks_and_word_by_word() {
        for length in [0, 1, 2, 3, 31, 32, 33, 8191, 8192, 8193, 8225, 100_001] {
            for (factor, offset) in [(0, 0), (0, 255), (7, 3), (151, 11)] {
                let next = |i: usize| u8::try_from((i * factor + offset + i / 251) % 256).unwrap();
                let mut data: Vec<u8> = (0..length).map(next).collect();
                if factor == 0 {
                    data.fill(u8::try_from(offset).unwrap());
                }
                assert_eq!(
                    fletcher32(&data),
                    slow_fletcher32(&data),
                    "{length} {factor}"
                );
            }
        }
    }

    #[test]
    fn too_few_bytes_for_a_checksum_are_corrupt() {
        assert!(matches!(
            verify_fletcher32(&[1, 2, 3]),
            Err(Error::Corrupt(_))
        ));
        assert!(matches!(verify_crc32c(&[]), Err(Error::Corrupt(_))));
        assert_eq!(verify_fletcher32(&[0; 4]).unwrap(), b"");
        assert_eq!(verify_crc32c(&[0; 4]).unwrap(), b"");
    }
}
