//! The arrangement of a netCDF-3 file: how the variables of a header lie in it.
//!
//! ```text
//! header | fixed a | fixed b | record 0: c d | record 1: c d | …       each padded to four bytes,
//!                              ^ begin         ^ begin + stride        except a single variable of records
//! ```

use super::bytes::Variant;
use super::header::{Declared, Header};
use crate::error::{Error, Result};

/// How the variables of a file lie in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrangement {
    /// Number of records.
    pub(super) records: u64,
    /// Bytes from one record to the next; 0 when no variable has records.
    pub(super) stride: u64,
    /// First byte of the first record.
    pub(super) begin: u64,
    /// The place of each variable of the header.
    pub(super) slots: Vec<Slot>,
}

/// The place of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Its extents.
    pub(super) shape: Vec<u64>,
    /// Whether it has records.
    pub(super) is_record: bool,
    /// First byte, of the first record where it has records.
    pub(super) begin: u64,
    /// Bytes of its cells, of one record where it has records.
    pub(super) bytes: u64,
}

impl Slot {
    fn padded(&self) -> Option<u64> {
        self.bytes.checked_next_multiple_of(4)
    }
}

impl Arrangement {
    /// The arrangement of a file of `length` bytes.
    ///
    /// # Errors
    /// `Corrupt` when variables overlap or are larger than the format can hold.
    pub(super) fn new(header: &Header, length: u64) -> Result<Self> {
        let mut slots = Vec::with_capacity(header.variables.len());
        for variable in &header.variables {
            slots.push(slot(header, variable)?);
        }
        check_sizes(header, &slots)?;
        let mut of_records = slots.iter().filter(|slot| slot.is_record);
        let begin = of_records.clone().map(|slot| slot.begin).min();
        let stride = match (of_records.next(), of_records.next()) {
            (Some(single), None) => Some(single.bytes),
            (first, second) => first
                .into_iter()
                .chain(second)
                .chain(of_records)
                .try_fold(0u64, |sum, slot| sum.checked_add(slot.padded()?)),
        };
        let stride =
            stride.ok_or_else(|| damaged("a record has more bytes than can be addressed"))?;
        let begin = begin.unwrap_or(header.length);
        let records = match header.records {
            Some(records) => records,
            None => length
                .saturating_sub(begin)
                .checked_div(stride)
                .unwrap_or(0),
        };
        for slot in slots.iter_mut().filter(|slot| slot.is_record) {
            if let Some(extent) = slot.shape.first_mut() {
                *extent = records;
            }
        }
        let arrangement = Self {
            records,
            stride,
            begin,
            slots,
        };
        arrangement.check_places(header)?;
        Ok(arrangement)
    }

    /// The end of the last byte of a variable; `None` when it does not fit 64 bits.
    pub(super) fn end(&self, slot: &Slot) -> Option<u64> {
        let before = match (slot.is_record, self.records.checked_sub(1)) {
            (false, _) => 0,
            (true, Some(last)) => last.checked_mul(self.stride)?,
            (true, None) => return Some(0),
        };
        slot.begin.checked_add(before)?.checked_add(slot.bytes)
    }

    /// Variables begin behind the header and do not overlap; those with records lie within a record, behind the others.
    fn check_places(&self, header: &Header) -> Result<()> {
        let named = || header.variables.iter().zip(&self.slots);
        let overlaps = |name: &str, begin: u64| {
            damaged(&format!(
                "variable {name} begins at byte {begin}, where other data is"
            ))
        };
        if let Some((variable, slot)) = named().find(|(_, slot)| slot.begin < header.length) {
            return Err(overlaps(&variable.name, slot.begin));
        }
        for (is_record, mut last) in [(false, header.length), (true, self.begin)] {
            let mut places: Vec<_> = named()
                .filter(|(_, slot)| slot.is_record == is_record && slot.bytes > 0)
                .map(|(variable, slot)| (slot.begin, slot.bytes, &variable.name))
                .collect();
            places.sort_unstable();
            for (begin, bytes, name) in places {
                let end = begin.checked_add(bytes);
                match end {
                    Some(end) if begin >= last => last = end,
                    _ => {
                        return Err(overlaps(name, begin));
                    }
                }
            }
            let limit = if is_record {
                self.begin.checked_add(self.stride)
            } else if named().any(|(_, slot)| slot.is_record) {
                Some(self.begin)
            } else {
                None
            };
            if limit.is_some_and(|limit| last > limit) {
                return Err(damaged(&format!(
                    "variables reach up to byte {last}, where the records of others are"
                )));
            }
        }
        Ok(())
    }
}

fn slot(header: &Header, variable: &Declared) -> Result<Slot> {
    let lengths = variable.dimensions.iter();
    let shape: Vec<u64> = lengths
        .filter_map(|at| header.dimensions.get(*at))
        .map(|(_, length)| *length)
        .collect();
    let is_record = shape.first() == Some(&0);
    let cells = shape
        .iter()
        .skip(usize::from(is_record))
        .try_fold(u64::from(variable.width), |n, m| n.checked_mul(*m));
    let slot = cells.map(|bytes| Slot {
        shape,
        is_record,
        begin: variable.begin,
        bytes,
    });
    slot.filter(|slot| slot.padded().is_some())
        .ok_or_else(|| too_large(variable))
}

/// Before CDF-5, only the last of the variables may be larger than a count can tell.
fn check_sizes(header: &Header, slots: &[Slot]) -> Result<()> {
    let limit = match header.variant {
        Variant::Classic => i32::MAX as u64 - 3,
        Variant::Offset64 => u64::from(u32::MAX) - 3,
        Variant::Data64 => return Ok(()),
    };
    let last = slots
        .iter()
        .rposition(|slot| slot.is_record)
        .or_else(|| slots.len().checked_sub(1));
    for (at, (slot, variable)) in slots.iter().zip(&header.variables).enumerate() {
        if slot.bytes > limit && Some(at) != last {
            return Err(too_large(variable));
        }
    }
    Ok(())
}

fn too_large(variable: &Declared) -> Error {
    damaged(&format!(
        "variable {} has more bytes than a file of this kind can hold",
        variable.name
    ))
}

fn damaged(how: &str) -> Error {
    Error::Corrupt(format!("the header is damaged: {how}"))
}
