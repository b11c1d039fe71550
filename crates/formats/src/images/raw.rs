//! Plain numbers whose file name says what they are: `NAME_x_500x49x10_i8.bin` holds 500 samples of 49 × 10 signed bytes,
//! `NAME_y_500_u8.bin` beside it the class of each. A folder with exactly one such pair can be given instead of the file.

use super::{Element, Numbers, Problem, Stored, bytes};
use std::path::{Path, PathBuf};

/// The name before `_x_`, shape and type of a file of samples.
pub(super) fn parse(name: &str) -> Option<(&str, Vec<usize>, Element)> {
    described(name, "_x_")
}

fn described<'a>(name: &'a str, mark: &str) -> Option<(&'a str, Vec<usize>, Element)> {
    let (set, rest) = name.strip_suffix(".bin")?.rsplit_once(mark)?;
    let (shape, element) = rest.split_once('_')?;
    let shape = shape.split('x').map(str::parse).collect::<Result<_, _>>().ok()?;
    Some((set, shape, Element::named(element)?))
}

pub(super) fn open(path: &Path) -> Result<(Stored, Option<Vec<u32>>), Problem> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let (set, shape, element) = parse(&name).ok_or(Problem::Unknown)?;
    let samples = Numbers::new(element, shape, bytes(path)?)?;
    let beside = names(path.parent().unwrap_or(Path::new(".")))?;
    let labels = beside.iter().find_map(|file| Some((file, described(file, "_y_").filter(|(name, ..)| *name == set)?)));
    let labels = labels
        .map(|(file, (_, shape, element))| Numbers::new(element, shape, bytes(&path.with_file_name(file))?)?.labels());
    Ok((Stored::Numbers(samples), labels.transpose()?))
}

/// The one file of samples in a folder; none where there is none or several.
pub(super) fn inside(folder: &Path) -> Result<Option<PathBuf>, Problem> {
    let mut files = names(folder)?;
    files.retain(|name| parse(name).is_some());
    Ok(match &files[..] {
        [one] => Some(folder.join(one)),
        _ => None,
    })
}

fn names(folder: &Path) -> Result<Vec<String>, Problem> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = std::fs::read_dir(folder).map_err(Problem::Io)?;
    let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}
