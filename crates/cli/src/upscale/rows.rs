//! `--rows`: a band of a result.

use std::str::FromStr;

use wdsr_batch::Shard;
use wdsr_upscale::BandRequest;

/// The rows of a result to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows(pub(super) BandRequest);

/// A text that names no rows.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected rows A:B such as 0:1000 or 1000: (to the end), or I/N for one of N bands such as 2/8, found \
     \"{0}\""
)]
pub(super) struct RowsError(String);

impl Rows {
    /// The end of the names of results: `-rows-1000-2000`, `-rows-2-of-8`.
    pub(super) fn name_end(self) -> String {
        match self.0 {
            BandRequest::Rows { start, end } => {
                let end = end.map_or_else(|| "end".to_owned(), |end| end.to_string());
                format!("-rows-{start}-{end}")
            }
            BandRequest::Part { index, count } => format!("-rows-{index}-of-{count}"),
        }
    }
}

impl FromStr for Rows {
    type Err = RowsError;

    fn from_str(text: &str) -> Result<Self, RowsError> {
        let rows = || {
            let (start, end) = text.split_once(':')?;
            let start = start.parse().ok()?;
            let end = match end {
                "" => None,
                end => Some(end.parse().ok().filter(|end| *end > start)?),
            };
            Some(BandRequest::Rows { start, end })
        };
        let part = || {
            let Shard { index, count } = text.parse().ok()?;
            let (index, count) = (index.try_into().ok()?, count.try_into().ok()?);
            Some(BandRequest::Part { index, count })
        };
        let request = rows().or_else(part);
        request.map(Self).ok_or_else(|| RowsError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_a_range_or_one_of_several_bands() {
        let rows = |start, end| Rows(BandRequest::Rows { start, end });
        let part = |index, count| Rows(BandRequest::Part { index, count });
        for (text, expected, name_end) in [
            ("0:1000", rows(0, Some(1000)), "-rows-0-1000"),
            ("1000:", rows(1000, None), "-rows-1000-end"),
            ("2/8", part(2, 8), "-rows-2-of-8"),
            ("0/8", part(8, 8), "-rows-8-of-8"),
        ] {
            let found: Rows = text.parse().expect(text);
            assert_eq!(found, expected);
            assert_eq!(found.name_end(), name_end);
        }
        for wrong in [
            "", ":", ":5", "5", "5:5", "6:5", "9/8", "0/0", "1/", "-1:5", "1:2:3", "a:b",
        ] {
            let error = wrong.parse::<Rows>().expect_err(wrong);
            assert!(error.to_string().contains(wrong), "{error}");
        }
    }
}
