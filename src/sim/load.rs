use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use super::chance::{Dice, minus_ln};
use crate::body::Body;
use crate::core::time::nanos;

/// What each client's callers do: when they ask, what for, and how long they wait. Made with [`per_second`] or
/// [`at_once`].
#[derive(Clone, Debug)]
pub struct Load {
    pub(crate) pattern: Pattern,
    // In nanoseconds.
    pub(crate) give_up: Option<u64>,
    pub(crate) shape: Shape,
}

#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    Open(Open),
    Closed(u32),
}

/// Requests that come whether or not others were answered.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    /// From when on, in nanoseconds, and how many a second; the first from zero on.
    pub(crate) steps: Vec<(u64, f64)>,
    pub(crate) uniform: bool,
}

/// What a request looks like.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) grpc: bool,
    pub(crate) body_bytes: usize,
    pub(crate) headers: HeaderMap,
}

/// Requests of one shape, ready to be copied.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    body: Bytes,
}

/// So many requests a second for each client, at random times (a Poisson process), answered or not.
pub fn per_second(rate: impl Into<f64>) -> Load {
    Load::new(Pattern::Open(Open {
        steps: vec![(0, rate.into())],
        uniform: false,
    }))
}

/// So many callers for each client that each have one request in flight: after the answer comes the next.
///
/// One that was answered in no time at all, refused by the client itself for instance, asks again a millisecond later.
pub fn at_once(callers: u32) -> Load {
    Load::new(Pattern::Closed(callers))
}

// === impl Load ===

impl Load {
    fn new(pattern: Pattern) -> Self {
        Self {
            pattern,
            give_up: None,
            shape: Shape::default(),
        }
    }

    /// From this time on another rate. May be called for several, in order.
    #[must_use]
    pub fn then(mut self, from: Duration, rate: impl Into<f64>) -> Self {
        if let Pattern::Open(open) = &mut self.pattern {
            open.steps.push((nanos(from), rate.into()));
        }
        self
    }

    /// At even distances instead of at random times. Each client begins at a random part of the first distance.
    #[must_use]
    pub fn evenly(mut self) -> Self {
        if let Pattern::Open(open) = &mut self.pattern {
            open.uniform = true;
        }
        self
    }

    /// Callers drop their request after this time. Default: they never leave.
    #[must_use]
    pub fn give_up(mut self, after: Duration) -> Self {
        self.give_up = Some(nanos(after));
        self
    }

    /// The method. Default: GET, and for gRPC always POST.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.shape.method = method;
        self
    }

    /// The path, with its query if there is one. Default: `/`, and `/sim.Service/Call` for gRPC.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.shape.path = path.into();
        self
    }

    /// gRPC: HTTP/2, POST, `application/grpc`, answers with trailers.
    #[must_use]
    pub fn grpc(mut self) -> Self {
        self.shape.grpc = true;
        self
    }

    /// Each request has a body of so many bytes; for gRPC a message of so many. Default: none.
    #[must_use]
    pub fn body_bytes(mut self, bytes: usize) -> Self {
        self.shape.body_bytes = bytes;
        self
    }

    /// With this header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.shape.headers.append(name, value);
        self
    }

    /// Why it cannot be.
    pub(crate) fn invalid(&self) -> Option<String> {
        match &self.pattern {
            Pattern::Closed(0) => Some("a load of no callers asks nothing".into()),
            Pattern::Closed(_) => None,
            Pattern::Open(open) => open.invalid(),
        }
    }
}

// === impl Open ===

/// More than this a second the event loop of one thread does not serve anyway.
const MAX_RATE: f64 = 1e7;

impl Open {
    fn invalid(&self) -> Option<String> {
        for (_, rate) in &self.steps {
            if !(0.0..=MAX_RATE).contains(rate) {
                return Some(format!("{rate} a second is no rate from 0 to {MAX_RATE}"));
            }
        }
        let rising = self
            .steps
            .windows(2)
            .all(|pair| matches!(pair, [(a, _), (b, _)] if a < b));
        (!rising).then(|| "the times of the rates must rise".into())
    }

    /// When, in nanoseconds, `asked` requests are due since the start; a moment that never comes if they never are.
    fn due(&self, asked: f64) -> u64 {
        let mut before = 0.0;
        for (n, (from, rate)) in self.steps.iter().enumerate() {
            let to = self.steps.get(n + 1).map_or(u64::MAX, |(from, _)| *from);
            let within = (to - from) as f64 / 1e9 * rate;
            if *rate > 0.0 && asked < before + within {
                // A cast of a float saturates.
                return from.saturating_add(((asked - before) / rate * 1e9) as u64);
            }
            before += within;
        }
        u64::MAX
    }
}

/// One client's arrivals.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals {
    open: Open,
    dice: Dice,
    count: u64,
    asked: f64,
}

// === impl Arrivals ===

impl Arrivals {
    pub(crate) fn new(open: Open, dice: Dice) -> Self {
        Self {
            open,
            dice,
            count: 0,
            asked: 0.0,
        }
    }

    /// When the next request arrives, in nanoseconds.
    pub(crate) fn next(&mut self) -> u64 {
        let word = self.dice.word(self.count);
        self.asked += match (self.open.uniform, self.count) {
            (true, 0) => (word >> 11) as f64 / (1_u64 << 53) as f64,
            (true, _) => 1.0,
            (false, _) => minus_ln(word),
        };
        self.count += 1;
        self.open.due(self.asked)
    }
}

// === impl Shape ===

impl Default for Shape {
    fn default() -> Self {
        Self {
            method: Method::GET,
            path: "/".to_owned(),
            grpc: false,
            body_bytes: 0,
            headers: HeaderMap::new(),
        }
    }
}

impl Shape {
    /// # Errors
    /// A path that is none.
    pub(crate) fn template(&self, authority: &str) -> Result<Template, String> {
        let path = match self.path.as_str() {
            "/" | "" if self.grpc => "/sim.Service/Call",
            "" => "/",
            path => path,
        };
        let uri = Uri::builder()
            .scheme("http")
            .authority(authority)
            .path_and_query(path)
            .build()
            .map_err(|error| format!("{path:?} is no path of http://{authority}: {error}"))?;
        let mut headers = self.headers.clone();
        let mut body = vec![0; self.body_bytes];
        if self.grpc {
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            headers.insert("te", HeaderValue::from_static("trailers"));
            // Not compressed, and the message's length.
            let length = u32::try_from(self.body_bytes).unwrap_or(u32::MAX);
            let mut framed = vec![0];
            framed.extend(length.to_be_bytes());
            framed.append(&mut body);
            body = framed;
        }
        Ok(Template {
            method: if self.grpc {
                Method::POST
            } else {
                self.method.clone()
            },
            uri,
            version: if self.grpc {
                Version::HTTP_2
            } else {
                Version::HTTP_11
            },
            headers,
            body: body.into(),
        })
    }
}

// === impl Template ===

impl Template {
    pub(crate) fn request(&self) -> http::Request<Body> {
        let body = if self.body.is_empty() {
            Body::empty()
        } else {
            self.body.clone().into()
        };
        let mut request = http::Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::chance::Part;
    use crate::sim::s;

    fn count(load: Load, from: u64, to: u64) -> usize {
        let Pattern::Open(open) = load.pattern else {
            unreachable!()
        };
        let mut arrivals = Arrivals::new(open, Dice::new(1, Part::Arrivals, 0));
        std::iter::repeat_with(|| arrivals.next())
            .take_while(|at| *at < to * 1_000_000_000)
            .filter(|at| *at >= from * 1_000_000_000)
            .count()
    }

    #[test]
    fn arrivals_have_their_rates() {
        let steps = || per_second(100).then(s(10), 0).then(s(20), 400);
        assert_eq!(count(steps().evenly(), 0, 10), 1000);
        assert_eq!(count(steps().evenly(), 10, 20), 0);
        assert_eq!(count(steps().evenly(), 20, 30), 4000);
        // Within four standard deviations.
        assert!((3_747..4_253).contains(&count(steps(), 20, 30)));
        assert_eq!(count(per_second(0), 0, 1000), 0);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for load in [
            at_once(0),
            per_second(-1),
            per_second(f64::NAN),
            per_second(f64::INFINITY),
            per_second(1).then(s(2), 1).then(s(1), 1),
        ] {
            assert!(load.invalid().is_some(), "{load:?}");
        }
        let template = |path: &str| per_second(1).path(path).shape.template("web:80");
        assert!(template("no path").is_err());
        assert!(template("/a?b=c").is_ok());
    }
}
