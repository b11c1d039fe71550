//! MNIST's idx layout, plain or gzip: `00 00 08 rank`, then the sizes as big-endian `u32`, then bytes. Labels stand in the file
//! whose name says `labels` instead of `images`, and `idx1` instead of `idx3`.
//!
//! Source: LeCun, Cortes, Burges: The MNIST database, "File formats".

use super::{Element, Numbers, PACKED, Problem, Stored, exactly, partner};
use flate2::read::GzDecoder;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Bytes, of some number of axes.
const MAGIC: u32 = 0x0800;

pub(super) fn open(path: &Path) -> Result<(Stored, Option<Vec<u32>>), Problem> {
    let images = array(path)?;
    let pairs = [("images-idx3", "labels-idx1"), ("images.idx3", "labels.idx1"), ("images", "labels")];
    let labels = partner(path, &pairs).map(|file| array(&file)?.labels()).transpose()?;
    Ok((Stored::Numbers(images), labels))
}

fn array(path: &Path) -> Result<Numbers, Problem> {
    let file = File::open(path).map_err(Problem::Io)?;
    let length = usize::try_from(file.metadata().map_err(Problem::Io)?.len()).unwrap_or(usize::MAX);
    let zipped = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"));
    let reader = BufReader::new(file);
    if zipped {
        parse(GzDecoder::new(reader), length.saturating_mul(PACKED), length)
    } else {
        parse(reader, length, length)
    }
}

/// Reads an array of at most so many bytes.
fn parse(mut reader: impl Read, most: usize, packed: usize) -> Result<Numbers, Problem> {
    let mut word = || {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes).map_err(Problem::Io)?;
        Ok(u32::from_be_bytes(bytes))
    };
    let magic: u32 = word()?;
    let rank = (magic & 0xff) as usize;
    if magic & !0xff != MAGIC || !(1..=4).contains(&rank) {
        return Err(Problem::Magic { magic });
    }
    let shape = (0..rank).map(|_| word().map(|n| n as usize)).collect::<Result<Vec<_>, Problem>>()?;
    let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= most);
    let Some(count) = count else { return Err(Problem::Claim { shape, bytes: packed }) };
    Numbers::new(Element::U8, shape, exactly(reader, count)?)
}
