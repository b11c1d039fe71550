//! Constant tensors: element types, shapes, and their numbers as little-endian bytes, wherever the file keeps them.
//!
//! Numbers lie in `raw_data`, in one of the typed fields (16-bit and smaller types share `int32_data`, one number each; 4-bit
//! types pack two into a byte, the first one low), or in another file.

use super::problem::Problem;
use super::proto::TensorProto;
use prost::bytes::Bytes;

/// Element types, by their numbers in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
#[repr(i32)]
pub enum DataType {
    Float = 1,
    Uint8 = 2,
    Int8 = 3,
    Uint16 = 4,
    Int16 = 5,
    Int32 = 6,
    Int64 = 7,
    String = 8,
    Bool = 9,
    Float16 = 10,
    Double = 11,
    Uint32 = 12,
    Uint64 = 13,
    Complex64 = 14,
    Complex128 = 15,
    Bfloat16 = 16,
    Float8E4M3 = 17,
    Float8E4M3Fnuz = 18,
    Float8E5M2 = 19,
    Float8E5M2Fnuz = 20,
    Uint4 = 21,
    Int4 = 22,
    Float4E2M1 = 23,
    Float8E8M0 = 24,
    Uint2 = 25,
    Int2 = 26,
    Float6E2M3 = 27,
    Float6E3M2 = 28,
}

impl DataType {
    const ALL: [DataType; 28] = {
        use DataType::*;
        [
            Float,
            Uint8,
            Int8,
            Uint16,
            Int16,
            Int32,
            Int64,
            String,
            Bool,
            Float16,
            Double,
            Uint32,
            Uint64,
            Complex64,
            Complex128,
            Bfloat16,
            Float8E4M3,
            Float8E4M3Fnuz,
            Float8E5M2,
            Float8E5M2Fnuz,
            Uint4,
            Int4,
            Float4E2M1,
            Float8E8M0,
            Uint2,
            Int2,
            Float6E2M3,
            Float6E3M2,
        ]
    };

    /// The type with this number.
    pub fn of(number: i32) -> Option<DataType> {
        usize::try_from(number).ok()?.checked_sub(1).and_then(|i| Self::ALL.get(i).copied())
    }

    /// Bits of an element in memory; strings have none.
    pub const fn bits(self) -> usize {
        use DataType::*;
        match self {
            String => 0,
            Complex128 => 128,
            Double | Int64 | Uint64 | Complex64 => 64,
            Float | Int32 | Uint32 => 32,
            Float16 | Bfloat16 | Int16 | Uint16 => 16,
            Uint4 | Int4 | Float4E2M1 => 4,
            Uint2 | Int2 => 2,
            _ => 8,
        }
    }

    /// Whether it holds fractions in a form that weights come in.
    pub const fn is_float(self) -> bool {
        matches!(self, DataType::Float | DataType::Float16 | DataType::Bfloat16 | DataType::Double)
    }

    /// Whether it holds whole numbers or truth values.
    pub const fn is_integer(self) -> bool {
        use DataType::*;
        matches!(self, Uint8 | Int8 | Uint16 | Int16 | Int32 | Int64 | Bool | Uint32 | Uint64 | Uint4 | Int4)
    }
}

impl TensorProto {
    /// The tensor's name, empty where it has none.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// The element type.
    pub fn dtype(&self) -> Result<DataType, Problem> {
        let number = self.data_type.unwrap_or_default();
        DataType::of(number).ok_or_else(|| Problem::DataType { tensor: self.label().into(), number })
    }

    /// The shape, outermost dimension first.
    pub fn shape(&self) -> Result<Vec<usize>, Problem> {
        let wrong = || Problem::Dims { tensor: self.label().into(), dims: self.dims.clone() };
        let shape: Option<Vec<usize>> = self.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
        let shape = shape.ok_or_else(wrong)?;
        shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).ok_or_else(wrong)?;
        Ok(shape)
    }

    /// Whether the numbers lie in another file.
    pub fn is_external(&self) -> bool {
        self.data_location == Some(1)
    }

    /// The numbers as bytes, little endian, if they lie in this file; checked against the shape.
    pub fn inline_bytes(&self) -> Result<Bytes, Problem> {
        let (dtype, elements) = (self.dtype()?, self.shape()?.iter().product::<usize>());
        let fail = |why| Problem::Tensor { tensor: self.label().into(), why };
        if self.is_external() {
            return Err(fail("its numbers are in another file"));
        }
        if dtype == DataType::String {
            return Err(fail("it holds text"));
        }
        let bytes = match &self.raw_data {
            Some(raw) => raw.clone(),
            None => self.typed_bytes(dtype).into(),
        };
        self.check_size(dtype, elements, bytes.len())?;
        Ok(bytes)
    }

    /// Compares a number of bytes with what type and shape call for.
    pub(crate) fn check_size(&self, dtype: DataType, elements: usize, got: usize) -> Result<(), Problem> {
        let expected = elements.checked_mul(dtype.bits()).map_or(usize::MAX, |bits| bits.div_ceil(8));
        match expected == got {
            true => Ok(()),
            false => Err(Problem::Size { tensor: self.label().into(), expected, got }),
        }
    }

    /// The numbers of the typed field that belongs to the type.
    fn typed_bytes(&self, dtype: DataType) -> Vec<u8> {
        use DataType::*;
        match dtype {
            Float | Complex64 => self.float_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Double | Complex128 => self.double_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Int64 => self.int64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Uint64 => self.uint64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Uint32 => self.uint64_data.iter().flat_map(|x| (*x as u32).to_le_bytes()).collect(),
            Int32 => self.int32_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Int16 | Uint16 | Float16 | Bfloat16 => {
                self.int32_data.iter().flat_map(|x| (*x as u16).to_le_bytes()).collect()
            }
            _ => self.int32_data.iter().map(|x| *x as u8).collect(),
        }
    }
}

/// Whole numbers from little-endian bytes; `None` for types that are none.
pub fn integers(dtype: DataType, bytes: &[u8], elements: usize) -> Option<Vec<i64>> {
    fn all<const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> i64) -> Vec<i64> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| of(*chunk)).collect()
    }
    let nibbles = || bytes.iter().flat_map(|b| [b & 15, b >> 4]).take(elements);
    Some(match dtype {
        DataType::Uint8 => all(bytes, |b: [u8; 1]| i64::from(b[0])),
        DataType::Bool => all(bytes, |b: [u8; 1]| i64::from(b[0] != 0)),
        DataType::Int8 => all(bytes, |b: [u8; 1]| i64::from(b[0] as i8)),
        DataType::Uint16 => all(bytes, |b| i64::from(u16::from_le_bytes(b))),
        DataType::Int16 => all(bytes, |b| i64::from(i16::from_le_bytes(b))),
        DataType::Int32 => all(bytes, |b| i64::from(i32::from_le_bytes(b))),
        DataType::Uint32 => all(bytes, |b| i64::from(u32::from_le_bytes(b))),
        DataType::Int64 => all(bytes, i64::from_le_bytes),
        DataType::Uint64 => all(bytes, |b| i64::try_from(u64::from_le_bytes(b)).unwrap_or(i64::MAX)),
        DataType::Uint4 => nibbles().map(i64::from).collect(),
        DataType::Int4 => nibbles().map(|n| i64::from((n << 4) as i8 >> 4)).collect(),
        _ => return None,
    })
}
