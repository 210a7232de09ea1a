//! The cells of the variables of a tile: which are read with it, and which once for all tiles.

use std::sync::Arc;

use arrow::array::ArrayRef;
use datafusion::common::Result;

use super::{Cells, Gather, Loaded, Stored, Way, Worker};
use crate::array::hyperslab::{IndexSet, Selection};
use crate::array::slab::Slab;
use crate::error::Error;
use crate::query::ahead::{self, Coming};
use crate::query::engine_error;
use crate::query::grid::{Column, VariableColumn};
use crate::query::members::Piece;
use crate::query::tile::Tile;
use crate::read;

/// Variables of lower rank with at most this many selected cells are read once, not tile by tile.
const KEEP_CELLS: u64 = 1 << 20;

impl Worker {
    /// Reads the variables among `columns` that the tile does not have yet.
    pub(super) async fn read(
        &mut self,
        loaded: &mut Loaded,
        columns: &[usize],
        gather: Gather,
    ) -> Result<()> {
        for column in columns {
            if loaded.cells.get(*column).is_some_and(Option::is_some) {
                continue;
            }
            let grid = Arc::clone(&self.source.grid);
            let cells = match grid.columns.get(*column) {
                Some(Column::Variable(variable)) => {
                    let cells = self.cells(variable, *column, loaded).await?;
                    gathered(variable, cells, loaded, gather)?
                }
                Some(Column::Derived { axes, values }) => {
                    let tile = &loaded.tile.selection;
                    Cells::Lower(Column::selected(&grid, tile, axes, values)?)
                }
                Some(Column::Coordinate { .. } | Column::Index { .. }) | None => continue,
            };
            if let Some(slot) = loaded.cells.get_mut(*column) {
                *slot = Some(cells);
            }
        }
        Ok(())
    }

    async fn cells(
        &mut self,
        variable: &VariableColumn,
        column: usize,
        loaded: &Loaded,
    ) -> Result<Cells> {
        let way = self.way(variable, column);
        let Some(whole) = way.kept else {
            return self.of_tile(variable, column, way.straight, loaded).await;
        };
        let kept = match self.kept.get(column).cloned().flatten() {
            Some(kept) => kept,
            None => {
                let values = self.values(variable, &whole).await?;
                self.kept_bytes += values.get_array_memory_size();
                if let Some(slot) = self.kept.get_mut(column) {
                    *slot = Some(Arc::clone(&values));
                }
                values
            }
        };
        if variable.alignment.is_some() && !way.straight {
            return Ok(Cells::Own(whole, kept));
        }
        // The tile's part of it: a box among the selected indices.
        let place = |axis: &usize| loaded.tile.place.get(*axis).cloned().unwrap_or(0..1);
        let counts: Vec<u64> = whole.dims.iter().map(IndexSet::count).collect();
        let is_all = variable
            .axes
            .iter()
            .zip(&counts)
            .all(|(axis, count)| place(axis).len() as u64 == *count);
        if is_all {
            return Ok(Cells::Lower(kept));
        }
        let mut positions = vec![0u64];
        for (axis, count) in variable.axes.iter().zip(&counts) {
            let range = place(axis);
            positions = positions
                .iter()
                .flat_map(|position| range.clone().map(move |at| position * count + at as u64))
                .collect();
        }
        let positions = arrow::array::UInt64Array::from(positions);
        Ok(Cells::Lower(arrow::compute::take(&kept, &positions, None)?))
    }

    /// Begins to fetch what a tile needs first from stores that are far away.
    pub(super) fn begin(&mut self, tile: &Tile) -> Vec<Coming> {
        let planes = &self.source.pruned.planes;
        if !planes.iter().all(|plane| plane.touches(&tile.place)) {
            return Vec::new();
        }
        let mut columns = match &self.source.residual {
            Some(residual) => residual.columns().to_vec(),
            None => self.source.projection.clone(),
        };
        columns.sort_unstable();
        columns.dedup();
        let grid = Arc::clone(&self.source.grid);
        let mut coming = Vec::new();
        for column in columns {
            let Some(variable) = grid.variable(column) else {
                continue;
            };
            // Others are read once, or as few of their cells as differ from those of the last tile.
            let way = self.way(variable, column);
            if way.kept.is_some() || !(way.straight || variable.alignment.is_none()) {
                continue;
            }
            let own = variable.selection(&tile.selection);
            let pieces = variable.pieces(&own);
            let far = pieces.iter().filter(|piece| !piece.store.is_local());
            coming.extend(
                far.map(|piece| Coming::begin(piece.store, piece.variable, &piece.selection, None)),
            );
        }
        coming
    }

    /// How a variable is read; found out once, because it takes a step a selected index.
    fn way(&mut self, variable: &VariableColumn, column: usize) -> Way {
        if let Some(way) = self.ways.get(column).cloned().flatten() {
            return way;
        }
        let selection = &self.source.pruned.selection;
        let straight = variable
            .alignment
            .as_ref()
            .is_none_or(|alignment| alignment.is_straight(selection));
        let axes = variable.axes.iter().copied();
        let of_all_rows = straight && axes.eq(0..self.source.grid.axes.len());
        let own = variable.selection(selection);
        let few = !of_all_rows && own.cells() <= KEEP_CELLS;
        let way = Way {
            straight,
            kept: few.then_some(own),
        };
        if let Some(slot) = self.ways.get_mut(column) {
            *slot = Some(way.clone());
        }
        way
    }

    /// The cells of a variable that is read tile by tile.
    async fn of_tile(
        &mut self,
        variable: &VariableColumn,
        column: usize,
        straight: bool,
        loaded: &Loaded,
    ) -> Result<Cells> {
        let own = variable.selection(&loaded.tile.selection);
        if straight || variable.alignment.is_none() {
            let axes = variable.axes.iter().copied();
            if !axes.eq(0..self.source.grid.axes.len()) {
                return Ok(Cells::Lower(self.values(variable, &own).await?));
            }
            let pieces = variable.pieces(&own);
            let [piece] = pieces.as_slice() else {
                return Ok(Cells::Values(self.values(variable, &own).await?));
            };
            return Ok(Cells::Rows(Stored {
                slab: self.slab(piece).await?,
                decoding: Arc::clone(piece.decoding),
                wider: piece.wider.cloned(),
                store: piece.store.clone(),
            }));
        };
        // The days of a month need the same cells of a climatology.
        let values = match self.last.get(column) {
            Some(Some((last, values))) if *last == own => Arc::clone(values),
            _ => {
                let values = self.values(variable, &own).await?;
                if let Some(slot) = self.last.get_mut(column) {
                    *slot = Some((own.clone(), Arc::clone(&values)));
                }
                values
            }
        };
        Ok(Cells::Own(own, values))
    }

    /// Decoded cells of a variable, given by its own indices.
    async fn values(&mut self, variable: &VariableColumn, own: &Selection) -> Result<ArrayRef> {
        let mut values = Vec::new();
        for piece in variable.pieces(own) {
            let slab = self.slab(&piece).await?;
            values.push((piece.values(slab).map_err(engine_error)?, piece.place));
        }
        variable.joined(own, values).map_err(engine_error)
    }

    async fn slab(&mut self, piece: &Piece<'_>) -> Result<Slab> {
        let mut tries = 0;
        loop {
            match self.read_once(piece).await {
                Err(Error::Conflict(_)) if tries < read::TRIES => {
                    tries += 1;
                    piece.variable.index.forget();
                }
                slab => {
                    return slab
                        .map_err(|error| engine_error(error.within(piece.store.location())));
                }
            }
        }
    }

    async fn read_once(&mut self, piece: &Piece<'_>) -> crate::error::Result<Slab> {
        let is_of = |coming: &Coming| coming.is_of(piece.variable, &piece.selection);
        let (plan, fetched) = match self.coming.iter().position(is_of) {
            Some(at) => self.coming.swap_remove(at).fetched().await?,
            None => {
                let (store, variable) = (piece.store.clone(), Arc::clone(piece.variable));
                ahead::fetch(store, variable, piece.selection.clone(), None).await?
            }
        };
        let timer = self.metrics.decode_time.timer();
        let slab = read::decode(piece.store, &plan, &fetched, &mut self.buffers);
        timer.done();
        self.metrics
            .read
            .add(std::mem::take(&mut self.buffers.counters));
        slab
    }
}

/// The cells of a variable, for all rows of the tile if that is when they are gathered.
fn gathered(
    variable: &VariableColumn,
    cells: Cells,
    loaded: &Loaded,
    gather: Gather,
) -> Result<Cells> {
    Ok(match (cells, &variable.alignment, gather) {
        (Cells::Own(own, values), Some(alignment), Gather::Tiles) => {
            Cells::Lower(alignment.gather(&own, &values, &loaded.tile.selection)?)
        }
        (cells, _, _) => cells,
    })
}
