//! Chunks written by the reference libraries, decoded; and damaged, refused.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

use super::blosc::{Chunk, Head};
use super::{Codec, CodecPipeline, Scratch};
use crate::error::Error;

/// An entry of the manifest, see `tests/data/make_codec_fixtures.py`.
#[derive(Deserialize)]
struct Entry {
    name: String,
    file: String,
    offset: usize,
    length: usize,
    pipeline: Vec<Codec>,
    skipped: u32,
    nbytes: Option<usize>,
    crc32c: Option<u32>,
}

struct Fixture {
    name: String,
    pipeline: CodecPipeline,
    skipped: u32,
    encoded: Vec<u8>,
    /// Length and CRC-32C of the decoded chunk; nothing for one that is to be refused.
    decoded: Option<(usize, u32)>,
}

#[test]
fn every_chunk_decodes_to_what_was_encoded() {
    let mut scratch = Scratch::default();
    for fixture in fixtures() {
        let Some((length, crc)) = fixture.decoded else {
            continue;
        };
        let mut decoded = vec![0xaa; length];
        let outcome = fixture.decode(&mut decoded, &mut scratch);
        assert!(outcome.is_ok(), "{}: {outcome:?}", fixture.name);
        assert_eq!(crc32c::crc32c(&decoded), crc, "{}", fixture.name);

        let unsized_outcome = fixture.decode_to_vec(length, &mut scratch);
        assert_eq!(unsized_outcome.unwrap(), decoded, "{}", fixture.name);
    }
}

#[test]
fn blocks_are_those_of_the_whole_chunk_in_any_order() {
    let mut scratch = Scratch::default();
    let mut several = 0;
    for fixture in fixtures() {
        let Some((length, crc)) = fixture.decoded else {
            continue;
        };
        let blocks = fixture.pipeline.blocks(&fixture.encoded, fixture.skipped);
        let Some(chunk) = blocks.unwrap() else {
            assert_ne!(fixture.pipeline.0, [Codec::Blosc]);
            continue;
        };
        assert_eq!(chunk.nbytes(), length, "{}", fixture.name);
        several += usize::from(chunk.blocks() > 1);
        let mut decoded = vec![0; length];
        for index in (0..chunk.blocks()).rev() {
            let block = &mut decoded[chunk.block_range(index)];
            chunk.decode_block(index, block, &mut scratch).unwrap();
        }
        assert_eq!(crc32c::crc32c(&decoded), crc, "{}", fixture.name);
    }
    assert!(several > 100);
}

#[test]
fn a_chunk_of_another_size_is_corrupt() {
    let mut scratch = Scratch::default();
    for fixture in fixtures() {
        let Some((length, _)) = fixture.decoded else {
            continue;
        };
        for other in [length.wrapping_sub(1), length + 1, length * 2 + 7, 0] {
            if other == length || other > 1 << 20 {
                continue;
            }
            let outcome = fixture.decode(&mut vec![0; other], &mut scratch);
            assert!(
                matches!(outcome, Err(Error::Corrupt(_))),
                "{} as {other} bytes: {outcome:?}",
                fixture.name
            );
        }
        if length > 0 {
            let outcome = fixture.decode_to_vec(length - 1, &mut scratch);
            assert!(
                matches!(outcome, Err(Error::Exhausted(_))),
                "{}: {outcome:?}",
                fixture.name
            );
        }
    }
}

#[test]
fn unsupported_features_are_named() {
    let mut scratch = Scratch::default();
    let mut refused = Vec::new();
    for fixture in fixtures() {
        if fixture.decoded.is_none() {
            match fixture.decode(&mut [0; 16384], &mut scratch) {
                Err(Error::Unsupported(text)) => refused.push(text),
                other => panic!("{}: {other:?}", fixture.name),
            }
        }
    }
    refused.sort();
    assert_eq!(
        refused,
        [
            "the Blosc compressor zfp is not supported",
            "the Blosc filter 3 (delta after another filter) is not supported",
            "the Blosc filter 35 (bytedelta) is not supported",
            "the Blosc filter 36 (int_trunc) is not supported",
        ]
    );
}

#[test]
fn a_truncated_chunk_never_decodes_to_more() {
    let mut scratch = Scratch::default();
    for fixture in fixtures() {
        let limit = fixture.decoded.map_or(16384, |(length, _)| length);
        for length in 0..fixture.encoded.len() {
            fixture
                .with(|encoded| encoded.truncate(length))
                .try_all(limit, &mut scratch);
        }
    }
}

#[test]
fn a_damaged_chunk_never_decodes_to_more() {
    let mut scratch = Scratch::default();
    let mut state = 7_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::try_from(state >> 8).unwrap()
    };
    for fixture in fixtures() {
        let limit = fixture.decoded.map_or(16384, |(length, _)| length);
        let length = fixture.encoded.len();
        for turn in 0..if length == 0 { 0 } else { 100 } {
            // Headers are small, but decide most.
            let place = random()
                % if turn % 2 == 0 {
                    length.min(80)
                } else {
                    length
                };
            let value = random().to_le_bytes()[0];
            fixture
                .with(|encoded| encoded[place] ^= value)
                .try_all(limit, &mut scratch);
        }
    }
}

#[test]
fn a_wrong_checksum_is_corrupt() {
    for codec in [Codec::Fletcher32, Codec::Crc32c] {
        let pipeline = CodecPipeline(vec![codec]);
        let outcome = pipeline.decode(
            &[1, 2, 3, 4, 9, 9, 9, 9],
            0,
            &mut [0; 4],
            &mut Scratch::default(),
        );
        assert!(matches!(outcome, Err(Error::Corrupt(_))));
    }
}

#[test]
fn steps_that_were_skipped_are_not_undone() {
    let pipeline = CodecPipeline(vec![Codec::Shuffle(2), Codec::Zlib, Codec::Fletcher32]);
    let mut decoded = [0; 4];
    let mut scratch = Scratch::default();
    pipeline
        .decode(&[1, 2, 3, 4], 0b110, &mut decoded, &mut scratch)
        .unwrap();
    assert_eq!(decoded, [1, 3, 2, 4]);
    pipeline
        .decode(&[1, 2, 3, 4], 0b111, &mut decoded, &mut scratch)
        .unwrap();
    assert_eq!(decoded, [1, 2, 3, 4]);
}

#[test]
fn a_pipeline_may_have_any_number_of_steps() {
    let pipeline = CodecPipeline(vec![Codec::Shuffle(2); 100_000]);
    let mut decoded = [0; 3];
    let mut scratch = Scratch::default();
    pipeline
        .decode(&[1, 2, 3], 0, &mut decoded, &mut scratch)
        .unwrap();
    assert_eq!(decoded, [1, 2, 3]);
}

#[test]
fn a_block_is_decoded_from_the_bytes_that_the_head_says() {
    let mut scratch = Scratch::default();
    let mut blocks = 0;
    for fixture in fixtures() {
        let Ok(Some(chunk)) = fixture.pipeline.blocks(&fixture.encoded, fixture.skipped) else {
            continue;
        };
        let encoded = fixture.encoded.as_slice();
        let first = &encoded[..Head::most(chunk.blocks()).min(encoded.len())];
        let head = Head::parse(first, encoded.len()).unwrap();
        for block in 0..chunk.blocks() {
            let mut part = vec![0xa5; head.length()];
            let start = first.len().min(part.len());
            part[..start].copy_from_slice(&first[..start]);
            for range in head.ranges(&[block]).unwrap() {
                part[range.clone()].copy_from_slice(&encoded[range]);
            }
            let decode = |bytes: &[u8], scratch: &mut Scratch| {
                let chunk = Chunk::parse(bytes).unwrap();
                let mut out = vec![0; chunk.block_range(block).len()];
                chunk.decode_block(block, &mut out, scratch).unwrap();
                out
            };
            let whole = decode(encoded, &mut scratch);
            assert_eq!(decode(&part, &mut scratch), whole, "{}", fixture.name);
            blocks += 1;
        }
    }
    assert!(blocks > 100, "{blocks}");
}

#[test]
fn a_bomb_ends_at_the_known_size() {
    // 32 bytes that say to be 2 GiB of zeros.
    let mut bomb = [0_u8; 32];
    bomb[..16].copy_from_slice(&[5, 1, 5, 4, 0xfc, 0xff, 0xff, 0x7f, 0, 0, 0, 1, 32, 0, 0, 0]);
    bomb[31] = 1 << 4;
    let pipeline = CodecPipeline(vec![Codec::Blosc]);
    let mut scratch = Scratch::default();
    let outcome = pipeline.decode(&bomb, 0, &mut [0; 100], &mut scratch);
    assert!(matches!(outcome, Err(Error::Corrupt(_))));
    let outcome = pipeline.decode_to_vec(&bomb, 0, 100, &mut scratch);
    assert!(matches!(outcome, Err(Error::Exhausted(_))));
}

#[test]
fn a_pipeline_reads_as_its_steps() {
    let pipeline = CodecPipeline(vec![Codec::Shuffle(4), Codec::Zlib]);
    assert_eq!(pipeline.to_string(), "shuffle(4), zlib");
    assert_eq!(CodecPipeline::default().to_string(), "none");
}

impl Fixture {
    fn decode(&self, decoded: &mut [u8], scratch: &mut Scratch) -> crate::error::Result<()> {
        self.pipeline
            .decode(&self.encoded, self.skipped, decoded, scratch)
    }

    fn decode_to_vec(&self, limit: usize, scratch: &mut Scratch) -> crate::error::Result<Vec<u8>> {
        self.pipeline
            .decode_to_vec(&self.encoded, self.skipped, limit, scratch)
    }

    fn with(&self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut encoded = self.encoded.clone();
        change(&mut encoded);
        Self {
            name: self.name.clone(),
            pipeline: self.pipeline.clone(),
            skipped: self.skipped,
            encoded,
            decoded: self.decoded,
        }
    }

    /// Decodes in every way; any outcome will do that is none of more than `limit` bytes.
    fn try_all(&self, limit: usize, scratch: &mut Scratch) {
        let _ = self.decode(&mut vec![0; limit], scratch);
        if let Ok(decoded) = self.decode_to_vec(limit, scratch) {
            assert!(decoded.len() <= limit, "{}", self.name);
        }
        if let Ok(Some(chunk)) = self.pipeline.blocks(&self.encoded, self.skipped) {
            let last = chunk.blocks().saturating_sub(1);
            let length = chunk.block_range(last).len();
            if length <= limit {
                let _ = chunk.decode_block(last, &mut vec![0; length], scratch);
            }
        }
    }
}

fn fixtures() -> Vec<Fixture> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/codec");
    let manifest = fs::read(folder.join("manifest.json")).unwrap();
    let entries: Vec<Entry> = serde_json::from_slice(&manifest).unwrap();
    let mut content = (String::new(), Vec::new());
    let read = |entry: Entry| {
        if content.0 != entry.file {
            content = (
                entry.file.clone(),
                fs::read(folder.join(&entry.file)).unwrap(),
            );
        }
        Fixture {
            name: entry.name,
            pipeline: CodecPipeline(entry.pipeline),
            skipped: entry.skipped,
            encoded: content.1[entry.offset..entry.offset + entry.length].to_vec(),
            decoded: entry.nbytes.zip(entry.crc32c),
        }
    };
    entries.into_iter().map(read).collect()
}
