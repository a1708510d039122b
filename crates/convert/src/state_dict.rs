//! From a checkpoint's object to named tensors: finds the state dict in what trainers save, and
//! removes the prefixes of wrappers from its keys.

use crate::container::Container;
use crate::pickle::{Id, Value, kind};
use crate::tensor::{Array, Element, Tensors};

/// Keys under which trainers save a state dict, averaged weights first.
///
/// Source: BasicSR (`params_ema`, `params`), yjn870/WDSR-pytorch and mmagic (`state_dict`),
/// ychfan/wdsr (`model_state_dict`), common practice.
const WRAPPERS: [&str; 12] = [
    "params_ema",
    "state_dict_ema",
    "model_ema",
    "ema",
    "params",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "generator",
];
/// First components of keys in the networks themselves.
const PARTS: [&str; 4] = ["head", "body", "tail", "skip"];
/// The deepest nesting of wrappers.
const MAX_DEPTH: usize = 4;

/// Tensors and where in the file they were.
pub(crate) struct Found {
    pub(crate) tensors: Tensors,
    /// Keys of the dicts that they were found in, such as `state_dict`; empty if the file is the state
    /// dict.
    pub(crate) path: Vec<String>,
}

/// The floating-point tensors of a checkpoint. `wanted` is the key of its state dict, if there are
/// several.
///
/// # Errors
/// If there is no state dict, a key is repeated, or a tensor reaches beyond its storage.
pub(crate) fn find(container: &Container<'_>, wanted: Option<&str>) -> Result<Found, String> {
    let pickle = &container.pickle;
    let mut at = pickle.root;
    let mut path: Vec<String> = Vec::new();
    let entries = loop {
        let Value::Dict(entries) = pickle.value(at) else {
            return Err(format!(
                "expected a state dict, found {}; save `model.state_dict()`",
                kind(pickle.value(at))
            ));
        };
        let inner = |name: &str| {
            let is = |(key, value): &&(Id, Id)| {
                pickle.text(*key) == Some(name) && matches!(pickle.value(*value), Value::Dict(_))
            };
            entries.iter().find(is).map(|(_, value)| *value)
        };
        let next = match wanted.filter(|_| path.is_empty()) {
            Some(name) => Some((
                name,
                inner(name).ok_or_else(|| {
                    format!(
                        "expected a state dict under `{name}`, found {}",
                        names(container, entries)
                    )
                })?,
            )),
            None => WRAPPERS
                .iter()
                .find_map(|name| inner(name).map(|id| (*name, id))),
        };
        match next {
            Some((name, id)) if path.len() < MAX_DEPTH => {
                path.push(name.to_owned());
                at = id;
            }
            Some(_) => {
                return Err(format!(
                    "expected a state dict, found dicts nested too deep: {}; save `model.state_dict()`",
                    path.join(".")
                ));
            }
            None => break entries,
        }
    };

    let mut tensors = Tensors::new();
    // Views of the same numbers can together be much larger than the file.
    let mut budget = container.elements();
    for (key, value) in entries {
        let (Some(name), Value::Tensor(view)) = (pickle.text(*key), pickle.value(*value)) else {
            continue;
        };
        if matches!(container.storage_of(view).element, Element::Integer(_)) {
            continue;
        }
        let tensor = container
            .gather(view)
            .map_err(|e| format!("tensor `{name}`: {e}"))?;
        budget = budget.checked_sub(tensor.values.len()).ok_or(
            "the tensors are together larger than their storages; save `model.state_dict()`",
        )?;
        if tensors.insert(name.to_owned(), tensor).is_some() {
            return Err(format!("tensor `{name}` is repeated; save it again"));
        }
    }
    if tensors.is_empty() {
        return Err(format!(
            "expected a state dict, found {}; give the key of the weights by --weights",
            names(container, entries)
        ));
    }
    Ok(Found { tensors, path })
}

/// The first keys of a dict, for messages.
fn names(container: &Container<'_>, entries: &[(Id, Id)]) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<String> = entries
        .iter()
        .filter_map(|(key, _)| container.pickle.text(*key))
        .take(SHOWN)
        .map(|name| format!("`{}`", shortened(name)))
        .collect();
    if names.is_empty() {
        return "no names".to_owned();
    }
    if entries.len() > names.len() {
        names.push("...".to_owned());
    }
    names.join(", ")
}

/// A name from a file, shortened for messages.
pub(crate) fn shortened(name: &str) -> String {
    const LONGEST: usize = 80;
    let mut short: String = name.chars().take(LONGEST).collect();
    if short.len() < name.len() {
        short.push_str("...");
    }
    short
}

/// Removes first components that all keys share (`module.`, `model.`, `net_g.`, ...), which
/// `DataParallel` and trainers that save a wrapper of the network add.
pub(crate) fn without_prefixes(mut tensors: Tensors) -> Tensors {
    loop {
        // `conv.weight` has no prefix.
        let mut firsts = tensors.keys().map(|key| {
            let (first, rest) = key.split_once('.')?;
            rest.contains('.').then_some(first)
        });
        let Some(Some(first)) = firsts.next() else {
            return tensors;
        };
        // In ychfan's layout at scale 1 `body` is the only part.
        if PARTS.contains(&first) || firsts.any(|other| other != Some(first)) {
            return tensors;
        }
        let length = first.len() + 1;
        tensors = tensors
            .into_iter()
            .map(|(mut key, tensor)| (key.split_off(length), tensor))
            .collect::<std::collections::BTreeMap<String, Array>>();
    }
}
