//! One endpoint: its address, its leaf, its cell of state and its tickets.

mod address;
mod leaf;

pub use self::address::Endpoint;
pub use self::leaf::Connect;
