use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use super::*;

mod client_policy;
mod grpc;
mod matches;
mod ratio;
mod validity;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn ppm(ppm: u32) -> Ratio {
    Ratio::parts_per_million(ppm).unwrap()
}

fn backend(name: &str) -> Arc<Backend> {
    Arc::new(Backend {
        meta: Arc::new(Meta::default_named(name)),
        queue: Queue::default(),
        dispatcher: BackendDispatcher::BalanceP2c(
            Load::default(),
            EndpointDiscovery::DestinationGet {
                path: name.to_owned(),
            },
        ),
    })
}

/// Valid, or the field that the error names. The error says what was found and what is expected, too.
#[track_caller]
fn check<T: Debug>(made: Result<T, InvalidPolicy>, invalid: Option<&str>) {
    match (made, invalid) {
        (Ok(_), None) => {}
        (Err(error), Some(field)) => {
            assert_eq!(error.field(), field, "{error}");
            assert!(!error.found().is_empty(), "{error}");
            assert!(!error.expected().is_empty(), "{error}");
            let text = error.to_string();
            for part in [error.field(), error.found(), error.expected()] {
                assert!(text.contains(part), "{text}");
            }
        }
        (made, invalid) => panic!("{made:?}, expected {invalid:?}"),
    }
}

/// All of these differ, each equals its clone, and hashes go with that.
#[track_caller]
fn all_differ<T: Clone + Eq + Hash + Debug>(values: impl IntoIterator<Item = T>) {
    let values: Vec<T> = values.into_iter().collect();
    for (i, value) in values.iter().enumerate() {
        for (j, other) in values.iter().enumerate() {
            assert_eq!(value == &other.clone(), i == j, "{value:?} {other:?}");
        }
    }
    let set: HashSet<T> = values.iter().cloned().collect();
    assert_eq!(set.len(), values.len());
    assert!(values.iter().all(|value| set.contains(value)));
}
