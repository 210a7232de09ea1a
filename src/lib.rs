//! SQL over chunked scientific arrays.

pub mod array;
pub mod catalog;
pub mod cf;
pub mod codec;
pub mod error;
pub mod format;
pub mod query;
pub mod read;
pub mod session;
pub mod store;
