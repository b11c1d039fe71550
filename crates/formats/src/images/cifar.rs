//! CIFAR's binary layout: records of a label byte (CIFAR-100: a coarse and a fine one) and 3,072 bytes, the red, green and blue
//! planes of 32 × 32.
//!
//! Source: <https://www.cs.toronto.edu/~kriz/cifar.html>, "Binary version".

use super::{Element, Numbers, Problem, Stored, bytes};
use std::path::Path;

const IMAGE: [usize; 3] = [3, 32, 32];
const PIXELS: usize = 3 * 32 * 32;

/// Classes of both sets, by the bytes of a label.
const CLASSES: [(usize, u8); 2] = [(1, 10), (2, 100)];

pub(super) fn open(path: &Path) -> Result<(Stored, Option<Vec<u32>>), Problem> {
    let all = bytes(path)?;
    let whole = |(label, _): &&(usize, u8)| !all.is_empty() && all.len().is_multiple_of(label + PIXELS);
    let (label, classes) = *CLASSES.iter().find(whole).ok_or(Problem::Records { bytes: all.len() })?;
    let records = all.chunks_exact(label + PIXELS);
    let (mut labels, mut pixels) = (Vec::new(), Vec::with_capacity(records.len() * PIXELS));
    for (index, record) in records.enumerate() {
        let (head, image) = record.split_at(label);
        let class = head[label - 1];
        if class >= classes {
            return Err(Problem::Label { index, label: f64::from(class) });
        }
        labels.push(u32::from(class));
        pixels.extend_from_slice(image);
    }
    let shape = [&[labels.len()], &IMAGE[..]].concat();
    Ok((Stored::Numbers(Numbers::new(Element::U8, shape, pixels)?), Some(labels)))
}
