use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Where something is to be found: what kind of place, the length that precedence counts where it says nothing else, and
/// the hash of its words. Two places may share a hash, for what is found there is compared again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub class: Class,
    pub length: usize,
    pub hash: u64,
}

/// Kinds of places. All that match in one place have the same path, as far as precedence goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A host by its name.
    Host,
    /// All hosts below a name.
    Below,
    /// What asks nothing of the path.
    Anywhere,
    /// One path.
    Exact,
    /// A path and what is below it, by segments.
    Prefix,
    /// Patterns that begin with a literal.
    Begins,
    /// Patterns that end with one.
    Ends,
    /// All other patterns.
    Pattern,
    /// A gRPC service and method; the length is the service's.
    Rpc,
    /// All methods of a service.
    Service,
    /// A method of any service.
    Method,
}

/// By hashes that are hashes already.
pub type Table<K, V> = HashMap<K, V, BuildHasherDefault<Mixed>>;

#[derive(Default)]
pub struct Mixed(u64);

/// FNV-1a: a byte at a time, so that every prefix of a text has its hash on the way. Without a secret: the tables hold what
/// the policy says, and requests put nothing into them.
#[derive(Clone, Copy)]
pub struct Fnv(u64);

// === impl Key ===

impl Key {
    pub const fn of(class: Class) -> Self {
        Self {
            class,
            length: 0,
            hash: 0,
        }
    }
}

// === impl Mixed ===

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // FNV's low bits are good, its high ones are not; the table looks at both.
        let mixed = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        // What a derived `Hash` gives for a variant.
        self.write_u64(word as u64);
    }
}

// === impl Fnv ===

impl Fnv {
    pub const NEW: Self = Self(0xcbf2_9ce4_8422_2325);

    #[must_use]
    pub fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    }

    #[must_use]
    pub fn bytes(self, bytes: impl IntoIterator<Item = u8>) -> Self {
        bytes.into_iter().fold(self, Self::byte)
    }

    pub fn hash(self) -> u64 {
        self.0
    }
}
