//! Requests as they are sent, and what they ask for once checked.

use serde::Deserialize;
use serde_json::Number as Written;

use super::answer::{AsBytes, Version};
use super::missing::{self, Missing};
use super::number::Element;
use super::object::{Address, Interface};
use super::reduce::{Axes, Operation, Order, Plan, Slice, cells};
use crate::codec::{Codec, CodecPipeline};
use crate::error::{Error, Result};

/// Most filters of a request, each of which goes over all elements.
const FILTERS: usize = 8;

/// Most missing values of a request, with each of which all elements are compared.
const MISSING: usize = 64;

/// The body of a request, with the fields of both versions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    interface_type: Option<String>,
    url: Option<String>,
    source: Option<String>,
    bucket: Option<String>,
    object: Option<String>,
    dtype: Element,
    byte_order: Option<ByteOrder>,
    offset: Option<u64>,
    size: Option<u64>,
    shape: Option<Vec<usize>>,
    axis: Option<Axis>,
    order: Option<Order>,
    selection: Option<Vec<Slice>>,
    compression: Option<Compression>,
    filters: Option<Vec<Filter>>,
    missing: Option<MissingFields>,
    /// There is no cache.
    #[serde(rename = "option_disable_chunk_cache")]
    _option_disable_chunk_cache: Option<bool>,
    option_shape_as_bytes: Option<bool>,
    option_count_as_bytes: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum ByteOrder {
    Big,
    Little,
}

impl ByteOrder {
    fn is_native(self) -> bool {
        (self == Self::Big) == cfg!(target_endian = "big")
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Axis {
    One(usize),
    Some(Vec<usize>),
}

/// Compressors by their names in numcodecs. Reductionist knows the first three.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(tag = "id", rename_all = "lowercase")]
enum Compression {
    Gzip,
    Zlib,
    Blosc2,
    Blosc,
    Zstd,
    Lz4,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(tag = "id", rename_all = "snake_case")]
enum Filter {
    Shuffle { element_size: u32 },
    ShuffleSimd { element_size: u32 },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MissingFields {
    missing_value: Option<Written>,
    missing_values: Option<Vec<Written>>,
    valid_min: Option<Written>,
    valid_max: Option<Written>,
    valid_range: Option<(Written, Written)>,
}

/// What a request asks for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) operation: Operation,
    pub(super) address: Address,
    pub(super) element: Element,
    pub(super) offset: u64,
    /// Stored bytes; without it, all from `offset` on.
    pub(super) size: Option<usize>,
    pub(super) layout: Layout,
    /// From the elements in the byte order of this machine to the stored bytes.
    pub(super) pipeline: CodecPipeline,
    pub(super) missing: Option<Missing>,
    pub(super) as_bytes: AsBytes,
}

/// Where elements are, and which of them are asked for.
#[derive(Debug)]
pub(super) struct Layout {
    /// Without it, there is one dimension, as long as there are elements.
    pub(super) shape: Option<Vec<usize>>,
    order: Order,
    selection: Option<Vec<Slice>>,
    axes: Axes,
}

impl Request {
    /// Reads and checks a request.
    ///
    /// # Errors
    /// `Invalid` with what is wrong.
    pub(super) fn parse(version: Version, operation: Operation, body: &[u8]) -> Result<Self> {
        let body: Body = serde_json::from_slice(body)
            .map_err(|error| Error::Invalid(format!("the body is not as it should be: {error}")))?;
        let address = body.address(version)?;
        let size = match body.size {
            Some(0) => return Err(invalid("size must be greater than 0")),
            Some(size) => Some(
                usize::try_from(size).map_err(|_| invalid("size is more than any memory holds"))?,
            ),
            None => None,
        };
        if let (Some(size), offset) = (body.size, body.offset.unwrap_or(0))
            && offset.checked_add(size).is_none()
        {
            return Err(invalid("offset and size are more than any object has"));
        }
        let element = body.dtype;
        let request = Self {
            operation,
            address,
            element,
            offset: body.offset.unwrap_or(0),
            size,
            pipeline: pipeline(
                element,
                body.byte_order,
                body.filters.as_deref().unwrap_or_default(),
                body.compression,
            )?,
            missing: body.missing.map(MissingFields::checked).transpose()?,
            as_bytes: AsBytes {
                shape: body.option_shape_as_bytes.unwrap_or(false),
                count: body.option_count_as_bytes.unwrap_or(false),
            },
            layout: Layout {
                shape: body.shape,
                order: body.order.unwrap_or_default(),
                selection: body.selection,
                axes: axes(body.axis)?,
            },
        };
        missing::check(element, request.missing.as_ref())?;
        request.check_size()?;
        Ok(request)
    }

    /// Whether stored bytes and elements have the same size.
    pub(super) fn is_plain(&self) -> bool {
        let same = |codec: &Codec| matches!(codec, Codec::ByteSwap(_) | Codec::Shuffle(_));
        self.pipeline.0.iter().all(same)
    }

    /// Which elements of an array of `cells` are asked for.
    ///
    /// # Errors
    /// `Invalid` when shape, selection and axes do not fit.
    pub(super) fn plan(&self, cells: usize) -> Result<Plan> {
        let layout = &self.layout;
        let line = [cells];
        Plan::new(
            self.operation,
            layout.shape.as_deref().unwrap_or(&line),
            layout.order,
            layout.selection.as_deref(),
            &layout.axes,
        )
    }

    /// The same before anything of `stored` bytes is decoded; `None` when nobody knows how many elements they are.
    ///
    /// # Errors
    /// As [`Request::plan`].
    pub(super) fn known(&self, stored: usize) -> Result<Option<Plan>> {
        let is_known = self.layout.shape.is_some() || self.is_plain();
        is_known
            .then(|| self.plan(stored / self.element.size()))
            .transpose()
    }

    /// Compares the size with that of the elements, if both are known.
    fn check_size(&self) -> Result<()> {
        let width = self.element.size();
        let Some(shape) = &self.layout.shape else {
            return match (&self.layout.selection, self.size) {
                (Some(_), _) => Err(invalid("Selection requires shape to be specified")),
                (None, Some(size)) if self.is_plain() && !size.is_multiple_of(width) => {
                    Err(invalid("Size must be a multiple of dtype size in bytes"))
                }
                (None, _) => Ok(()),
            };
        };
        let wanted = cells(shape)?.checked_mul(width);
        match self.size {
            Some(size) if self.is_plain() && wanted != Some(size) => Err(Error::Invalid(format!(
                "size is {size}, and elements of {} in this shape have {} bytes",
                self.element.name(),
                wanted.unwrap_or(usize::MAX)
            ))),
            _ => self.plan(0).map(drop),
        }
    }
}

impl Body {
    fn address(&self, version: Version) -> Result<Address> {
        let without = |fields: &[(&str, bool)]| match fields.iter().find(|(_, is_there)| *is_there)
        {
            Some((field, _)) => Err(Error::Invalid(format!("unknown field `{field}`"))),
            None => Ok(()),
        };
        let is_there = |field: &Option<String>| field.is_some();
        match version {
            Version::Two => {
                without(&[
                    ("source", is_there(&self.source)),
                    ("bucket", is_there(&self.bucket)),
                    ("object", is_there(&self.object)),
                ])?;
                let interface = match field("interface_type", self.interface_type.as_ref())? {
                    "s3" => Interface::S3,
                    "http" => Interface::Http,
                    "https" => Interface::Https,
                    other => {
                        return Err(Error::Invalid(format!(
                            "unsupported interface type {other}"
                        )));
                    }
                };
                Address::new(interface, field("url", self.url.as_ref())?)
            }
            Version::One => {
                without(&[
                    ("interface_type", is_there(&self.interface_type)),
                    ("url", is_there(&self.url)),
                    ("axis", self.axis.is_some()),
                    (
                        "option_disable_chunk_cache",
                        self._option_disable_chunk_cache.is_some(),
                    ),
                    (
                        "option_shape_as_bytes",
                        self.option_shape_as_bytes.is_some(),
                    ),
                    (
                        "option_count_as_bytes",
                        self.option_count_as_bytes.is_some(),
                    ),
                ])?;
                Address::of_bucket(
                    field("source", self.source.as_ref())?,
                    field("bucket", self.bucket.as_ref())?,
                    field("object", self.object.as_ref())?,
                )
            }
        }
    }
}

impl MissingFields {
    /// The one that is there.
    fn checked(self) -> Result<Missing> {
        let value = self.missing_value.map(|value| Missing::Values(vec![value]));
        let range = self.valid_range;
        let all = [
            value,
            self.missing_values.map(Missing::Values),
            self.valid_min.map(Missing::Below),
            self.valid_max.map(Missing::Above),
            range.map(|(least, most)| Missing::Outside(least, most)),
        ];
        let mut all = all.into_iter().flatten();
        match (all.next(), all.next()) {
            (Some(Missing::Values(values)), None) if values.len() > MISSING => Err(Error::Invalid(
                format!("there are more than {MISSING} missing values"),
            )),
            (Some(missing), None) => Ok(missing),
            _ => Err(invalid(
                "missing has one of missing_value, missing_values, valid_min, valid_max, valid_range",
            )),
        }
    }
}

/// The steps from elements to stored bytes.
fn pipeline(
    element: Element,
    order: Option<ByteOrder>,
    filters: &[Filter],
    compression: Option<Compression>,
) -> Result<CodecPipeline> {
    if filters.len() > FILTERS {
        return Err(Error::Invalid(format!(
            "there are {} filters, and may be {FILTERS}",
            filters.len()
        )));
    }
    let mut steps = Vec::new();
    let width = u32::try_from(element.size()).unwrap_or(1);
    if width > 1 && order.is_some_and(|order| !order.is_native()) {
        steps.push(Codec::ByteSwap(width));
    }
    for filter in filters {
        match filter {
            Filter::Shuffle { element_size: 0 } | Filter::ShuffleSimd { element_size: 0 } => {
                return Err(invalid("element_size must be greater than 0"));
            }
            Filter::Shuffle { element_size } | Filter::ShuffleSimd { element_size } => {
                steps.push(Codec::Shuffle(*element_size));
            }
        }
    }
    steps.extend(compression.map(|compression| match compression {
        Compression::Gzip => Codec::Gzip,
        Compression::Zlib => Codec::Zlib,
        Compression::Blosc2 | Compression::Blosc => Codec::Blosc,
        Compression::Zstd => Codec::Zstd,
        Compression::Lz4 => Codec::Lz4,
    }));
    Ok(CodecPipeline(steps))
}

fn axes(axis: Option<Axis>) -> Result<Axes> {
    match axis {
        None => Ok(Axes::All),
        Some(Axis::One(axis)) => Ok(Axes::Some(vec![axis])),
        Some(Axis::Some(axes)) if axes.is_sorted_by(|one, next| one < next) => Ok(Axes::Some(axes)),
        Some(Axis::Some(_)) => Err(invalid("axis is not a list of axes in ascending order")),
    }
}

fn field<'a>(name: &str, value: Option<&'a String>) -> Result<&'a str> {
    match value {
        Some(value) if !value.is_empty() => Ok(value),
        Some(_) => Err(Error::Invalid(format!("{name} must not be empty"))),
        None => Err(Error::Invalid(format!("missing field `{name}`"))),
    }
}

fn invalid(text: &str) -> Error {
    Error::Invalid(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use serde_json::{Value, json};

    use super::*;

    /// A request with other fields.
    fn parse(other: &Value) -> Result<Request> {
        let mut body = json!({
            "interface_type": "s3", "url": "http://here/bucket/key", "dtype": "int32", "size": 24, "shape": [2, 3],
        });
        for (name, value) in other.as_object().unwrap() {
            body[name] = value.clone();
        }
        Request::parse(Version::Two, Operation::Sum, body.to_string().as_bytes())
    }

    #[test]
    fn nothing_is_the_default() {
        let null = json!({
            "byte_order": null, "offset": null, "axis": null, "order": null, "selection": null, "compression": null,
            "filters": null, "missing": null, "option_disable_chunk_cache": null, "option_shape_as_bytes": null,
        });
        let request = parse(&null).unwrap();
        assert_eq!(request.pipeline, CodecPipeline(Vec::new()));
        assert_eq!((request.offset, request.size), (0, Some(24)));
        assert_eq!(request.layout.axes, Axes::All);
        assert!(parse(&json!({"shape": null})).is_ok());
    }

    #[test]
    fn steps_are_in_the_order_in_which_they_encode() {
        let request = parse(&json!({
            "byte_order": if cfg!(target_endian = "big") { "little" } else { "big" },
            "filters": [{"id": "shuffle", "element_size": 4}, {"id": "shuffle_simd", "element_size": 2}],
            "compression": {"id": "zlib"},
        }));
        let steps = [
            Codec::ByteSwap(4),
            Codec::Shuffle(4),
            Codec::Shuffle(2),
            Codec::Zlib,
        ];
        assert_eq!(request.unwrap().pipeline.0, steps);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (other, complaint) in [
            (json!({"colour": 1}), "unknown field `colour`"),
            (json!({"bucket": "b"}), "unknown field `bucket`"),
            (
                json!({"interface_type": "ftp"}),
                "unsupported interface type ftp",
            ),
            (
                json!({"interface_type": null}),
                "missing field `interface_type`",
            ),
            (json!({"url": "key"}), "no absolute URL"),
            (json!({"url": "http://here/bucket"}), "a bucket and a key"),
            (json!({"dtype": "int128"}), "unknown variant `int128`"),
            (json!({"size": 0}), "size must be greater than 0"),
            (json!({"size": -1}), "invalid value"),
            (json!({"size": 23}), "size is 23"),
            (json!({"size": 23, "shape": null}), "multiple of dtype size"),
            (json!({"offset": u64::MAX}), "more than any object"),
            (json!({"offset": 1.5}), "invalid type"),
            (json!({"shape": []}), "at least one dimension"),
            (json!({"shape": [0, 6]}), "at least one index"),
            (json!({"shape": [2, -3]}), "invalid value"),
            (json!({"shape": vec![1; 100]}), "100 dimensions"),
            (
                json!({"shape": [u64::MAX, u64::MAX]}),
                "does not fit any memory",
            ),
            (json!({"axis": 2}), "no axis 2"),
            (json!({"axis": -1}), "did not match"),
            (json!({"axis": [1, 0]}), "ascending"),
            (json!({"axis": [0, 0]}), "ascending"),
            (json!({"axis": [1_000_000_000]}), "no axis 1000000000"),
            (json!({"order": "K"}), "unknown variant `K`"),
            (json!({"selection": [[0, 1, 1]]}), "1 dimensions"),
            (json!({"selection": [[0, 1, 0], [0, 1, 1]]}), "stride of 0"),
            (
                json!({"selection": [[0, null, 1], [0, 1, 1]]}),
                "invalid type: null",
            ),
            (json!({"selection": [[0, 1], [0, 1, 1]]}), "invalid length"),
            (
                json!({"selection": [[0, 1, 1]], "shape": null}),
                "requires shape",
            ),
            (
                json!({"compression": {"id": "rar"}}),
                "unknown variant `rar`",
            ),
            (json!({"compression": "zlib"}), "invalid type"),
            (
                json!({"filters": [{"id": "delta"}]}),
                "unknown variant `delta`",
            ),
            (json!({"filters": [{"id": "shuffle"}]}), "element_size"),
            (
                json!({"filters": [{"id": "shuffle", "element_size": 0}]}),
                "greater than 0",
            ),
            (
                json!({"filters": vec![json!({"id": "shuffle", "element_size": 4}); 9]}),
                "9 filters",
            ),
            (json!({"missing": {}}), "missing has one of"),
            (
                json!({"missing": {"valid_min": 1, "valid_max": 2}}),
                "missing has one of",
            ),
            (
                json!({"missing": {"missing_value": 1.5}}),
                "Incompatible value 1.5",
            ),
            (
                json!({"missing": {"missing_value": 3_000_000_000_u32}}),
                "Incompatible value",
            ),
            (
                json!({"missing": {"missing_values": vec![1; 65]}}),
                "more than 64",
            ),
            (json!({"missing": {"valid_range": [2, 1]}}), "from 2 to 1"),
            (json!({"missing": {"valid_range": [1]}}), "invalid length"),
        ] {
            let refused = parse(&other).unwrap_err().to_string();
            assert!(refused.contains(complaint), "{other}: {refused}");
        }
    }
}
