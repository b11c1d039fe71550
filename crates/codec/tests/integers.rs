//! Integer weights between layouts: the same numbers, or an error that says which are in the way.

use codec::packed::{Bits, Integers, RepackError, ScaleType, Transposed, TransposedError, ZeroPoints};
use codec::{Dtype, Encoding, Matrix, Part};
use safetensors::SafeTensors;

const GOLDEN: &[u8] = include_bytes!("../../../golden/transposed/transposed.safetensors");

const ROWS: usize = 64;
const COLS: usize = 128;

fn encoding(name: &str) -> Encoding {
    name.parse().unwrap()
}

fn find<'a>(parts: &'a [Part]) -> impl Fn(&str) -> Option<&'a [u8]> {
    move |suffix| parts.iter().find(|p| p.spec.suffix == suffix).map(|p| p.bytes.as_slice())
}

fn numbers() -> Vec<f32> {
    (0..ROWS * COLS).map(|i| (i as f32 * 0.713).sin() * (1.0 + (i % 37) as f32 * 0.05) - 0.1).collect()
}

fn encoded(name: &str) -> Vec<Part> {
    let data = numbers();
    encoding(name).encode(Matrix { rows: ROWS, cols: COLS, data: &data }, None).unwrap()
}

fn open(name: &str, parts: &[Part]) -> Result<Integers, RepackError> {
    Integers::read(encoding(name), ROWS, COLS, &find(parts))
}

fn values(name: &str, parts: &[Part]) -> Vec<f32> {
    encoding(name).validate(ROWS, COLS, find(parts)).unwrap();
    encoding(name).decode(ROWS, COLS, find(parts)).unwrap()
}

#[test]
fn what_is_repacked_decodes_to_the_same_numbers() {
    let ways = [
        ("int4-g128", "q4_0"),
        ("int4-g32-f16", "q4_0"),
        ("int4-channel", "q4_0"),
        ("int3-g64", "q4_0"),
        ("int4-g128-asym", "q5_0"),
        ("int5-g32", "q5_0"),
        ("int8-g32", "q8_0"),
        ("int8-channel-bytes", "q8_0"),
        ("int4-g128-asym", "int4-g32-asym"),
        ("int8-channel-bytes", "int8-g64"),
        ("q4_0", "int4-g32-f16"),
        ("q4_0", "int4-g32-asym-f16"),
        ("q5_0", "q8_0"),
        ("q8_0", "int8-g32-bytes-f16"),
    ];
    for (from, to) in ways {
        let parts = encoded(from);
        let again = open(from, &parts).unwrap().write(encoding(to)).unwrap_or_else(|e| panic!("{from} → {to}: {e}"));
        assert_eq!(values(from, &parts), values(to, &again), "{from} → {to}");
    }
}

#[test]
fn there_and_back_gives_the_same_bytes() {
    for (from, through) in [("int4-g128-f16", "q4_0"), ("int4-g32-f16", "q4_0"), ("int8-g32-f16", "q8_0")] {
        let parts = encoded(from);
        let block = open(from, &parts).unwrap().write(encoding(through)).unwrap();
        let back = open(through, &block).unwrap().write(encoding(from)).unwrap();
        assert_eq!(parts, back, "{from} → {through} → {from}");
    }
}

/// Scales of few bits, so that every minimum is an f16 number.
#[test]
fn a_minimum_is_exact_where_the_product_is() {
    let mut ints = open("int4-g32-asym-f16", &encoded("int4-g32-asym-f16")).unwrap();
    ints.scale.iter_mut().for_each(|s| *s = 0.0625);
    let (packed, block) = (ints.write(encoding("int4-g32-asym-f16")), ints.write(encoding("q4_1")));
    let (packed, block) = (packed.unwrap(), block.unwrap());
    assert_eq!(values("int4-g32-asym-f16", &packed), values("q4_1", &block));
    let back = open("q4_1", &block).unwrap();
    assert_eq!(back.write(encoding("int4-g32-asym-f16")).unwrap(), packed);
    ints.scale[5] = 1.0 + 1.0 / 1024.0;
    ints.zero[5] = 7;
    ints.codes[5 * 32..6 * 32].iter_mut().enumerate().for_each(|(i, c)| *c = (i % 16) as u8);
    let error = ints.write(encoding("q4_1")).unwrap_err();
    assert!(matches!(error, RepackError::Minimum { row: 1, column: 32, .. }), "{error}");
    assert!(matches!(open("q4_1", &encoded("q4_1")), Err(RepackError::ZeroPoint { .. })));
}

#[test]
fn what_does_not_fit_is_named() {
    let ints = open("int4-g32-asym", &encoded("int4-g32-asym")).unwrap();
    assert!(matches!(ints.write(encoding("int4-g32")), Err(RepackError::Range { .. })));
    let mut apart = ints.clone();
    apart.scale[1] *= 2.0;
    let error = apart.write(encoding("int4-g64-asym")).unwrap_err();
    assert!(matches!(error, RepackError::Scales { row: 0, start: 0, end: 64, .. }), "{error}");
    assert!(matches!(ints.write(encoding("int4-g48-asym")), Err(RepackError::Codec(_))));
    assert!(matches!(ints.write(encoding("q4_K")), Err(RepackError::NotIntegers { .. })));
    let mut wide = open("int4-g128", &encoded("int4-g128")).unwrap();
    wide.scale[1] = 1e-9;
    let error = wide.write(encoding("q4_0")).unwrap_err();
    assert!(error.to_string().contains("the scale 1e-9 of row 1, column 0 is not a number of type F16"), "{error}");
    wide.scale[1] = f32::NAN;
    assert!(matches!(wide.write(encoding("int4-g128-f32")), Err(RepackError::Scale { .. })));
    for name in ["fp8-channel", "int4-tensor", "nvfp4-g16"] {
        assert!(matches!(open(name, &encoded(name)), Err(RepackError::NotIntegers { .. })), "{name}");
    }
}

fn gptq(bits: u8, zeros: ZeroPoints) -> Transposed {
    Transposed::Gptq { bits: Bits::new(bits).unwrap(), zeros }
}

#[test]
fn transposed_layouts_round_trip() {
    let layouts = [2, 3, 4, 8].into_iter().flat_map(|b| [gptq(b, ZeroPoints::LessOne), gptq(b, ZeroPoints::Plain)]);
    for layout in layouts.chain([Transposed::Awq]) {
        for tail in ["", "-asym"] {
            let name = format!("int{}-g32{tail}-f16", layout.bits());
            let mut ints = open(&name, &encoded(&name)).unwrap();
            ints.zero.iter_mut().for_each(|z| *z = (*z).max(1));
            let tensors = layout.write(&ints, ScaleType::F16).unwrap();
            let slices = [&tensors[0][..], &tensors[1], &tensors[2]];
            assert_eq!(layout.read([ROWS, COLS, 32], ScaleType::F16, slices).unwrap(), ints, "{layout:?} {name}");
            let group: Vec<i32> = (0..COLS as i32).map(|i| i / 32).collect();
            let numbers = layout.read_scattered([ROWS, COLS, 4], &group, ScaleType::F16, slices).unwrap();
            assert_eq!(numbers, values(&name, &ints.write(encoding(&name)).unwrap()), "{layout:?} {name}");
        }
    }
}

/// Tensors laid out bit by bit, independently, decode to the numbers that they stand for, and are written the same.
#[test]
fn transposed_layouts_are_those_of_the_tools() {
    let file = SafeTensors::deserialize(GOLDEN).unwrap();
    let all = [2, 3, 4, 8].into_iter().flat_map(|bits| {
        let case = |name, zeros| (format!("gptq-{bits}-{name}"), gptq(bits, zeros));
        [case("v1", ZeroPoints::LessOne), case("v2", ZeroPoints::Plain)]
    });
    for (name, layout) in all.chain([("awq".to_owned(), Transposed::Awq)]) {
        let tensor = |part: &str| file.tensor(&format!("{name}/{part}")).unwrap();
        let tensors = ["qweight", "qzeros", "scales"].map(|part| tensor(part).data().to_vec());
        let slices = [&tensors[0][..], &tensors[1], &tensors[2]];
        let integers = layout.read([32, 64, 32], ScaleType::F16, slices).unwrap();
        assert_eq!(layout.write(&integers, ScaleType::F16).unwrap(), tensors, "{name}");
        for (part, spec) in layout.parts(32, 64, 2, ScaleType::F16).unwrap().iter().enumerate() {
            assert_eq!(tensor(["qweight", "qzeros", "scales"][part]).shape(), spec.shape, "{name} {}", spec.suffix);
        }
        let encoding = encoding(&format!("int{}-g32-asym-f16", layout.bits()));
        let parts = integers.write(encoding).unwrap();
        let mut expected = vec![0.0; 32 * 64];
        codec::block::plain::decode(Dtype::F32, tensor("decoded").data(), &mut expected);
        assert_eq!(encoding.decode(32, 64, find(&parts)).unwrap(), expected, "{name}");
    }
}

#[test]
fn transposed_layouts_refuse_what_they_cannot_say() {
    let mut ints = open("int4-g32-asym-f16", &encoded("int4-g32-asym-f16")).unwrap();
    ints.zero[9] = 0;
    let error = gptq(4, ZeroPoints::LessOne).write(&ints, ScaleType::F16).unwrap_err();
    assert!(error.to_string().contains("output 2, group 1 is 0"), "{error}");
    let tensors = gptq(4, ZeroPoints::Plain).write(&ints, ScaleType::F16).unwrap();
    let slices = [&tensors[0][..], &tensors[1], &tensors[2]];
    assert_eq!(gptq(4, ZeroPoints::Plain).read([ROWS, COLS, 32], ScaleType::F16, slices).unwrap(), ints);
    let full = vec![0xff; tensors[1].len()];
    let read = gptq(4, ZeroPoints::LessOne).read([ROWS, COLS, 32], ScaleType::F16, [slices[0], &full, slices[2]]);
    assert!(matches!(read, Err(TransposedError::ZeroPoint { .. })));
    let scattered = |group: &[i32]| {
        gptq(4, ZeroPoints::Plain).read_scattered([ROWS, COLS, 4], group, ScaleType::F16, slices).map(|_| ())
    };
    assert!(matches!(scattered(&[4; COLS]), Err(TransposedError::Group { group: 4, groups: 4, .. })));
    assert!(matches!(scattered(&[-1; COLS]), Err(TransposedError::Group { group: -1, .. })));
    assert!(matches!(scattered(&[0; 3]), Err(TransposedError::Length { part: "g_idx", .. })));
    for shape in [[0, 0, 0], [ROWS, COLS, 0], [ROWS, COLS, 33], [usize::MAX, usize::MAX, 1], [ROWS + 1, COLS, 32]] {
        assert!(Transposed::Awq.read(shape, ScaleType::F16, slices).is_err(), "{shape:?}");
        assert!(gptq(3, ZeroPoints::Plain).read(shape, ScaleType::F16, slices).is_err(), "{shape:?}");
    }
    let eight = open("int8-g32-f16", &encoded("int8-g32-f16")).unwrap();
    assert!(matches!(Transposed::Awq.write(&eight, ScaleType::F16), Err(TransposedError::Code { .. })));
}
