use wdsr_eval::*;
use wdsr_picture::imresize::*;
#[test]
fn measure() {
    for set in ["Set5", "Set14", "B100", "Kodak24"] {
        for scale in [2, 3, 4] {
            let pairs = find_pairs(
                &std::path::Path::new("/work/shared/data/test").join(set),
                scale,
                Track::Bicubic,
            )
            .unwrap();
            let mut s = [0.0; 4];
            for pair in &pairs {
                let p = pair.load().unwrap();
                let (w, h) = p.high_size_px();
                for (i, r) in [Rounding::EightBitPasses, Rounding::None]
                    .into_iter()
                    .enumerate()
                {
                    let up = imresize_u8_rounded(
                        &p.low,
                        p.low_width_px,
                        p.low_height_px,
                        3,
                        scale as f64,
                        r,
                    )
                    .pixels;
                    for (j, g) in [false, p.grey].into_iter().enumerate() {
                        s[i * 2 + j] +=
                            psnr_db(&up, &p.high, w, h, Protocol::Benchmark.channel(g), scale)
                                / pairs.len() as f64;
                    }
                }
            }
            println!(
                "{set} x{scale} 8bit/Y {:.4} 8bit/grey {:.4} float/Y {:.4} float/grey {:.4}",
                s[0], s[1], s[2], s[3]
            );
        }
    }
}
