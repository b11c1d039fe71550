//! Sets of samples, mostly images, and the class of each: what networks are measured, calibrated and trained on.
//!
//! | given | read as |
//! |---|---|
//! | `….bin` of 3,073 or 3,074 bytes a record | CIFAR-10, CIFAR-100 ([`cifar`]) |
//! | `…-images-idx3-ubyte`, `.gz` or not | MNIST, labels from the file beside it ([`idx`]) |
//! | `….npy` | NumPy, labels from the file beside it; `….npz` or `….npz:train`: an archive ([`numpy`]) |
//! | `NAME_x_500x49x10_i8.bin`, or a folder with one | plain numbers, labels in `NAME_y_500_u8.bin` ([`raw`]) |
//! | a folder of folders | images; the folder's name is the class ([`folder`]) |
//!
//! A [`Set`] is as it is stored. [`Set::fit`] brings it into the shape and the range that a network takes: a [`Feed`].
//! Numbers stay in the bytes that they came in until a sample is asked for; images of a folder are read one by one.

mod cifar;
mod element;
mod feed;
mod folder;
mod idx;
mod numpy;
mod preprocess;
mod problem;
mod raw;

pub use element::Element;
pub use feed::Feed;
pub use preprocess::{Layout, Preprocess};
pub use problem::{Error, Problem};

use crate::InFile;
use std::io;
use std::path::{Path, PathBuf};

/// Samples, and the class of each where that is known.
#[derive(Clone, Debug)]
pub struct Set {
    /// Where it came from.
    path: PathBuf,
    stored: Stored,
    labels: Option<Vec<u32>>,
}

#[derive(Clone, Debug)]
enum Stored {
    Numbers(Numbers),
    /// One image each.
    Files(Vec<PathBuf>),
}

/// An array, as it lies in its file.
#[derive(Clone, Debug, PartialEq)]
struct Numbers {
    element: Element,
    /// Samples first.
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Numbers {
    /// Fails where the bytes do not fill the shape.
    fn new(element: Element, shape: Vec<usize>, bytes: Vec<u8>) -> Result<Numbers, Problem> {
        let expected = shape.iter().try_fold(element.bytes(), |n, d| n.checked_mul(*d));
        match (expected == Some(bytes.len()), &shape[..]) {
            (_, [] | [0, ..]) => Err(Problem::Empty),
            (true, _) => Ok(Numbers { element, shape, bytes }),
            (false, _) => Err(Problem::Size { shape, element, got: bytes.len() }),
        }
    }

    fn len(&self) -> usize {
        self.shape[0]
    }

    /// The numbers of a sample.
    fn sample(&self, index: usize) -> impl Iterator<Item = f64> {
        let size = self.bytes.len() / self.len();
        let element = self.element;
        let bytes = self.bytes.get(index * size..(index + 1) * size).unwrap_or_default();
        bytes.chunks_exact(element.bytes()).map(move |bytes| element.number(bytes))
    }

    /// Every number as a class.
    fn labels(&self) -> Result<Vec<u32>, Problem> {
        let numbers = (0..self.len()).flat_map(|i| self.sample(i));
        let labels = numbers.enumerate().map(|(index, x)| {
            let whole = x >= 0.0 && x < f64::from(u32::MAX) && x.fract() == 0.0;
            whole.then_some(x as u32).ok_or(Problem::Label { index, label: x })
        });
        labels.collect()
    }
}

impl Set {
    /// Opens a set, in any of the forms of this module.
    ///
    /// # Errors
    /// The file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Set, Error> {
        let (file, split) = split(path);
        let (stored, labels) = read(&file, split.as_deref()).map_err(InFile::at(&file))?;
        let set = Set { path: path.to_owned(), stored, labels };
        match &set.labels {
            Some(labels) if labels.len() != set.len() => {
                Err(InFile::at(&file)(Problem::Counts { samples: set.len(), labels: labels.len() }))
            }
            _ if set.is_empty() => Err(InFile::at(&file)(Problem::Empty)),
            _ => Ok(set),
        }
    }

    /// Several sets of the same kind and shape, one behind the other.
    ///
    /// # Errors
    /// Sets that do not go together, or none.
    pub fn open_all(paths: &[PathBuf]) -> Result<Set, Error> {
        let mut sets = paths.iter().map(|path| Set::open(path));
        let nothing = || InFile::at(Path::new("the list of data"))(Problem::Empty);
        let first = sets.next().ok_or_else(nothing)??;
        sets.try_fold(first, |all, next| all.join(next?))
    }

    fn join(mut self, other: Set) -> Result<Set, Error> {
        let fits = match (&mut self.stored, other.stored) {
            (Stored::Files(all), Stored::Files(more)) => {
                all.extend(more);
                true
            }
            (Stored::Numbers(all), Stored::Numbers(more)) => {
                all.shape[0] += more.shape[0];
                all.bytes.extend(more.bytes);
                all.element == more.element && all.shape[1..] == more.shape[1..]
            }
            _ => false,
        };
        self.labels = self.labels.zip(other.labels).map(|(all, more)| [all, more].concat());
        if fits { Ok(self) } else { Err(InFile::at(&other.path)(Problem::Unlike { first: self.path })) }
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        match &self.stored {
            Stored::Numbers(numbers) => numbers.len(),
            Stored::Files(files) => files.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of each sample.
    pub fn labels(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// `archive.npz:train` as a file and the part of it that is meant.
fn split(path: &Path) -> (PathBuf, Option<String>) {
    let whole = || (path.to_owned(), None);
    let Some((file, part)) = path.to_str().filter(|_| !path.exists()).and_then(|text| text.rsplit_once(':')) else {
        return whole();
    };
    if file.ends_with(".npz") { (file.into(), Some(part.to_owned())) } else { whole() }
}

fn read(path: &Path, part: Option<&str>) -> Result<(Stored, Option<Vec<u32>>), Problem> {
    if path.is_dir() {
        return match raw::inside(path)? {
            Some(file) => raw::open(&file),
            None => folder::open(path),
        };
    }
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    match name.rsplit('.').next().unwrap_or_default() {
        "npz" => numpy::open_archive(path, part),
        "npy" => numpy::open(path),
        _ if raw::parse(&name).is_some() => raw::open(path),
        _ if name.contains("idx") || name.contains("ubyte") => idx::open(path),
        "bin" => cifar::open(path),
        _ => Err(Problem::Unknown),
    }
}

/// The file beside `path` whose name has one of `from` replaced by what goes with it, if it is there.
fn partner(path: &Path, pairs: &[(&str, &str)]) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let replaced = |(from, to): &(&str, &str)| {
        let at = name.rfind(from)?;
        Some(path.with_file_name(format!("{}{to}{}", &name[..at], &name[at + from.len()..])))
    };
    pairs.iter().filter_map(replaced).find(|file| file.is_file())
}

/// Reads a file whole.
fn bytes(path: &Path) -> Result<Vec<u8>, Problem> {
    std::fs::read(path).map_err(Problem::Io)
}

/// Reads `length` bytes and no more.
fn exactly(reader: impl io::Read, length: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(reader, length as u64), &mut bytes).map_err(Problem::Io)?;
    if bytes.len() == length { Ok(bytes) } else { Err(Problem::Truncated { expected: length, got: bytes.len() }) }
}

/// The most that deflate packs into a byte, and a little more.
const PACKED: usize = 1100;
