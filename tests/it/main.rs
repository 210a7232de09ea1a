//! Tests at the public door, in one binary.
#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed unwrap is a failed test"
)]

mod aggregate;
mod append_cli;
mod cli;
#[cfg(feature = "server")]
mod clients;
mod common;
#[cfg(feature = "server")]
mod compose;
mod contract;
mod copy;
mod copy_blosc2;
mod copy_netcdf;
mod corpus;
mod create;
mod files;
mod floors;
mod formats;
mod grids;
#[cfg(feature = "icechunk")]
mod icechunk;
mod insert;
mod insert_blosc2;
mod insert_hdf5;
mod insert_model;
mod insert_netcdf3;
mod join;
#[cfg(feature = "server")]
mod load;
mod moto;
mod netcdf3;
mod parts;
mod pushdown;
mod random;
#[cfg(feature = "server")]
mod reducer;
mod remote;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod serving;
mod sql_examples;
#[cfg(feature = "server")]
mod web;
