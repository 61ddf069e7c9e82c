//! Where a value stands: from the path of a key to its line, and back from a byte to the path.
//!
//! Reads TOML and JSON into one flat list of places. Not here: what the values mean.
//! **Invariant:** any text gives an answer; where nothing fits, the answer is the beginning of
//! the text.

use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// The path of one value, from the root of its document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Place {
    #[must_use]
    pub(super) fn key(&self, name: &str) -> Self {
        self.and(Step::Key(name.to_owned()))
    }

    #[must_use]
    pub(super) fn index(&self, index: usize) -> Self {
        self.and(Step::Index(index))
    }

    fn and(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }

    fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_last()?;
        Some(Self(parent.to_vec()))
    }
}

/// The names of its keys with dots, as TOML's headers write them (quoted, where they are no bare
/// keys): the line says which element it is.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for step in &self.0 {
            if let Step::Key(name) = step {
                f.write_str(if first { "" } else { "." })?;
                let bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
                match !name.is_empty() && name.chars().all(bare) {
                    true => f.write_str(name)?,
                    false => write!(f, "{name:?}")?,
                }
                first = false;
            }
        }
        Ok(())
    }
}

/// Every place of one document.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<(Place, Range<usize>)>);

impl Places {
    /// A broken document gives the places up to where it breaks.
    pub(super) fn of_toml(text: &str) -> Self {
        let mut places = Self::default();
        let (table, _) = DeTable::parse_recoverable(text);
        places.table(&Place::default(), table.get_ref());
        places
    }

    fn table(&mut self, at: &Place, table: &DeTable<'_>) {
        for (key, value) in table {
            let place = at.key(key.get_ref());
            self.0.push((place.clone(), key.span()));
            self.value(&place, value.span(), value.get_ref());
        }
    }

    fn value(&mut self, at: &Place, span: Range<usize>, value: &DeValue<'_>) {
        self.0.push((at.clone(), span));
        match value {
            DeValue::Table(table) => self.table(at, table),
            DeValue::Array(array) => {
                for (index, element) in array.iter().enumerate() {
                    self.value(&at.index(index), element.span(), element.get_ref());
                }
            }
            _ => {}
        }
    }

    pub(super) fn of_json(text: &str) -> Self {
        let mut scan = Scan { text: text.as_bytes(), at: 0, places: Self::default() };
        scan.value(&Place::default(), 0);
        scan.places
    }

    /// Where `place` begins; where it is not written, where its nearest parent that is begins.
    pub(super) fn find(&self, place: &Place) -> usize {
        let mut wanted = Some(place.clone());
        while let Some(place) = wanted {
            if let Some((_, span)) = self.0.iter().find(|(known, _)| *known == place) {
                return span.start;
            }
            wanted = place.parent();
        }
        0
    }

    /// The deepest place that `offset` lies in.
    pub(super) fn at(&self, offset: usize) -> Place {
        let holds = |span: &Range<usize>| span.start <= offset && offset <= span.end;
        let inside = self.0.iter().filter(|(_, span)| holds(span));
        let deepest = inside.max_by_key(|(place, span)| (place.0.len(), span.start));
        deepest.map(|(place, _)| place.clone()).unwrap_or_default()
    }
}

/// Line and column of a byte, both counted from 1; columns in characters.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    (line, String::from_utf8_lossy(&before[start..]).chars().count() + 1)
}

/// The byte of a line and column as `serde_json` counts them: both from 1, columns in bytes.
pub(super) fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let lines = text.split_inclusive('\n');
    let before: usize = lines.take(line.saturating_sub(1)).map(str::len).sum();
    (before + column.saturating_sub(1)).min(text.len())
}

/// JSON nested deeper than this is not looked into; `serde_json` refuses it as well.
const DEEPEST: usize = 128;

/// Walks through JSON far enough to know where each value begins.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    places: Places,
}

impl Scan<'_> {
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn string(&mut self) -> Option<String> {
        self.take(b'"')?;
        let start = self.at;
        loop {
            match self.text.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        let raw = self.text.get(start..self.at)?;
        self.at += 1;
        Some(String::from_utf8_lossy(raw).into_owned())
    }

    fn value(&mut self, at: &Place, depth: usize) -> Option<()> {
        let first = self.peek().filter(|_| depth < DEEPEST)?;
        let start = self.at;
        let slot = self.places.0.len();
        self.places.0.push((at.clone(), start..start + 1));
        match first {
            b'{' => self.object(at, depth)?,
            b'[' => self.array(at, depth)?,
            b'"' => drop(self.string()?),
            _ => {
                let end = |byte: &u8| b",]} \t\r\n".contains(byte);
                let rest = &self.text[start..];
                let length = rest.iter().position(end).unwrap_or(rest.len());
                // Nothing at all is no value: going on would stand still for ever.
                self.at = start + Some(length).filter(|length| *length > 0)?;
            }
        }
        self.places.0[slot].1 = start..self.at;
        Some(())
    }

    fn object(&mut self, at: &Place, depth: usize) -> Option<()> {
        self.take(b'{')?;
        while self.peek()? != b'}' {
            let start = self.at;
            let place = at.key(&self.string()?);
            self.places.0.push((place.clone(), start..self.at));
            self.take(b':')?;
            self.value(&place, depth + 1)?;
            if self.peek()? == b',' {
                self.at += 1;
            }
        }
        self.take(b'}')
    }

    fn array(&mut self, at: &Place, depth: usize) -> Option<()> {
        self.take(b'[')?;
        let mut index = 0;
        while self.peek()? != b']' {
            self.value(&at.index(index), depth + 1)?;
            index += 1;
            if self.peek()? == b',' {
                self.at += 1;
            }
        }
        self.take(b']')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOML: &str = "a = 1\n[[s]]\nname = \"x\"\n[[s]]\nname = \"y\"\nlist = [1,\n 2]\n";
    const JSON: &str = "{\n \"a\": [\n  {\"b\": 1},\n  {\"b\": \"\\\"\", \"c\": null}\n ]\n}";

    fn check(text: &str, places: &Places, place: &Place, expected: (usize, usize)) {
        assert_eq!(line_and_column(text, places.find(place)), expected, "{place}");
    }

    #[test]
    fn toml_places_are_found_by_their_path() {
        let places = Places::of_toml(TOML);
        let second = Place::default().key("s").index(1);
        check(TOML, &places, &Place::default().key("a"), (1, 1));
        check(TOML, &places, &second, (4, 1));
        check(TOML, &places, &second.key("name"), (5, 1));
        check(TOML, &places, &second.key("list").index(1), (7, 2));
        check(TOML, &places, &second.key("absent"), (4, 1));
        check(TOML, &places, &Place::default().key("absent"), (1, 1));
    }

    #[test]
    fn json_places_are_found_by_their_path() {
        let places = Places::of_json(JSON);
        let second = Place::default().key("a").index(1);
        check(JSON, &places, &second, (4, 3));
        check(JSON, &places, &second.key("c"), (4, 15));
    }

    #[test]
    fn a_byte_tells_its_deepest_place() {
        let places = Places::of_toml(TOML);
        let offset = TOML.find("2]").unwrap();
        assert_eq!(places.at(offset).to_string(), "s.list");
        let places = Places::of_json(JSON);
        assert_eq!(places.at(JSON.find("null").unwrap()).to_string(), "a.c");
        assert_eq!(places.at(offset_of(JSON, 4, 4)).to_string(), "a.b");
    }

    proptest! {
        #[test]
        fn no_text_makes_places_panic(
            text in "[\\[\\]{}\",:=a\\\\\n 1]{0,60}",
            offset in 0usize..80,
        ) {
            for places in [Places::of_toml(&text), Places::of_json(&text)] {
                let _ = line_and_column(&text, places.find(&places.at(offset)));
            }
        }
    }
}
