//! The Query protocol's requests: `Action=X&Names.member.1=a`, and EC2's dialect of it.
//!
//! Source: Smithy's awsQuery and ec2Query protocol pages. **Invariant:** what a form can make this
//! allocate grows with the form, not with the numbers in it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::check::Invalid;
use super::schema::{Kind, Member, Model, ShapeId};

/// Deeper keys than this are refused (ours; the deepest of the models is eight).
const DEPTH: usize = 32;
/// Parameters of one request (ours).
const PARAMETERS: usize = 10_000;

/// A decoded form: pairs in the order sent.
pub(crate) fn pairs(form: &str) -> Vec<(String, String)> {
    let split = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (plain(name), plain(value))
    };
    form.split('&').filter(|pair| !pair.is_empty()).map(split).collect()
}

/// Percent-decoded, `+` read as a space; what is no UTF-8 is replaced.
pub(crate) fn plain(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
                continue;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Parameters by the parts of their names.
#[derive(Debug, Default)]
struct Tree {
    value: Option<String>,
    below: BTreeMap<String, Self>,
}

impl Tree {
    fn insert(&mut self, name: &str, value: String) -> Result<(), Invalid> {
        let mut tree = self;
        for (depth, part) in name.split('.').enumerate() {
            if depth == DEPTH {
                return Err(Invalid::Type(format!("the parameter {name} is too deep")));
            }
            tree = tree.below.entry(part.to_owned()).or_default();
        }
        tree.value = Some(value);
        Ok(())
    }

    /// Its numbered elements in the order of their numbers.
    fn items(&self) -> Vec<&Self> {
        let numbered = self.below.iter().filter_map(|(name, tree)| {
            Some((name.parse::<u32>().ok()?, tree)).filter(|_| !name.starts_with('+'))
        });
        let numbered: BTreeMap<u32, &Self> = numbered.collect();
        numbered.into_values().collect()
    }
}

/// The canonical form of a request's parameters; types that do not fit are told by name.
///
/// # Errors
/// A scalar that is not of its shape's type, too many or too deep parameters.
pub(crate) fn decode(
    model: &Model,
    shape: ShapeId,
    pairs: Vec<(String, String)>,
    ec2: bool,
) -> Result<Value, Invalid> {
    if pairs.len() > PARAMETERS {
        return Err(Invalid::Type(format!("more than {PARAMETERS} parameters")));
    }
    let mut tree = Tree::default();
    for (name, value) in pairs {
        tree.insert(&name, value)?;
    }
    let reader = Reader { model, ec2 };
    Ok(reader.value(shape, &tree, "")?.unwrap_or_else(|| Value::Object(Map::new())))
}

struct Reader<'a> {
    model: &'a Model,
    ec2: bool,
}

impl Reader<'_> {
    fn value(&self, id: ShapeId, tree: &Tree, path: &str) -> Result<Option<Value>, Invalid> {
        match &self.model.shape(id).kind {
            Kind::Structure(members) => {
                let mut map = Map::new();
                for member in members {
                    let name = self.name(member);
                    let Some(below) = tree.below.get(&name) else { continue };
                    let at = if path.is_empty() { name } else { format!("{path}.{name}") };
                    if let Some(value) = self.value(member.shape, below, &at)? {
                        map.insert(member.name.clone(), value);
                    }
                }
                Ok(Some(Value::Object(map)))
            }
            Kind::List { item, flattened } => {
                let inner = match (self.ec2 || *flattened, item.wire_name()) {
                    (true, _) => Some(tree),
                    (false, "") => tree.below.get("member"),
                    (false, name) => tree.below.get(name),
                };
                let items = inner.map(Tree::items).unwrap_or_default();
                if items.is_empty() {
                    // `Names=` says that the list is empty.
                    return Ok(tree.value.as_ref().map(|_| Value::Array(Vec::new())));
                }
                let items = items.into_iter().enumerate().map(|(at, tree)| {
                    let at = format!("{path}.{}", at + 1);
                    Ok(self.value(item.shape, tree, &at)?.unwrap_or(Value::Null))
                });
                Ok(Some(Value::Array(items.collect::<Result<_, _>>()?)))
            }
            Kind::Map { key, value, flattened } => {
                let inner = if *flattened { Some(tree) } else { tree.below.get("entry") };
                let name = |member: &Member, default: &str| {
                    member.location_name.clone().unwrap_or_else(|| default.to_owned())
                };
                let (key, of) = (name(key, "key"), (name(value, "value"), value.shape));
                let mut map = Map::new();
                for entry in inner.map(Tree::items).unwrap_or_default() {
                    let Some(key) = entry.below.get(&key).and_then(|tree| tree.value.clone())
                    else {
                        continue;
                    };
                    let at = format!("{path}.{key}");
                    let empty = Tree::default();
                    let below = entry.below.get(&of.0).unwrap_or(&empty);
                    map.insert(key, self.value(of.1, below, &at)?.unwrap_or(Value::Null));
                }
                Ok(Some(Value::Object(map)))
            }
            kind => tree.value.as_deref().map(|text| scalar(kind, text, path)).transpose(),
        }
    }

    /// EC2: the query name, else the location name with a capital first letter.
    fn name(&self, member: &Member) -> String {
        if !self.ec2 {
            return member.wire_name().to_owned();
        }
        if let Some(name) = &member.query_name {
            return name.clone();
        }
        let mut letters = member.wire_name().chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(letters).collect()
    }
}

/// A scalar's canonical form from its text.
pub(crate) fn scalar(kind: &Kind, text: &str, path: &str) -> Result<Value, Invalid> {
    let wrong = |wanted: &str| Invalid::Type(format!("{path} must be {wanted}, not {text:?}"));
    match kind {
        Kind::Integer => {
            text.trim().parse::<i64>().map(Value::from).map_err(|_| wrong("a whole number"))
        }
        Kind::Float => {
            let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
            number.map(super::check::seconds_value).ok_or_else(|| wrong("a number"))
        }
        Kind::Boolean => match text.trim() {
            "true" | "True" | "1" => Ok(Value::Bool(true)),
            "false" | "False" | "0" => Ok(Value::Bool(false)),
            _ => Err(wrong("true or false")),
        },
        _ => Ok(Value::String(text.to_owned())),
    }
}
