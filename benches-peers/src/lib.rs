//! How everything here is measured: many short batches, the median of them, and a ratio to something in the same run.
//! Absolute times say little on a shared machine.

use std::hint::black_box;
use std::time::Instant;

/// Median nanoseconds of one call of each, over batches that take turns, so that whatever else the machine does hits all
/// of them alike.
pub fn medians<const N: usize>(
    batch: u32,
    rounds: usize,
    mut cases: [&mut dyn FnMut(); N],
) -> [f64; N] {
    let mut times: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for _ in 0..rounds {
        for (case, times) in cases.iter_mut().zip(&mut times) {
            let start = Instant::now();
            for _ in 0..batch {
                case();
            }
            times.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(batch));
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

/// Keeps a value from being optimised away.
pub fn keep<T>(value: T) -> T {
    black_box(value)
}
