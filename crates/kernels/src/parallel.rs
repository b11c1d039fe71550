//! Sharing work among the threads of the current `rayon` pool without letting their number touch a result: blocks have
//! fixed sizes, and what they return is given back in order.

use std::ops::Range;

use rayon::prelude::*;

/// Elements that one task of an elementwise kernel handles.
const CHUNK: usize = 1 << 15;
/// Rows that one task of a row-wise kernel handles.
const ROW_BLOCK: usize = 64;

/// Runs `task` on every item, on the current pool when there is something to share, and returns the results in order.
pub(crate) fn map_tasks<I: Send, T: Send>(items: Vec<I>, task: impl Fn(I) -> T + Sync + Send) -> Vec<T> {
    if items.len() < 2 || rayon::current_num_threads() == 1 {
        items.into_iter().map(task).collect()
    } else {
        items.into_par_iter().map(task).collect()
    }
}

/// An output of a row-wise kernel: a slice and how many of its elements belong to one row.
pub(crate) struct Rows<'a, T> {
    data: &'a mut [T],
    width: usize,
}

impl<'a, T> Rows<'a, T> {
    /// `data` as rows of `width` elements.
    pub(crate) fn new(data: &'a mut [T], width: usize) -> Self {
        Rows { data, width }
    }

    /// An output that is not wanted: every row is empty.
    pub(crate) fn none() -> Self {
        Rows { data: &mut [], width: 0 }
    }

    fn take(&mut self, rows: usize) -> &'a mut [T] {
        let (first, rest) = std::mem::take(&mut self.data).split_at_mut(rows * self.width);
        self.data = rest;
        first
    }
}

/// [`map_rows`] with blocks of `block` rows.
pub(crate) fn map_blocks<A: Send, B: Send, T: Send>(
    count: usize,
    block: usize,
    mut a: Rows<'_, A>,
    mut b: Rows<'_, B>,
    work: impl Fn(Range<usize>, &mut [A], &mut [B]) -> T + Sync + Send,
) -> Vec<T> {
    let ranges = (0..count).step_by(block).map(|start| start..count.min(start + block));
    let items = ranges.map(|rows| (rows.clone(), a.take(rows.len()), b.take(rows.len()))).collect();
    map_tasks(items, |(rows, a, b)| work(rows, a, b))
}

/// Calls `work(rows, a[rows], b[rows])` for consecutive blocks of rows; what each returns comes back in order.
pub(crate) fn map_rows<A: Send, B: Send, T: Send>(
    count: usize,
    a: Rows<'_, A>,
    b: Rows<'_, B>,
    work: impl Fn(Range<usize>, &mut [A], &mut [B]) -> T + Sync + Send,
) -> Vec<T> {
    map_blocks(count, ROW_BLOCK, a, b, work)
}

/// Calls `work(range, y[range])` for consecutive ranges that cover `y`.
pub(crate) fn for_each_chunk<T: Send>(y: &mut [T], work: impl Fn(Range<usize>, &mut [T]) + Sync + Send) {
    let none = Rows::<T>::none();
    map_blocks(y.len(), CHUNK, Rows::new(y, 1), none, |range, y, _| work(range, y));
}

/// [`for_each_chunk`] over two outputs of one length.
pub(crate) fn for_each_chunk2<T: Send>(
    y: &mut [T],
    z: &mut [T],
    work: impl Fn(Range<usize>, &mut [T], &mut [T]) + Sync + Send,
) {
    map_blocks(y.len(), CHUNK, Rows::new(y, 1), Rows::new(z, 1), work);
}
