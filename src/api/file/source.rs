//! One text that is read, and what may be wrong in it.
//!
//! **Invariant:** every [`Problem`] names a file, a line of it and a key.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::place::{self, Place, Places};

/// What is wrong with a configuration, for people: one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The path of the key: `load_balancer.listener.port`.
    pub key: String,
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, key, reason, .. } = self;
        let text = format!("{}:{line}: {key}: {reason}", file.display());
        // What was written may come back in here with the ends of its lines.
        text.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => write!(f, "{c}"),
        })
    }
}

impl std::error::Error for Problem {}

/// Something wrong at a place of a text whose name is not known here.
#[derive(Debug)]
pub(super) struct Bad {
    pub(super) at: Place,
    pub(super) reason: String,
}

impl Bad {
    pub(super) fn new(at: &Place, reason: impl Into<String>) -> Self {
        Self { at: at.clone(), reason: reason.into() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Toml,
    Json,
}

/// A file's name and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) format: Format,
}

impl Source {
    pub(super) fn new(path: &Path, text: impl Into<String>, format: Format) -> Self {
        Self { path: path.to_owned(), text: text.into(), format }
    }

    fn places(&self) -> Places {
        match self.format {
            Format::Toml => Places::of_toml(&self.text),
            Format::Json => Places::of_json(&self.text),
        }
    }

    fn problem_at(&self, offset: usize, key: String, reason: String) -> Problem {
        let (line, column) = place::line_and_column(&self.text, offset);
        Problem { file: self.path.clone(), line, column, key, reason }
    }

    pub(super) fn problem(&self, bad: Bad) -> Problem {
        let offset = self.places().find(&bad.at);
        self.problem_at(offset, bad.at.to_string(), bad.reason)
    }

    /// Reads the text as a `T`.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        match self.format {
            Format::Toml => toml::from_str(&self.text).map_err(|error| self.toml_problem(&error)),
            Format::Json => {
                serde_json::from_str(&self.text).map_err(|error| self.json_problem(&error))
            }
        }
    }

    fn toml_problem(&self, error: &toml::de::Error) -> Problem {
        let offset = error.span().map_or(0, |span| span.start);
        let key = self.places().at(offset).to_string();
        let key = if key.is_empty() { "(file)".to_owned() } else { key };
        let reason = error.message().split('\n').collect::<Vec<_>>().join("; ");
        self.problem_at(offset, key, plain(&reason))
    }

    fn json_problem(&self, error: &serde_json::Error) -> Problem {
        // What serde_json points at is the last byte it read.
        let offset = place::offset_of(&self.text, error.line(), error.column());
        let key = self.places().at(offset).to_string();
        let key = if key.is_empty() { "(file)".to_owned() } else { key };
        let text = error.to_string();
        let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
        self.problem_at(offset, key, plain(reason))
    }
}

/// Readers' messages that speak of Rust rather than of the file, and what stands for them.
const PLAIN: [(&str, &str); 6] = [
    ("expected usize", "expected a whole number"),
    ("expected u16", "expected a whole number up to 65535"),
    ("expected u32", "expected a whole number up to 4294967295"),
    ("expected a sequence", "expected a list"),
    ("invalid socket address syntax", "must be an address and port such as 127.0.0.1:80"),
    ("invalid IP address syntax", "must be an IPv4 or IPv6 address"),
];

/// A key unknown to us is told with the known one that is most like it: the whole list helps
/// nobody.
fn plain(reason: &str) -> String {
    if let Some(rest) = reason.strip_prefix("unknown field `") {
        let mut words = rest.split('`').step_by(2);
        let wrong = words.next().unwrap_or_default();
        let alike = words.map(|word| (distance(wrong, word), word)).min();
        return match alike {
            Some((steps, word)) if steps <= 2 => format!("unknown key, did you mean {word}?"),
            _ => "unknown key".to_owned(),
        };
    }
    let text = PLAIN.iter().find_map(|(rust, plain)| {
        reason.strip_suffix(rust).map(|before| format!("{before}{plain}"))
    });
    text.unwrap_or_else(|| reason.to_owned())
}

/// Levenshtein's distance.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let same = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = same.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_told_with_what_is_most_like_them() {
        let check = |reason: &str, expected: &str| assert_eq!(plain(reason), expected);
        check(
            "unknown field `desired_cuont`, expected one of `name`, `desired_count`",
            "unknown key, did you mean desired_count?",
        );
        check("unknown field `x`, expected `name`", "unknown key");
        check("unknown field `x`, there are no fields", "unknown key");
        check("invalid type: string \"a\", expected u16", {
            "invalid type: string \"a\", expected a whole number up to 65535"
        });
        check("anything else", "anything else");
    }

    #[test]
    fn a_problem_is_one_line_whatever_was_written() {
        let source = Source::new(Path::new("a.toml"), "a = {\"b\\nc\" = 1 d}", Format::Toml);
        let problem = source.read::<toml::Table>().unwrap_err().to_string();
        assert!(problem.starts_with(r#"a.toml:1: a."b\nc": "#), "{problem}");
        let problem = source.problem(Bad::new(&Place::default().key("a"), "no \r\n here"));
        assert_eq!(problem.to_string(), r"a.toml:1: a: no \r\n here");
    }

    #[test]
    fn distance_counts_single_edits() {
        for (one, other, expected) in
            [("", "", 0), ("a", "", 1), ("port", "prot", 2), ("port", "ports", 1), ("ab", "cd", 2)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}
