//! Fixed arrays of chunks: the index of datasets that cannot grow.

use crate::error::{Error, Result};
use crate::format::hdf5::bytes::{Reader, checked};
use crate::format::hdf5::index::Span;
use crate::format::hdf5::numbering::Numbering;
use crate::format::hdf5::storage::File;

const WHAT: &str = "fixed array of chunks";

/// The spans of `chunks`; `None` for those never written.
///
/// ```text
/// header -> data block: prefix | entries                        up to 2^n entries
///                       prefix, bitmap | page | page | …        more of them; a page is 2^n entries
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
    let header = file.read(address, 8 + file.length_size + file.offset_size + 4)?;
    let mut reader = Reader::new(checked(&header, WHAT)?, WHAT);
    reader.signature(b"FAHD\0")?;
    let filtered = reader.u8()? == 1;
    let width = usize::from(reader.u8()?);
    let page_bits = u32::from(reader.u8()?);
    let count = reader.uint(file.length_size)?;
    let Some(block) = reader.address(file.offset_size)? else {
        return Ok(spans);
    };
    let element = Element::new(file, numbering, filtered, width)?;
    let per_page = 1u64
        .checked_shl(page_bits)
        .filter(|per_page| page_bits > 0 && count > *per_page);
    let prefix = 6 + file.offset_size;
    let pages = match per_page {
        None => Pages {
            start: block,
            prefix,
            per_page: count.max(1),
            stride: 0,
            written: Vec::new(),
        },
        Some(per_page) => {
            let bitmap = usize::try_from(count.div_ceil(per_page).div_ceil(8))
                .map_err(|_| reader.damaged("it is too large"))?;
            let prefix = prefix + bitmap + 4;
            let head = file.read(block, prefix)?;
            let head = checked(&head, WHAT)?;
            let written = head.get(head.len() - bitmap..).unwrap_or_default().to_vec();
            Pages {
                start: block.saturating_add(prefix as u64),
                prefix: 0,
                per_page,
                stride: element.bytes(per_page)? as u64 + 4,
                written,
            }
        }
    };
    let head = file.read(block, 5)?;
    Reader::new(&head, WHAT).signature(b"FADB\0")?;
    let mut page = None;
    for (number, position) in numbering.elements(chunks, None)? {
        if number >= count {
            continue;
        }
        let at = number / pages.per_page;
        if per_page.is_some() && !is_set(&pages.written, at) {
            continue;
        }
        if page.as_ref().is_none_or(|(known, _)| *known != at) {
            let first = at * pages.per_page;
            let length = pages.prefix + element.bytes(pages.per_page.min(count - first))? + 4;
            let start = pages.start.saturating_add(at.saturating_mul(pages.stride));
            let bytes = file.read(start, length)?;
            checked(&bytes, WHAT)?;
            page = Some((at, bytes));
        }
        if let (Some((_, bytes)), Some(span)) = (&page, spans.get_mut(position)) {
            *span = element.read(bytes.get(pages.prefix..), number % pages.per_page)?;
        }
    }
    Ok(spans)
}

struct Pages {
    start: u64,
    /// Bytes before the entries of a page.
    prefix: usize,
    per_page: u64,
    /// Bytes from page to page.
    stride: u64,
    /// One bit a page, the most significant one first.
    written: Vec<u8>,
}

/// Whether bit `at` of a bitmap is set, counted from the most significant one of each byte.
pub(super) fn is_set(bitmap: &[u8], at: u64) -> bool {
    usize::try_from(at / 8)
        .ok()
        .and_then(|byte| bitmap.get(byte))
        .is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0)
}

/// How one entry of an array of chunks is stored: an address, and for filtered chunks a size and a filter mask.
pub(super) struct Element {
    width: usize,
    offset_size: usize,
    /// Width of the size; 0 for chunks that are not filtered.
    length_width: usize,
    whole: u64,
}

impl Element {
    /// Entries of `width` bytes.
    ///
    /// # Errors
    /// `Corrupt` when an entry does not fit its width.
    pub(super) fn new(
        file: &File,
        numbering: &Numbering,
        filtered: bool,
        width: usize,
    ) -> Result<Self> {
        let offset_size = file.offset_size;
        let length_width = match width.checked_sub(offset_size) {
            Some(0) if !filtered => 0,
            Some(more @ 5..=12) if filtered => more - 4,
            _ => {
                return Err(Error::Corrupt(format!(
                    "the chunk index is damaged: its entries have {width} bytes"
                )));
            }
        };
        Ok(Self {
            width,
            offset_size,
            length_width,
            whole: numbering.bytes,
        })
    }

    /// Bytes of `count` entries.
    ///
    /// # Errors
    /// `Corrupt` when they cannot be addressed.
    pub(super) fn bytes(&self, count: u64) -> Result<usize> {
        usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(self.width))
            .ok_or_else(|| Error::Corrupt("the chunk index is damaged: it is too large".into()))
    }

    /// Entry `at` of the entries `bytes`.
    ///
    /// # Errors
    /// `Corrupt` when there is none.
    pub(super) fn read(&self, bytes: Option<&[u8]>, at: u64) -> Result<Option<Span>> {
        let start = self.bytes(at)?;
        let entry = bytes
            .and_then(|bytes| bytes.get(start..))
            .unwrap_or_default();
        let mut reader = Reader::new(entry, "chunk index");
        let address = reader.address(self.offset_size)?;
        let (length, mask) = if self.length_width == 0 {
            (self.whole, 0)
        } else {
            (reader.uint(self.length_width)?, reader.u32()?)
        };
        let Some(address) = address else {
            return Ok(None);
        };
        let length = u32::try_from(length)
            .map_err(|_| Error::Unsupported("chunks of 4 GiB and more cannot be read".into()))?;
        Ok(Some(Span {
            address,
            length,
            mask,
        }))
    }
}
