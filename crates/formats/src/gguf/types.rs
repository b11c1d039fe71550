//! Tensor types: ggml's ids, their names and block sizes, and the encodings that decode them.

use codec::{BlockFormat, Dtype, Encoding};
use std::fmt;

/// A tensor type by ggml's id. Ids that this table does not know are carried, so that the rest can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GgufType(pub u32);

/// Id, name, numbers in a block, bytes of a block (ggml.h and ggml-common.h).
const TYPES: [(u32, &str, usize, usize); 35] = [
    (0, "f32", 1, 4),
    (1, "f16", 1, 2),
    (2, "q4_0", 32, 18),
    (3, "q4_1", 32, 20),
    (6, "q5_0", 32, 22),
    (7, "q5_1", 32, 24),
    (8, "q8_0", 32, 34),
    (9, "q8_1", 32, 36),
    (10, "q2_K", 256, 84),
    (11, "q3_K", 256, 110),
    (12, "q4_K", 256, 144),
    (13, "q5_K", 256, 176),
    (14, "q6_K", 256, 210),
    (15, "q8_K", 256, 292),
    (16, "iq2_xxs", 256, 66),
    (17, "iq2_xs", 256, 74),
    (18, "iq3_xxs", 256, 98),
    (19, "iq1_s", 256, 50),
    (20, "iq4_nl", 32, 18),
    (21, "iq3_s", 256, 110),
    (22, "iq2_s", 256, 82),
    (23, "iq4_xs", 256, 136),
    (24, "i8", 1, 1),
    (25, "i16", 1, 2),
    (26, "i32", 1, 4),
    (27, "i64", 1, 8),
    (28, "f64", 1, 8),
    (29, "iq1_m", 256, 56),
    (30, "bf16", 1, 2),
    (34, "tq1_0", 256, 54),
    (35, "tq2_0", 256, 66),
    (39, "mxfp4", 32, 17),
    (40, "nvfp4", 64, 36),
    (41, "q1_0", 128, 18),
    (42, "q2_0", 64, 18),
];

/// The plain number types that GGUF has.
const PLAIN: [Dtype; 8] =
    [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64, Dtype::I8, Dtype::I16, Dtype::I32, Dtype::I64];

impl GgufType {
    /// 32-bit floats.
    pub const F32: GgufType = GgufType(0);

    fn row(self) -> Option<&'static (u32, &'static str, usize, usize)> {
        TYPES.iter().find(|t| t.0 == self.0)
    }

    /// ggml's name; `None` for an unknown id.
    pub fn name(self) -> Option<&'static str> {
        self.row().map(|t| t.1)
    }

    /// Numbers in a block and bytes of a block; `None` for an unknown id.
    pub fn block(self) -> Option<(usize, usize)> {
        self.row().map(|t| (t.2, t.3))
    }

    /// The encoding that decodes the type; `None` where there is none.
    pub fn encoding(self) -> Option<Encoding> {
        let name = self.name()?;
        let plain = PLAIN.into_iter().find(|d| d.name().eq_ignore_ascii_case(name)).map(Encoding::Plain);
        let block = || BlockFormat::ALL.into_iter().find(|b| b.name().eq_ignore_ascii_case(name)).map(Encoding::Block);
        plain.or_else(block)
    }

    /// The type that holds an encoding; `None` where GGUF has none.
    pub fn of(encoding: Encoding) -> Option<GgufType> {
        let name = match encoding {
            Encoding::Plain(dtype) => dtype.name(),
            Encoding::Block(format) => format.name(),
            Encoding::Packed(_) => return None,
        };
        TYPES.iter().find(|t| t.1.eq_ignore_ascii_case(name)).map(|t| GgufType(t.0))
    }
}

impl fmt::Display for GgufType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "id {}", self.0),
        }
    }
}
