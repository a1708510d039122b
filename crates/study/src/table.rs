//! Published tables: their networks, and the statements made about them.

use std::path::PathBuf;

use serde::Serialize;
use wdsr_model::{BlockKind, Network, NetworkConfig, Norm, Precision};
use wdsr_train::{
    Data, Decay, Initialization, Loss, Recipe, Schedule, Start, Teacher, Training, Validation,
};

use crate::error::Error;
use crate::kind::StudyKind;

/// The settings that all runs of a study share, and the rows of its table.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyOptions {
    /// Updates of each run.
    pub updates: u64,
    /// Runs of each configuration, with the seeds 1, 2, ...
    pub seeds: u64,
    /// Residual blocks: the rows of `depth`, or the depth of the other studies. If empty, the
    /// paper's 1, 3, 5 and 8 for `depth`, 8 for the others.
    pub blocks: Vec<usize>,
    /// Expansions of `width`. If empty, 1, 2, 4, 6 and 9.
    pub expansions: Vec<usize>,
    /// The teacher of `gains`, which skips distillation without one.
    pub teacher: Option<PathBuf>,
    /// Patches of an update.
    pub batch: usize,
    /// Side of a patch in low-resolution pixels.
    pub patch_px: usize,
    /// Arithmetic of all runs.
    pub precision: Precision,
    /// The dataset.
    pub data: Data,
    /// Validation.
    pub validation: Validation,
}

/// Published figures of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Published {
    /// Parameters in millions, to two decimals.
    pub parameters_millions: f64,
    /// PSNR on DIV2K's validation images, x2, RGB.
    pub psnr_db: f64,
}

/// A network and its training.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// Name, and name of its runs' folders without the seed.
    pub name: String,
    /// Its line in the plot.
    pub group: String,
    /// Its position on the x axis of the plot.
    pub x: f64,
    /// The recipe with seed 1.
    pub recipe: Recipe,
    /// Published figures, if any.
    pub published: Option<Published>,
}

impl Configuration {
    /// Weights and biases of the model.
    pub fn parameters(&self) -> usize {
        Network::new(&self.recipe.network).parameters()
    }

    /// Multiply-adds for an output of 1280 x 720.
    pub fn multiply_adds(&self) -> u64 {
        Network::new(&self.recipe.network).multiply_adds(1280, 720)
    }

    /// Whether the parameters match the published ones, within 2% of what rounds to their two
    /// decimals.
    pub fn parameters_match(&self) -> Option<bool> {
        let published = self.published?.parameters_millions;
        let millions = self.parameters() as f64 / 1e6;
        let (low, high) = (published - 0.005, published + 0.005);
        Some((0.98 * low..=1.02 * high).contains(&millions))
    }
}

/// A published statement: one configuration has a higher PSNR than another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statement {
    /// The statement in words.
    pub text: String,
    /// Its source.
    pub source: String,
    /// Name of the configuration that is better.
    pub better: String,
    /// Name of the configuration that is worse.
    pub worse: String,
    /// The published difference.
    pub published_db: Option<f64>,
    /// How much lower the PSNR of the better one may be: above 0 for a statement of equality.
    pub margin_db: f64,
}

/// The paper's table: blocks, then published parameters (millions) and PSNR of EDSR, WDSR-A and
/// WDSR-B. The table gives WDSR-B the parameters of WDSR-A; 64 features, expansion 6 and low-rank
/// width 51 are closest to them (0.084, 0.232, 0.380, 0.602 M).
const DEPTH_TABLE: [(usize, [(f64, f64); 3]); 4] = [
    (1, [(0.26, 33.210), (0.08, 33.323), (0.08, 33.434)]),
    (3, [(0.41, 34.043), (0.23, 34.163), (0.23, 34.205)]),
    (5, [(0.56, 34.284), (0.37, 34.388), (0.37, 34.409)]),
    (8, [(0.78, 34.457), (0.60, 34.541), (0.60, 34.536)]),
];
const DEFAULT_BLOCKS: usize = 8;
const DEFAULT_EXPANSIONS: [usize; 5] = [1, 2, 4, 6, 9];
/// About a third of the patches of photographs have less.
const LEAST_DETAIL: f64 = 2.0;
/// Updates of the paper's ablations: 250 epochs of 1,000 (issue #15 of JiahuiYu/wdsr_ntire2018).
pub const PUBLISHED_UPDATES: u64 = 250_000;
const HIGH_RATE: f64 = 1e-3;
const LOW_RATE: f64 = 1e-4;
/// PSNR of the papers is given to this precision.
const EQUAL_DB: f64 = 0.01;
const PAPER_WIDTH: &str = "Yu et al. 2018, sections 3.1 and 3.2";
const PAPER_NORM: &str = "Yu et al. 2018, section 3.3";
const ISSUE_1: &str = "issue #1 of JiahuiYu/wdsr_ntire2018";
const ISSUE_26: &str = "issue #26 of JiahuiYu/wdsr_ntire2018";

/// The configurations and statements of a study.
pub(crate) struct Table<'o> {
    options: &'o StudyOptions,
    pub(crate) configurations: Vec<Configuration>,
    pub(crate) statements: Vec<Statement>,
}

impl<'o> Table<'o> {
    /// Builds a table.
    ///
    /// # Errors
    /// If an option is out of range or has no effect.
    pub(crate) fn new(kind: StudyKind, options: &'o StudyOptions) -> Result<Self, Error> {
        check_options(kind, options)?;
        let mut table = Self {
            options,
            configurations: Vec::new(),
            statements: Vec::new(),
        };
        match kind {
            StudyKind::Depth => table.depth()?,
            StudyKind::Norm => table.norm(single_depth(options)?),
            StudyKind::Width => table.width(single_depth(options)?)?,
            StudyKind::Gains => table.gains(single_depth(options)?),
        }
        Ok(table)
    }

    fn recipe(&self, network: NetworkConfig, learning_rate: f64) -> Recipe {
        let o = self.options;
        Recipe {
            network,
            start: Start::default(),
            teacher: None,
            degradation: None,
            strength: None,
            data: o.data.clone(),
            training: Training {
                updates: o.updates,
                batch: o.batch,
                patch_px: o.patch_px,
                least_detail: 0.0,
                branches: false,
                int8: false,
                precision: o.precision,
                seed: 1,
                loss: Loss::L1,
                gradient_clip_norm: 0.0,
                average_decay: 0.0,
                // Divergence is a result.
                rollbacks: 0,
                rollback_factor: 0.5,
            },
            schedule: Schedule {
                learning_rate,
                warm_up_updates: 0,
                decay: Decay::Step {
                    milestones: vec![o.updates * 4 / 5],
                    factor: 0.5,
                },
            },
            validation: o.validation.clone(),
        }
    }

    fn add(&mut self, name: String, group: &str, x: f64, recipe: Recipe) -> &mut Configuration {
        self.configurations.push(Configuration {
            name,
            group: group.to_owned(),
            x,
            recipe,
            published: None,
        });
        let last = self.configurations.len() - 1;
        &mut self.configurations[last]
    }

    fn state(&mut self, text: &str, source: &str, better: &str, worse: &str) -> &mut Statement {
        self.statements.push(Statement {
            text: text.to_owned(),
            source: source.to_owned(),
            better: better.to_owned(),
            worse: worse.to_owned(),
            published_db: None,
            margin_db: 0.0,
        });
        let last = self.statements.len() - 1;
        &mut self.statements[last]
    }

    fn depth(&mut self) -> Result<(), Error> {
        let published: Vec<usize> = DEPTH_TABLE.iter().map(|row| row.0).collect();
        let blocks = match &self.options.blocks[..] {
            [] => &published,
            blocks => blocks,
        };
        if let Some(other) = blocks.iter().find(|blocks| !published.contains(blocks)) {
            return Err(Error::OutOfRange {
                option: "blocks",
                found: format!("{other} blocks"),
                expected: format!("those of the paper's table, {published:?}"),
            });
        }
        let blocks = blocks.to_vec();
        for (blocks, figures) in DEPTH_TABLE
            .into_iter()
            .filter(|row| blocks.contains(&row.0))
        {
            self.depth_row(blocks, figures);
        }
        Ok(())
    }

    fn depth_row(&mut self, blocks: usize, figures: [(f64, f64); 3]) {
        let networks = [
            ("EDSR", NetworkConfig::edsr(64, blocks, 2), LOW_RATE),
            ("WDSR-A", NetworkConfig::wdsr_a(32, blocks, 2), HIGH_RATE),
            ("WDSR-B", NetworkConfig::wdsr_b(64, blocks, 2), HIGH_RATE),
        ];
        let groups = networks.each_ref().map(|network| network.0);
        let name = |group: &str| format!("{}-{blocks}", group.to_lowercase());
        for ((group, network, rate), (parameters_millions, psnr_db)) in
            networks.into_iter().zip(figures)
        {
            let recipe = self.recipe(network, rate);
            let configuration = self.add(name(group), group, blocks as f64, recipe);
            configuration.published = Some(Published {
                parameters_millions,
                psnr_db,
            });
        }
        let depth = count_of_blocks(blocks);
        for (one, other) in [(1, 0), (2, 0), (2, 1)] {
            let difference = figures[one].1 - figures[other].1;
            let (better, worse) = if difference > 0.0 {
                (groups[one], groups[other])
            } else {
                (groups[other], groups[one])
            };
            let text = format!("{better} beats {worse} at {depth}");
            let source = "table of JiahuiYu/wdsr_ntire2018";
            let statement = self.state(&text, source, &name(better), &name(worse));
            statement.published_db = Some(difference.abs());
        }
        if self.options.updates < PUBLISHED_UPDATES {
            let fast = format!("edsr-{blocks}-1e-3");
            let recipe = self.recipe(NetworkConfig::edsr(64, blocks, 2), HIGH_RATE);
            self.add(fast.clone(), "EDSR at 1e-3", blocks as f64, recipe);
            for group in &groups[1..] {
                let text = format!("{group} beats EDSR at {depth}, both at 1e-3");
                let source = "not published: at this budget EDSR lags behind at 1e-4";
                self.state(&text, source, &name(group), &fast);
            }
        }
    }

    fn norm(&mut self, blocks: usize) {
        for (group, norm) in [
            ("weight", Norm::Weight),
            ("batch", Norm::Batch),
            ("none", Norm::None),
        ] {
            for (rate, label) in [(LOW_RATE, "1e-4"), (HIGH_RATE, "1e-3")] {
                let network = NetworkConfig {
                    norm,
                    ..NetworkConfig::wdsr_a(32, blocks, 2)
                };
                let recipe = self.recipe(network, rate);
                self.add(format!("{group}-{label}"), group, rate, recipe);
            }
        }
        for (text, source, better, worse) in [
            (
                "weight normalisation at 1e-3 beats batch normalisation at 1e-4",
                PAPER_NORM,
                "weight-1e-3",
                "batch-1e-4",
            ),
            (
                "weight normalisation at 1e-3 beats batch normalisation at 1e-3",
                PAPER_NORM,
                "weight-1e-3",
                "batch-1e-3",
            ),
            (
                "weight normalisation at 1e-3 beats none at 1e-4",
                PAPER_NORM,
                "weight-1e-3",
                "none-1e-4",
            ),
            (
                "weight normalisation at 1e-3 beats none at 1e-3",
                PAPER_NORM,
                "weight-1e-3",
                "none-1e-3",
            ),
            (
                "weight normalisation needs the higher rate: 1e-3 beats 1e-4",
                ISSUE_1,
                "weight-1e-3",
                "weight-1e-4",
            ),
        ] {
            self.state(text, source, better, worse);
        }
        let equal = self.state(
            "at 1e-4 no normalisation is as good as weight normalisation, to 0.01 dB",
            ISSUE_1,
            "none-1e-4",
            "weight-1e-4",
        );
        equal.margin_db = EQUAL_DB;
    }

    fn width(&mut self, blocks: usize) -> Result<(), Error> {
        let mut expansions = self.options.expansions.clone();
        if expansions.is_empty() {
            expansions.extend(DEFAULT_EXPANSIONS);
        }
        if let Some(other) = expansions.iter().find(|e| !(1..=9).contains(*e)) {
            return Err(Error::OutOfRange {
                option: "expansions",
                found: format!("expansion {other}"),
                expected: "1 to 9".to_owned(),
            });
        }
        let budget = Network::new(&NetworkConfig::wdsr_a(32, blocks, 2)).parameters();
        for (group, block) in [("WDSR-A", BlockKind::WdsrA), ("WDSR-B", BlockKind::WdsrB)] {
            for &expansion in &expansions {
                let network = at_equal_parameters(block, expansion, blocks, budget);
                let name = format!("{}-e{expansion}", group.to_lowercase());
                let recipe = self.recipe(network, HIGH_RATE);
                self.add(name, group, expansion as f64, recipe);
            }
        }
        for (better, worse, text, source) in [
            (
                "wdsr-a-e2",
                "wdsr-a-e1",
                "a wider activation helps WDSR-A: 2 beats 1",
                PAPER_WIDTH,
            ),
            (
                "wdsr-a-e4",
                "wdsr-a-e1",
                "a wider activation helps WDSR-A: 4 beats 1",
                PAPER_WIDTH,
            ),
            (
                "wdsr-a-e4",
                "wdsr-a-e6",
                "6 is too wide for WDSR-A: 4 beats it",
                ISSUE_26,
            ),
            (
                "wdsr-a-e4",
                "wdsr-a-e9",
                "9 is too wide for WDSR-A: 4 beats it",
                ISSUE_26,
            ),
            (
                "wdsr-b-e6",
                "wdsr-a-e6",
                "WDSR-B beats WDSR-A at 6",
                PAPER_WIDTH,
            ),
            (
                "wdsr-b-e9",
                "wdsr-a-e9",
                "WDSR-B beats WDSR-A at 9",
                PAPER_WIDTH,
            ),
            (
                "wdsr-b-e6",
                "wdsr-a-e4",
                "WDSR-B at 6 beats WDSR-A at 4",
                PAPER_WIDTH,
            ),
        ] {
            let exists = |name: &str| self.configurations.iter().any(|c| c.name == name);
            if exists(better) && exists(worse) {
                self.state(text, source, better, worse);
            }
        }
        Ok(())
    }

    fn gains(&mut self, blocks: usize) {
        const PLAIN: &str = "plain";
        let teacher = self.options.teacher.clone();
        // As the released models are trained.
        let mut plain = self.recipe(NetworkConfig::wdsr_b(32, blocks, 2), HIGH_RATE);
        plain.schedule.warm_up_updates = self.options.updates / 60;
        plain.schedule.decay = Decay::Cosine {
            final_learning_rate: 1e-6,
        };
        self.add(PLAIN.to_owned(), PLAIN, blocks as f64, plain.clone());
        let mut add = |name: &str, text: &str, source: &str, change: &dyn Fn(&mut Recipe)| {
            let mut recipe = plain.clone();
            change(&mut recipe);
            self.add(name.to_owned(), name, blocks as f64, recipe);
            self.state(text, source, name, PLAIN);
        };
        add(
            "average",
            "a moving average of the weights helps",
            "common practice in the NTIRE challenges",
            &|r| r.training.average_decay = 0.999,
        );
        add(
            "branches",
            "training 3x3 convolutions as sums of branches helps",
            "Zhang et al. 2021 (ECB)",
            &|r| r.training.branches = true,
        );
        add(
            "detail",
            "drawing flat patches again helps",
            "common practice",
            &|r| r.training.least_detail = LEAST_DETAIL,
        );
        add(
            "reloaded",
            "gains of 1 and 2, and 1 / sqrt(blocks) at the end of a block, help",
            "ychfan/wdsr",
            &|r| r.start.initialization = Initialization::Reloaded,
        );
        add(
            "fft",
            "a loss on the spectrum helps",
            "Cho et al. 2021 (MIMO-UNet)",
            &|r| r.training.loss = Loss::Fft { weight: 0.05 },
        );
        if let Some(model) = teacher {
            add("taught", "a teacher helps", "Hinton et al. 2015", &|r| {
                let model = model.clone();
                r.teacher = Some(Teacher { model, weight: 0.5 });
            });
        }
    }
}

fn check_options(kind: StudyKind, options: &StudyOptions) -> Result<(), Error> {
    if options.seeds == 0 {
        return Err(Error::OutOfRange {
            option: "seeds",
            found: "0 seeds".to_owned(),
            expected: "at least 1".to_owned(),
        });
    }
    for (option, is_given, on) in [
        (
            "expansions",
            !options.expansions.is_empty(),
            StudyKind::Width,
        ),
        ("teacher", options.teacher.is_some(), StudyKind::Gains),
    ] {
        if is_given && kind != on {
            return Err(Error::NoEffect { option, kind, on });
        }
    }
    Ok(())
}

fn single_depth(options: &StudyOptions) -> Result<usize, Error> {
    match options.blocks[..] {
        [] => Ok(DEFAULT_BLOCKS),
        [blocks] => Ok(blocks),
        _ => Err(Error::OutOfRange {
            option: "blocks",
            found: format!("{:?}", options.blocks),
            expected: "one depth".to_owned(),
        }),
    }
}

/// A number of blocks, such as `1 block` or `3 blocks`.
pub(crate) fn count_of_blocks(blocks: usize) -> String {
    let plural = if blocks == 1 { "" } else { "s" };
    format!("{blocks} block{plural}")
}

/// The network of an expansion whose number of parameters is closest to the budget.
fn at_equal_parameters(
    block: BlockKind,
    expansion: usize,
    blocks: usize,
    budget: usize,
) -> NetworkConfig {
    let network = |features: usize| NetworkConfig {
        expansion,
        ..match block {
            BlockKind::WdsrB => NetworkConfig::wdsr_b(features, blocks, 2),
            _ => NetworkConfig::wdsr_a(features, blocks, 2),
        }
    };
    let distance = |features: &usize| {
        let parameters = Network::new(&network(*features)).parameters();
        parameters.abs_diff(budget)
    };
    network((2..=256).min_by_key(distance).unwrap_or(32))
}
