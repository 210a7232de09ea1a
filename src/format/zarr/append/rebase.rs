//! Changes by others while a hierarchy is being changed: whether what has been written fits them, too.

use std::collections::{BTreeMap, BTreeSet};

use super::{ZarrAppender, begin};
use crate::array::Attributes;
use crate::error::Result;
use crate::format::zarr::arrays::Array;

impl ZarrAppender {
    /// Begins anew from what is there now, with the same change; `false` when that would not be the same change any more.
    pub(super) async fn begin_anew(&mut self) -> Result<bool> {
        if self.new.is_some() {
            return Ok(false);
        }
        let mut found = begin(&self.store, &self.lock, self.durability).await?;
        if !self.fits(&found) {
            return Ok(false);
        }
        found.arrays.take_shapes(&self.arrays);
        self.dataset = found.dataset;
        self.metadata = found.metadata;
        self.arrays = found.arrays;
        Ok(true)
    }

    /// Whether all that decides where rows belong and how they are stored is as it was, and nothing else has to grow:
    /// the arrays that share a dimension with one that changes. Others may be whatever they are.
    fn fits(&self, found: &Self) -> bool {
        let changed = self.arrays.iter().filter(|array| array.is_changed());
        let dimensions: BTreeSet<&String> = changed
            .flat_map(|array| &array.variable.dimensions)
            .collect();
        let attributes = |path: &String| self.group(path) == found.group(path);
        self.own_name() == found.own_name()
            && self.related(&dimensions) == found.related(&dimensions)
            && self.unreadable() == found.unreadable()
            && self.attributes.keys().all(attributes)
    }

    /// What the documents of the arrays with one of these dimensions say, by their paths.
    fn related(&self, dimensions: &BTreeSet<&String>) -> BTreeMap<&String, &[u8]> {
        let is_related = |array: &Array| {
            let mut own = array.variable.dimensions.iter();
            own.any(|dimension| dimensions.contains(dimension))
        };
        let arrays = self.arrays.iter().filter(|array| is_related(array));
        arrays
            .map(|array| (&array.variable.path, array.said.as_slice()))
            .collect()
    }

    /// What may have any dimension.
    fn unreadable(&self) -> Vec<&str> {
        let groups = self.dataset.root.walk().into_iter();
        groups
            .flat_map(|group| &group.unreadable)
            .map(|array| &*array.name)
            .collect()
    }

    fn group(&self, path: &String) -> Option<&Attributes> {
        let mut groups = self.dataset.root.walk().into_iter();
        groups
            .find(|group| group.path == *path)
            .map(|group| &group.attributes)
    }
}
