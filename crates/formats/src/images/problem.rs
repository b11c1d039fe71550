//! What can be wrong with a set of samples.

use super::Element;
use crate::InFile;
use std::io;
use std::path::PathBuf;

/// A problem, and the file that has it.
pub type Error = InFile<Problem>;

/// What is wrong with a set of samples, or why it does not fit a network.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Problem {
    #[error("cannot read")]
    Io(#[source] io::Error),
    #[error(
        "is no set of samples; give a CIFAR .bin, an MNIST idx file, .npy, .npz, a folder of folders of images, or plain \
         numbers named like `set_x_500x49x10_i8.bin`"
    )]
    Unknown,
    #[error("holds no samples")]
    Empty,
    #[error("{got} bytes do not fill {shape:?} of {element}; the file is damaged or cut short")]
    Size { shape: Vec<usize>, element: Element, got: usize },
    #[error("ends after {got} of {expected} bytes; download it again")]
    Truncated { expected: usize, got: usize },
    #[error(
        "{bytes} bytes are no multiple of a CIFAR record, 3073 or 3074 bytes; the file is damaged or something else"
    )]
    Records { bytes: usize },
    #[error(
        "sample {index} has the label {label}, which is no class of such a set; the file is damaged or something else"
    )]
    Label { index: usize, label: f64 },
    #[error("has {labels} labels for {samples} samples")]
    Counts { samples: usize, labels: usize },
    #[error("is no idx file of bytes: its magic number is {magic:#010x}")]
    Magic { magic: u32 },
    #[error("claims {shape:?} samples of bytes, more than {bytes} packed bytes can hold; the file is damaged")]
    Claim { shape: Vec<usize>, bytes: usize },
    #[error("is no NumPy array that can be read: {why}")]
    Numpy { why: String },
    #[error("is an archive without {wanted}; it holds {names}. Say which part with `FILE.npz:PART`")]
    Part { wanted: String, names: String },
    #[error("cannot be decoded as an image")]
    Image(#[source] image::ImageError),
    #[error("differs in kind or shape from {}, which it should continue", first.display())]
    Unlike { first: PathBuf },
    #[error("samples of {stored:?} do not fit the network's input {wanted:?}{hint}")]
    Shape { stored: Vec<usize>, wanted: Vec<usize>, hint: &'static str },
    #[error("the network's input {wanted:?} is no picture of one or three channels")]
    NoPicture { wanted: Vec<usize> },
    #[error("{what} has {got} numbers; give one, or one for each of the {channels} channels")]
    Channels { what: &'static str, got: usize, channels: usize },
    #[error("{what} is {value}; it must be a finite number other than 0")]
    Number { what: &'static str, value: f64 },
}
