//! One side of a join folded into the grid of the other: its variables become further columns there.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Field, Schema};
use arrow::row::{RowConverter, Rows as EncodedRows, SortField};
use datafusion::common::utils::normalize_float_zero;
use datafusion::common::{JoinType, Result};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column as ColumnExpr};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;

use crate::array::hyperslab::Selection;
use crate::query::align::{Alignment, Link, NONE};
use crate::query::grid::{Grid, unique_names};
use crate::query::join::moving::{Links, MAX_MAP, Moving, simplify};
use crate::query::join::{Join, Stays};
use crate::query::lowrank::{MAX_PLANE, columns_of_all, evaluate_in_memory, footprint, in_memory};
use crate::query::prune::{Pruned, holds};
use crate::query::scan::{ArraySource, contains_subquery};
use crate::query::view::{View, inlined};

/// A join whose side `1 - grid` is folded into the grid of side `grid`.
pub(super) struct Fold<'a> {
    join: &'a Join,
    /// Whose cells are the rows.
    fact: &'a View,
    /// Whose cells are looked up.
    other: &'a View,
    /// Number of the side whose cells are the rows.
    grid: usize,
    /// Whether rows without a partner stay.
    outer: bool,
    /// Whether all that counts is that there is a partner.
    semi: bool,
}

/// A pair of keys, each over dimensions of its grid.
struct Key<'a> {
    fact: &'a Arc<dyn PhysicalExpr>,
    fact_axes: Vec<usize>,
    other: &'a Arc<dyn PhysicalExpr>,
    other_axis: usize,
}

impl<'a> Fold<'a> {
    pub(super) fn new(join: &'a Join, grid: usize) -> Self {
        Self {
            join,
            fact: &join.sides[grid],
            other: &join.sides[1 - grid],
            grid,
            outer: matches!(join.kind, JoinType::Left | JoinType::Right),
            semi: matches!(join.kind, JoinType::LeftSemi | JoinType::RightSemi),
        }
    }

    /// The scan that gives the rows of the join.
    pub(super) fn scan(&self) -> Result<Arc<dyn ExecutionPlan>, Stays> {
        self.check()?;
        let keys = self.keys()?;
        let mut pruned = self.fact.source.pruned.clone();
        let links = self.links(&keys, &mut pruned)?;
        let needed = self.needed();
        let grid = Arc::new(self.grid(&keys, &links, &needed, &pruned.selection)?);
        let places = self.places(&needed, &grid);
        let moved = |expr: &Arc<dyn PhysicalExpr>| {
            inlined(expr, |column| {
                let at = needed.binary_search(&column).ok()?;
                places.get(at).cloned()
            })
        };
        for residual in &self.other.source.pruned.residual {
            pruned.residual.push(moved(residual)?);
        }
        let side = |(side, column): (usize, usize)| {
            let expr = self.join.sides.get(side)?.columns.get(column)?;
            if side == self.grid {
                Some(Arc::clone(expr))
            } else {
                moved(expr).ok()
            }
        };
        let options = &self.fact.source.options;
        if let Some((filter, columns)) = &self.join.filter {
            let filter = inlined(filter, |column| side(*columns.get(column)?))?;
            pruned.absorb_in_memory(&grid, &[filter], options)?;
        }
        let output: Option<Vec<_>> = self.join.output.iter().copied().map(side).collect();
        let output = output.ok_or_else(|| Stays("a column is missing".into()))?;
        self.finish(&grid, &pruned, &output)
    }

    /// What no scan could give.
    fn check(&self) -> Result<(), Stays> {
        let (fact, other) = (&self.fact.source, &self.other.source);
        let refuse = |what: &str| Err(Stays(what.to_owned()));
        if other.limit.is_some() || other.fetch.is_some() || fact.fetch.is_some() {
            return refuse("a side has a limit");
        }
        if fact.limit.is_some() && !self.outer {
            return refuse("a side has a limit");
        }
        if !other.pruned.dynamic.is_empty() {
            return refuse("a side has a filter that changes");
        }
        let narrowed = !other.pruned.residual.is_empty() || !other.pruned.planes.is_empty();
        if narrowed && (self.outer || self.semi) {
            return refuse("the side that is looked up has a predicate on more than a dimension");
        }
        match &self.join.filter {
            Some(_) if self.outer || self.semi => return refuse("it has a further condition"),
            Some((filter, _)) if is_volatile(filter) || contains_subquery(filter) => {
                return refuse("its further condition changes from row to row");
            }
            Some(_) | None => {}
        }
        // What is computed from a missing partner need not be NULL.
        let computed = self.join.output.iter().any(|(side, column)| {
            let expr = self.join.sides[*side].columns.get(*column);
            *side != self.grid && expr.is_none_or(|expr| !keeps_null(expr))
        });
        if self.outer && computed {
            return refuse("a column of the side that may be missing is computed");
        }
        Ok(())
    }

    fn keys(&self) -> Result<Vec<Key<'_>>, Stays> {
        let (fact, other) = (&self.fact.source.grid, &self.other.source.grid);
        let mut keys = Vec::with_capacity(self.join.on.len());
        for pair in &self.join.on {
            let (of_fact, of_other) = (&pair[self.grid], &pair[1 - self.grid]);
            for (grid, key) in [(fact, of_fact), (other, of_other)] {
                if !in_memory(grid, key) || is_volatile(key) || contains_subquery(key) {
                    return Err(Stays(format!("{} is no dimension", plain(key))));
                }
            }
            let types = (
                of_fact.data_type(&fact.schema)?,
                of_other.data_type(&other.schema)?,
            );
            let fact_axes = footprint(fact, of_fact);
            let other_axes = footprint(other, of_other);
            let [other_axis] = other_axes.as_slice() else {
                return Err(Stays(format!("{} is not one dimension", plain(of_other))));
            };
            if fact_axes.is_empty() || types.0 != types.1 {
                return Err(Stays(format!("{} is no dimension", plain(of_fact))));
            }
            keys.push(Key {
                fact: of_fact,
                fact_axes,
                other: of_other,
                other_axis: *other_axis,
            });
        }
        Ok(keys)
    }

    /// Finds out where each dimension of the other side is; rows without a partner leave the selection of an inner
    /// join.
    fn links(&self, keys: &[Key<'_>], pruned: &mut Pruned) -> Result<Links, Stays> {
        let mut links = Vec::new();
        let mut used: Vec<usize> = Vec::new();
        for axis in 0..self.other.source.grid.axes.len() {
            let keys: Vec<&Key<'_>> = keys.iter().filter(|key| key.other_axis == axis).collect();
            let link = self.link(axis, &keys)?;
            if link.axes.iter().any(|axis| used.contains(axis)) {
                return Err(Stays("two keys are on the same dimension".into()));
            }
            used.extend(&link.axes);
            links.push(link);
        }
        if !self.outer {
            for link in &links {
                let found = link.indices(&pruned.selection);
                let mask: BooleanBuffer = found.iter().map(|index| *index != NONE).collect();
                if mask.count_set_bits() < mask.len() {
                    pruned.apply_mask(link.axes.clone(), &mask);
                }
            }
            self.mask_planes(&links, pruned)?;
            pruned.restrict_planes();
            links.iter_mut().for_each(fill);
        }
        for link in &mut links {
            simplify(link, &pruned.selection);
        }
        let partial = |link: &Link| link.indices(&pruned.selection).contains(&NONE);
        let partial = links
            .iter()
            .enumerate()
            .filter(|(_, link)| self.outer && partial(link))
            .map(|(axis, _)| axis)
            .collect();
        Ok(Links { links, partial })
    }

    /// Where dimension `axis` of the other side is found by its keys.
    fn link(&self, axis: usize, keys: &[&Key<'_>]) -> Result<Link, Stays> {
        let (fact, other) = (&self.fact.source, &self.other.source);
        let name = other.grid.axes.get(axis).map_or("", |axis| &axis.name);
        let set = other.pruned.selection.dims.get(axis);
        let set = set.ok_or_else(|| Stays(format!("no dimension {name}")))?;
        if keys.is_empty() {
            // Where there is one index, there is nothing to choose; and any will do where only existence counts.
            if set.count() > 1 && !self.semi {
                let table = &other.grid.name;
                return Err(Stays(format!("dimension {name} of {table} is not a key")));
            }
            return Ok(Link {
                axes: Vec::new(),
                lengths: Vec::new(),
                map: Some([set.first().unwrap_or(NONE)].into()),
            });
        }
        let mut axes: Vec<usize> = keys.iter().flat_map(|key| key.fact_axes.clone()).collect();
        axes.sort_unstable();
        axes.dedup();
        let lengths: Vec<u64> = axes
            .iter()
            .filter_map(|axis| fact.grid.axes.get(*axis))
            .map(|axis| axis.length)
            .collect();
        let cells = lengths.iter().copied().fold(1, u64::saturating_mul);
        if cells.max(set.count()) > MAX_MAP {
            return Err(Stays(format!("dimension {name} is too long")));
        }
        let exprs: Vec<_> = keys.iter().map(|key| Arc::clone(key.other)).collect();
        let own = &other.pruned.selection;
        let values = Keys::new(&evaluate_in_memory(&other.grid, own, &[axis], &exprs)?)?;
        let exprs: Vec<_> = keys.iter().map(|key| Arc::clone(key.fact)).collect();
        let own = &fact.pruned.selection;
        let wanted = Keys::new(&evaluate_in_memory(&fact.grid, own, &axes, &exprs)?)?;
        let mut found = HashMap::new();
        for (at, index) in set
            .iter()
            .enumerate()
            .filter(|(at, _)| !values.is_null(*at))
        {
            if found.insert(values.rows.row(at), index).is_some() && !self.semi {
                let key: Vec<String> = keys.iter().map(|key| plain(key.other)).collect();
                let table = &other.grid.name;
                let key = key.join(", ");
                return Err(Stays(format!("{key} of {table} has a value twice")));
            }
        }
        let mut link = Link {
            axes,
            lengths,
            map: None,
        };
        let mut map = vec![NONE; usize::try_from(cells).unwrap_or(usize::MAX)];
        for (at, cell) in link.indices(&fact.pruned.selection).into_iter().enumerate() {
            let slot = usize::try_from(cell)
                .ok()
                .and_then(|cell| map.get_mut(cell));
            if let (Some(slot), false) = (slot, wanted.is_null(at)) {
                *slot = found.get(&wanted.rows.row(at)).copied().unwrap_or(NONE);
            }
        }
        link.map = Some(map.into());
        Ok(link)
    }

    /// The masks of the other side as masks over the dimensions of the grid.
    fn mask_planes(&self, links: &[Link], pruned: &mut Pruned) -> Result<(), Stays> {
        for plane in &self.other.source.pruned.planes {
            let of = plane.axes.iter().filter_map(|axis| links.get(*axis));
            let alignment = Alignment::new(of.cloned().collect(), plane.axes.len());
            let sets = &self.other.source.pruned.selection.dims;
            let own = plane.axes.iter().filter_map(|axis| sets.get(*axis));
            let own = Selection {
                dims: own.cloned().collect(),
            };
            let sets = alignment.axes().iter();
            let sets = sets.filter_map(|axis| pruned.selection.dims.get(*axis));
            let cells = sets.fold(1u64, |cells, set| cells.saturating_mul(set.count()));
            if cells > MAX_PLANE {
                return Err(Stays("a mask has too many cells".into()));
            }
            let mask: ArrayRef = Arc::new(BooleanArray::new(plane.mask.clone(), None));
            let mask = alignment.gather(&own, &mask, &pruned.selection)?;
            let mask = mask.as_boolean();
            pruned.apply_mask(alignment.axes().to_vec(), &holds(mask));
        }
        Ok(())
    }

    /// The columns of the other grid that are still needed.
    fn needed(&self) -> Vec<usize> {
        let filter = self.join.filter.iter().flat_map(|(_, columns)| columns);
        let exprs = self.join.output.iter().chain(filter);
        let exprs = exprs.filter(|(side, _)| *side != self.grid);
        let needed = exprs
            .filter_map(|(_, column)| self.other.columns.get(*column))
            .chain(&self.other.source.pruned.residual);
        columns_of_all(needed)
    }

    /// The grid with the columns of both sides: those of the other come behind.
    fn grid(
        &self,
        keys: &[Key<'_>],
        links: &Links,
        needed: &[usize],
        selection: &Selection,
    ) -> Result<Grid, Stays> {
        let (fact, other) = (&self.fact.source.grid, &self.other.source.grid);
        let moving = Moving {
            fact,
            other,
            links,
            selection,
        };
        let mut columns = fact.columns.clone();
        let mut fields: Vec<Field> = fact.schema.fields().iter().map(|f| (**f).clone()).collect();
        for column in needed {
            columns.push(moving.column(*column)?);
            let field = other.schema.field(*column).clone();
            let nullable = field.is_nullable() || self.outer;
            fields.push(field.with_nullable(nullable));
        }
        let names = unique_names(fields.iter().map(|field| field.name().as_str()));
        let fields: Vec<Field> = fields
            .into_iter()
            .zip(names)
            .map(|(field, name)| field.with_name(name))
            .collect();
        let keys: Vec<String> = keys
            .iter()
            .map(|key| match (plain(key.fact), plain(key.other)) {
                (left, right) if left == right => left,
                (left, right) => format!("{left} = {right}"),
            })
            .collect();
        let kind = match (self.outer, self.semi) {
            (true, _) => "LEFT JOIN",
            (_, true) => "SEMI JOIN",
            _ => "JOIN",
        };
        Ok(Grid {
            name: format!("{} {kind} {} ON {}", fact.name, other.name, keys.join(", ")),
            store: fact.store.clone(),
            axes: fact.axes.clone(),
            columns,
            schema: Arc::new(Schema::new(fields)),
            window: fact.window.clone(),
        })
    }

    /// The needed columns of the other side as columns of the new grid.
    fn places(&self, needed: &[usize], grid: &Grid) -> Vec<Arc<dyn PhysicalExpr>> {
        let first = self.fact.source.grid.columns.len();
        (first..first + needed.len())
            .map(|at| Arc::new(ColumnExpr::new(grid.schema.field(at).name(), at)) as _)
            .collect()
    }

    /// The scan of the new grid whose output is `output`, expressions over its columns.
    fn finish(
        &self,
        grid: &Arc<Grid>,
        pruned: &Pruned,
        output: &[Arc<dyn PhysicalExpr>],
    ) -> Result<Arc<dyn ExecutionPlan>, Stays> {
        let fact = &self.fact.source;
        let other = self.other.source.watches().iter();
        let watches: Vec<_> = fact.watches().iter().chain(other).cloned().collect();
        let scan = |columns: Vec<usize>| {
            let options = fact.options.clone();
            let grid = Arc::clone(grid);
            ArraySource::new(
                grid,
                columns,
                pruned.clone(),
                options,
                fact.target_partitions,
            )?
            .watched(watches.clone())
            .with_limit(fact.limit)
        };
        let bare: Option<Vec<usize>> = output
            .iter()
            .map(|expr| Some(expr.downcast_ref::<ColumnExpr>()?.index()))
            .collect();
        if let Some(columns) = bare {
            let source = scan(columns)?.with_schema(Arc::clone(&self.join.schema));
            return Ok(DataSourceExec::from_data_source(source));
        }
        let columns = columns_of_all(output);
        let exprs = output
            .iter()
            .zip(self.join.schema.fields())
            .map(|(expr, field)| {
                let expr = inlined(expr, |column| {
                    let at = columns.binary_search(&column).ok()?;
                    let name = grid.schema.field(column).name();
                    Some(Arc::new(ColumnExpr::new(name, at)) as _)
                })?;
                Ok(ProjectionExpr::new(expr, field.name()))
            })
            .collect::<Result<Vec<_>>>()?;
        let source = DataSourceExec::from_data_source(scan(columns)?);
        Ok(Arc::new(ProjectionExec::try_new(exprs, source)?))
    }
}

/// The values of the keys of one dimension, ready to be compared as the engine's join does.
struct Keys {
    rows: EncodedRows,
    values: Vec<ArrayRef>,
}

impl Keys {
    fn new(values: &[ArrayRef]) -> Result<Self> {
        let values: Vec<ArrayRef> = values.iter().map(normalize_float_zero).collect();
        let fields = values
            .iter()
            .map(|values| SortField::new(values.data_type().clone()));
        let rows = RowConverter::new(fields.collect())?.convert_columns(&values)?;
        Ok(Self { rows, values })
    }

    /// Whether a key is missing: it has no partner.
    fn is_null(&self, at: usize) -> bool {
        self.values.iter().any(|values| values.is_null(at))
    }
}

/// Gives cells that a mask takes away the partner of a neighbour: they are read with the others, but never come out.
fn fill(link: &mut Link) {
    let Some(map) = link.map.as_ref().filter(|_| link.axes.len() > 1) else {
        return;
    };
    let mut last = map.iter().copied().find(|index| *index != NONE);
    let filled = map.iter().map(|index| {
        if *index != NONE {
            last = Some(*index);
        }
        last.unwrap_or(NONE)
    });
    link.map = Some(filled.collect());
}

/// Whether an expression is NULL where its column is.
fn keeps_null(expr: &Arc<dyn PhysicalExpr>) -> bool {
    match expr.downcast_ref::<CastExpr>() {
        Some(cast) => keeps_null(cast.expr()),
        None => expr.downcast_ref::<ColumnExpr>().is_some(),
    }
}

/// An expression as a person writes it: columns without their numbers.
fn plain(expr: &Arc<dyn PhysicalExpr>) -> String {
    let text = expr.to_string();
    let mut parts = text.split('@');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    plain
}
