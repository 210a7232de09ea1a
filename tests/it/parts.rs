//! Parts of encoded chunks: only the blocks that a selection touches are read, here and far away.

use std::sync::Arc;

use hyperslab::array::Layout;
use hyperslab::array::chunk::{ChunkAddress, ChunkGrid, ElementOrder};
use hyperslab::array::dtype::ElementType;
use hyperslab::array::hyperslab::{IndexSet, Selection};
use hyperslab::array::slab::SlabData;
use hyperslab::codec::{Codec, CodecPipeline};
use hyperslab::read::{self, Buffers, Counters, ReadPlan};
use hyperslab::store::Store;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

/// An array of two chunks of ten blocks each; a block has this many bytes. Every cell is its own C-order number.
const SHAPE: [u64; 3] = [60, 160, 128];
const CHUNK: [u64; 3] = [30, 160, 128];
const BLOCK: [u64; 3] = [3, 160, 128];
const BLOCKS: usize = 10;
const BLOCK_BYTES: usize = 3 * 160 * 128 * 4;
/// Where the number of a block is in a chunk.
const STARTS: usize = 32;

#[tokio::test]
async fn few_blocks_of_a_chunk_are_read_without_the_others() {
    let array = Array::new(|_| ());
    let few = selection(IndexSet::range(4..5), IndexSet::all(160));
    let most = BLOCK_BYTES + (256 << 10);
    for (store, counters) in array.read(&few).await {
        let counters = counters.unwrap();
        assert!(counters.bytes_read > BLOCK_BYTES, "{store}: {counters:?}");
        assert!(counters.bytes_read < most, "{store}: {counters:?}");
        assert_eq!(counters.bytes_decoded, BLOCK_BYTES, "{store}");
    }
}

#[tokio::test]
async fn every_selection_has_the_cells_of_the_array() {
    let array = Array::new(|_| ());
    let times = [
        IndexSet::all(60),
        IndexSet::range(29..31),
        IndexSet::strided(0, 60, 13),
        IndexSet::from_sorted([3, 29, 30, 59]),
        IndexSet::range(7..7),
    ];
    for time in times {
        for rows in [IndexSet::all(160), IndexSet::from_sorted([0, 77])] {
            for (store, counters) in array.read(&selection(time.clone(), rows)).await {
                assert!(counters.is_ok(), "{store}: {counters:?}");
            }
        }
    }
}

#[tokio::test]
async fn most_blocks_of_a_chunk_are_read_with_the_others() {
    let array = Array::new(|_| ());
    let most = selection(IndexSet::range(0..29), IndexSet::all(160));
    for (store, counters) in array.read(&most).await {
        assert_eq!(counters.unwrap().bytes_read, array.chunk, "{store}");
    }
}

#[tokio::test]
async fn damaged_heads_are_errors_that_name_the_chunk() {
    let few = selection(IndexSet::range(4..5), IndexSet::all(160));
    let damages: [(&str, Change); 6] = [
        ("a start behind the end", |chunk| {
            put(chunk, STARTS + 4, i32::MAX);
        }),
        ("a negative start", |chunk| put(chunk, STARTS + 4, -1)),
        ("a start at the end", |chunk| {
            let end = i32::try_from(chunk.len()).unwrap();
            put(chunk, STARTS + 4, end);
        }),
        ("starts that leave no room", |chunk| {
            let start = i32::from_le_bytes(chunk[STARTS + 4..STARTS + 8].try_into().unwrap());
            put(chunk, STARTS + 8, start + 10);
        }),
        ("more bytes than there are", |chunk| {
            put(chunk, 12, i32::MAX)
        }),
        ("other blocks", |chunk| put(chunk, 8, 4096)),
    ];
    for (damage, change) in damages {
        let array = Array::new(change);
        for (store, outcome) in array.read(&few).await {
            let Err(error) = outcome else {
                panic!("{damage}, {store}")
            };
            assert!(error.contains("tas: "), "{damage}, {store}: {error}");
        }
    }
}

/// A change made to an encoded chunk.
type Change = fn(&mut Vec<u8>);

/// An encoded array in two stores.
struct Array {
    objects: Vec<u8>,
    /// Bytes of a chunk.
    chunk: usize,
}

impl Array {
    /// The array, with a change made to each of its chunks.
    fn new(change: Change) -> Self {
        let mut objects = Vec::new();
        let mut length = 0;
        for chunk in 0..2 {
            let mut encoded = encoded(chunk);
            change(&mut encoded);
            length = encoded.len();
            objects.extend(encoded);
        }
        Self {
            objects,
            chunk: length,
        }
    }

    fn plan(&self, selection: &Selection) -> ReadPlan {
        let grid = ChunkGrid::new(SHAPE.to_vec(), CHUNK.to_vec()).unwrap();
        let address = |number: u64| ChunkAddress::Range {
            object: "array".into(),
            offset: number * self.chunk as u64,
            length: self.chunk as u64,
            skipped: 0,
        };
        let chunks = read::touched_chunks(&grid, selection);
        ReadPlan {
            variable: "tas".into(),
            layout: Arc::new(Layout {
                element: ElementType::Float32,
                grid,
                order: ElementOrder::Blocked(BLOCK.to_vec()),
                pipeline: CodecPipeline(vec![Codec::Blosc]),
                fill: Vec::new(),
            }),
            selection: selection.clone(),
            chunks: chunks
                .into_iter()
                .map(|number| (number, address(number)))
                .collect(),
        }
    }

    /// Reads a selection from a file and from an object store, and compares the cells.
    async fn read(&self, selection: &Selection) -> Vec<(String, Result<Counters, String>)> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("array"), &self.objects).unwrap();
        let local = Store::open(folder.path().to_str().unwrap()).unwrap();
        let objects = InMemory::new();
        let bytes = self.objects.clone();
        objects
            .put(&Path::from("array"), bytes.into())
            .await
            .unwrap();
        let objects: Arc<dyn ObjectStore> = Arc::new(objects);
        let remote = Store::with_objects("memory", objects, Path::default());
        let plan = self.plan(selection);
        let mut outcomes = Vec::new();
        for store in [local, remote] {
            let mut buffers = Buffers::default();
            let slab = match read::fetch(&store, &plan).await {
                Ok(fetched) => read::decode(&store, &plan, &fetched, &mut buffers),
                Err(error) => Err(error),
            };
            let outcome = slab.map_err(|error| error.to_string()).map(|slab| {
                let SlabData::Fixed(data) = slab.data else {
                    panic!("text")
                };
                assert!(data.typed_data::<f32>() == cells(selection));
                buffers.counters
            });
            outcomes.push((store.location().to_owned(), outcome));
        }
        outcomes
    }
}

fn selection(time: IndexSet, rows: IndexSet) -> Selection {
    Selection {
        dims: vec![time, rows, IndexSet::all(SHAPE[2])],
    }
}

fn cells(selection: &Selection) -> Vec<f32> {
    let [time, rows, columns] = selection.dims.as_slice() else {
        panic!("{selection:?}")
    };
    let mut cells = Vec::new();
    for time in time.iter() {
        for row in rows.iter() {
            let numbers = columns.iter().map(|column| number(time, row, column));
            cells.extend(numbers);
        }
    }
    cells
}

#[expect(clippy::cast_precision_loss, reason = "the array has few cells")]
fn number(time: u64, row: u64, column: u64) -> f32 {
    ((time * SHAPE[1] + row) * SHAPE[2] + column) as f32
}

/// A Blosc 2 chunk whose blocks are in one stream each, which is stored as it is: the odd ones first.
fn encoded(chunk: u64) -> Vec<u8> {
    let mut bytes = vec![0; STARTS + 4 * BLOCKS];
    bytes[..4].copy_from_slice(&[5, 1, 0b0011_0101, 4]);
    let [whole, size] = [BLOCKS * BLOCK_BYTES, BLOCK_BYTES].map(|n| i32::try_from(n).unwrap());
    put(&mut bytes, 4, whole);
    put(&mut bytes, 8, size);
    for block in (1..BLOCKS).step_by(2).chain((0..BLOCKS).step_by(2)) {
        let start = i32::try_from(bytes.len()).unwrap();
        put(&mut bytes, STARTS + 4 * block, start);
        bytes.extend(size.to_le_bytes());
        let first = chunk * CHUNK[0] + block as u64 * BLOCK[0];
        let whole = selection(
            IndexSet::range(first..first + BLOCK[0]),
            IndexSet::all(SHAPE[1]),
        );
        bytes.extend(cells(&whole).iter().flat_map(|cell| cell.to_le_bytes()));
    }
    let length = i32::try_from(bytes.len()).unwrap();
    put(&mut bytes, 12, length);
    bytes
}

fn put(chunk: &mut [u8], at: usize, value: i32) {
    chunk[at..at + 4].copy_from_slice(&value.to_le_bytes());
}
