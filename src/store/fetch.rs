//! Which requests ranges of one object are read by.

use std::ops::Range;

/// Most bytes of a request: several at the same time are quicker than a long one.
pub(super) const MOST: u64 = 8 << 20;

/// One request: a range, and which of those asked for lie in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Request {
    /// The bytes.
    pub(super) range: Range<u64>,
    /// Numbers of the ranges within it.
    pub(super) members: Vec<usize>,
}

/// The requests for ranges, in the order of the object. Ranges that stand at most `gap` bytes apart share a request, as long as
/// that has no more than [`MOST`] bytes; a longer range has one of its own.
pub(super) fn requests(ranges: &[Range<u64>], gap: u64) -> Vec<Request> {
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    let range = |at: usize| ranges.get(at).cloned().unwrap_or_default();
    order.sort_by_key(|at| (range(*at).start, range(*at).end));
    let mut requests: Vec<Request> = Vec::new();
    for at in order {
        let next = range(at);
        if let Some(last) = requests.last_mut() {
            let end = last.range.end.max(next.end);
            let is_near = next.start <= last.range.end.saturating_add(gap);
            let is_within = next.end <= last.range.end;
            if is_within || (is_near && end.saturating_sub(last.range.start) <= MOST) {
                last.range.end = end;
                last.members.push(at);
                continue;
            }
        }
        requests.push(Request {
            range: next,
            members: vec![at],
        });
    }
    requests
}

/// The parts in which a long range is read.
pub(super) fn parts(range: &Range<u64>) -> Vec<Range<u64>> {
    let length = range.end.saturating_sub(range.start);
    let count = length.div_ceil(MOST).max(1);
    let part = length.div_ceil(count);
    (0..count)
        .map(|at| {
            let start = range.start + at * part;
            start..range.end.min(start + part)
        })
        .collect()
}

/// What a request costs, as it is measured: how long it takes until the first byte comes, and how many come in a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speed {
    /// Seconds until the first byte.
    latency: f64,
    /// Bytes in a second.
    throughput: f64,
}

impl Default for Speed {
    /// Tens of milliseconds, and tens of megabytes a second.
    fn default() -> Self {
        Self {
            latency: 0.02,
            throughput: 50e6,
        }
    }
}

impl Speed {
    /// How much the last request counts against all those before.
    const WEIGHT: f64 = 0.2;
    /// Requests of fewer bytes say nothing about the throughput.
    const ENOUGH: usize = 256 << 10;
    /// Bounds of what a request costs in bytes.
    const COSTS: (f64, f64) = (65_536.0, 4_194_304.0);

    /// Takes a request into account: seconds until the first byte and until the last, and how many came.
    pub(super) fn observe(&mut self, first: f64, last: f64, bytes: usize) {
        let mix = |old: f64, new: f64| old + Self::WEIGHT * (new - old);
        self.latency = mix(self.latency, first);
        if bytes >= Self::ENOUGH {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let throughput = bytes as f64 / (last - first).max(1e-6);
            self.throughput = mix(self.throughput, throughput.min(10e9));
        }
    }

    /// How many bytes can be read in the time that a request takes.
    pub(super) fn cost(&self) -> u64 {
        let (least, most) = Self::COSTS;
        let cost = (self.latency * self.throughput).clamp(least, most);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between the bounds"
        )]
        let cost = cost as u64;
        cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn near_ranges_share_a_request() {
        let ranges = [100..200, 0..50, 1000..1100, 40..60, 210..220];
        let found = requests(&ranges, 50);
        let expected = [
            Request {
                range: 0..220,
                members: vec![1, 3, 0, 4],
            },
            Request {
                range: 1000..1100,
                members: vec![2],
            },
        ];
        assert_eq!(found, expected);
        assert_eq!(requests(&ranges, 1000).len(), 1);
        assert_eq!(requests(&[], 10), []);
    }

    #[test]
    fn requests_are_not_too_long_and_lose_nothing() {
        let ranges: Vec<Range<u64>> = (0..100).map(|at| at * MIB..(at + 1) * MIB).collect();
        let found = requests(&ranges, 0);
        assert_eq!(found.len(), 13);
        assert!(
            found
                .iter()
                .all(|one| one.range.end - one.range.start <= MOST)
        );
        let mut members: Vec<usize> = found.into_iter().flat_map(|one| one.members).collect();
        members.sort_unstable();
        assert!(members.into_iter().eq(0..100));
        // One that is longer has a request of its own, and those within it need none.
        let found = requests(&[0..20 * MIB, 5 * MIB..6 * MIB, 20 * MIB..21 * MIB], 0);
        assert_eq!(found.len(), 2);
        let whole = parts(&(10..10 + 20 * MIB));
        assert_eq!(whole.len(), 3);
        assert!(whole.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!((whole[0].start, whole[2].end), (10, 10 + 20 * MIB));
        assert_eq!(parts(&(5..5)).len(), 1);
    }

    #[test]
    fn a_far_store_has_dear_requests() {
        let (mut near, mut far) = (Speed::default(), Speed::default());
        for _ in 0..50 {
            near.observe(0.0005, 0.0015, 1 << 20);
            far.observe(0.1, 0.12, 1 << 20);
        }
        assert!(
            near.cost() > 400_000 && near.cost() < 600_000,
            "{}",
            near.cost()
        );
        assert_eq!(far.cost(), 4 << 20);
    }
}
