use std::fmt;

use super::{Fidelity, InvalidPolicy, StatusRanges};

/// Which answers are the endpoint's failures. The mesh's wire format has no word for it; its proxy's sets are fixed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Failures {
    /// HTTP statuses. Default: 500 to 599.
    pub statuses: StatusRanges,
    /// gRPC status codes. Default: by fidelity.
    pub codes: Codes,
}

/// A set of gRPC status codes.
///
/// ```
/// use tower_mesh::policy::Codes;
///
/// let codes = Codes::of([Codes::UNKNOWN, Codes::UNAVAILABLE])?;
/// assert!(codes.contains(14) && !codes.contains(7));
/// assert_eq!(codes.to_string(), "UNKNOWN, UNAVAILABLE");
/// # Ok::<(), tower_mesh::policy::InvalidPolicy>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Codes(u32);

const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

// === impl Failures ===

impl Failures {
    /// What fails by default: 500 to 599; and in [`Fidelity::Mesh`] the proxy's codes, else [`Codes::EXTENDED`].
    pub fn by(fidelity: Fidelity) -> Self {
        Self {
            statuses: StatusRanges::server_errors(),
            // Difference::GrpcCodes.
            codes: match fidelity {
                Fidelity::Mesh => Codes::MESH,
                Fidelity::Extended => Codes::EXTENDED,
            },
        }
    }
}

// === impl Codes ===

impl Codes {
    /// 0.
    pub const OK: u16 = 0;
    /// 1.
    pub const CANCELLED: u16 = 1;
    /// 2.
    pub const UNKNOWN: u16 = 2;
    /// 3.
    pub const INVALID_ARGUMENT: u16 = 3;
    /// 4.
    pub const DEADLINE_EXCEEDED: u16 = 4;
    /// 5.
    pub const NOT_FOUND: u16 = 5;
    /// 6.
    pub const ALREADY_EXISTS: u16 = 6;
    /// 7.
    pub const PERMISSION_DENIED: u16 = 7;
    /// 8.
    pub const RESOURCE_EXHAUSTED: u16 = 8;
    /// 9.
    pub const FAILED_PRECONDITION: u16 = 9;
    /// 10.
    pub const ABORTED: u16 = 10;
    /// 11.
    pub const OUT_OF_RANGE: u16 = 11;
    /// 12.
    pub const UNIMPLEMENTED: u16 = 12;
    /// 13.
    pub const INTERNAL: u16 = 13;
    /// 14.
    pub const UNAVAILABLE: u16 = 14;
    /// 15.
    pub const DATA_LOSS: u16 = 15;
    /// 16.
    pub const UNAUTHENTICATED: u16 = 16;

    /// The proxy's own set: UNKNOWN, DEADLINE_EXCEEDED, PERMISSION_DENIED, INTERNAL, UNAVAILABLE, DATA_LOSS.
    pub const MESH: Self = Self(1 << 2 | 1 << 4 | 1 << 7 | 1 << 13 | 1 << 14 | 1 << 15);
    /// The same without PERMISSION_DENIED: an endpoint that refuses a caller what it may not do is well.
    pub const EXTENDED: Self = Self(Self::MESH.0 & !(1 << 7));

    /// These codes.
    ///
    /// # Errors
    /// OK, which is no failure, or a number that is no code (beyond 16).
    pub fn of(codes: impl IntoIterator<Item = u16>) -> Result<Self, InvalidPolicy> {
        codes.into_iter().try_fold(Self(0), |set, code| match code {
            1..=16 => Ok(Self(set.0 | 1 << code)),
            _ => Err(InvalidPolicy::new(
                "failures.codes",
                code,
                "a gRPC status code from 1 to 16",
            )),
        })
    }

    /// Whether this code is among them. One beyond 16 counts as UNKNOWN.
    pub fn contains(&self, code: u16) -> bool {
        let code = if code > 16 { Self::UNKNOWN } else { code };
        self.0 & (1 << code) != 0
    }

    /// Those of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In ascending order.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        (0..=16).filter(move |code| self.0 & (1 << code) != 0)
    }

    /// The name of a code, as in the gRPC specification. One beyond 16 is UNKNOWN.
    pub fn name(code: u16) -> &'static str {
        NAMES.get(usize::from(code)).copied().unwrap_or("UNKNOWN")
    }
}

impl fmt::Display for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, code) in self.iter().enumerate() {
            if n > 0 {
                f.write_str(", ")?;
            }
            f.write_str(Self::name(code))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Codes({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_sets() {
        let names = |codes: Codes| codes.to_string();
        assert_eq!(
            names(Codes::MESH),
            "UNKNOWN, DEADLINE_EXCEEDED, PERMISSION_DENIED, INTERNAL, UNAVAILABLE, DATA_LOSS"
        );
        assert_eq!(
            names(Codes::EXTENDED),
            "UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS"
        );
        assert_eq!(Failures::by(Fidelity::Mesh).codes, Codes::MESH);
        assert_eq!(Failures::by(Fidelity::default()).codes, Codes::EXTENDED);
    }

    #[test]
    fn codes_that_are_none() {
        for code in [0, 17, u16::MAX] {
            let error = Codes::of([2, code]).unwrap_err();
            assert_eq!(error.field(), "failures.codes");
            assert_eq!(error.found(), code.to_string());
        }
        assert!(Codes::MESH.contains(17) && Codes::MESH.contains(u16::MAX));
        assert!(!Codes::default().contains(99));
    }
}
