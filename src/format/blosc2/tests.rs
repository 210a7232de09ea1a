//! Frames that the reference library wrote, and damaged copies of them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::array::chunk::{ChunkAddress, ElementOrder};
use crate::array::dtype::ElementType;
use crate::array::{AttributeValue, Dataset, Group, Variable};
use crate::codec::{Codec, Scratch};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::format::blosc2::Blosc2;
use crate::store::Store;

#[tokio::test]
async fn a_directory_is_a_dataset_of_named_dimensions() {
    let dataset = open("little.b2d").await;
    let tas = variable(&dataset.root, "tas");
    assert_eq!(tas.dimensions, ["time", "lat", "lon"]);
    assert_eq!(tas.shape(), [24, 8, 12]);
    assert_eq!(tas.layout.grid.chunk_shape(), [9, 5, 7]);
    assert_eq!(tas.layout.order, ElementOrder::Blocked(vec![4, 5, 3]));
    assert_eq!(tas.attributes.text("units"), Some("K"));
    assert!(tas.attributes.get("_ARRAY_DIMENSIONS").is_none());
    assert_eq!(variable(&dataset.root, "height").shape(), [0; 0]);
    assert_eq!(
        variable(&dataset.root, "area").layout.pipeline.0,
        [Codec::ByteSwap(8), Codec::Blosc]
    );
    assert_eq!(
        variable(&dataset.root, "name").layout.element,
        ElementType::Utf32(7)
    );
    let [ocean] = dataset.root.groups.as_slice() else {
        panic!("{:?}", dataset.root.groups)
    };
    assert_eq!(variable(ocean, "temp").path, "ocean/temp");
    assert_eq!(variable(ocean, "temp").dimensions, ["time", "depth"]);
    // The group sees the time of the dataset and has a depth of its own.
    assert_eq!(ocean.dimensions.len(), 1);
    assert_eq!(
        dataset.root.attributes.text("title"),
        Some("a little world")
    );
}

#[tokio::test]
async fn chunks_of_contiguous_and_sparse_frames_decode() {
    let root = open("little.b2d").await.root;
    let tas = decoded(&root, "tas").await;
    let values = tas
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b));
    let (mut low, mut high) = (f32::MAX, f32::MIN);
    // The padding of blocks and chunks is zero, the fill value is 1e20.
    for value in values.filter(|value| *value > 0.0 && *value < 1e19) {
        (low, high) = (low.min(value), high.max(value));
    }
    assert_eq!((low, high), (247.375, 309.375));

    let pr = decoded(&root, "pr").await;
    let values = pr.as_chunks::<2>().0.iter().map(|b| i16::from_le_bytes(*b));
    assert_eq!(values.filter(|value| *value == -32767).count(), 2304 - 2253);
}

#[tokio::test]
async fn special_chunks_have_no_bytes() {
    let root = open("blosc2").await.root;
    let nan = locate(&root, "nans", 0).await;
    assert_eq!(
        nan,
        ChunkAddress::Inline(f64::NAN.to_le_bytes().repeat(6 * 4).into())
    );
    assert!(matches!(
        locate(&root, "nans", 1).await,
        ChunkAddress::Range { .. }
    ));
    assert_eq!(locate(&root, "zeros", 0).await, ChunkAddress::Missing);
    assert_eq!(locate(&root, "uninit", 3).await, ChunkAddress::Missing);
    assert_eq!(locate(&root, "huge", 999_999).await, ChunkAddress::Missing);
    // Native NaNs under a foreign byte order are the numbers that the library shows for them.
    let swapped = locate(&root, "nans_big_endian", 0).await;
    let mut bytes = f32::NAN.to_le_bytes();
    bytes.reverse();
    assert_eq!(swapped, ChunkAddress::Inline(bytes.repeat(6 * 4).into()));
}

#[tokio::test]
async fn a_short_last_chunk_is_padded() {
    let root = open("blosc2").await.root;
    let ChunkAddress::Inline(last) = locate(&root, "bytes", 2).await else {
        panic!("a chunk in the file")
    };
    assert_eq!(last.len(), 1000);
    assert_eq!(last.get(498..502), Some([248, 249, 0, 0].as_slice()));
}

#[tokio::test]
async fn attributes_keep_what_they_say() {
    let root = open("blosc2").await.root;
    let variable = variable(&root, "attributes");
    let attributes = &variable.attributes;
    let integers = |element, values: &[i128]| {
        Some(AttributeValue::Integers {
            element,
            values: values.to_vec(),
        })
    };
    assert_eq!(
        attributes.get("tuple").cloned(),
        integers(ElementType::Int64, &[1, 2])
    );
    assert_eq!(
        attributes.get("array").cloned(),
        integers(ElementType::Int8, &[0, 1, -2])
    );
    assert_eq!(
        attributes.get("nested"),
        Some(&AttributeValue::Json(serde_json::json!({"a": [1, null]})))
    );
    assert_eq!(
        attributes.get("flag"),
        Some(&AttributeValue::Json(true.into()))
    );
    assert_eq!(
        attributes.get("texts"),
        Some(&AttributeValue::Texts(vec!["a".into(), "b".into()]))
    );
    assert_eq!(attributes.text("long").map(str::len), Some(5000));
    assert!(matches!(
        attributes.get("nan"),
        Some(AttributeValue::Floats { values, .. }) if values.iter().all(|value| value.is_nan())
    ));
    // Complex numbers are an extension of msgpack.
    assert_eq!(attributes.get("complex"), None);
    assert_eq!(variable.dimensions, ["station"]);
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let root = open("blosc2").await.root;
    let reason = |name: &str| {
        let found = root
            .unreadable
            .iter()
            .find(|unreadable| unreadable.name == name);
        found.unwrap().reason.clone()
    };
    assert!(reason("structured").contains("[('a', '<i4'), ('b', '<f8')]"));
    assert!(reason("lazy").contains("reference to a computed or remote object"));
    assert_eq!(root.unreadable.len(), 2);
}

#[tokio::test]
async fn a_truncated_frame_is_an_error() {
    for name in ["little.b2d/tas.b2nd", "blosc2/attributes.b2nd"] {
        let bytes = std::fs::read(path(name)).unwrap();
        for length in 0..bytes.len() {
            let error = open_bytes(&bytes[..length]).await.unwrap_err();
            assert!(matches!(error, Error::Corrupt(_)), "{length}: {error}");
        }
    }
}

#[tokio::test]
async fn a_damaged_frame_does_no_harm() {
    for name in [
        "little.b2d/tas.b2nd",
        "blosc2/attributes.b2nd",
        "blosc2/nans.b2nd",
    ] {
        let bytes = std::fs::read(path(name)).unwrap();
        for at in 0..bytes.len() {
            for damage in [0x00, 0x7f, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = damage;
                let Ok(dataset) = open_bytes(&damaged).await else {
                    continue;
                };
                for variable in &dataset.root.variables {
                    let last = variable.layout.grid.len().saturating_sub(1);
                    let _ = variable.index.locate(&[0, last]).await;
                }
            }
        }
    }
}

fn path(name: &str) -> String {
    format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

async fn open(name: &str) -> Dataset {
    let store = Store::open(&path(name)).unwrap();
    assert!(Blosc2.sniff(&store, &[]).await.unwrap());
    Blosc2.open(&store).await.unwrap()
}

async fn open_bytes(bytes: &[u8]) -> Result<Dataset> {
    let objects = InMemory::new();
    let key = Path::from("a.b2nd");
    objects.put(&key, bytes.to_vec().into()).await.unwrap();
    let objects: Arc<dyn ObjectStore> = Arc::new(objects);
    Blosc2
        .open(&Store::with_objects("memory/a.b2nd", objects, key))
        .await
}

fn variable<'a>(group: &'a Group, name: &str) -> &'a Variable {
    group
        .variables
        .iter()
        .find(|variable| variable.name == name)
        .unwrap()
}

async fn locate(group: &Group, name: &str, chunk: u64) -> ChunkAddress {
    let mut addresses = variable(group, name).index.locate(&[chunk]).await.unwrap();
    addresses.pop().unwrap()
}

/// The decoded chunks of a variable of `little`, one after another.
async fn decoded(root: &Group, name: &str) -> Vec<u8> {
    let variable = variable(root, name);
    let store = Store::open(&path("little.b2d")).unwrap();
    let chunk_bytes = super::meta::chunk_bytes(&variable.layout).unwrap();
    let mut all = Vec::new();
    for chunk in 0..variable.layout.grid.len() {
        let encoded = match locate(root, name, chunk).await {
            ChunkAddress::Range {
                object,
                offset,
                length,
                ..
            } => store
                .range(&object, offset, usize::try_from(length).unwrap())
                .await
                .unwrap(),
            ChunkAddress::Object(key) => store.get(&key).await.unwrap().unwrap(),
            other => panic!("{other:?}"),
        };
        let mut chunk = vec![0; usize::try_from(chunk_bytes).unwrap()];
        let pipeline = &variable.layout.pipeline;
        pipeline
            .decode(&encoded, 0, &mut chunk, &mut Scratch::default())
            .unwrap();
        all.extend(chunk);
    }
    all
}
