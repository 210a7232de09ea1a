//! Extensible arrays of chunks: the index of datasets that grow along one dimension.

use crate::error::Result;
use crate::format::hdf5::bytes::{Reader, checked};
use crate::format::hdf5::fixed_array::{Element, is_set};
use crate::format::hdf5::index::Span;
use crate::format::hdf5::numbering::Numbering;
use crate::format::hdf5::storage::File;
use hdf5_reader::StorageBuffer;

const WHAT: &str = "extensible array of chunks";

/// The spans of `chunks`; `None` for those never written.
///
/// ```text
/// header -> index block: entries | data blocks | super blocks -> data blocks -> entries, or pages of them
///           super block u (those that the index block stands for too) has 2^(u/2) data blocks of 2^((u+1)/2) · m entries
/// ```
///
/// # Errors
/// `Corrupt` when the array is damaged, `Io` when the storage fails.
pub(super) fn find(
    file: &File,
    address: u64,
    numbering: &Numbering,
    chunks: &[u64],
) -> Result<Vec<Option<Span>>> {
    let mut spans = vec![None; chunks.len()];
    let Some(array) = Array::read(file, address, numbering)? else {
        return Ok(spans);
    };
    let unlimited = numbering.most.iter().position(Option::is_none);
    let mut super_block = None;
    let mut entries = None;
    for (number, position) in numbering.elements(chunks, unlimited)? {
        let Some(span) = spans.get_mut(position) else {
            continue;
        };
        let Some(beyond) = number.checked_sub(array.direct) else {
            *span = array
                .element
                .read(array.index.get(array.entries_at..), number)?;
            continue;
        };
        let Some(place) = array.place(beyond) else {
            continue;
        };
        let run = match array.run(&place, &mut super_block)? {
            Some(run) => run,
            None => continue,
        };
        if entries.as_ref().is_none_or(|(known, _)| *known != run) {
            let bytes = file.read(run.start, run.length)?;
            checked(&bytes, WHAT)?;
            entries = Some((run, bytes));
        }
        if let Some((run, bytes)) = &entries {
            *span = array
                .element
                .read(bytes.get(run.prefix..), place.entry % array.page)?;
        }
    }
    Ok(spans)
}

struct Array<'a> {
    file: &'a File,
    element: Element,
    index: StorageBuffer,
    /// Where the entries of the index block begin.
    entries_at: usize,
    /// Number of entries in the index block.
    direct: u64,
    /// Entries of the smallest data block.
    smallest: u64,
    /// Data blocks that the index block points to, and the super blocks that these stand for.
    data_blocks: u64,
    skipped: u32,
    super_blocks: u64,
    /// Width of the offset that blocks begin with.
    offset_width: usize,
    /// Entries of a page.
    page: u64,
}

/// Where an entry is.
struct Place {
    super_block: u32,
    /// Data block within the super block, and all before it in super blocks before.
    block: u64,
    blocks_before: u64,
    /// Entries of the data block, and the one meant.
    entries: u64,
    entry: u64,
}

/// Entries that stand together.
#[derive(PartialEq, Eq)]
struct Run {
    start: u64,
    prefix: usize,
    length: usize,
}

impl<'a> Array<'a> {
    fn read(file: &'a File, address: u64, numbering: &Numbering) -> Result<Option<Self>> {
        let header = file.read(address, 12 + 6 * file.length_size + file.offset_size + 4)?;
        let mut reader = Reader::new(checked(&header, WHAT)?, WHAT);
        reader.signature(b"EAHD\0")?;
        let filtered = reader.u8()? == 1;
        let element = Element::new(file, numbering, filtered, reader.u8()?.into())?;
        let bits = u32::from(reader.u8()?);
        let direct = u64::from(reader.u8()?);
        let smallest = u64::from(reader.u8()?);
        let pointers = u64::from(reader.u8()?);
        let page_bits = u32::from(reader.u8()?);
        reader.skip(6 * file.length_size)?;
        let Some(index) = reader.address(file.offset_size)? else {
            return Ok(None);
        };
        let all = bits.checked_sub(smallest.trailing_zeros()).map(|n| n + 1);
        let (true, true, Some(all @ 1..=64), page_bits @ 0..=32) = (
            smallest.is_power_of_two(),
            pointers.is_power_of_two(),
            all,
            page_bits,
        ) else {
            return Err(reader.damaged("its parameters contradict each other"));
        };
        let skipped = (2 * pointers.trailing_zeros()).min(all);
        let super_blocks = u64::from(all - skipped);
        let data_blocks = 2 * (pointers - 1);
        let entries_at = 6 + file.offset_size;
        let addresses = usize::try_from(data_blocks + super_blocks).unwrap_or(usize::MAX);
        let length = entries_at + element.bytes(direct)? + addresses * file.offset_size + 4;
        let block = file.read(index, length)?;
        Reader::new(checked(&block, WHAT)?, WHAT).signature(b"EAIB\0")?;
        Ok(Some(Self {
            file,
            element,
            index: block,
            entries_at,
            direct,
            smallest,
            data_blocks,
            skipped,
            super_blocks,
            offset_width: usize::try_from(bits.div_ceil(8)).unwrap_or(8),
            page: if page_bits == 0 {
                u64::MAX
            } else {
                1 << page_bits
            },
        }))
    }

    /// Where entry `beyond`, counted after those of the index block, is.
    fn place(&self, beyond: u64) -> Option<Place> {
        // Super blocks double: those up to u have (2^(u+1) - 1) · m entries.
        let super_block = (beyond / self.smallest).checked_add(1)?.ilog2();
        let before = ((1u64 << super_block) - 1).checked_mul(self.smallest)?;
        let entries = self.smallest.checked_mul(1 << super_block.div_ceil(2))?;
        let within = beyond.checked_sub(before)?;
        let blocks_before = (0..super_block.min(self.skipped))
            .map(|u| 1 << (u / 2))
            .sum();
        Some(Place {
            super_block,
            block: within / entries,
            blocks_before,
            entries,
            entry: within % entries,
        })
    }

    /// The run that holds an entry; `None` when it was never written.
    fn run(
        &self,
        place: &Place,
        super_block: &mut Option<(u32, Option<StorageBuffer>)>,
    ) -> Result<Option<Run>> {
        let pages = if place.entries > self.page {
            place.entries.div_ceil(self.page)
        } else {
            0
        };
        let prefix = 6 + self.file.offset_size + self.offset_width;
        let address = if place.super_block < self.skipped {
            if pages > 0 {
                return Err(Reader::new(&[], WHAT).damaged("a block without a bitmap has pages"));
            }
            self.address(self.index_addresses()?, place.blocks_before + place.block)?
        } else {
            if super_block
                .as_ref()
                .is_none_or(|(known, _)| *known != place.super_block)
            {
                *super_block = Some((place.super_block, self.super_block(place, pages)?));
            }
            let Some((_, Some(bytes))) = super_block else {
                return Ok(None);
            };
            let bitmap = usize::try_from(blocks(place.super_block) * pages.div_ceil(8));
            let bitmap = prefix + bitmap.unwrap_or(usize::MAX - prefix);
            if pages > 0 {
                let page = place.block * pages + place.entry / self.page;
                if !is_set(bytes.get(prefix..bitmap).unwrap_or_default(), page) {
                    return Ok(None);
                }
            }
            self.address(bytes.get(bitmap..).unwrap_or_default(), place.block)?
        };
        let Some(start) = address else {
            return Ok(None);
        };
        let head = self.file.read(start, 5)?;
        Reader::new(&head, WHAT).signature(b"EADB\0")?;
        if pages == 0 {
            let length = prefix + self.element.bytes(place.entries)? + 4;
            return Ok(Some(Run {
                start,
                prefix,
                length,
            }));
        }
        let length = self.element.bytes(self.page)? + 4;
        let page = (place.entry / self.page).saturating_mul(length as u64);
        Ok(Some(Run {
            start: start.saturating_add(prefix as u64 + 4).saturating_add(page),
            prefix: 0,
            length,
        }))
    }

    fn super_block(&self, place: &Place, pages: u64) -> Result<Option<StorageBuffer>> {
        let at = u64::from(place.super_block - self.skipped);
        if at >= self.super_blocks {
            return Ok(None);
        }
        let Some(address) = self.address(self.index_addresses()?, self.data_blocks + at)? else {
            return Ok(None);
        };
        let count = blocks(place.super_block);
        let each = pages.div_ceil(8) + self.file.offset_size as u64;
        let length = usize::try_from(count.saturating_mul(each)).unwrap_or(usize::MAX);
        let prefix = 6 + self.file.offset_size + self.offset_width;
        let bytes = self.file.read(address, length.saturating_add(prefix + 4))?;
        Reader::new(checked(&bytes, WHAT)?, WHAT).signature(b"EASB\0")?;
        Ok(Some(bytes))
    }

    fn index_addresses(&self) -> Result<&[u8]> {
        let start = self.entries_at + self.element.bytes(self.direct)?;
        Ok(self.index.get(start..).unwrap_or_default())
    }

    /// Address `at` of a run of addresses.
    fn address(&self, addresses: &[u8], at: u64) -> Result<Option<u64>> {
        let start = usize::try_from(at)
            .ok()
            .and_then(|at| at.checked_mul(self.file.offset_size))
            .unwrap_or(usize::MAX);
        let rest = addresses.get(start..).unwrap_or_default();
        Reader::new(rest, WHAT).address(self.file.offset_size)
    }
}

/// Data blocks of a super block.
fn blocks(super_block: u32) -> u64 {
    1 << (super_block / 2).min(63)
}
