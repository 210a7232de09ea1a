//! A small netCDF-4 file, written by the netCDF-4 library, from its bytes to its cells.

#![expect(clippy::unwrap_used, reason = "tests")]

use base64::Engine;

use crate::array::chunk::ChunkAddress;
use crate::array::dtype::ElementType;
use crate::array::{AttributeValue, Dataset, Group};
use crate::codec::{Codec, Scratch};
use crate::error::Error;
use crate::format::Format;
use crate::format::hdf5::{Hdf5, SIGNATURE};
use crate::store::Store;

/// Dimensions time (unlimited, 4) and x (3), variables time(time), w(time, x) with 2 of 4 steps written, g/name(x).
const FILE: &str = "\
eNrtW81vG0UUn5213a2zSdzWqVWE6LZFlSDF2rhuFKGkTWSvkwjXLrGhKEKETbwhC45d2Zs0IKRKHEA9ASoftx4Q4tADp1yQOKDyH3BouVSqxJ\
FDT7RcUNj58noHuzXiQ2r1frb1dmZn3rz35u3m91abqwv5wnD8qTjWNCSwx3HjLGubvL82c/+Z8kJ+Ceu7+DjtUSPSFBlxjBRyfuxpRIaquO9I\
/ShViGJII0M916s76JDfReZh/1d12l4iQQZ9orJFLwmD6RIolqTHEUX07hQx6kL12w9/peYPv6wodCxWFEX2QE0SdQeMc4gFZBZlh1B2z18yOk\
LOqONBoK7PM4NMnbUv8n7hbay/t3PM2yTS/R9aKTneWm09m2s2WzW3YXtOGyU05jtCBjVUCTnLoI+TdidoueJcpUKDluBByy+et0qVxXJppZKb\
K1qIRBn7E6JsQmnuvEXHR/l4z910qFbV/4z4xkUC4/LuplsLmxVYElu+eJoFd6oruHyjUEey4B472lGR0lDqCjGAJooaJwFV0S8H2PivpIBG+w\
d0PJQ+A0RimYVOjsSsSLcNt234X9toOF4uXzBqfmgabbfZMFa3PKPR9IJT23bLtVfrTtoQOE2DiAcNItvTO69YqJxbeIkl1bVh5vu5cJbrFrN7\
hNm9UspdaDUvOS3P9XOGOHCcO7DttIi1M5lTDbr0TDY9YaYnTm3U1s/MZNKZtJm5v321umRZiq9QjieNWw+Yz0odPAc0BAAAAAAA4ElFwE8+G2\
E91wQXNQmn6TCwrYbrMUIyxllCzX63bbTdxppjZEzTfMGc8L9+//QZ5wajjkhRKL3APnfEEnXs8HPRrxNClNgvGEgCRTXGz0l77wEz8idOom6G\
nNBSVANWzWxAYlQuBddU+3NN62+TdxxmSwGfi4fDe3ny49dIiGMpVsuI/ggh5vd4g7m2wxnadNf0H367UibThw4T7RgTUq1whkk+RJ8+yQjkEL\
e+4Nbrr9r1LYcaLYLZq+J4sKe/zkjtqD8i2c2pi4uVKjrC6XaK88FejhNdZjI47m6TMS/eObZMPNAOsS3CKBJoIEr1OqlWiAkmMWHJKlhLViln\
MRMmMTOhZnt22/ECWzrsHWkJ9PDC6iM9vCfvfHDhc2rSQWqS0kkDkfh1Vi799xaJ9vQfK19KhbgyYCH+l8Rq2JvOriD79v9yD7mVqz5Hk5wX7J\
3cuCwcFWfExa689d0oO2p9uniT3SxOPLLOPOIHMsFzUuFVSpReGerzwmORe2Sm2OD3pOceAzy8+OflPJF6kV2ag19evbQIl8hq++5+c/uhufs+\
u2n/e7krX/By7u5KheUXY1M/w5/VxwbzuXJRQTwTu7ZV1P/3pO0X/eJRnCrpi/QZF5XGxaT2PqmtSevaq0zul/p//D48b2oU9hQAAAAAAAAAAA\
AAAIDeuMtfSvidy8gskzqX1+dBggQJEiRIkCBBggQJEiRIkI+v7Pf/Agcf8cRg42y4Lb/eh+GhCgAAAAAAAMAThZ031t5E+GTh5PrhWxpCX6O3\
CeMTryqLtzdFO8YZoWiTtzj/BGJRtRQ=";

#[tokio::test]
async fn dimensions_and_types_are_those_of_netcdf() {
    let (dataset, _store, _place) = open(&bytes()).await;
    assert_eq!(dataset.format, "netcdf4");
    let root = &dataset.root;
    assert_eq!(root.attributes.text("title"), Some("Test"));
    let dimensions = root.dimensions.iter();
    let dimensions: Vec<_> = dimensions
        .map(|d| (d.name.as_str(), d.length, d.unlimited))
        .collect();
    assert_eq!(dimensions, [("time", 4, true), ("x", 3, false)]);
    let names: Vec<_> = root.variables.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["time", "w"]);
    let w = variable(root, "w");
    assert_eq!(w.dimensions, ["time", "x"]);
    assert_eq!(w.shape(), [4, 3]);
    assert_eq!(w.layout.element, ElementType::Int16);
    assert_eq!(w.layout.fill, (-9i16).to_le_bytes());
    assert_eq!(
        w.layout.pipeline.0,
        [Codec::ByteSwap(2), Codec::Shuffle(2), Codec::Zlib]
    );
    assert_eq!(
        w.attributes.0,
        [(
            "_FillValue".to_owned(),
            AttributeValue::Integers {
                element: ElementType::Int16,
                values: vec![-9]
            }
        )]
    );
    let name = variable(&root.groups[0], "name");
    assert_eq!(name.path, "g/name");
    assert_eq!(name.dimensions, ["x"]);
}

#[tokio::test]
async fn chunks_are_found_and_those_beyond_the_dataset_are_missing() {
    let (dataset, store, _place) = open(&bytes()).await;
    let w = variable(&dataset.root, "w");
    let found = w.index.locate(&[1, 0, 1]).await.unwrap();
    assert_eq!(found[0], ChunkAddress::Missing);
    assert_eq!(found[2], ChunkAddress::Missing);
    let ChunkAddress::Range {
        offset,
        length,
        skipped: 0,
        ..
    } = found[1]
    else {
        unreachable!("{found:?}")
    };
    let encoded = store
        .range("", offset, usize::try_from(length).unwrap())
        .await
        .unwrap();
    let mut cells = [0; 12];
    let scratch = &mut Scratch::default();
    w.layout
        .pipeline
        .decode(&encoded, 0, &mut cells, scratch)
        .unwrap();
    let cells = cells.as_chunks().0.iter().copied().map(i16::from_le_bytes);
    assert_eq!(cells.collect::<Vec<_>>(), [1, 2, 3, 4, 5, 600]);
    let beyond = w.index.locate(&[2]).await;
    assert!(matches!(beyond, Err(Error::Invalid(_))), "{beyond:?}");
}

#[tokio::test]
async fn texts_come_from_the_global_heap() {
    let (dataset, _store, _place) = open(&bytes()).await;
    let name = variable(&dataset.root.groups[0], "name");
    assert_eq!(name.layout.element, ElementType::Text);
    let found = name.index.locate(&[0]).await.unwrap();
    let texts = b"\x03\0\0\0\x02\0\0\0ab\0\0\0\0\x02\0\0\0\xc3\xbc";
    assert_eq!(found, [ChunkAddress::Inline(texts.as_slice().into())]);
}

#[tokio::test]
async fn a_user_block_moves_all_addresses() {
    let (dataset, _store, _place) = open(&bytes()).await;
    let shifted = [vec![7; 512], bytes()].concat();
    let (moved, store, _place) = open(&shifted).await;
    assert!(Hdf5.sniff(&store, &shifted).await.unwrap());
    for (from, to) in dataset.root.variables.iter().zip(&moved.root.variables) {
        let from = from.index.locate(&[0]).await.unwrap();
        let to = to.index.locate(&[0]).await.unwrap();
        let (ChunkAddress::Range { offset: a, .. }, ChunkAddress::Range { offset: b, .. }) =
            (&from[0], &to[0])
        else {
            unreachable!("{from:?} {to:?}")
        };
        assert_eq!(a + 512, *b);
    }
}

#[tokio::test]
async fn damage_is_an_error_or_costs_one_array() {
    let sound = bytes();
    let place = Place::new(&sound[..sound.len() - 100]);
    let truncated = Hdf5.open(&Store::open(&place.0).unwrap()).await;
    assert!(matches!(truncated, Err(Error::Corrupt(text)) if text.contains("truncated")));
    for at in (SIGNATURE.len()..sound.len()).step_by(61) {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x55;
        let place = Place::new(&damaged);
        let Ok(dataset) = Hdf5.open(&Store::open(&place.0).unwrap()).await else {
            continue;
        };
        for variable in dataset
            .root
            .walk()
            .iter()
            .flat_map(|group| &group.variables)
        {
            let _ = variable.index.locate(&[0]).await;
        }
    }
}

fn bytes() -> Vec<u8> {
    let packed = base64::engine::general_purpose::STANDARD
        .decode(FILE)
        .unwrap();
    let mut bytes = vec![0; 1 << 16];
    let length = libdeflater::Decompressor::new()
        .zlib_decompress(&packed, &mut bytes)
        .unwrap();
    bytes.truncate(length);
    bytes
}

fn variable<'a>(group: &'a Group, name: &str) -> &'a crate::array::Variable {
    group.variables.iter().find(|v| v.name == name).unwrap()
}

async fn open(bytes: &[u8]) -> (Dataset, Store, Place) {
    let place = Place::new(bytes);
    let store = Store::open(&place.0).unwrap();
    (Hdf5.open(&store).await.unwrap(), store, place)
}

/// A file that goes away again.
struct Place(String);

impl Place {
    fn new(bytes: &[u8]) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("hyperslab-hdf5-{}-{next}.nc", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        Self(path.to_str().unwrap().to_owned())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
