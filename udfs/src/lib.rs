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
//! # use datafusion::execution::session_state::SessionStateBuilder;
//! # use datafusion::prelude::SessionContext;
//! let functions = hyperslab_udfs::all();
//! let state = SessionStateBuilder::new()
//!     .with_expr_planners(functions.planners) // before the default ones: the first planner wins
//!     .with_default_features()
//!     .build();
//! let context = SessionContext::new_with_state(state);
//! for function in functions.scalar {
//!     context.register_udf(Arc::unwrap_or_clone(function)); // after the default ones: the last function wins
//! }
//! ```

mod date_part;
mod date_trunc;
mod named_part;
mod season;
mod text_date;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::planner::ExprPlanner;

/// What a session registers.
#[derive(Debug)]
pub struct Functions {
    /// To be registered after the functions of DataFusion: two of them replace one.
    pub scalar: Vec<Arc<ScalarUDF>>,
    /// To be put before the planners of DataFusion: `EXTRACT` means the `date_part` of this crate.
    pub planners: Vec<Arc<dyn ExprPlanner>>,
}

/// Every function of this crate.
#[must_use]
pub fn all() -> Functions {
    let mut scalar = vec![
        date_part::date_part(),
        date_trunc::date_trunc(),
        season::season(),
    ];
    scalar.extend(named_part::named_parts());
    Functions {
        scalar,
        planners: vec![Arc::new(date_part::ExtractPlanner)],
    }
}
