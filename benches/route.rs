//! What it costs to find the rule of a request, of ten routes and of a thousand.
//!
//! ```sh
//! cargo bench --bench route                        # nanoseconds, and the ratios
//! valgrind --tool=callgrind --toggle-collect='*measured*' target/release/deps/route-* prefixes 1000 1000
//! ```
//!
//! Instructions for 500 requests, of 10 routes and of 1 000: exact paths 664 531 and 691 891, prefixes 718 531 and 745 481,
//! patterns 4 959 096 and 5 558 472, hosts 786 031 and 807 361, headers 621 231 and 628 926.

// A bench measures the real clock.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::hint::black_box;
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tower_mesh::policy::{
    MatchHeader, MatchHeaderValue, MatchHost, MatchPath, MatchRequest, Meta, Route,
    RouteDistribution, RoutePolicy, Rule,
};
use tower_mesh::route::Index;

type Error = Box<dyn std::error::Error>;

const SHAPES: [&str; 5] = ["exact", "prefixes", "patterns", "hosts", "headers"];

fn routes(shape: &str, n: usize) -> Result<Vec<Route>, Error> {
    let mut routes = Vec::new();
    for i in 0..n {
        let (mut hosts, mut wanted) = (Vec::new(), MatchRequest::default());
        match shape {
            "exact" => wanted.path = Some(MatchPath::exact(format!("/api/v1/resource-{i}/items"))?),
            "prefixes" => wanted.path = Some(MatchPath::prefix(format!("/api/v1/resource-{i}"))?),
            "patterns" => {
                wanted.path = Some(MatchPath::regex(&format!("/api/v1/resource-{i}/[a-z]+"))?);
            }
            "hosts" => hosts.push(MatchHost::parse(&format!("tenant-{i}.shop.example.com"))?),
            _ => wanted.headers.push(MatchHeader {
                name: HeaderName::from_static("x-tenant"),
                value: MatchHeaderValue::Exact(HeaderValue::try_from(format!("tenant-{i}"))?),
            }),
        }
        let meta = Meta::default_named("bench");
        routes.push(Route {
            hosts,
            rules: vec![Rule {
                matches: vec![wanted],
                policy: RoutePolicy::new(meta, RouteDistribution::empty()),
            }],
        });
    }
    Ok(routes)
}

/// Each for another of the routes.
fn requests(n: usize) -> Result<Vec<(Uri, HeaderMap)>, Error> {
    let mut requests = Vec::new();
    for i in (0..n).step_by(n.div_ceil(100)) {
        let uri = format!("http://tenant-{i}.shop.example.com/api/v1/resource-{i}/items");
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("application/json"));
        headers.insert("x-tenant", HeaderValue::try_from(format!("tenant-{i}"))?);
        requests.push((uri.parse()?, headers));
    }
    Ok(requests)
}

#[inline(never)]
fn measured(index: &Index, routes: &[Route], requests: &[(Uri, HeaderMap)], times: usize) -> usize {
    let mut found = 0;
    for (uri, headers) in requests.iter().cycle().take(times) {
        let one = index.find(routes, &Method::GET, black_box(uri), black_box(headers));
        found += usize::from(black_box(one).is_some());
    }
    found
}

/// Nanoseconds for a request.
fn time(shape: &str, n: usize, times: usize) -> Result<f64, Error> {
    let (routes, requests) = (routes(shape, n)?, requests(n)?);
    let index = Index::new(&routes);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let begin = Instant::now();
        let found = measured(&index, &routes, &requests, times);
        best = best.min(begin.elapsed().as_nanos() as f64 / times as f64);
        if found != times {
            return Err(format!("{shape}: {found} of {times} found").into());
        }
    }
    Ok(best)
}

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    if let [shape, n, times] = args.as_slice() {
        let (n, times) = (n.parse()?, times.parse()?);
        let (routes, requests) = (routes(shape, n)?, requests(n)?);
        let found = measured(&Index::new(&routes), &routes, &requests, times);
        println!("{shape}, {n} routes: {found} of {times} found");
        return Ok(());
    }
    println!(
        "{:<10} {:>8} {:>8} {:>8}  ratio",
        "routes", "1", "10", "1000"
    );
    for shape in SHAPES {
        let [one, ten, thousand] = [
            time(shape, 1, 100_000)?,
            time(shape, 10, 100_000)?,
            time(shape, 1000, 100_000)?,
        ];
        println!(
            "{shape:<10} {one:>5.0} ns {ten:>5.0} ns {thousand:>5.0} ns  {:.2}",
            thousand / ten
        );
    }
    Ok(())
}
