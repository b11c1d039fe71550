//! Promise: every form of a set gives the same samples in a network's order and range, and no bytes make a reader panic or
//! allocate more than they could hold.

use flate2::{Compression, write::GzEncoder};
use formats::images::{Layout, Preprocess, Set};
use npyz::WriterBuilder;
use proptest::prelude::*;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Samples of two channels, 2 × 3, by planes.
const SHAPE: [usize; 3] = [2, 2, 3];

fn planes(sample: usize) -> Vec<u8> {
    (0..12).map(|i| (20 * sample + i) as u8).collect()
}

/// The same with channels last.
fn pixels(sample: usize) -> Vec<u8> {
    (0..6).flat_map(|at| [planes(sample)[at], planes(sample)[6 + at]]).collect()
}

fn npy(shape: &[u64], numbers: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(shape).writer(&mut bytes).begin_nd().unwrap();
    writer.extend(numbers.iter().copied()).unwrap();
    writer.finish().unwrap();
    bytes
}

fn idx(shape: &[u32], numbers: &[u8]) -> Vec<u8> {
    let head = [0x0800 + shape.len() as u32].into_iter().chain(shape.iter().copied());
    head.flat_map(u32::to_be_bytes).chain(numbers.iter().copied()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(TempDir::new().unwrap())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// All samples as a network with these inputs sees them, and their labels.
fn seen(set: &Path, input: &[usize], preprocess: &Preprocess) -> (Vec<Vec<f32>>, Vec<u32>) {
    let feed = Set::open(set).unwrap().fit(input, preprocess).unwrap();
    let sample = |index| {
        let mut out = vec![f32::NAN; input.iter().product()];
        feed.read(index, &mut out).unwrap();
        out
    };
    ((0..feed.len()).map(sample).collect(), feed.labels().unwrap_or_default().to_vec())
}

fn why(result: Result<Set, formats::images::Error>) -> String {
    result.map(|set| set.len()).unwrap_err().to_string()
}

#[test]
fn every_form_gives_the_same_samples() {
    let folder = Folder::new();
    let [a, b] = [planes(0), planes(1)].map(|p| p.iter().map(|x| f32::from(*x) / 4.0 - 1.0).collect::<Vec<_>>());
    let want = (vec![a, b], vec![3, 1]);
    let preprocess = Preprocess { scale: 0.5, mean: vec![2.0], std: vec![2.0, 2.0], ..Preprocess::default() };
    let by_planes = [planes(0), planes(1)].concat();
    let by_pixels = [pixels(0), pixels(1)].concat();
    let raw = folder.put("set_x_2x2x2x3_u8.bin", &by_planes);
    folder.put("set_y_2_u8.bin", &[3, 1]);
    assert_eq!(seen(&raw, &SHAPE, &preprocess), want);
    let last = folder.put("last/set_x_2x2x3x2_u8.bin", &by_pixels);
    folder.put("last/set_y_2x1_i64.bin", &[3i64, 1].map(i64::to_le_bytes).concat());
    assert_eq!(seen(last.parent().unwrap(), &SHAPE, &preprocess), want, "a folder with one set, channels last");
    let array = folder.put("test_x.npy", &npy(&[2, 2, 2, 3], &by_planes));
    folder.put("test_y.npy", &npy(&[2, 1], &[3, 1]));
    assert_eq!(seen(&array, &SHAPE, &preprocess), want);
    for name in ["train_images", "x_train"] {
        let path = folder.0.path().join(format!("{name}.npz"));
        let mut archive = npyz::npz::NpzWriter::create(&path).unwrap();
        let labels = if name == "x_train" { "y_train" } else { "train_labels" };
        for (name, shape, numbers) in [(name, vec![2, 2, 2, 3], &by_planes), (labels, vec![2], &vec![3, 1])] {
            let mut writer = archive
                .array::<u8>(name, Default::default())
                .unwrap()
                .default_dtype()
                .shape(&shape)
                .begin_nd()
                .unwrap();
            writer.extend(numbers.iter().copied()).unwrap();
            writer.finish().unwrap();
        }
        drop(archive);
        assert_eq!(seen(Path::new(&format!("{}:train", path.display())), &SHAPE, &preprocess), want);
        assert!(why(Set::open(Path::new(&format!("{}:test", path.display())))).contains(name), "names what is there");
    }
    // A network with channels last.
    let turned = [pixels(0), pixels(1)].map(|p| p.iter().map(|x| f32::from(*x) / 4.0 - 1.0).collect::<Vec<_>>());
    assert_eq!(seen(&raw, &[2, 3, 2], &preprocess).0, turned);
}

#[test]
fn mnist_and_cifar_have_their_labels() {
    let folder = Folder::new();
    let images =
        folder.put("t10k-images-idx3-ubyte.gz", &gzip(&idx(&[2, 2, 3], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])));
    folder.put("t10k-labels-idx1-ubyte.gz", &gzip(&idx(&[2], &[7, 0])));
    let (samples, labels) = seen(&images, &[1, 2, 3], &Preprocess::default());
    assert_eq!((samples[1].as_slice(), &labels[..]), (&[7.0, 8.0, 9.0, 10.0, 11.0, 12.0][..], &[7, 0][..]));
    for (label, fine) in [(&[9][..], 9), (&[1, 73][..], 73)] {
        let record: Vec<u8> = label.iter().copied().chain((0..3072).map(|i| (i / 1024) as u8)).collect();
        let file = folder.put("data.bin", &[record.clone(), record].concat());
        let both = Set::open_all(&[file.clone(), file]).unwrap();
        assert_eq!(both.labels(), Some(&[fine; 4][..]));
        let feed = both.fit(&[3, 32, 32], &Preprocess::default()).unwrap();
        let mut out = vec![0.0; 3072];
        feed.read(3, &mut out).unwrap();
        assert_eq!([out[0], out[1024], out[3071]], [0.0, 1.0, 2.0]);
    }
}

#[test]
fn images_cover_the_input_and_folders_are_classes() {
    let folder = Folder::new();
    let left_to_right = image::RgbImage::from_fn(40, 20, |x, _| image::Rgb([x as u8 * 5, 100, 0]));
    for class in ["cat", "dog"] {
        fs::create_dir_all(folder.0.path().join(class)).unwrap();
        left_to_right.save(folder.0.path().join(class).join("one.png")).unwrap();
    }
    let (samples, labels) = seen(folder.0.path(), &[3, 10, 10], &Preprocess::default());
    assert_eq!(labels, [0, 1]);
    let (first, last) = (samples[0][0], samples[0][9]);
    assert!((50.0..56.0).contains(&first) && (142.0..148.0).contains(&last), "the middle: {first} to {last}");
    assert!(samples[0][100..200].iter().all(|x| *x == 100.0));
    let cropped = Preprocess { crop: 0.5, ..Preprocess::default() };
    let (samples, _) = seen(folder.0.path(), &[10, 10, 3], &cropped);
    assert!((75.0..82.0).contains(&samples[0][0]) && samples[0][1] == 100.0, "{:?}", &samples[0][..3]);
    folder.put("dog/two.png", b"no image");
    let feed = Set::open(folder.0.path()).unwrap().fit(&[3, 10, 10], &cropped).unwrap();
    assert!(feed.read(2, &mut [0.0; 300]).unwrap_err().to_string().contains("two.png"));
    for (class, label) in [("7", 7), ("12", 12)] {
        let numbered = folder.0.path().join("numbered").join(class);
        fs::create_dir_all(&numbered).unwrap();
        left_to_right.save(numbered.join("one.png")).unwrap();
        let set = Set::open(numbered.parent().unwrap()).unwrap();
        assert!(set.labels().unwrap().contains(&label));
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let folder = Folder::new();
    let cifar = |label: u8, cut: usize| {
        let mut bytes = vec![label; 3073];
        bytes.truncate(3073 - cut);
        why(Set::open(&folder.put("c.bin", &bytes)))
    };
    assert!(cifar(3, 1).contains("CIFAR record") && cifar(10, 0).contains("label 10"));
    let claim = why(Set::open(&folder.put("x-images-idx3-ubyte", &idx(&[u32::MAX; 3], &[]))));
    assert!(claim.contains("damaged"), "{claim}");
    assert!(why(Set::open(&folder.put("a-idx3-ubyte", b"\0\0\x0d\x03aaaa"))).contains("magic"));
    assert!(why(Set::open(&folder.put("n.npy", &npy(&[3], &[1, 2, 3])[..20]))).contains("cut short"));
    folder.put("m_y_3_u8.bin", &[0; 3]);
    assert!(why(Set::open(&folder.put("m_x_2x2_u8.bin", &[0; 4]))).contains("3 labels for 2"));
    assert!(why(Set::open(&folder.put("notes.txt", b""))).contains("no set of samples"));
    let set = || Set::open(&folder.put("k_x_2x4x5_f32.bin", &[0; 160])).unwrap();
    let fit =
        |input: &[usize], preprocess: &Preprocess| set().fit(input, preprocess).map(|_| ()).unwrap_err().to_string();
    assert!(fit(&[1, 5, 4], &Preprocess::default()).contains("[4, 5]"));
    assert!(fit(&[1, 4, 5], &Preprocess { std: vec![0.0], ..Preprocess::default() }).contains("std"));
    assert!(fit(&[1, 4, 5], &Preprocess { mean: vec![0.0; 3], ..Preprocess::default() }).contains("3 numbers"));
    assert!(fit(&[1, 4, 5], &Preprocess { layout: Some(Layout::Nhwc), ..Preprocess::default() }).contains("layout"));
}

proptest! {
    #[test]
    fn damaged_bytes_never_panic(kind in 0..5usize, at in 0..400usize, to: u8, cut in 0..400usize) {
        let folder = Folder::new();
        let array = npy(&[2, 2], &[1, 2, 3, 4]);
        let (name, mut bytes) = [
            ("x.npy", array),
            ("x-images-idx3-ubyte", idx(&[2, 2, 1], &[1, 2, 3, 4])),
            ("x-images-idx3-ubyte.gz", gzip(&idx(&[2, 2, 1], &[1, 2, 3, 4]))),
            ("x.npz", {
                let mut bytes = std::io::Cursor::new(Vec::new());
                let mut archive = npyz::npz::NpzWriter::new(&mut bytes);
                let mut writer =
                    archive.array::<u8>("x", Default::default()).unwrap().default_dtype().shape(&[2]).begin_nd().unwrap();
                writer.extend([1u8, 2]).unwrap();
                writer.finish().unwrap();
                drop(archive);
                bytes.into_inner()
            }),
            ("x.bin", vec![1; 400]),
        ].into_iter().nth(kind).unwrap();
        let len = bytes.len();
        bytes[at % len] = to;
        bytes.truncate(len - cut % len);
        if let Ok(set) = Set::open(&folder.put(name, &bytes)) {
            prop_assert!(set.len() <= 1 << 20);
        }
    }
}
