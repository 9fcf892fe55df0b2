use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::lookup::Lookup as Answer;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver, net::runtime::TokioRuntimeProvider};

use super::lookup::{Family, Looked, Lookup, LookupError, Records, Service};

/// Asks the servers of the operating system's configuration, after its hosts file.
pub(super) struct System(TokioResolver);

// === impl System ===

impl System {
    pub(super) fn new() -> Result<Self, LookupError> {
        TokioResolver::builder_tokio()
            .and_then(Self::over)
            .map_err(|error| LookupError::Failed(error.into()))
    }

    pub(super) fn over(
        mut builder: ResolverBuilder<TokioRuntimeProvider>,
    ) -> Result<Self, NetError> {
        // What is asked here is asked because its time is up.
        builder.options_mut().cache_size = 0;
        builder.build().map(Self)
    }
}

impl Lookup for System {
    fn addresses<'a>(&'a self, host: &'a str, family: Family) -> Looked<'a, IpAddr> {
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        Box::pin(async move {
            records(self.0.lookup(host, kind).await, |data| match data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                _ => None,
            })
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> Looked<'a, Service> {
        Box::pin(async move {
            records(
                self.0.lookup(name, RecordType::SRV).await,
                |data| match data {
                    RData::SRV(service) => Some(Service {
                        priority: service.priority,
                        weight: service.weight,
                        port: service.port,
                        target: service.target.to_utf8(),
                    }),
                    _ => None,
                },
            )
        })
    }
}

fn records<T>(
    answer: Result<Answer, NetError>,
    of: impl Fn(&RData) -> Option<T>,
) -> Result<Records<T>, LookupError> {
    let seconds = |ttl: u32| Duration::from_secs(ttl.into());
    match answer {
        Ok(answer) => Ok(Records {
            records: answer
                .answers()
                .iter()
                .filter_map(|record| of(&record.data))
                .collect(),
            // Aliases on the way count, too.
            ttl: answer
                .answers()
                .iter()
                .map(|record| seconds(record.ttl))
                .min(),
        }),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            let ttl = none.negative_ttl.map(seconds);
            let exists = NetError::from(none);
            if exists.is_nx_domain() {
                return Err(LookupError::DoesNotExist { ttl });
            }
            Ok(Records {
                records: Vec::new(),
                ttl,
            })
        }
        Err(error) => Err(LookupError::Failed(error.into())),
    }
}
