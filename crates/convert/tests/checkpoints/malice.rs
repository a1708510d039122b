//! Files that are damaged, inconsistent or call code: each is refused with a reason that names the
//! file.

use std::path::Path;

use wdsr_convert::{Options, import_bytes};
use wdsr_model::{Model, NetworkConfig};

use super::writer::{Checkpoint, Item, call, int, text, view, zip};

fn refusal(bytes: &[u8]) -> String {
    match import_bytes(bytes, Path::new("folder/bad.pt"), &Options::default()) {
        Ok(_) => panic!("accepted"),
        Err(error) => {
            let text = error.to_string();
            assert!(text.starts_with("folder/bad.pt: "), "{text}");
            assert!(text.len() < 1000, "a reason of {} bytes", text.len());
            text
        }
    }
}

/// Refused in both containers, for a reason with `expected` in it.
#[track_caller]
fn refused(checkpoint: &Checkpoint, object: &Item, expected: &str) {
    for bytes in [checkpoint.zip(object), checkpoint.legacy(object)] {
        let reason = refusal(&bytes);
        assert!(reason.contains(expected), "{reason}\nexpected: {expected}");
    }
}

fn model() -> Model {
    Model::random(&NetworkConfig::wdsr_a(4, 1, 2), 1)
}

#[test]
fn calls_of_other_functions_are_refused_by_name() {
    let empty = Checkpoint::default();
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch.hub", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("collections", "OrderedDict.fromkeys"),
    ] {
        let calls = call(module, name, vec![text("true")]);
        let wanted = format!("calls `{module}.{name}`");
        refused(&empty, &calls, &wanted);
        // Also beside valid weights.
        let mut checkpoint = Checkpoint::default();
        let mut items = checkpoint.state_dict(&model());
        items.push((text("epoch"), calls));
        refused(&checkpoint, &Item::Dict(items), &wanted);
    }
    // NEWOBJ, and STACK_GLOBAL with REDUCE.
    let new = Item::Raw(b"csubprocess\nPopen\n)\x81".to_vec());
    refused(&empty, &new, "calls `subprocess.Popen`");
    let stacked = Item::Raw(b"\x8c\x02os\x8c\x06system\x93)R".to_vec());
    refused(&empty, &stacked, "calls `os.system`");
    // The result of a call is not callable.
    let twice = Item::Call(
        Box::new(call("collections", "OrderedDict", vec![])),
        Box::new(Item::Tuple(vec![])),
    );
    refused(&empty, &twice, "which is not a name");
    let attributes = Item::Raw(b"cos\nsystem\n}b".to_vec());
    refused(&empty, &attributes, "expected no attributes of `os.system`");
    // torch.save does not write INST and OBJ, which also call.
    refused(&empty, &Item::Raw(b"(ios\nsystem\n".to_vec()), "found 0x69");
    refused(
        &empty,
        &Item::Raw(b"(cos\nsystem\no".to_vec()),
        "found 0x6f",
    );
}

#[test]
fn whole_modules_are_refused_with_the_remedy() {
    let id = Item::Tuple(vec![
        text("module"),
        Item::Global("model", "WDSR"),
        text("model.py"),
        text("class WDSR: ..."),
    ]);
    let module = Item::Persistent(Box::new(id));
    refused(&Checkpoint::default(), &module, "save `model.state_dict()`");
}

#[test]
fn views_beyond_their_storage_are_refused() {
    let huge = i32::MAX as usize;
    let minus_one = Item::Int(-1);
    let cases: [(&str, Item, &[usize], &[usize]); 8] = [
        ("offset", int(7), &[4], &[1]),
        ("shape", int(0), &[9], &[1]),
        ("stride", int(0), &[2], &[8]),
        ("negative", minus_one, &[2], &[1]),
        ("overflow", int(0), &[huge; 4], &[1; 4]),
        ("stride overflow", int(0), &[2; 3], &[huge; 3]),
        ("repeated", int(0), &[1000, 1000], &[0, 0]),
        ("rank", int(0), &[1; 9], &[1; 9]),
    ];
    for (what, offset, shape, strides) in cases {
        let mut checkpoint = Checkpoint::default();
        let storage = checkpoint.storage(&[1.0; 8], 8);
        let tensor = view(storage, offset, shape, strides);
        let object = Item::Dict(vec![(text("head.0.weight"), tensor)]);
        let reason = refusal(&checkpoint.zip(&object));
        let expected = match what {
            "negative" => "expected a size, found -1",
            "overflow" => "overflows",
            "rank" => "expected at most 8 sizes",
            _ => "reach beyond its 8 stored numbers",
        };
        assert!(reason.contains(expected), "{what}: {reason}");
    }
    // Shape and strides of different length.
    let mut checkpoint = Checkpoint::default();
    let storage = checkpoint.storage(&[1.0; 8], 8);
    let tensor = view(storage, int(0), &[2, 2], &[1]);
    let object = Item::Dict(vec![(text("w.weight"), tensor)]);
    refused(&checkpoint, &object, "with strides [1]");
}

#[test]
fn storages_of_a_wrong_length_are_refused() {
    for stated in [7, 9, i32::MAX as usize] {
        let mut checkpoint = Checkpoint::default();
        let storage = checkpoint.storage(&[1.0; 8], stated);
        let tensor = view(storage, int(0), &[2], &[1]);
        let object = Item::Dict(vec![(text("w.weight"), tensor)]);
        refused(&checkpoint, &object, "storage `0`");
    }
    // One key, two lengths.
    let mut checkpoint = Checkpoint::default();
    let first = checkpoint.tensor(&[8], &[1.0; 8]);
    checkpoint.storages.clear();
    let second = checkpoint.tensor(&[4], &[1.0; 4]);
    let object = Item::Dict(vec![(text("a.bias"), first), (text("b.bias"), second)]);
    refused(&checkpoint, &object, "storage `0` has");
}

#[test]
fn repeated_keys_are_refused() {
    let mut checkpoint = Checkpoint::default();
    let mut items = checkpoint.state_dict(&model());
    let (key, _) = items[2].clone();
    let again = checkpoint.tensor(&[1], &[0.0]);
    items.push((key, again));
    refused(&checkpoint, &Item::Dict(items), "is repeated");

    let object = Item::Dict(vec![]).pickle();
    // The writer refuses two entries of a name: make them by changing one.
    let mut bytes = zip(&[
        ("a/data.pkl".to_owned(), object.clone()),
        ("b/data.pkl".to_owned(), object),
    ]);
    let two = refusal(&bytes);
    assert!(two.contains("one data.pkl"), "{two}");
    for at in 0..bytes.len() - 10 {
        if bytes[at..].starts_with(b"b/data.pkl") {
            bytes[at] = b'a';
        }
    }
    let twice = refusal(&bytes);
    assert!(twice.contains("the same name"), "{twice}");
}

/// Values much larger than the file, and values nested as deep as the file is long.
#[test]
fn expansion_and_nesting_take_no_memory() {
    let empty = Checkpoint::default();
    // Lists of the list before, twice: 2^100000 leaves.
    let mut laughs = b"]q\x00".to_vec();
    for _ in 0..100_000 {
        laughs.extend(b"](h\x00h\x00eq\x00");
    }
    refused(&empty, &Item::Raw(laughs), "expected a state dict");
    // A tuple in a tuple, a million times.
    let mut deep = b")".to_vec();
    deep.resize(1_000_000, 0x85);
    refused(&empty, &Item::Raw(deep), "expected a state dict");
    // A state dict within itself.
    let cycle = b"}q\x00X\x0a\x00\x00\x00state_dicth\x00s".to_vec();
    refused(&empty, &Item::Raw(cycle), "nested too deep");
    // A memo with large indices.
    let far = b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff".to_vec();
    refused(&empty, &Item::Raw(far), "expected a state dict");
    // Long names, repeated.
    let mut names = b"X\x00\x00\x01\x00".to_vec();
    names.extend(vec![b'n'; 1 << 16]);
    names.extend(b"q\x00");
    names.extend(b"h\x00h\x00\x93".repeat(100_000));
    refused(&empty, &Item::Raw(names), "too long");
    // A long list, repeatedly converted to a dict.
    let mut lists = b"ccollections\nOrderedDict\nq\x00](".to_vec();
    lists.extend(b"N".repeat(100_000));
    lists.extend(b"e\x85q\x01");
    lists.extend(b"h\x00h\x01R".repeat(100_000));
    refused(&empty, &Item::Raw(lists), "OrderedDict: expected a");
    // Many views of the same numbers, each with a storage of its own.
    let mut checkpoint = Checkpoint::default();
    let storage = checkpoint.storage(&[1.0; 1000], 1000);
    let views = (0..1000).map(|key| {
        let tensor = view(storage.clone(), int(0), &[1000], &[1]);
        (text(&format!("{key}.bias")), tensor)
    });
    let object = Item::Dict(views.collect());
    refused(&checkpoint, &object, "together larger");
    // The same one view, many times.
    let mut checkpoint = Checkpoint::default();
    let mut object = b"}".to_vec();
    let tensor = checkpoint.tensor(&[1000], &[1.0; 1000]);
    let pickle = tensor.pickle();
    object.extend(&pickle[2..pickle.len() - 1]);
    object.extend(b"q\x000");
    for key in 0..10_000_u32 {
        object.extend(b"X\x0a\x00\x00\x00");
        object.extend(format!("{key:05}.bias").bytes());
        object.extend(b"h\x00s");
    }
    refused(&checkpoint, &Item::Raw(object), "together larger");
}

#[test]
fn compressed_entries_are_refused() {
    let object = Item::Dict(vec![]).pickle();
    let mut bytes = zip(&[("a/data.pkl".to_owned(), object)]);
    // Method 8, deflate, in the local and the central header.
    for (header, at) in [(&b"PK\x03\x04"[..], 8), (&b"PK\x01\x02"[..], 10)] {
        let start = bytes
            .windows(4)
            .position(|window| window == header)
            .expect("a header");
        bytes[start + at] = 8;
    }
    let reason = refusal(&bytes);
    assert!(reason.contains("data.pkl of the zip file"), "{reason}");
}

#[test]
fn damaged_numbers_fail_their_checksum() {
    let mut checkpoint = Checkpoint::default();
    let object = Item::Dict(checkpoint.state_dict(&model()));
    let mut bytes = checkpoint.zip(&object);
    let numbers: Vec<u8> = model().convs()[0].weight[..4]
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .collect();
    let at = bytes
        .windows(numbers.len())
        .position(|window| window == numbers)
        .expect("the numbers");
    bytes[at] ^= 1;
    let reason = refusal(&bytes);
    assert!(reason.contains("is damaged"), "{reason}");
}

#[test]
fn other_networks_are_refused() {
    let mut checkpoint = Checkpoint::default();
    let items = checkpoint.state_dict(&model());
    let without = |name: &str| {
        let mut items = items.clone();
        items.retain(|(key, _)| !matches!(key, Item::Text(key) if key == name));
        Item::Dict(items)
    };
    let with = |name: &str, shape: &[usize], value: f32| {
        let mut checkpoint = checkpoint.clone();
        let count = shape.iter().product();
        let tensor = checkpoint.tensor(shape, &vec![value; count]);
        let mut items = items.clone();
        items.retain(|(key, _)| !matches!(key, Item::Text(key) if key == name));
        items.push((text(name), tensor));
        (checkpoint, Item::Dict(items))
    };
    let cases = [
        (
            with("extra.weight", &[1], 0.0),
            "expected no slopes `extra`",
        ),
        (with("extra.weight", &[1, 1], 0.0), "`.bias` is missing"),
        (
            with("extra.weight", &[1], f32::NAN),
            "slopes `extra`: expected finite",
        ),
        (with("steps", &[1], 0.0), "`steps` does not belong"),
        (
            with("body.0.body.1.running_mean", &[4], 0.0),
            "batch normalisation",
        ),
        (with("head.0.bias", &[5], 0.0), "expected a bias of shape"),
        (with("head.0.bias", &[4], f32::NAN), "found NaN"),
        (
            with("head.0.weight", &[4, 27], 0.0),
            "expected weights [out, in, k, k]",
        ),
        (
            with("head.0.weight", &[4, 1, 3, 3], 0.0),
            "expected convolution `head.0` of shape",
        ),
        (
            with("head.0.weight_g", &[4, 1, 1, 1], 0.0),
            "expected its weights in one form",
        ),
    ];
    let refused = |checkpoint: &Checkpoint, object: &Item, expected: &str| {
        let reason = refusal(&checkpoint.zip(object));
        assert!(reason.contains(expected), "{reason}\nexpected: {expected}");
    };
    for ((checkpoint, object), expected) in cases {
        refused(&checkpoint, &object, expected);
    }
    refused(&checkpoint, &without("tail.0.bias"), "`.bias` is missing");
    refused(
        &checkpoint,
        &without("body.0.body.2.weight"),
        "expected its weights in one form",
    );
    refused(&checkpoint, &Item::Dict(vec![]), "expected a state dict");
    refused(&checkpoint, &Item::None, "expected a state dict");

    let mut other = Checkpoint::default();
    let weight = other.tensor(&[1, 1, 1, 1], &[1.0]);
    let bias = other.tensor(&[1], &[1.0]);
    let object = Item::Dict(vec![
        (text("conv1.weight"), weight),
        (text("conv1.bias"), bias),
    ]);
    refused(&other, &object, "expected a layout of");
}

#[test]
fn directions_of_zero_are_refused() {
    let mut checkpoint = Checkpoint::default();
    let gain = checkpoint.tensor(&[1, 1, 1, 1], &[1.0]);
    let direction = checkpoint.tensor(&[1, 1, 1, 1], &[0.0]);
    let bias = checkpoint.tensor(&[1], &[1.0]);
    let object = Item::Dict(vec![
        (text("head.0.weight_g"), gain),
        (text("head.0.weight_v"), direction),
        (text("head.0.bias"), bias),
    ]);
    refused(&checkpoint, &object, "the direction of channel 0 is zero");
}

#[test]
fn other_files_are_refused() {
    for bytes in [
        &b""[..],
        b"PK",
        b"PK\x03\x04",
        b"\x80\x02",
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xff\xff\xff\xff\xff\xff\xff{}",
    ] {
        refusal(bytes);
    }
}
