//! What is encoded decodes again, and what stands around it is what the formats prescribe.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::codec::Scratch;
use crate::codec::blosc::Chunk;
use crate::codec::blosc::encode::{BloscCompressor, BloscShuffle, BloscVersion};
use crate::error::Error;

#[test]
fn every_encoder_decodes_to_what_was_encoded() {
    let mut scratch = (EncodeScratch::default(), Scratch::default());
    let mut encoders = vec![Encoder::Lz4, Encoder::Fletcher32, Encoder::Crc32c];
    for size in [1, 2, 4, 5, 8] {
        encoders.extend([Encoder::ByteSwap(size), Encoder::Shuffle(size)]);
    }
    for level in [0, 1, 6, 9, 12] {
        encoders.extend([Encoder::Zlib { level }, Encoder::Gzip { level }]);
    }
    for level in [-5, 0, 1, 3, 9] {
        for checksum in [FrameChecksum::Absent, FrameChecksum::Present] {
            encoders.push(Encoder::Zstd { level, checksum });
        }
    }
    for (name, elements) in samples() {
        for encoder in &encoders {
            let pipeline = EncodePipeline(vec![encoder.clone()]);
            round_trip(&name, &pipeline, &elements, &mut scratch);
        }
    }
}

#[test]
fn every_kind_of_blosc_chunk_decodes_to_what_was_encoded() {
    let mut scratch = (EncodeScratch::default(), Scratch::default());
    let samples = samples();
    for encoder in blosc_encoders() {
        let pipeline = EncodePipeline(vec![Encoder::Blosc(encoder)]);
        for (name, elements) in &samples {
            round_trip(name, &pipeline, elements, &mut scratch);
        }
    }
}

#[test]
fn steps_are_taken_in_their_order() {
    let mut scratch = (EncodeScratch::default(), Scratch::default());
    let pipeline = EncodePipeline(vec![
        Encoder::ByteSwap(4),
        Encoder::Shuffle(4),
        Encoder::Zstd {
            level: 3,
            checksum: FrameChecksum::Absent,
        },
        Encoder::Crc32c,
    ]);
    assert_eq!(
        pipeline.decoder().to_string(),
        "byteswap(4), shuffle(4), zstd, crc32c"
    );
    for (name, elements) in samples() {
        round_trip(&name, &pipeline, &elements, &mut scratch);
    }
    let two = EncodePipeline(vec![Encoder::ByteSwap(2), Encoder::Shuffle(2)]);
    let encoded = two.encode(&[1, 2, 3, 4], &mut scratch.0).unwrap();
    assert_eq!(encoded, [2, 4, 1, 3]);
    let none = EncodePipeline::default();
    let encoded = none.encode(&[1, 2, 3], &mut scratch.0).unwrap();
    assert_eq!(encoded, [1, 2, 3]);
}

#[test]
fn what_surrounds_the_data_is_what_the_formats_prescribe() {
    let elements = [7; 100];
    let encode = |encoder| {
        let pipeline = EncodePipeline(vec![encoder]);
        let encoded = pipeline.encode(&elements, &mut EncodeScratch::default());
        encoded.unwrap()
    };
    assert!(encode(Encoder::Gzip { level: 6 }).starts_with(&[0x1f, 0x8b, 8]));
    let zlib = encode(Encoder::Zlib { level: 6 });
    let [first, second, ..] = zlib.as_slice() else {
        return;
    };
    assert_eq!(*first, 0x78);
    assert!(u16::from_be_bytes([*first, *second]).is_multiple_of(31));
    // Magic; one segment with a size of one byte, without or with a checksum; the size.
    for (checksum, descriptor) in [
        (FrameChecksum::Absent, 0x20),
        (FrameChecksum::Present, 0x24),
    ] {
        let zstd = encode(Encoder::Zstd { level: 3, checksum });
        assert!(zstd.starts_with(&[0x28, 0xb5, 0x2f, 0xfd, descriptor, 100]));
    }
    assert!(encode(Encoder::Lz4).starts_with(&[100, 0, 0, 0]));
    // The check value of CRC-32C, and a Fletcher-32 of HDF5: words 1, 2 give sums of 3 and 4.
    let crc = EncodePipeline(vec![Encoder::Crc32c]);
    let encoded = crc.encode(b"123456789", &mut EncodeScratch::default());
    assert!(encoded.unwrap().ends_with(&0xe306_9283_u32.to_le_bytes()));
    let fletcher = EncodePipeline(vec![Encoder::Fletcher32]);
    let encoded = fletcher.encode(&[0, 1, 0, 2], &mut EncodeScratch::default());
    assert_eq!(encoded.unwrap(), [0, 1, 0, 2, 3, 0, 4, 0]);
}

#[test]
fn a_blosc_header_says_what_is_in_the_chunk() {
    let elements: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let first = BloscEncoder {
        compressor: BloscCompressor::Zstd,
        level: 7,
        shuffle: BloscShuffle::Bit,
        typesize: 4,
        blocksize: 1 << 16,
        version: BloscVersion::Blosc1,
    };
    // Version 2, bit shuffle, not split, Zstandard; 400000 bytes in blocks of 65536.
    let chunk = blosc(&first, &elements);
    assert!(chunk.starts_with(&[2, 1, 0x94, 4, 0x80, 0x1a, 6, 0, 0, 0, 1, 0]));
    let length = u32::try_from(chunk.len()).unwrap();
    assert_eq!(chunk[12..16], length.to_le_bytes());
    let second = BloscEncoder {
        compressor: BloscCompressor::Lz4hc,
        shuffle: BloscShuffle::Byte,
        version: BloscVersion::Blosc2,
        ..first.clone()
    };
    // Version 5, extended, split, LZ4; the last of six filters is the shuffle.
    let chunk = blosc(&second, &elements);
    assert!(chunk.starts_with(&[5, 1, 0x25, 4, 0x80, 0x1a, 6, 0, 0, 0, 1, 0]));
    assert_eq!(
        chunk[16..32],
        [0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    assert!(chunk.len() < elements.len() / 2);

    let stored = BloscEncoder {
        level: 0,
        ..first.clone()
    };
    let chunk = blosc(&stored, &elements);
    assert_eq!(chunk[2], 0x96);
    assert_eq!(chunk[16..], elements);

    // Chunks of one value are nothing but a header, or that and the value.
    let zeros = blosc(&second, &[0; 4000]);
    assert_eq!((zeros.len(), zeros[31]), (32, 0x10));
    let sevens = blosc(&second, &[7, 0, 0, 1].repeat(1000));
    assert_eq!((sevens.len(), sevens[31]), (36, 0x30));
    assert_eq!(
        Chunk::parse(&sevens).unwrap().repeated(),
        Some([7, 0, 0, 1].as_slice())
    );
}

#[test]
fn blocks_are_those_that_were_asked_for() {
    let elements: Vec<u8> = (0..3000_u16).flat_map(u16::to_le_bytes).collect();
    for (asked, got) in [
        (12, 12),
        (1000, 1000),
        (1001, 1000),
        (1, 2),
        (1 << 20, 6000),
    ] {
        for version in [BloscVersion::Blosc1, BloscVersion::Blosc2] {
            let encoder = BloscEncoder {
                compressor: BloscCompressor::Lz4,
                level: 5,
                shuffle: BloscShuffle::Byte,
                typesize: 2,
                blocksize: asked,
                version,
            };
            let chunk = blosc(&encoder, &elements);
            assert_eq!(Chunk::parse(&chunk).unwrap().block_size(), got);
        }
    }
}

#[test]
fn parameters_that_do_not_exist_are_refused() {
    let mut encoder = blosc_encoders().remove(0);
    encoder.level = 10;
    let of_nothing = BloscEncoder {
        level: 5,
        typesize: 0,
        ..encoder.clone()
    };
    for encoder in [
        Encoder::Zlib { level: 13 },
        Encoder::Gzip { level: 255 },
        Encoder::Blosc(encoder),
        Encoder::Blosc(of_nothing),
    ] {
        let pipeline = EncodePipeline(vec![encoder]);
        let error = pipeline.encode(&[1], &mut EncodeScratch::default());
        assert!(matches!(error, Err(Error::Invalid(_))), "{pipeline:?}");
    }
}

#[test]
fn encoders_travel_as_plain_data() {
    for encoder in blosc_encoders() {
        let pipeline = EncodePipeline(vec![Encoder::Blosc(encoder)]);
        let text = serde_json::to_string(&pipeline).unwrap();
        assert_eq!(
            serde_json::from_str::<EncodePipeline>(&text).unwrap(),
            pipeline
        );
    }
}

fn blosc(encoder: &BloscEncoder, elements: &[u8]) -> Vec<u8> {
    let pipeline = EncodePipeline(vec![Encoder::Blosc(encoder.clone())]);
    pipeline
        .encode(elements, &mut EncodeScratch::default())
        .unwrap()
}

fn round_trip(
    name: &str,
    pipeline: &EncodePipeline,
    elements: &[u8],
    (encode, decode): &mut (EncodeScratch, Scratch),
) {
    let encoded = pipeline.encode(elements, encode).unwrap();
    let mut decoded = vec![0xaa; elements.len()];
    let outcome = pipeline.decoder().decode(&encoded, 0, &mut decoded, decode);
    assert!(outcome.is_ok(), "{name} {pipeline:?}: {outcome:?}");
    assert!(decoded == elements, "{name} {pipeline:?}");
}

fn blosc_encoders() -> Vec<BloscEncoder> {
    let mut encoders = Vec::new();
    for version in [BloscVersion::Blosc1, BloscVersion::Blosc2] {
        for shuffle in [BloscShuffle::None, BloscShuffle::Byte, BloscShuffle::Bit] {
            for (typesize, blocksize) in [(1, 0), (2, 1000), (4, 0), (8, 8192), (12, 1), (300, 0)] {
                for (compressor, levels) in [
                    (BloscCompressor::Blosclz, 5..=5),
                    (BloscCompressor::Lz4, 0..=9),
                    (BloscCompressor::Lz4hc, 9..=9),
                    (BloscCompressor::Zlib, 1..=3),
                    (BloscCompressor::Zstd, 4..=6),
                ] {
                    encoders.extend(levels.map(|level| BloscEncoder {
                        compressor,
                        level,
                        shuffle,
                        typesize,
                        blocksize,
                        version,
                    }));
                }
            }
        }
    }
    encoders
}

/// Data of many lengths: smooth, of one value, and what cannot be compressed.
fn samples() -> Vec<(String, Vec<u8>)> {
    let mut samples = Vec::new();
    for length in [0, 1, 2, 4, 7, 8, 31, 32, 33, 64, 100, 1000, 4099, 70_000] {
        let count = u32::try_from(length).unwrap();
        let smooth = (0..count).flat_map(|i| (i / 3).to_le_bytes()).take(length);
        let mut state = count;
        let noise = (0..count).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        });
        samples.push((format!("{length} smooth"), smooth.collect()));
        samples.push((format!("{length} noise"), noise.collect()));
        samples.push((format!("{length} zeros"), vec![0; length]));
        samples.push((format!("{length} minus ones"), vec![0xff; length]));
    }
    samples
}
