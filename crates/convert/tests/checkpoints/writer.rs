//! Writes checkpoints as `torch.save` does, well-formed ones and others.

use std::io::{Cursor, Write};

use wdsr_model::Model;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// What a pickle says.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    None,
    Int(i32),
    Float(f64),
    Text(String),
    Tuple(Vec<Item>),
    List(Vec<Item>),
    Dict(Vec<(Item, Item)>),
    Global(&'static str, &'static str),
    /// A call: callable, arguments.
    Call(Box<Item>, Box<Item>),
    Persistent(Box<Item>),
    /// Instructions as they are.
    Raw(Vec<u8>),
}

pub(crate) fn text(text: &str) -> Item {
    Item::Text(text.to_owned())
}

pub(crate) fn int(value: usize) -> Item {
    Item::Int(i32::try_from(value).expect("a small number"))
}

pub(crate) fn call(module: &'static str, name: &'static str, arguments: Vec<Item>) -> Item {
    let callable = Item::Global(module, name);
    Item::Call(Box::new(callable), Box::new(Item::Tuple(arguments)))
}

impl Item {
    /// The pickle of this item, protocol 2.
    pub(crate) fn pickle(&self) -> Vec<u8> {
        let mut bytes = b"\x80\x02".to_vec();
        self.write(&mut bytes);
        bytes.push(b'.');
        bytes
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.push(b'N'),
            Self::Int(value) => {
                out.push(b'J');
                out.extend(value.to_le_bytes());
            }
            Self::Float(value) => {
                out.push(b'G');
                out.extend(value.to_be_bytes());
            }
            Self::Text(text) => {
                out.push(b'X');
                out.extend(u32::try_from(text.len()).expect("short").to_le_bytes());
                out.extend(text.as_bytes());
            }
            Self::Tuple(items) => {
                out.push(b'(');
                items.iter().for_each(|item| item.write(out));
                out.push(b't');
            }
            Self::List(items) => {
                out.extend(b"](");
                items.iter().for_each(|item| item.write(out));
                out.push(b'e');
            }
            Self::Dict(items) => {
                out.extend(b"}(");
                for (key, value) in items {
                    key.write(out);
                    value.write(out);
                }
                out.push(b'u');
            }
            Self::Global(module, name) => out.extend(format!("c{module}\n{name}\n").bytes()),
            Self::Call(callable, arguments) => {
                callable.write(out);
                arguments.write(out);
                out.push(b'R');
            }
            Self::Persistent(id) => {
                id.write(out);
                out.push(b'Q');
            }
            Self::Raw(bytes) => out.extend(bytes),
        }
    }
}

/// A checkpoint in the making: storages by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checkpoint {
    pub(crate) storages: Vec<Vec<f32>>,
}

impl Checkpoint {
    /// A storage, said to have `elements` numbers.
    pub(crate) fn storage(&mut self, values: &[f32], elements: usize) -> Item {
        let key = self.storages.len().to_string();
        self.storages.push(values.to_vec());
        Item::Persistent(Box::new(Item::Tuple(vec![
            text("storage"),
            Item::Global("torch", "FloatStorage"),
            text(&key),
            text("cpu"),
            int(elements),
        ])))
    }

    /// A tensor of its own storage.
    pub(crate) fn tensor(&mut self, shape: &[usize], values: &[f32]) -> Item {
        let storage = self.storage(values, values.len());
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        view(storage, int(0), shape, &strides)
    }

    /// The state dict of a model under its own keys, one weight and one bias for each convolution.
    pub(crate) fn state_dict(&mut self, model: &Model) -> Vec<(Item, Item)> {
        let mut items = Vec::new();
        for (conv, weights) in model.network().convs.iter().zip(model.convs()) {
            let weight = self.tensor(&conv.weight_shape(), &weights.weight);
            let bias = self.tensor(&[conv.out_channels], &weights.bias);
            items.push((text(&format!("{}.weight", conv.name)), weight));
            items.push((text(&format!("{}.bias", conv.name)), bias));
            if let Some(slopes) = &conv.slopes {
                let tensor = self.tensor(&[conv.out_channels], &weights.slopes);
                items.push((text(&format!("{slopes}.weight")), tensor));
            }
        }
        items
    }

    /// As torch 1.6 and later write it.
    pub(crate) fn zip(&self, object: &Item) -> Vec<u8> {
        let mut entries = vec![("archive/data.pkl".to_owned(), object.pickle())];
        for (key, values) in self.storages.iter().enumerate() {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            entries.push((format!("archive/data/{key}"), bytes));
        }
        entries.push(("archive/version".to_owned(), b"3\n".to_vec()));
        zip(&entries)
    }

    /// As earlier versions write it.
    pub(crate) fn legacy(&self, object: &Item) -> Vec<u8> {
        let mut bytes = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec();
        bytes.extend(Item::Int(1001).pickle());
        bytes.extend(Item::Dict(vec![]).pickle());
        bytes.extend(object.pickle());
        let keys = (0..self.storages.len()).map(|key| text(&key.to_string()));
        bytes.extend(Item::List(keys.collect()).pickle());
        for values in &self.storages {
            bytes.extend((values.len() as u64).to_le_bytes());
            bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        }
        bytes
    }
}

/// A view of a storage.
pub(crate) fn view(storage: Item, offset: Item, shape: &[usize], strides: &[usize]) -> Item {
    let sizes = |sizes: &[usize]| Item::Tuple(sizes.iter().map(|size| int(*size)).collect());
    call(
        "torch._utils",
        "_rebuild_tensor_v2",
        vec![
            storage,
            offset,
            sizes(shape),
            sizes(strides),
            Item::Raw(vec![0x89]),
            call("collections", "OrderedDict", vec![]),
        ],
    )
}

/// A zip file of stored entries.
pub(crate) fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        writer.start_file(name.as_str(), stored).expect("an entry");
        writer.write_all(bytes).expect("memory");
    }
    writer.finish().expect("memory").into_inner()
}
