//! Arrays of the reference library get longer, and new ones look like its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::array::Dataset;
use crate::array::chunk::ChunkAddress;
use crate::array::dtype::ElementType;
use crate::codec::Scratch;
use crate::codec::blosc::encode::{BloscCompressor, BloscShuffle};
use crate::codec::encode::EncodeScratch;
use crate::format::Format;
use crate::format::blosc2::Blosc2;
use crate::format::blosc2::blocks::cut;
use crate::format::blosc2::write::{NewArray, NewFrame, block_shape};

#[tokio::test]
async fn a_contiguous_array_grows_along_any_dimension() {
    for (name, axis, by) in [
        ("little.b2d/tas", 0, 1),
        ("little.b2d/tas", 0, 20),
        ("little.b2d/tas", 1, 7),
        ("little.b2d/tas", 2, 1),
        ("little.b2d/gaps", 0, 11),
        ("little.b2d/area", 1, 3),
        ("little.b2d/name", 0, 2),
        ("blosc2/empty", 0, 3),
        ("blosc2/nans", 1, 5),
        ("blosc2/nans_big_endian", 0, 4),
        ("blosc2/zeros", 0, 1),
        ("blosc2/attributes", 0, 1000),
    ] {
        let (directory, path) = copied(name);
        let store = Store::open(path.to_str().unwrap()).unwrap();
        let before = chunks(&store).await;
        let old = OldArray::open(&store, store.stem()).await.unwrap();
        let growth = grown(&old, axis, by);
        let mut made = Made::new(&growth);

        let new = directory.path().join("new");
        let bytes = &mut File::open(&path).unwrap();
        let file = File::create(&new).unwrap();
        let mut give = |number| Ok(made.chunk(number));
        growth.write(bytes, file, &mut give).unwrap();
        fs::rename(new, &path).unwrap();

        // The store goes on reading the file that it has open.
        let store = Store::open(path.to_str().unwrap()).unwrap();
        made.check(&before, &chunks(&store).await, name);
    }
}

#[tokio::test]
async fn a_sparse_array_grows_by_new_files_and_a_new_index() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("pr.b2nd");
    fs::create_dir(&path).unwrap();
    for entry in fs::read_dir(fixture("little.b2d/pr.b2nd")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
    }
    let store = Store::open(path.to_str().unwrap()).unwrap();
    for (axis, by) in [(0, 9), (2, 6), (1, 1), (0, 1)] {
        let before = chunks(&store).await;
        let old = OldArray::open(&store, "pr").await.unwrap();
        let growth = grown(&old, axis, by);
        let mut made = Made::new(&growth);
        let mut sparse = growth.sparse().await.unwrap();
        for number in (0..sparse.grid().len()).rev() {
            let Some(chunk) = made.chunk(number) else {
                continue;
            };
            if let Some(key) = sparse.add(number, &chunk).unwrap() {
                let file = path.join(key);
                assert!(!file.exists());
                fs::write(file, &chunk).unwrap();
            }
        }
        let index = sparse.finish().await.unwrap();
        // Up to here nothing has happened to the old array.
        assert_eq!(chunks(&store).await, before);
        assert_eq!(index.key, "chunks.b2frame");
        fs::write(path.join(&index.key), &index.content).unwrap();
        for key in &index.obsolete {
            fs::remove_file(path.join(key)).unwrap();
        }
        made.check(&before, &chunks(&store).await, "pr");

        // The header counts the bytes of all chunk files, none of which is left over.
        let files = fs::read_dir(&path).unwrap().map(Result::unwrap);
        let files = files.filter(|file| file.path().extension().unwrap() == "chunk");
        let bytes: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
        assert_eq!(index.content[0x27..0x2f], bytes.to_be_bytes());
    }
}

#[tokio::test]
async fn what_is_not_the_size_of_a_frame_stays_byte_for_byte() {
    let (_directory, path) = copied("little.b2d/tas");
    let bytes = fs::read(&path).unwrap();
    let store = Store::open(path.to_str().unwrap()).unwrap();
    let old = OldArray::open(&store, "tas").await.unwrap();
    let growth = grown(&old, 0, 12);
    let mut made = Made::new(&growth);
    let written = growth
        .write(
            &mut Cursor::new(&bytes),
            Cursor::new(Vec::new()),
            &mut |n| Ok(made.chunk(n)),
        )
        .unwrap()
        .into_inner();
    assert!(written.ends_with(&old.trailer));
    let (length, shape) = (old.head.len(), 0x6b + 5 + 4);
    // Frame length, bytes of the chunks, the new extent.
    let changed = (0..length).filter(|at| bytes[*at] != written[*at]);
    let places = [0x10..0x18, 0x1e..0x2f, shape..shape + 9];
    for at in changed {
        assert!(places.iter().any(|place| place.contains(&at)), "{at:#x}");
    }
    assert_eq!(written[0x10..0x18], (written.len() as u64).to_be_bytes());
}

#[tokio::test]
async fn what_cannot_be_appended_is_refused() {
    let (_directory, path) = copied("little.b2d/tas");
    let store = Store::open(path.to_str().unwrap()).unwrap();
    let old = OldArray::open(&store, "tas").await.unwrap();
    for shape in [
        vec![24, 8],
        vec![23, 8, 12],
        vec![1 << 40, 8, 12],
        vec![u64::MAX, 8, 12],
    ] {
        assert!(old.grow(shape).is_err());
    }
    let write = |shape: Vec<u64>, chunk: Option<Bytes>| {
        let growth = old.grow(shape).unwrap();
        let mut bytes = File::open(&path).unwrap();
        let new = Cursor::new(Vec::new());
        let outcome = growth.write(&mut bytes, new, &mut |_| Ok(chunk.clone()));
        outcome.map(|_| ()).unwrap_err().to_string()
    };
    // Chunks 8 to 11 end at the old length of 24, within their 9 steps.
    let error = write(vec![25, 8, 12], None);
    assert!(
        error.ends_with("chunk 8 gets longer, but was not given"),
        "{error}"
    );
    let short = old
        .pipeline()
        .encode(&[1; 100], &mut EncodeScratch::default());
    let error = write(vec![25, 8, 12], Some(short.unwrap().into()));
    assert!(
        error.contains("chunk 0: it has 100 bytes in blocks of"),
        "{error}"
    );
    let error = write(vec![25, 8, 12], Some(Bytes::from_static(b"no chunk")));
    assert!(error.contains("chunk 0: "), "{error}");

    let growth = old.grow(vec![27, 8, 12]).unwrap();
    let mut made = Made::new(&growth);
    let mut half = Cursor::new(fs::read(&path).unwrap()[..1000].to_vec());
    let outcome = growth.write(&mut half, Cursor::new(Vec::new()), &mut |number| {
        Ok(made.chunk(number))
    });
    assert!(matches!(outcome, Err(Error::Conflict(_))));
    assert!(matches!(growth.sparse().await, Err(Error::Invalid(_))));

    let store = Store::open(fixture("little.b2d").to_str().unwrap()).unwrap();
    let sparse = OldArray::open(&store, "pr").await.unwrap();
    let growth = sparse.grow(vec![25, 8, 12]).unwrap();
    let outcome = growth.write(&mut Cursor::new([]), Cursor::new(Vec::new()), &mut |_| {
        Ok(None)
    });
    assert!(matches!(outcome, Err(Error::Invalid(_))));
    let growth = growth.sparse().await.unwrap();
    assert!(matches!(growth.finish().await, Err(Error::Invalid(_))));

    let store = Store::open(fixture("blosc2").to_str().unwrap()).unwrap();
    for name in ["bytes", "structured", "lazy"] {
        let error = OldArray::open(&store, name).await.unwrap_err();
        assert!(matches!(error, Error::Unsupported(_)), "{error}");
    }
}

#[tokio::test]
async fn arrays_are_found_by_their_paths() {
    let little = Store::open(fixture("little.b2d").to_str().unwrap()).unwrap();
    let temp = OldArray::open(&little, "ocean/temp").await.unwrap();
    assert_eq!((temp.key(), temp.directory()), ("ocean/temp.b2nd", None));
    let pr = OldArray::open(&little, "pr").await.unwrap();
    assert_eq!(pr.key(), "pr.b2nd/chunks.b2frame");
    assert_eq!(pr.directory(), Some("pr.b2nd"));
    for name in ["temp", "ocean", "ocean/salt"] {
        let error = OldArray::open(&little, name).await.unwrap_err();
        assert!(matches!(error, Error::NotFound(_)), "{error}");
    }
    let alone = Store::open(fixture("little.b2d/pr.b2nd").to_str().unwrap()).unwrap();
    let pr = OldArray::open(&alone, "pr").await.unwrap();
    assert_eq!((pr.key(), pr.directory()), ("chunks.b2frame", Some("")));
    assert!(OldArray::open(&alone, "tas").await.is_err());
}

#[tokio::test]
async fn a_damaged_frame_is_never_copied_out_of_bounds() {
    let (_directory, path) = copied("little.b2d/tas");
    let bytes = fs::read(&path).unwrap();
    let store = Store::open(path.to_str().unwrap()).unwrap();
    for at in (0..400).chain(bytes.len() - 200..bytes.len()) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x5a;
        fs::write(&path, &damaged).unwrap();
        let Ok(old) = OldArray::open(&store, "tas").await else {
            continue;
        };
        let mut shape = old.layout().grid.shape().to_vec();
        shape[0] = shape[0].next_multiple_of(old.layout().grid.chunk_shape()[0]);
        let Ok(growth) = old.grow(shape) else {
            continue;
        };
        let mut new = Cursor::new(Vec::new());
        let _ = growth.write(&mut Cursor::new(&damaged), &mut new, &mut |_| Ok(None));
        assert!(new.into_inner().len() < 4 * bytes.len());
    }
}

#[tokio::test]
async fn a_new_array_is_what_the_library_makes_of_it() {
    let array = NewArray {
        grid: ChunkGrid::new(vec![3, 4], vec![2, 4]).unwrap(),
        block: vec![1, 4],
        element: ElementType::Int32,
        compressor: BloscCompressor::Zstd,
        level: 5,
        shuffle: BloscShuffle::Byte,
        attributes: vec![("units".into(), "K".into()), ("n".into(), 3.into())],
    };
    let pipeline = EncodePipeline(vec![Encoder::Blosc(array.encoder().unwrap())]);
    let mut writer = NewFrame::begin(array).unwrap();
    let mut out = Cursor::new(Vec::new());
    let mut scratch = EncodeScratch::default();
    let values: Vec<u8> = (0..8_i32)
        .flat_map(|i| (i * 77_777_777).to_le_bytes())
        .collect();
    for (coord, cells) in [([1, 0], &[0; 32][..]), ([0, 0], &values[..])] {
        let chunk = pipeline.encode_borrowed(cells, &mut scratch).unwrap();
        writer.put(&mut out, &coord, chunk).unwrap();
    }
    writer.finish(&mut out, vec![3, 4], || Ok(None)).unwrap();
    let frame = out.into_inner();

    // As blosc2 4.14 writes it, with one thread; the chunk that is not zeros cannot be compressed.
    let mut header = hex(
        "9ea862326672616d6500d2000000a5cf0000000000000000a412005502d30000000000000040d3\
         0000000000000040d200000004d200000010d200000020d10001d10001c3d806000000000001050000\
         0000000000000093cd0011de0001a462326e64d20000006bdc0001c60000003597000292d300000000\
         00000003d3000000000000000492d200000002d20000000492d200000001d20000000400db00000003\
         3c6934",
    );
    header[0x10..0x18].copy_from_slice(&(frame.len() as u64).to_be_bytes());
    assert_eq!(frame[..header.len()], header);
    assert_eq!(frame[header.len() + 32..header.len() + 64], values);
    let offsets = &frame[header.len() + 64 + 32..];
    assert!(offsets.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x81]));
    let trailer = &offsets[16..];
    assert_eq!(
        trailer[..35],
        hex("940193cd0018de0002a5756e697473d20000001ea16ed200000045dc0002c600000022")
    );
    assert_eq!(trailer[trailer.len() - 23], 0xce);
    assert_eq!(
        trailer[trailer.len() - 19],
        u8::try_from(trailer.len()).unwrap()
    );

    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.b2nd");
    fs::write(&path, frame).unwrap();
    let dataset = open(&Store::open(path.to_str().unwrap()).unwrap()).await;
    let variable = &dataset.root.variables[0];
    assert_eq!(variable.shape(), [3, 4]);
    assert_eq!(variable.attributes.text("units"), Some("K"));
    assert_eq!(variable.layout.element, ElementType::Int32);
}

#[test]
fn an_array_that_cannot_be_is_refused() {
    let array = NewArray {
        grid: ChunkGrid::new(vec![3], vec![2]).unwrap(),
        block: vec![2],
        element: ElementType::Float64,
        compressor: BloscCompressor::Lz4,
        level: 5,
        shuffle: BloscShuffle::Byte,
        attributes: Vec::new(),
    };
    for block in [vec![], vec![0], vec![3]] {
        let array = NewArray {
            block,
            ..array.clone()
        };
        assert!(matches!(array.encoder(), Err(Error::Invalid(_))));
    }
    let level = NewArray {
        level: 10,
        ..array.clone()
    };
    assert!(matches!(level.encoder(), Err(Error::Invalid(_))));
    let text = NewArray {
        element: ElementType::Text,
        ..array
    };
    assert!(matches!(text.encoder(), Err(Error::Unsupported(_))));
}

#[test]
fn blocks_are_cut_along_the_first_dimensions() {
    let shape = |chunk: &[u64]| block_shape(chunk, ElementType::Float32);
    assert_eq!(shape(&[10, 20, 30]), [10, 20, 30]);
    assert_eq!(shape(&[100, 200, 300]), [1, 200, 300]);
    assert_eq!(shape(&[16, 2000, 1000]), [1, 65, 1000]);
    assert_eq!(shape(&[1 << 20]), [1 << 16]);
    assert_eq!(shape(&[]), [0; 0]);
}

/// Chunks of values that only this test makes.
struct Made<'a> {
    /// Numbers in the longer array that the shorter one had.
    old: Vec<Option<u64>>,
    given: Vec<Option<Vec<u8>>>,
    new: ChunkGrid,
    block: Vec<u64>,
    item: usize,
    pipeline: EncodePipeline,
    scratch: EncodeScratch,
    is_cut: Box<dyn Fn(u64) -> bool + 'a>,
}

impl Made<'_> {
    fn new(growth: &Growth<'_>) -> Self {
        let new = growth.grid().clone();
        let old = (0..new.len()).map(|number| growth.old_number(number));
        let cut: Vec<bool> = (0..new.len()).map(|number| growth.is_cut(number)).collect();
        Self {
            old: old.collect(),
            given: vec![None; cut.len()],
            block: growth.cut.block.clone(),
            item: usize::try_from(growth.cut.item).unwrap(),
            pipeline: growth.old.pipeline(),
            scratch: EncodeScratch::default(),
            is_cut: Box::new(move |number| cut[usize::try_from(number).unwrap()]),
            new,
        }
    }

    /// The chunk with this number, if it is a new or a changed one. Every fifth new one is of zeros, every seventh is
    /// not given.
    fn chunk(&mut self, number: u64) -> Option<Bytes> {
        let index = usize::try_from(number).unwrap();
        let is_new = self.old[index].is_none();
        if !is_new && !(self.is_cut)(number) || is_new && number.is_multiple_of(7) {
            return None;
        }
        let length = usize::try_from(self.new.chunk_cells()).unwrap() * self.item;
        let value = |at: usize| u8::try_from((at / 3 + index * 7) % 251).unwrap();
        let elements: Vec<u8> = match number % 5 {
            0 => vec![0; length],
            _ => (0..length).map(value).collect(),
        };
        let mut blocks = Vec::new();
        let chunk = self.new.chunk_shape();
        cut(&elements, chunk, &self.block, self.item, &mut blocks).unwrap();
        let encoded = self.pipeline.encode(&blocks, &mut self.scratch).unwrap();
        self.given[index] = Some(blocks);
        Some(encoded.into())
    }

    /// Compares the decoded chunks of the array before and after.
    fn check(&self, before: &[Vec<u8>], after: &[Vec<u8>], name: &str) {
        assert_eq!(after.len(), self.given.len());
        let (mut given, mut kept) = (0, 0);
        for (number, chunk) in after.iter().enumerate() {
            match (&self.given[number], self.old[number]) {
                (Some(blocks), _) => assert!(chunk == blocks, "{name}: new chunk {number}"),
                (None, Some(old)) => {
                    let old = &before[usize::try_from(old).unwrap()];
                    assert!(chunk == old, "{name}: old chunk {number}");
                    kept += 1;
                }
                (None, None) => assert!(chunk.iter().all(|byte| *byte == 0)),
            }
            given += usize::from(self.given[number].is_some());
        }
        assert!(given > 0 && kept + given <= after.len());
    }
}

fn grown(old: &OldArray, axis: usize, by: u64) -> Growth<'_> {
    let mut shape = old.layout().grid.shape().to_vec();
    shape[axis] += by;
    old.grow(shape).unwrap()
}

/// All chunks of the first array of a dataset, decoded.
async fn chunks(store: &Store) -> Vec<Vec<u8>> {
    let dataset = open(store).await;
    let variable = &dataset.root.variables[0];
    let length = usize::try_from(meta::chunk_bytes(&variable.layout).unwrap()).unwrap();
    let numbers: Vec<u64> = (0..variable.layout.grid.len()).collect();
    let mut scratch = Scratch::default();
    let mut decoded = Vec::new();
    for address in variable.index.locate(&numbers).await.unwrap() {
        let encoded = match address {
            ChunkAddress::Missing => {
                decoded.push(vec![0; length]);
                continue;
            }
            ChunkAddress::Inline(bytes) => {
                decoded.push(bytes.to_vec());
                continue;
            }
            ChunkAddress::Range {
                object,
                offset,
                length,
                ..
            } => {
                let length = usize::try_from(length).unwrap();
                store.range(&object, offset, length).await.unwrap()
            }
            ChunkAddress::Object(key) => store.get(&key).await.unwrap().unwrap(),
            ChunkAddress::Encoded(bytes) => bytes,
            ChunkAddress::Foreign { .. } => continue,
        };
        let mut chunk = vec![0; length];
        let pipeline = &variable.layout.pipeline;
        pipeline
            .decode(&encoded, 0, &mut chunk, &mut scratch)
            .unwrap();
        decoded.push(chunk);
    }
    decoded
}

async fn open(store: &Store) -> Dataset {
    let dataset = Blosc2.open(store).await.unwrap();
    assert!(dataset.root.unreadable.is_empty());
    dataset
}

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// A copy of a fixture in a directory of its own.
fn copied(name: &str) -> (TempDir, std::path::PathBuf) {
    let from = fixture(&format!("{name}.b2nd"));
    let directory = TempDir::new().unwrap();
    let to = directory.path().join(from.file_name().unwrap());
    fs::copy(from, &to).unwrap();
    (directory, to)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .chars()
        .map(|c| c.to_digit(16))
        .map(Option::unwrap)
        .collect();
    let bytes = digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]);
    bytes.map(|byte| u8::try_from(byte).unwrap()).collect()
}
