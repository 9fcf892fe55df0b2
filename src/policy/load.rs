use std::time::Duration;

use super::{InvalidPolicy, Ratio};

/// What an endpoint's load is, and so which of two gets the next request.
///
/// Its [extensions](LoadExtensions) go beyond what the mesh does, and are on by default.
///
/// ```
/// use std::time::Duration;
/// use tower_mesh::policy::{Load, PeakEwma, PreferZone};
///
/// // The default, with what it leaves to you.
/// let load = Load::PeakEwma(PeakEwma::DEFAULT)
///     .slow_start(Duration::from_secs(30)) // for who joins or is re-admitted
///     .prefer_zone(PreferZone::default()); // see `ClientBuilder::zone`
/// assert_eq!(load.ewma().decay(), Duration::from_secs(10));
/// assert_ne!(load, Load::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Load {
    /// Latency, peak-sensitive and decaying, times requests in flight.
    PeakEwma(PeakEwma),
    /// The same, with a penalty for answers that are failures.
    PenaltyPeakEwma(PenaltyPeakEwma),
    /// Requests in flight alone. Not in the mesh.
    LeastPending(LoadExtensions),
    /// No load: one after the other, each as often as it weighs. Not in the mesh.
    WeightedRoundRobin(LoadExtensions),
}

/// Peak EWMA: a slower answer raises the estimate at once, faster ones lower it over `decay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeakEwma {
    decay: Duration,
    default_rtt: Duration,
    extensions: LoadExtensions,
}

/// Peak EWMA in which a failed answer weighs at least `penalty`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PenaltyPeakEwma {
    ewma: PeakEwma,
    /// What a failure weighs at least.
    pub penalty: Duration,
    /// The time over which a penalty fades. (The mesh reads it and then ignores it.)
    pub penalty_decay: Duration,
    /// The most that an endpoint's own `Retry-After` may weigh.
    pub max_retry_after: Duration,
}

/// What a load can do beyond the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LoadExtensions {
    /// Whether an endpoint's recent failures raise its cost: it is divided by the eighth power of the fraction that
    /// succeeds. One that fails half of its requests costs 256 times as much; one that fails one in a hundred, as all
    /// others may, 8 % more. Default: yes.
    pub failures: bool,
    /// Whether an endpoint that owes answers is taken to be at least as slow as it has been silent, also when those who
    /// asked it have left. Any answer ends the silence. Default: yes.
    pub silence: bool,
    /// An endpoint that was not chosen for this long wins the next comparison it is in, once, so that none is starved
    /// for good. One that fails more than the other does not. Default: 5 s; none never.
    pub explore: Option<Duration>,
    /// Whether an endpoint that has not answered yet gets one request at a time until it does, unless there is no other.
    /// Default: yes.
    pub one_at_first: bool,
    /// How long a request counts as in flight. Default: until the first frame of the answer's body.
    pub pending_until: PendingUntil,
    /// How long an endpoint that joins, or that is re-admitted by its breaker, takes to reach its full share, in
    /// proportion to the time. Default: none, it has it at once.
    pub slow_start: Option<Duration>,
    /// Whether requests stay in their caller's zone as far as its endpoints can carry them. Takes a client that was told
    /// [its zone](crate::client::ClientBuilder::zone), and endpoints with [theirs](crate::Endpoint::with_zone). Default: no.
    pub prefer_zone: Option<PreferZone>,
}

/// How requests stay in their caller's zone: Envoy's zone-aware routing, with its overprovisioning factor.
///
/// The part that stays is `available / callers * overprovision`, at most all: `available` is the part of the endpoints
/// able to serve, by weight, that is in the zone, and `callers` the part of all callers that is. So no endpoint gets more
/// than `overprovision` times what it would if nobody preferred a zone, however small the zone is or has become. The rest
/// goes to all others alike. Within each part endpoints are compared by load, as ever.
///
/// Retries, hedges, requests beside an endpoint that is not ready, and probes that are due leave the zone. Where the zone
/// has nobody able to serve, or everybody, there is no preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PreferZone {
    /// By how much more than its share an endpoint of the zone may get, as a factor. Default: 1.4, as in Envoy.
    pub overprovision: Ratio,
    /// What part of all callers is in this zone. Default: none, they are taken to be spread evenly over the zones of the
    /// endpoints.
    pub callers: Option<Ratio>,
}

/// How long a request counts as in flight, for the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PendingUntil {
    /// The first frame of the answer's body, or its end if it has none: the mesh's rule. A stream does not count for ever.
    #[default]
    FirstFrame,
    /// The answer's head.
    Head,
    /// The end of the answer. For work that is not done when the answer begins.
    End,
}

// === impl Load ===

impl Load {
    /// How latency is estimated: for kinds that do not compare it, as by default.
    pub const fn ewma(&self) -> PeakEwma {
        match self {
            Self::PeakEwma(ewma) => *ewma,
            Self::PenaltyPeakEwma(penalty) => penalty.ewma,
            Self::LeastPending(_) | Self::WeightedRoundRobin(_) => PeakEwma::DEFAULT,
        }
    }

    /// Requests in flight alone.
    pub const fn least_pending() -> Self {
        Self::LeastPending(LoadExtensions::DEFAULT)
    }

    /// One after the other, each as often as it weighs.
    pub const fn weighted_round_robin() -> Self {
        Self::WeightedRoundRobin(LoadExtensions::DEFAULT)
    }

    /// What goes beyond the mesh.
    pub const fn extensions(&self) -> &LoadExtensions {
        match self {
            Self::PeakEwma(ewma) => &ewma.extensions,
            Self::PenaltyPeakEwma(penalty) => &penalty.ewma.extensions,
            Self::LeastPending(extensions) | Self::WeightedRoundRobin(extensions) => extensions,
        }
    }

    /// The same, to be changed.
    pub const fn extensions_mut(&mut self) -> &mut LoadExtensions {
        match self {
            Self::PeakEwma(ewma) => &mut ewma.extensions,
            Self::PenaltyPeakEwma(penalty) => &mut penalty.ewma.extensions,
            Self::LeastPending(extensions) | Self::WeightedRoundRobin(extensions) => extensions,
        }
    }

    /// With a slow start: an endpoint that joins or comes back takes `ramp` to reach its full share.
    /// Default: it has it at once.
    #[must_use]
    pub const fn slow_start(mut self, ramp: Duration) -> Self {
        self.extensions_mut().slow_start = Some(ramp);
        self
    }

    /// With requests that stay in their caller's zone as far as it can carry them. Default: zones do not
    /// matter.
    #[must_use]
    pub const fn prefer_zone(mut self, prefer: PreferZone) -> Self {
        self.extensions_mut().prefer_zone = Some(prefer);
        self
    }

    /// With requests counted as in flight until then. Default: the first frame of the answer's body.
    #[must_use]
    pub const fn pending_until(mut self, until: PendingUntil) -> Self {
        self.extensions_mut().pending_until = until;
        self
    }

    /// Without what goes beyond the mesh: Difference::LoadExtensions.
    pub(crate) const fn into_the_meshs(mut self) -> Self {
        *self.extensions_mut() = LoadExtensions::MESH;
        self
    }
}

// === impl PreferZone ===

impl PreferZone {
    /// As in Envoy: 1.4 times a share, callers spread evenly.
    pub const DEFAULT: Self = Self {
        overprovision: Ratio::percent(140),
        callers: None,
    };

    /// With so much more than its share as an endpoint of the zone may get. Below one it gets less than without zones.
    /// Default: 1.4.
    #[must_use]
    pub const fn overprovision(mut self, factor: Ratio) -> Self {
        self.overprovision = factor;
        self
    }

    /// With this part of all callers in this zone. Default: they are spread evenly over the zones.
    #[must_use]
    pub const fn callers(mut self, part: Ratio) -> Self {
        self.callers = Some(part);
        self
    }
}

impl Default for PreferZone {
    fn default() -> Self {
        Self::DEFAULT
    }
}

// === impl LoadExtensions ===

impl LoadExtensions {
    /// What is on by default.
    pub const DEFAULT: Self = Self {
        failures: true,
        silence: true,
        explore: Some(Duration::from_secs(5)),
        one_at_first: true,
        pending_until: PendingUntil::FirstFrame,
        slow_start: None,
        prefer_zone: None,
    };

    /// Nothing: as in the mesh.
    pub const MESH: Self = Self {
        failures: false,
        silence: false,
        explore: None,
        one_at_first: false,
        pending_until: PendingUntil::FirstFrame,
        slow_start: None,
        prefer_zone: None,
    };
}

impl Default for LoadExtensions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Default for Load {
    fn default() -> Self {
        Self::PeakEwma(PeakEwma::DEFAULT)
    }
}

// === impl PeakEwma ===

impl PeakEwma {
    /// What the mesh's control plane sends: 30 ms fading over 10 s.
    pub const DEFAULT: Self = Self {
        decay: Duration::from_secs(10),
        default_rtt: Duration::from_millis(30),
        extensions: LoadExtensions::DEFAULT,
    };

    /// A `default_rtt` below 1 ms is taken as 1 ms, as in the mesh.
    ///
    /// # Errors
    /// A `decay` of zero.
    pub fn try_new(decay: Duration, default_rtt: Duration) -> Result<Self, InvalidPolicy> {
        if decay.is_zero() {
            return Err(InvalidPolicy::new(
                "load.decay",
                "0s",
                "a duration above zero",
            ));
        }
        Ok(Self {
            decay,
            default_rtt: default_rtt.max(Duration::from_millis(1)),
            extensions: LoadExtensions::DEFAULT,
        })
    }

    /// The time in which an estimate falls to 37 % (1/e) of its distance from the samples.
    pub const fn decay(&self) -> Duration {
        self.decay
    }

    /// The estimate before the first sample.
    pub const fn default_rtt(&self) -> Duration {
        self.default_rtt
    }
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self::DEFAULT
    }
}

// === impl PenaltyPeakEwma ===

impl PenaltyPeakEwma {
    /// The mesh's defaults for the penalty: 5 s fading over 10 s, at most 300 s by `Retry-After`.
    pub const fn new(ewma: PeakEwma) -> Self {
        Self {
            ewma,
            penalty: Duration::from_secs(5),
            penalty_decay: Duration::from_secs(10),
            max_retry_after: Duration::from_secs(300),
        }
    }

    /// The latency estimate underneath.
    pub const fn ewma(&self) -> PeakEwma {
        self.ewma
    }
}
