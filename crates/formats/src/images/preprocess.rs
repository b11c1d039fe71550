//! What is done to stored numbers before a network sees them: `(x · scale − mean) / std`, by channel.

use super::Problem;
use serde::{Deserialize, Serialize};

/// How the axes of a stored sample lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Channels, height, width.
    Nchw,
    /// Height, width, channels.
    Nhwc,
}

/// See the module. The default changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Preprocess {
    /// Every number is multiplied by this first: 1/255 brings bytes into 0…1.
    pub scale: f64,
    /// Then this is taken off: nothing, one number, or one for each channel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mean: Vec<f64>,
    /// Then this divides: nothing, one number, or one for each channel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub std: Vec<f64>,
    /// How samples are stored, where their shape leaves that open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// The share of an image file's shorter side that is seen; the rest is cut off.
    pub crop: f64,
}

impl Default for Preprocess {
    fn default() -> Preprocess {
        Preprocess { scale: 1.0, mean: vec![], std: vec![], layout: None, crop: 1.0 }
    }
}

impl Preprocess {
    /// `[factor, shift]` of each channel: what is seen is `x · factor + shift`.
    pub(super) fn affine(&self, channels: usize) -> Result<Vec<[f64; 2]>, Problem> {
        let of = |what: &'static str, list: &[f64], none: f64| match list {
            [] => Ok(vec![none; channels]),
            [one] => Ok(vec![*one; channels]),
            all if all.len() == channels => Ok(all.to_vec()),
            all => Err(Problem::Channels { what, got: all.len(), channels }),
        };
        let (mean, std) = (of("mean", &self.mean, 0.0)?, of("std", &self.std, 1.0)?);
        let usable = |what: &'static str, value: f64| {
            if value.is_finite() && value != 0.0 { Ok(()) } else { Err(Problem::Number { what, value }) }
        };
        usable("scale", self.scale)?;
        usable("crop", self.crop.clamp(0.0, 1.0))?;
        std.iter().try_for_each(|value| usable("std", *value))?;
        match mean.iter().find(|m| !m.is_finite()) {
            Some(value) => Err(Problem::Number { what: "mean", value: *value }),
            None => Ok(mean.iter().zip(std).map(|(mean, std)| [self.scale / std, -mean / std]).collect()),
        }
    }
}
