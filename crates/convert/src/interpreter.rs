//! Plain loops that run exported files in tests, and the models that are exported.

use std::collections::BTreeMap;

use wdsr_model::{Model, NetworkConfig, Upscaler, WeightFormat};

/// `[channels, height, width]`, row-major.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) shape: [usize; 3],
    pub(crate) data: Vec<f32>,
}

impl Tensor {
    /// The sample, zero outside the image.
    pub(crate) fn at(&self, c: usize, y: isize, x: isize) -> f32 {
        let [_, h, w] = self.shape.map(|side| side as isize);
        if (0..h).contains(&y) && (0..w).contains(&x) {
            self.data[((c as isize * h + y) * w + x) as usize]
        } else {
            0.0
        }
    }

    pub(crate) fn from_fn(shape: [usize; 3], f: impl Fn(usize, usize, usize) -> f32) -> Self {
        let mut data = Vec::with_capacity(shape.iter().product());
        for c in 0..shape[0] {
            for y in 0..shape[1] {
                for x in 0..shape[2] {
                    data.push(f(c, y, x));
                }
            }
        }
        Self { shape, data }
    }

    pub(crate) fn map(&self, f: impl Fn(f32) -> f32) -> Self {
        Self {
            shape: self.shape,
            data: self.data.iter().map(|&v| f(v)).collect(),
        }
    }

    pub(crate) fn zip(&self, other: &Self, f: impl Fn(f32, f32) -> f32) -> Self {
        assert_eq!(self.shape, other.shape, "operands");
        let pairs = self.data.iter().zip(&other.data);
        Self {
            shape: self.shape,
            data: pairs.map(|(&a, &b)| f(a, b)).collect(),
        }
    }

    /// Its channels, and then those of the other.
    pub(crate) fn concat(&self, other: &Self) -> Self {
        assert_eq!(self.shape[1..], other.shape[1..], "operands");
        let [first, second] = [self, other].map(|tensor| tensor.shape[0]);
        let data = [&self.data[..], &other.data].concat();
        Self {
            shape: [first + second, self.shape[1], self.shape[2]],
            data,
        }
    }

    /// With a slope for each channel.
    pub(crate) fn prelu(&self, slopes: &[f32]) -> Self {
        assert_eq!(slopes.len(), self.shape[0], "slopes");
        let slopes = Self::from_fn(self.shape, |c, _, _| slopes[c]);
        self.zip(&slopes, |v, slope| if v < 0.0 { slope * v } else { v })
    }

    /// Bilinear interpolation between the centres of pixels.
    pub(crate) fn enlarge(&self, scale: usize) -> Self {
        let [channels, height, width] = self.shape;
        let place = |at: usize, len: usize| {
            let place = (at as f64 + 0.5) / scale as f64 - 0.5;
            place.clamp(0.0, (len - 1) as f64)
        };
        Self::from_fn([channels, height * scale, width * scale], |c, y, x| {
            let (y, x) = (place(y, height), place(x, width));
            let mut sum = 0.0;
            for (row, by_row) in [(y.floor(), 1.0 - y.fract()), (y.ceil(), y.fract())] {
                for (column, by_column) in [(x.floor(), 1.0 - x.fract()), (x.ceil(), x.fract())] {
                    let pixel = f64::from(self.at(c, row as isize, column as isize));
                    sum += by_row * by_column * pixel;
                }
            }
            sum as f32
        })
    }

    /// With zero padding of `padding` on each side; weight `[out, channels, kernel, kernel]`.
    pub(crate) fn convolve(
        &self,
        weight: &[f32],
        bias: &[f32],
        kernel: usize,
        padding: usize,
    ) -> Self {
        let [channels, height, width] = self.shape;
        let out = bias.len();
        assert_eq!(
            weight.len(),
            out * channels * kernel * kernel,
            "weights of {out} from {channels} channels"
        );
        let side = |side: usize| side + 2 * padding + 1 - kernel;
        let padding = padding as isize;
        Self::from_fn([out, side(height), side(width)], |o, y, column| {
            let mut sum = f64::from(bias[o]);
            for i in 0..channels {
                for ky in 0..kernel {
                    for kx in 0..kernel {
                        let (sy, sx) = ((y + ky) as isize, (column + kx) as isize);
                        let factor = weight[((o * channels + i) * kernel + ky) * kernel + kx];
                        sum +=
                            f64::from(factor) * f64::from(self.at(i, sy - padding, sx - padding));
                    }
                }
            }
            sum as f32
        })
    }

    /// Channel = (colour * block + dy) * block + dx, as PyTorch's `PixelShuffle`.
    pub(crate) fn pixel_shuffle(&self, block: usize) -> Self {
        let [channels, height, width] = self.shape;
        let shape = [channels / (block * block), height * block, width * block];
        Self::from_fn(shape, |c, y, column| {
            let channel = (c * block + y % block) * block + column % block;
            self.at(channel, (y / block) as isize, (column / block) as isize)
        })
    }
}

/// Networks of every kind and scale.
pub(crate) fn configs() -> Vec<NetworkConfig> {
    vec![
        NetworkConfig::wdsr_b(5, 2, 2),
        NetworkConfig::wdsr_a(4, 1, 3),
        NetworkConfig {
            residual_scale: 0.1,
            mean: [0.5, 0.25, 0.125],
            ..NetworkConfig::wdsr_a(3, 2, 4)
        },
        NetworkConfig::edsr(4, 2, 4),
        NetworkConfig::edsr(3, 1, 3),
        NetworkConfig::wdsr_b(5, 1, 1),
        NetworkConfig::edsr(3, 0, 8),
        NetworkConfig::compact(5, 2, 4),
        NetworkConfig::compact(4, 1, 1),
        NetworkConfig::msr_resnet(4, 1, 4),
        NetworkConfig::msr_resnet(3, 2, 3),
        NetworkConfig {
            growth: 3,
            ..NetworkConfig::rrdb(4, 2, 4)
        },
        NetworkConfig {
            growth: 2,
            ..NetworkConfig::rrdb(3, 1, 1)
        },
    ]
}

/// A model with random weights and a note.
pub(crate) fn model(config: &NetworkConfig) -> Model {
    let random = Model::random(config, 1);
    let notes = BTreeMap::from([("trained".to_owned(), "never".to_owned())]);
    Model::new(config, random.convs().to_vec(), notes)
}

/// Largest difference between the outputs of `run` and of the upscaler for noise in 0..1.
pub(crate) fn difference(model: &Model, run: impl FnOnce(Tensor) -> Tensor) -> f32 {
    let (width, height) = (7, 5);
    let pixels = wdsr_testing::random::units(3 * width * height, 1);
    let input = Tensor::from_fn([3, height, width], |c, y, x| {
        pixels[3 * (y * width + x) + c]
    });
    let output = run(input);
    let scale = model.config().scale;
    assert_eq!(output.shape, [3, height * scale, width * scale], "output");
    let expected = Upscaler::new(model)
        .expect("an instruction set")
        .upscale(&pixels, width, height)
        .expect("an image");
    let mut largest = 0.0_f32;
    for (at, expected) in expected.into_iter().enumerate() {
        let (pixel, c) = (at / 3, at % 3);
        let (y, x) = (pixel / (width * scale), pixel % (width * scale));
        largest = largest.max((output.at(c, y as isize, x as isize) - expected).abs());
    }
    largest
}

/// Checks `largest`, the largest difference between an exported file and the upscaler, for each
/// network: rounding errors in float32, the rounding of weights in float16.
pub(crate) fn check_formats(largest: impl Fn(&NetworkConfig, WeightFormat) -> f32) {
    for config in configs() {
        let name = config.label();
        let float32 = largest(&config, WeightFormat::F32);
        assert!(float32 <= 1e-5, "{name} in float32: {float32}");
        let float16 = largest(&config, WeightFormat::F16);
        assert!(
            (1e-7..=2e-3).contains(&float16),
            "{name} in float16: {float16}"
        );
    }
}
