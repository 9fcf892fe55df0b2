use std::error::Error as _;
use std::fs;
use std::path::PathBuf;

use super::super::{ErrorKind, Manifests};
use super::{PAYMENTS, service};

/// A folder of this test's own, gone at its end.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tower-mesh-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_folder_and_what_is_below() {
    let folder = Folder::new("below");
    folder.write(
        "b/orders.yml",
        service("retry.linkerd.io/limti: '1'").replace("payments", "orders"),
    );
    folder.write("a.yaml", PAYMENTS);
    folder.write(
        "b/c/list.JSON",
        r#"{"apiVersion": "v1", "kind": "List", "items": []}"#,
    );
    folder.write(
        "b/a.yaml",
        service("timeout.linkerd.io/request: 0s").replace("payments", "carts"),
    );
    folder.write("README.md", "not: [yaml");
    folder.write(".git/x.yaml", "not: [yaml");
    folder.write(".hidden.yaml", "not: [yaml");
    folder.write("empty.yaml", "# nothing yet\n");
    let manifests = Manifests::from_path(&folder.0).unwrap();
    let targets: Vec<_> = manifests.targets().map(|t| t.to_string()).collect();
    assert_eq!(
        targets,
        ["carts.shop:8080", "orders.shop:8080", "payments.shop:8080"]
    );
    assert!(manifests.resolve("payments.shop:8080").is_ok());
    let files: Vec<_> = manifests
        .diagnostics()
        .iter()
        .map(|d| d.file.clone().unwrap())
        .collect();
    let path = |name: &str| folder.0.join(name).to_string_lossy().into_owned();
    assert_eq!(
        files,
        [path("b/a.yaml"), path("b/orders.yml"), path("empty.yaml")]
    );
    // One file, whatever it is called.
    fs::rename(folder.0.join("a.yaml"), folder.0.join("payments")).unwrap();
    let file = Manifests::from_path(folder.0.join("payments")).unwrap();
    assert!(file.resolve("payments.shop:8080").is_ok());
}

#[test]
fn what_cannot_be_read() {
    let folder = Folder::new("unreadable");
    let error = Manifests::from_path(&folder.0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Empty);
    assert_eq!(error.file(), folder.0.to_str());

    let absent = folder.0.join("absent.yaml");
    let error = Manifests::from_path(&absent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(error.file(), absent.to_str());
    let cause = error.source().unwrap().downcast_ref::<std::io::Error>();
    assert_eq!(cause.unwrap().kind(), std::io::ErrorKind::NotFound);

    folder.write("latin.yaml", b"name: caf\xe9\n");
    let error = Manifests::from_path(&folder.0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Syntax);
    assert!(
        error
            .to_string()
            .contains("latin.yaml: not UTF-8 at byte 9"),
        "{error}"
    );

    folder.write("latin.yaml", "a: [\n");
    let error = Manifests::from_path(&folder.0).unwrap_err();
    assert!(error.file().unwrap().ends_with("latin.yaml"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Syntax);

    folder.write("latin.yaml", PAYMENTS);
    folder.write("other.yaml", PAYMENTS);
    let error = Manifests::from_path(&folder.0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Duplicate);
    assert!(error.file().unwrap().ends_with("other.yaml"), "{error}");
    assert!(error.to_string().contains("latin.yaml:2"), "{error}");
}
