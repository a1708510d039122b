//! Work on many images at once whose errors do not depend on the order in which threads finish.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

/// Maps all items in parallel. Once an item fails, those after it may be left out.
///
/// # Errors
/// The error of the first item that fails, in the order of `items`, so that the same files give the same
/// message on every run.
pub fn map_or_first_error<T, R, E>(
    items: &[T],
    map: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E>
where
    T: Sync,
    R: Send,
    E: Send,
{
    let first_failed = AtomicUsize::new(usize::MAX);
    let results: Vec<Option<Result<R, E>>> = items
        .par_iter()
        .enumerate()
        .map(|(at, item)| {
            if at > first_failed.load(Ordering::Relaxed) {
                return None;
            }
            let result = map(item);
            if result.is_err() {
                first_failed.fetch_min(at, Ordering::Relaxed);
            }
            Some(result)
        })
        .collect();
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::map_or_first_error;

    #[test]
    fn the_first_error_is_returned_even_if_a_later_one_comes_earlier() {
        let items: Vec<usize> = (0..64).collect();
        let map = |&item: &usize| match item {
            3 => {
                std::thread::sleep(std::time::Duration::from_millis(20));
                Err(item)
            }
            40.. => Err(item),
            _ => Ok(item),
        };
        for _ in 0..8 {
            assert_eq!(map_or_first_error(&items, map), Err(3));
        }
        let all = map_or_first_error(&items, |&item| Ok::<_, ()>(2 * item));
        assert_eq!(all, Ok(items.iter().map(|item| 2 * item).collect()));
    }
}
