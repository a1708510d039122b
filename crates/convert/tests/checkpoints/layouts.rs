//! Models are read back unchanged through the layouts, wrappers and number formats of other
//! trainers.

use std::path::Path;

use safetensors::SafeTensors;
use wdsr_convert::{Imported, Options, Range, import_bytes};
use wdsr_model::{BlockKind, ConvWeights, DIV2K_MEAN, Model, NetworkConfig};

use super::writer::{Checkpoint, Item, call, int, text};

/// The input convention that does not change the weights.
fn plain() -> Options {
    Options {
        range: Some(Range::Unit),
        mean: Some(DIV2K_MEAN),
        ..Options::default()
    }
}

fn read(bytes: &[u8], options: &Options) -> Imported {
    import_bytes(bytes, Path::new("some.pt"), options).unwrap_or_else(|e| panic!("{e}"))
}

fn same(imported: &Imported, model: &Model) {
    assert_eq!(imported.model.config(), model.config());
    assert_eq!(imported.model.convs(), model.convs());
}

fn models() -> [Model; 5] {
    [
        NetworkConfig::wdsr_a(4, 2, 2),
        NetworkConfig {
            low_rank: 5,
            ..NetworkConfig::wdsr_b(8, 3, 4)
        },
        NetworkConfig::edsr(4, 2, 2),
        NetworkConfig::edsr(4, 1, 4),
        NetworkConfig::edsr(4, 1, 1),
    ]
    .map(|config| Model::random(&config, 7))
}

/// The state dict under other names.
fn renamed(items: Vec<(Item, Item)>, rename: impl Fn(&str) -> String) -> Item {
    let rename = |(key, value)| match key {
        Item::Text(name) => (Item::Text(rename(&name)), value),
        other => (other, value),
    };
    Item::Dict(items.into_iter().map(rename).collect())
}

#[test]
fn both_containers_are_read_for_every_kind_of_network() {
    for model in models() {
        let mut checkpoint = Checkpoint::default();
        let object = Item::Dict(checkpoint.state_dict(&model));
        same(&read(&checkpoint.zip(&object), &plain()), &model);
        same(&read(&checkpoint.legacy(&object), &plain()), &model);
    }
}

#[test]
fn layouts_differ_by_their_names() {
    let [a, b, ..] = models();
    let ychfan = |name: &str| match name.split_once('.') {
        Some(("head", _)) => name.replace("head.0", "body.0"),
        Some(("tail", _)) => name.replace("tail.0", "body.3"),
        Some(("body", rest)) => {
            let (block, rest) = rest.split_once('.').expect("a block");
            let block: usize = block.parse().expect("a number");
            format!("body.{}.{rest}", block + 1)
        }
        _ => name.to_owned(),
    };
    let yjn870 = |name: &str| {
        let body = name.strip_prefix("body.");
        body.map_or(name.to_owned(), |rest| {
            format!("body.{}", rest.replace(".body.", ".module."))
        })
    };
    let bare = |name: &str| name.replace("head.0.", "head.").replace("tail.0.", "tail.");
    type Rename<'a> = &'a dyn Fn(&str) -> String;
    let cases: [(&Model, Rename<'_>, &str, Range, [f32; 3]); 4] = [
        (&a, &ychfan, "ychfan", Range::Unit, [0.5; 3]),
        (&b, &yjn870, "yjn870", Range::Signed, DIV2K_MEAN),
        (&b, &bare, "bare", Range::Unit, [0.5; 3]),
        (&b, &str::to_owned, "official", Range::Signed, DIV2K_MEAN),
    ];
    for (model, rename, layout, range, mean) in cases {
        let mut checkpoint = Checkpoint::default();
        let object = renamed(checkpoint.state_dict(model), rename);
        let bytes = checkpoint.zip(&object);
        let imported = read(&bytes, &plain());
        same(&imported, model);
        assert!(imported.recognised[0].contains(layout), "{layout}");
        // The layout's convention is what it is read with unless another one is asked for.
        let by_layout = read(&bytes, &Options::default());
        let asked = Options {
            range: Some(range),
            mean: Some(mean),
            ..Options::default()
        };
        same(&by_layout, &read(&bytes, &asked).model);
    }
}

#[test]
fn wrappers_and_other_values_of_trainers_are_ignored() {
    let [model, ..] = models();
    let other = Model::random(model.config(), 8);
    let wrapped = |build: &dyn Fn(&mut Checkpoint) -> Item| {
        let mut checkpoint = Checkpoint::default();
        let object = build(&mut checkpoint);
        same(&read(&checkpoint.zip(&object), &plain()), &model);
    };
    let prefixed = |checkpoint: &mut Checkpoint, prefix: &str, model: &Model| {
        renamed(checkpoint.state_dict(model), |name| {
            format!("{prefix}{name}")
        })
    };
    for key in [
        "state_dict",
        "model_state_dict",
        "model",
        "params",
        "params_ema",
    ] {
        wrapped(&|checkpoint| {
            Item::Dict(vec![
                (text("epoch"), int(3)),
                (text(key), prefixed(checkpoint, "module.", &model)),
            ])
        });
    }
    for prefix in ["module.", "model.", "module.net_g.", "generator."] {
        wrapped(&|checkpoint| prefixed(checkpoint, prefix, &model));
    }
    // Averaged weights go before the last ones.
    wrapped(&|checkpoint| {
        Item::Dict(vec![
            (text("params"), prefixed(checkpoint, "", &other)),
            (text("params_ema"), prefixed(checkpoint, "", &model)),
        ])
    });
    wrapped(&|checkpoint| {
        let state = call(
            "collections",
            "defaultdict",
            vec![Item::Global("__builtin__", "dict")],
        );
        let moment = checkpoint.tensor(&[2], &[1.0, 2.0]);
        let optimizer = Item::Dict(vec![
            (text("state"), state),
            (text("moment"), moment),
            (text("betas"), Item::Tuple(vec![Item::Float(0.9)])),
            (text("group"), Item::List(vec![int(0), int(1)])),
        ]);
        let milestones = call(
            "collections",
            "Counter",
            vec![Item::Dict(vec![(int(20), int(1))])],
        );
        Item::Dict(vec![
            (text("optimizer_state_dict"), optimizer),
            (text("milestones"), milestones),
            (text("best"), Item::None),
            (text("model_state_dict"), prefixed(checkpoint, "", &model)),
        ])
    });
    // Parameters as such, and OrderedDict as Python 2 wrote it.
    wrapped(&|checkpoint| {
        let pairs = checkpoint.state_dict(&model).into_iter();
        let pairs = pairs.map(|(key, tensor)| {
            let parts = vec![tensor, Item::None, Item::None];
            Item::List(vec![key, call("torch._utils", "_rebuild_parameter", parts)])
        });
        call(
            "collections",
            "OrderedDict",
            vec![Item::List(pairs.collect())],
        )
    });
}

#[test]
fn the_key_of_the_weights_is_an_option() {
    let [model, ..] = models();
    let mut checkpoint = Checkpoint::default();
    let other = Model::random(model.config(), 8);
    let object = Item::Dict(vec![
        (
            text("params_ema"),
            Item::Dict(checkpoint.state_dict(&other)),
        ),
        (text("mine"), Item::Dict(checkpoint.state_dict(&model))),
    ]);
    let bytes = checkpoint.zip(&object);
    let options = Options {
        weights: Some("mine".to_owned()),
        ..plain()
    };
    let imported = read(&bytes, &options);
    same(&imported, &model);
    assert!(
        imported.recognised[0].contains("under `mine`"),
        "{imported:?}"
    );
}

#[test]
fn safetensors_files_are_read_in_the_same_layouts() {
    for model in models() {
        // A model's file without its metadata is a state dict in the official layout.
        let bytes = model.to_bytes();
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        let bare = safetensors::serialize(file.iter(), None).expect("valid tensors");
        same(&read(&bare, &plain()), &model);
    }
}

#[test]
fn models_of_wdsr_are_read_unchanged() {
    let [model, ..] = models();
    let bytes = model.to_bytes();
    same(&read(&bytes, &Options::default()), &model);
    let error = import_bytes(&bytes, Path::new("some.safetensors"), &plain());
    let reason = error.expect_err("options without a use").to_string();
    assert!(reason.contains("omit these options"), "{reason}");
}

#[test]
fn compact_is_read_from_the_files_of_real_esrgan() {
    for (model, key) in [
        (NetworkConfig::compact(6, 3, 4), "params"),
        (NetworkConfig::compact(5, 0, 2), "params_ema"),
        (NetworkConfig::compact(4, 1, 1), "params"),
    ] {
        let model = Model::random(&model, 5);
        let mut checkpoint = Checkpoint::default();
        let object = Item::Dict(vec![(text(key), Item::Dict(checkpoint.state_dict(&model)))]);
        let imported = read(&checkpoint.zip(&object), &Options::default());
        same(&imported, &model);
        assert!(imported.recognised[0].contains("Compact"), "{imported:?}");
    }
}

#[test]
fn rrdb_is_read_under_all_names_of_its_convolutions() {
    for (scale, blocks) in [(4, 2), (2, 1), (1, 1), (8, 1)] {
        let config = NetworkConfig {
            growth: 3,
            ..NetworkConfig::rrdb(4, blocks, scale)
        };
        let model = Model::random(&config, 5);
        let esrgan = |name: &str| {
            name.replace("conv_body", "trunk_conv")
                .replace("body.", "RRDB_trunk.")
                .replace(".rdb", ".RDB")
                .replace("conv_up", "upconv")
                .replace("conv_hr", "HRconv")
        };
        let up_convs = scale.ilog2();
        let old = |name: &str| {
            let (conv, tensor) = name.rsplit_once('.').expect("a tensor");
            let conv = match conv {
                "conv_first" => "0".to_owned(),
                "conv_body" => format!("1.sub.{blocks}"),
                "conv_hr" => format!("{}", 3 * up_convs + 2),
                "conv_last" => format!("{}", 3 * up_convs + 4),
                _ => match conv.strip_prefix("conv_up") {
                    Some(stage) => format!("{}", 3 * stage.parse::<u32>().expect("a stage")),
                    None => format!(
                        "{}.0",
                        conv.replace("body.", "1.sub.").replace(".rdb", ".RDB")
                    ),
                },
            };
            format!("model.{conv}.{tensor}")
        };
        for (layout, rename) in [
            (
                "BasicSR's",
                &(|name: &str| name.to_owned()) as &dyn Fn(&str) -> String,
            ),
            ("ESRGAN's RRDB", &esrgan),
            ("ESRGAN's first", &old),
        ] {
            let mut checkpoint = Checkpoint::default();
            let tensors = renamed(checkpoint.state_dict(&model), rename);
            let imported = read(&checkpoint.zip(&tensors), &Options::default());
            same(&imported, &model);
            assert!(imported.recognised[0].contains(layout), "{imported:?}");
        }
    }
}

#[test]
fn rrdb_of_a_reduced_image_is_refused() {
    let model = Model::random(&NetworkConfig::rrdb(4, 1, 4), 5);
    let mut checkpoint = Checkpoint::default();
    let mut items = checkpoint.state_dict(&model);
    items.retain(|(key, _)| !matches!(key, Item::Text(name) if name == "conv_first.weight"));
    let first = checkpoint.tensor(&[4, 12, 3, 3], &[0.5; 4 * 12 * 9]);
    items.push((text("conv_first.weight"), first));
    let bytes = checkpoint.zip(&Item::Dict(items));
    let error = import_bytes(&bytes, Path::new("x2plus.pth"), &Options::default());
    let error = error
        .expect_err("a network that reads 12 channels")
        .to_string();
    assert!(
        error.contains("scale 2") && error.contains("pixel unshuffle"),
        "{error}"
    );
}

#[test]
fn compact_without_its_slopes_is_refused() {
    let model = Model::random(&NetworkConfig::compact(6, 2, 4), 5);
    for (tensor, reason) in [
        ("body.3.weight", "slopes `body.3.weight` are missing"),
        ("body.4.weight", "convolution `body.4`"),
        ("body.0.weight", "convolution `body.0`"),
    ] {
        let mut checkpoint = Checkpoint::default();
        let mut items = checkpoint.state_dict(&model);
        items.retain(|(key, _)| !matches!(key, Item::Text(name) if name == tensor));
        let bytes = checkpoint.zip(&Item::Dict(items));
        let error = import_bytes(&bytes, Path::new("some.pth"), &Options::default());
        let error = error.expect_err("a tensor is missing").to_string();
        assert!(error.contains(reason), "{tensor}: {error}");
    }
    // Slopes of a network that has none.
    let model = Model::random(&NetworkConfig::edsr(4, 1, 2), 5);
    let mut checkpoint = Checkpoint::default();
    let mut items = checkpoint.state_dict(&model);
    items.push((text("body.7.weight"), checkpoint.tensor(&[4], &[0.25; 4])));
    let bytes = checkpoint.zip(&Item::Dict(items));
    let error = import_bytes(&bytes, Path::new("some.pth"), &Options::default());
    let error = error.expect_err("slopes of nothing").to_string();
    assert!(error.contains("expected no slopes `body.7`"), "{error}");
}

#[test]
fn the_edsr_of_basicsr_is_that_of_edsr_pytorch_under_other_names() {
    for (blocks, scale) in [(2, 2), (3, 3), (1, 4)] {
        let model = Model::random(&NetworkConfig::edsr(4, blocks, scale), 7);
        let rename = |name: &str| {
            let closing = format!("body.{blocks}.");
            match name.split_once('.').expect("a part") {
                ("head", _) => name.replace("head.0", "conv_first"),
                ("body", _) if name.starts_with(&closing) => {
                    name.replace(&closing, "conv_after_body.")
                }
                ("body", _) => name
                    .replace("body.0.", "conv1.")
                    .replace("body.2.", "conv2."),
                _ => name
                    .replace("tail.0.", "upsample.")
                    .replace("tail.1.", "conv_last."),
            }
        };
        // `body.0.body.0.weight` is `body.0.conv1.weight`: the first `body.0.` is the block's.
        let rename = |name: &str| match name.split(".body.").collect::<Vec<_>>()[..] {
            [block, conv] => {
                let conv = conv.replacen("0.", "conv1.", 1).replacen("2.", "conv2.", 1);
                format!("{block}.{conv}")
            }
            _ => rename(name),
        };
        let mut checkpoint = Checkpoint::default();
        let params = renamed(checkpoint.state_dict(&model), rename);
        let bytes = checkpoint.zip(&Item::Dict(vec![(text("params"), params)]));
        let imported = read(&bytes, &plain());
        same(&imported, &model);
        assert!(imported.recognised[0].contains("BasicSR"), "{imported:?}");
        let by_layout = read(&bytes, &Options::default());
        let head = by_layout.model.convs()[0].weight[0];
        assert_eq!(head, 255.0 * model.convs()[0].weight[0], "range 0..255");
    }
}

#[test]
fn networks_of_others_are_named() {
    for (tensor, name) in [
        ("model.1.sub.0.RDB1.conv1x1.weight", "ESRGAN+"),
        (
            "layers.0.residual_group.blocks.0.attn.relative_position_bias_table",
            "SwinIR",
        ),
        (
            "layers.0.residual_group.overlap_attn.relative_position_bias_table",
            "HAT",
        ),
        ("body.0.body.0.body.3.conv_du.0.weight", "RCAN"),
        ("block_1.c1_r.sk.weight", "SPAN"),
        ("feats.0.safm.mfr.0.weight", "SAFMN"),
    ] {
        let mut checkpoint = Checkpoint::default();
        let first = checkpoint.tensor(&[4, 3, 3, 3], &[0.5; 108]);
        let other = checkpoint.tensor(&[4, 4], &[0.5; 16]);
        let object = Item::Dict(vec![
            (text("conv_first.weight"), first),
            (text(tensor), other),
        ]);
        let error = import_bytes(&checkpoint.zip(&object), Path::new("some.pth"), &plain());
        let error = error.expect_err("another network").to_string();
        assert!(error.contains(name) && error.contains("Compact"), "{error}");
    }
}

/// With `sub_mean` and `add_mean` as EDSR-PyTorch writes them, for pixels of 0..range.
#[test]
fn the_mean_of_edsr_is_read_from_its_file() {
    let [_, _, model, ..] = models();
    for range in [1.0, 255.0] {
        let mut checkpoint = Checkpoint::default();
        let mut items = checkpoint.state_dict(&model);
        let identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        let mean = [0.25, 0.5, 0.125];
        for (name, sign) in [("sub_mean", -1.0), ("add_mean", 1.0)] {
            let bias = mean.map(|m| m * sign * range);
            let weight = checkpoint.tensor(&[3, 3, 1, 1], &identity);
            items.push((text(&format!("{name}.weight")), weight));
            items.push((
                text(&format!("{name}.bias")),
                checkpoint.tensor(&[3], &bias),
            ));
        }
        let imported = read(&checkpoint.zip(&Item::Dict(items)), &Options::default());
        let found = imported.model.config();
        assert_eq!((found.block, found.mean), (BlockKind::Edsr, mean));
        let head = &imported.model.convs()[0].weight;
        let expected: Vec<f32> = model.convs()[0].weight.iter().map(|w| w * range).collect();
        assert_eq!(head, &expected, "range {range}");
        let ConvWeights { bias, .. } = imported.model.convs().last().expect("the last");
        for (found, given) in bias
            .iter()
            .zip(&model.convs().last().expect("the last").bias)
        {
            assert!((found - given / range).abs() <= 1e-6, "range {range}");
        }
    }
}

#[test]
fn without_a_skip_the_image_itself_is_added_at_scale_1() {
    let config = NetworkConfig::wdsr_a(4, 1, 1);
    let model = Model::random(&config, 3);
    let mut checkpoint = Checkpoint::default();
    let mut items = checkpoint.state_dict(&model);
    items.retain(|(key, _)| !matches!(key, Item::Text(name) if name.starts_with("skip")));
    let object = renamed(items, |name| {
        let name = name.replace("body.0.body", "body.1.body");
        name.replace("head.0", "body.0").replace("tail.0", "body.2")
    });
    let imported = read(&checkpoint.zip(&object), &plain());
    let skip = imported.model.convs().last().expect("the skip");
    for (at, weight) in skip.weight.iter().enumerate() {
        let (pair, tap) = (at / 25, at % 25);
        let expected = if pair % 4 == 0 && tap == 12 { 1.0 } else { 0.0 };
        assert_eq!(*weight, expected, "weight {at}");
    }
    assert_eq!(skip.bias, [0.0; 3]);
    assert_eq!(imported.model.convs()[..4], model.convs()[..4]);
}

#[test]
fn the_residual_scale_is_an_option() {
    let [model, ..] = models();
    let mut checkpoint = Checkpoint::default();
    let object = Item::Dict(checkpoint.state_dict(&model));
    let options = Options {
        residual_scale: Some(0.1),
        ..plain()
    };
    let imported = read(&checkpoint.zip(&object), &options);
    assert_eq!(imported.model.config().residual_scale, 0.1);
}
