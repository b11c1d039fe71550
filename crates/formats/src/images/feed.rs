//! A set as a network takes it: axes in the network's order, numbers in its range.

use super::{Error, Layout, Preprocess, Problem, Set, Stored, folder};
use crate::InFile;
use std::path::Path;

/// See the module.
#[derive(Clone, Debug)]
pub struct Feed {
    set: Set,
    /// Of one sample, as the network takes it.
    shape: Vec<usize>,
    /// Where channels go on the way.
    turn: Turn,
    /// `[factor, shift]` of each channel.
    affine: Vec<[f64; 2]>,
    /// Whether the network takes channels last.
    channels_last: bool,
    crop: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Stay,
    /// `[height, width, channels]` becomes `[channels, height, width]`.
    First,
    /// The other way.
    Last,
}

impl Set {
    /// The set as a network's input takes it, of shape `input` without the batch. Axes of length one do not count, and channels
    /// go where the network has them.
    ///
    /// # Errors
    /// Samples of another shape, and preprocessing that does not fit the channels.
    pub fn fit(self, input: &[usize], preprocess: &Preprocess) -> Result<Feed, Error> {
        let path = self.path.clone();
        fitted(self, input, preprocess).map_err(InFile::at(&path))
    }
}

fn fitted(set: Set, input: &[usize], preprocess: &Preprocess) -> Result<Feed, Problem> {
    let (turn, channels_last) = match &set.stored {
        Stored::Files(_) => picture(input)?,
        Stored::Numbers(numbers) => {
            let turn = turned(&numbers.shape[1..], input, preprocess.layout)?;
            (turn, turn == Turn::Last || is_last(input, preprocess))
        }
    };
    let axis = if channels_last { input.last() } else { input.first() };
    let channels = if input.len() > 1 { axis.copied().unwrap_or(1) } else { 1 };
    let affine = preprocess.affine(channels)?;
    Ok(Feed { set, shape: input.to_vec(), turn, affine, channels_last, crop: preprocess.crop })
}

/// Whether only the last axis of an input can be its channels, by what is known of each.
fn is_last(input: &[usize], preprocess: &Preprocess) -> bool {
    let known = preprocess.mean.len().max(preprocess.std.len());
    known > 1 && input.len() > 1 && input.first() != Some(&known) && input.last() == Some(&known)
}

fn picture(input: &[usize]) -> Result<(Turn, bool), Problem> {
    match input {
        [1 | 3, _, _] => Ok((Turn::First, false)),
        [_, _, 1 | 3] => Ok((Turn::Stay, true)),
        _ => Err(Problem::NoPicture { wanted: input.to_vec() }),
    }
}

fn turned(stored: &[usize], input: &[usize], layout: Option<Layout>) -> Result<Turn, Problem> {
    let same = |a: &[usize], b: &[usize]| a.iter().filter(|n| **n != 1).eq(b.iter().filter(|n| **n != 1));
    let rotated = |n: usize| {
        let mut shape = stored.to_vec();
        shape.rotate_right(n);
        stored.len() == 3 && same(&shape, input)
    };
    let wrong = |hint| Err(Problem::Shape { stored: stored.to_vec(), wanted: input.to_vec(), hint });
    match layout {
        Some(Layout::Nhwc) if rotated(1) => Ok(Turn::First),
        Some(Layout::Nchw) | None if same(stored, input) => Ok(Turn::Stay),
        None if rotated(1) => Ok(Turn::First),
        None | Some(Layout::Nchw) if rotated(2) => Ok(Turn::Last),
        None => wrong(""),
        Some(_) => wrong(" in this layout"),
    }
}

impl Feed {
    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Of one sample.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The class of each sample, where that is known.
    pub fn labels(&self) -> Option<&[u32]> {
        self.set.labels()
    }

    /// Where it came from.
    pub fn path(&self) -> &Path {
        self.set.path()
    }

    /// Puts a sample into `out`, which must have as many elements as [`Feed::shape`].
    ///
    /// # Errors
    /// An image that cannot be read.
    pub fn read(&self, index: usize, out: &mut [f32]) -> Result<(), Error> {
        match &self.set.stored {
            Stored::Numbers(numbers) => self.put(numbers.sample(index), out),
            Stored::Files(files) => {
                let Some(file) = files.get(index) else { return Ok(()) };
                let (channels, size) = match self.shape[..] {
                    [height, width, channels] if self.channels_last => (channels, [height, width]),
                    [channels, height, width] => (channels, [height, width]),
                    _ => (1, [1, 1]),
                };
                let pixels = folder::pixels(file, channels, size, self.crop).map_err(InFile::at(file))?;
                self.put(pixels.into_iter().map(f64::from), out);
            }
        }
        Ok(())
    }

    /// Numbers in stored order to their places and range.
    fn put(&self, numbers: impl Iterator<Item = f64>, out: &mut [f32]) {
        let channels = self.affine.len();
        let plane = out.len() / channels.max(1);
        for (at, x) in numbers.enumerate().take(out.len()) {
            let (to, channel) = match self.turn {
                Turn::First => (at % channels * plane + at / channels, at % channels),
                Turn::Last => (at % plane * channels + at / plane, at / plane),
                Turn::Stay if self.channels_last => (at, at % channels),
                Turn::Stay => (at, at / plane),
            };
            let [factor, shift] = self.affine[channel];
            out[to] = (x * factor + shift) as f32;
        }
    }
}
