use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, Tag};

use super::place::{Mark, quoted};
use super::scalar;

/// One YAML value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) at: Mark,
}

/// What a YAML value is. Booleans and numbers with their text, for messages.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(String),
    /// With its value where it is whole and fits.
    Number(String, Option<i64>),
    String(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a mapping, with its value. Keys are unique.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: Mark,
    pub(crate) value: Node,
}

/// Why a text is not YAML that this loader reads.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) cause: Cause,
    pub(crate) at: Mark,
}

/// What kind of refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Not YAML, and why.
    Syntax(String),
    /// This key stands twice in one mapping.
    DuplicateKey(String),
    /// Beyond a limit, and which.
    Limit(&'static str),
}

// Finite on purpose, and large: folders of manifests are read, with files of hundreds of documents (`helm template`,
// `kubectl get -o yaml`) and CRDs of tens of thousands of lines. What an alias repeats counts as if it were written out,
// so that "a billion laughs" ends here after some megabytes.

/// The largest file. An object in a cluster is at most 1.5 MiB; the largest bundles of CRDs that people keep beside their
/// manifests have 4 MiB.
pub(crate) const MAX_BYTES: usize = 32 * 1024 * 1024;
/// The most values of a file, repeated ones included. A bundle of CRDs has some 200 000.
const MAX_NODES: usize = 2_000_000;
/// The most bytes of text in values, repeated ones included.
const MAX_TEXT: usize = 64 * 1024 * 1024;
/// How many keys that stand twice are told.
const MAX_TWICE: usize = 100;
/// How deep values may nest. Schemas in CRDs come to 40. Reading does not recurse; dropping and cloning do.
const MAX_DEPTH: usize = 100;

/// Reads every document of a text; those that are empty are left out.
///
/// # Errors
/// The first mistake of the text.
#[cfg(feature = "sim")]
pub(crate) fn documents(text: &str) -> Result<Vec<Node>, Refused> {
    let (documents, refused) = all(text);
    match refused.into_iter().next() {
        Some(first) => Err(first),
        None => Ok(documents),
    }
}

/// The documents of a text, and what is wrong with it. After a key that stands twice it is read on, as if it stood there
/// once; after anything else it is not.
pub(crate) fn all(text: &str) -> (Vec<Node>, Vec<Refused>) {
    let mut builder = Builder::default();
    let read = builder.read(text);
    builder.refused.extend(read.err());
    (builder.documents, builder.refused)
}

pub(crate) const DEPTH: &str = "100 levels of nesting";

fn options() -> Options {
    // One more than ours, so that ours is met first.
    granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH + 1,
        block_nesting_limit: MAX_DEPTH + 1,
    }
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    /// Keys that stand twice.
    refused: Vec<Refused>,
    /// The collections that are open, the innermost last.
    open: Vec<Open>,
    /// Finished nodes that aliases may repeat.
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    text: usize,
}

struct Open {
    at: Mark,
    anchor: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        /// What `<<` brings in.
        merged: Vec<Node>,
        key: Option<Key>,
    },
}

enum Key {
    Text(String, Mark),
    Merge,
}

/// How much a node is: values, bytes, levels.
#[derive(Default)]
struct Size {
    nodes: usize,
    text: usize,
    depth: usize,
}

// === impl Builder ===

impl Builder {
    /// The tree is built from the parser's events without recursion, so that nesting costs no stack.
    fn read(&mut self, text: &str) -> Result<(), Refused> {
        if text.len() > MAX_BYTES {
            let cause = Cause::Limit("32 MiB in a file");
            let at = Mark::default();
            return Err(Refused { cause, at });
        }
        for event in Parser::new_from_str_with_options(text, options()) {
            let (event, span) = event.map_err(|error| Refused {
                at: Mark::of(error.marker()),
                cause: match error.kind() {
                    ErrorKind::RecursionLimitExceeded => Cause::Limit(DEPTH),
                    // May repeat the manifest; a message is one line.
                    kind => Cause::Syntax(kind.to_string().replace(char::is_control, " ")),
                },
            })?;
            self.event(event, Mark::of(&span.start))?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, at: Mark) -> Result<(), Refused> {
        match event {
            Event::DocumentStart(..) => self.anchors.clear(),
            Event::Scalar(text, style, anchor, tag) => {
                self.spend(1, text.len(), at)?;
                let merge = matches!(style, ScalarStyle::Plain) && text == "<<";
                let value = typed(text.into_owned(), style, tag.as_deref());
                self.finish(Node { value, at }, anchor, merge)?;
            }
            Event::SequenceStart(_, anchor, _) => {
                self.start(at, anchor, Inside::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, _) => {
                let inside = Inside::Map {
                    entries: Vec::new(),
                    merged: Vec::new(),
                    key: None,
                };
                self.start(at, anchor, inside)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    let node = open.inside.close(open.at, &mut self.refused)?;
                    self.finish(node, open.anchor, false)?;
                }
            }
            Event::Alias(anchor) => {
                let Some(found) = self.anchors.get(&anchor) else {
                    let cause = Cause::Syntax("an alias for something it is itself part of".into());
                    return Err(Refused { cause, at });
                };
                let mut size = Size::default();
                size.add(found, self.open.len());
                if size.depth > MAX_DEPTH {
                    let cause = Cause::Limit(DEPTH);
                    return Err(Refused { cause, at });
                }
                self.spend(size.nodes, size.text, at)?;
                // Only now that it is known not to be too much.
                let value = self.anchors.get(&anchor).map(|found| found.value.clone());
                let value = value.unwrap_or(Value::Null);
                self.finish(Node { value, at }, 0, false)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn spend(&mut self, nodes: usize, text: usize, at: Mark) -> Result<(), Refused> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.text = self.text.saturating_add(text);
        let cause = if self.nodes > MAX_NODES {
            Cause::Limit("2000000 values, what aliases repeat included")
        } else if self.text > MAX_TEXT {
            Cause::Limit("64 MiB of text, what aliases repeat included")
        } else {
            return Ok(());
        };
        Err(Refused { cause, at })
    }

    fn start(&mut self, at: Mark, anchor: usize, inside: Inside) -> Result<(), Refused> {
        self.spend(1, 0, at)?;
        if self.open.len() >= MAX_DEPTH {
            let cause = Cause::Limit(DEPTH);
            return Err(Refused { cause, at });
        }
        self.open.push(Open { at, anchor, inside });
        Ok(())
    }

    fn finish(&mut self, node: Node, anchor: usize, merge: bool) -> Result<(), Refused> {
        if anchor > 0 {
            let mut size = Size::default();
            size.add(&node, 0);
            self.spend(size.nodes, size.text, node.at)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.inside) {
            None if node.value == Value::Null => {}
            None => self.documents.push(node),
            Some(Inside::List(list)) => list.push(node),
            Some(Inside::Map {
                entries,
                merged,
                key,
            }) => match key.take() {
                None if merge => *key = Some(Key::Merge),
                None => *key = Some(Key::of(node)?),
                Some(Key::Merge) => merged.push(node),
                Some(Key::Text(key, key_at)) => entries.push(Entry {
                    key,
                    key_at,
                    value: node,
                }),
            },
        }
        Ok(())
    }
}

/// By its tag, else by its looks.
fn typed(text: String, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    match tag.map(|tag| tag.core_suffix()) {
        Some(Some("str")) => Value::String(text),
        Some(Some("int" | "float" | "bool" | "null")) => scalar::plain(&text),
        // Others (`!!binary`, `!!timestamp`, one's own) are strings to Kubernetes.
        Some(_) => Value::String(text),
        None if matches!(style, ScalarStyle::Plain) => scalar::plain(&text),
        None => Value::String(text),
    }
}

// === impl Inside ===

impl Inside {
    fn close(self, at: Mark, twice: &mut Vec<Refused>) -> Result<Node, Refused> {
        let (mut entries, merged) = match self {
            Self::List(list) => {
                let value = Value::List(list);
                return Ok(Node { value, at });
            }
            Self::Map {
                entries, merged, ..
            } => (entries, merged),
        };
        let mut keys = BTreeSet::new();
        entries.retain(|entry| {
            let first = keys.insert(entry.key.clone());
            if !first && twice.len() < MAX_TWICE {
                twice.push(Refused {
                    cause: Cause::DuplicateKey(entry.key.clone()),
                    at: entry.key_at,
                });
            }
            first
        });
        // What is written beats what is merged, what is merged first beats the rest.
        for source in merged {
            let sources = match source.value {
                Value::List(sources) => sources,
                value => vec![Node { value, ..source }],
            };
            for source in sources {
                let Value::Map(more) = source.value else {
                    let found = source.describe();
                    let cause = Cause::Syntax(format!("`<<` found {found}, expected a mapping"));
                    let at = source.at;
                    return Err(Refused { cause, at });
                };
                entries.extend(more.into_iter().filter(|e| keys.insert(e.key.clone())));
            }
        }
        let value = Value::Map(entries);
        Ok(Node { value, at })
    }
}

// === impl Key ===

impl Key {
    /// A scalar is a key by its text, as in the API server's reader.
    fn of(node: Node) -> Result<Self, Refused> {
        let at = node.at;
        match node.value {
            Value::String(text) | Value::Bool(text) | Value::Number(text, _) => {
                Ok(Self::Text(text, at))
            }
            Value::Null => Ok(Self::Text("null".to_owned(), at)),
            Value::List(_) | Value::Map(_) => {
                let cause = Cause::Syntax("found a key that is not a string".to_owned());
                Err(Refused { cause, at })
            }
        }
    }
}

// === impl Size ===

impl Size {
    /// Recursive, over nodes that have been found to be at most `MAX_DEPTH` deep.
    fn add(&mut self, node: &Node, above: usize) {
        self.nodes += 1;
        self.depth = self.depth.max(above);
        match &node.value {
            Value::Null => {}
            Value::Bool(text) | Value::Number(text, _) | Value::String(text) => {
                self.text = self.text.saturating_add(text.len());
            }
            Value::List(list) => list.iter().for_each(|node| self.add(node, above + 1)),
            Value::Map(entries) => {
                for entry in entries {
                    self.text = self.text.saturating_add(entry.key.len());
                    self.add(&entry.value, above + 1);
                }
            }
        }
    }
}

// === impl Node ===

impl PartialEq for Node {
    /// By value, wherever they stand.
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Node {
    /// What it is, for a sentence that begins with "found".
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(text) => format!("the boolean {text}"),
            Value::Number(text, _) => format!("the number {text}"),
            Value::String(text) => format!("the string {}", quoted(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}
