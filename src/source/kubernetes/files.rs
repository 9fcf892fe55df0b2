use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Severity};
use super::error::{Error, ErrorKind};
use super::place::Origin;
use super::yaml::MAX_BYTES;

/// The name of a path in messages.
pub(super) fn name(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

/// The files to read, in an order that depends on their names only: the path itself if it is a file, else everything
/// that ends in `.yaml`, `.yml` or `.json` in the folder and its subfolders.
///
/// Hidden files and folders are left out (`.git`; and the `..data` folders that a mounted ConfigMap consists of, whose
/// files appear by links as well). Links to files are followed, links to folders are not, or there might be no end.
pub(super) fn list(root: &Path, diagnostics: &mut Vec<Diagnostic>) -> Result<Vec<PathBuf>, Error> {
    let metadata = fs::metadata(root).map_err(|cause| Error::io(root, cause))?;
    if !metadata.is_dir() {
        return Ok(vec![root.to_owned()]);
    }
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|cause| Error::io(&folder, cause))? {
            let entry = entry.map_err(|cause| Error::io(&folder, cause))?;
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let kind = entry.file_type().map_err(|cause| Error::io(&path, cause))?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() && path.is_dir() {
                let message = "a link to a folder, which is not followed";
                let origin = Origin::new(Some(name(&path)));
                diagnostics.push(Diagnostic::new(Severity::Note, &origin, message));
            } else if is_manifest(&path) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default();
    ["yaml", "yml", "json"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

/// A file's text.
pub(super) fn text(path: &Path) -> Result<String, Error> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // One more than allowed, so that what is too long is seen to be (also where the file has no length, as a pipe).
        let limit = u64::try_from(MAX_BYTES)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|cause| Error::io(path, cause))?;
    String::from_utf8(bytes).map_err(|cause| {
        let at = cause.utf8_error().valid_up_to();
        let message = format!("not UTF-8 at byte {at}, expected YAML");
        let origin = Origin::new(Some(name(path)));
        Error::new(
            ErrorKind::Syntax,
            Diagnostic::new(Severity::Error, &origin, message),
        )
        .remedy("save it as UTF-8")
    })
}
