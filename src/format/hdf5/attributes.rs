//! Attributes of groups and arrays.

use hdf5_reader::StorageBuffer;

use crate::array::dtype::ElementType;
use crate::array::{AttributeValue, Attributes};
use crate::error::{Error, Result};
use crate::format::hdf5::bytes::Reader;
use crate::format::hdf5::header::{Header, kind, shared_body};
use crate::format::hdf5::links::dense;
use crate::format::hdf5::storage::File;
use crate::format::hdf5::types::{Class, Dataspace, Datatype, Padding};

/// What netCDF-4 and HDF5 keep in attributes for their own use.
pub(super) const HIDDEN: [&str; 9] = [
    "DIMENSION_LIST",
    "REFERENCE_LIST",
    "CLASS",
    "NAME",
    "DIMENSION_LABELS",
    "_Netcdf4Coordinates",
    "_Netcdf4Dimid",
    "_nc3_strict",
    "_NCProperties",
];

/// An attribute, not yet decoded.
#[derive(Debug)]
pub(super) struct Attribute {
    pub(super) name: String,
    datatype: Datatype,
    space: Dataspace,
    data: Vec<u8>,
}

/// The attributes of the object with this header that can be parsed, in creation order if it keeps it.
///
/// # Errors
/// `Io` when the storage fails.
pub(super) fn read(file: &File, header: &Header) -> Result<Vec<Attribute>> {
    let mut found = Vec::new();
    for message in header.messages.iter().filter(|m| m.kind == kind::ATTRIBUTE) {
        let parsed = message.body(file).and_then(|body| parse(file, &body));
        if let Some(attribute) = readable(parsed)? {
            found.push((message.order, attribute));
        }
    }
    if found.iter().all(|(order, _)| order.is_some()) {
        found.sort_by_key(|(order, _)| *order);
    }
    let mut attributes: Vec<_> = found.into_iter().map(|(_, attribute)| attribute).collect();
    let bodies = header
        .body(file, kind::ATTRIBUTE_INFO)
        .and_then(|info| info.map_or(Ok(Vec::new()), |info| dense_bodies(file, &info)));
    let mut found = Vec::new();
    for (order, body) in readable(bodies)?.unwrap_or_default() {
        if let Some(attribute) = readable(parse(file, &body))? {
            found.push((order, attribute));
        }
    }
    // Without creation order, all have the same.
    found.sort_by(|(order, a), (other, b)| order.cmp(other).then_with(|| a.name.cmp(&b.name)));
    attributes.extend(found.into_iter().map(|(_, attribute)| attribute));
    Ok(attributes)
}

/// What people see of `attributes`; those that cannot be read exactly are left out.
///
/// # Errors
/// `Io` when the storage fails.
pub(super) fn visible(file: &File, attributes: &[Attribute]) -> Result<Attributes> {
    let mut seen = Vec::new();
    for attribute in attributes {
        if HIDDEN.contains(&attribute.name.as_str()) {
            continue;
        }
        if let Some(Some(value)) = readable(attribute.value(file))? {
            seen.push((attribute.name.clone(), value));
        }
    }
    Ok(Attributes(seen))
}

/// Damage costs the attribute, failing storage costs the answer.
fn readable<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error @ Error::Io { .. }) => Err(error),
        Err(_) => Ok(None),
    }
}

fn dense_bodies(file: &File, info: &[u8]) -> Result<Vec<(u32, Vec<u8>)>> {
    let mut reader = Reader::new(info, "attribute info");
    reader.skip(1)?;
    let is_ordered = reader.u8()? & 1 != 0;
    if is_ordered {
        reader.skip(2)?;
    }
    let heap = reader.address(file.offset_size)?;
    let tree = reader.address(file.offset_size)?;
    let (Some(heap), Some(tree)) = (heap, tree) else {
        return Ok(Vec::new());
    };
    let mut bodies = dense(file, heap, tree)?;
    if !is_ordered {
        bodies.iter_mut().for_each(|(order, _)| *order = 0);
    }
    Ok(bodies)
}

fn parse(file: &File, body: &[u8]) -> Result<Attribute> {
    let mut reader = Reader::new(body, "attribute");
    let version = reader.u8()?;
    let flags = reader.u8()?;
    let sizes = [reader.u16()?, reader.u16()?, reader.u16()?].map(usize::from);
    match version {
        1 | 2 => {}
        3 => reader.skip(1)?,
        _ => {
            return Err(Error::Unsupported(format!(
                "attributes of version {version}"
            )));
        }
    }
    let mut field = |size: usize| {
        let taken = reader.take(size)?.to_vec();
        if version == 1 {
            reader.skip(size.wrapping_neg() & 7)?;
        }
        Ok::<_, Error>(taken)
    };
    let name = field(sizes[0])?;
    let mut datatype = field(sizes[1])?;
    let mut space = field(sizes[2])?;
    if version > 1 && flags & 1 != 0 {
        datatype = shared_body(file, kind::DATATYPE, &datatype, 2)?;
    }
    if version > 1 && flags & 2 != 0 {
        space = shared_body(file, kind::DATASPACE, &space, 2)?;
    }
    let name = Padding::NullTerminated.trim(&name);
    Ok(Attribute {
        name: String::from_utf8_lossy(name).into_owned(),
        datatype: Datatype::parse(&datatype)?,
        space: Dataspace::parse(file, &space)?,
        data: reader.rest().to_vec(),
    })
}

impl Attribute {
    /// The text of a text attribute of one element.
    pub(super) fn text(&self, file: &File) -> Option<String> {
        match self.value(file) {
            Ok(Some(AttributeValue::Text(text))) => Some(text),
            _ => None,
        }
    }

    /// Its texts, one an element.
    pub(super) fn texts(&self, file: &File) -> Vec<String> {
        match self.value(file) {
            Ok(Some(AttributeValue::Text(text))) => vec![text],
            Ok(Some(AttributeValue::Texts(texts))) => texts,
            _ => Vec::new(),
        }
    }

    /// Its integers.
    pub(super) fn integers(&self, file: &File) -> Vec<i128> {
        match self.value(file) {
            Ok(Some(AttributeValue::Integers { values, .. })) => values,
            _ => Vec::new(),
        }
    }

    /// The first address of each of its lists of references.
    ///
    /// # Errors
    /// `Corrupt` when it is something else.
    pub(super) fn reference_lists(&self, file: &File) -> Result<Vec<Option<u64>>> {
        let Class::List(base) = &self.datatype.class else {
            return Ok(Vec::new());
        };
        if base.class != Class::Reference {
            return Ok(Vec::new());
        }
        self.elements()?
            .iter()
            .map(|element| {
                let Some((object, _)) = list(file, element)? else {
                    return Ok(None);
                };
                Reader::new(&object, "reference").address(file.offset_size)
            })
            .collect()
    }

    /// The value; `None` for types that attributes cannot be read of.
    fn value(&self, file: &File) -> Result<Option<AttributeValue>> {
        let (datatype, elements) = match &self.datatype.class {
            Class::Array { base, .. } => {
                let size = usize::try_from(base.size).unwrap_or(usize::MAX).max(1);
                let used = self.elements()?.concat();
                let cells: Vec<_> = used.chunks_exact(size).map(<[u8]>::to_vec).collect();
                (base.as_ref(), cells)
            }
            _ => (
                &self.datatype,
                self.elements()?.into_iter().map(<[u8]>::to_vec).collect(),
            ),
        };
        let texts = match &datatype.class {
            Class::Number {
                element,
                big_endian,
            } => return Ok(numbers(*element, *big_endian, &elements)),
            Class::FixedText(padding) => elements
                .iter()
                .map(|element| lossy(padding.trim(element)))
                .collect(),
            Class::Text => elements
                .iter()
                .map(|element| text(file, element).map(|text| lossy(&text)))
                .collect::<Result<Vec<_>>>()?,
            Class::Reference | Class::List(_) | Class::Array { .. } | Class::Other(_) => {
                return Ok(None);
            }
        };
        Ok(Some(match <[String; 1]>::try_from(texts) {
            Ok([text]) => AttributeValue::Text(text),
            Err(texts) if texts.is_empty() => AttributeValue::Text(String::new()),
            Err(texts) => AttributeValue::Texts(texts),
        }))
    }

    fn elements(&self) -> Result<Vec<&[u8]>> {
        let count = usize::try_from(self.space.elements()?).unwrap_or(usize::MAX);
        let size = usize::try_from(self.datatype.size).unwrap_or(usize::MAX);
        let bytes = count
            .checked_mul(size)
            .and_then(|length| self.data.get(..length))
            .ok_or_else(|| Error::Corrupt("the attribute is damaged: it ends early".into()))?;
        Ok(bytes.chunks_exact(size.max(1)).collect())
    }
}

/// The bytes of a text of variable length.
///
/// # Errors
/// `Corrupt` when the global heap does not hold it.
pub(super) fn text(file: &File, element: &[u8]) -> Result<Vec<u8>> {
    Ok(match list(file, element)? {
        Some((bytes, length)) => {
            let bytes = bytes.get(..length).unwrap_or(&bytes);
            Padding::NullTerminated.trim(bytes).to_vec()
        }
        None => Vec::new(),
    })
}

/// The bytes of a value of variable length and its length in elements; `None` when it is empty.
fn list(file: &File, element: &[u8]) -> Result<Option<(StorageBuffer, usize)>> {
    let mut reader = Reader::new(element, "value of variable length");
    let length = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
    let address = reader.address(file.offset_size)?;
    let index = reader.u32()?;
    match address {
        Some(address) if address != 0 && length != 0 => {
            Ok(Some((file.heap_object(address, index)?, length)))
        }
        _ => Ok(None),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn numbers(element: ElementType, big_endian: bool, elements: &[Vec<u8>]) -> Option<AttributeValue> {
    let bits = elements.iter().map(|bytes| {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(bytes) {
            *to = *from;
        }
        if big_endian && let Some(used) = word.get_mut(..bytes.len().min(8)) {
            used.reverse();
        }
        u64::from_le_bytes(word)
    });
    if element.is_float() {
        let values = bits
            .map(|bits| {
                let [a, b, c, d, ..] = bits.to_le_bytes();
                match element {
                    ElementType::Float16 => half::f16::from_le_bytes([a, b]).to_f64(),
                    ElementType::Float32 => f32::from_le_bytes([a, b, c, d]).into(),
                    _ => f64::from_bits(bits),
                }
            })
            .collect();
        return Some(AttributeValue::Floats { element, values });
    }
    let width = element.size().filter(|size| (1..=8).contains(size))?;
    let unused = 64 - 8 * u32::try_from(width).ok()?;
    let signed = matches!(
        element,
        ElementType::Int8 | ElementType::Int16 | ElementType::Int32 | ElementType::Int64
    );
    let values = bits
        .map(|bits| {
            if signed {
                i128::from((bits << unused).cast_signed() >> unused)
            } else {
                i128::from(bits)
            }
        })
        .collect();
    Some(AttributeValue::Integers { element, values })
}
