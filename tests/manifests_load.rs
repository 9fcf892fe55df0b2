//! What it costs to read many manifests: in allocations and bytes, which are the same on every machine; and, by hand, in time.
#![cfg(feature = "kubernetes")]

use std::fmt::Write as _;

use tower_mesh::source::kubernetes::Manifests;

const ROUTES: usize = 5;

/// One Service of `all` with five routes of its own.
fn service(number: usize, all: usize) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web-{number}\n  namespace: shop\n  annotations:\n    \
         balancer.linkerd.io/failure-accrual: consecutive\n    retry.linkerd.io/http: 5xx\n    timeout.linkerd.io/request: 2s\n\
         spec:\n  ports:\n    - port: 8080\n      name: http\n"
    );
    for route in 0..ROUTES {
        let _ = write!(
            text,
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: web-{number}-{route}\n  \
             namespace: shop\nspec:\n  parentRefs:\n    - name: web-{number}\n      kind: Service\n      group: core\n      \
             port: 8080\n  rules:\n    - matches:\n        - path:\n            type: PathPrefix\n            \
             value: /api/{route}\n          method: GET\n      timeouts:\n        request: 1s\n      backendRefs:\n        \
             - name: web-{number}\n          port: 8080\n          weight: 9\n        - name: web-{}\n          port: 8080\n",
            (number + 1) % all
        );
    }
    text
}

/// Every policy of these manifests, by the number of its routes.
fn resolved(manifests: &Manifests) -> usize {
    let policies = manifests
        .targets()
        .map(|target| manifests.resolve_target(&target).unwrap());
    policies
        .map(|policy| policy.for_version(http::Version::HTTP_11).routes.len())
        .sum()
}

/// What reading a text of so many Services costs, and what resolving all of them does on top.
fn cost(services: usize) -> [allocation_counter::AllocationInfo; 2] {
    let text: String = (0..services)
        .map(|number| service(number, services))
        .collect();
    let mut manifests = None;
    let reading = allocation_counter::measure(|| {
        manifests = Some(Manifests::parse(&text).unwrap());
    });
    let manifests = manifests.unwrap();
    assert_eq!(manifests.diagnostics(), []);
    let mut routes = 0;
    let resolving = allocation_counter::measure(|| routes = resolved(&manifests));
    assert_eq!(routes, services * ROUTES);
    [reading, resolving]
}

// What is measured by hand below is held here: work that grows with the square of the manifests, and memory.
#[test]
fn twice_as_much_costs_twice_as_much() {
    const SERVICES: usize = 200;
    let (once, twice) = (cost(SERVICES), cost(2 * SERVICES));
    for (name, once, twice) in [
        ("reading", once[0], twice[0]),
        ("resolving", once[1], twice[1]),
    ] {
        for (what, once, twice) in [
            ("allocations", once.count_total, twice.count_total),
            ("bytes", once.bytes_total, twice.bytes_total),
        ] {
            println!("{name}: {once} {what} for {SERVICES} Services, {twice} for twice as many");
            assert!(
                twice * 10 <= once * 22,
                "{name}: {once} {what}, then {twice}"
            );
        }
    }
    let routes = u64::try_from(2 * SERVICES * ROUTES).unwrap();
    let [reading, resolving] = twice;
    println!(
        "a route: at most {} bytes, of which {} are kept, and {} allocations; {} to resolve it",
        reading.bytes_max / routes,
        reading.bytes_current / i64::try_from(routes).unwrap(),
        reading.count_total / routes,
        resolving.count_total / routes
    );
    // With its share of its Service and of the text's tree. 5 000 of them have 200 MiB, which is 40 KiB for each.
    assert!(reading.bytes_max / routes <= 8 * 1024);
    assert!(reading.bytes_current / i64::try_from(routes).unwrap() <= 4 * 1024);
    assert!(reading.count_total / routes <= 500 && resolving.count_total / routes <= 75);
}

/// The most memory that this process has had, in MiB.
#[cfg(target_os = "linux")]
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<usize>().unwrap() / 1024
}

// A figure of a release build, alone in its process:
// cargo test --release --test manifests_load -- --ignored --nocapture
#[cfg(target_os = "linux")]
#[test]
#[ignore = "measures time and memory; in a release build"]
fn a_thousand_services() {
    use std::time::Duration;

    use tokio::time::Instant;

    const SERVICES: usize = 1000;
    let name = format!("tower-mesh-{}-load", std::process::id());
    let folder = std::env::temp_dir().join(name);
    let mut one = String::new();
    for number in 0..SERVICES {
        let text = service(number, SERVICES);
        let many = folder.join(format!("many/{:02}", number % 50));
        std::fs::create_dir_all(&many).unwrap();
        std::fs::write(many.join(format!("{number}.yaml")), &text).unwrap();
        one += &text;
    }
    std::fs::create_dir_all(folder.join("one")).unwrap();
    std::fs::write(folder.join("one/all.yaml"), one).unwrap();
    let before = peak();
    for name in ["many", "one"] {
        let begin = Instant::now();
        let manifests = Manifests::from_path(folder.join(name)).unwrap();
        let read = Instant::now().saturating_duration_since(begin);
        assert_eq!(resolved(&manifests), SERVICES * ROUTES);
        assert!(manifests.diagnostics().is_empty());
        let all = Instant::now().saturating_duration_since(begin);
        let memory = peak() - before;
        println!("{name}: read in {read:?}, all resolved after {all:?}, at most {memory} MiB more");
        assert!(all < Duration::from_secs(2) && memory < 200);
    }
    let _ = std::fs::remove_dir_all(folder);
}
