//! Energy by the processor's own counters (RAPL), as Linux shows them under `/sys/class/powercap`.
//!
//! A package counts microjoules and begins again at its range. Machines without such counters, and systems that let only their
//! administrator read them, give nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Where Linux shows the counters.
const ROOT: &str = "/sys/class/powercap";

/// A processor package's counter.
struct Package {
    energy: PathBuf,
    range: u64,
}

/// Joules of one call, over as many calls as fit into so many seconds; none where nothing counts.
///
/// # Errors
/// What the call gives.
pub fn joules<E>(seconds: f64, call: &mut dyn FnMut() -> Result<(), E>) -> Result<Option<f64>, E> {
    joules_by(Path::new(ROOT), seconds, call)
}

fn joules_by<E>(root: &Path, seconds: f64, call: &mut dyn FnMut() -> Result<(), E>) -> Result<Option<f64>, E> {
    let packages = packages(root);
    let read = || packages.iter().map(|p| number(&p.energy)).collect::<Option<Vec<u64>>>();
    let Some(before) = read().filter(|all| !all.is_empty()) else { return Ok(None) };
    let (begun, mut calls) = (Instant::now(), 0u32);
    while calls == 0 || begun.elapsed().as_secs_f64() < seconds {
        call()?;
        calls += 1;
    }
    let Some(after) = read() else { return Ok(None) };
    let taken =
        packages.iter().zip(before.iter().zip(&after)).map(|(package, (before, after))| match after >= before {
            true => after - before,
            false => after + package.range.saturating_sub(*before),
        });
    Ok(Some(taken.sum::<u64>() as f64 / 1e6 / f64::from(calls)))
}

/// The packages; their parts, which they include, are left out.
fn packages(root: &Path) -> Vec<Package> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let package = |folder: PathBuf| {
        let name = fs::read_to_string(folder.join("name")).ok()?;
        let range = number(&folder.join("max_energy_range_uj"))?;
        name.starts_with("package").then(|| Package { energy: folder.join("energy_uj"), range })
    };
    entries.flatten().filter_map(|entry| package(entry.path())).collect()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_begin_again() {
        let root = std::env::temp_dir().join(format!("powercap-{}", std::process::id()));
        let zone = root.join("intel-rapl:0");
        fs::create_dir_all(&zone).expect("a folder");
        let put = |name: &str, what: &str| fs::write(zone.join(name), what).expect("written");
        put("name", "package-0\n");
        put("max_energy_range_uj", "1000000\n");
        put("energy_uj", "900000\n");
        let joules = joules_by::<()>(&root, 0.0, &mut || {
            put("energy_uj", "400000\n");
            Ok(())
        });
        assert_eq!(joules, Ok(Some(0.5)));
        put("name", "core\n");
        assert_eq!(joules_by::<()>(&root, 0.0, &mut || Ok(())), Ok(None));
        fs::remove_dir_all(&root).expect("removed");
        assert_eq!(joules_by::<()>(&root, 0.0, &mut || Ok(())), Ok(None));
    }
}
