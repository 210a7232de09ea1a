//! The walk over the cells of a chunk: rows along the fastest axis, each cut where the group changes.

use std::sync::Arc;

use crate::array::hyperslab::Selection;
use crate::array::slab::{Crop, Run, advance};
use crate::read::reduce::labels::{Component, Labels, NONE};

/// Runs of labels shorter than this on average are not worth a call each.
const SHORT: usize = 6;

/// A contiguous run of cells within a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Piece<'a> {
    /// The first cell in the source, in elements.
    pub(super) source: usize,
    /// Number of cells.
    pub(super) cells: usize,
    /// The groups of the cells.
    pub(super) groups: Groups<'a>,
    /// Position of the first cell along the fastest axis of the selection.
    pub(super) start: usize,
    /// How many times each cell counts (cells of axes that make no difference are visited once).
    pub(super) times: u64,
}

/// The groups of the cells of a [`Piece`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Groups<'a> {
    /// All belong to this one.
    Same(usize),
    /// The first belongs to this one, each next cell to the next.
    Consecutive(usize),
    /// Cell `i` belongs to group `base + labels[i]`.
    Mixed { base: usize, labels: &'a [u32] },
}

/// The labels of a selection, prepared for walking.
#[derive(Debug)]
pub(super) struct Walk {
    counts: Vec<usize>,
    /// Components that do not contain the fastest axis.
    outer: Vec<Outer>,
    inner: Option<Inner>,
    /// Axes along which nothing may be joined, because a weight changes along them.
    weighted: Vec<usize>,
}

/// A component whose label is the same along a row.
#[derive(Debug)]
struct Outer {
    axes: Vec<usize>,
    /// Number of selected indices of each of them.
    counts: Vec<usize>,
    labels: Arc<[u32]>,
    stride: usize,
    consecutive: bool,
}

/// The component that contains the fastest axis. Its labels count in groups.
#[derive(Debug)]
struct Inner {
    /// Its other axes, and the number of selected indices of each.
    axes: Vec<usize>,
    counts: Vec<usize>,
    /// Cells of a row.
    row: usize,
    labels: Vec<u32>,
    /// For each row, its segments; positions along the fastest axis.
    segments: Vec<Vec<Segment>>,
    consecutive: bool,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    start: usize,
    cells: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Same(usize),
    Consecutive(usize),
    Mixed,
}

/// A dimension of the walk: its runs and its stride in the source.
struct Dim<'a> {
    axis: usize,
    runs: &'a [Run],
    stride: usize,
}

impl Walk {
    /// A walk over `selection`; `weighted` names axes along which weights change.
    pub(super) fn new(selection: &Selection, labels: &Labels, weighted: &[usize]) -> Self {
        let counts: Vec<usize> = selection
            .dims
            .iter()
            .map(|dim| usize::try_from(dim.count()).unwrap_or(usize::MAX))
            .collect();
        let fastest = counts.len().checked_sub(1);
        let mut walk = Self {
            outer: Vec::new(),
            inner: None,
            weighted: weighted.to_vec(),
            counts,
        };
        for (component, stride) in labels.components.iter().zip(labels.strides()) {
            let axes = component.axes.clone();
            let of = |axes: &[usize]| -> Vec<usize> {
                axes.iter()
                    .map(|axis| walk.counts.get(*axis).copied().unwrap_or(1))
                    .collect()
            };
            if fastest.is_some() && axes.last().copied() == fastest {
                let axes = axes
                    .split_last()
                    .map_or_else(Vec::new, |(_, rest)| rest.to_vec());
                let counts = of(&axes);
                let row = fastest.and_then(|axis| walk.counts.get(axis)).copied();
                walk.inner = Some(Inner::new(
                    component,
                    stride,
                    axes,
                    counts,
                    row.unwrap_or(1),
                ));
            } else {
                let counts = of(&axes);
                walk.outer.push(Outer {
                    consecutive: is_consecutive(&component.labels) && axes.len() == 1,
                    axes,
                    counts,
                    labels: Arc::clone(&component.labels),
                    stride,
                });
            }
        }
        walk
    }

    /// Visits the cells of `crop` in a source with these strides (in elements). Calls `piece` with each run of cells
    /// and with the positions of its row along the slower axes. With `collapse`, every cell of the source counts for
    /// the same value: axes without labels are visited once.
    pub(super) fn visit(
        &self,
        crop: &Crop,
        strides: &[usize],
        collapse: Collapse,
        piece: &mut dyn FnMut(Piece<'_>, &[usize]),
    ) {
        let mut dims: Vec<Dim<'_>> = crop
            .0
            .iter()
            .zip(strides)
            .enumerate()
            .map(|(axis, (runs, stride))| Dim {
                axis,
                runs,
                stride: *stride,
            })
            .collect();
        let Some(last) = dims.pop() else {
            let base = self
                .outer
                .iter()
                .try_fold(0, |base, outer| Some(base + outer.group(&[])?));
            if let Some(group) = base {
                let groups = Groups::Same(group);
                let only = Piece {
                    source: 0,
                    cells: 1,
                    groups,
                    start: 0,
                    times: 1,
                };
                piece(only, &[]);
            }
            return;
        };
        let mut times = 1u64;
        if collapse == Collapse::Unlabelled {
            dims.retain(|dim| {
                let labelled = self.is_labelled(dim.axis) || self.weighted.contains(&dim.axis);
                if !labelled {
                    let cells: usize = dim.runs.iter().map(|run| run.length).sum();
                    times = times.saturating_mul(cells as u64);
                }
                labelled
            });
        }
        let (row, joined) = self.join(&mut dims, &last);
        let mut at = vec![(0usize, 0usize); dims.len()];
        let mut place = vec![0usize; self.counts.len()];
        loop {
            let mut source = 0;
            for (dim, (run, step)) in dims.iter().zip(&at) {
                if let (Some(run), Some(place)) = (dim.runs.get(*run), place.get_mut(dim.axis)) {
                    source += (run.from + step) * dim.stride;
                    *place = run.to + step;
                }
            }
            let base = self.outer.iter().try_fold(0, |base, outer| {
                if joined.contains(&outer.axes) {
                    return Some(base);
                }
                Some(base + outer.group(&place)?)
            });
            if let Some(base) = base {
                for run in &row {
                    self.row(
                        base,
                        source,
                        (run, last.stride),
                        &joined,
                        times,
                        &place,
                        piece,
                    );
                }
            }
            if !advance(dims.iter().map(|dim| dim.runs), &mut at) {
                return;
            }
        }
    }

    /// The pieces of one row.
    #[expect(
        clippy::too_many_arguments,
        reason = "all of them differ from row to row"
    )]
    fn row(
        &self,
        base: usize,
        source: usize,
        (run, stride): (&Run, usize),
        joined: &Joined,
        times: u64,
        place: &[usize],
        piece: &mut dyn FnMut(Piece<'_>, &[usize]),
    ) {
        let mut emit = |start: usize, cells: usize, groups: Groups<'_>| {
            let part = Piece {
                source: source + (run.from + start - run.to) * stride,
                cells,
                groups,
                start,
                times,
            };
            piece(part, place);
        };
        match (&self.inner, joined) {
            (_, Joined::Consecutive { .. }) => {
                emit(run.to, run.length, Groups::Consecutive(base + run.to));
            }
            (None, _) | (_, Joined::Unlabelled) => emit(run.to, run.length, Groups::Same(base)),
            (Some(inner), Joined::Nothing) => {
                let number = inner
                    .axes
                    .iter()
                    .zip(&inner.counts)
                    .fold(0, |number, (axis, count)| {
                        number * count + place.get(*axis).copied().unwrap_or(0)
                    });
                let Some(segments) = inner.segments.get(number) else {
                    return;
                };
                let range = run.to..run.to + run.length;
                let first = segments.partition_point(|s| s.start + s.cells <= range.start);
                for segment in segments.get(first..).unwrap_or_default() {
                    if segment.start >= range.end {
                        break;
                    }
                    let start = segment.start.max(range.start);
                    let end = (segment.start + segment.cells).min(range.end);
                    let groups = match segment.kind {
                        Kind::Same(group) => Groups::Same(base + group),
                        Kind::Consecutive(group) => {
                            Groups::Consecutive(base + group + (start - segment.start))
                        }
                        Kind::Mixed => Groups::Mixed {
                            base,
                            labels: inner
                                .labels
                                .get(number * inner.row + start..number * inner.row + end)
                                .unwrap_or_default(),
                        },
                    };
                    emit(start, end - start, groups);
                }
            }
        }
    }

    /// Joins slower axes with the fastest where their cells are contiguous and their groups make no difference or are
    /// consecutive as well. The joined axes leave `dims`.
    fn join(&self, dims: &mut Vec<Dim<'_>>, last: &Dim<'_>) -> (Vec<Run>, Joined) {
        let mut row = last.runs.to_vec();
        let mut joined = Joined::Nothing;
        if last.stride != 1 || self.weighted.contains(&last.axis) {
            return (row, joined);
        }
        let consecutive = self
            .inner
            .as_ref()
            .is_some_and(|inner| inner.consecutive && inner.axes.is_empty());
        if self.inner.is_some() && !consecutive {
            return (row, joined);
        }
        // Cells of the selection that a step along the next slower axis moves over.
        let mut extent = self.counts.get(last.axis).copied().unwrap_or(1);
        while let Some(dim) = dims.last() {
            let [run] = row.as_slice() else { break };
            let contiguous = run.from == 0 && dim.stride == run.length;
            if !contiguous || self.weighted.contains(&dim.axis) {
                break;
            }
            let length = run.length;
            if consecutive {
                // The whole of the faster axes, and this axis counts in steps of all their groups.
                let outer = self.outer.iter().find(|outer| outer.axes == [dim.axis]);
                let fits = run.to == 0
                    && length == extent
                    && outer.is_some_and(|outer| outer.consecutive && outer.stride == extent);
                if !fits {
                    break;
                }
                joined = joined.with(dim.axis);
                extent *= self.counts.get(dim.axis).copied().unwrap_or(1);
            } else {
                if self.is_labelled(dim.axis) {
                    break;
                }
                joined = Joined::Unlabelled;
            }
            row = dim
                .runs
                .iter()
                .map(|run| Run {
                    from: run.from * length,
                    to: run.to * length,
                    length: run.length * length,
                })
                .collect();
            dims.pop();
        }
        (row, joined)
    }

    fn is_labelled(&self, axis: usize) -> bool {
        let inner = self.inner.as_ref();
        self.outer.iter().any(|outer| outer.axes.contains(&axis))
            || inner.is_some_and(|inner| inner.axes.contains(&axis))
    }
}

/// Whether axes that make no difference are visited once or cell by cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Collapse {
    /// Every cell of the source is visited.
    Nothing,
    /// Slower axes without labels and weights are visited once.
    Unlabelled,
}

/// What the row consists of.
#[derive(Debug)]
enum Joined {
    /// The fastest axis.
    Nothing,
    /// It and slower axes, none of them labelled.
    Unlabelled,
    /// It and these slower axes, whose groups are consecutive.
    Consecutive { axes: Vec<usize> },
}

impl Joined {
    fn with(self, axis: usize) -> Self {
        let mut axes = match self {
            Self::Consecutive { axes } => axes,
            Self::Nothing | Self::Unlabelled => Vec::new(),
        };
        axes.push(axis);
        Self::Consecutive { axes }
    }

    fn contains(&self, of: &[usize]) -> bool {
        match (self, of) {
            (Self::Consecutive { axes }, [axis]) => axes.contains(axis),
            _ => false,
        }
    }
}

impl Outer {
    /// What the component adds to the group of a row; `None` when the row belongs to none.
    fn group(&self, place: &[usize]) -> Option<usize> {
        let number = self
            .axes
            .iter()
            .zip(&self.counts)
            .fold(0, |number, (axis, count)| {
                number * count + place.get(*axis).copied().unwrap_or(0)
            });
        let label = self
            .labels
            .get(number)
            .copied()
            .filter(|label| *label != NONE)?;
        Some(label as usize * self.stride)
    }
}

impl Inner {
    fn new(
        component: &Component,
        stride: usize,
        axes: Vec<usize>,
        counts: Vec<usize>,
        row: usize,
    ) -> Self {
        let scaled: Vec<u32> = component
            .labels
            .iter()
            .map(|label| match (*label, u32::try_from(stride)) {
                (NONE, _) | (_, Err(_)) => NONE,
                (label, Ok(stride)) => label.saturating_mul(stride),
            })
            .collect();
        Self {
            axes,
            counts,
            segments: scaled.chunks(row.max(1)).map(segments).collect(),
            consecutive: stride == 1 && is_consecutive(&component.labels),
            labels: scaled,
            row,
        }
    }
}

/// Whether labels count 0, 1, 2 …
fn is_consecutive(labels: &[u32]) -> bool {
    labels
        .iter()
        .enumerate()
        .all(|(at, label)| *label as usize == at)
}

/// Cuts a row of labels where they neither stay nor count on; one mixed segment if that would make many short ones.
fn segments(labels: &[u32]) -> Vec<Segment> {
    let mut cut: Vec<Segment> = Vec::new();
    let mut start = 0;
    while let Some(first) = labels.get(start).copied() {
        let rest = labels.get(start..).unwrap_or_default();
        let run = |step: u32| {
            rest.iter()
                .zip(0u32..)
                .take_while(|(label, at)| {
                    Some(**label) == first.checked_add(at.saturating_mul(step)) && **label != NONE
                })
                .count()
        };
        let none = rest.iter().take_while(|label| **label == NONE).count();
        let (same, consecutive) = (run(0), run(1));
        let group = first as usize;
        let (cells, kind) = if none > 0 {
            (none, None)
        } else if same >= consecutive {
            (same, Some(Kind::Same(group)))
        } else {
            (consecutive, Some(Kind::Consecutive(group)))
        };
        if let Some(kind) = kind {
            cut.push(Segment { start, cells, kind });
        }
        start += cells.max(1);
    }
    if cut.len() > 1 && labels.len() < SHORT * cut.len() {
        return vec![Segment {
            start: 0,
            cells: labels.len(),
            kind: Kind::Mixed,
        }];
    }
    cut
}
