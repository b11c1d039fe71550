//! Between the two descriptions of a packed weight: what a `quantization_config` says, and codec's [`Packed`].
//!
//! Source: the presets of the `compressed-tensors` package, `quantization/quant_scheme.py` (0.20).

use super::quantization::{Format, NumberKind, QuantizationArgs, Strategy};
use codec::Packed;
use codec::packed::{Bits, Granularity, ScaleType};

impl Format {
    /// The layout of a packed weight.
    pub const fn of(packed: Packed) -> Self {
        match packed {
            Packed::Int { .. } => Format::PackQuantized,
            Packed::Int8 { .. } => Format::IntQuantized,
            Packed::Fp8 { .. } => Format::FloatQuantized,
            Packed::Mxfp4 => Format::Mxfp4PackQuantized,
            Packed::Nvfp4 => Format::Nvfp4PackQuantized,
        }
    }
}

impl QuantizationArgs {
    /// What the configuration says of a packed weight.
    pub fn of(packed: Packed) -> Self {
        let kind = match packed {
            Packed::Int { .. } | Packed::Int8 { .. } => NumberKind::Int,
            Packed::Fp8 { .. } | Packed::Mxfp4 | Packed::Nvfp4 => NumberKind::Float,
        };
        let (strategy, group) = match packed.granularity() {
            _ if packed == Packed::Nvfp4 => (Strategy::TensorGroup, Some(16)),
            Granularity::Tensor => (Strategy::Tensor, None),
            Granularity::Channel => (Strategy::Channel, None),
            Granularity::Group(size) => (Strategy::Group, Some(i64::from(size.get()))),
            Granularity::Block => (Strategy::Block, None),
        };
        let symmetric = !matches!(packed, Packed::Int { symmetric: false, .. });
        let mut args = QuantizationArgs::weights(packed.levels().bits(), kind, symmetric, strategy, group);
        args.block_structure = (strategy == Strategy::Block).then_some([128, 128]);
        args.scale_dtype = match packed {
            Packed::Mxfp4 => Some("torch.uint8".into()),
            Packed::Nvfp4 => Some("torch.float8_e4m3fn".into()),
            _ => None,
        };
        args
    }

    /// The packed encoding of weights so described, whose scales are stored as `scale`; `None` where codec has none.
    pub fn packed(&self, format: Format, scale: ScaleType) -> Option<Packed> {
        let per = self.granularity()?;
        let packed = match format {
            Format::PackQuantized => {
                let bits = u8::try_from(self.num_bits).ok().and_then(Bits::new)?;
                Packed::Int { bits, symmetric: self.symmetric, per, scale }
            }
            Format::IntQuantized => Packed::Int8 { per, scale },
            Format::FloatQuantized => Packed::Fp8 { per, scale },
            Format::NaiveQuantized if self.kind == NumberKind::Int => Packed::Int8 { per, scale },
            Format::NaiveQuantized => Packed::Fp8 { per, scale },
            Format::Mxfp4PackQuantized => Packed::Mxfp4,
            Format::Nvfp4PackQuantized => Packed::Nvfp4,
            Format::Mxfp8Quantized | Format::MixedPrecision | Format::Dense => return None,
        };
        // Whatever the configuration says beyond the encoding (another block, zero points for floats) has none here.
        let same = QuantizationArgs::of(packed);
        let told = |a: &QuantizationArgs| (a.num_bits, a.kind, a.symmetric, a.granularity(), a.block_structure);
        (told(&same) == told(self)).then_some(packed)
    }

    fn granularity(&self) -> Option<Granularity> {
        match self.strategy() {
            Strategy::Tensor => Some(Granularity::Tensor),
            Strategy::Channel => Some(Granularity::Channel),
            Strategy::Block => Some(Granularity::Block),
            Strategy::Group | Strategy::TensorGroup => {
                self.group_size.and_then(|size| u32::try_from(size).ok()).and_then(Granularity::group)
            }
            Strategy::Token | Strategy::AttnHead => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use codec::Encoding;

    #[test]
    fn the_configuration_tells_every_packed_encoding() {
        let names = ["int4-g128", "int3-channel-asym", "int8-tensor", "int8-channel-bytes", "fp8-channel", "fp8-block"];
        for name in names.into_iter().chain(["mxfp4-g32", "nvfp4-g16"]) {
            let Ok(Encoding::Packed(packed)) = name.parse() else { panic!("{name}") };
            let (args, format) = (QuantizationArgs::of(packed), Format::of(packed));
            assert_eq!(args.packed(format, ScaleType::BF16), Some(packed), "{name}");
        }
        let mut args = QuantizationArgs::weights(8, NumberKind::Float, true, Strategy::Block, None);
        args.block_structure = Some([64, 64]);
        assert_eq!(args.packed(Format::FloatQuantized, ScaleType::BF16), None);
    }
}
