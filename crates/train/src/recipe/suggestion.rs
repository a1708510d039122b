//! The most similar known name for an unknown one.

/// Jaro-Winkler similarity, 0 to 1, from which a name counts as a typing mistake.
const SIMILAR: f64 = 0.75;

/// Adds the most similar known name to serde's message on an unknown key or value ("unknown field
/// `bacth`, expected one of `batch`, ..."). Returns any other message as it is, on one line.
pub(super) fn with_nearest(message: &str) -> String {
    let message = message.trim();
    if !message.starts_with("unknown field") && !message.starts_with("unknown variant") {
        return message.replace('\n', " ");
    }
    // Every second piece between backticks is a name: the unknown one, then the known ones.
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next().unwrap_or_default();
    let similarity = |name: &str| strsim::jaro_winkler(unknown, name);
    let nearest = names
        .filter(|name| similarity(name) >= SIMILAR)
        .max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
    let message = message
        .replacen("unknown field", "unknown key", 1)
        .replacen("unknown variant", "unknown value", 1);
    match nearest {
        Some(nearest) => format!("{message}; did you mean `{nearest}`?"),
        None => message,
    }
}
