//! Promise: arrows between rooms only point down, as `docs/ARCHITECTURE.md` says.

use cargo_metadata::{DependencyKind, MetadataCommand};
use std::collections::{BTreeMap, BTreeSet};

/// Room → rooms it may use: the table of `docs/ARCHITECTURE.md`.
fn may_use() -> BTreeMap<String, BTreeSet<String>> {
    let text = include_str!("../../../docs/ARCHITECTURE.md");
    let table = text.split("<!-- rooms -->").nth(1).expect("the table of rooms stands between two markers");
    let words = |cell: &str| {
        let names = cell.split(',').map(|w| w.trim().trim_matches('`').to_string());
        names.filter(|w| !w.is_empty() && w != "–").collect::<BTreeSet<_>>()
    };
    let rows = table.lines().filter(|l| l.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        (cells[0].trim().trim_matches('`').to_string(), words(cells[2]))
    })
    .collect()
}

#[test]
fn arrows_point_down() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo metadata runs");
    let allowed = may_use();
    let rooms: BTreeSet<_> = metadata.packages.iter().map(|p| p.name.to_string()).collect();
    assert_eq!(rooms, allowed.keys().cloned().collect(), "rooms on disk and in docs/ARCHITECTURE.md");
    for package in &metadata.packages {
        let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
        let used: BTreeSet<_> = normal.map(|d| d.name.clone()).filter(|d| rooms.contains(d)).collect();
        let extra: Vec<_> = used.difference(&allowed[package.name.as_str()]).collect();
        assert!(extra.is_empty(), "`{}` uses {extra:?}, which docs/ARCHITECTURE.md does not allow", package.name);
    }
}

#[test]
fn the_allowed_arrows_have_no_cycle() {
    let mut left = may_use();
    while !left.is_empty() {
        let free: Vec<_> = left.iter().filter(|(_, uses)| uses.is_empty()).map(|(room, _)| room.clone()).collect();
        assert!(!free.is_empty(), "these rooms use each other in a circle: {:?}", left.keys());
        for room in free {
            left.remove(&room);
            left.values_mut().for_each(|uses| {
                uses.remove(&room);
            });
        }
    }
}
