//! What the servers saw of each request, and what is said against it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tower_mesh::core::draw::{Purpose, below, draw};

/// Chance of one thing in one round: a call, a connection, a node. The plan is the seed's; how it comes out is the machine's.
pub struct Dice {
    seed: u64,
    who: u64,
    turn: u64,
}

impl Dice {
    pub fn new(seed: u64, who: u64) -> Self {
        Self { seed, who, turn: 0 }
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.turn += 1;
        below(draw(self.seed, self.who, Purpose::Simulate, self.turn), n)
    }

    /// Not of this round: whoever throws it wants the one thing that is always possible.
    pub fn is_fixed(&self) -> bool {
        self.who == u64::MAX
    }

    /// So many times in a hundred.
    pub fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }

    pub fn one_of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Byte `at` of stream `salt`.
pub fn byte(salt: u64, at: usize) -> u8 {
    (salt.wrapping_mul(31) as usize).wrapping_add(at.wrapping_mul(7) ^ (at >> 8)) as u8
}

pub fn bytes(salt: u64, from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| byte(salt, at)).collect()
}

/// Bytes `from..` of a gRPC stream of messages of `period` bytes each; of plain bytes, if it is zero.
pub fn framed(salt: u64, period: usize, from: usize, len: usize) -> Vec<u8> {
    if period == 0 {
        return bytes(salt, from, len);
    }
    let head = |k: usize| match k {
        0 => 0,
        _ => (period as u32).to_be_bytes()[k - 1],
    };
    (from..from + len)
        .map(|at| match at % (period + 5) {
            k if k < 5 => head(k),
            _ => byte(salt, at),
        })
        .collect()
}

/// How a server left a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// As far as its caller can know, anything may have come of it.
    Unknown,
    /// It said that it did nothing.
    Refused,
    /// It answered.
    Status(u16),
}

/// What a caller allows.
#[derive(Clone, Copy, Debug)]
pub struct Allows {
    /// That it is processed again although nobody knows what came of it.
    pub repeats: bool,
    pub times: usize,
}

struct Entry {
    allows: Allows,
    receipts: Vec<Left>,
}

/// Everything that was seen, and everything that was wrong.
#[derive(Default)]
pub struct Ledger {
    calls: Mutex<BTreeMap<u64, Entry>>,
    wrong: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<String, u64>>,
    next: AtomicU64,
}

impl Ledger {
    /// The number of a new call.
    pub fn open(&self, allows: Allows) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let receipts = Vec::new();
        self.calls
            .lock()
            .unwrap()
            .insert(id, Entry { allows, receipts });
        id
    }

    /// A server has received the request; the number of this receipt.
    pub fn received(&self, id: u64) -> usize {
        let mut calls = self.calls.lock().unwrap();
        let Some(entry) = calls.get_mut(&id) else {
            drop(calls);
            self.wrong(format!("request {id} was never made"));
            return 0;
        };
        entry.receipts.push(Left::Unknown);
        entry.receipts.len() - 1
    }

    pub fn left(&self, id: u64, receipt: usize, how: Left) {
        if let Some(entry) = self.calls.lock().unwrap().get_mut(&id) {
            entry.receipts[receipt] = how;
        }
    }

    pub fn wrong(&self, what: String) {
        let mut wrong = self.wrong.lock().unwrap();
        if wrong.len() < 50 {
            eprintln!("WRONG: {what}");
        }
        wrong.push(what);
    }

    pub fn count(&self, what: impl Into<String>) {
        *self.counts.lock().unwrap().entry(what.into()).or_default() += 1;
    }

    pub fn counts(&self) -> String {
        let counts = self.counts.lock().unwrap();
        let counts: Vec<_> = counts
            .iter()
            .map(|(what, n)| format!("{what} {n}"))
            .collect();
        counts.join(", ")
    }

    /// Says what is wrong with who was asked how often; receipts beyond the first of each.
    pub fn close(&self) -> u64 {
        let calls = self.calls.lock().unwrap();
        let mut extra = 0;
        for (id, Entry { allows, receipts }) in &*calls {
            extra += receipts.len().saturating_sub(1) as u64;
            let again = receipts.split_last().map_or(&[][..], |(_, before)| before);
            let known = |left: &Left| matches!(left, Left::Refused | Left::Status(500..));
            if !allows.repeats && !again.iter().all(known) {
                self.wrong(format!("request {id} was repeated: {receipts:?}"));
            }
            if receipts.len() > allows.times {
                self.wrong(format!(
                    "request {id}: {receipts:?}, allowed {}",
                    allows.times
                ));
            }
        }
        extra
    }

    pub fn all_wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }
}

/// Counts what is alive.
#[derive(Clone, Default)]
pub struct Living(Arc<AtomicUsize>);

pub struct Alive(Arc<AtomicUsize>);

impl Living {
    pub fn one(&self) -> Alive {
        self.0.fetch_add(1, Ordering::SeqCst);
        Alive(Arc::clone(&self.0))
    }

    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
