use std::path::Path;

use wdsr_model::{NetworkConfig, Precision};
use wdsr_train::run_folder::{LAST_CHECKPOINT, METRICS};
use wdsr_train::{Data, Recipe, Validation};

use crate::results::judge;
use crate::*;

fn options(seeds: u64) -> StudyOptions {
    StudyOptions {
        updates: 100,
        seeds,
        blocks: Vec::new(),
        expansions: Vec::new(),
        teacher: None,
        batch: 4,
        patch_px: 16,
        precision: Precision::F32,
        data: Data::default(),
        validation: Validation::default(),
    }
}

fn study(kind: StudyKind, seeds: u64) -> Study {
    Study::new(kind, options(seeds)).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn depth_matches_the_papers_table() {
    let mut published = options(1);
    published.updates = PUBLISHED_UPDATES;
    let study = Study::new(StudyKind::Depth, published).expect("a study");
    assert_eq!(study.configurations.len(), 12);
    for c in &study.configurations {
        assert_eq!(c.parameters_match(), Some(true), "{}", c.name);
    }
    // Counts of the PyTorch networks, EDSR without its 24 frozen parameters, WDSR-B without its
    // gains; multiply-adds in 10^8.
    let of = |name: &str| {
        let found = study.configurations.iter().find(|c| c.name == name);
        found.unwrap_or_else(|| panic!("no {name}"))
    };
    for (name, parameters, multiply_adds) in [
        ("edsr-1", 262_043 - 24, 0),
        ("edsr-8", 779_035 - 24, 0),
        ("wdsr-a-1", 79_164, 182),
        ("wdsr-a-3", 226_940, 522),
        ("wdsr-a-8", 596_380, 1371),
        ("wdsr-b-1", 84_250 - 587, 0),
        ("wdsr-b-8", 605_988 - 4_080, 0),
    ] {
        assert_eq!(of(name).parameters(), parameters, "{name}");
        if multiply_adds > 0 {
            let found = of(name).multiply_adds() as f64 / 1e8;
            assert!(
                (found - f64::from(multiply_adds)).abs() <= 1.0,
                "{name}: {found}"
            );
        }
    }
    // Published rates, equal budgets.
    assert_eq!(of("edsr-3").recipe.schedule.learning_rate, 1e-4);
    assert_eq!(of("wdsr-b-3").recipe.schedule.learning_rate, 1e-3);
    let training = &of("edsr-1").recipe.training;
    assert!(
        study
            .configurations
            .iter()
            .all(|c| c.recipe.training == *training)
    );
    // Three statements for each depth; at 8 blocks WDSR-A is published as better.
    assert_eq!(study.statements.len(), 12);
    let last = study.statements.last().expect("a statement");
    assert_eq!(last.text, "WDSR-A beats WDSR-B at 8 blocks");
    assert!((last.published_db.expect("published") - 0.005).abs() < 1e-9);
}

#[test]
fn short_trainings_also_compare_edsr_at_equal_rates() {
    let study = study(StudyKind::Depth, 1);
    assert_eq!(study.configurations.len(), 16);
    let fast = study
        .configurations
        .iter()
        .find(|c| c.name == "edsr-3-1e-3");
    let fast = fast.expect("a second EDSR");
    assert_eq!(fast.recipe.schedule.learning_rate, 1e-3);
    assert_eq!(fast.recipe.network, NetworkConfig::edsr(64, 3, 2));
    let against: Vec<&str> = study
        .statements
        .iter()
        .filter(|s| s.worse == fast.name)
        .map(|s| s.better.as_str())
        .collect();
    assert_eq!(against, ["wdsr-a-3", "wdsr-b-3"]);
}

#[test]
fn other_parameters_do_not_match() {
    let mut study = study(StudyKind::Depth, 1);
    let c = &mut study.configurations[1];
    c.recipe.network.features = 36;
    assert_eq!(c.parameters_match(), Some(false));
}

#[test]
fn norm_and_width_have_their_configurations() {
    let norm = study(StudyKind::Norm, 2);
    let names: Vec<&str> = norm
        .configurations
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "weight-1e-4",
            "weight-1e-3",
            "batch-1e-4",
            "batch-1e-3",
            "none-1e-4",
            "none-1e-3"
        ]
    );
    assert_eq!(norm.runs().len(), 12);
    let known = |study: &Study| {
        study.statements.iter().all(|s| {
            let exists = |name: &str| study.configurations.iter().any(|c| c.name == name);
            exists(&s.better) && exists(&s.worse)
        })
    };
    assert!(known(&norm) && norm.statements.len() == 6);
    let width = study(StudyKind::Width, 1);
    assert!(known(&width) && width.statements.len() == 7);
    let budget = 596_380.0;
    for c in &width.configurations {
        let off = (c.parameters() as f64 / budget - 1.0).abs();
        // A feature more or less is up to 6% of the parameters.
        assert!(off < 0.04, "{}: {} parameters", c.name, c.parameters());
    }
    // The published network is the one of expansion 4.
    let of_4 = width.configurations.iter().find(|c| c.name == "wdsr-a-e4");
    let of_4 = &of_4.expect("expansion 4").recipe.network;
    assert_eq!(*of_4, NetworkConfig::wdsr_a(32, 8, 2));
}

#[test]
fn gains_change_one_key_each() {
    let mut with_teacher = options(1);
    with_teacher.teacher = Some("teacher.safetensors".into());
    let gains = Study::new(StudyKind::Gains, with_teacher).expect("a study");
    let plain = &gains.configurations[0].recipe;
    let lines =
        |recipe: &Recipe| -> Vec<String> { recipe.to_toml().lines().map(str::to_owned).collect() };
    for c in &gains.configurations[1..] {
        let changed: Vec<String> = lines(&c.recipe)
            .into_iter()
            .filter(|line| !lines(plain).contains(line))
            .collect();
        // A loss has a weight, and a teacher has a table.
        let most = match c.name.as_str() {
            "fft" => 2,
            "taught" => 3,
            _ => 1,
        };
        assert!(
            (1..=most).contains(&changed.len()),
            "{}: {changed:?}",
            c.name
        );
        assert_eq!(c.parameters(), gains.configurations[0].parameters());
    }
    assert_eq!(gains.configurations.len(), 7);
    assert_eq!(gains.statements.len(), 6);
    let without = study(StudyKind::Gains, 1);
    assert_eq!(without.configurations.len(), 6);
}

#[test]
fn refuses_options_out_of_range() {
    let refused = |kind, change: &dyn Fn(&mut StudyOptions)| {
        let mut options = options(1);
        change(&mut options);
        let error = Study::new(kind, options).expect_err("no such study");
        error.to_string()
    };
    let text = refused(StudyKind::Depth, &|o| o.blocks = vec![1, 4]);
    assert!(text.contains("4 blocks"), "{text}");
    let text = refused(StudyKind::Norm, &|o| o.blocks = vec![1, 3]);
    assert!(text.contains("expected one depth"), "{text}");
    let text = refused(StudyKind::Width, &|o| o.expansions = vec![10]);
    assert!(text.contains("expansion 10"), "{text}");
    let text = refused(StudyKind::Norm, &|o| o.seeds = 0);
    assert!(text.contains("0 seeds"), "{text}");
    let text = refused(StudyKind::Norm, &|o| o.updates = 0);
    assert!(text.contains("training.updates"), "{text}");
}

#[test]
fn verdicts_need_every_seed() {
    let statement = Statement {
        text: "a beats b".to_owned(),
        source: "here".to_owned(),
        better: "a".to_owned(),
        worse: "b".to_owned(),
        published_db: None,
        margin_db: 0.0,
    };
    let finished = |psnr_db: f64| Outcome::Finished {
        psnr_db,
        bicubic_psnr_db: 30.0,
        seconds: 1.0,
    };
    let (diverged, open) = (
        Outcome::Diverged { update: 3 },
        Outcome::Open { updates: 5 },
    );
    for (better, worse, expected) in [
        (
            [33.0, 33.2].map(finished),
            [32.9, 33.1].map(finished),
            Verdict::Held,
        ),
        (
            [33.0, 33.2].map(finished),
            [33.1, 33.1].map(finished),
            Verdict::Undecided,
        ),
        (
            [33.0, 33.0].map(finished),
            [33.1, 33.1].map(finished),
            Verdict::NotHeld,
        ),
        (
            [finished(33.0), finished(33.0)],
            [diverged, finished(32.0)],
            Verdict::Held,
        ),
        (
            [finished(33.0), diverged],
            [finished(32.0), finished(32.0)],
            Verdict::Undecided,
        ),
        ([diverged; 2], [diverged; 2], Verdict::NotHeld),
        (
            [diverged, diverged],
            [diverged, finished(32.0)],
            Verdict::NotHeld,
        ),
        (
            [finished(33.0), open],
            [finished(32.0), finished(32.0)],
            Verdict::Open,
        ),
    ] {
        let judged = judge(&statement, &better, &worse);
        assert_eq!(judged.verdict, expected, "{better:?} {worse:?}");
    }
    // Below bicubic interpolation (30 dB) there is no verdict, unless one network reached it.
    for (better, worse, expected) in [
        (finished(20.0), finished(15.0), Verdict::Untrained),
        (finished(20.0), diverged, Verdict::Untrained),
        (finished(31.0), finished(15.0), Verdict::Held),
        (finished(15.0), finished(31.0), Verdict::NotHeld),
        (finished(20.0), open, Verdict::Open),
    ] {
        let judged = judge(
            &statement,
            &[better, finished(33.0)],
            &[worse, finished(32.0)],
        );
        let expected = match expected {
            // The second seed is for the statement.
            Verdict::NotHeld => Verdict::Undecided,
            other => other,
        };
        assert_eq!(judged.verdict, expected, "{better:?} {worse:?}");
    }
    // A statement of equality, with a margin.
    let equal = Statement {
        margin_db: 0.01,
        ..statement
    };
    let of = |psnr_db| judge(&equal, &[finished(psnr_db)], &[finished(33.0)]).verdict;
    assert_eq!((of(32.995), of(32.98)), (Verdict::Held, Verdict::NotHeld));
}

/// Writes the files of a finished run with the given last PSNR.
fn finish(study: &Study, folder: &Path, run: &PlannedRun, psnr_db: f64) {
    let run_folder = study.run_folder(folder, run);
    std::fs::create_dir_all(&run_folder).expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(run_folder.join(name), text).expect("written");
    };
    write("recipe.toml", &run.recipe.to_toml());
    write(LAST_CHECKPOINT, "");
    let line = |update: u64, psnr_db: f64| {
        format!(
            "{{\"update\":{update},\"loss\":0.1,\"learning_rate\":1e-3,\"psnr_db\":{psnr_db},\
             \"bicubic_psnr_db\":31.5,\"patches_per_second\":1,\"seconds\":7200}}\n"
        )
    };
    write(METRICS, &(line(50, psnr_db - 1.0) + &line(100, psnr_db)));
}

#[test]
fn reports_have_verdicts_and_figures() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let mut options = options(2);
    options.blocks = vec![1];
    let study = Study::new(StudyKind::Depth, options.clone()).expect("a study");
    // EDSR, WDSR-A, WDSR-B, EDSR at the higher rate; seed 1, then seed 2.
    let figures = [33.0, 33.2, 33.25, 33.24, 33.1, 33.3, 33.28, 33.29];
    for (run, psnr_db) in study.runs().iter().zip(figures) {
        finish(&study, folder, run, psnr_db);
    }
    let results = study.write_report(folder).expect("a report");
    let verdicts: Vec<Verdict> = results.statements.iter().map(|s| s.verdict).collect();
    use Verdict::{Held, Undecided};
    assert_eq!(verdicts, [Held, Held, Undecided, Undecided, Undecided]);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a report");
    let markdown = read("report.md");
    for expected in [
        "**Held**: WDSR-A beats EDSR at 1 block: +0.200 dB (+0.200 to +0.200); published +0.113 dB",
        "**Undecided**: WDSR-B beats WDSR-A at 1 block: +0.015 dB (-0.020 to +0.050)",
        "| wdsr-a-1 | 32 | 1e-3 | 79,164 | 18.2 G | 33.250 (33.200 to 33.300) | 0.08 M, matches | \
         33.323 | 4.00 |",
        "**Undecided**: WDSR-A beats EDSR at 1 block, both at 1e-3: -0.015 dB (-0.040 to +0.010) (not",
        "100 updates of 4 patches of 16 x 16",
        "arithmetic in f32",
        "2 seeds",
    ] {
        assert!(
            markdown.contains(expected),
            "no `{expected}` in\n{markdown}"
        );
    }
    let json: serde_json::Value = serde_json::from_str(&read("report.json")).expect("JSON");
    assert_eq!(json["statements"][2]["verdict"], "undecided");
    assert_eq!(json["configurations"][0]["parameters"], 262_019);
    let html = read("report.html");
    assert!(html.contains("<svg") && html.contains("Not held") == markdown.contains("Not held"));

    // A run that diverged, one that is not finished, and one of another study.
    study
        .mark_diverged(folder, &study.runs()[0], 17)
        .expect("marked");
    let run = &study.runs()[4];
    std::fs::remove_file(study.run_folder(folder, run).join(LAST_CHECKPOINT)).expect("removed");
    let results = study.write_report(folder).expect("a report");
    assert_eq!(results.outcomes[0][0], Outcome::Diverged { update: 17 });
    assert_eq!(results.statements[0].verdict, Verdict::Open);
    assert!(read("report.md").contains("1 diverged, 1 not finished"));
    options.updates = 200;
    let other = Study::new(StudyKind::Depth, options).expect("a study");
    let error = other.write_report(folder).expect_err("another study");
    assert!(error.to_string().contains("training.updates"), "{error}");
}

#[test]
fn reports_untrained_networks_without_a_verdict() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let mut options = options(1);
    options.blocks = vec![1];
    let study = Study::new(StudyKind::Depth, options).expect("a study");
    // Bicubic interpolation is at 31.5 dB.
    for (run, psnr_db) in study.runs().iter().zip([20.0, 25.0, 26.0, 27.0]) {
        finish(&study, folder, run, psnr_db);
    }
    study.write_report(folder).expect("a report");
    let markdown = std::fs::read_to_string(folder.join("report.md")).expect("a report");
    assert!(
        markdown.contains("**Untrained: no verdict**: WDSR-A beats EDSR at 1 block: +5.000 dB"),
        "{markdown}"
    );
    assert!(!markdown.contains("**Held**"), "{markdown}");
}

#[test]
fn infinite_psnr_is_a_text_in_json() {
    let outcome = Outcome::Finished {
        psnr_db: f64::INFINITY,
        bicubic_psnr_db: 30.0,
        seconds: 1.0,
    };
    let json = serde_json::to_value(outcome).expect("JSON");
    assert_eq!(json["finished"]["psnr_db"], "inf");
    assert_eq!(json["finished"]["bicubic_psnr_db"], 30.0);
    let statement = Statement {
        text: "a beats b".to_owned(),
        source: "here".to_owned(),
        better: "a".to_owned(),
        worse: "b".to_owned(),
        published_db: None,
        margin_db: 0.01,
    };
    let judged = judge(&statement, &[outcome], &[outcome]);
    assert_eq!(
        (judged.verdict, judged.differences_db),
        (Verdict::Held, vec![0.0])
    );
}
