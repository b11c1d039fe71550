//! `mutate TARGET SEEDS SECONDS`: a fuzzer that needs only Rust, for machines without a C++ compiler.
//!
//! Mutates seeds without feedback, from a fixed seed, so a failure comes back: it writes the input that panics to
//! `artifacts/TARGET/crash` and ends with 1.

use std::error::Error;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A generator with 64 bits of state (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Numbers at which code goes wrong.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff_ffff, 1 << 40, i64::MAX as u64, u64::MAX];

/// Changes an input in one place.
fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let rest = input.len() - at;
    match random.below(6) {
        0 if rest > 0 => input[at] ^= 1 << random.below(8),
        1 if rest > 0 => input[at] = random.next() as u8,
        2 => input.truncate(at),
        3 => input.insert(at, random.next() as u8),
        4 => {
            let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
            let n = rest.min(1 << random.below(4));
            input[at..at + n].copy_from_slice(&edge[..n]);
        }
        _ => {
            let from = random.below(other.len() + 1);
            let n = random.below(16).min(other.len() - from);
            input.splice(at..at, other[from..from + n].iter().copied());
        }
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, name, seeds, seconds] = arguments.as_slice() else { return Err("mutate TARGET SEEDS SECONDS".into()) };
    let (_, target) = fuzz::TARGETS.into_iter().find(|t| t.0 == name).ok_or("no such target")?;
    let mut paths: Vec<_> = fs::read_dir(seeds)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(fs::read).collect::<Result<_, _>>()?;
    if seeds.is_empty() {
        return Err("no seeds".into());
    }
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let (mut random, mut runs) = (Random(1), 0u64);
    while Instant::now() < end {
        for _ in 0..1000 {
            let mut input = seeds[random.below(seeds.len())].clone();
            for _ in 0..=random.below(4) {
                let other = random.below(seeds.len());
                mutate(&mut input, &seeds[other], &mut random);
            }
            runs += 1;
            if catch_unwind(|| target(&input)).is_err() {
                let folder = Path::new("artifacts").join(name);
                fs::create_dir_all(&folder)?;
                fs::write(folder.join("crash"), &input)?;
                eprintln!("{name}: panic after {runs} runs, input in {}/crash", folder.display());
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    println!("{name}: {runs} runs, no panic");
    Ok(ExitCode::SUCCESS)
}
