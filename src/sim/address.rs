//! Which endpoint of a world has which address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The address of the endpoint with this index: 10.0.0.1, ...
pub(crate) fn address_of(station: usize) -> SocketAddr {
    let number = u32::try_from(station + 1).unwrap_or(u32::MAX);
    let ip = Ipv4Addr::from((10 << 24) | (number & 0x00ff_ffff));
    SocketAddr::from((ip, 80))
}

/// The index of the endpoint at this address.
pub(crate) fn station_at(address: &SocketAddr) -> Option<usize> {
    let IpAddr::V4(ip) = address.ip() else {
        return None;
    };
    let number = u32::from(ip);
    (number >> 24 == 10).then_some(())?;
    usize::try_from(number & 0x00ff_ffff).ok()?.checked_sub(1)
}
