//! The SQL functions of hyperslab: dates of every CF calendar.
//!
//! A column of times is a `Timestamp` where the dates of its calendar are Gregorian labels, and ISO-8601 text with the
//! field metadata `calendar` where they are not (`360_day`, `all_leap`). The functions here take both, so that a
//! statement does not depend on the calendar of its data; for everything else they are the functions of DataFusion.
//!
//! | function | |
//! |---|---|
//! | `date_part`, `EXTRACT` | as in DataFusion, and of text dates |
//! | `date_trunc` | as in DataFusion, and of text dates |
//! | `year`, `month`, `day`, `hour`, `minute`, `second`, `dayofyear` | `date_part` by name |
//! | `season` | `DJF`, `MAM`, `JJA`, `SON` |
//!
//! `mean` needs no function: DataFusion knows it as another name of `avg`.
//!
//! ```
//! # use std::sync::Arc;
//! # use datafusion::prelude::SessionContext;
//! # use datafusion::error::Result;
//! # use datafusion::execution::FunctionRegistry;
//! # fn session() -> Result<SessionContext> {
//! let mut context = SessionContext::new();
//! let functions = hyperslab_udfs::all();
//! for function in functions.scalar {
//!     context.register_udf(Arc::unwrap_or_clone(function)); // after the default ones: the last function wins
//! }
//! for rewrite in functions.rewrites {
//!     context.register_function_rewrite(rewrite)?;
//! }
//! # Ok(context)
//! # }
//! # session().unwrap();
//! ```

mod date_part;
mod date_trunc;
mod named_part;
mod season;
mod text_date;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;

/// What a session registers.
#[derive(Debug)]
pub struct Functions {
    /// To be registered after the functions of DataFusion: `date_trunc` replaces one.
    pub scalar: Vec<Arc<ScalarUDF>>,
    /// DataFusion's `date_part` becomes that of this crate wherever a plan has it: by name, or as `EXTRACT`.
    pub rewrites: Vec<Arc<dyn FunctionRewrite + Send + Sync>>,
}

/// Every function of this crate.
#[must_use]
pub fn all() -> Functions {
    let mut scalar = vec![date_trunc::date_trunc(), season::season()];
    scalar.extend(named_part::named_parts());
    Functions {
        scalar,
        rewrites: vec![Arc::new(date_part::RewriteDatePart)],
    }
}
