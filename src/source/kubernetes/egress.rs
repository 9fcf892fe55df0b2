//! `EgressNetwork`: policy for what is outside the cluster, found by address.

use std::net::IpAddr;

use super::annotations::Settings;
use super::diagnostic::{Diagnostic, Severity};
use super::error::Error;
use super::field::Field;
use super::metadata::Metadata;
use super::place::{Mark, Origin, quoted};
use super::said::Said;

/// An `EgressNetwork`.
#[derive(Clone, Debug)]
pub(super) struct EgressNetwork {
    pub(super) origin: Origin,
    pub(super) at: Mark,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) created: Option<String>,
    pub(super) allow: bool,
    /// None is everything outside the cluster's networks.
    pub(super) networks: Option<Vec<Network>>,
    pub(super) settings: Settings,
}

/// A block of addresses, without some in it.
#[derive(Clone, Debug)]
pub(super) struct Network {
    cidr: Cidr,
    except: Vec<Cidr>,
}

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    address: IpAddr,
    bits: u8,
}

/// What Linkerd takes for inside by default: the private blocks.
const CLUSTER: [Cidr; 5] = [
    Cidr::v4([10, 0, 0, 0], 8),
    Cidr::v4([100, 64, 0, 0], 10),
    Cidr::v4([172, 16, 0, 0], 12),
    Cidr::v4([192, 168, 0, 0], 16),
    Cidr {
        address: IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0)),
        bits: 8,
    },
];

/// Whether an address is of the cluster's own networks, by the default of Linkerd's installation.
pub(super) fn is_inside(address: IpAddr) -> bool {
    CLUSTER.iter().any(|network| network.contains(address))
}

// === impl EgressNetwork ===

impl EgressNetwork {
    /// # Errors
    /// No mapping as metadata. Everything else that is wrong is said.
    pub(super) fn read(document: &Field<'_>, said: &mut Said) -> Result<Self, Error> {
        let metadata = Metadata::read(document, "EgressNetwork", said)?;
        let origin = metadata.origin;
        let document = document.within(&origin);
        let mut allow = None;
        let mut networks = None;
        if let Some(spec) = said.keep(document.require("spec", "trafficPolicy, and networks")) {
            said.known(&spec, &["trafficPolicy", "networks"]);
            let expected = ("trafficPolicy", "Allow or Deny");
            let policies = [("Allow", true), ("Deny", false)];
            allow = said.need(&spec, expected, |policy| policy.one_of(&policies));
            networks = said.get(&spec, "networks").map(|list| {
                let networks = said.keep(list.list());
                if networks.as_ref().is_some_and(Vec::is_empty) {
                    said.wrong(
                        list.error("an empty list")
                            .mesh("refuses it")
                            .remedy("take networks away for everything outside the cluster"),
                    );
                }
                let networks = networks.iter().flatten();
                let networks = networks.filter_map(|network| Network::read(network, said));
                networks.collect()
            });
        }
        let settings = Settings::read(&metadata.annotations, &origin, said);
        if settings.accrual.is_some() {
            let message = "a breaker for addresses outside the cluster";
            said.push(
                Diagnostic::new(Severity::Note, &origin, message)
                    .key(super::keys::ACCRUAL)
                    .at(metadata.at)
                    .mesh("reads it and has none there")
                    .beyond(crate::policy::Difference::ForwardBreaker),
            );
        }
        Ok(Self {
            at: metadata.at,
            namespace: metadata.namespace,
            name: metadata.name,
            created: metadata.created,
            allow: allow.unwrap_or(true),
            networks,
            settings,
            origin,
        })
    }

    /// Whether one of its blocks has addresses of the cluster's own, by the default of Linkerd's installation.
    pub(super) fn overlaps_cluster(&self) -> bool {
        let mut networks = self.networks.iter().flatten();
        networks.any(|network| CLUSTER.iter().any(|inside| inside.overlaps(network.cidr)))
    }

    /// The smallest of its blocks that has this address, by the bits that are fixed.
    pub(super) fn block(&self, address: IpAddr) -> Option<u8> {
        match &self.networks {
            None => (!is_inside(address)).then_some(0),
            Some(networks) => {
                let found = networks.iter().filter(|network| network.contains(address));
                found.map(|network| network.cidr.bits).max()
            }
        }
    }
}

// === impl Network ===

impl Network {
    fn read(field: &Field<'_>, said: &mut Said) -> Option<Self> {
        said.known(field, &["cidr", "except"]);
        let expected = ("cidr", "a block such as 203.0.113.0/24");
        let cidr = said.need(field, expected, Cidr::read);
        let mut except = Vec::new();
        for field in said.list(field, "except") {
            except.extend(said.keep(Cidr::read(&field)));
        }
        Some(Self {
            cidr: cidr?,
            except,
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.cidr.contains(address) && !self.except.iter().any(|except| except.contains(address))
    }
}

// === impl Cidr ===

impl Cidr {
    const fn v4([a, b, c, d]: [u8; 4], bits: u8) -> Self {
        Self {
            address: IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, d)),
            bits,
        }
    }

    fn read(field: &Field<'_>) -> Result<Self, Error> {
        let text = field.string()?;
        let parse = || {
            let (address, bits) = match text.split_once('/') {
                Some((address, bits)) => (address.parse::<IpAddr>().ok()?, bits.parse().ok()?),
                None => {
                    let address = text.parse::<IpAddr>().ok()?;
                    (address, Self::width(address))
                }
            };
            (bits <= Self::width(address)).then_some(Self { address, bits })
        };
        parse().ok_or_else(|| {
            field.error(format!(
                "found {}, expected a block such as 203.0.113.0/24 or 2001:db8::/32",
                quoted(text)
            ))
        })
    }

    fn width(address: IpAddr) -> u8 {
        if address.is_ipv4() { 32 } else { 128 }
    }

    fn overlaps(&self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    fn contains(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            // Put to the left, so that the first bits are those of the block.
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        };
        let differ = bits(self.address) ^ bits(address);
        self.address.is_ipv4() == address.is_ipv4()
            && differ.leading_zeros() >= u32::from(self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inside_and_outside() {
        for (address, inside) in [
            ("10.1.2.3", true),
            ("100.127.255.255", true),
            ("100.128.0.0", false),
            ("172.31.0.1", true),
            ("172.32.0.1", false),
            ("192.168.0.1", true),
            ("8.8.8.8", false),
            ("fdff::1", true),
            ("fe00::1", false),
            ("::a01:203", false),
        ] {
            assert_eq!(is_inside(address.parse().unwrap()), inside, "{address}");
        }
        let all = Cidr::v4([0, 0, 0, 0], 0);
        assert!(all.contains([255, 1, 2, 3].into()));
        assert!(!all.contains("::1".parse().unwrap()));
    }
}
