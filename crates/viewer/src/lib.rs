//! The image viewer of wdsr's pages: two images of one scene with a divider between them, in turn, or their
//! difference, zoomed to single pixels. `wdsr compare` writes it into its page, `wdsr serve` offers it.
//!
//! A page has [`STYLE`], [`MARKUP`] in its body, and after it [`SCRIPT`]; then it calls `showSets`, which the
//! script documents. None of them refers to anything outside the page.
#![forbid(unsafe_code)]

/// The style (CSS), in dark and light, for the viewer and the page around it.
pub const STYLE: &str = include_str!("viewer.css");

/// The markup (HTML), a part of a body.
pub const MARKUP: &str = include_str!("viewer.html");

/// The script (JavaScript).
pub const SCRIPT: &str = include_str!("viewer.js");
