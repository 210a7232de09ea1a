//! SQL over chunked scientific arrays.
//!
//! A variable of a netCDF, HDF5, Zarr or Blosc2 dataset is a table whose rows are the cells of its grid. A statement
//! decides which bytes of which chunks are touched; nothing else is read.
//!
//! ```text
//! session    SQL text            -> logical plan (DataFusion)
//! catalog    path or URL         -> dataset -> tables
//! query      WHERE               -> which indices of each dimension, which masks
//! read       variable, selection -> chunk addresses -> bytes -> cells -> columns
//! ```
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use futures::StreamExt;
//!
//! let session = hyperslab::Session::new()?;
//! session.register("climate", "sql-examples/data/tas.nc").await?;
//! let mut july = session
//!     .stream("SELECT lat, mean(tas) FROM climate WHERE month(time) = 7 GROUP BY lat ORDER BY lat")
//!     .await?;
//! while let Some(batch) = july.next().await {
//!     assert_eq!(batch?.num_rows(), 16);
//! }
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new()?.block_on(example())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Somebody's own DataFusion session learns about datasets by [`install`].

pub mod append;
pub mod array;
pub mod catalog;
pub mod cf;
pub mod codec;
pub mod error;
pub mod format;
pub mod ingest;
pub mod query;
pub mod read;
#[cfg(feature = "server")]
pub mod server;
pub mod session;
pub mod store;

pub use session::{Session, SessionOptions, install};
