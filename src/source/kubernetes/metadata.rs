use super::error::Error;
use super::field::Field;
use super::keys;
use super::names::{self, Form};
use super::place::{Mark, Origin};
use super::said::Said;
use super::yaml::{Entry, Value};

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

/// What an object's metadata may hold.
const FIELDS: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

// === impl Metadata ===

impl Metadata {
    /// Without a name it has an empty one, for the rest to be read; it is no object then.
    ///
    /// # Errors
    /// No mapping at all.
    pub(super) fn read(document: &Field<'_>, kind: &str, said: &mut Said) -> Result<Self, Error> {
        let metadata =
            document.require("metadata", &format!("a mapping with the {kind}'s name"))?;
        metadata.entries()?;
        let expected = format!("the {kind}'s name");
        let name = said.need(&metadata, ("name", &expected), Field::name);
        let namespace = said.read(&metadata, "namespace", Field::name);
        let (name, namespace) = (name.unwrap_or_default(), namespace.unwrap_or("default"));
        let known = match name {
            "" => kind.to_owned(),
            name => format!("{kind} {namespace}/{name}"),
        };
        let origin = document.origin.resource(known);
        // From here on errors say which object they are about.
        let metadata = metadata.within(&origin);
        said.known(&metadata, &FIELDS);
        if let Some(name) = said.get(&metadata, "name") {
            Form::of(kind).check(&name, said);
        }
        if let Some(namespace) = said.get(&metadata, "namespace") {
            Form::Label.check(&namespace, said);
        }
        if let Some(labels) = said.get(&metadata, "labels") {
            names::labels(&labels, said);
        }
        let created = said.get(&metadata, "creationTimestamp");
        let created = created.and_then(|created| created.text().map(str::to_owned));
        let annotations = annotations(&metadata, said);
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

/// The annotations of any object. Their errors name the annotation instead of the path that leads to it. A number or a word
/// that should be in quotes is told and read all the same, for what its value means.
fn annotations(metadata: &Field<'_>, said: &mut Said) -> Vec<Annotation> {
    let Some(field) = said.get(metadata, "annotations") else {
        return Vec::new();
    };
    let entries = said.keep(field.entries());
    let read = |entry: &Entry| {
        names::key(&field, &entry.key, entry.key_at, said);
        let value = Field::root(&entry.value, entry.key.clone(), metadata.origin);
        let duration = keys::is_duration(&entry.key);
        let text = said.keep(match duration {
            true => value.duration(),
            false => value.string(),
        });
        let text = match &entry.value.value {
            Value::Bool(text) | Value::Number(text, _) if !duration => text,
            _ => text?,
        };
        Some(Annotation {
            key: entry.key.clone(),
            value: text.to_owned(),
            key_at: entry.key_at,
            at: value.at(),
        })
    };
    entries
        .unwrap_or_default()
        .iter()
        .filter_map(read)
        .collect()
}
