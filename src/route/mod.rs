//! Which rule a request falls under, and what its filters do to it.
//!
//! Pure: values in, values out. Nothing here waits, draws or logs, and matching does not allocate unless a query
//! parameter that is matched by a pattern is percent-encoded.
//!
//! ```
//! use http::{HeaderMap, Method, Uri};
//! use tower_mesh::policy::{ClientPolicy, Protocol};
//! use tower_mesh::route;
//!
//! let policy = ClientPolicy::http().build()?;
//! let routes = &policy.for_version(http::Version::HTTP_11).routes;
//! let uri = Uri::from_static("http://payments.shop:8080/quote");
//! let found = route::find(routes, &Method::GET, &uri, &HeaderMap::new());
//! assert_eq!(found.map(|found| (found.route_index, found.rule_index)), Some((0, 0)));
//! # Ok::<(), tower_mesh::policy::InvalidPolicy>(())
//! ```
//!
//! # Precedence
//!
//! Over all routes and rules the greatest match wins, the first among equals. Compared are, in this order:
//!
//! 1. the host: an exact name beats a suffix, which beats a route for every host; then the longer one;
//! 2. the path: the longer one, whatever its kind. A pattern counts as the whole path it matched, no path as `/`;
//! 3. the number of headers;
//! 4. the number of query parameters;
//! 5. whether there is a method.
//!
//! Of gRPC calls (POST only) the host, then the length of the service's name, of the method's, and the number of headers.
//!
//! This is the mesh's order. Gateway API's differs in two places: there an exact path beats a prefix of the same length,
//! and the method comes right after the path.
//!
//! # The host
//!
//! A request's host is that of its URI, without port. Only where the URI has no authority the `Host` header stands in
//! for it, as it does in the mesh, which completes URIs before it routes.

mod filter;
mod find;
mod host;
mod index;
mod matching;
mod places;
mod query;
mod redirect;
#[cfg(test)]
mod tests;

pub use self::filter::{Applies, Filtered, InvalidFilter, filter_request, filter_response};
pub use self::find::{Found, find};
pub use self::index::Index;
pub use self::matching::{Match, PathMatched};
