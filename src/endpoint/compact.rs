use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An address in 24 bytes instead of 32. What hardly any has, an IPv6 flow label, is on the heap.
pub(super) enum Compact {
    V4(SocketAddrV4),
    V6 { ip: Ipv6Addr, port: u16, scope: u32 },
    Labelled(Box<SocketAddrV6>),
}

impl From<SocketAddr> for Compact {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(address),
            SocketAddr::V6(address) if address.flowinfo() == 0 => Self::V6 {
                ip: *address.ip(),
                port: address.port(),
                scope: address.scope_id(),
            },
            SocketAddr::V6(address) => Self::Labelled(Box::new(address)),
        }
    }
}

impl From<&Compact> for SocketAddr {
    #[inline]
    fn from(address: &Compact) -> Self {
        match address {
            Compact::V4(address) => Self::V4(*address),
            Compact::V6 { ip, port, scope } => Self::V6(SocketAddrV6::new(*ip, *port, 0, *scope)),
            Compact::Labelled(address) => Self::V6(**address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn says_what_it_was_told(
            ip in any::<std::net::IpAddr>(), port in any::<u16>(), flow in 0u32..3, scope in any::<u32>(),
        ) {
            let mut address = SocketAddr::new(ip, port);
            if let SocketAddr::V6(address) = &mut address {
                address.set_flowinfo(flow << 30);
                address.set_scope_id(scope);
            }
            prop_assert_eq!(SocketAddr::from(&Compact::from(address)), address);
        }
    }
}
