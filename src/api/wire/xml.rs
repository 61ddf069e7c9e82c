//! XML: REST-XML's requests, and the answers of Query, EC2 and REST-XML.
//!
//! Reading is `quick-xml`'s, into a small tree; writing follows the model. DTDs, entities of
//! one's own and processing instructions mean nothing here: RFC 9110 says nothing of them and AWS
//! refuses them.

use std::fmt::Write as _;

use quick_xml::Reader;
use quick_xml::escape::{escape, resolve_xml_entity};
use quick_xml::events::{BytesStart, Event};
use serde_json::{Map, Value};

use super::check::Invalid;
use super::query::scalar;
use super::schema::{Kind, Location, Model, Shape, ShapeId};
use super::time;

/// Deeper elements are refused (ours; the deepest of the models is eight).
const DEPTH: usize = 32;

/// An element without its attributes.
#[derive(Debug, Default, PartialEq)]
struct Element {
    name: String,
    text: String,
    below: Vec<Self>,
}

fn named(start: &BytesStart<'_>) -> Element {
    let name = start.local_name().as_ref().to_owned();
    Element { name, ..Element::default() }
}

fn parse(text: &str) -> Result<Element, Invalid> {
    let bad = |why: &dyn std::fmt::Display| Invalid::Type(format!("the body is no XML: {why}"));
    let mut reader = Reader::from_str(text);
    let mut open = vec![Element::default()];
    loop {
        let event = reader.read_event().map_err(|error| bad(&error))?;
        let end = matches!(event, Event::End(_));
        match event {
            Event::Start(start) if open.len() < DEPTH => open.push(named(&start)),
            Event::Start(_) => return Err(bad(&"too deep")),
            Event::Empty(start) => {
                if let Some(top) = open.last_mut() {
                    top.below.push(named(&start));
                }
            }
            Event::Text(part) => {
                open.iter_mut().next_back().into_iter().for_each(|top| top.text.push_str(&part));
            }
            Event::CData(part) => {
                open.iter_mut().next_back().into_iter().for_each(|top| top.text.push_str(&part));
            }
            Event::GeneralRef(entity) => {
                let part = match entity.resolve_char_ref().map_err(|error| bad(&error))? {
                    Some(c) => c.to_string(),
                    None => {
                        let known = resolve_xml_entity(&entity);
                        known.ok_or_else(|| bad(&"an unknown entity"))?.to_owned()
                    }
                };
                open.iter_mut().next_back().into_iter().for_each(|top| top.text.push_str(&part));
            }
            Event::DocType(_) => return Err(bad(&"a document type is not taken")),
            Event::Eof => break,
            Event::End(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
        if end && let Some(closed) = open.pop() {
            open.last_mut().ok_or_else(|| bad(&"an end without a start"))?.below.push(closed);
        }
    }
    let mut root = open.pop().filter(|_| open.is_empty()).ok_or_else(|| bad(&"it ends early"))?;
    match (root.below.pop(), root.below.is_empty()) {
        (Some(element), true) => Ok(element),
        _ => Err(bad(&"not one root element")),
    }
}

/// The canonical form of a REST-XML body, members of other locations left out.
///
/// # Errors
/// No XML, or a scalar that is not of its shape's type.
pub(crate) fn decode(model: &Model, shape: ShapeId, text: &str) -> Result<Value, Invalid> {
    value(model, shape, &parse(text)?, "")
}

fn value(model: &Model, id: ShapeId, element: &Element, path: &str) -> Result<Value, Invalid> {
    let at = format!("{path}/{}", element.name);
    match &model.shape(id).kind {
        Kind::Structure(members) => {
            let mut map = Map::new();
            for member in members.iter().filter(|member| member.location == Location::Body) {
                let shape = model.shape(member.shape);
                let flat = matches!(shape.kind, Kind::List { flattened: true, .. });
                let name = member.wire_name();
                let mut found = element.below.iter().filter(|below| below.name == name);
                if flat {
                    let Kind::List { item, .. } = &shape.kind else { continue };
                    let items = found.map(|below| value(model, item.shape, below, &at));
                    let items = items.collect::<Result<Vec<_>, _>>()?;
                    if !items.is_empty() {
                        map.insert(member.name.clone(), Value::Array(items));
                    }
                } else if let Some(below) = found.next() {
                    map.insert(member.name.clone(), value(model, member.shape, below, &at)?);
                }
            }
            Ok(Value::Object(map))
        }
        Kind::List { item, .. } => {
            let items = element.below.iter().map(|below| value(model, item.shape, below, &at));
            Ok(Value::Array(items.collect::<Result<_, _>>()?))
        }
        Kind::Map { key, value: of, .. } => {
            let part = |entry: &'_ Element, name: &str, default: &str| {
                let name = if name.is_empty() { default } else { name };
                entry.below.iter().position(|below| below.name == name)
            };
            let mut map = Map::new();
            for entry in &element.below {
                let key = part(entry, key.wire_name(), "key");
                let found = part(entry, of.wire_name(), "value");
                if let (Some(key), Some(found)) = (key, found) {
                    let found = value(model, of.shape, &entry.below[found], &at)?;
                    map.insert(entry.below[key].text.clone(), found);
                }
            }
            Ok(Value::Object(map))
        }
        kind => scalar(kind, &element.text, &at),
    }
}

/// An answer as XML, written element by element.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: String,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self { out: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned() }
    }

    pub(crate) fn open(&mut self, name: &str, namespace: Option<&str>) {
        let _ = match namespace {
            Some(uri) => write!(self.out, "<{name} xmlns=\"{}\">", escape(uri)),
            None => write!(self.out, "<{name}>"),
        };
    }

    pub(crate) fn close(&mut self, name: &str) {
        let _ = write!(self.out, "</{name}>");
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        // What XML 1.0 has no form for (its production Char) would end the whole answer.
        let is_char = |c: char| {
            c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}') || matches!(c, '\t' | '\n' | '\r')
        };
        let plain: String = text.chars().map(|c| if is_char(c) { c } else { '\u{fffd}' }).collect();
        let _ = write!(self.out, "<{name}>{}</{name}>", escape(plain.as_str()));
    }

    pub(crate) fn finish(self) -> String {
        self.out
    }

    /// The members of a structure that travel in the body.
    pub(crate) fn members(&mut self, model: &Model, shape: &Shape, value: &Value) {
        let (Kind::Structure(members), Value::Object(map)) = (&shape.kind, value) else { return };
        for member in members.iter().filter(|member| member.location == Location::Body) {
            let Some(value) = map.get(&member.name).filter(|value| !value.is_null()) else {
                continue;
            };
            let below = model.shape(member.shape);
            match (&below.kind, value) {
                (Kind::List { item, flattened: true }, Value::Array(items)) => {
                    let item = model.shape(item.shape);
                    items.iter().for_each(|v| self.value(model, member.wire_name(), item, v));
                }
                _ => self.value(model, member.wire_name(), below, value),
            }
        }
    }

    fn value(&mut self, model: &Model, name: &str, shape: &Shape, value: &Value) {
        match (&shape.kind, value) {
            (Kind::Structure(_), value) => {
                self.open(name, None);
                self.members(model, shape, value);
                self.close(name);
            }
            (Kind::List { item, .. }, Value::Array(items)) => {
                let inner = match item.wire_name() {
                    "" => "member",
                    name => name,
                };
                self.open(name, None);
                let shape = model.shape(item.shape);
                items.iter().for_each(|value| self.value(model, inner, shape, value));
                self.close(name);
            }
            (Kind::Map { key, value: of, .. }, Value::Object(map)) => {
                let or = |name: &str, default: &'static str| match name {
                    "" => default.to_owned(),
                    name => name.to_owned(),
                };
                let (key, inner) = (or(key.wire_name(), "key"), or(of.wire_name(), "value"));
                self.open(name, None);
                for (text, value) in map {
                    self.open("entry", None);
                    self.text(&key, text);
                    self.value(model, &inner, model.shape(of.shape), value);
                    self.close("entry");
                }
                self.close(name);
            }
            (Kind::Time, value) => {
                let text = value.as_f64().map(time::iso).unwrap_or_default();
                self.text(name, &text);
            }
            (_, Value::String(text)) => self.text(name, text),
            (_, value) => self.text(name, &value.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &str) {
        fn show(element: &Element) -> String {
            let below: Vec<_> = element.below.iter().map(show).collect();
            format!("{}={:?}[{}]", element.name, element.text, below.join(" "))
        }
        let shown = match parse(text) {
            Ok(element) => show(&element),
            Err(invalid) => invalid.to_string(),
        };
        assert!(shown.starts_with(expected), "{text}: {shown}");
    }

    #[test]
    fn elements_keep_their_texts() {
        check("<a/>", r#"a=""[]"#);
        check(r#"<?xml version="1.0"?><a x="1"><b>1 &lt; 2</b><c/></a>"#, r#"a=""[b="1 < 2"[] c"#);
        check("<n:a xmlns:n='u'><![CDATA[<&]]>&#65;</n:a>", r#"a="<&A"[]"#);
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for text in [
            "",
            "a",
            "<a>",
            "</a>",
            "<a></b>",
            "<a/><b/>",
            "<a>&own;</a>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
            &"<a>".repeat(40),
        ] {
            check(text, "the body is no XML");
        }
    }

    #[test]
    fn what_xml_cannot_hold_is_replaced() {
        let mut writer = Writer::new();
        writer.text("a", "x\u{1}\u{0}\u{ffff}\ty");
        assert_eq!(parse(&writer.finish()).unwrap().text, "x\u{fffd}\u{fffd}\u{fffd}\ty");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[<>/a-c&;! \\[\\]'=\"]{0,64}") {
            let _ = parse(&text);
        }

        #[test]
        fn text_comes_back_as_it_was_written(text in "[ -~äöü]{0,64}") {
            let mut writer = Writer::new();
            writer.text("a", &text);
            prop_assert_eq!(parse(&writer.finish()).unwrap().text, text);
        }
    }
}
