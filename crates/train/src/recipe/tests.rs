use wdsr_model::{BlockKind, Norm};

use super::*;

fn parse(text: &str) -> Recipe {
    Recipe::parse(text, None).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(text: &str) -> String {
    let error = Recipe::parse(text, None).expect_err("an invalid recipe");
    let error = error.to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn defaults_are_the_published_training() {
    let recipe = parse("[network]");
    assert_eq!(recipe.network, NetworkConfig::wdsr_a(32, 16, 2));
    let t = &recipe.training;
    assert_eq!((t.updates, t.batch, t.patch_px), (250_000, 16, 48));
    assert_eq!(t.loss, Loss::L1);
    assert_eq!(recipe.schedule.learning_rate, 1e-3);
    let step = Decay::Step {
        milestones: vec![200_000],
        factor: 0.5,
    };
    assert_eq!(recipe.schedule.decay, step);
    // Defaults depend on the kind of block and on the normalisation.
    let wdsr_b = parse("[network]\nblock = \"wdsr-b\"\nfeatures = 64\nblocks = 8");
    assert_eq!(wdsr_b.network, NetworkConfig::wdsr_b(64, 8, 2));
    let edsr = parse("[network]\nblock = \"edsr\"\nfeatures = 64");
    assert_eq!(edsr.network, NetworkConfig::edsr(64, 16, 2));
    assert_eq!(edsr.schedule.learning_rate, 1e-4);
    let batch = parse("[network]\nnorm = \"batch\"");
    assert_eq!(batch.schedule.learning_rate, 1e-4);
}

#[test]
fn suggests_the_nearest_known_name() {
    for (text, line, unknown, nearest) in [
        ("[network]\n[training]\nbacth = 4", 3, "bacth", "batch"),
        ("[network]\nfeature = 4", 2, "feature", "features"),
        ("[netwrok]\n", 1, "netwrok", "network"),
        (
            "[network]\n\n[schedule]\nlearning-rate = 1",
            4,
            "learning-rate",
            "learning_rate",
        ),
        (
            "[network]\n[schedule]\nkind = \"cosin\"",
            3,
            "cosin",
            "cosine",
        ),
        ("[network]\nblock = \"wdsr_b\"", 2, "wdsr_b", "wdsr-b"),
        (
            "[network]\n[data]\nfolders = [{ path = \"a\", wieght = 1 }]",
            3,
            "wieght",
            "weight",
        ),
        (
            "[network]\n[validation]\nprotocol = \"div2\"",
            3,
            "div2",
            "div2k",
        ),
    ] {
        let error = refused(text);
        assert!(error.contains(&format!("line {line}: unknown")), "{error}");
        assert!(error.contains(&format!("`{unknown}`")), "{error}");
        let end = format!("did you mean `{nearest}`?");
        assert!(error.ends_with(&end), "{error}");
    }
    // Without a similar name the known names are listed.
    let error = refused("[network]\n[training]\nxyz = 4");
    assert!(!error.contains("did you mean"), "{error}");
    assert!(error.contains("`patch_px`"), "{error}");
}

#[test]
fn refuses_values_out_of_range_and_keys_without_effect() {
    for (text, expected) in [
        (
            "[network]\n[training]\nupdates = 0",
            "training.updates is 0",
        ),
        (
            "[network]\nblock = \"compact\"\n[training]",
            "network.block is compact, expected wdsr-a, wdsr-b or edsr",
        ),
        (
            "[network]\n[training]\nbatch = \"x\"",
            "line 3: invalid type",
        ),
        (
            "[network]\n[training]\naverage_decay = 1.0",
            "average_decay is 1",
        ),
        (
            "[network]\n[schedule]\nlearning_rate = -1.0",
            "learning_rate is -1",
        ),
        (
            "[network]\n[training]\nupdates = 10\n[schedule]\nmilestones = [5, 10]",
            "milestones is 10, expected milestones below training.updates, 10",
        ),
        (
            "[network]\n[training]\nupdates = 10\n[schedule]\nwarm_up_updates = 11",
            "warm_up_updates is 11",
        ),
        (
            "[network]\n[schedule]\nkind = \"cosine\"\nmilestones = [5]",
            "milestones has no effect without",
        ),
        (
            "[network]\n[training]\nfft_weight = 0.1",
            "fft_weight has no effect without",
        ),
        (
            "[network]\n[data]\nfolders = [{ path = \"a\", weight = 1 }, { path = \"b\" }]",
            "1 weights for 2 folders",
        ),
        (
            "[network]\n[data]\nfolders = [{ path = \"a\", weight = 0 }]",
            "weight is 0, expected a number above 0",
        ),
        ("[network]\nscale = 5", "[network] scale is 5"),
        ("[training]\nupdates = 5", "no [network] table"),
    ] {
        let error = refused(text);
        assert!(error.contains(expected), "`{error}`, expected `{expected}`");
    }
}

#[test]
fn parses_its_own_toml_and_json() {
    for text in [
        "[network]",
        "[network]\nblock = \"edsr\"\n[training]\nloss = \"l2\"\n[schedule]\nkind = \"constant\"",
        "[network]\nblock = \"wdsr-b\"\nresidual_scale = 0.1\n[training]\nloss = \"charbonnier\"\n\
         [schedule]\nkind = \"cosine\"",
        "[network]\n[training]\nrollback_factor = 1e-30\n[schedule]\nlearning_rate = 2.3e-4",
        "[network]\n[training]\nupdates = 1000\nloss = \"fft\"\nfft_weight = 0.1\n[schedule]\n\
         kind = \"one-cycle\"\n[data]\nvalidation = \"v\"\ntrack = \"wild\"\n\
         folders = [{ path = \"a\", weight = 2.5 }]\n[start]\nfrom = \"m\"\ninsert_blocks = true",
    ] {
        let recipe = parse(text);
        let again = parse(&recipe.to_toml());
        assert_eq!(again, recipe, "{}", recipe.to_toml());
        let json: Recipe = serde_json::from_str(&recipe.to_json()).expect("JSON");
        assert_eq!(json, recipe);
        assert_eq!(recipe.difference(&again), None);
    }
}

#[test]
fn cool_down_is_that_of_a_constant_rate_and_within_the_updates() {
    let with =
        |schedule: &str| format!("[network]\n[training]\nupdates = 100\n[schedule]\n{schedule}");
    let recipe = parse(&with("kind = \"constant\"\ncool_down_updates = 20"));
    assert_eq!(recipe.updates_before_cool_down(), 80);
    assert_eq!(parse(&recipe.to_toml()), recipe);
    for (schedule, expected) in [
        (
            "kind = \"cosine\"\ncool_down_updates = 20",
            "schedule.cool_down_updates has no effect without schedule.kind = \"constant\"",
        ),
        (
            "kind = \"constant\"\ncool_down_updates = 101",
            "schedule.cool_down_updates is 101, expected at most training.updates, 100",
        ),
        (
            "kind = \"constant\"\nfinal_learning_rate = 1e-5",
            "schedule.final_learning_rate has no effect",
        ),
    ] {
        let found = refused(&with(schedule));
        assert!(found.contains(expected), "{found}\nfor {expected}");
    }
}

#[test]
fn one_cycle_warms_up_over_three_tenths() {
    let recipe = parse("[network]\n[training]\nupdates = 1000\n[schedule]\nkind = \"one-cycle\"");
    assert_eq!(recipe.schedule.warm_up_updates, 300);
}

#[test]
fn differences_name_the_key_and_ignore_paths() {
    let here = parse("[network]\n[data]\nvalidation = \"a\"");
    let there = parse("[network]\n[data]\nvalidation = \"b\"");
    assert_eq!(here.difference(&there), None);
    let there = parse("[network]\n[schedule]\nkind = \"constant\"");
    let found = here.difference(&there).expect("a difference");
    assert!(found.contains("schedule."), "{found}");
    let there = parse("[network]\n[training]\nseed = 2");
    let found = here.difference(&there).expect("a difference");
    assert_eq!(found, "training.seed is 2 there, 1 here");
}

#[test]
fn takes_the_network_of_a_model_without_a_network_table() {
    let model = NetworkConfig {
        norm: Norm::None,
        ..NetworkConfig::wdsr_b(24, 3, 4)
    };
    let recipe = Recipe::parse("[training]\nseed = 3", Some(&model)).expect("a recipe");
    assert_eq!(recipe.network, NetworkConfig::wdsr_b(24, 3, 4));
    assert_eq!(recipe.network.block, BlockKind::WdsrB);
}

#[test]
fn recipes_of_the_repository_are_valid() {
    let folder = wdsr_testing::paths::checkout("recipes");
    let mut labels = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("recipes/") {
        let path = entry.expect("an entry").path();
        // These two train a given model further.
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let model = wdsr_testing::paths::built_in_model("small-x2");
        let further = name == "fine-tune.toml" || name == "finish-l2.toml";
        let from = further.then_some(model);
        let recipe = Recipe::load(
            &path,
            Overrides {
                from: from.as_deref(),
                ..Overrides::default()
            },
        )
        .unwrap_or_else(|e| panic!("{e}"));
        labels.push((path.file_stem().expect("a name").to_owned(), recipe));
    }
    let of = |name: &str| {
        let found = labels.iter().find(|(stem, _)| stem == name);
        &found.unwrap_or_else(|| panic!("no recipe {name}")).1
    };
    // The defaults are the paper's recipe.
    let paper = of("paper-wdsr-a-x2");
    assert_eq!(
        paper.difference(&parse("[network]\n[validation]\nprotocol = \"div2k\"")),
        None
    );
    for name in ["ntire2018-mild", "ntire2018-difficult", "ntire2018-wild-x4"] {
        let recipe = of(name);
        let network = wdsr_model::Network::for_training(&recipe.network);
        let parameters = network.parameters() + network.gains();
        assert_eq!(parameters, 18_961_744, "{name}");
        assert!(recipe.degradation.is_some(), "{name}");
    }
    let grown = of("base-x2");
    assert!(grown.start.insert_blocks && grown.start.from.is_some());
    let reloaded = &of("reloaded-x2");
    assert_eq!(reloaded.training.updates, 1_500_000);
    let step = Decay::Step {
        milestones: vec![1_000_000, 1_250_000],
        factor: 0.2,
    };
    assert_eq!(reloaded.schedule.decay, step);
    // Parameters of the PyTorch networks, with gains.
    for (name, parameters) in [
        ("ntire2018-x8", 38_029_760),
        ("ntire2018-wild-x4", 18_961_744),
        ("paper-wdsr-b-x2", 1_202_260),
        ("paper-wdsr-a-x2", 1_190_100),
    ] {
        let network = wdsr_model::Network::new(&of(name).network);
        let with_gains = network.parameters() + network.gains();
        assert_eq!(with_gains, parameters, "{name}");
    }
}

#[test]
fn optional_keys_are_off_by_default() {
    let recipe = parse(
        "[network]\n[start]\ninitialization = \"reloaded\"\n[training]\nbranches = true\n\
         least_detail = 2.5",
    );
    assert_eq!(recipe.start.initialization, Initialization::Reloaded);
    assert!(recipe.training.branches);
    assert_eq!(recipe.training.least_detail, 2.5);
    assert_eq!(parse(&recipe.to_toml()), recipe);
    let plain = parse("[network]");
    assert_eq!(plain.start.initialization, Initialization::Pytorch);
    assert!(!plain.training.branches && plain.training.least_detail == 0.0);

    let text = "[network]\nnorm = \"none\"\n[start]\ninitialization = \"reloaded\"";
    assert!(
        refused(text).contains("start.initialization = \"reloaded\" has no effect"),
        "{}",
        refused(text)
    );
    let text = "[network]\n[training]\nleast_detail = -1.0";
    assert!(refused(text).contains("training.least_detail is -1"));
}

/// Found by fuzzing: the default milestone is computed from any number of updates.
#[test]
fn default_milestone_does_not_overflow() {
    let recipe = parse("[network]\n[training]\nupdates = 9_223_372_036_854_775_807");
    let Decay::Step { milestones, .. } = recipe.schedule.decay else {
        panic!("{:?}", recipe.schedule.decay);
    };
    assert!(milestones[0] > 1 << 62, "{milestones:?}");
}

const JPEG: &str = "[[degradation.stages]]\nkind = \"jpeg\"\nquality = [10, 95]\n\
                    subsampling = [\"4:2:0\"]\n";

#[test]
fn degradation_and_strength_are_checked_before_training() {
    let with = |network: &str, rest: &str| format!("[network]\n{network}\n{rest}{JPEG}");
    let area = "[[degradation.stages]]\nkind = \"downsample\"\nmethods = [\"area\"]\n";
    let recipe = parse(&with("scale = 1", "[strength]\nrange = [0.1, 1]\n"));
    assert_eq!(recipe.strength.as_ref().map(|s| s.range), Some([0.1, 1.0]));
    assert_eq!(parse(&recipe.to_toml()), recipe);
    for (text, expected) in [
        (
            with("", ""),
            "degradation.stages: expected exactly one downsample stage at scale 2",
        ),
        (
            with("scale = 1", area),
            "degradation.stages: expected no downsample stage at scale 1",
        ),
        (
            with("", "[strength]\n").replace("[10, 95]", "[0, 95]") + area,
            "degradation.stages[0].quality: expected [smallest, largest] from 1 to 100",
        ),
        (
            with("", "[strength]\n") + area,
            "strength.clean is missing; name a model of scale 2",
        ),
        (
            with("scale = 1", "[strength]\nrange = [0.5, 1.5]\n"),
            "strength.range is [0.5, 1.5], expected [smallest, largest] from 0 to 1",
        ),
        (
            with("scale = 1\nnorm = \"batch\"", "[strength]\n"),
            "strength has no effect without network.norm",
        ),
        (
            "[network]\n[strength]\nclean = \"x\"".to_owned(),
            "strength has no effect without a [[degradation.stages]]",
        ),
        (
            with("scale = 1", "").replace("jpeg", "scratches"),
            "unknown value `scratches`",
        ),
    ] {
        let found = refused(&text);
        assert!(found.contains(expected), "{found}\nfor {expected}");
    }
}

/// A degradation that does not fit the training is refused with its key and a remedy.
#[test]
fn degradations_that_do_not_fit_are_refused() {
    let recipe = |scale: usize, patch_px: usize, stages: &str| {
        let down = match scale {
            1 => "",
            _ => "[[degradation.stages]]\nkind = \"downsample\"\nmethods = [\"area\"]\n",
        };
        format!("[network]\nscale = {scale}\n[training]\npatch_px = {patch_px}\n{stages}{down}")
    };
    let stage = |keys: &str| format!("[[degradation.stages]]\n{keys}\n");
    let blur = |keys: &str| {
        stage(&format!(
            "kind = \"blur\"\nshapes = [\"isotropic\"]\n{keys}"
        ))
    };
    let cases = [
        (
            recipe(1, 16, &blur("sigma_px = [1, 2]\nkernel_px = 17")),
            "degradation.stages[0].kernel_px: expected at most the 16 pixels of a patch at this stage, \
             found 17; lower it, or raise training.patch_px",
        ),
        (
            recipe(2, 8, &blur("sigma_px = [1, 2]\nkernel_px = 17")),
            "degradation.stages[0].kernel_px: expected at most the 16 pixels",
        ),
        (
            recipe(2, 8, &stage("kind = \"shift\"\noffset_px = [-17, 1]")),
            "degradation.stages[0].offset_px: expected at most the 16 pixels",
        ),
        (
            recipe(
                1,
                48,
                &stage("kind = \"jpeg\"\nquality = [0, 90]\nsubsampling = [\"4:2:0\"]"),
            ),
            "degradation.stages[0].quality: expected",
        ),
        (
            recipe(1, 48, &stage("kind = \"sharpen\"")),
            "line 6: unknown value `sharpen`, expected one of `blur`",
        ),
        (
            recipe(1, 48, &stage("kind = \"noise\"\nper = \"pixel\"")),
            "unknown value `pixel`, expected one of `patch`, `image`, `dataset`",
        ),
        (
            recipe(1, 48, &stage("kind = \"downsample\"\nmethods = [\"area\"]")),
            "expected no downsample stage at scale 1, found 1; change the stages or network.scale",
        ),
        (
            format!("{}[data]\ntrack = \"wild\"", recipe(4, 48, "")),
            "data.track has no effect with [degradation]",
        ),
        (
            format!(
                "{}[strength]",
                recipe(
                    1,
                    48,
                    &stage("kind = \"noise\"\nper = \"image\"\nsigma_levels = [1, 2]")
                )
            ),
            "per of noise or jpeg has no effect with [strength]",
        ),
        (
            "[network]\n[data]\nshifts = \"guess\"".to_owned(),
            "expected \"estimate\" or a list of reports",
        ),
    ];
    for (text, expected) in cases {
        let error = refused(&text);
        assert!(error.contains(expected), "{error:?} for {text}");
    }
    // A kernel as large as a patch fits, at high resolution more than at low resolution.
    parse(&recipe(2, 8, &blur("sigma_px = [1, 2]\nkernel_px = 15")));
}

/// Written recipes are read back, and paths of reports do not matter to a resumed run.
#[test]
fn shifts_are_written_and_read() {
    for shifts in ["\"estimate\"", "[\"a.jsonl\", \"b.jsonl\"]"] {
        let recipe = parse(&format!("[network]\n[data]\nshifts = {shifts}"));
        assert_eq!(parse(&recipe.to_toml()), recipe);
    }
    let of = |path: &str| parse(&format!("[network]\n[data]\nshifts = [\"{path}\"]"));
    assert_eq!(of("a.jsonl").difference(&of("b.jsonl")), None);
}
