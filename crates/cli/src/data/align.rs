//! `wdsr data align`: pairs of a low- and a high-resolution image that match.

use std::path::PathBuf;
use std::process::ExitCode;

use wdsr_data::align::{AlignedFolders, Line, Motion, REPORT, Verdict, align_pairs};
use wdsr_eval::{Track, find_pairs};

use crate::file_claims::FileClaims;
use crate::{WrongUsage, exit, on_threads, progress, stdout};

/// Align pairs of low- and high-resolution images
///
/// Finds how each low-resolution image is shifted against its original, to a fraction of a pixel and
/// whatever their brightness, and writes pairs that match: OUT/LR_xN with the low-resolution images,
/// cropped to whole pixels, and OUT/HR with their originals, copied for a whole shift and interpolated
/// otherwise. `wdsr train --data OUT`, `eval` and `data check` read them. alignment.jsonl in OUT has the
/// shift, the brightness and the residual of each pair; pairs that cannot be aligned are skipped, and
/// the exit code is then 1. The same images give the same files.
#[derive(clap::Args)]
pub(super) struct AlignArguments {
    /// Folder of pairs, in a layout that `wdsr train --data` reads
    folder: PathBuf,
    /// Scale of the pairs
    #[arg(short = 's', long, value_name = "N", default_value_t = 2)]
    scale: usize,
    /// Which low-resolution images of DIV2K: bicubic, unknown, mild, difficult or wild
    #[arg(long, default_value_t)]
    track: Track,
    /// Correct small rotations, zooms and shears too
    ///
    /// As for images of two lenses or of a camera that was moved. Originals are then always
    /// interpolated.
    #[arg(long)]
    affine: bool,
    /// Folder of the results, which must not have aligned pairs yet
    #[arg(short = 'o', long, value_name = "OUT")]
    out: PathBuf,
    /// Number of threads; 0: one for each processor
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

pub(super) fn run(arguments: &AlignArguments) -> anyhow::Result<ExitCode> {
    if !matches!(arguments.scale, 1 | 2 | 3 | 4 | 8) {
        let message = format!("-s {}: expected 1, 2, 3, 4 or 8", arguments.scale);
        return Err(WrongUsage(message).into());
    }
    let pairs = find_pairs(&arguments.folder, arguments.scale, arguments.track)?;
    let folders = AlignedFolders::new(&arguments.out, arguments.scale);
    let originals = pairs.iter().map(|pair| ("image", &*pair.high));
    let low = pairs
        .iter()
        .filter_map(|pair| Some(("image", pair.low.as_deref()?)));
    let mut claims = FileClaims::of_inputs(originals.chain(low));
    for file in folders.all_files(&pairs) {
        claims.write("result", "--out", &file)?;
    }
    let motion = match arguments.affine {
        true => Motion::Affine,
        false => Motion::Shift,
    };
    let bar = progress::bar(
        pairs.len() as u64,
        "aligning [{bar:30}] {pos}/{len}, {eta} left",
        false,
    );
    let lines = on_threads(arguments.threads, || {
        align_pairs(&pairs, motion, &folders, &|_, done| {
            bar.set_position(done as u64)
        })
    })??;
    bar.finish_and_clear();
    for line in &lines {
        stdout::print_lines(&to_text(line))?;
    }
    let aligned = lines
        .iter()
        .filter(|line| line.verdict == Verdict::Aligned)
        .count();
    stdout::print_lines(&format!(
        "{aligned} of {} pairs aligned; report: {}\n",
        lines.len(),
        arguments.out.join(REPORT).display()
    ))?;
    Ok(match (aligned, lines.len()) {
        (aligned, all) if aligned == all => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(exit::REFUSED),
        _ => ExitCode::from(exit::FAILED),
    })
}

fn to_text(line: &Line) -> String {
    let Some(registration) = &line.registration else {
        let reason = line.reason.as_deref().unwrap_or_default();
        return format!("{}: rejected: {reason}\n", line.name);
    };
    let [right, down] = registration.placement.shift_px;
    format!(
        "{}: shift {right:+.2}, {down:+.2} px, brightness x{:.3}, residual {:.2} levels, {:.2} before\n",
        line.name,
        registration.gain,
        registration.residual_after_levels,
        registration.residual_before_levels
    )
}
