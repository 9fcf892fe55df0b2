use std::time::Duration;

use super::math::{exp, ln, minus_ln, normal};
use super::{Dice, unit};
use crate::core::draw::below;
use crate::core::time::nanos;

/// How long an endpoint takes to answer: a constant (any [`Duration`]) or a distribution.
///
/// Drawn in whole nanoseconds, alike on every platform.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency(Kind);

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Constant(u64),
    Uniform(u64, u64),
    Exponential(u64),
    Lognormal { p50: f64, sigma: f64 },
    // Pairs of a quantile from 0 to 1 and its value.
    Quantiles(Vec<(f64, u64)>),
    Invalid(&'static str),
}

/// How far the 99th percentile of the standard normal distribution is from its median.
const NORMAL_P99: f64 = 2.326_347_874_040_841;

/// Longer than anybody waits; keeps arithmetic away from its limits.
const MAX: u64 = 1 << 60;

// === impl Latency ===

impl Latency {
    /// Anything from `least` to `most`, alike. `most` below `least` is refused when the world runs.
    pub fn uniform(least: Duration, most: Duration) -> Self {
        let (least, most) = (capped(least), capped(most));
        if most < least {
            return Self(Kind::Invalid(
                "a uniform latency needs its least time first",
            ));
        }
        Self(Kind::Uniform(least, most))
    }

    /// Exponentially distributed around this mean.
    pub fn exponential(mean: Duration) -> Self {
        Self(Kind::Exponential(capped(mean)))
    }

    /// Lognormally distributed, with this median and this 99th percentile. A percentile below the median, or a median of
    /// zero, is refused when the world runs.
    pub fn lognormal(p50: Duration, p99: Duration) -> Self {
        let (p50, p99) = (capped(p50) as f64, capped(p99) as f64);
        if p50 <= 0.0 || p99 < p50 {
            let why = "a lognormal latency needs a p50 above zero and a p99 that is not below it";
            return Self(Kind::Invalid(why));
        }
        let sigma = ln(p99 / p50) / NORMAL_P99;
        Self(Kind::Lognormal { p50, sigma })
    }

    /// By its quantiles, in straight lines between them: `[(0.0, ms(1)), (0.5, ms(20)), (1.0, ms(200))]`.
    ///
    /// They must begin with 0, end with 1 and rise; anything else is refused when the world runs.
    pub fn quantiles(points: impl IntoIterator<Item = (f64, Duration)>) -> Self {
        let points = points.into_iter().map(|(q, time)| (q, capped(time)));
        let points: Vec<_> = points.collect();
        let ends = points.first().is_some_and(|(q, _)| *q == 0.0)
            && points.last().is_some_and(|(q, _)| *q == 1.0);
        let rising = points
            .windows(2)
            .all(|pair| matches!(pair, [(p, a), (q, b)] if p < q && a <= b));
        if !ends || !rising {
            let why = "quantiles must begin with 0, end with 1 and rise";
            return Self(Kind::Invalid(why));
        }
        Self(Kind::Quantiles(points))
    }

    /// Why it is none.
    pub(crate) fn invalid(&self) -> Option<&'static str> {
        match &self.0 {
            Kind::Invalid(why) => Some(why),
            _ => None,
        }
    }

    /// One draw, in nanoseconds.
    pub(crate) fn draw(&self, dice: Dice) -> u64 {
        match &self.0 {
            Kind::Constant(nanos) => *nanos,
            Kind::Uniform(least, most) => least + below(dice.word(0), most - least + 1),
            Kind::Exponential(mean) => rounded(*mean as f64 * minus_ln(dice.word(0))),
            Kind::Lognormal { p50, sigma } => rounded(p50 * exp(sigma * normal(|n| dice.word(n)))),
            Kind::Quantiles(points) => between(points, unit(dice.word(0))),
            Kind::Invalid(_) => 0,
        }
    }
}

impl From<Duration> for Latency {
    fn from(constant: Duration) -> Self {
        Self(Kind::Constant(capped(constant)))
    }
}

fn capped(time: Duration) -> u64 {
    nanos(time).min(MAX)
}

// A cast of a float saturates, and takes what is no number as zero.
fn rounded(nanos: f64) -> u64 {
    ((nanos + 0.5) as u64).min(MAX)
}

fn between(points: &[(f64, u64)], at: f64) -> u64 {
    for pair in points.windows(2) {
        if let [(p, a), (q, b)] = pair
            && at < *q
        {
            let part = (at - p) / (q - p);
            return a.saturating_add(rounded((b - a) as f64 * part));
        }
    }
    points.last().map_or(0, |(_, last)| *last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::chance::Part;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn sorted(latency: &Latency) -> Vec<u64> {
        let dice = Dice::new(1, Part::Fate, 0);
        let mut draws: Vec<u64> = (0..100_000).map(|n| latency.draw(dice.event(n))).collect();
        draws.sort_unstable();
        draws
    }

    #[test]
    fn draws_have_the_quantiles_that_were_asked_for() {
        let near = |draws: &[u64], q: f64, millis: f64| {
            let found = draws[(q * draws.len() as f64) as usize] as f64 / 1e6;
            assert!(
                (found / millis - 1.0).abs() < 0.03,
                "{q}: {found} instead of {millis}"
            );
        };
        let draws = sorted(&Latency::uniform(ms(20), ms(50)));
        near(&draws, 0.0, 20.0);
        near(&draws, 0.5, 35.0);
        near(&draws, 0.999, 50.0);
        let draws = sorted(&Latency::exponential(ms(20)));
        near(&draws, 0.5, 13.863);
        near(&draws, 0.99, 92.1);
        let draws = sorted(&Latency::lognormal(ms(20), ms(200)));
        near(&draws, 0.5, 20.0);
        near(&draws, 0.99, 200.0);
        let points = [(0.0, ms(1)), (0.5, ms(20)), (1.0, ms(200))];
        let draws = sorted(&Latency::quantiles(points));
        near(&draws, 0.25, 10.5);
        near(&draws, 0.75, 110.0);
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_draws_nothing() {
        for latency in [
            Latency::uniform(ms(2), ms(1)),
            Latency::lognormal(ms(0), ms(1)),
            Latency::lognormal(ms(2), ms(1)),
            Latency::quantiles([]),
            Latency::quantiles([(0.0, ms(1))]),
            Latency::quantiles([(0.0, ms(2)), (1.0, ms(1))]),
            Latency::quantiles([(0.0, ms(1)), (f64::NAN, ms(1)), (1.0, ms(1))]),
        ] {
            assert!(latency.invalid().is_some(), "{latency:?}");
            assert_eq!(latency.draw(Dice::new(1, Part::Fate, 0)), 0);
        }
    }

    #[test]
    fn the_longest_times_do_not_overflow() {
        let dice = Dice::new(1, Part::Fate, 0);
        for latency in [
            Latency::uniform(Duration::ZERO, Duration::MAX),
            Latency::exponential(Duration::MAX),
            Latency::lognormal(ms(1), Duration::MAX),
            Latency::from(Duration::MAX),
        ] {
            assert_eq!(latency.invalid(), None);
            assert!((0..1000).all(|n| latency.draw(dice.event(n)) <= MAX));
        }
    }
}
