//! A reader of the pickles that `torch.save` writes. It runs no code.
//!
//! A pickle is a program for a stack machine that can call any function of Python. This machine
//! supports the instructions that Python's pickler writes in protocols 2 to 4, and computes the result
//! of a few functions itself ([`Callable`]); a call of any other is an error that names it. Names that
//! are not called (a class, a data type) are kept as names.
//!
//! Memory stays within a constant times the pickle's length: each instruction adds at most one value,
//! values refer to each other by index, and an instruction copies a limited length. Nothing here
//! recurses, however deeply values are nested.
//!
//! Source of the instructions: CPython, `Lib/pickletools.py`.

use std::collections::HashMap;

use crate::tensor::Element;

/// The longest pickle: trainers write a few kilobytes, with logs of losses some megabytes.
const MAX_BYTES: usize = 32 << 20;
/// The longest name of a callable, and the longest key of a storage.
const MAX_NAME_BYTES: usize = 200;
/// The most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

/// A value of a [`Pickle`]: its index.
pub(crate) type Id = u32;

#[derive(Debug)]
pub(crate) enum Value {
    Int(i64),
    Bool(bool),
    Text(Box<str>),
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A name such as `torch.FloatStorage`.
    Global(Box<str>),
    Storage(Box<Storage>),
    Tensor(Box<TensorView>),
    /// A value that is not part of weights: None, floats, bytes, sets, scalars of NumPy, ...
    Opaque,
}

/// Numbers outside the pickle, by key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Storage {
    pub(crate) key: Box<str>,
    pub(crate) element: Element,
    pub(crate) elements: usize,
}

/// A tensor as a view of a storage, unchecked; offset and strides in elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TensorView {
    pub(crate) storage: Id,
    pub(crate) offset: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
}

/// The values of a pickle; `root` is the object that was pickled.
#[derive(Debug)]
pub(crate) struct Pickle {
    values: Vec<Value>,
    pub(crate) root: Id,
    /// Its length in bytes.
    pub(crate) length: usize,
}

impl Pickle {
    /// Reads the pickle at the start of `bytes`.
    ///
    /// # Errors
    /// What was found, and at which byte.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let bytes = &bytes[..bytes.len().min(MAX_BYTES)];
        let mut machine = Machine {
            bytes,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        loop {
            let start = machine.at;
            let step = machine.step();
            match step {
                Ok(Some(root)) => {
                    return Ok(Self {
                        values: machine.values,
                        root,
                        length: machine.at,
                    });
                }
                Ok(None) => {}
                Err(reason) => return Err(format!("{reason} (byte {start} of the pickle)")),
            }
        }
    }

    pub(crate) fn value(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    /// The text of a value, if it is one.
    pub(crate) fn text(&self, id: Id) -> Option<&str> {
        match self.value(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// All storages of the pickle.
    pub(crate) fn storages(&self) -> impl Iterator<Item = &Storage> {
        self.values.iter().filter_map(|value| match value {
            Value::Storage(storage) => Some(&**storage),
            _ => None,
        })
    }
}

/// Functions that a pickle may call.
enum Callable {
    /// `_rebuild_tensor[_v2](storage, offset, shape, strides, ...)`
    Tensor,
    /// `_rebuild_parameter(tensor, ...)`
    Parameter,
    /// `OrderedDict()` or, from Python 2, `OrderedDict([[key, value], ...])`
    OrderedDict,
    /// `defaultdict(kind)`
    DefaultDict,
    /// A function that trainers use for other things than weights; the result is ignored.
    Other,
}

impl Callable {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => Self::Tensor,
            "torch._utils._rebuild_parameter" => Self::Parameter,
            "collections.OrderedDict" => Self::OrderedDict,
            "collections.defaultdict" => Self::DefaultDict,
            "collections.Counter"
            | "argparse.Namespace"
            | "torch.Size"
            | "torch.device"
            | "numpy.dtype"
            | "numpy.core.multiarray.scalar"
            | "numpy._core.multiarray.scalar"
            | "numpy.core.multiarray._reconstruct"
            | "numpy._core.multiarray._reconstruct"
            | "_codecs.encode"
            | "pathlib.PosixPath"
            | "pathlib.WindowsPath"
            | "__builtin__.set"
            | "builtins.set" => Self::Other,
            _ => return None,
        })
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Runs one instruction. Returns the pickle's object if it was the last.
    fn step(&mut self) -> Result<Option<Id>, String> {
        let [opcode] = self.take()?;
        match opcode {
            // PROTO, FRAME
            0x80 => {
                let [protocol] = self.take()?;
                if !(2..=5).contains(&protocol) {
                    return Err(format!("expected pickle protocol 2 to 5, found {protocol}"));
                }
            }
            0x95 => {
                self.take::<8>()?;
            }
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_mark()?;
            }

            b'N' | 0x8f => self.push(Value::Opaque)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'J' => {
                let value = i32::from_le_bytes(self.take()?);
                self.push(Value::Int(value.into()))?;
            }
            b'K' => {
                let [value] = self.take()?;
                self.push(Value::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.take()?);
                self.push(Value::Int(value.into()))?;
            }
            0x8a => {
                let [length] = self.take()?;
                let value = long(self.slice(length.into())?);
                self.push(value)?;
            }
            0x8b => {
                let length = self.length_u32()?;
                let value = long(self.slice(length)?);
                self.push(value)?;
            }
            b'G' => {
                self.take::<8>()?;
                self.push(Value::Opaque)?;
            }

            // Text; Python 2 wrote it as byte strings.
            0x8c | b'U' => {
                let [length] = self.take()?;
                self.text(length.into())?;
            }
            b'X' | b'T' => {
                let length = self.length_u32()?;
                self.text(length)?;
            }
            0x8d => {
                let length = self.length_u64()?;
                self.text(length)?;
            }
            b'C' => {
                let [length] = self.take()?;
                self.opaque_bytes(length.into())?;
            }
            b'B' => {
                let length = self.length_u32()?;
                self.opaque_bytes(length)?;
            }
            0x8e | 0x96 => {
                let length = self.length_u64()?;
                self.opaque_bytes(length)?;
            }

            b')' => self.push(Value::Tuple(Box::default()))?,
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items.into()))?;
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push(Value::Tuple(items.into()))?;
            }
            b']' => self.push(Value::List(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)?;
            }
            // ADDITEMS, FROZENSET
            0x90 => {
                self.pop_mark()?;
            }
            0x91 => {
                self.pop_mark()?;
                self.push(Value::Opaque)?;
            }

            b'q' => {
                let [index] = self.take()?;
                self.remember(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.take()?);
                self.remember(index)?;
            }
            0x94 => {
                let index = u32::try_from(self.memo.len()).map_err(|e| e.to_string())?;
                self.remember(index)?;
            }
            b'h' => {
                let [index] = self.take()?;
                self.recall(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.take()?);
                self.recall(index)?;
            }

            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)?;
            }
            0x93 => {
                let name = self.pop()?;
                let module = self.pop()?;
                let (Value::Text(module), Value::Text(name)) =
                    (self.value(module), self.value(name))
                else {
                    return Err("expected a name as text; save `model.state_dict()`".to_owned());
                };
                if module.len() + name.len() > MAX_NAME_BYTES {
                    return Err("the name of a callable is too long".to_owned());
                }
                let (module, name) = (module.clone(), name.clone());
                self.global(&module, &name)?;
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Value::Storage(Box::new(storage)))?;
            }
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                self.call(callable, arguments)?;
            }
            // BUILD: attributes of an object.
            b'b' => {
                self.pop()?;
                let object = self.top()?;
                match self.value(object) {
                    Value::Dict(_) | Value::Opaque | Value::Tensor(_) => {}
                    other => return Err(format!("expected no attributes of {}", kind(other))),
                }
            }
            other => {
                return Err(format!(
                    "expected an instruction that torch.save writes, found 0x{other:02x}"
                ));
            }
        }
        Ok(None)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.slice(N)?;
        bytes.try_into().map_err(|_| "truncated".to_owned())
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or_else(|| {
            if self.bytes.len() == MAX_BYTES {
                format!("the pickle is longer than {MAX_BYTES} bytes")
            } else {
                format!(
                    "truncated: expected {length} bytes, found {}; download it again",
                    rest.len()
                )
            }
        })?;
        self.at += length;
        Ok(taken)
    }

    fn length_u32(&mut self) -> Result<usize, String> {
        usize::try_from(u32::from_le_bytes(self.take()?)).map_err(|e| e.to_string())
    }

    fn length_u64(&mut self) -> Result<usize, String> {
        usize::try_from(u64::from_le_bytes(self.take()?)).map_err(|e| e.to_string())
    }

    /// Text up to the end of the line.
    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let rest = &rest[..rest.len().min(MAX_NAME_BYTES)];
        let end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or("the name of a callable is truncated or too long")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|e| format!("the name of a callable: {e}"))
    }

    fn text(&mut self, length: usize) -> Result<(), String> {
        let bytes = self.slice(length)?;
        self.push(match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(text.into()),
            Err(_) => Value::Opaque,
        })
    }

    fn opaque_bytes(&mut self, length: usize) -> Result<(), String> {
        self.slice(length)?;
        self.push(Value::Opaque)
    }

    fn value(&self, id: Id) -> &Value {
        &self.values[id as usize]
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        let id = Id::try_from(self.values.len()).map_err(|e| e.to_string())?;
        self.values.push(value);
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id, String> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    /// The last value above the last mark.
    fn top(&self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack[floor..]
            .last()
            .copied()
            .ok_or_else(|| "a value is missing on the stack".to_owned())
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("a mark is missing on the stack")?;
        Ok(self.stack.split_off(mark))
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), String> {
        let list = self.top()?;
        match &mut self.values[list as usize] {
            Value::List(list) => list.extend(items),
            // A set or another container that no weight is in.
            Value::Opaque => {}
            other => return Err(format!("expected a list, found {}", kind(other))),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), String> {
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err("a key without a value".to_owned());
        };
        let dict = self.top()?;
        match &mut self.values[dict as usize] {
            Value::Dict(dict) => dict.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            Value::Opaque => {}
            other => return Err(format!("expected a dict, found {}", kind(other))),
        }
        Ok(())
    }

    fn remember(&mut self, index: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), String> {
        let id = self.memo.get(&index);
        self.stack
            .push(*id.ok_or_else(|| format!("value {index} is used before it is set"))?);
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        self.push(Value::Global(format!("{module}.{name}").into()))
    }

    /// A storage by its persistent id `("storage", type, key, device, elements)`.
    fn storage(&self, id: Id) -> Result<Storage, String> {
        let Value::Tuple(parts) = self.value(id) else {
            return Err("expected a storage, found another persistent id".to_owned());
        };
        let name = parts.first().map(|id| self.value(*id));
        match name {
            Some(Value::Text(name)) if &**name == "module" => {
                return Err(
                    "the file has a whole module, which only its own Python code can read; save \
                     `model.state_dict()`"
                        .to_owned(),
                );
            }
            Some(Value::Text(name)) if &**name == "storage" => {}
            _ => return Err("expected a storage, found another persistent id".to_owned()),
        }
        let (kind, key, elements) = match parts[..] {
            [_, kind, key, _, elements] => (kind, key, elements),
            // Before torch 1.0 the sixth part could make the storage a part of another one.
            [_, kind, key, _, elements, view] if matches!(self.value(view), Value::Opaque) => {
                (kind, key, elements)
            }
            _ => {
                return Err(
                    "expected a storage of its own, found one that is part of another; save it with a \
                     newer PyTorch"
                        .to_owned(),
                );
            }
        };
        let Value::Global(kind) = self.value(kind) else {
            return Err("expected the type of a storage".to_owned());
        };
        let element =
            Element::of_storage(kind).ok_or_else(|| format!("unknown storage type {kind}"))?;
        let key = match self.value(key) {
            Value::Text(key) if key.len() <= MAX_NAME_BYTES => key.clone(),
            _ => return Err("expected the key of a storage as text".to_owned()),
        };
        Ok(Storage {
            key,
            element,
            elements: self.size(elements, "elements of a storage")?,
        })
    }

    fn size(&self, id: Id, what: &str) -> Result<usize, String> {
        match self.value(id) {
            Value::Int(value) => usize::try_from(*value)
                .map_err(|_| format!("{what}: expected a size, found {value}")),
            other => Err(format!("{what}: expected a size, found {}", kind(other))),
        }
    }

    fn sizes(&self, id: Id, what: &str) -> Result<Vec<usize>, String> {
        match self.value(id) {
            Value::Tuple(items) if items.len() <= MAX_DIMENSIONS => {
                items.iter().map(|id| self.size(*id, what)).collect()
            }
            other => Err(format!(
                "{what}: expected at most {MAX_DIMENSIONS} sizes, found {}",
                kind(other)
            )),
        }
    }

    fn call(&mut self, callable: Id, arguments: Id) -> Result<(), String> {
        let Value::Global(name) = self.value(callable) else {
            return Err(format!(
                "a call of {}, which is not a name",
                kind(self.value(callable))
            ));
        };
        let what = Callable::of(name).ok_or_else(|| {
            format!(
                "the pickle calls `{name}`, which a checkpoint of weights does not need; nothing was \
                 run; save `model.state_dict()`"
            )
        })?;
        let Value::Tuple(arguments) = self.value(arguments) else {
            return Err(format!("{name}: expected its arguments as a tuple"));
        };
        let value = match (what, &arguments[..]) {
            (Callable::Tensor, [storage, offset, shape, strides, ..]) => {
                if !matches!(self.value(*storage), Value::Storage(_)) {
                    return Err(format!("{name}: expected a storage"));
                }
                Value::Tensor(Box::new(TensorView {
                    storage: *storage,
                    offset: self.size(*offset, "offset of a tensor")?,
                    shape: self.sizes(*shape, "shape of a tensor")?,
                    strides: self.sizes(*strides, "strides of a tensor")?,
                }))
            }
            (Callable::Parameter, [tensor, ..]) => {
                self.stack.push(*tensor);
                return Ok(());
            }
            (Callable::OrderedDict, []) | (Callable::DefaultDict, _) => Value::Dict(Vec::new()),
            (Callable::OrderedDict, [list]) => {
                let list = *list;
                Value::Dict(self.pairs(list)?)
            }
            (Callable::Other, _) => Value::Opaque,
            (_, arguments) => {
                return Err(format!(
                    "{name}: expected other arguments, found {} of them",
                    arguments.len()
                ));
            }
        };
        self.push(value)
    }

    /// The pairs in a list of two-element lists. The list is consumed, so that memory stays within a
    /// constant times the pickle's length.
    fn pairs(&mut self, list: Id) -> Result<Vec<(Id, Id)>, String> {
        let place = &mut self.values[list as usize];
        let Value::List(items) = std::mem::replace(place, Value::Opaque) else {
            return Err("OrderedDict: expected a list of pairs".to_owned());
        };
        items
            .iter()
            .map(|pair| match self.value(*pair) {
                Value::List(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
                Value::Tuple(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
                other => Err(format!(
                    "OrderedDict: expected a pair, found {}",
                    kind(other)
                )),
            })
            .collect()
    }
}

/// An integer of any length. Those longer than 64 bits (seeds of generators) are ignored.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Opaque;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut all = [if negative { 0xff } else { 0 }; 8];
    all[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(all))
}

/// The kind of a value, for messages.
pub(crate) fn kind(value: &Value) -> String {
    match value {
        Value::Int(value) => format!("the number {value}"),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Text(_) => "text".to_owned(),
        Value::Tuple(items) => format!("a tuple of {}", items.len()),
        Value::List(_) => "a list".to_owned(),
        Value::Dict(_) => "a dict".to_owned(),
        Value::Global(name) => format!("`{name}`"),
        Value::Storage(_) => "a storage".to_owned(),
        Value::Tensor(_) => "a tensor".to_owned(),
        Value::Opaque => "another object".to_owned(),
    }
}
