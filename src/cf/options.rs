//! Options: what a reader wants to have decoded.

use serde::{Deserialize, Serialize};

/// What a reader wants to have decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodeOptions {
    /// Whether attributes are applied at all; otherwise the values are the stored ones.
    pub decode: bool,
    /// Whether NaN is a missing value even if no attribute says so.
    pub nan_as_null: bool,
    /// Whether the fill value of the netCDF library is missing where a variable has no `_FillValue`: in netCDF files.
    pub default_fill: bool,
}
