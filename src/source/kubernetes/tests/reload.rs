use std::fs;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::super::reload::{Folder, Reloaded};
use super::super::{Error, ErrorKind, Manifests};
use super::folder;
use super::service;
use crate::policy::Timeouts;
use crate::{Body, Client};

const QUIET: Duration = Duration::from_millis(100);

/// Manifests in memory, whose changes the test tells of.
struct Edited {
    text: Arc<Mutex<Option<String>>>,
    changed: Arc<Notify>,
    readings: Arc<AtomicUsize>,
}

impl Edited {
    fn new(text: &str) -> (Self, Folder) {
        let edited = Self {
            text: Arc::new(Mutex::new(Some(text.to_owned()))),
            changed: Arc::new(Notify::new()),
            readings: Arc::new(AtomicUsize::new(0)),
        };
        let (text, readings) = (Arc::clone(&edited.text), Arc::clone(&edited.readings));
        let read = move || {
            readings.fetch_add(1, Ordering::Relaxed);
            match &*text.lock().unwrap() {
                Some(text) => Manifests::parse_named("m.yaml", text),
                // As when the folder is gone.
                None => Manifests::from_path("/no/such/folder"),
            }
        };
        let folder = Folder::of_test(Arc::new(read), &edited.changed, QUIET).unwrap();
        (edited, folder)
    }

    fn write(&self, text: impl Into<Option<String>>) {
        *self.text.lock().unwrap() = text.into();
        self.changed.notify_one();
    }
}

async fn next(reports: &mut watch::Receiver<Arc<Reloaded>>) -> Arc<Reloaded> {
    reports.changed().await.unwrap();
    Arc::clone(&reports.borrow_and_update())
}

fn kept(report: &Reloaded) -> Vec<(Option<&str>, ErrorKind)> {
    let kept = report.kept.iter();
    kept.map(|kept| (kept.target.as_deref(), kept.error.kind()))
        .collect()
}

fn carts(annotations: &str) -> String {
    format!("---\n{}", service(annotations).replace("payments", "carts"))
}

fn request_timeout(policy: &super::ClientPolicy) -> Timeouts {
    let http = policy.for_version(http::Version::HTTP_11);
    http.routes[0].rules[0].policy.params.timeouts
}

fn seconds(seconds: u64) -> Timeouts {
    Timeouts::request(Duration::from_secs(seconds))
}

#[tokio::test(start_paused = true)]
async fn what_is_bad_keeps_the_last_good_and_what_is_good_takes_effect() {
    let one = |limit: &str| service(&format!("timeout.linkerd.io/request: {limit}"));
    let two = |limit: &str| carts(&format!("timeout.linkerd.io/request: {limit}"));
    let (edited, folder) = Edited::new(&(one("1s") + &two("1s")));
    let payments = folder.policy("payments.shop:8080").unwrap();
    let carts = folder.policy("carts.shop:8080").unwrap();
    assert!(folder.policy("unknown.shop:80").is_err());
    let mut reports = folder.subscribe();
    let now = || {
        let limit = |policy: &super::super::reload::FolderPolicy| {
            request_timeout(&policy.current())
                .request
                .unwrap()
                .as_secs()
        };
        (limit(&payments), limit(&carts))
    };

    edited.write(one("2s") + &two("1s"));
    let report = next(&mut reports).await;
    assert!(report.is_ok());
    assert_eq!(report.updated, ["payments.shop:8080"]);
    assert_eq!(now(), (2, 1));

    // Not YAML: nobody's changes.
    edited.write("a: [".to_owned());
    let report = next(&mut reports).await;
    assert_eq!(kept(&report), [(None, ErrorKind::Syntax)]);
    assert_eq!((report.number, now()), (2, (2, 1)));

    // One that is not valid keeps its own; the other follows. What is wrong is said with its place.
    edited.write(one("1h30m") + &two("3s"));
    let report = next(&mut reports).await;
    let bad = (Some("payments.shop:8080"), ErrorKind::Annotation);
    assert_eq!(kept(&report), [bad]);
    assert_eq!(report.updated, ["carts.shop:8080"]);
    let words = report.kept[0].error.to_string();
    assert!(
        words.starts_with("m.yaml:7:33: ") && words.contains("write \"90m\""),
        "{words}"
    );
    assert_eq!(report.diagnostics.len(), 1);
    assert_eq!(now(), (2, 3));

    // A Service that is taken away, and then everything.
    edited.write(two("3s"));
    let report = next(&mut reports).await;
    let gone = (Some("payments.shop:8080"), ErrorKind::ServiceNotFound);
    assert_eq!(kept(&report), [gone]);
    edited.write(None);
    let report = next(&mut reports).await;
    assert_eq!(kept(&report), [(None, ErrorKind::Io)]);
    edited.write("# nothing\n".to_owned());
    let report = next(&mut reports).await;
    assert_eq!(kept(&report), [(None, ErrorKind::Empty)]);
    assert_eq!(now(), (2, 3));

    // And all is well again.
    edited.write(one("4s") + &two("4s"));
    let report = next(&mut reports).await;
    assert!(report.is_ok() && report.diagnostics.is_empty());
    assert_eq!(report.updated, ["carts.shop:8080", "payments.shop:8080"]);
    assert_eq!(now(), (4, 4));
    assert_eq!(folder.manifests().targets().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn changes_are_gathered_and_never_put_off_for_long() {
    let (edited, folder) = Edited::new(&service("timeout.linkerd.io/request: 1s"));
    let mut reports = folder.subscribe();
    let readings = || edited.readings.load(Ordering::Relaxed);
    assert_eq!(readings(), 1);
    let begin = Instant::now();
    for _ in 0..5 {
        edited.changed.notify_one();
        sleep(QUIET / 2).await;
    }
    let _ = next(&mut reports).await;
    assert_eq!(
        (readings(), Instant::now().saturating_duration_since(begin)),
        (2, QUIET * 3)
    );

    // Every 50 ms, without an end.
    let begin = Instant::now();
    let without_end = async {
        loop {
            edited.changed.notify_one();
            sleep(QUIET / 2).await;
        }
    };
    tokio::select! {
        _ = next(&mut reports) => {}
        () = without_end => {}
    }
    assert_eq!(
        (readings(), Instant::now().saturating_duration_since(begin)),
        (3, QUIET * 10)
    );
    // What comes after it is read, too.
    edited.changed.notify_one();
    let _ = next(&mut reports).await;
    assert_eq!(readings(), 4);
    // Then nothing is.
    assert!(
        timeout(Duration::from_secs(3600), reports.changed())
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_follows_and_keeps_the_folder() {
    let web = service("timeout.linkerd.io/request: 1s");
    let moved = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {name: moved, namespace: shop}\n\
         spec: {parentRefs: [{name: payments, kind: Service, group: core}], rules: [{filters: [{type: RequestRedirect, \
         requestRedirect: {hostname: example.com}}]}]}\n";
    let (edited, folder) = Edited::new(&web);
    let leaf = |_: &crate::Endpoint| {
        tower::service_fn(async |_: Request<Body>| {
            Ok::<_, std::convert::Infallible>(Response::new(Body::empty()))
        })
    };
    let client = Client::builder(folder.policy("payments.shop:8080").unwrap())
        .endpoints(["10.0.0.7:8080"])
        .build(leaf)
        .unwrap();
    drop(folder);
    let status = async || {
        let request = Request::get("http://payments.shop/").body(Body::empty());
        match client.request(request.unwrap()).await {
            Ok(response) => response.status(),
            Err(error) => match error.kind() {
                crate::ErrorKind::Redirect { status, .. } => *status,
                other => panic!("{other:?}"),
            },
        }
    };
    assert_eq!(status().await, StatusCode::OK);
    edited.write(web.clone() + moved);
    sleep(QUIET * 2).await;
    assert_eq!(status().await, StatusCode::FOUND);
    edited.write(web.clone() + &moved.replace("rules", "rulez: ["));
    sleep(QUIET * 2).await;
    assert_eq!(status().await, StatusCode::FOUND);
    edited.write(web);
    sleep(QUIET * 2).await;
    assert_eq!(status().await, StatusCode::OK);
    // With the client the folder is gone.
    let readings = edited.readings.load(Ordering::Relaxed);
    drop(client);
    edited.write(None);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(edited.readings.load(Ordering::Relaxed), readings);
    assert_eq!(Arc::strong_count(&edited.changed), 1, "nobody listens");
}

/// One client's runtime ends; the other's takes over.
#[test]
fn who_follows_may_go() {
    let paused = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap()
    };
    let (edited, folder) = Edited::new(&service("timeout.linkerd.io/request: 1s"));
    let policy = folder.policy("payments.shop:8080").unwrap();
    let (first, second) = (paused(), paused());
    let mut started = Box::pin(policy.following());
    let _ = first.block_on(async { timeout(QUIET, &mut started).await });
    second.block_on(async {
        let mut other = Box::pin(policy.following());
        edited.write(service("timeout.linkerd.io/request: 2s"));
        let _ = timeout(QUIET * 3, &mut other).await;
        assert_eq!(
            request_timeout(&policy.current()),
            seconds(1),
            "not its turn"
        );
        drop(started);
        edited.changed.notify_one();
        let _ = timeout(QUIET * 3, &mut other).await;
        assert_eq!(request_timeout(&policy.current()), seconds(2));
    });
}

// === with files ===

/// The threads of the crate that watches.
#[cfg(target_os = "linux")]
fn watchers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("notify")).count()
}

async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let waited = timeout(Duration::from_secs(60), wait).await;
    waited.unwrap_or_else(|_| panic!("not within a minute: {what}"))
}

/// Until a report is as it should be: a change may come in several.
async fn until(
    what: &str,
    reports: &mut watch::Receiver<Arc<Reloaded>>,
    is: impl Fn(&Reloaded) -> bool,
) {
    soon(what, async { while !is(next(reports).await.as_ref()) {} }).await;
}

// The only test with real files, and the only one that waits for anything but virtual time.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_mounted_config_map_an_editor_and_a_folder_that_goes() -> Result<(), Error> {
    let temporary = folder::Folder::new("reload");
    let root = temporary.0.join("mesh");
    let limit = |seconds: u64| service(&format!("timeout.linkerd.io/request: {seconds}s"));
    let link = |from: &str, to: &str| std::os::unix::fs::symlink(from, root.join(to)).unwrap();
    temporary.write("mesh/..2026_1/payments.yaml", limit(1));
    link("..2026_1", "..data");
    link("..data/payments.yaml", "payments.yaml");
    let folder = Folder::options()
        .quiet(Duration::from_millis(20))
        .watch([&root])?;
    let policy = folder.policy("payments.shop:8080")?;
    let mut reports = folder.subscribe();
    let is = |wanted: u64| {
        let policy = &policy;
        move |report: &Reloaded| {
            report.is_ok() && request_timeout(&policy.current()) == seconds(wanted)
        }
    };

    // As Kubernetes does: another folder, and the link is swapped by a rename.
    temporary.write("mesh/..2026_2/payments.yaml", limit(2));
    link("..2026_2", "..data_tmp");
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    fs::remove_dir_all(root.join("..2026_1")).unwrap();
    until("the swap", &mut reports, is(2)).await;

    // As editors do: another file, renamed onto the first.
    temporary.write("mesh/.payments.yaml.swp", limit(3));
    let file = root.join("payments.yaml");
    fs::rename(root.join(".payments.yaml.swp"), &file).unwrap();
    until("the rename", &mut reports, is(3)).await;
    temporary.write("mesh/payments.yaml", limit(4));
    until("the write", &mut reports, is(4)).await;

    fs::remove_file(&file).unwrap();
    until("the file's end", &mut reports, |report| {
        kept(report) == [(None, ErrorKind::Empty)]
    })
    .await;
    fs::remove_dir_all(&root).unwrap();
    until("the folder's end", &mut reports, |report| {
        kept(report) == [(None, ErrorKind::Io)]
    })
    .await;
    assert_eq!(request_timeout(&policy.current()), seconds(4));
    // Another of the same name.
    temporary.write("mesh/payments.yaml", limit(5));
    until("the folder's return", &mut reports, is(5)).await;
    temporary.write(
        "mesh/below/more/carts.yaml",
        carts("timeout.linkerd.io/request: 1s"),
    );
    temporary.write("mesh/payments.yaml", limit(6));
    until("the change in it", &mut reports, is(6)).await;
    soon("the folder below", async {
        while folder.policy("carts.shop:8080").is_err() {
            next(&mut reports).await;
        }
    })
    .await;

    // A file by its name, beside it.
    let one = Folder::options()
        .quiet(Duration::from_millis(20))
        .watch([&file])?;
    let one_policy = one.policy("payments.shop:8080")?;
    let mut one_reports = one.subscribe();
    temporary.write("mesh/next", limit(7));
    fs::rename(root.join("next"), &file).unwrap();
    until("the file's rename", &mut one_reports, |_| {
        request_timeout(&one_policy.current()) == seconds(7)
    })
    .await;

    assert_eq!(watchers(), 2);
    drop((folder, policy, one, one_policy));
    soon("the end of their threads", async {
        while watchers() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // A last report may not have been looked at.
    soon("the end of the reports", async {
        while reports.changed().await.is_ok() {}
    })
    .await;
    Ok(())
}
