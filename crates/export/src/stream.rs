//! Reading weights piece by piece, encoding them on the way, and handing the bytes on in order.
//!
//! A few pieces are in flight: while some are written, the next are read and encoded in parallel. What is resident is a
//! matter of threads, not of the model, and the order of bytes does not depend on the threads.

use codec::Encoding;
use graph::{SourceError, Weight};
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// Elements of a piece, where a row has fewer.
const PIECE: usize = 1 << 18;

/// Pieces in flight, per thread.
const AHEAD: usize = 3;

/// Rows of a weight, or all of one that cannot be read by rows.
pub(crate) struct Piece<'a> {
    /// What the caller knows the weight by.
    pub tag: usize,
    weight: &'a Weight,
    rows: Range<usize>,
}

/// The bytes of a piece: one part for every part of the encoding.
pub(crate) type Parts<'a> = Vec<Cow<'a, [u8]>>;

/// Cuts weights into pieces, in order.
pub(crate) fn pieces<'a>(weights: impl IntoIterator<Item = (usize, &'a Weight)>) -> Vec<Piece<'a>> {
    let cut = |(tag, weight): (usize, &'a Weight)| {
        let rows = weight.rows();
        let step = match weight.encoding {
            Encoding::Packed(_) => rows.max(1),
            _ => (PIECE / weight.cols().max(1)).max(1),
        };
        (0..rows).step_by(step).map(move |row| Piece { tag, weight, rows: row..rows.min(row + step) })
    };
    weights.into_iter().flat_map(cut).collect()
}

/// Gives the bytes of every piece to `write`, in order.
pub(crate) fn run<E: From<SourceError> + Send>(
    pieces: &[Piece<'_>],
    mut write: impl FnMut(usize, Parts<'_>) -> Result<(), E> + Send,
) -> Result<(), E> {
    let window = AHEAD * rayon::current_num_threads();
    let mut ready = Vec::new();
    for next in pieces.chunks(window) {
        let (written, read) = rayon::join(|| write_all(ready, &mut write), || read_all(next));
        written?;
        ready = read?;
    }
    write_all(ready, &mut write)
}

/// A piece and its bytes.
type Ready<'a> = (&'a Piece<'a>, Parts<'a>);

fn read_all<'a>(pieces: &'a [Piece<'a>]) -> Result<Vec<Ready<'a>>, SourceError> {
    pieces.par_iter().map(|piece| Ok((piece, piece.read()?))).collect()
}

fn write_all<E>(ready: Vec<Ready<'_>>, write: &mut impl FnMut(usize, Parts<'_>) -> Result<(), E>) -> Result<(), E> {
    ready.into_iter().try_for_each(|(piece, bytes)| {
        let written = write(piece.tag, bytes);
        piece.weight.source.release(piece.rows.clone());
        written
    })
}

impl Piece<'_> {
    fn read(&self) -> Result<Parts<'_>, SourceError> {
        match self.weight.encoding {
            Encoding::Packed(_) => self.weight.source.parts(),
            _ => Ok(vec![self.weight.source.rows(self.rows.clone())?]),
        }
    }
}
