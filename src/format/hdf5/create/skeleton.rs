//! The skeleton of a new file: everything but cells, at addresses that are found by laying it out once without them.

use super::messages::{
    self, Attribute, BACK_REFERENCE, LARGEST, Message, NULL, SCALAR, WIDTH, charset,
};
use super::plan::{Plan, PlannedDataset};
use crate::array::dtype::ElementType;
use crate::array::number;
use crate::array::{AttributeValue, Attributes};
use crate::error::{Error, Result, Within};
use crate::format::hdf5::append::output::Fields;
use crate::format::hdf5::header::kind;

/// Bytes of the superblock.
const SUPERBLOCK: u64 = 48;
/// Where in it the address of the root group is.
pub(super) const ROOT_AT: u64 = 36;
/// Everything begins at a multiple of this.
const ALIGNMENT: u64 = 8;
/// A global heap collection has at least this many bytes.
const COLLECTION: u64 = 4096;
/// Bytes before the objects of a collection, and before each of them.
const HEAD: u64 = 16;

/// Where the parts of a file are.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    /// Headers of groups, and of datasets.
    pub(super) groups: Vec<u64>,
    datasets: Vec<u64>,
    /// The values of datasets that have one and no dimension.
    values: Vec<u64>,
    heap: u64,
}

/// The bytes of a new file without any chunk, where its parts are, and how long the header of its root group is.
pub(super) fn build(plan: &Plan) -> Result<(Vec<u8>, Addresses, u64)> {
    let mut addresses = Addresses {
        groups: vec![0; plan.groups.len()],
        datasets: vec![0; plan.datasets.len()],
        values: vec![0; plan.datasets.len()],
        heap: 0,
    };
    // Where things are changes no length.
    let parts = Parts::new(plan, &addresses)?;
    let mut end = SUPERBLOCK;
    let mut place = |length: u64| {
        let start = end.next_multiple_of(ALIGNMENT);
        end = start + length;
        start
    };
    let objects = parts.groups.iter().chain(&parts.datasets);
    let starts: Vec<u64> = objects.map(|part| place(part.len() as u64)).collect();
    let (groups, datasets) = starts.split_at(plan.groups.len());
    addresses.groups = groups.to_vec();
    addresses.datasets = datasets.to_vec();
    for (value, address) in parts.values.iter().zip(&mut addresses.values) {
        *address = place(value.len() as u64);
    }
    addresses.heap = place(parts.heap.len() as u64);
    let parts = Parts::new(plan, &addresses)?;
    let mut file = Vec::new();
    let root = addresses.groups.first().copied().unwrap_or_default();
    let mut superblock = Fields::default();
    superblock.bytes(b"\x89HDF\r\n\x1a\n\x02\x08\x08\x00");
    superblock.uint(0, WIDTH)?;
    superblock.address(None, WIDTH)?;
    superblock.uint(end, WIDTH)?;
    superblock.uint(root, WIDTH)?;
    file.extend(superblock.signed());
    let all = [parts.groups, parts.datasets, parts.values, vec![parts.heap]];
    for part in all.iter().flatten() {
        let start = (file.len() as u64).next_multiple_of(ALIGNMENT);
        file.resize(usize::try_from(start).unwrap_or(usize::MAX), 0);
        file.extend(part);
    }
    let root = all
        .iter()
        .flatten()
        .next()
        .map_or(0, |root| root.len() as u64);
    Ok((file, addresses, root))
}

/// The header of the root group of a file whose parts are at these addresses, and values of its attributes that belong at
/// `heap`; their lengths do not depend on that.
pub(super) fn root(plan: &Plan, addresses: &Addresses, heap: u64) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut values = Heap::at(heap);
    let header = group(plan, 0, addresses, &mut values)?;
    Ok((header, values.collection()?))
}

/// The parts of a file.
struct Parts {
    groups: Vec<Vec<u8>>,
    datasets: Vec<Vec<u8>>,
    values: Vec<Vec<u8>>,
    heap: Vec<u8>,
}

impl Parts {
    fn new(plan: &Plan, addresses: &Addresses) -> Result<Self> {
        let mut heap = Heap::at(addresses.heap);
        let mut parts = Self {
            groups: Vec::with_capacity(plan.groups.len()),
            datasets: Vec::with_capacity(plan.datasets.len()),
            values: Vec::with_capacity(plan.datasets.len()),
            heap: Vec::new(),
        };
        for at in 0..plan.groups.len() {
            parts.groups.push(group(plan, at, addresses, &mut heap)?);
        }
        for (at, planned) in plan.datasets.iter().enumerate() {
            let header = dataset(plan, at, planned, addresses, &mut heap);
            parts
                .datasets
                .push(header.within(|| format!("variable {}", planned.name))?);
            let value = planned
                .variable
                .as_ref()
                .filter(|_| planned.dimensions.is_empty());
            let value = value.map_or_else(Vec::new, |variable| variable.fill.clone());
            parts.values.push(value);
        }
        parts.heap = heap.collection()?;
        Ok(parts)
    }
}

fn group(plan: &Plan, at: usize, addresses: &Addresses, heap: &mut Heap) -> Result<Vec<u8>> {
    let address = |of: &[u64], at: usize| of.get(at).copied().unwrap_or_default();
    let datasets = plan.datasets.iter().enumerate();
    let datasets = datasets.filter(|(_, dataset)| dataset.group == at);
    let mut links: Vec<(&str, u64)> = datasets
        .map(|(at, dataset)| (dataset.name.as_str(), address(&addresses.datasets, at)))
        .collect();
    for (child, group) in plan.groups.iter().enumerate() {
        if group.parent == Some(at) {
            let name = group.path.rsplit_once('/').map_or(&*group.path, |(_, n)| n);
            links.push((name, address(&addresses.groups, child)));
        }
    }
    let messages = messages::links(&links)?;
    let mut attributes = Vec::new();
    if at == 0 {
        let properties = concat!("version=2,hyperslab=", env!("CARGO_PKG_VERSION"));
        attributes.push(text("_NCProperties", properties)?);
    }
    if let Some(group) = plan.groups.get(at) {
        put_attributes(&group.attributes, None, &mut attributes, heap)?;
    }
    messages::object(messages, &attributes)
}

fn dataset(
    plan: &Plan,
    at: usize,
    planned: &PlannedDataset,
    addresses: &Addresses,
    heap: &mut Heap,
) -> Result<Vec<u8>> {
    let of: Vec<_> = planned
        .dimensions
        .iter()
        .filter_map(|at| plan.dimensions.get(*at))
        .collect();
    let shape: Vec<u64> = of.iter().map(|dimension| dimension.length).collect();
    let most: Vec<Option<u64>> = of
        .iter()
        .map(|dimension| (!dimension.unlimited).then_some(dimension.length))
        .collect();
    let is_growing = most.contains(&None);
    let space = messages::space(&shape, Some(&most))?;
    let mut all = vec![Message::new(kind::DATASPACE, space)];
    let mut attributes = Vec::new();
    match &planned.variable {
        None => {
            all.push(Message::new(kind::DATATYPE, messages::bare()));
            all.push(messages::fill(None, is_growing)?);
            all.push(if is_growing {
                messages::chunked(&planned.chunk, 4)?
            } else {
                let cells = shape.first().copied().unwrap_or_default();
                messages::contiguous(None, cells.saturating_mul(4))?
            });
        }
        Some(variable) => {
            let datatype = messages::datatype(variable.element)?;
            all.push(Message::new(kind::DATATYPE, datatype));
            let is_chunked = !shape.is_empty();
            all.push(messages::fill(Some(&variable.fill), is_chunked)?);
            let size = variable.fill.len();
            // Checked even where nothing is filtered.
            let filters = messages::filters(&variable.steps)?;
            if is_chunked {
                if !variable.steps.is_empty() {
                    all.push(filters);
                }
                all.push(messages::chunked(&planned.chunk, size)?);
            } else {
                let place = addresses.values.get(at).copied();
                all.push(messages::contiguous(place, size as u64)?);
            }
        }
    }
    put_conventions(plan, at, planned, addresses, &mut attributes, heap)?;
    if let Some(variable) = &planned.variable {
        let element = Some(variable.element);
        put_attributes(&variable.attributes, element, &mut attributes, heap)?;
    }
    messages::object(all, &attributes)
}

/// Adds the attributes by which dimensions are kept.
fn put_conventions(
    plan: &Plan,
    at: usize,
    planned: &PlannedDataset,
    addresses: &Addresses,
    attributes: &mut Vec<Attribute>,
    heap: &mut Heap,
) -> Result<()> {
    let address = |at: usize| addresses.datasets.get(at).copied().unwrap_or_default();
    let id = |at: usize| number_attribute(ElementType::Int32, i128::try_from(at).unwrap_or(0));
    let put = |name: &str, datatype, space, data| Attribute {
        name: name.to_owned(),
        datatype,
        space,
        data,
    };
    if planned.dimensions.len() > usize::from(planned.scale_of.is_some()) {
        let mut ids = Vec::new();
        for dimension in &planned.dimensions {
            ids.extend(u32::try_from(*dimension).unwrap_or_default().to_le_bytes());
        }
        let datatype = messages::datatype(ElementType::Int32)?;
        let space = messages::space(&[planned.dimensions.len() as u64], None)?;
        attributes.push(put("_Netcdf4Coordinates", datatype, space, ids));
    }
    if let Some(of) = planned.scale_of {
        let length = plan
            .dimensions
            .get(of)
            .map_or(0, |dimension| dimension.length);
        let name = match planned.variable {
            Some(_) => planned.name.clone(),
            None => {
                format!("This is a netCDF dimension but not a netCDF variable.{length:>10}")
            }
        };
        attributes.push(terminated("CLASS", "DIMENSION_SCALE")?);
        attributes.push(terminated("NAME", &name)?);
        attributes.extend(numbers("_Netcdf4Dimid", &id(of), None)?);
        let mut users = Vec::new();
        let mut count = 0;
        for (user, dataset) in plan.datasets.iter().enumerate() {
            if dataset.scale_of.is_some() {
                continue;
            }
            let axes = dataset.dimensions.iter().enumerate();
            for (axis, _) in axes.filter(|(_, dimension)| **dimension == of) {
                users.extend(address(user).to_le_bytes());
                users.extend(u32::try_from(axis).unwrap_or_default().to_le_bytes());
                users.extend([0; BACK_REFERENCE - 12]);
                count += 1;
            }
        }
        if count > 0 {
            let space = messages::space(&[count], None)?;
            attributes.push(put(
                "REFERENCE_LIST",
                messages::back_references(),
                space,
                users,
            ));
        }
    } else if !planned.dimensions.is_empty() {
        let mut lists = Vec::new();
        for dimension in &planned.dimensions {
            let scale = plan.scale(*dimension).unwrap_or(at);
            lists.extend(heap.put(&address(scale).to_le_bytes(), 1)?);
        }
        let space = messages::space(&[planned.dimensions.len() as u64], None)?;
        attributes.push(put("DIMENSION_LIST", messages::references(), space, lists));
    }
    Ok(())
}

/// Adds attributes that people see; `_FillValue` is one of `element`.
fn put_attributes(
    from: &Attributes,
    element: Option<ElementType>,
    attributes: &mut Vec<Attribute>,
    heap: &mut Heap,
) -> Result<()> {
    for (name, value) in &from.0 {
        let element = element.filter(|_| name == "_FillValue");
        let attribute = match value {
            AttributeValue::Integers { .. } | AttributeValue::Floats { .. } => {
                numbers(name, value, element)?
            }
            AttributeValue::Text(value) if element == Some(ElementType::Char) => Some(Attribute {
                name: name.clone(),
                datatype: messages::datatype(ElementType::Char)?,
                space: SCALAR.to_vec(),
                data: value.as_bytes().to_vec(),
            }),
            AttributeValue::Text(value) if value.len() + name.len() < LARGEST - 100 => {
                Some(text(name, value)?)
            }
            AttributeValue::Text(value) => Some(texts(name, std::slice::from_ref(value), heap)?),
            AttributeValue::Texts(values) => Some(texts(name, values, heap)?),
            AttributeValue::Json(value) => Some(text(name, &value.to_string())?),
        };
        attributes.push(attribute.ok_or_else(|| {
            Error::Unsupported(format!("attribute {name} cannot be stored: {value}"))
        })?);
    }
    Ok(())
}

/// An attribute of numbers of the type that they have, or of `element`; `None` if they are none of it.
fn numbers(
    name: &str,
    value: &AttributeValue,
    element: Option<ElementType>,
) -> Result<Option<Attribute>> {
    let (own, each): (ElementType, Vec<AttributeValue>) = match value {
        AttributeValue::Integers { element, values } => {
            let of = |value: &i128| number_attribute(*element, *value);
            (*element, values.iter().map(of).collect())
        }
        AttributeValue::Floats { element, values } => {
            let of = |value: &f64| AttributeValue::Floats {
                element: *element,
                values: vec![*value],
            };
            (*element, values.iter().map(of).collect())
        }
        AttributeValue::Text(_) | AttributeValue::Texts(_) | AttributeValue::Json(_) => {
            return Ok(None);
        }
    };
    let element = match element.unwrap_or(own) {
        ElementType::Float16 => ElementType::Float32,
        ElementType::Bool => ElementType::Int8,
        element => element,
    };
    let elements = each.iter().map(|value| number::element(value, element));
    let Some(data) = elements.collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    Ok(Some(Attribute {
        name: name.to_owned(),
        datatype: messages::datatype(element)?,
        space: match data.len() {
            0 => NULL.to_vec(),
            1 => SCALAR.to_vec(),
            count => messages::space(&[count as u64], None)?,
        },
        data: data.concat(),
    }))
}

fn number_attribute(element: ElementType, value: i128) -> AttributeValue {
    AttributeValue::Integers {
        element,
        values: vec![value],
    }
}

/// An attribute of one text, as netCDF-C writes it: as long as it is, and one NUL if it is empty.
fn text(name: &str, value: &str) -> Result<Attribute> {
    let value = if value.is_empty() { "\0" } else { value };
    Ok(Attribute {
        name: name.to_owned(),
        datatype: messages::fixed_text(value.len(), charset(value))?,
        space: SCALAR.to_vec(),
        data: value.as_bytes().to_vec(),
    })
}

/// The same with a NUL at its end, as the HDF5 library writes its own.
fn terminated(name: &str, value: &str) -> Result<Attribute> {
    text(name, &format!("{value}\0"))
}

/// An attribute of texts of any length.
fn texts(name: &str, values: &[String], heap: &mut Heap) -> Result<Attribute> {
    let mut data = Vec::new();
    for value in values {
        data.extend(heap.put(value.as_bytes(), value.len())?);
    }
    Ok(Attribute {
        name: name.to_owned(),
        datatype: messages::any_text(),
        space: match values.len() {
            0 => NULL.to_vec(),
            1 => SCALAR.to_vec(),
            count => messages::space(&[count as u64], None)?,
        },
        data,
    })
}

/// A global heap collection: values of variable length.
#[derive(Debug)]
struct Heap {
    address: u64,
    count: u16,
    objects: Vec<u8>,
}

impl Heap {
    fn at(address: u64) -> Self {
        Self {
            address,
            count: 0,
            objects: Vec::new(),
        }
    }

    /// Adds a value of `length` elements; returns what refers to it.
    fn put(&mut self, bytes: &[u8], length: usize) -> Result<Vec<u8>> {
        let mut reference = Fields::default();
        reference.uint(length as u64, 4)?;
        if bytes.is_empty() {
            reference.uint(0, WIDTH)?;
            reference.uint(0, 4)?;
            return Ok(reference.0);
        }
        self.count = self.count.checked_add(1).ok_or_else(|| {
            Error::Unsupported("there are too many dimensions of variables, or texts".into())
        })?;
        let mut object = Fields::default();
        object.uint(self.count.into(), 2)?;
        // Nobody counts who refers to it.
        object.uint(0, 6)?;
        object.uint(bytes.len() as u64, WIDTH)?;
        object.bytes(bytes);
        object.0.resize(object.0.len().next_multiple_of(8), 0);
        self.objects.extend(object.0);
        reference.uint(self.address, WIDTH)?;
        reference.uint(self.count.into(), 4)?;
        Ok(reference.0)
    }

    /// All values, and the free space behind them; nothing if there are none.
    fn collection(self) -> Result<Vec<u8>> {
        if self.count == 0 {
            return Ok(Vec::new());
        }
        let used = HEAD + self.objects.len() as u64;
        let size = (used + HEAD).max(COLLECTION);
        let mut fields = Fields::default();
        fields.bytes(b"GCOL\x01\0\0\0");
        fields.uint(size, WIDTH)?;
        fields.bytes(&self.objects);
        fields.uint(0, 8)?;
        fields.uint(size - used, WIDTH)?;
        fields
            .0
            .resize(usize::try_from(size).unwrap_or(usize::MAX), 0);
        Ok(fields.0)
    }
}
