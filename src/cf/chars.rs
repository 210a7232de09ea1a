//! Joined characters: a netCDF `char` variable whose last dimension is the length of its words.

use std::sync::Arc;

use crate::array::chunk::{ChunkGrid, ElementOrder};
use crate::array::dtype::ElementType;
use crate::array::{Group, Layout, Variable};

/// The variable with the characters along its last dimension joined to words; that dimension is gone.
///
/// ```text
/// char station(station, length = 12)   ->   bytes12 station(station)
/// ```
///
/// `None` if it is not a `char` variable with a dimension, or its words are cut by chunks or not stored in one piece.
#[must_use]
pub fn join_chars(variable: &Variable) -> Option<Variable> {
    let layout = variable.layout.as_ref();
    if layout.element != ElementType::Char || layout.order != ElementOrder::C {
        return None;
    }
    let (length, shape) = layout.grid.shape().split_last()?;
    let (chunk_length, chunk_shape) = layout.grid.chunk_shape().split_last()?;
    // A longer chunk would put what lies behind the words into them.
    if length != chunk_length || variable.dimensions.len() != shape.len() + 1 {
        return None;
    }
    let bytes = u32::try_from(*length).ok()?;
    let grid = ChunkGrid::new(shape.to_vec(), chunk_shape.to_vec()).ok()?;
    let mut joined = variable.clone();
    joined.dimensions.pop();
    joined.layout = Arc::new(Layout {
        element: ElementType::Bytes(bytes),
        grid,
        order: ElementOrder::C,
        pipeline: layout.pipeline.clone(),
        fill: fill_word(&layout.fill, *length),
    });
    Some(joined)
}

/// Joins the characters of all variables of a group, and of those within it, to words.
pub fn join_words(group: &mut Group) {
    for variable in &mut group.variables {
        if let Some(words) = join_chars(variable) {
            *variable = Arc::new(words);
        }
    }
    group.groups.iter_mut().for_each(join_words);
}

/// A word of fill characters; NUL is the default.
fn fill_word(fill: &[u8], length: u64) -> Vec<u8> {
    match (fill.first(), usize::try_from(length)) {
        (Some(byte), Ok(length)) if *byte != 0 => vec![*byte; length],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use async_trait::async_trait;

    use super::*;
    use crate::array::Attributes;
    use crate::array::chunk::{ChunkAddress, ChunkIndex};
    use crate::codec::CodecPipeline;
    use crate::error::Result;

    #[derive(Debug)]
    struct NoChunks;

    #[async_trait]
    impl ChunkIndex for NoChunks {
        async fn locate(&self, _: &[u64]) -> Result<Vec<ChunkAddress>> {
            Ok(Vec::new())
        }
    }

    fn chars(shape: &[u64], chunk: &[u64], order: ElementOrder) -> Variable {
        Variable {
            name: "station".into(),
            path: "station".into(),
            dimensions: shape.iter().map(|n| format!("d{n}")).collect(),
            attributes: Attributes::default(),
            layout: Arc::new(Layout {
                element: ElementType::Char,
                grid: ChunkGrid::new(shape.to_vec(), chunk.to_vec()).unwrap(),
                order,
                pipeline: CodecPipeline::default(),
                fill: vec![b'-'],
            }),
            index: Arc::new(NoChunks),
            members: None,
        }
    }

    #[test]
    fn the_last_dimension_becomes_the_word() {
        let joined = join_chars(&chars(&[5, 12], &[2, 12], ElementOrder::C)).unwrap();
        assert_eq!(joined.layout.element, ElementType::Bytes(12));
        assert_eq!(
            (joined.shape(), joined.dimensions.len()),
            ([5].as_slice(), 1)
        );
        assert_eq!(joined.layout.grid.len(), 3);
        assert_eq!(joined.layout.fill, [b'-'; 12]);
        let scalar = join_chars(&chars(&[12], &[12], ElementOrder::C)).unwrap();
        assert_eq!((scalar.cells(), scalar.layout.grid.len()), (1, 1));
    }

    #[test]
    fn words_that_are_cut_or_scattered_stay_characters() {
        assert!(join_chars(&chars(&[5, 12], &[2, 6], ElementOrder::C)).is_none());
        assert!(join_chars(&chars(&[5, 12], &[2, 16], ElementOrder::C)).is_none());
        assert!(join_chars(&chars(&[], &[], ElementOrder::C)).is_none());
        let fortran = ElementOrder::Permuted(vec![1, 0]);
        assert!(join_chars(&chars(&[5, 12], &[2, 12], fortran)).is_none());
    }
}
