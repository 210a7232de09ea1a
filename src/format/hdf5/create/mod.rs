//! New netCDF-4 files: a skeleton of all but cells beside the place of the file, which then grows like any other.

mod messages;
mod plan;
mod skeleton;

use crate::array::Attributes;
use crate::array::blueprint::Blueprint;
use crate::error::Result;
use crate::format::hdf5::Contents;
use crate::format::hdf5::append::output::{Fields, Output};
use crate::format::hdf5::append::{Hdf5Appender, Way};
use crate::store::Store;
use crate::store::replace::Replacement;
use crate::store::write::Durability;

use plan::Plan;
use skeleton::Addresses;

/// Begins to make the file that a blueprint describes; if there is one, it takes its place.
///
/// # Errors
/// `Invalid` when the blueprint contradicts itself, `Unsupported` when netCDF-4 cannot hold what it asks for, `Io` when
/// the storage fails.
pub(super) fn create(
    store: &Store,
    blueprint: &Blueprint,
    durability: Durability,
) -> Result<Hdf5Appender> {
    let plan = Plan::new(blueprint)?;
    let (bytes, addresses, root) = skeleton::build(&plan)?;
    let file = Replacement::first(store, durability)?;
    file.write(0, &bytes)?;
    let contents = Contents::read(&file.store()?, bytes.len() as u64)?;
    let output = Output::new(file, &contents.file)?;
    let created = Created {
        plan,
        addresses,
        root,
    };
    Hdf5Appender::new(store, contents, Way::New(created), Some(output))
}

/// A file that is being made.
#[derive(Debug)]
pub(super) struct Created {
    plan: Plan,
    addresses: Addresses,
    /// Bytes of the header of the root group.
    root: u64,
}

impl Created {
    /// Gives the file other attributes: its root group gets another header, elsewhere.
    ///
    /// # Errors
    /// `Unsupported` when netCDF-4 cannot hold them, `Io` when the storage fails.
    pub(super) fn set_attributes(
        &mut self,
        attributes: &Attributes,
        output: &mut Output,
    ) -> Result<()> {
        if let Some(root) = self.plan.groups.first_mut() {
            root.attributes = attributes.clone();
        }
        let (_, values) = skeleton::root(&self.plan, &self.addresses, 0)?;
        let heap = output.put(&vec![0; values.len()])?;
        let (header, values) = skeleton::root(&self.plan, &self.addresses, heap)?;
        output.write(heap, &values)?;
        let address = output.put(&header)?;
        let mut fields = Fields::default();
        fields.address(Some(address), output.offset_size)?;
        output.write(skeleton::ROOT_AT, &fields.0)?;
        if let Some(before) = self.addresses.groups.first_mut() {
            output.release(*before, self.root);
            *before = address;
        }
        self.root = header.len() as u64;
        Ok(())
    }
}
