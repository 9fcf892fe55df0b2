//! Where matches stand in an [index](super::index), and where a request asks for them: the words that both have in common.

mod key;
mod literals;
mod shape;
mod word;

pub use self::key::{Class, Fnv, Key, Table};
pub use self::literals::places as pattern_places;
pub use self::shape::{Shape, rpc_key};
pub use self::word::{Word, query_hash};
