//! Comparison of floats.

use std::fmt::Display;

/// Compares values with a bound for each element, and returns the largest difference in units of its
/// bound: at most 1.
///
/// # Errors
///
/// Returns text about the worst element if one differs by more than its bound.
///
/// # Panics
///
/// Panics if the lengths differ or are zero.
#[track_caller]
pub fn compare(
    found: &[f32],
    expected: &[f32],
    bound: impl Fn(usize) -> f64,
    what: impl Display,
) -> Result<f64, String> {
    assert_eq!(found.len(), expected.len(), "{what}: count of values");
    assert!(!found.is_empty(), "{what}: no values");
    let (mut worst, mut ratio) = (0, 0.0);
    for (at, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        if found == expected {
            continue;
        }
        let this = (f64::from(found) - f64::from(expected)).abs() / bound(at);
        if this > ratio || this.is_nan() {
            (worst, ratio) = (at, this);
        }
        // Not a number is the worst of all.
        if this.is_nan() {
            break;
        }
    }
    if ratio <= 1.0 {
        return Ok(ratio);
    }
    let (length, found, expected) = (found.len(), found[worst], expected[worst]);
    let difference = (f64::from(found) - f64::from(expected)).abs();
    Err(format!(
        "{what}: element {worst} of {length} is {found:e}, expected {expected:e}: differs by \
         {difference:.2e}, allowed {:.2e}",
        bound(worst)
    ))
}

/// Asserts that no value differs by more than `allowed`, and returns the largest difference.
///
/// # Panics
///
/// Panics with the worst element if one does, and if the lengths differ or are zero.
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32], allowed: f64, what: impl Display) -> f64 {
    match compare(found, expected, |_| allowed, what) {
        Ok(ratio) => ratio * allowed,
        Err(difference) => panic!("{difference}"),
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
        let bounds = [0.5, 2.0];
        let ratio = compare(&[1.5, 3.0], &[1.25, 2.5], |at| bounds[at], "values");
        assert_eq!(ratio, Ok(0.5));
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
