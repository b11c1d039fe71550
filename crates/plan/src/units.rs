//! Sizes as people write them: `300MB` (10⁶), `1.5GiB` (2³⁰), `4.5bpw`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Why a size could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum UnitError {
    #[error("`{0}` is not a size; write a number and a unit, such as 300MB or 1.5GiB")]
    Bytes(String),
    #[error("`{0}` is not a target; write bits per weight, such as 4.5bpw")]
    Bpw(String),
}

const UNITS: [(&str, f64); 9] = [
    ("KIB", 1024.0),
    ("MIB", 1_048_576.0),
    ("GIB", 1_073_741_824.0),
    ("TIB", 1_099_511_627_776.0),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("B", 1.0),
];

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Bytes, UnitError> {
        let upper = text.trim().to_ascii_uppercase();
        let (number, unit) = UNITS
            .iter()
            .find_map(|(unit, worth)| upper.strip_suffix(unit).map(|n| (n, *worth)))
            .unwrap_or((&upper, 1.0));
        match number.trim().parse::<f64>() {
            Ok(n) if n > 0.0 && n * unit < 1e18 => Ok(Bytes((n * unit) as u64)),
            _ => Err(UnitError::Bytes(text.into())),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0 as f64;
        match self.0 {
            0..1_000 => write!(f, "{} B", self.0),
            1_000..1_000_000 => write!(f, "{:.1} kB", n / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.1} MB", n / 1e6),
            _ => write!(f, "{:.2} GB", n / 1e9),
        }
    }
}

/// Exact in files: `300000000B`.
impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format!("{}B", self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Bytes, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Bits per weight over the whole artifact, scales counted.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Bpw(pub f64);

impl FromStr for Bpw {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Bpw, UnitError> {
        let number = text.trim().strip_suffix("bpw").unwrap_or(text.trim());
        match number.trim().parse::<f64>() {
            Ok(n) if n > 0.0 && n <= 64.0 => Ok(Bpw(n)),
            _ => Err(UnitError::Bpw(text.into())),
        }
    }
}

impl fmt::Display for Bpw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}bpw", self.0)
    }
}

impl Serialize for Bpw {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bpw {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Bpw, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_both_systems_of_units() {
        assert_eq!("300MB".parse(), Ok(Bytes(300_000_000)));
        assert_eq!("1.5 GiB".parse(), Ok(Bytes(1_610_612_736)));
        assert_eq!("12".parse(), Ok(Bytes(12)));
        for wrong in ["", "MB", "-3MB", "3XB", "NaN", "1e30TB"] {
            assert_eq!(wrong.parse::<Bytes>(), Err(UnitError::Bytes(wrong.into())), "{wrong}");
        }
    }

    #[test]
    fn bits_per_weight_are_read_with_and_without_the_unit() {
        assert_eq!("4.5bpw".parse(), Ok(Bpw(4.5)));
        assert_eq!("4.5".parse(), Ok(Bpw(4.5)));
        assert!("0bpw".parse::<Bpw>().is_err());
        assert_eq!(Bpw(4.5).to_string(), "4.5bpw");
    }
}
