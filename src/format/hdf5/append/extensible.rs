//! Extensible arrays of chunks, into which chunks are put.

use super::output::{Fields, Output, sign};
use crate::error::{Error, Result};
use crate::format::hdf5::bytes::{Reader, checked};
use crate::format::hdf5::index::Span;

const WHAT: &str = "extensible array of chunks";
/// Bytes of a checksum.
const SUM: usize = 4;

/// What a new array is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameters {
    /// Bits of the number of entries.
    pub(super) bits: u8,
    /// Entries of the index block.
    pub(super) direct: u8,
    /// Data blocks of the smallest super block that is one.
    pub(super) pointers: u8,
    /// Entries of the smallest data block.
    pub(super) smallest: u8,
    /// Bits of the number of entries of a page.
    pub(super) page_bits: u8,
    /// Width of the size of a filtered chunk; `None` when chunks are not filtered.
    pub(super) length_width: Option<usize>,
}

/// Puts chunks, each with its number, into the array at an address, or into a new one; returns the address.
///
/// # Errors
/// `Corrupt` when the array is damaged, `Io` when the storage fails.
pub(super) fn insert(
    output: &mut Output,
    address: Option<u64>,
    parameters: Parameters,
    puts: &[(u64, Span)],
) -> Result<Option<u64>> {
    if puts.is_empty() {
        return Ok(address);
    }
    let address = match address {
        Some(address) => address,
        None => create(output, parameters)?,
    };
    let mut array = Array::read(output, address)?;
    for (number, span) in puts {
        array.put(*number, span)?;
    }
    array.finish()?;
    Ok(Some(address))
}

/// Numbers that the header keeps, by their place among them.
#[derive(Clone, Copy)]
enum Count {
    SuperBlocks,
    SuperBytes,
    DataBlocks,
    DataBytes,
    /// One more than the greatest number of a chunk that was ever written.
    Set,
    Entries,
}

const COUNTS: usize = 6;

struct Array<'a> {
    output: &'a mut Output,
    address: u64,
    parameters: Parameters,
    counts: [u64; COUNTS],
    index: u64,
    /// The index block.
    block: Vec<u8>,
}

/// A data block: where it is among its kind, and what is in it.
struct Block {
    super_block: u32,
    /// Number of its first entry, counted after those of the index block.
    first: u64,
    entries: u64,
    /// Its place in its super block.
    within: u64,
    /// Data blocks of super blocks before that have no block of their own.
    before: u64,
}

fn create(output: &mut Output, parameters: Parameters) -> Result<u64> {
    let header = vec![0; header_size(output)];
    let address = output.put(&header)?;
    let mut array = Array {
        output,
        address,
        parameters,
        counts: [0; COUNTS],
        index: 0,
        block: Vec::new(),
    };
    array.check()?;
    let mut fields = array.prefix(b"EAIB")?;
    array.blank(&mut fields, parameters.direct.into())?;
    let (blocks, super_blocks) = array.addresses()?;
    for _ in 0..blocks + super_blocks {
        fields.address(None, array.output.offset_size)?;
    }
    let block = fields.signed();
    array.index = array.output.put(&block)?;
    array.block = block;
    array.count(Count::Entries, parameters.direct.into());
    array.finish()?;
    Ok(address)
}

fn header_size(output: &Output) -> usize {
    12 + COUNTS * output.length_size + output.offset_size + SUM
}

impl<'a> Array<'a> {
    fn read(output: &'a mut Output, address: u64) -> Result<Self> {
        let header = output.read(address, header_size(output))?;
        let mut reader = Reader::new(checked(&header, WHAT)?, WHAT);
        reader.signature(b"EAHD\0")?;
        let filtered = reader.u8()? == 1;
        let width = usize::from(reader.u8()?);
        let length_width = match width.checked_sub(output.offset_size) {
            Some(0) if !filtered => None,
            Some(more @ 5..=12) if filtered => Some(more - 4),
            _ => return Err(reader.damaged("its entries have a wrong size")),
        };
        let parameters = Parameters {
            bits: reader.u8()?,
            direct: reader.u8()?,
            smallest: reader.u8()?,
            pointers: reader.u8()?,
            page_bits: reader.u8()?,
            length_width,
        };
        let mut counts = [0; COUNTS];
        for count in &mut counts {
            *count = reader.uint(output.length_size)?;
        }
        let index = reader
            .address(output.offset_size)?
            .ok_or_else(|| reader.damaged("it has no index block"))?;
        let mut array = Self {
            output,
            address,
            parameters,
            counts,
            index,
            block: Vec::new(),
        };
        array.check()?;
        let (blocks, super_blocks) = array.addresses()?;
        let length = array.prefix_size()
            + array.bytes(parameters.direct.into())?
            + (blocks + super_blocks) * array.output.offset_size
            + SUM;
        array.block = array.signed(index, length, b"EAIB")?;
        Ok(array)
    }

    /// Writes the header and the index block.
    fn finish(&mut self) -> Result<()> {
        let Parameters {
            bits,
            direct,
            pointers,
            smallest,
            page_bits,
            length_width,
        } = self.parameters;
        let mut fields = Fields::default();
        fields.bytes(b"EAHD\0");
        fields.uint(length_width.is_some().into(), 1)?;
        fields.uint(self.width() as u64, 1)?;
        fields.bytes(&[bits, direct, smallest, pointers, page_bits]);
        for count in self.counts {
            fields.uint(count, self.output.length_size)?;
        }
        fields.address(Some(self.index), self.output.offset_size)?;
        self.output.write(self.address, &fields.signed())?;
        sign(&mut self.block);
        self.output.write(self.index, &self.block)
    }

    fn put(&mut self, number: u64, span: &Span) -> Result<()> {
        let entry = self.entry(Some(span))?;
        let set = self.counts[Count::Set as usize];
        self.counts[Count::Set as usize] = set.max(number.saturating_add(1));
        let direct = u64::from(self.parameters.direct);
        let Some(beyond) = number.checked_sub(direct) else {
            let at = self.prefix_size() + self.bytes(number)?;
            return replace(&mut self.block, at, &entry);
        };
        let block = self.block_of(beyond)?;
        let page = self.page();
        let at = beyond - block.first;
        if block.entries <= page {
            let address = self.data_block(&block, 0)?;
            let prefix = self.data_prefix_size();
            let length = prefix + self.bytes(block.entries)? + SUM;
            let mut bytes = self.signed(address, length, b"EADB")?;
            let at = prefix + self.bytes(at)?;
            replace(&mut bytes, at, &entry)?;
            sign(&mut bytes);
            return self.output.write(address, &bytes);
        }
        let pages = block.entries.div_ceil(page);
        let address = self.data_block(&block, pages)?;
        let new = self.begin_page(&block, pages, at / page)?;
        let length = self.bytes(page)? + SUM;
        let skipped = usize::try_from(at / page)
            .ok()
            .and_then(|pages| pages.checked_mul(length))
            .and_then(|bytes| bytes.checked_add(self.data_prefix_size() + SUM))
            .ok_or_else(too_large)?;
        let place = address.saturating_add(skipped as u64);
        let mut bytes = if new {
            let mut fields = Fields::default();
            self.blank(&mut fields, page)?;
            fields.signed()
        } else {
            let bytes = self.output.read(place, length)?;
            checked(&bytes, WHAT)?;
            bytes
        };
        let at = self.bytes(at % page)?;
        replace(&mut bytes, at, &entry)?;
        sign(&mut bytes);
        self.output.write(place, &bytes)
    }

    /// The address of a data block, which is made if it is not there yet.
    fn data_block(&mut self, block: &Block, pages: u64) -> Result<u64> {
        let width = self.output.offset_size;
        let (blocks, _) = self.addresses()?;
        let first = self.prefix_size() + self.bytes(self.parameters.direct.into())?;
        if block.super_block < self.skipped() {
            let at = usize::try_from(block.before + block.within).map_err(|_| too_large())?;
            if at >= blocks || pages > 0 {
                return Err(damaged("its parameters contradict each other"));
            }
            let at = first + at * width;
            if let Some(address) = read_address(&self.block, at, width)? {
                return Ok(address);
            }
            let address = self.new_data_block(block, pages)?;
            put_address(&mut self.block, at, address, width)?;
            return Ok(address);
        }
        let (place, mut bytes) = self.super_block(block, pages)?;
        let within = usize::try_from(block.within).map_err(|_| too_large())?;
        let at = self.data_prefix_size() + self.bitmap_size(block, pages)? + within * width;
        if let Some(address) = read_address(&bytes, at, width)? {
            return Ok(address);
        }
        let address = self.new_data_block(block, pages)?;
        put_address(&mut bytes, at, address, width)?;
        sign(&mut bytes);
        self.output.write(place, &bytes)?;
        Ok(address)
    }

    /// Address and bytes of the super block of a data block; it is made if it is not there yet.
    fn super_block(&mut self, block: &Block, pages: u64) -> Result<(u64, Vec<u8>)> {
        let width = self.output.offset_size;
        let (blocks, super_blocks) = self.addresses()?;
        let at = usize::try_from(block.super_block - self.skipped()).unwrap_or(usize::MAX);
        if at >= super_blocks {
            return Err(damaged("a chunk has a number that is too large for it"));
        }
        let at =
            self.prefix_size() + self.bytes(self.parameters.direct.into())? + (blocks + at) * width;
        let bitmap = self.bitmap_size(block, pages)?;
        let count = usize::try_from(data_blocks(block.super_block)).map_err(|_| too_large())?;
        let size = self.data_prefix_size() + bitmap + count.saturating_mul(width) + SUM;
        if let Some(address) = read_address(&self.block, at, width)? {
            return Ok((address, self.signed(address, size, b"EASB")?));
        }
        let mut fields = self.prefix(b"EASB")?;
        let first = block.first - block.within * block.entries;
        fields.uint(first, self.offset_width())?;
        fields.bytes(&vec![0; bitmap]);
        for _ in 0..count {
            fields.address(None, width)?;
        }
        let bytes = fields.signed();
        let address = self.output.put(&bytes)?;
        put_address(&mut self.block, at, address, width)?;
        self.count(Count::SuperBlocks, 1);
        self.count(Count::SuperBytes, size as u64);
        Ok((address, bytes))
    }

    fn new_data_block(&mut self, block: &Block, pages: u64) -> Result<u64> {
        let mut fields = self.prefix(b"EADB")?;
        fields.uint(block.first, self.offset_width())?;
        let bytes = if pages == 0 {
            self.blank(&mut fields, block.entries)?;
            fields.signed()
        } else {
            let mut bytes = fields.signed();
            let page = self.bytes(self.page())? + SUM;
            let pages = usize::try_from(pages).map_err(|_| too_large())?;
            let all = pages.checked_mul(page).ok_or_else(too_large)?;
            // Pages that were never written hold nothing.
            bytes.resize(bytes.len() + all, 0);
            bytes
        };
        self.count(Count::DataBlocks, 1);
        self.count(Count::DataBytes, bytes.len() as u64);
        self.count(Count::Entries, block.entries);
        self.output.put(&bytes)
    }

    /// Marks a page of a data block as written; returns whether it was not before.
    fn begin_page(&mut self, block: &Block, pages: u64, page: u64) -> Result<bool> {
        let (place, mut bytes) = self.super_block(block, pages)?;
        let bit = block.within * pages + page;
        let at = self.data_prefix_size() + usize::try_from(bit / 8).map_err(|_| too_large())?;
        let mask = 0x80 >> (bit % 8);
        let Some(byte) = bytes.get_mut(at) else {
            return Err(damaged("a block is too small"));
        };
        if *byte & mask != 0 {
            return Ok(false);
        }
        *byte |= mask;
        sign(&mut bytes);
        self.output.write(place, &bytes)?;
        Ok(true)
    }

    /// The data block with entry `beyond`, counted after those of the index block.
    fn block_of(&self, beyond: u64) -> Result<Block> {
        let smallest = u64::from(self.parameters.smallest);
        // Super blocks double: those up to u have (2^(u+1) - 1) · m entries.
        let super_block = (beyond / smallest).saturating_add(1).ilog2();
        let before = ((1u64 << super_block) - 1).checked_mul(smallest);
        let entries = smallest.checked_mul(1 << super_block.div_ceil(2));
        let (Some(before), Some(entries)) = (before, entries) else {
            return Err(damaged("a chunk has a number that is too large for it"));
        };
        let within = (beyond - before) / entries;
        Ok(Block {
            super_block,
            first: before + within * entries,
            entries,
            within,
            before: (0..super_block.min(self.skipped())).map(data_blocks).sum(),
        })
    }

    fn check(&self) -> Result<()> {
        let Parameters {
            bits,
            pointers,
            smallest,
            page_bits,
            ..
        } = self.parameters;
        let sound = smallest.is_power_of_two()
            && pointers.is_power_of_two()
            && bits <= 64
            && page_bits < 32
            && u32::from(bits) >= u32::from(smallest).trailing_zeros();
        if sound {
            Ok(())
        } else {
            Err(damaged("its parameters contradict each other"))
        }
    }

    fn count(&mut self, count: Count, more: u64) {
        if let Some(count) = self.counts.get_mut(count as usize) {
            *count = count.saturating_add(more);
        }
    }

    /// How many addresses of data blocks and of super blocks the index block has.
    fn addresses(&self) -> Result<(usize, usize)> {
        let all = u32::from(self.parameters.bits)
            - u32::from(self.parameters.smallest).trailing_zeros()
            + 1;
        let blocks = 2 * (usize::from(self.parameters.pointers) - 1);
        let super_blocks = usize::try_from(all - self.skipped()).map_err(|_| too_large())?;
        Ok((blocks, super_blocks))
    }

    /// Super blocks whose data blocks the index block points to itself.
    fn skipped(&self) -> u32 {
        let all = u32::from(self.parameters.bits)
            .saturating_sub(u32::from(self.parameters.smallest).trailing_zeros())
            + 1;
        (2 * u32::from(self.parameters.pointers).trailing_zeros()).min(all)
    }

    fn page(&self) -> u64 {
        match self.parameters.page_bits {
            0 => u64::MAX,
            bits => 1 << bits,
        }
    }

    /// Bytes of one entry.
    fn width(&self) -> usize {
        let more = self.parameters.length_width.map_or(0, |width| width + 4);
        self.output.offset_size + more
    }

    /// Bytes of `count` entries.
    fn bytes(&self, count: u64) -> Result<usize> {
        usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(self.width()))
            .ok_or_else(too_large)
    }

    fn entry(&self, span: Option<&Span>) -> Result<Vec<u8>> {
        let mut fields = Fields::default();
        fields.address(span.map(|span| span.address), self.output.offset_size)?;
        if let Some(width) = self.parameters.length_width {
            fields.uint(span.map_or(0, |span| span.length.into()), width)?;
            fields.uint(span.map_or(0, |span| span.mask.into()), 4)?;
        }
        Ok(fields.0)
    }

    /// Entries that were never written.
    fn blank(&self, fields: &mut Fields, count: u64) -> Result<()> {
        self.bytes(count)?;
        let entry = self.entry(None)?;
        for _ in 0..count {
            fields.bytes(&entry);
        }
        Ok(())
    }

    /// What every block begins with.
    fn prefix(&self, signature: &[u8; 4]) -> Result<Fields> {
        let mut fields = Fields::default();
        fields.bytes(signature);
        fields.uint(0, 1)?;
        fields.uint(self.parameters.length_width.is_some().into(), 1)?;
        fields.address(Some(self.address), self.output.offset_size)?;
        Ok(fields)
    }

    fn prefix_size(&self) -> usize {
        6 + self.output.offset_size
    }

    /// The same for data blocks and super blocks, which begin with the number of their first entry too.
    fn data_prefix_size(&self) -> usize {
        self.prefix_size() + self.offset_width()
    }

    fn offset_width(&self) -> usize {
        usize::from(self.parameters.bits.div_ceil(8))
    }

    /// Bytes of the bitmap of pages of a super block.
    fn bitmap_size(&self, block: &Block, pages: u64) -> Result<usize> {
        let bytes = data_blocks(block.super_block).checked_mul(pages.div_ceil(8));
        bytes
            .and_then(|bytes| usize::try_from(bytes).ok())
            .ok_or_else(too_large)
    }

    /// A block that ends in a checksum.
    fn signed(&self, address: u64, length: usize, signature: &[u8; 4]) -> Result<Vec<u8>> {
        let bytes = self.output.read(address, length)?;
        Reader::new(checked(&bytes, WHAT)?, WHAT).signature(signature)?;
        Ok(bytes)
    }
}

/// Data blocks of a super block.
fn data_blocks(super_block: u32) -> u64 {
    1 << (super_block / 2).min(63)
}

fn read_address(bytes: &[u8], at: usize, width: usize) -> Result<Option<u64>> {
    Reader::new(bytes.get(at..).unwrap_or_default(), WHAT).address(width)
}

fn put_address(bytes: &mut [u8], at: usize, address: u64, width: usize) -> Result<()> {
    let mut fields = Fields::default();
    fields.address(Some(address), width)?;
    replace(bytes, at, &fields.0)
}

fn replace(bytes: &mut [u8], at: usize, by: &[u8]) -> Result<()> {
    let place = at
        .checked_add(by.len())
        .and_then(|end| bytes.get_mut(at..end));
    let place = place.ok_or_else(|| damaged("a block is too small"))?;
    place.copy_from_slice(by);
    Ok(())
}

fn too_large() -> Error {
    damaged("it is too large")
}

fn damaged(how: &str) -> Error {
    Error::Corrupt(format!("the {WHAT} is damaged: {how}"))
}
