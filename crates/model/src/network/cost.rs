//! Parameters, multiply-adds and the receptive radius of a network.

use super::{Conv, Network, Operation};

impl Network {
    /// Weights and biases of the convolutions, and slopes of PReLUs.
    pub fn parameters(&self) -> usize {
        let of_conv = |conv: &Conv| conv.weights() + conv.out_channels + conv.slope_count();
        self.convs.iter().map(of_conv).sum()
    }

    /// Gains of weight normalisation in training, one for each output channel of each convolution.
    /// The counts in the READMEs of WDSR implementations include them.
    pub fn gains(&self) -> usize {
        self.convs.iter().map(|conv| conv.out_channels).sum()
    }

    /// Multiply-adds for each pixel of the input.
    pub fn multiply_adds_per_pixel(&self) -> usize {
        self.conv_multiply_adds_per_pixel().iter().sum()
    }

    /// Multiply-adds of each convolution, in the order of `convs`, for each pixel of the input.
    pub fn conv_multiply_adds_per_pixel(&self) -> Vec<usize> {
        let mut multiply_adds = vec![0; self.convs.len()];
        for operation in &self.operations {
            if let Operation::Conv { conv, output, .. } = *operation {
                multiply_adds[conv] = self.convs[conv].weights() * self.shape(output).scale.pow(2);
            }
        }
        multiply_adds
    }

    /// Multiply-adds for an output of the given size; published figures are for 1280 x 720.
    pub fn multiply_adds(&self, output_width_px: u64, output_height_px: u64) -> u64 {
        let scale = self.config.scale as u64;
        let per_pixel = self.multiply_adds_per_pixel() as u64;
        per_pixel * output_width_px * output_height_px / (scale * scale)
    }

    /// Pixels of the low-resolution image on each side of a pixel that its output depends on: the
    /// halo that makes a tile's output equal the whole image's. WDSR-A: 2 N + 2, WDSR-B: N + 2.
    pub fn receptive_radius_px(&self) -> usize {
        // Radius of each value in input pixels. A convolution at scale s reaches 1/s as far; rounding
        // up covers a pixel's offset within its input pixel.
        let mut radius = vec![0.0_f64; self.values.len()];
        for operation in &self.operations {
            match *operation {
                Operation::Conv {
                    conv,
                    input,
                    output,
                    ..
                } => {
                    let reach = (self.convs[conv].kernel / 2) as f64;
                    radius[output.0] = radius[input.0] + reach / self.shape(input).scale as f64;
                }
                Operation::BatchNorm { input, output, .. } => radius[output.0] = radius[input.0],
                Operation::Add {
                    branch,
                    identity,
                    output,
                    ..
                } => {
                    radius[output.0] = radius[branch.0].max(radius[identity.0]);
                }
                Operation::Concat {
                    first,
                    second,
                    output,
                } => {
                    radius[output.0] = radius[first.0].max(radius[second.0]);
                }
                Operation::Enlarge { input, output, .. } => {
                    radius[output.0] = radius[input.0] + 1.0;
                }
                Operation::PixelShuffle { input, output, .. }
                | Operation::Repeat { input, output, .. } => radius[output.0] = radius[input.0],
            }
        }
        radius[self.output.0].ceil() as usize
    }
}

#[cfg(test)]
mod tests {
    use crate::config::NetworkConfig;
    use crate::network::Network;

    #[test]
    fn parameters_and_multiply_adds_are_as_published() {
        // Parameters as the model runs, with gains of weight normalisation; multiply-adds per
        // low-resolution pixel, and in 10^8 for an output of 1280 x 720.
        for (config, parameters, with_gains, multiply_adds, at_720p) in [
            (NetworkConfig::wdsr_a(32, 1, 2), 79_164, 79_380, 78_948, 182),
            (
                NetworkConfig::wdsr_a(32, 3, 2),
                226_940,
                227_476,
                226_404,
                522,
            ),
            (
                NetworkConfig::wdsr_a(32, 5, 2),
                374_716,
                375_572,
                373_860,
                861,
            ),
            (
                NetworkConfig::wdsr_a(32, 8, 2),
                596_380,
                597_716,
                595_044,
                1371,
            ),
            (
                NetworkConfig::wdsr_a(32, 16, 2),
                1_187_484,
                1_190_100,
                1_184_868,
                2730,
            ),
            (
                NetworkConfig::wdsr_a(32, 16, 3),
                1_192_959,
                1_195_605,
                1_190_313,
                1219,
            ),
            (
                NetworkConfig::wdsr_a(32, 16, 4),
                1_200_624,
                1_203_312,
                1_197_936,
                690,
            ),
            (
                NetworkConfig::wdsr_b(32, 8, 2),
                152_420,
                154_468,
                150_372,
                346,
            ),
            (
                NetworkConfig::wdsr_b(32, 8, 4),
                165_560,
                167_680,
                163_440,
                94,
            ),
            (
                NetworkConfig::wdsr_b(32, 16, 2),
                299_564,
                303_604,
                295_524,
                681,
            ),
            (
                NetworkConfig::wdsr_b(32, 16, 4),
                312_704,
                316_816,
                308_592,
                178,
            ),
            (
                NetworkConfig::wdsr_b(32, 32, 2),
                593_852,
                601_876,
                585_828,
                1350,
            ),
            (
                NetworkConfig::wdsr_b(32, 32, 4),
                606_992,
                615_088,
                598_896,
                345,
            ),
            (
                NetworkConfig::wdsr_b(64, 16, 2),
                1_194_188,
                1_202_260,
                1_186_116,
                2733,
            ),
            (
                NetworkConfig::edsr(64, 16, 2),
                1_369_859,
                1_372_294,
                1_372_608,
                3163,
            ),
            // realesr-animevideov3 and realesr-general-x4v3: 621,424 and 1,213,296 parameters.
            (
                NetworkConfig::compact(64, 16, 4),
                621_424,
                622_560,
                619_200,
                357,
            ),
            (
                NetworkConfig::compact(64, 32, 4),
                1_213_296,
                1_215_456,
                1_209_024,
                696,
            ),
        ] {
            let network = Network::new(&config);
            let label = config.label();
            assert_eq!(network.parameters(), parameters, "{label}");
            assert_eq!(
                network.parameters() + network.gains(),
                with_gains,
                "{label}"
            );
            assert_eq!(network.multiply_adds_per_pixel(), multiply_adds, "{label}");
            let hundred_millions = network.multiply_adds(1280, 720) as f64 / 1e8;
            assert!(
                (hundred_millions - f64::from(at_720p)).abs() <= 1.0,
                "{label}: {hundred_millions}, published {at_720p}"
            );
        }
        // 24 of the published counts are EDSR-PyTorch's frozen MeanShift convolutions.
        assert_eq!(
            Network::new(&NetworkConfig::edsr(64, 16, 2)).parameters(),
            1_369_883 - 24
        );
        assert_eq!(
            Network::new(&NetworkConfig::edsr(64, 16, 4)).parameters(),
            1_517_595 - 24
        );
    }

    #[test]
    fn rrdb_has_the_parameters_of_its_published_files() {
        // RealESRGAN_x4plus and RealESRGAN_x4plus_anime_6B.
        for (blocks, parameters) in [(23, 16_697_987), (6, 4_467_779)] {
            let network = Network::new(&NetworkConfig::rrdb(64, blocks, 4));
            assert_eq!(network.parameters(), parameters);
        }
    }

    #[test]
    fn receptive_radius_follows_from_the_blocks() {
        for blocks in [1, 8, 16] {
            let radius = |config| Network::new(&config).receptive_radius_px();
            assert_eq!(radius(NetworkConfig::wdsr_a(32, blocks, 2)), 2 * blocks + 2);
            assert_eq!(radius(NetworkConfig::wdsr_b(32, blocks, 3)), blocks + 2);
        }
    }
}
