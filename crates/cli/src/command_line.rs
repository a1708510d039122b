//! The command line of the program: `wdsr photo.jpg` is short for `wdsr upscale photo.jpg`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, is_separator};

use wdsr_image::{Format, unread_by_suffix};

/// The command that is used where none is named.
const DEFAULT: &str = "upscale";

/// The arguments of the program, with [`DEFAULT`] before them if they begin with an image instead of a
/// command.
///
/// A command's name is that command, even if a file has it too: `./info` and `-- info` name the file. A
/// word that looks like no file, such as a misspelt command, is left to the parser, which suggests the
/// command.
pub(crate) fn with_command(
    arguments: impl IntoIterator<Item = OsString>,
    is_command: impl Fn(&OsStr) -> bool,
) -> Vec<OsString> {
    let mut arguments = Vec::from_iter(arguments);
    let Some(first) = arguments.get(1) else {
        return arguments;
    };
    let is_of_program = ["-h", "--help", "-V", "--version"].map(OsStr::new);
    let begins_with_image = if is_command(first) || is_of_program.contains(&first.as_os_str()) {
        false
    } else if first == "--" {
        true
    } else if first.as_encoded_bytes().starts_with(b"-") {
        // Options of `upscale`, or options that a command should have been named before.
        !arguments[1..].iter().any(|argument| is_command(argument))
    } else {
        is_like_image(Path::new(first))
    };
    if begins_with_image {
        arguments.insert(1, DEFAULT.into());
    }
    arguments
}

/// Whether an argument can only be an image, a folder or a pattern: it exists, has a suffix of images, or
/// contains a separator or a wildcard.
fn is_like_image(argument: &Path) -> bool {
    let text = argument.to_string_lossy();
    argument.symlink_metadata().is_ok()
        || Format::from_extension(argument).is_some()
        || unread_by_suffix(argument).is_some()
        || text.contains(is_separator)
        || wdsr_batch::is_pattern(argument)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> String {
        let arguments = line.split(' ').map(OsString::from);
        let is_command = |word: &OsStr| ["upscale", "info", "help"].iter().any(|c| word == *c);
        with_command(arguments, is_command)
            .join(OsStr::new(" "))
            .to_string_lossy()
            .into_owned()
    }

    #[test]
    fn images_and_options_are_those_of_upscale() {
        for line in [
            "wdsr photo.jpg",
            "wdsr photo.HEIC",
            "wdsr photos/",
            "wdsr ./info",
            "wdsr *.x",
            "wdsr src",
            "wdsr -- info",
            "wdsr -s 4 photo.jpg",
            "wdsr - -o -",
        ] {
            let expected = line.replacen("wdsr ", "wdsr upscale ", 1);
            assert_eq!(parsed(line), expected);
        }
    }

    #[test]
    fn commands_and_words_that_are_no_files_stay() {
        for line in [
            "wdsr",
            "wdsr upscale photo.jpg",
            "wdsr info",
            "wdsr help",
            "wdsr --help",
            "wdsr -V",
            "wdsr upscle photo.jpg",
            "wdsr photo",
            "wdsr --json info",
        ] {
            assert_eq!(parsed(line), line);
        }
    }
}
