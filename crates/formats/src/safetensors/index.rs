//! `model.safetensors.index.json`: which shard holds which tensor.

use super::{Error, MAX_HEADER, Problem};
use crate::InFile;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path};

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Reads the index: tensor name to file name, each checked to be a plain name.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let at = InFile::at(path);
    let len = fs::metadata(path).map_err(|e| at(Problem::Io(e)))?.len();
    if len > MAX_HEADER as u64 {
        return Err(at(Problem::IndexSize { len }));
    }
    let bytes = fs::read(path).map_err(|e| at(Problem::Io(e)))?;
    parse(&bytes).map_err(at)
}

/// Parses the index and refuses shard names that would leave the folder.
fn parse(bytes: &[u8]) -> Result<BTreeMap<String, String>, Problem> {
    let index: Index = serde_json::from_slice(bytes).map_err(Problem::Json)?;
    match index.weight_map.iter().find(|(_, shard)| !is_plain_name(shard)) {
        Some((tensor, shard)) => Err(Problem::ShardPath { tensor: tensor.clone(), shard: shard.clone() }),
        None => Ok(index.weight_map),
    }
}

/// One path component that is neither `..` nor a root, on any system.
fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(c)), None) if c == name)
        && !name.contains(['\\', ':', '\0'])
}

/// The shards that an index names, each once.
pub fn shards(path: &Path) -> Result<BTreeSet<String>, Error> {
    Ok(read(path)?.into_values().collect())
}
