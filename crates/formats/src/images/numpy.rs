//! NumPy's `.npy` (versions 1 to 3) and archives of such, `.npz`.
//!
//! ```text
//! "\x93NUMPY" · major, minor · u16 (version 1) or u32 length · a Python dict: descr, fortran_order, shape · the numbers
//! ```
//!
//! Labels of `x.npy`, `images.npy`, `test_x.npy`, … stand in `y.npy`, `labels.npy`, `test_y.npy`. In an archive the arrays are
//! called as MedMNIST (`test_images`, `test_labels`), Keras (`x_test`, `y_test`) or `np.savez` users (`x`, `y`) do.
//!
//! Source: `numpy/lib/format.py`. The header is parsed here, because its lengths are hostile.

use super::{Element, Numbers, PACKED, Problem, Stored, bytes, exactly, partner};
use npyz::npz::NpzArchive;
use std::io::{Read, Seek};
use std::path::Path;

/// Names of samples and of their labels.
const PAIRS: [(&str, &str); 3] = [("images", "labels"), ("data", "labels"), ("x", "y")];

pub(super) fn open(path: &Path) -> Result<(Stored, Option<Vec<u32>>), Problem> {
    let labels = partner(path, &PAIRS).map(|file| parse(&bytes(&file)?)?.labels()).transpose()?;
    Ok((Stored::Numbers(parse(&bytes(path)?)?), labels))
}

pub(super) fn open_archive(path: &Path, part: Option<&str>) -> Result<(Stored, Option<Vec<u32>>), Problem> {
    let length = usize::try_from(std::fs::metadata(path).map_err(Problem::Io)?.len()).unwrap_or(usize::MAX);
    let mut archive = NpzArchive::open(path).map_err(|e| numpy(e.to_string()))?;
    let names: Vec<String> = archive.array_names().map(str::to_owned).collect();
    let has = |name: &String| names.contains(name);
    let candidates = PAIRS.iter().flat_map(|(x, y)| match part {
        Some(part) => {
            vec![(format!("{part}_{x}"), format!("{part}_{y}")), (format!("{x}_{part}"), format!("{y}_{part}"))]
        }
        None => vec![((*x).to_owned(), (*y).to_owned())],
    });
    let Some((samples, labels)) = candidates.into_iter().find(|(x, _)| has(x)) else {
        let wanted = part.map_or("`images`, `data` or `x`".into(), |part| format!("images of `{part}`"));
        return Err(Problem::Part { wanted, names: names.join(", ") });
    };
    let mut array = |name: &str| parse(&entry(&mut archive, name, length)?);
    let numbers = array(&samples)?;
    let labels = has(&labels).then(|| array(&labels)?.labels()).transpose()?;
    Ok((Stored::Numbers(numbers), labels))
}

/// An array of an archive of so many bytes, unpacked.
fn entry<R: Read + Seek>(archive: &mut NpzArchive<R>, name: &str, length: usize) -> Result<Vec<u8>, Problem> {
    let file = archive.zip_archive().by_name(&format!("{name}.npy")).map_err(|e| numpy(e.to_string()))?;
    let size = usize::try_from(file.size()).unwrap_or(usize::MAX);
    if size > length.saturating_mul(PACKED) {
        return Err(Problem::Claim { shape: vec![size], bytes: length });
    }
    exactly(file, size)
}

fn numpy(why: impl Into<String>) -> Problem {
    Problem::Numpy { why: why.into() }
}

fn parse(all: &[u8]) -> Result<Numbers, Problem> {
    let cut = || numpy("it is cut short");
    let rest = all.strip_prefix(b"\x93NUMPY").ok_or_else(|| numpy("it does not begin as one"))?;
    let (version, rest) = rest.split_at_checked(2).ok_or_else(cut)?;
    let (length, rest) = match version[0] {
        1 => rest.split_at_checked(2).map(|(n, rest)| (usize::from(n[0]) | usize::from(n[1]) << 8, rest)),
        _ => rest.split_first_chunk::<4>().map(|(n, rest)| (u32::from_le_bytes(*n) as usize, rest)),
    }
    .ok_or_else(cut)?;
    let (header, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    let header = std::str::from_utf8(header).map_err(|_| numpy("its header is no text"))?;
    let field = |name: &str| {
        let after = header.split_once(&format!("'{name}'")).and_then(|(_, rest)| rest.trim_start().strip_prefix(':'));
        after.map(str::trim_start).ok_or_else(|| numpy(format!("its header has no `{name}`")))
    };
    let descr = field("descr")?;
    let word = descr.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map_or(descr, |(word, _)| word);
    let element = Element::numpy(word).ok_or_else(|| numpy(format!("its numbers are `{word}`; use bytes or `<f4`")))?;
    if !field("fortran_order")?.starts_with("False") {
        return Err(numpy("its first axis is the fastest; save it with np.ascontiguousarray"));
    }
    let inside = field("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(inside, _)| inside);
    let lengths = inside.ok_or_else(|| numpy("its shape is no tuple"))?.split(',').map(str::trim);
    let shape = lengths.filter(|n| !n.is_empty()).map(str::parse).collect::<Result<Vec<usize>, _>>();
    let shape = shape.map_err(|_| numpy("its shape holds no lengths"))?;
    Numbers::new(element, shape, data.to_vec())
}
