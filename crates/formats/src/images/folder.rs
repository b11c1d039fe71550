//! Folders of images, one folder for each class: JPEG and PNG. Classes are numbered in the order of the folders' names, as
//! torchvision does, or by the names themselves where all are numbers.
//!
//! An image is scaled until it covers the network's input, by area (a triangle filter, as Pillow's bilinear), and cut in the middle.

use super::{Problem, Stored};
use image::imageops::FilterType;
use image::{DynamicImage, ImageReader, Limits};
use std::path::{Path, PathBuf};

/// Sides of the largest image that is decoded.
const SIDE: u32 = 1 << 14;

pub(super) fn open(path: &Path) -> Result<(Stored, Option<Vec<u32>>), Problem> {
    let classes: Vec<PathBuf> = entries(path)?.into_iter().filter(|p| p.is_dir()).collect();
    let name = |p: &PathBuf| p.file_name().and_then(|n| n.to_str()?.parse::<u32>().ok());
    let numbers: Option<Vec<u32>> = classes.iter().map(name).collect();
    let (mut files, mut labels) = (Vec::new(), Vec::new());
    for (class, folder) in classes.iter().enumerate() {
        let images = entries(folder)?.into_iter().filter(|file| is_image(file));
        let label = numbers.as_ref().and_then(|n| n.get(class).copied()).unwrap_or(class as u32);
        files.extend(images);
        labels.resize(files.len(), label);
    }
    if files.is_empty() {
        // Without classes: images to calibrate on.
        files = entries(path)?.into_iter().filter(|file| is_image(file)).collect();
        return Ok((Stored::Files(files), None));
    }
    Ok((Stored::Files(files), Some(labels)))
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    matches!(extension.as_deref(), Some("jpg" | "jpeg" | "png"))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let entries = std::fs::read_dir(folder).map_err(Problem::Io)?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    Ok(paths)
}

/// The pixels of an image, rows of pixels of `channels` bytes, cut to height and width. `crop` is the share of the shorter side
/// that is seen.
pub(super) fn pixels(path: &Path, channels: usize, [height, width]: [usize; 2], crop: f64) -> Result<Vec<u8>, Problem> {
    let mut reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(Problem::Io)?;
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(SIDE), Some(SIDE));
    reader.limits(limits);
    let image = cover(&reader.decode().map_err(Problem::Image)?, [height, width], crop);
    Ok(if channels == 1 { image.to_luma8().into_raw() } else { image.to_rgb8().into_raw() })
}

fn cover(image: &DynamicImage, [height, width]: [usize; 2], crop: f64) -> DynamicImage {
    let (have_w, have_h) = (f64::from(image.width().max(1)), f64::from(image.height().max(1)));
    let scale = (width as f64 / have_w).max(height as f64 / have_h) / crop;
    let (w, h) = ((have_w * scale).round().max(width as f64), (have_h * scale).round().max(height as f64));
    let scaled = image.resize_exact(w as u32, h as u32, FilterType::Triangle);
    let (left, top) = (((w - width as f64) / 2.0).round(), ((h - height as f64) / 2.0).round());
    scaled.crop_imm(left as u32, top as u32, width as u32, height as u32)
}
