//! The nearest known name for an unknown one.

/// Names less alike than this (Jaro-Winkler, 0 to 1) are not taken for a slip of the pen.
const ALIKE: f64 = 0.75;

/// Serde's message on an unknown key or value ("unknown field `bacth`, expected one of `batch`,
/// ...") with the nearest of the known names added; any other message as it is.
pub(super) fn with_nearest(message: &str) -> String {
    let message = message.trim();
    if !message.starts_with("unknown field") && !message.starts_with("unknown variant") {
        return message.replace('\n', " ");
    }
    // Every second piece between backticks is a name: the unknown one, then the known ones.
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next().unwrap_or_default();
    let alike = |name: &str| strsim::jaro_winkler(unknown, name);
    let nearest = names
        .filter(|name| alike(name) >= ALIKE)
        .max_by(|a, b| alike(a).total_cmp(&alike(b)));
    let message = message
        .replacen("unknown field", "unknown key", 1)
        .replacen("unknown variant", "unknown value", 1);
    match nearest {
        Some(nearest) => format!("{message}; did you mean `{nearest}`?"),
        None => message,
    }
}
