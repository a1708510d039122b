//! Data, random numbers and comparisons for the tests of all crates.
//!
//! The crate depends on none of the crates that it serves, so unit tests can use it too: there a type
//! of the crate under test is not the type that other crates see.
//!
//! Two environment variables choose the data:
//!
//! | variable | folder | default |
//! |---|---|---|
//! | `WDSR_GOLDEN` | golden vectors, laid out as `tests/golden/README.md` says | `tests/golden` |
//! | `WDSR_DATA` | test sets: `Set5`, `Set14` and others, each with `HR` | none, such tests are ignored |

#![forbid(unsafe_code)]

pub mod containers;
pub mod floats;
pub mod golden;
pub mod http;
pub mod images;
pub mod paths;
pub mod program;
pub mod random;
