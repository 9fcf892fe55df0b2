use std::time::Duration;

use super::{ExponentialBackoff, InvalidPolicy, Ratio};

/// When an endpoint is ejected for its failures, and when it is tried again.
///
/// Its [extensions](AccrualExtensions) go beyond what the mesh does.
///
/// ```
/// use std::time::Duration;
/// use tower_mesh::policy::{FailureAccrual, Ratio};
///
/// let accrual = FailureAccrual::success_rate(Ratio::percent(80)) // over 10 s, of at least 5 requests
///     .or_consecutive(7) // whichever comes first, and is named when it ejects
///     .max_ejected(Ratio::percent(50))
///     .slow_call(Duration::from_secs(2));
/// assert_eq!(accrual.max_consecutive_failures(), 7);
/// assert_eq!(accrual.extensions().slow_call, Some(Duration::from_secs(2)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureAccrual {
    /// So many failures in a row.
    Consecutive(ConsecutiveFailures),
    /// Failures in a row, or a success rate below a threshold, whichever comes first.
    Unified(Unified),
}

/// Ejects after `max_failures` failures in a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConsecutiveFailures {
    /// Failures in a row that eject. Zero never ejects (the mesh's rule).
    pub max_failures: u32,
    /// Waits between an ejection and its probe.
    pub backoff: ExponentialBackoff,
    /// What the mesh has no word for, or ignores.
    pub extensions: AccrualExtensions,
}

/// Ejects on failures in a row or on a success rate below a threshold; failures in a row are looked at first.
///
/// Rate-limit answers (429, `RESOURCE_EXHAUSTED`) end a run of failures, and count as bad for the success rate and for a
/// probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unified {
    threshold: Ratio,
    window: Duration,
    min_requests: u32,
    max_consecutive_failures: u32,
    backoff: ExponentialBackoff,
    extensions: AccrualExtensions,
}

/// What a breaker can do beyond the mesh. Default: nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct AccrualExtensions {
    /// How many endpoints stay in, whatever they do, and what happens when none is left.
    pub ejection: Option<Ejection>,
    /// Ejects an endpoint whose failures exceed its peers' beyond chance: so many false ejections an hour and endpoint
    /// are accepted. Zero ejects none. It says nothing of an endpoint that has no peers, or of one among peers of which
    /// half fail, and a rate of failures below some two in a hundred is never worth an ejection. What takes so
    /// long to be seen is hardly over at once, so its backoff begins at four times the least one.
    pub worse_than_peers: Option<Ratio>,
    /// An answer that takes longer than this is a failure, and so is a wait that its caller gave up after more than
    /// this.
    pub slow_call: Option<Duration>,
    /// Probes that must succeed in a row before an endpoint is re-admitted. One is the mesh's rule, and lets an endpoint
    /// that fails half of its requests pass every other time; three let it pass one time in eight. Zero acts as one.
    pub probes: u32,
    /// Whether an endpoint's own `Retry-After` or `grpc-retry-pushback-ms` is the least it is left alone for, within the
    /// backoff's limits. The mesh reads this and then ignores it.
    pub respect_retry_after: bool,
    /// The time in service that makes up for one ejection. With it an endpoint that flaps is re-admitted ever more
    /// slowly, and until all is forgiven three failures in a row eject it again, where failures in a row eject at all.
    /// Without it every recovery starts anew, as in the mesh.
    pub memory: Option<Duration>,
    /// Judge and report, and refuse nothing: endpoints that would be ejected are told as such and stay in.
    pub dry_run: bool,
}

/// The limits of ejections. Default: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Ejection {
    /// An ejection that would leave fewer endpoints than this in service is refused. The mesh's protocol has it, and the
    /// mesh ignores it.
    pub min_ready_endpoints: u32,
    /// An ejection that would leave out more than this share of the endpoints is refused; one may always be ejected,
    /// however few there are. [`Ratio::ONE`] is no limit.
    pub max_ejected: Ratio,
    /// Panic: after so many pairs of endpoints that are all ejected, the next one is taken anyway. Where a share `u` is
    /// ejected that is a part of `u^(2 x pairs)` of the requests (Finagle's rule; it looks at 4): all of them, if there is
    /// no other. From 1 to 64. None never panics: what
    /// nobody can serve waits, or is refused.
    pub panic_after: Option<u32>,
}

// === impl FailureAccrual ===

impl FailureAccrual {
    /// Failures in a row; probes after 1 s to 60 s with jitter one half (the mesh's defaults).
    pub const fn consecutive(max_failures: u32) -> Self {
        Self::Consecutive(ConsecutiveFailures {
            max_failures,
            backoff: ExponentialBackoff::ACCRUAL,
            extensions: AccrualExtensions::NONE,
        })
    }

    /// A success rate below `threshold` over 10 s of at least 5 requests; probes as in
    /// [`consecutive`](Self::consecutive).
    ///
    /// A threshold of zero turns it off, and one beyond one acts as one. For another window or number of requests, see
    /// [`Unified::try_new`].
    #[must_use]
    pub fn success_rate(threshold: Ratio) -> Self {
        Self::Unified(Unified {
            threshold: threshold.min(Ratio::ONE),
            max_consecutive_failures: 0,
            ..Unified::default()
        })
    }

    /// So many failures in a row, too: whichever comes first. Zero turns this off.
    #[must_use]
    pub fn or_consecutive(mut self, max_failures: u32) -> Self {
        match &mut self {
            Self::Consecutive(consecutive) => consecutive.max_failures = max_failures,
            Self::Unified(unified) => unified.max_consecutive_failures = max_failures,
        }
        self
    }

    /// A [success rate](Self::success_rate) below `threshold`, too: whichever comes first.
    ///
    /// It brings the mesh's rules of [`Unified`] along: a rate-limit answer is bad for the rate and for a probe.
    #[must_use]
    pub fn or_success_rate(self, threshold: Ratio) -> Self {
        let threshold = threshold.min(Ratio::ONE);
        Self::Unified(match self {
            Self::Consecutive(consecutive) => Unified {
                threshold,
                max_consecutive_failures: consecutive.max_failures,
                backoff: consecutive.backoff,
                extensions: consecutive.extensions,
                ..Unified::default()
            },
            Self::Unified(unified) => Unified {
                threshold,
                ..unified
            },
        })
    }

    /// With other waits between ejection and probe. Default: 1 s to 60 s, with jitter one half.
    #[must_use]
    pub fn backoff(mut self, backoff: ExponentialBackoff) -> Self {
        match &mut self {
            Self::Consecutive(consecutive) => consecutive.backoff = backoff,
            Self::Unified(unified) => unified.backoff = backoff,
        }
        self
    }

    /// With a floor: an ejection that would leave fewer endpoints in service is refused. Default: 0.
    #[must_use]
    pub fn min_ready_endpoints(mut self, min_ready_endpoints: u32) -> Self {
        self.ejection_mut().min_ready_endpoints = min_ready_endpoints;
        self
    }

    /// With a limit: an ejection that would leave out more than this share is refused. One may always be ejected.
    /// Default: all.
    #[must_use]
    pub fn max_ejected(mut self, share: Ratio) -> Self {
        self.ejection_mut().max_ejected = share;
        self
    }

    /// With panic: after so many pairs of endpoints that are all ejected, the next one is taken anyway. Default:
    /// never. See [`Ejection::panic_after`].
    #[must_use]
    pub fn panic_after(mut self, pairs: u32) -> Self {
        self.ejection_mut().panic_after = Some(pairs);
        self
    }

    /// With peers as the measure: an endpoint is ejected whose failures exceed theirs beyond chance, with a false ejection
    /// in ten hours and endpoints at most. See [`AccrualExtensions::worse_than_peers`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_mesh::policy::{FailureAccrual, Unified};
    ///
    /// // Everything on.
    /// let accrual = FailureAccrual::from(Unified::default())
    ///     .worse_than_peers()
    ///     .probes(3)
    ///     .memory(Duration::from_secs(60));
    /// // Nothing else: no number of failures in a row ejects.
    /// let alone = FailureAccrual::consecutive(0).worse_than_peers();
    /// # let _ = (accrual, alone);
    /// ```
    #[must_use]
    pub fn worse_than_peers(self) -> Self {
        self.worse_than_peers_at(AccrualExtensions::FALSE_EJECTIONS_PER_HOUR)
    }

    /// The same, with so many false ejections an hour and endpoint.
    #[must_use]
    pub fn worse_than_peers_at(mut self, false_per_hour: Ratio) -> Self {
        self.extensions_mut().worse_than_peers = Some(false_per_hour);
        self
    }

    /// Judging and reporting, and refusing nothing.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.extensions_mut().dry_run = true;
        self
    }

    /// With slow calls as failures: an answer that takes longer than `threshold`, or a caller that left after more.
    /// Default: none is slow.
    #[must_use]
    pub fn slow_call(mut self, threshold: Duration) -> Self {
        self.extensions_mut().slow_call = Some(threshold);
        self
    }

    /// With so many probes in a row that must succeed. Default: 1.
    #[must_use]
    pub fn probes(mut self, probes: u32) -> Self {
        self.extensions_mut().probes = probes;
        self
    }

    /// With the endpoint's own hints as the least that it is left alone for.
    #[must_use]
    pub fn respect_retry_after(mut self) -> Self {
        self.extensions_mut().respect_retry_after = true;
        self
    }

    /// With a memory: `healthy` time in service makes up for one ejection. Default: every recovery starts anew.
    #[must_use]
    pub fn memory(mut self, healthy: Duration) -> Self {
        self.extensions_mut().memory = Some(healthy);
        self
    }

    // Without what the mesh ignores. What it has no word for was asked for by nobody but the user.
    pub(crate) fn into_the_meshs(mut self) -> Self {
        let extensions = self.extensions_mut();
        if let Some(ejection) = &mut extensions.ejection {
            ejection.min_ready_endpoints = 0;
        }
        extensions.respect_retry_after = false;
        self
    }

    /// What goes beyond the mesh.
    pub fn extensions(&self) -> &AccrualExtensions {
        match self {
            Self::Consecutive(consecutive) => &consecutive.extensions,
            Self::Unified(unified) => &unified.extensions,
        }
    }

    /// The same, to be changed.
    pub fn extensions_mut(&mut self) -> &mut AccrualExtensions {
        match self {
            Self::Consecutive(consecutive) => &mut consecutive.extensions,
            Self::Unified(unified) => unified.extensions_mut(),
        }
    }

    fn ejection_mut(&mut self) -> &mut Ejection {
        let ejection = &mut self.extensions_mut().ejection;
        ejection.get_or_insert(Ejection::NONE)
    }

    /// Failures in a row that eject; zero never does.
    pub fn max_consecutive_failures(&self) -> u32 {
        match self {
            Self::Consecutive(consecutive) => consecutive.max_failures,
            Self::Unified(unified) => unified.max_consecutive_failures,
        }
    }

    /// The waits between ejection and probe.
    pub fn probe_backoff(&self) -> ExponentialBackoff {
        match self {
            Self::Consecutive(consecutive) => consecutive.backoff,
            Self::Unified(unified) => unified.backoff,
        }
    }
}

// === impl AccrualExtensions ===

impl AccrualExtensions {
    /// Nothing of it: as the mesh does.
    pub const NONE: Self = Self {
        ejection: None,
        worse_than_peers: None,
        dry_run: false,
        slow_call: None,
        probes: 1,
        respect_retry_after: false,
        memory: None,
    };
    /// False ejections an hour and endpoint that are accepted where an endpoint is measured by its peers, unless said
    /// otherwise: 0.1.
    pub const FALSE_EJECTIONS_PER_HOUR: Ratio = Ratio::percent(10);
}

impl Default for AccrualExtensions {
    fn default() -> Self {
        Self::NONE
    }
}

// === impl Ejection ===

impl Ejection {
    /// No limit: everything may be ejected, and nobody panics.
    pub const NONE: Self = Self {
        min_ready_endpoints: 0,
        max_ejected: Ratio::ONE,
        panic_after: None,
    };
}

impl Default for Ejection {
    fn default() -> Self {
        Self::NONE
    }
}

// === impl Unified ===

impl Default for Unified {
    /// Below 0.8 over 10 s of at least 5 requests, or 7 in a row; probes after 1 s to 60 s.
    fn default() -> Self {
        Self {
            threshold: Ratio::percent(80),
            window: Duration::from_secs(10),
            min_requests: 5,
            max_consecutive_failures: 7,
            backoff: ExponentialBackoff::ACCRUAL,
            extensions: AccrualExtensions::NONE,
        }
    }
}

impl Unified {
    /// The shortest window, unless the success rate is off.
    pub const MIN_WINDOW: Duration = Duration::from_millis(10);
    /// The largest `min_requests`.
    pub const MAX_MIN_REQUESTS: u32 = 1_000_000;

    /// # Errors
    /// A threshold beyond one; a window below 10 ms unless the threshold is zero; more than a million `min_requests`.
    pub fn try_new(
        threshold: Ratio,
        window: Duration,
        min_requests: u32,
        max_consecutive_failures: u32,
        backoff: ExponentialBackoff,
    ) -> Result<Self, InvalidPolicy> {
        if threshold > Ratio::ONE {
            return Err(InvalidPolicy::new(
                "failure_accrual.threshold",
                threshold,
                "a ratio from 0 to 1",
            ));
        }
        if threshold > Ratio::ZERO && window < Self::MIN_WINDOW {
            return Err(InvalidPolicy::new(
                "failure_accrual.window",
                format!("{window:?}"),
                "at least 10ms",
            ));
        }
        if min_requests > Self::MAX_MIN_REQUESTS {
            return Err(InvalidPolicy::new(
                "failure_accrual.min_requests",
                min_requests,
                "at most 1000000",
            ));
        }
        Ok(Self {
            threshold,
            window,
            min_requests,
            max_consecutive_failures,
            backoff,
            extensions: AccrualExtensions::NONE,
        })
    }

    /// The success rate below which an endpoint is ejected; zero turns this off.
    pub fn threshold(&self) -> Ratio {
        self.threshold
    }

    /// The time over which the success rate is taken, in ten buckets.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Results in the window before its success rate means anything. Zero acts as one.
    pub fn min_requests(&self) -> u32 {
        self.min_requests
    }

    /// Failures in a row that eject; zero turns this off.
    pub fn max_consecutive_failures(&self) -> u32 {
        self.max_consecutive_failures
    }

    /// Waits between an ejection and its probe.
    pub fn backoff(&self) -> ExponentialBackoff {
        self.backoff
    }

    /// What goes beyond the mesh.
    pub fn extensions(&self) -> &AccrualExtensions {
        &self.extensions
    }

    /// The same, to be changed.
    pub fn extensions_mut(&mut self) -> &mut AccrualExtensions {
        &mut self.extensions
    }
}

impl From<Unified> for FailureAccrual {
    fn from(unified: Unified) -> Self {
        Self::Unified(unified)
    }
}

impl From<ConsecutiveFailures> for FailureAccrual {
    fn from(consecutive: ConsecutiveFailures) -> Self {
        Self::Consecutive(consecutive)
    }
}
