//! Tiles: the boxes of cells in which a grid is read, each a whole number of chunks of every variable where that fits
//! in memory.

use std::cmp::Ordering;
use std::ops::Range;

use crate::array::hyperslab::{IndexSet, Selection};
use crate::query::grid::VariableColumn;

/// Extent of the tiles of a scan, one entry a dimension of the grid.
///
/// A tile holds whole chunks of every variable, so that each is decoded once; small chunks are joined, the fastest
/// dimension first, up to `aim` bytes, so that rows come in long and sorted runs. Where chunks of different variables
/// are so unlike that joining them would need more than `most` bytes, the tiles of the widest variable grow as far
/// as memory allows.
pub(super) fn tile_shape(
    shape: &[u64],
    variables: &[&VariableColumn],
    aim: u64,
    most: u64,
) -> Vec<u64> {
    let element =
        |variable: &VariableColumn| variable.variable.layout.element.size().unwrap_or(32) as u64;
    // Bytes that one row of the table takes in all variables of full rank.
    let row: u64 = variables
        .iter()
        .filter(|variable| variable.axes.len() == shape.len())
        .map(|variable| element(variable))
        .sum::<u64>()
        .max(8);
    let mut tile = vec![1u64; shape.len()];
    let mut joined = vec![1u64; shape.len()];
    let driving = variables.iter().max_by_key(|variable| {
        (
            variable.alignment.is_none(),
            variable.axes.len(),
            variable.variable.layout.grid.chunk_cells(),
        )
    });
    for variable in variables {
        let drives = driving.is_some_and(|driving| std::ptr::eq(*driving, *variable));
        for (axis, extent) in variable.extents() {
            if let (Some(joined), Some(tile)) = (joined.get_mut(axis), tile.get_mut(axis)) {
                *joined = (*joined).max(extent);
                if drives {
                    *tile = (*tile).max(extent);
                }
            }
        }
    }
    let bytes = |tile: &[u64]| {
        tile.iter().zip(shape).fold(row, |bytes, (extent, length)| {
            bytes.saturating_mul((*extent).min(*length).max(1))
        })
    };
    if bytes(&joined) <= most {
        tile = joined;
    } else {
        for axis in 0..tile.len() {
            let step = tile[axis].max(1);
            let mut grown = tile.clone();
            grown[axis] = joined[axis];
            if bytes(&grown) > most {
                let room = most / bytes(&tile).max(1);
                grown[axis] =
                    tile[axis].saturating_add(step.saturating_mul(room.saturating_sub(1)));
                grown[axis] = grown[axis].min(joined[axis]);
            }
            tile = grown;
        }
    }
    // Small chunks are joined: the fastest dimension first, a slower one only when the faster ones are whole.
    for axis in (0..tile.len()).rev() {
        let room = aim / bytes(&tile).max(1);
        if room < 2 {
            break;
        }
        let wanted = tile[axis].saturating_mul(room);
        tile[axis] = if wanted >= shape[axis] {
            // Whole chunks, so that the tile ends where a chunk ends.
            shape[axis]
                .div_ceil(tile[axis])
                .max(1)
                .saturating_mul(tile[axis])
        } else {
            wanted
        };
        if tile[axis] < shape[axis] {
            break;
        }
    }
    tile
}

/// The tiles of a selection, numbered in C order.
#[derive(Debug)]
pub(super) struct Tiles {
    dims: Vec<DimTiles>,
    len: u64,
}

/// One tile: what of the selection lies in it.
#[derive(Clone, Debug)]
pub(super) struct Tile {
    /// The selected cells.
    pub(super) selection: Selection,
    /// For each dimension, the positions of the tile's indices among all selected ones.
    pub(super) place: Vec<Range<usize>>,
}

/// A box of a tile whose rows follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Which rows of the tile.
    pub(super) rows: Range<usize>,
    /// For each dimension, the positions of its indices among all selected ones.
    pub(super) place: Vec<Range<usize>>,
}

impl Tile {
    /// What of the selection lies in a part of the tile.
    pub(super) fn selection_of(&self, part: &Part) -> Selection {
        let dims = self.selection.dims.iter().zip(&self.place).zip(&part.place);
        let dims = dims.map(|((set, tile), part)| {
            let position = |at: usize| at.saturating_sub(tile.start) as u64;
            set.at(&(position(part.start)..position(part.end)))
        });
        Selection {
            dims: dims.collect(),
        }
    }

    /// The tile cut into boxes of at most `most` rows (at least one), in the order of the rows.
    pub(super) fn parts(&self, most: usize) -> Vec<Part> {
        // The dimensions behind `cut` are whole in each box, those before it have one index.
        let (mut cut, mut step) = (self.place.len(), 1usize);
        let mut inside = 1usize;
        for (at, range) in self.place.iter().enumerate().rev() {
            (cut, step) = (at, (most / inside).clamp(1, range.len().max(1)));
            inside = inside.saturating_mul(range.len());
            if inside > most {
                break;
            }
        }
        let mut places: Vec<Vec<Range<usize>>> = vec![Vec::new()];
        for (at, range) in self.place.iter().enumerate() {
            let step = match at.cmp(&cut) {
                Ordering::Less => 1,
                Ordering::Equal => step,
                Ordering::Greater => range.len().max(1),
            };
            places = places
                .into_iter()
                .flat_map(|place| {
                    range.clone().step_by(step).map(move |start| {
                        let mut place = place.clone();
                        place.push(start..range.end.min(start + step));
                        place
                    })
                })
                .collect();
        }
        let mut row = 0;
        places
            .into_iter()
            .map(|place| {
                let start = row;
                row += place.iter().map(ExactSizeIterator::len).product::<usize>();
                Part {
                    rows: start..row,
                    place,
                }
            })
            .collect()
    }
}

/// The tiles along one dimension.
#[derive(Debug)]
struct DimTiles {
    extent: u64,
    count: u64,
    /// The stretches between cuts in which an index is selected; from the start of each, tiles are counted anew.
    stretches: Vec<Stretch>,
}

/// The indices between two cuts, counted from the first one.
#[derive(Debug)]
struct Stretch {
    start: u64,
    inside: IndexSet,
    /// The tiles that hold a selected index.
    blocks: IndexSet,
    /// Tiles in all stretches before.
    tiles: u64,
    /// Selected indices, of all stretches, and blocks of this one, before each run.
    before: Vec<u64>,
    blocks_before: Vec<u64>,
}

impl Tiles {
    /// The tiles of extent `tile` of a selection; along each dimension, none reaches over one of the `cuts`.
    pub(super) fn new(selection: &Selection, tile: &[u64], cuts: &[Vec<u64>]) -> Self {
        let none = Vec::new();
        let dims: Vec<DimTiles> = selection
            .dims
            .iter()
            .zip(tile)
            .enumerate()
            .map(|(at, (set, extent))| DimTiles::new(set, *extent, cuts.get(at).unwrap_or(&none)))
            .collect();
        let len = dims
            .iter()
            .fold(1u64, |len, dim| len.saturating_mul(dim.count));
        Self { dims, len }
    }

    /// Number of tiles.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Number of tiles along each dimension.
    pub(super) fn counts(&self) -> Vec<u64> {
        self.dims.iter().map(|dim| dim.count).collect()
    }

    /// The tile with C-order number `number`.
    pub(super) fn tile(&self, number: u64) -> Tile {
        let mut rest = number;
        let mut sets = Vec::with_capacity(self.dims.len());
        let mut place = Vec::with_capacity(self.dims.len());
        for dim in self.dims.iter().rev() {
            let count = dim.count.max(1);
            let (set, range) = dim.piece(rest % count);
            rest /= count;
            sets.push(set);
            place.push(range);
        }
        sets.reverse();
        place.reverse();
        Tile {
            selection: Selection { dims: sets },
            place,
        }
    }
}

impl DimTiles {
    fn new(set: &IndexSet, extent: u64, cuts: &[u64]) -> Self {
        let mut starts = vec![0];
        starts.extend_from_slice(cuts);
        starts.sort_unstable();
        starts.dedup();
        let ends = starts.iter().skip(1).copied().chain([u64::MAX]);
        let mut stretches = Vec::new();
        let (mut tiles, mut before) = (0, 0);
        for (start, end) in starts.iter().copied().zip(ends) {
            let inside = set.within(&(start..end));
            if inside.is_empty() {
                continue;
            }
            let blocks = inside.blocks(extent);
            let count = blocks.count();
            let indices = inside.count();
            stretches.push(Stretch {
                start,
                blocks_before: running(&blocks),
                before: running(&inside).iter().map(|run| before + run).collect(),
                inside,
                blocks,
                tiles,
            });
            tiles += count;
            before += indices;
        }
        Self {
            extent,
            count: tiles,
            stretches,
        }
    }

    fn piece(&self, at: u64) -> (IndexSet, Range<usize>) {
        let last = self
            .stretches
            .partition_point(|stretch| stretch.tiles <= at);
        let Some(stretch) = last
            .checked_sub(1)
            .and_then(|last| self.stretches.get(last))
        else {
            return (IndexSet::default(), 0..0);
        };
        stretch.piece(at - stretch.tiles, self.extent)
    }
}

impl Stretch {
    fn piece(&self, at: u64, extent: u64) -> (IndexSet, Range<usize>) {
        let run = self
            .blocks_before
            .partition_point(|before| *before <= at)
            .saturating_sub(1);
        let block = match (self.blocks.runs().get(run), self.blocks_before.get(run)) {
            (Some(run), Some(before)) => run.start + (at - before),
            _ => return (IndexSet::default(), 0..0),
        };
        let start = block.saturating_mul(extent);
        let run = self.inside.runs().partition_point(|run| run.end <= start);
        let before = self.before.get(run).copied().unwrap_or(0)
            + self
                .inside
                .runs()
                .get(run)
                .map_or(0, |run| start.saturating_sub(run.start));
        let set = self.inside.clip(&(start..start.saturating_add(extent)));
        let first = usize::try_from(before).unwrap_or(usize::MAX);
        let count = usize::try_from(set.count()).unwrap_or(usize::MAX);
        (set.shifted(self.start), first..first.saturating_add(count))
    }
}

/// How many indices lie in front of each run.
fn running(set: &IndexSet) -> Vec<u64> {
    set.runs()
        .iter()
        .scan(0, |before, run| {
            let here = *before;
            *before += run.end - run.start;
            Some(here)
        })
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_disjoint_and_cover_the_selection() {
        let selection = Selection {
            dims: vec![
                IndexSet::strided(3, 40, 7),
                IndexSet::from_mask(0, (0..23).map(|i| i % 5 != 0)),
            ],
        };
        let tiles = Tiles::new(&selection, &[10, 4], &[]);
        assert_eq!(tiles.counts(), [4, 6]);
        check(&selection, &tiles);
    }

    #[test]
    fn no_tile_reaches_over_a_cut() {
        let selection = Selection {
            dims: vec![
                IndexSet::from_mask(0, (0..50).map(|i| i % 3 != 0)),
                IndexSet::range(2..9),
            ],
        };
        let cuts = vec![0, 7, 8, 31, 90];
        let tiles = Tiles::new(&selection, &[10, 4], &[cuts.clone(), Vec::new()]);
        // 0..7, 7..8, 8..18, 18..28, 28..31, 31..41, 41..50; 0..4, 4..8, 8..9.
        assert_eq!(tiles.counts(), [7, 3]);
        check(&selection, &tiles);
        for number in 0..tiles.len() {
            let set = &tiles.tile(number).selection.dims[0];
            let (first, last) = (set.first().unwrap(), set.last().unwrap());
            assert!(cuts.iter().all(|cut| *cut <= first || last < *cut));
        }
    }

    fn check(selection: &Selection, tiles: &Tiles) {
        let mut cells = Vec::new();
        for number in 0..tiles.len() {
            let tile = tiles.tile(number);
            for (at, dim) in tile.selection.dims.iter().enumerate() {
                let whole: Vec<u64> = selection.dims[at].iter().collect();
                let here: Vec<u64> = dim.iter().collect();
                assert_eq!(here, whole[tile.place[at].clone()]);
            }
            for y in tile.selection.dims[0].iter() {
                cells.extend(tile.selection.dims[1].iter().map(|x| (y, x)));
            }
        }
        cells.sort_unstable();
        let expected: Vec<(u64, u64)> = selection.dims[0]
            .iter()
            .flat_map(|y| selection.dims[1].iter().map(move |x| (y, x)))
            .collect();
        assert_eq!(cells, expected);
    }

    #[test]
    fn parts_are_boxes_in_the_order_of_the_rows() {
        let place = vec![2..5, 0..4, 7..9];
        let tile = Tile {
            selection: Selection {
                dims: vec![
                    IndexSet::from_sorted([1, 5, 6]),
                    IndexSet::all(4),
                    IndexSet::strided(3, 9, 4),
                ],
            },
            place: place.clone(),
        };
        let part = Part {
            rows: 4..6,
            place: vec![3..5, 0..1, 7..8],
        };
        let selection = tile.selection_of(&part);
        assert_eq!(selection.dims[0], IndexSet::range(5..7));
        assert_eq!(selection.dims[2], IndexSet::range(3..4));
        let rows: Vec<[usize; 3]> = place[0]
            .clone()
            .flat_map(|x| (0..4).flat_map(move |y| (7..9).map(move |z| [x, y, z])))
            .collect();
        for (most, count) in [
            (1, 24),
            (2, 12),
            (3, 12),
            (5, 6),
            (8, 3),
            (17, 2),
            (24, 1),
            (99, 1),
        ] {
            let parts = tile.parts(most);
            assert_eq!(parts.len(), count, "{most}");
            let of: u64 = parts
                .iter()
                .map(|part| tile.selection_of(part).cells())
                .sum();
            assert_eq!(of, 24);
            let mut next = 0;
            for Part { rows: range, place } in parts {
                assert_eq!(range.start, next);
                assert!(range.len() <= most);
                next = range.end;
                let [x, y, z] = [0, 1, 2].map(|at: usize| place[at].clone());
                let cells: Vec<[usize; 3]> = x
                    .flat_map(|x| {
                        let (y, z) = (y.clone(), z.clone());
                        y.flat_map(move |y| z.clone().map(move |z| [x, y, z]))
                    })
                    .collect();
                assert_eq!(cells, rows[range]);
            }
            assert_eq!(next, 24);
        }
        let scalar = Tile {
            selection: Selection::default(),
            place: Vec::new(),
        };
        assert_eq!(
            scalar.parts(5),
            [Part {
                rows: 0..1,
                place: Vec::new()
            }]
        );
    }

    #[test]
    fn a_table_without_dimensions_has_one_tile() {
        let tiles = Tiles::new(&Selection::default(), &[], &[]);
        assert_eq!(tiles.len(), 1);
        assert_eq!(tiles.tile(0).selection.cells(), 1);
    }
}
