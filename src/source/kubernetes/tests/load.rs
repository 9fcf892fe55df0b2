use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use tokio::time::Instant;

use super::super::Manifests;
use super::folder::Folder;

/// One Service with five routes of its own.
fn service(number: usize) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web-{number}\n  namespace: shop\n  annotations:\n    \
         balancer.linkerd.io/failure-accrual: consecutive\n    retry.linkerd.io/http: 5xx\n    timeout.linkerd.io/request: 2s\n\
         spec:\n  ports:\n    - port: 8080\n      name: http\n"
    );
    for route in 0..5 {
        let _ = write!(
            text,
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: web-{number}-{route}\n  \
             namespace: shop\nspec:\n  parentRefs:\n    - name: web-{number}\n      kind: Service\n      group: core\n      \
             port: 8080\n  rules:\n    - matches:\n        - path:\n            type: PathPrefix\n            \
             value: /api/{route}\n          method: GET\n      timeouts:\n        request: 1s\n      backendRefs:\n        \
             - name: web-{number}\n          port: 8080\n          weight: 9\n        - name: web-{}\n          port: 8080\n",
            (number + 1) % 1000
        );
    }
    text
}

/// The most memory that this process has had, in MiB.
#[cfg(target_os = "linux")]
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: usize = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib / 1024
}

// A figure of a release build, alone in its process:
// cargo test --release --lib --all-features -- --ignored --exact --nocapture \
//     source::kubernetes::tests::load::a_thousand_services
#[cfg(target_os = "linux")]
#[test]
#[ignore = "measures time and memory; in a release build"]
fn a_thousand_services() {
    let folder = Folder::new("load");
    let mut one = String::new();
    for number in 0..1000 {
        let text = service(number);
        folder.write(&format!("many/{:02}/{number}.yaml", number % 50), &text);
        one += &text;
    }
    folder.write("one/all.yaml", &one);
    drop(one);
    let before = peak();
    for name in ["many", "one"] {
        let begin = Instant::now();
        let manifests = Manifests::from_path(folder.0.join(name)).unwrap();
        let read = Instant::now().saturating_duration_since(begin);
        let resolved = manifests
            .targets()
            .map(|target| manifests.resolve_target(&target).unwrap());
        let rules = resolved.map(|policy| policy.for_version(http::Version::HTTP_11).routes.len());
        assert_eq!(rules.sum::<usize>(), 5000);
        assert!(manifests.diagnostics().is_empty());
        let (all, memory) = (
            Instant::now().saturating_duration_since(begin),
            peak() - before,
        );
        println!("{name}: read in {read:?}, all resolved after {all:?}, at most {memory} MiB more");
        assert!(all < Duration::from_secs(2) && memory < 200);
    }
}
