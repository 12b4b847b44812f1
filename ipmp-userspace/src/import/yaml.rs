//! YAML as a tree with lines. Anchors are refused: a short file could be a large tree.

use saphyr_parser::{Event, Parser, ScanError};

use super::{Error, Place, Source};

/// How deep a file may be.
const DEEPEST: usize = 32;

/// A value with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it is.
    pub place: Place,
    /// What it is.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A scalar, as it is written.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in order.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.map().iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// Its keys and values; none if it is no mapping.
    pub fn map(&self) -> &[(String, Self)] {
        match &self.value {
            Value::Map(map) => map,
            _ => &[],
        }
    }

    /// Its elements; a scalar is the only one.
    pub fn list(&self) -> &[Self] {
        match &self.value {
            Value::List(list) => list,
            Value::Text(text) if !text.is_empty() => std::slice::from_ref(self),
            _ => &[],
        }
    }

    /// Its text.
    pub fn text(&self) -> Result<&str, Error> {
        match &self.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.place.error("expected one value, not a list or a mapping")),
        }
    }

    /// Whether it is `true`, in any spelling of YAML 1.1, which netplan reads.
    pub fn is_true(&self) -> bool {
        let words = ["true", "yes", "on", "y"];
        matches!(&self.value, Value::Text(text) if words.iter().any(|word| text.eq_ignore_ascii_case(word)))
    }

    /// Adds what a later file has: mappings key by key, sequences at the end, scalars in place of earlier ones.
    pub fn merge(&mut self, later: Self) {
        match (&mut self.value, later.value) {
            (Value::Map(map), Value::Map(more)) => {
                for (key, node) in more {
                    match map.iter_mut().find(|(name, _)| *name == key) {
                        Some((_, known)) => known.merge(node),
                        None => map.push((key, node)),
                    }
                }
            }
            (Value::List(list), Value::List(more)) => list.extend(more),
            (_, value) => *self = Self { place: later.place, value },
        }
    }
}

/// A collection that is not complete.
enum Open {
    List(Vec<Node>),
    Map(Vec<(String, Node)>, Option<String>),
}

/// Reads the first document of a file; `None`: it is empty.
pub fn parse(source: &Source) -> Result<Option<Node>, Error> {
    let mut open: Vec<(Place, Open)> = Vec::new();
    let failed = |error: ScanError| source.at(error.marker().line()).error(error.info());
    for event in Parser::new_from_str(&source.text) {
        let (event, span) = event.map_err(failed)?;
        let place = source.at(span.start.line());
        let is_start = matches!(event, Event::SequenceStart(..) | Event::MappingStart(..));
        if is_start && open.len() == DEEPEST {
            return Err(place.error(format!("more than {DEEPEST} levels")));
        }
        let node = match event {
            Event::Alias(_) => return Err(place.error("aliases are not read: write the value")),
            Event::Scalar(text, ..) => Node { place, value: Value::Text(text.into_owned()) },
            Event::SequenceStart(..) => {
                open.push((place, Open::List(Vec::new())));
                continue;
            }
            Event::MappingStart(..) => {
                open.push((place, Open::Map(Vec::new(), None)));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some((place, Open::List(list))) => Node { place, value: Value::List(list) },
                Some((place, Open::Map(map, _))) => Node { place, value: Value::Map(map) },
                None => return Err(place.error("a collection ends that has not begun")),
            },
            _ => continue,
        };
        match open.last_mut() {
            None => return Ok(Some(node)),
            Some((_, Open::List(list))) => list.push(node),
            Some((_, Open::Map(map, key))) => match key.take() {
                None => *key = Some(node.text()?.to_owned()),
                Some(name) if map.iter().any(|(known, _)| *known == name) => {
                    return Err(node.place.error(format!("key {name:?} is there twice")));
                }
                Some(name) => map.push((name, node)),
            },
        }
    }
    Ok(None)
}
