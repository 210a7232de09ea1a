//! Files whose records grow: new ones behind the last, then their number.
//!
//! ```text
//! "CDF" · number of records · …      | record 0 | … | last record | new records
//!         ^ written last: the commit                                ^ no reader looks here before
//! ```
//!
//! Cells that are there already are changed in a copy of the file, which then takes its place.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ::bytes::Bytes;
use async_trait::async_trait;

use super::bytes::Variant;
use super::header::Declared;
use super::{File, Slot, fill};
use crate::array::{Dataset, Variable};
use crate::codec::encode::{EncodePipeline, EncodeScratch, Encoder};
use crate::error::{Error, Result};
use crate::format::{Appender, OldCells, Publication, Region};
use crate::store::Store;
use crate::store::patch::InPlace;
use crate::store::replace::Replacement;
use crate::store::write::Durability;

/// Place of the number of records.
const RECORDS: u64 = 4;
/// Records are gathered up to about so many bytes, and up to so many of them.
const GATHERED: (u64, u64) = (64 << 10, 64);

/// A file that is being changed.
#[derive(Debug)]
pub(super) struct Netcdf3Appender {
    store: Store,
    durability: Durability,
    dataset: Dataset,
    file: File,
    /// The header as it stands in the file.
    head: Bytes,
    /// Number of records after the change.
    records: u64,
    /// For each variable of the header, which new records have been written.
    written: BTreeMap<usize, Vec<Range<u64>>>,
    in_place: Option<InPlace>,
    copy: Option<Replacement>,
    scratch: EncodeScratch,
}

/// Begins to change the file at the location of `store`.
pub(super) async fn begin(store: &Store, durability: Durability) -> Result<Netcdf3Appender> {
    if !store.is_local() {
        return Err(Error::Unsupported(format!(
            "{}: netCDF-3 files can be written on this machine only, not in an object store",
            store.location()
        )));
    }
    let (file, head) = File::open(store).await?;
    if file.header.records.is_none() {
        return Err(Error::Unsupported(format!(
            "{}: its number of records was left open, so that nothing could tell a reader when new ones are complete",
            store.location()
        )));
    }
    Ok(Netcdf3Appender {
        store: store.clone(),
        durability,
        dataset: file.dataset(store),
        records: file.arrangement.records,
        file,
        head,
        written: BTreeMap::new(),
        in_place: None,
        copy: None,
        scratch: EncodeScratch::default(),
    })
}

#[async_trait]
impl Appender for Netcdf3Appender {
    fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    fn piece(&self, variable: &str) -> Result<Vec<u64>> {
        let (_, _, slot) = self.slot(variable)?;
        let (bytes, most) = GATHERED;
        let mut piece = slot.shape.clone();
        if let Some(extent) = piece.first_mut() {
            *extent = (bytes / slot.bytes.max(1)).clamp(1, most);
        }
        Ok(piece)
    }

    fn along(&self, group: &str, dimension: &str) -> Vec<Arc<Variable>> {
        let variables = self.dataset.root.variables.iter();
        variables
            .filter(|variable| {
                group.is_empty() && variable.dimensions.iter().any(|d| d == dimension)
            })
            .cloned()
            .collect()
    }

    async fn write(&mut self, region: Region) -> Result<()> {
        let (at, declared, slot) = self.slot(&region.variable)?;
        let record = usize::try_from(slot.bytes).map_err(|_| too_large(declared))?;
        let (Some(&first), Some(&count)) = (region.start.first(), region.shape.first()) else {
            return Ok(());
        };
        let is_whole = region.start.iter().skip(1).all(|start| *start == 0)
            && region.shape.get(1..) == slot.shape.get(1..);
        let records = region.cells.chunks_exact(record.max(1));
        if !is_whole || !records.remainder().is_empty() || records.len() as u64 != count {
            return Err(Error::Invalid(format!(
                "{}: what is written has to be whole records",
                region.variable
            )));
        }
        let before = self.file.arrangement.records;
        let end = first
            .checked_add(count)
            .ok_or_else(|| too_large(declared))?;
        let from = match region.old {
            // Those that are there already stay as they are.
            OldCells::Kept => first.max(before.min(end)),
            OldCells::Changed => first,
        };
        let skipped = usize::try_from(from - first).map_err(|_| too_large(declared))?;
        if region.old == OldCells::Changed {
            self.copy()?;
        }
        let cells = region.cells.get(skipped * record..).unwrap_or_default();
        self.put(at, from, cells)?;
        self.written
            .entry(at)
            .or_default()
            .push(from.max(before)..end);
        Ok(())
    }

    fn resize(&mut self, group: &str, dimension: &str, length: u64) -> Result<()> {
        let record = self.file.header.record_dimension();
        let name = record.and_then(|at| self.file.header.dimensions.get(at));
        if !group.is_empty() || name.is_none_or(|(name, _)| name != dimension) {
            return Err(Error::Unsupported(format!(
                "{}: only the unlimited dimension of a netCDF-3 file can grow, and {dimension} is none",
                self.dataset.location
            )));
        }
        if length < self.file.arrangement.records {
            return Err(Error::Unsupported(format!(
                "{}: records of a netCDF-3 file cannot be removed",
                self.dataset.location
            )));
        }
        let most = match self.file.header.variant {
            // The largest number says that it was left open.
            Variant::Classic | Variant::Offset64 => u64::from(u32::MAX) - 1,
            Variant::Data64 => i64::MAX as u64,
        };
        if length > most {
            return Err(Error::Unsupported(format!(
                "{}: a file of this kind holds up to {most} records, not {length}",
                self.dataset.location
            )));
        }
        if let Some(unreadable) = self.dataset.root.unreadable.first() {
            return Err(Error::Unsupported(format!(
                "{}: the file is damaged and cannot grow: {}",
                self.dataset.location, unreadable.reason
            )));
        }
        self.records = length;
        Ok(())
    }

    async fn fence(&mut self) -> Result<()> {
        // A file on this machine is locked by the operating system: nobody is given up who still writes.
        Ok(())
    }

    async fn publication(&mut self) -> Result<Publication> {
        if self.records == self.file.arrangement.records && self.copy.is_none() {
            self.abandon().await?;
            return Ok(Publication::default());
        }
        // Twice, so that what another program has put behind the records is not filled.
        self.check().await?;
        self.fill_up()?;
        self.check().await?;
        let records = self.records.to_be_bytes();
        let width = self.file.header.variant.count_width();
        let records = records.get(8 - width..).unwrap_or_default().to_vec();
        if let Some(copy) = self.copy.take() {
            copy.write(RECORDS, &records)?;
            return Ok(Publication {
                replacement: Some(copy),
                ..Publication::default()
            });
        }
        // Without a variable there is nothing but the number.
        let in_place = match self.in_place.take() {
            Some(in_place) => in_place,
            None => InPlace::open(&self.store, self.durability)?,
        };
        Ok(Publication {
            patch: Some(in_place.patch(RECORDS, records)),
            ..Publication::default()
        })
    }

    async fn orphans(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    async fn abandon(&mut self) -> Result<()> {
        self.copy = None;
        match self.in_place.take() {
            Some(file) if self.is_unchanged().await => file.restore(),
            // What is behind the records may be somebody else's by now.
            Some(_) | None => Ok(()),
        }
    }
}

impl Netcdf3Appender {
    /// A variable that has records, and its place in the header.
    fn slot(&self, variable: &str) -> Result<(usize, &Declared, &Slot)> {
        let variables = self.file.header.variables.iter();
        let mut named = variables.zip(&self.file.arrangement.slots).enumerate();
        let found = named.find(|(_, (declared, _))| declared.name == variable);
        let Some((at, (declared, slot))) = found else {
            return Err(Error::NotFound(format!(
                "{} has no variable {variable}",
                self.dataset.location
            )));
        };
        if !slot.is_record {
            return Err(Error::Unsupported(format!(
                "{variable} does not have the unlimited dimension of the file, along which alone a netCDF-3 file can grow"
            )));
        }
        Ok((at, declared, slot))
    }

    /// Fails when the header is not the one that was read.
    async fn check(&self) -> Result<()> {
        match self.is_unchanged().await {
            true => Ok(()),
            false => Err(Error::Conflict(format!(
                "{} was changed by another program meanwhile; try again",
                self.store.location()
            ))),
        }
    }

    /// Whether the header is the one that was read.
    async fn is_unchanged(&self) -> bool {
        let now = self.store.range("", 0, self.head.len()).await;
        now.is_ok_and(|now| now == self.head)
    }

    /// Puts records, whose elements are in native order, from record `first` on.
    fn put(&mut self, at: usize, first: u64, cells: &[u8]) -> Result<()> {
        let variables = &self.file.header.variables;
        let place = variables.get(at).zip(self.file.arrangement.slots.get(at));
        let Some((declared, slot)) = place.filter(|_| !cells.is_empty()) else {
            return Ok(());
        };
        let stride = self.file.arrangement.stride;
        let offset = |record: u64| {
            let offset = record.checked_mul(stride);
            offset
                .and_then(|offset| offset.checked_add(slot.begin))
                .ok_or_else(|| too_large(declared))
        };
        let output: &dyn Fn(u64, &[u8]) -> Result<()> = match (&self.copy, &self.in_place) {
            (Some(copy), _) => &|offset, bytes| copy.write(offset, bytes),
            (None, Some(file)) => &|offset, bytes| file.write(offset, bytes),
            (None, None) => {
                let file = InPlace::open(&self.store, self.durability)?;
                let file = self.in_place.insert(file);
                &|offset, bytes| file.write(offset, bytes)
            }
        };
        let pipeline = EncodePipeline(match declared.width {
            1 => Vec::new(),
            width => vec![Encoder::ByteSwap(width)],
        });
        let stored = pipeline.encode_borrowed(cells, &mut self.scratch)?;
        if stride == slot.bytes {
            return output(offset(first)?, stored);
        }
        let record = usize::try_from(slot.bytes).map_err(|_| too_large(declared))?;
        let padding: Vec<u8> = stored_fill(declared)
            .into_iter()
            .cycle()
            .take(record.wrapping_neg() & 3)
            .collect();
        let mut padded = Vec::with_capacity(record + padding.len());
        for (record, bytes) in (first..).zip(stored.chunks_exact(record.max(1))) {
            padded.clear();
            padded.extend_from_slice(bytes);
            padded.extend_from_slice(&padding);
            output(offset(record)?, &padded)?;
        }
        Ok(())
    }

    /// Writes fill values where there is nothing else in the new records.
    fn fill_up(&mut self) -> Result<()> {
        for at in 0..self.file.header.variables.len() {
            let variables = &self.file.header.variables;
            let place = variables.get(at).zip(self.file.arrangement.slots.get(at));
            let Some((declared, slot)) = place.filter(|(_, slot)| slot.is_record) else {
                continue;
            };
            let record = usize::try_from(slot.bytes).map_err(|_| too_large(declared))?;
            let mut fill = fill(declared);
            fill.resize(declared.width as usize, 0);
            let fill: Vec<u8> = fill.into_iter().cycle().take(record).collect();
            let mut written = self.written.remove(&at).unwrap_or_default();
            written.sort_unstable_by_key(|range| range.start);
            written.push(self.records..self.records);
            let mut next = self.file.arrangement.records;
            for range in written {
                for missing in next..range.start {
                    self.put(at, missing, &fill)?;
                }
                next = next.max(range.end);
            }
        }
        Ok(())
    }

    /// Goes on in a copy of the file, with all that has been written so far.
    fn copy(&mut self) -> Result<()> {
        if self.copy.is_none() {
            let found = self.store.identity()?.ok_or_else(|| {
                Error::Unsupported(format!("{} is not a local file", self.store.location()))
            })?;
            self.copy = Some(Replacement::copy(&self.store, found, self.durability)?);
        }
        Ok(())
    }
}

/// A fill value as it is stored.
fn stored_fill(declared: &Declared) -> Vec<u8> {
    let mut fill = fill(declared);
    fill.resize(declared.width as usize, 0);
    fill.reverse();
    fill
}

fn too_large(declared: &Declared) -> Error {
    Error::Exhausted(format!(
        "{}: a record is larger than can be addressed",
        declared.name
    ))
}
