//! Codec chains for writing: from the codecs that metadata names, with their parameters, to encoders.

use super::codecs::{self, named};
use super::dtype::DataType;
use super::json::Json;
use super::v2;
use super::writer::Recipe;
use crate::array::dtype::ElementType;
use crate::codec::Codec;
use crate::codec::encode::{EncodePipeline, Encoder};
use crate::error::Result;

/// What becomes of the elements of a chunk of Zarr v2.
pub(super) fn recipe_v2(head: &v2::Head<'_>) -> Result<Recipe> {
    let mut steps = Vec::from_iter(swap(codecs::byte_order(head.endian, head.dtype).as_ref()));
    for codec in &head.steps {
        steps.push(encoder(codecs::id(codec)?, codec, head.dtype.element)?);
    }
    Ok(Recipe {
        order: head.order.clone(),
        pipeline: EncodePipeline(steps),
    })
}

/// What becomes of the elements of a chunk by `codecs` of Zarr v3, of which none shards.
pub(super) fn recipe_v3(codecs: &[Json], dtype: DataType, rank: usize) -> Result<Recipe> {
    // The order of elements and bytes is that of decoding; its checks hold here too.
    let chain = codecs::chain(codecs, dtype, rank)?;
    let mut steps = Vec::from_iter(swap(chain.pipeline.0.first()));
    for codec in codecs {
        let (name, configuration) = named("codec", codec)?;
        if matches!(name, "bytes" | "transpose") {
            continue;
        }
        let id = name.strip_prefix("numcodecs.").unwrap_or(name);
        steps.push(encoder(id, configuration, dtype.element)?);
    }
    Ok(Recipe {
        order: chain.order,
        pipeline: EncodePipeline(steps),
    })
}

/// The exchange of bytes with which a pipeline begins, if it does.
fn swap(codec: Option<&Codec>) -> Option<Encoder> {
    match codec {
        Some(Codec::ByteSwap(unit)) => Some(Encoder::ByteSwap(*unit)),
        _ => None,
    }
}

/// The encoder with this identifier of numcodecs.
fn encoder(id: &str, configuration: &Json, element: ElementType) -> Result<Encoder> {
    let size = element.size().and_then(|size| u32::try_from(size).ok());
    Encoder::from_numcodecs(id, &configuration.to_value(), size)
}
