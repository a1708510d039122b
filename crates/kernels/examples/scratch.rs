#![allow(missing_docs, clippy::print_stdout)]
use std::time::Instant;
use wdsr_kernels::*;
fn main() {
    let isa = Isa::detect().unwrap();
    println!("{isa}");
    let side = 48;
    for (i, o, k) in [(32, 192, 1), (192, 25, 1), (25, 32, 3), (192, 32, 1), (25, 192, 1), (32, 25, 3), (3, 32, 3), (32, 12, 3), (3, 12, 5), (32, 128, 3), (128, 32, 3)] {
        let mut x = Planes::zeros(i, side, side);
        let mut y = Planes::zeros(o, side, side);
        for c in 0..i { for r in 0..side { x.row_mut(c, r).iter_mut().enumerate().for_each(|(n, v)| *v = ((n * 7 + r * 3 + c) % 13) as f32 * 0.1 - 0.6); } }
        let w: Vec<f32> = (0..i * o * k * k).map(|n| (n % 17) as f32 * 0.01 - 0.08).collect();
        let b = vec![0.1; o];
        let p = PackedConv2d::forward(isa, &w, &b, i, o, k);
        let flop = 2.0 * (i * o * k * k * side * side) as f64;
        let time = |f: &mut dyn FnMut()| { let n = (2e9 / flop) as usize + 1; let mut best = f64::MAX; for _ in 0..7 { let t = Instant::now(); for _ in 0..n { f(); } best = best.min(t.elapsed().as_secs_f64() / n as f64); } flop / best / 1e9 };
        let fwd = time(&mut || conv2d(&x, &p, &mut y, Epilogue::Relu));
        let mut dw = vec![0.0; w.len()]; let mut db = vec![0.0; o];
        let bw = time(&mut || conv2d_backward_weight(isa, &x, &y, k, &mut dw, &mut db));
        println!("{i:4} -> {o:4} {k}x{k}: forward {fwd:6.1}  backward weight {bw:6.1} GFLOP/s");
    }
}
