//! The order in which a route's backends are asked.

use crate::core::draw::below;

/// A backend's weight; none where the first that can serve is taken.
pub(crate) trait Weighted {
    fn weight(&self) -> u32;
}

/// One of `backends` by weight, of those that `still` allows. None if none of them weighs anything.
pub(crate) fn by_weight<T: Weighted>(
    backends: &[T],
    still: impl Fn(usize) -> bool,
    word: u64,
) -> Option<usize> {
    let weighted = || {
        backends
            .iter()
            .enumerate()
            .filter(|(index, _)| still(*index))
            .map(|(index, backend)| (index, u64::from(backend.weight())))
    };
    let total: u64 = weighted().map(|(_, weight)| weight).sum();
    let mut place = below(word, total);
    weighted().find_map(|(index, weight)| {
        if place < weight {
            return Some(index);
        }
        place -= weight;
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::draw::{Purpose, draw};

    impl Weighted for u32 {
        fn weight(&self) -> u32 {
            *self
        }
    }

    #[test]
    fn follows_the_weights_of_those_that_are_left() {
        let share = |still: fn(usize) -> bool| {
            let mut counts = [0u32; 4];
            for n in 0..10_000 {
                if let Some(index) = by_weight(&[1, 0, 3, 6], still, draw(1, n, Purpose::Weight, 0))
                {
                    counts[index] += 1;
                }
            }
            counts.map(|count| (count + 50) / 100)
        };
        assert_eq!(share(|_| true), [10, 0, 30, 60]);
        assert_eq!(share(|index| index != 3), [25, 0, 75, 0]);
        assert_eq!(share(|index| index == 1), [0, 0, 0, 0]);
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        assert_eq!(by_weight(&[u32::MAX; 8], |_| true, u64::MAX), Some(7));
        assert_eq!(by_weight(&[u32::MAX; 8], |_| true, 0), Some(0));
        assert_eq!(by_weight::<u32>(&[], |_| true, 0), None);
    }
}
