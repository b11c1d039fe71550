//! Tensors whose numbers lie in files beside the model: found inside its folder only, mapped, bounds checked.

use super::problem::Problem;
use super::proto::{StringStringEntryProto, TensorProto};
use crate::Mapped;
use prost::bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

/// Where a tensor's numbers lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Relative to the model's folder.
    pub file: String,
    /// First byte.
    pub offset: u64,
    /// How many, if said.
    pub length: Option<u64>,
}

impl Location {
    /// What a tensor's `external_data` says.
    pub fn of(tensor: &TensorProto) -> Result<Location, Problem> {
        let get = |key: &str| {
            let entry = tensor.external_data.iter().find(|e| e.key.as_deref() == Some(key));
            entry.map(|e| e.value.clone().unwrap_or_default())
        };
        let number = |key: &'static str| match get(key) {
            None => Ok(None),
            Some(value) => match value.parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Problem::ExternalKey { tensor: tensor.label().into(), key, value }),
            },
        };
        Ok(Location {
            file: get("location").unwrap_or_default(),
            offset: number("offset")?.unwrap_or(0),
            length: number("length")?,
        })
    }

    /// The same as entries of `external_data`.
    pub fn entries(&self) -> Vec<StringStringEntryProto> {
        let entry = |key: &str, value: String| StringStringEntryProto { key: Some(key.into()), value: Some(value) };
        let mut entries = vec![entry("location", self.file.clone()), entry("offset", self.offset.to_string())];
        entries.extend(self.length.map(|length| entry("length", length.to_string())));
        entries
    }
}

/// The files beside a model that its tensors lie in.
#[derive(Clone, Debug, Default)]
pub(super) struct Externals {
    files: BTreeMap<String, Bytes>,
}

impl Externals {
    /// Maps the file that a tensor lies in, unless it is mapped already, and checks the tensor's place in it.
    pub fn add(&mut self, folder: &Path, tensor: &TensorProto) -> Result<(), Problem> {
        let location = Location::of(tensor)?;
        if !self.files.contains_key(&location.file) {
            let bytes = map(folder, tensor, &location)?;
            self.files.insert(location.file.clone(), bytes);
        }
        self.bytes(tensor).map(drop)
    }

    /// A tensor's numbers, without a copy.
    pub fn bytes(&self, tensor: &TensorProto) -> Result<Bytes, Problem> {
        let (location, dtype) = (Location::of(tensor)?, tensor.dtype()?);
        let elements: usize = tensor.shape()?.iter().product();
        let missing = || Problem::External {
            tensor: tensor.label().into(),
            location: location.file.clone(),
            source: io::ErrorKind::NotFound.into(),
        };
        let file = self.files.get(&location.file).ok_or_else(missing)?;
        let needed = (elements.saturating_mul(dtype.bits()).div_ceil(8)) as u64;
        let length = location.length.unwrap_or(needed);
        tensor.check_size(dtype, elements, usize::try_from(length).unwrap_or(usize::MAX))?;
        let beyond = || Problem::Beyond {
            tensor: tensor.label().into(),
            location: location.file.clone(),
            offset: location.offset,
            length,
            len: file.len(),
        };
        let end = location.offset.checked_add(length).filter(|end| *end <= file.len() as u64).ok_or_else(beyond)?;
        Ok(file.slice(location.offset as usize..end as usize))
    }
}

/// Maps a file inside the folder: a relative path without `..`, that symbolic links do not lead outside.
fn map(folder: &Path, tensor: &TensorProto, location: &Location) -> Result<Bytes, Problem> {
    let (label, file) = (tensor.label().to_owned(), location.file.clone());
    let path = Path::new(&location.file);
    let plain = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !plain || path.as_os_str().is_empty() {
        return Err(Problem::Outside { tensor: label, location: file });
    }
    let external = |source| Problem::External { tensor: label.clone(), location: file.clone(), source };
    let folder = folder.canonicalize().map_err(&external)?;
    let target = folder.join(path).canonicalize().map_err(&external)?;
    if !target.starts_with(&folder) {
        return Err(Problem::Outside { tensor: label, location: file });
    }
    if target.metadata().map_err(&external)?.len() == 0 {
        return Ok(Bytes::new());
    }
    Ok(Bytes::from_owner(Mapped::open(&target).map_err(&external)?))
}
