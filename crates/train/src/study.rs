//! Published tables as sets of trainings with equal budgets, and whether what was published holds.
//!
//! A study is a list of configurations, each a recipe, trained with several seeds. Every run has
//! its own folder, so a study that was stopped goes on where it stood; the report is made from the
//! runs that are finished.

mod report;
mod results;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wdsr_model::{BlockKind, Network, NetworkConfig, Norm, Precision};

use crate::recipe::{
    Course, Data, Initialization, Loss, Recipe, Schedule, Start, Teacher, Training, Validation,
};
pub use results::{Outcome, Results, Verdict};

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StudyKind {
    /// EDSR, WDSR-A and WDSR-B at 1, 3, 5 and 8 blocks: the paper's table (README of
    /// JiahuiYu/wdsr_ntire2018). With fewer updates than the paper's, EDSR is also trained at WDSR's
    /// rate: its own is a tenth of that, which a short training could not make up for.
    Depth,
    /// Weight normalisation, batch normalisation and none, each at 1e-3 and 1e-4 (section 3.3 of
    /// the paper; issues #1 and #15).
    Norm,
    /// The width of the activation at equal parameters (sections 3.1 and 3.2; issue #26).
    Width,
    /// Ways to train the same WDSR-B better, each alone: what the recipe's keys are worth.
    Gains,
}

impl fmt::Display for StudyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Depth => "depth",
            Self::Norm => "norm",
            Self::Width => "width",
            Self::Gains => "gains",
        })
    }
}

/// What all trainings of a study share, and which of its points are taken.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyOptions {
    /// Updates of every training.
    pub updates: u64,
    /// Trainings of every configuration, with the seeds 1, 2, ...
    pub seeds: u64,
    /// Residual blocks: of `depth` the points taken, of the others one depth. Empty: the paper's
    /// 1, 3, 5 and 8 for `depth`, 8 for the others.
    pub blocks: Vec<usize>,
    /// Expansions taken by `width`. Empty: 1, 2, 4, 6 and 9.
    pub expansions: Vec<usize>,
    /// The teacher of `gains`; without one that point is left out.
    pub teacher: Option<PathBuf>,
    /// Patches in an update.
    pub batch: usize,
    /// Side of a patch in low-resolution pixels.
    pub patch_px: usize,
    /// Arithmetic of all trainings.
    pub precision: Precision,
    /// The images.
    pub data: Data,
    /// Validation.
    pub validation: Validation,
}

/// What was published of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Published {
    /// Millions of parameters, to two decimals.
    pub parameters_millions: f64,
    /// DIV2K validation, x2, RGB.
    pub psnr_db: f64,
}

/// A network and its learning rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// Name of its runs' folders without the seed.
    pub name: String,
    /// The line of the plot it belongs to.
    pub group: String,
    /// Its place on the plot's x axis.
    pub x: f64,
    /// With seed 1.
    pub recipe: Recipe,
    /// What was published, if anything.
    pub published: Option<Published>,
}

impl Configuration {
    /// Weights and biases as the model runs.
    pub fn parameters(&self) -> usize {
        Network::new(&self.recipe.network).parameters()
    }

    /// For an output of 1280 x 720.
    pub fn multiply_adds(&self) -> u64 {
        Network::new(&self.recipe.network).multiply_adds(1280, 720)
    }

    /// Whether the parameters are the published ones: within 2% of what the two printed decimals
    /// can stand for.
    pub fn parameters_agree(&self) -> Option<bool> {
        let published = self.published?.parameters_millions;
        let millions = self.parameters() as f64 / 1e6;
        let (low, high) = (published - 0.005, published + 0.005);
        Some((0.98 * low..=1.02 * high).contains(&millions))
    }
}

/// A published statement: one configuration beats another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statement {
    /// In words.
    pub text: String,
    /// Where it was published.
    pub source: String,
    /// Name of the configuration that is said to be better.
    pub better: String,
    /// Than this one.
    pub worse: String,
    /// By how much, where it was published.
    pub published_db: Option<f64>,
    /// How much worse it may be and still hold: more than 0 for a statement of "as well as".
    pub margin_db: f64,
}

/// A study.
#[derive(Clone, Debug)]
pub struct Study {
    /// Which table.
    pub kind: StudyKind,
    /// What its trainings share.
    pub options: StudyOptions,
    /// In the order of the report.
    pub configurations: Vec<Configuration>,
    /// What was published about them.
    pub statements: Vec<Statement>,
}

/// One training of a study.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its configuration: an index into [`Study::configurations`].
    pub configuration: usize,
    /// Its seed.
    pub seed: u64,
    /// With this seed.
    pub recipe: Recipe,
}

/// The paper's table: blocks, then published parameters (millions) and PSNR of EDSR, WDSR-A and
/// WDSR-B. The table gives WDSR-B the counts of WDSR-A; with 64 features, expansion 6 and low-rank
/// width 51 it comes nearest to them (0.084, 0.232, 0.380, 0.602 M).
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
/// Figures of the papers are given to this.
const EQUAL_DB: f64 = 0.01;

impl Study {
    /// The configurations and statements of a table.
    ///
    /// # Errors
    /// When a point is asked for that the table does not have, or the options make no training.
    pub fn new(kind: StudyKind, options: StudyOptions) -> Result<Self, String> {
        let mut study = Self {
            kind,
            options,
            configurations: Vec::new(),
            statements: Vec::new(),
        };
        if study.options.seeds == 0 {
            return Err("0 seeds, expected 1 at least".to_owned());
        }
        if !study.options.expansions.is_empty() && kind != StudyKind::Width {
            return Err(format!(
                "expansions are of study width, not of {kind}; leave them out"
            ));
        }
        if study.options.teacher.is_some() && kind != StudyKind::Gains {
            return Err(format!(
                "a teacher is of study gains, not of {kind}; leave it out"
            ));
        }
        match kind {
            StudyKind::Depth => study.depth()?,
            StudyKind::Norm => study.norm()?,
            StudyKind::Width => study.width()?,
            StudyKind::Gains => study.gains()?,
        }
        for configuration in &study.configurations {
            // A recipe that reads back is one that can be trained.
            Recipe::parse(&configuration.recipe.to_toml(), None)?;
        }
        Ok(study)
    }

    /// All trainings, one seed after the other, so that every configuration has a result early.
    pub fn runs(&self) -> Vec<Run> {
        let seeds = 1..=self.options.seeds;
        let of_seed = |seed| {
            let configurations = self.configurations.iter().enumerate();
            configurations.map(move |(configuration, c)| {
                let mut recipe = c.recipe.clone();
                recipe.training.seed = seed;
                Run {
                    configuration,
                    seed,
                    recipe,
                }
            })
        };
        seeds.flat_map(of_seed).collect()
    }

    /// Folder of a run within the study's.
    pub fn run_folder(&self, folder: &Path, run: &Run) -> PathBuf {
        let name = &self.configurations[run.configuration].name;
        folder.join("runs").join(format!("{name}-seed{}", run.seed))
    }

    fn recipe(&self, network: NetworkConfig, learning_rate: f64) -> Recipe {
        let o = &self.options;
        Recipe {
            network,
            start: Start::default(),
            teacher: None,
            data: o.data.clone(),
            training: Training {
                updates: o.updates,
                batch: o.batch,
                patch_px: o.patch_px,
                least_detail: 0.0,
                branches: false,
                precision: o.precision,
                seed: 1,
                loss: Loss::L1,
                gradient_clip_norm: 0.0,
                average_decay: 0.0,
                // That a training diverges is a result.
                rollbacks: 0,
                rollback_factor: 0.5,
            },
            schedule: Schedule {
                learning_rate,
                warm_up_updates: 0,
                course: Course::Step {
                    milestones: vec![o.updates * 4 / 5],
                    factor: 0.5,
                },
            },
            validation: o.validation.clone(),
        }
    }

    fn add(&mut self, name: String, group: &str, x: f64, network: NetworkConfig, rate: f64) {
        let recipe = self.recipe(network, rate);
        self.configurations.push(Configuration {
            name,
            group: group.to_owned(),
            x,
            recipe,
            published: None,
        });
    }

    fn say(
        &mut self,
        text: String,
        source: &str,
        better: &str,
        worse: &str,
        published: Option<f64>,
    ) {
        self.statements.push(Statement {
            text,
            source: source.to_owned(),
            better: better.to_owned(),
            worse: worse.to_owned(),
            published_db: published,
            margin_db: 0.0,
        });
    }

    fn one_depth(&self) -> Result<usize, String> {
        match self.options.blocks[..] {
            [] => Ok(DEFAULT_BLOCKS),
            [blocks] => Ok(blocks),
            _ => Err(format!(
                "{} depths of study {}, expected one",
                self.options.blocks.len(),
                self.kind
            )),
        }
    }

    fn depth(&mut self) -> Result<(), String> {
        const SOURCE: &str = "table of JiahuiYu/wdsr_ntire2018";
        let mut taken = self.options.blocks.clone();
        let published: Vec<usize> = DEPTH_TABLE.iter().map(|row| row.0).collect();
        if taken.is_empty() {
            taken.clone_from(&published);
        }
        if let Some(other) = taken.iter().find(|blocks| !published.contains(blocks)) {
            return Err(format!(
                "{other} blocks are not in the paper's table, expected some of {published:?}"
            ));
        }
        for (blocks, figures) in DEPTH_TABLE.into_iter().filter(|row| taken.contains(&row.0)) {
            let networks = [
                ("EDSR", NetworkConfig::edsr(64, blocks, 2), LOW_RATE),
                ("WDSR-A", NetworkConfig::wdsr_a(32, blocks, 2), HIGH_RATE),
                ("WDSR-B", NetworkConfig::wdsr_b(64, blocks, 2), HIGH_RATE),
            ];
            let name = |group: &str| format!("{}-{blocks}", group.to_lowercase());
            for ((group, network, rate), (millions, psnr_db)) in
                networks.clone().into_iter().zip(figures)
            {
                self.add(name(group), group, blocks as f64, network, rate);
                if let Some(last) = self.configurations.last_mut() {
                    last.published = Some(Published {
                        parameters_millions: millions,
                        psnr_db,
                    });
                }
            }
            for (one, other) in [(1, 0), (2, 0), (2, 1)] {
                let difference = figures[one].1 - figures[other].1;
                let (better, worse) = if difference > 0.0 {
                    (one, other)
                } else {
                    (other, one)
                };
                let [better, worse] = [better, worse].map(|at| networks[at].0);
                self.say(
                    format!("{better} beats {worse} at {}", self::blocks(blocks)),
                    SOURCE,
                    &name(better),
                    &name(worse),
                    Some(difference.abs()),
                );
            }
            if self.options.updates < PUBLISHED_UPDATES {
                let [(_, edsr, _), wdsr @ ..] = networks;
                let fast = format!("edsr-{blocks}-1e-3");
                self.add(fast.clone(), "EDSR at 1e-3", blocks as f64, edsr, HIGH_RATE);
                for (group, ..) in wdsr {
                    self.say(
                        format!(
                            "{group} beats EDSR at {}, both at 1e-3",
                            self::blocks(blocks)
                        ),
                        "not published: at this budget 1e-4 holds EDSR back",
                        &name(group),
                        &fast,
                        None,
                    );
                }
            }
        }
        Ok(())
    }

    fn norm(&mut self) -> Result<(), String> {
        let blocks = self.one_depth()?;
        for (group, norm, key) in [
            ("weight", Norm::Weight, "weight"),
            ("batch", Norm::Batch, "batch"),
            ("none", Norm::None, "none"),
        ] {
            for (rate, label) in [(LOW_RATE, "1e-4"), (HIGH_RATE, "1e-3")] {
                let network = NetworkConfig {
                    norm,
                    ..NetworkConfig::wdsr_a(32, blocks, 2)
                };
                self.add(format!("{key}-{label}"), group, rate, network, rate);
            }
        }
        let paper = "Yu et al. 2018, section 3.3";
        let mut say = |text: &str, source: &str, better: &str, worse: &str| {
            self.say(text.to_owned(), source, better, worse, None);
        };
        say(
            "weight normalisation at 1e-3 beats batch normalisation at 1e-4",
            paper,
            "weight-1e-3",
            "batch-1e-4",
        );
        say(
            "weight normalisation at 1e-3 beats batch normalisation at 1e-3",
            paper,
            "weight-1e-3",
            "batch-1e-3",
        );
        say(
            "weight normalisation at 1e-3 beats none at 1e-4",
            paper,
            "weight-1e-3",
            "none-1e-4",
        );
        say(
            "weight normalisation at 1e-3 beats none at 1e-3",
            paper,
            "weight-1e-3",
            "none-1e-3",
        );
        say(
            "weight normalisation needs the higher rate: 1e-3 beats 1e-4",
            "issue #1 of JiahuiYu/wdsr_ntire2018",
            "weight-1e-3",
            "weight-1e-4",
        );
        say(
            "at 1e-4 weight normalisation does not help: none does as well, to 0.01 dB",
            "issue #1 of JiahuiYu/wdsr_ntire2018",
            "none-1e-4",
            "weight-1e-4",
        );
        if let Some(last) = self.statements.last_mut() {
            last.margin_db = EQUAL_DB;
        }
        Ok(())
    }

    fn width(&mut self) -> Result<(), String> {
        let blocks = self.one_depth()?;
        let mut expansions = self.options.expansions.clone();
        if expansions.is_empty() {
            expansions.extend(DEFAULT_EXPANSIONS);
        }
        if let Some(other) = expansions.iter().find(|e| !(1..=9).contains(*e)) {
            return Err(format!("expansion {other}, expected 1 to 9"));
        }
        let budget = Network::new(&NetworkConfig::wdsr_a(32, blocks, 2)).parameters();
        for (group, block) in [("WDSR-A", BlockKind::WdsrA), ("WDSR-B", BlockKind::WdsrB)] {
            for &expansion in &expansions {
                let network = at_equal_parameters(block, expansion, blocks, budget);
                let name = format!("{}-e{expansion}", group.to_lowercase());
                self.add(name, group, expansion as f64, network, HIGH_RATE);
            }
        }
        let paper = "Yu et al. 2018, sections 3.1 and 3.2";
        let issue = "issue #26 of JiahuiYu/wdsr_ntire2018";
        for (better, worse, text, source) in [
            (
                "wdsr-a-e2",
                "wdsr-a-e1",
                "a wider activation helps WDSR-A: 2 beats 1",
                paper,
            ),
            (
                "wdsr-a-e4",
                "wdsr-a-e1",
                "a wider activation helps WDSR-A: 4 beats 1",
                paper,
            ),
            (
                "wdsr-a-e4",
                "wdsr-a-e6",
                "6 is too wide for WDSR-A: 4 beats it",
                issue,
            ),
            (
                "wdsr-a-e4",
                "wdsr-a-e9",
                "9 is too wide for WDSR-A: 4 beats it",
                issue,
            ),
            (
                "wdsr-b-e6",
                "wdsr-a-e6",
                "WDSR-B bears 6 better than WDSR-A",
                paper,
            ),
            (
                "wdsr-b-e9",
                "wdsr-a-e9",
                "WDSR-B bears 9 better than WDSR-A",
                paper,
            ),
            (
                "wdsr-b-e6",
                "wdsr-a-e4",
                "WDSR-B at 6 beats WDSR-A at 4",
                paper,
            ),
        ] {
            let exists = |name: &str| self.configurations.iter().any(|c| c.name == name);
            if exists(better) && exists(worse) {
                self.say(text.to_owned(), source, better, worse, None);
            }
        }
        Ok(())
    }

    fn gains(&mut self) -> Result<(), String> {
        const PLAIN: &str = "plain";
        let blocks = self.one_depth()?;
        let teacher = self.options.teacher.clone();
        let network = NetworkConfig::wdsr_b(32, blocks, 2);
        // As the released models are trained.
        let mut plain = self.recipe(network, HIGH_RATE);
        plain.schedule.warm_up_updates = self.options.updates / 60;
        plain.schedule.course = Course::Cosine {
            final_learning_rate: 1e-6,
        };
        let mut add = |name: &str, claim: &str, source: &str, change: &dyn Fn(&mut Recipe)| {
            let mut recipe = plain.clone();
            change(&mut recipe);
            self.configurations.push(Configuration {
                name: name.to_owned(),
                group: name.to_owned(),
                x: blocks as f64,
                recipe,
                published: None,
            });
            if name != PLAIN {
                self.say(claim.to_owned(), source, name, PLAIN, None);
            }
        };
        add(PLAIN, "", "", &|_| {});
        add(
            "average",
            "a moving average of the weights helps",
            "common practice of the NTIRE challenges",
            &|r| r.training.average_decay = 0.999,
        );
        add(
            "branches",
            "3x3 convolutions trained as sums of branches help",
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
        Ok(())
    }
}

/// `1 block`, `3 blocks`
fn blocks(count: usize) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} block{plural}")
}

/// The network of the given expansion whose parameters come nearest to the budget.
fn at_equal_parameters(
    block: BlockKind,
    expansion: usize,
    blocks: usize,
    budget: usize,
) -> NetworkConfig {
    let of = |features: usize| NetworkConfig {
        expansion,
        ..match block {
            BlockKind::WdsrB => NetworkConfig::wdsr_b(features, blocks, 2),
            _ => NetworkConfig::wdsr_a(features, blocks, 2),
        }
    };
    let far = |features: &usize| {
        let parameters = Network::new(&of(*features)).parameters();
        parameters.abs_diff(budget)
    };
    of((2..=256).min_by_key(far).unwrap_or(32))
}

#[cfg(test)]
mod tests;
