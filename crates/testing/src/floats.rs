//! Comparison of floats.

use std::fmt::Display;

/// The element that differs most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worst {
    /// Its index.
    pub at: usize,
    /// Its value.
    pub found: f32,
    /// The value expected.
    pub expected: f32,
    /// The absolute difference, infinite if one of the values is not a number.
    pub difference: f64,
}

/// The element that differs most, the first of equal ones.
///
/// # Panics
///
/// Panics if the lengths differ or are zero.
pub fn worst(found: &[f32], expected: &[f32]) -> Worst {
    assert_eq!(found.len(), expected.len(), "count of values");
    let of = |(at, (&found, &expected)): (usize, (&f32, &f32))| {
        let difference = if found == expected {
            0.0
        } else {
            let difference = (f64::from(found) - f64::from(expected)).abs();
            if difference.is_nan() {
                f64::INFINITY
            } else {
                difference
            }
        };
        Worst {
            at,
            found,
            expected,
            difference,
        }
    };
    found
        .iter()
        .zip(expected)
        .enumerate()
        .map(of)
        .reduce(|a, b| if b.difference > a.difference { b } else { a })
        .expect("at least one value")
}

/// Asserts that no value differs by more than `allowed`, and returns the largest difference.
///
/// # Panics
///
/// Panics with the worst element if one does, and if the lengths differ or are zero.
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32], allowed: f64, what: impl Display) -> f64 {
    let worst = worst(found, expected);
    assert!(
        worst.difference <= allowed,
        "{what}: element {} of {} is {:e}, expected {:e}: differs by {:.2e}, allowed {allowed:.2e}",
        worst.at,
        found.len(),
        worst.found,
        worst.expected,
        worst.difference,
    );
    worst.difference
}

/// Asserts that no value differs by more than `allowed` times the largest magnitude expected, and
/// returns the largest difference relative to that magnitude.
///
/// # Panics
///
/// Panics with the worst element if one does, and if the lengths differ or are zero.
#[track_caller]
pub fn assert_relatively_close(
    found: &[f32],
    expected: &[f32],
    allowed: f64,
    what: impl Display,
) -> f64 {
    let size = largest(expected);
    // All zero: only equal values are relatively close.
    let difference = assert_close(found, expected, allowed * size, what);
    if difference == 0.0 {
        0.0
    } else {
        difference / size
    }
}

/// The largest magnitude, 0 of no values.
pub fn largest(values: &[f32]) -> f64 {
    values
        .iter()
        .fold(0.0, |m: f64, v| m.max(f64::from(v.abs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_values_pass() {
        assert_eq!(assert_close(&[1.0, 2.5], &[1.0, 2.0], 0.5, "values"), 0.5);
        let relative = assert_relatively_close(&[4.0, 1.0], &[4.0, 2.0], 0.25, "values");
        assert_eq!(relative, 0.25);
        assert_eq!(assert_relatively_close(&[0.0], &[0.0], 1e-6, "zeros"), 0.0);
    }

    #[test]
    #[should_panic(expected = "x: element 1 of 3 is 4e0, expected 2e0: differs by 2.00e0")]
    fn the_worst_element_is_shown() {
        assert_close(&[1.5, 4.0, 4.0], &[1.0, 2.0, 3.0], 1.0, "x");
    }

    #[test]
    #[should_panic(expected = "element 0 of 1 is NaN")]
    fn not_a_number_is_never_close() {
        assert_close(&[f32::NAN], &[1.0], 1e30, "x");
    }
}
