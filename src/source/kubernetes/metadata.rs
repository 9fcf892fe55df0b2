use super::error::Error;
use super::field::Field;
use super::keys;
use super::place::{Mark, Origin};

/// What every object says of itself.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    pub(super) origin: Origin,
    pub(super) at: Mark,
    pub(super) namespace: String,
    pub(super) name: String,
    /// `creationTimestamp`, which a cluster adds. Its form sorts by time.
    pub(super) created: Option<String>,
    pub(super) annotations: Vec<Annotation>,
}

/// One annotation and where its key and its value stand.
#[derive(Clone, Debug)]
pub(super) struct Annotation {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) key_at: Mark,
    pub(super) at: Mark,
}

// === impl Metadata ===

impl Metadata {
    /// # Errors
    /// No name, or a field of the wrong type.
    pub(super) fn read(document: &Field<'_>, kind: &str) -> Result<Self, Error> {
        let metadata =
            document.require("metadata", &format!("a mapping with the {kind}'s name"))?;
        let name = metadata
            .require("name", &format!("the {kind}'s name"))?
            .name()?;
        let namespace = match metadata.get("namespace")? {
            Some(namespace) => namespace.name()?,
            None => "default",
        };
        let origin = document
            .origin
            .resource(format!("{kind} {namespace}/{name}"));
        // From here on errors say which object they are about.
        let metadata = metadata.within(&origin);
        let created = metadata.get("creationTimestamp")?;
        let created = created.and_then(|created| created.text().map(str::to_owned));
        let annotations = annotations(&metadata)?;
        Ok(Self {
            at: document.at(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            created,
            annotations,
            origin,
        })
    }
}

/// The annotations of any object. Their errors name the annotation instead of the path that leads to it.
///
/// # Errors
/// A value that is not a string.
pub(super) fn annotations(metadata: &Field<'_>) -> Result<Vec<Annotation>, Error> {
    let Some(annotations) = metadata.get("annotations")? else {
        return Ok(Vec::new());
    };
    let read = |entry: &super::yaml::Entry| {
        let value = Field::root(&entry.value, entry.key.clone(), metadata.origin);
        Ok(Annotation {
            key: entry.key.clone(),
            value: match keys::is_duration(&entry.key) {
                true => value.duration()?,
                false => value.string()?,
            }
            .to_owned(),
            key_at: entry.key_at,
            at: value.at(),
        })
    };
    annotations.entries()?.iter().map(read).collect()
}
