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
mod common;
mod contract;
mod corpus;
mod floors;
mod formats;
mod grids;
mod join;
mod pushdown;
mod random;
mod sql_examples;
