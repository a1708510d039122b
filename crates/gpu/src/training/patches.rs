//! Patches that the device cuts from 8-bit images in its memory, turns, and writes as the network's input and the loss's target.
//!
//! The images stay there through the training if they fit; patches that the processor has made come as images of one patch each.

use std::sync::Arc;

use wdsr_model::DeviceError;
use wdsr_train::dataset::{DrawnBatch, DrawnPatch, PatchPixels, PatchPlace};
use wgpu::BufferUsages;

use super::CompiledStep;
use super::kernels::{each, each_main, workgroups};
use crate::gpu::Open;

/// Most bytes of a buffer of images: places in it are numbers of 32 bits, and large ones may be refused.
const MAX_BUFFER_BYTES: u64 = 1 << 30;

/// Bytes that are copied before the device is waited for. Until then the program has a second copy.
const COPIED_BYTES: u64 = 64 << 20;

/// Levels of a sample.
const LEVELS: usize = 256;

/// Numbers of a patch's place: its buffer, the first byte of its pixels in low and in high resolution, the width of the
/// low-resolution image, and how it is turned.
const PLACE_LEN: usize = 5;

/// The buffer of patches that the processor has made. Those of images follow.
const MADE: u32 = 0;

/// Shapes of a batch.
#[derive(Clone, Copy)]
pub(super) struct PatchShape {
    pub(super) count: usize,
    pub(super) low_px: usize,
    pub(super) scale: usize,
    pub(super) mean: [f32; 3],
}

impl PatchShape {
    /// Bytes of a patch, low and high.
    fn bytes(self) -> [usize; 2] {
        [self.low_px, self.low_px * self.scale].map(|side| 3 * side * side)
    }

    /// The kernel that writes the patches of one buffer.
    fn text(self, buffer: u32) -> String {
        let Self {
            count,
            low_px,
            scale,
            mean: [red, green, blue],
        } = self;
        let high_px = low_px * scale;
        let low = count * low_px * low_px;
        let pixels = low + count * high_px * high_px;
        format!(
            "@group(0) @binding(1) var<storage, read> images: array<u32>;
@group(0) @binding(2) var<storage, read> places: array<u32>;
@group(0) @binding(3) var<storage, read_write> input: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> target_samples: array<f32>;
fn level(at: u32) -> f32 {{
  return bitcast<f32>(places[images[at / 4u] >> (at % 4u * 8u) & 255u]);
}}
{main}{each}    let is_low = i < {low}u;
    let pixel = select(i - {low}u, i, is_low);
    let side = select({high_px}u, {low_px}u, is_low);
    let patch_index = pixel / (side * side);
    let place = {LEVELS}u + patch_index * {PLACE_LEN}u;
    if (places[place] != {buffer}u) {{ continue; }}
    let in_patch = pixel % (side * side);
    var at = vec2<u32>(in_patch % side, in_patch / side);
    let turn = places[place + 4u];
    if ((turn & 4u) != 0u) {{ at = at.yx; }}
    if ((turn & 1u) != 0u) {{ at.x = side - 1u - at.x; }}
    if ((turn & 2u) != 0u) {{ at.y = side - 1u - at.y; }}
    let width = places[place + 3u] * select({scale}u, 1u, is_low);
    let first = places[place + select(2u, 1u, is_low)] + 3u * (at.y * width + at.x);
    let colour = vec3<f32>(level(first), level(first + 1u), level(first + 2u));
    if (is_low) {{
      input[pixel] = vec4<f32>(colour - vec3<f32>({red:e}, {green:e}, {blue:e}), 0.0);
    }} else {{
      for (var channel = 0u; channel < 3u; channel++) {{
        target_samples[(patch_index * 3u + channel) * {area}u + in_patch] = colour[channel];
      }}
    }}
  }}
}}
",
            main = each_main(),
            each = each(pixels),
            area = high_px * high_px,
        )
    }

    fn workgroups(self) -> [u32; 3] {
        let [low, high] = self.bytes();
        workgroups(self.count * (low + high) / 3)
    }
}

/// Cuts the patches of each update.
pub(super) struct PatchCutter {
    open: Arc<Open>,
    shape: PatchShape,
    input: wgpu::Buffer,
    target: wgpu::Buffer,
    /// The levels, 0..1, and then the place of each patch.
    places: wgpu::Buffer,
    /// The patches that the processor has made.
    made: wgpu::Buffer,
    images: Vec<wgpu::Buffer>,
    places_of_images: Vec<ImagePlace>,
    /// The kernel of `made`, and of each buffer of images.
    kernels: Vec<CompiledStep>,
}

/// Where the pixels of an image are.
#[derive(Clone, Copy)]
struct ImagePlace {
    buffer: usize,
    low_at: u64,
    low_size_px: [usize; 2],
}

impl ImagePlace {
    fn low_bytes(self) -> u64 {
        let [width, height] = self.low_size_px;
        3 * (width * height) as u64
    }
}

impl PatchCutter {
    pub(super) fn new(
        open: &Arc<Open>,
        shape: PatchShape,
        input: &wgpu::Buffer,
        target: &wgpu::Buffer,
    ) -> Result<Self, DeviceError> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let made_bytes = shape.count * shape.bytes().iter().sum::<usize>();
        let levels: Vec<f32> = (0..LEVELS).map(|level| level as f32 / 255.0).collect();
        let [places, made] = open.checked(|| {
            let places = open.buffer(4 * (LEVELS + PLACE_LEN * shape.count) as u64, usage);
            open.queue
                .write_buffer(&places, 0, bytemuck::cast_slice(&levels));
            [
                places,
                open.buffer(made_bytes.next_multiple_of(4) as u64, usage),
            ]
        })?;
        let mut cutter = Self {
            open: Arc::clone(open),
            shape,
            input: input.clone(),
            target: target.clone(),
            places,
            made,
            images: Vec::new(),
            places_of_images: Vec::new(),
            kernels: Vec::new(),
        };
        cutter.kernels.push(cutter.kernel(MADE, &cutter.made)?);
        Ok(cutter)
    }

    /// The kernel that cuts from a buffer.
    fn kernel(&self, number: u32, pixels: &wgpu::Buffer) -> Result<CompiledStep, DeviceError> {
        let bound = [pixels, &self.places, &self.input, &self.target];
        let entries = (1..)
            .zip(bound)
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.as_entire_binding(),
            });
        let entries: Vec<_> = entries.collect();
        let (text, groups) = (self.shape.text(number), self.shape.workgroups());
        CompiledStep::new(&self.open, &text, &entries, groups, 0)
    }

    /// Reserves buffers for images, of which the sizes in low resolution are given. Returns whether there is memory for them.
    pub(super) fn reserve(&mut self, low_sizes_px: &[(usize, usize)]) -> Result<bool, DeviceError> {
        self.reserve_up_to(low_sizes_px, MAX_BUFFER_BYTES)
    }

    /// Reserves buffers of a limited size.
    fn reserve_up_to(
        &mut self,
        low_sizes_px: &[(usize, usize)],
        max_bytes: u64,
    ) -> Result<bool, DeviceError> {
        let max_bytes = self.open.max_buffer_bytes.min(max_bytes);
        let scale = (self.shape.scale * self.shape.scale) as u64;
        let mut buffers: Vec<u64> = Vec::new();
        let mut places = Vec::new();
        for &(width, height) in low_sizes_px {
            let mut place = ImagePlace {
                buffer: 0,
                low_at: 0,
                low_size_px: [width, height],
            };
            // What is copied starts and ends at a multiple of four.
            let bytes = (place.low_bytes() * (1 + scale)).next_multiple_of(4);
            if bytes > max_bytes {
                return Ok(false);
            }
            match buffers.last_mut() {
                Some(last) if *last + bytes <= max_bytes => {
                    place.low_at = *last;
                    *last += bytes;
                }
                _ => buffers.push(bytes),
            }
            place.buffer = buffers.len() - 1;
            places.push(place);
        }
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let reserved = self.open.checked(|| {
            let buffers = buffers.iter().map(|&bytes| self.open.buffer(bytes, usage));
            buffers.collect::<Vec<_>>()
        });
        let reserved = match reserved {
            Err(DeviceError::OutOfMemory { .. }) => return Ok(false),
            reserved => reserved?,
        };
        for (buffer, number) in reserved.iter().zip(MADE + 1..) {
            self.kernels.push(self.kernel(number, buffer)?);
        }
        (self.images, self.places_of_images) = (reserved, places);
        Ok(true)
    }

    /// Copies an image into its buffer.
    pub(super) fn write(&self, image: usize, pixels: &PatchPixels) -> Result<(), DeviceError> {
        let place = self.places_of_images[image];
        assert_eq!(
            (pixels.low.len() as u64, pixels.high.len()),
            (
                place.low_bytes(),
                pixels.low.len() * self.shape.scale * self.shape.scale
            ),
            "bytes of image {image}, low and high"
        );
        let bytes = padded([&pixels.low[..], &pixels.high].concat());
        let written = place.low_at % COPIED_BYTES + bytes.len() as u64;
        self.open.checked(|| {
            let buffer = &self.images[place.buffer];
            self.open.queue.write_buffer(buffer, place.low_at, &bytes);
        })?;
        if written < COPIED_BYTES {
            return Ok(());
        }
        let submission = self.open.checked(|| self.open.queue.submit([]))?;
        self.open.wait(submission)
    }

    /// Copies what an update needs of the program, within [`Open::checked`]. Returns the kernels that cut its patches.
    ///
    /// # Panics
    /// If the number or the size of the patches is not that of the training.
    pub(super) fn start(&self, batch: &DrawnBatch) -> Vec<&CompiledStep> {
        assert_eq!(batch.patches.len(), self.shape.count, "patches of a batch");
        let (mut places, mut made) = (Vec::<u32>::new(), Vec::<u8>::new());
        let mut is_used = vec![false; self.kernels.len()];
        for patch in &batch.patches {
            let place = match patch {
                DrawnPatch::Place(place) => self.place(place),
                DrawnPatch::Pixels(pixels) => {
                    assert_eq!(
                        [pixels.low.len(), pixels.high.len()],
                        self.shape.bytes(),
                        "bytes of a patch, low and high, and of the training's"
                    );
                    let low_at = made.len();
                    made.extend_from_slice(&pixels.low);
                    let high_at = made.len();
                    made.extend_from_slice(&pixels.high);
                    [
                        MADE,
                        low_at as u32,
                        high_at as u32,
                        self.shape.low_px as u32,
                        0,
                    ]
                }
            };
            is_used[place[0] as usize] = true;
            places.extend(place);
        }
        let queue = &self.open.queue;
        queue.write_buffer(
            &self.places,
            4 * LEVELS as u64,
            bytemuck::cast_slice(&places),
        );
        if !made.is_empty() {
            queue.write_buffer(&self.made, 0, &padded(made));
        }
        let kernels = self.kernels.iter().zip(is_used);
        kernels
            .filter_map(|(kernel, is)| is.then_some(kernel))
            .collect()
    }

    /// The numbers of a patch of an image.
    fn place(&self, place: &PatchPlace) -> [u32; PLACE_LEN] {
        let image = self.places_of_images[place.image];
        let ([width, _], scale) = (image.low_size_px, self.shape.scale);
        let first = |x: usize, y: usize, width: usize| 3 * (y * width + x) as u64;
        let low_at = image.low_at + first(place.x, place.y, width);
        let high_at = image.low_at
            + image.low_bytes()
            + first(place.x * scale, place.y * scale, width * scale);
        [
            MADE + 1 + image.buffer as u32,
            low_at as u32,
            high_at as u32,
            width as u32,
            place.orientation.bits().into(),
        ]
    }
}

/// Bytes to copy: a multiple of four.
fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use wdsr_testing::random;
    use wdsr_train::dataset::Orientation;

    use super::*;
    use crate::plan::tests::validate;

    #[test]
    fn kernels_are_valid() {
        for (count, low_px, scale) in [(1, 5, 1), (16, 64, 2), (3, 7, 3)] {
            let mean = [0.5; 3];
            let shape = PatchShape {
                count,
                low_px,
                scale,
                mean,
            };
            validate(&shape.text(2));
        }
    }

    /// Images in one buffer and in several, and patches that are made beside patches that are cut, in all orientations.
    #[test]
    #[ignore = "needs a driver of a GPU: .ci/run gpu"]
    fn patches_are_cut_and_turned_to_the_bit() {
        let gpu = crate::Gpu::open(crate::Choice::Index(0)).expect("an adapter");
        let open = gpu.current().expect("open");
        let sizes = [(23, 9), (9, 31), (12, 12)];
        for (low_px, scale, max_bytes) in
            [(9, 2, 1 << 20), (7, 3, 9000), (8, 1, 1700), (5, 4, 15_000)]
        {
            let label = format!("{low_px} px, x{scale}, buffers of {max_bytes}");
            let shape = PatchShape {
                count: 11,
                low_px,
                scale,
                mean: [0.25, 0.5, 0.125],
            };
            let bytes = |floats: usize| 4 * floats as u64;
            let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
            let [low, high] = shape.bytes().map(|bytes| bytes / 3 * shape.count);
            let [input, target] = [4 * low, 3 * high].map(|len| open.buffer(bytes(len), usage));
            let mut cutter = PatchCutter::new(&open, shape, &input, &target).expect("a cutter");
            assert!(!cutter.reserve_up_to(&sizes, 1000).expect("reserved"));
            assert!(cutter.reserve_up_to(&sizes, max_bytes).expect("reserved"));
            assert_eq!(cutter.images.len() > 1, max_bytes < 1 << 20, "{label}");
            let pixels = |width: usize, height: usize, seed: u64| PatchPixels {
                low: random::bytes(3 * width * height, seed),
                high: random::bytes(3 * width * height * scale * scale, seed + 1),
            };
            let images: Vec<_> = (sizes.iter().zip(0..))
                .map(|(&(width, height), at)| pixels(width, height, 2 * at))
                .collect();
            for (at, image) in images.iter().enumerate() {
                cutter.write(at, image).expect("written");
            }
            let patch = |at: usize| match at {
                2 | 9 => DrawnPatch::Pixels(pixels(low_px, low_px, 100 + 2 * at as u64)),
                _ => DrawnPatch::Place(PatchPlace {
                    image: at % 3,
                    x: at % (sizes[at % 3].0 - low_px + 1),
                    y: at * 5 % (sizes[at % 3].1 - low_px + 1),
                    orientation: Orientation::from_bits((at % 8) as u8),
                }),
            };
            let batch = DrawnBatch {
                patches: (0..shape.count).map(patch).collect(),
                strength: None,
            };
            let submission = open.checked(|| {
                let kernels = cutter.start(&batch);
                let mut encoder = open.device.create_command_encoder(&Default::default());
                let mut pass = encoder.begin_compute_pass(&Default::default());
                kernels.iter().for_each(|kernel| kernel.dispatch(&mut pass));
                drop(pass);
                open.queue.submit([encoder.finish()])
            });
            open.wait(submission.expect("submitted")).expect("done");
            let [input, target] = [input, target].map(|buffer| {
                let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
                let read = open.buffer(buffer.size(), usage);
                let count = buffer.size() as usize / 4;
                open.numbers(&buffer, &read, count).expect("read")
            });
            for (at, patch) in batch.patches.iter().enumerate() {
                let (pixels, width, x, y, turn) = match patch {
                    DrawnPatch::Pixels(pixels) => (pixels, low_px, 0, 0, 0),
                    DrawnPatch::Place(place) => {
                        let image = &images[place.image];
                        let width = sizes[place.image].0;
                        (image, width, place.x, place.y, place.orientation.bits())
                    }
                };
                for (samples, scale, is_low) in
                    [(&pixels.low, 1, true), (&pixels.high, scale, false)]
                {
                    let side = low_px * scale;
                    for (row, column) in (0..side * side).map(|i| (i / side, i % side)) {
                        let (mut dx, mut dy) = match turn & 4 {
                            0 => (column, row),
                            _ => (row, column),
                        };
                        if turn & 1 != 0 {
                            dx = side - 1 - dx;
                        }
                        if turn & 2 != 0 {
                            dy = side - 1 - dy;
                        }
                        for channel in 0..3 {
                            let from = 3 * ((y * scale + dy) * width * scale + x * scale + dx);
                            let level = f32::from(samples[from + channel]) / 255.0;
                            let in_patch = row * side + column;
                            let (found, expected) = match is_low {
                                true => (
                                    input[4 * (at * side * side + in_patch) + channel],
                                    level - shape.mean[channel],
                                ),
                                false => {
                                    (target[(at * 3 + channel) * side * side + in_patch], level)
                                }
                            };
                            assert_eq!(
                                found, expected,
                                "{label}, patch {at}, row {row}, column {column}, low {is_low}"
                            );
                        }
                    }
                }
            }
        }
    }
}
