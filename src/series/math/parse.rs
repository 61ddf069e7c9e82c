//! Texts of expressions, as trees.
//!
//! Source: CloudWatch user guide, "Using math expressions with CloudWatch metrics". **Invariant:**
//! no text makes the reader panic or go deep: nesting is bounded.

use super::search::Search;
use super::{Bad, Binary, Term};

/// Of parentheses, calls and signs (ours).
const DEEPEST: usize = 40;

/// # Errors
/// What is wrong, and behind how many characters.
pub(super) fn parse(text: &str) -> Result<(Term, Vec<Search>), Bad> {
    let (tokens, end) = (tokens(text)?, text.chars().count());
    let mut reader = Reader { tokens, next: 0, depth: 0, end, searches: Vec::new() };
    let term = reader.level(0)?;
    match reader.peek() {
        None => Ok((term, reader.searches)),
        Some(_) => Err(reader.bad("what follows is not expected")),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(f64),
    /// An id, a function, or `REPEAT`, `LINEAR`, `AND`, `OR`.
    Word(String),
    Text(String),
    Sign(&'static str),
}

/// Longer ones first.
const SIGNS: [&str; 21] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "^", "(", ")", "[", "]", ",",
    "=", "!", "&",
];

/// With the number of characters before each.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Bad> {
    let (mut all, mut rest, mut at) = (Vec::new(), text, 0);
    while let Some(c) = rest.chars().next() {
        let length = |good: fn(char) -> bool| rest.find(|c| !good(c)).unwrap_or(rest.len());
        let (token, taken) = match c {
            c if c.is_whitespace() => (None, c.len_utf8()),
            c if c.is_ascii_digit() || c == '.' => {
                let taken = number(rest);
                let value = rest[..taken].parse().ok().filter(|value: &f64| value.is_finite());
                let bad = || Bad::at(at, "a number is expected");
                (Some(Token::Number(value.ok_or_else(bad)?)), taken)
            }
            c if c.is_ascii_alphabetic() => {
                let taken = length(|c| c.is_ascii_alphanumeric() || c == '_');
                (Some(Token::Word(rest[..taken].to_owned())), taken)
            }
            '"' | '\'' => {
                let end = rest[1..].find(c).ok_or_else(|| Bad::at(at, "the quote has no end"))?;
                (Some(Token::Text(rest[1..=end].to_owned())), end + 2)
            }
            _ => {
                let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
                let sign = sign.ok_or_else(|| Bad::at(at, "a sign is not known"))?;
                (Some(Token::Sign(sign)), sign.len())
            }
        };
        all.extend(token.map(|token| (at, token)));
        at += rest[..taken].chars().count();
        rest = &rest[taken..];
    }
    Ok(all)
}

/// The length of the number that a text begins with: `12`, `1.5`, `.5`, `1e-3`.
fn number(text: &str) -> usize {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        from + rest.bytes().take_while(u8::is_ascii_digit).count()
    };
    let mut end = digits(0);
    if text[end..].starts_with('.') {
        end = digits(end + 1);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let behind = digits(end + 1 + sign);
        if behind > end + 1 + sign {
            end = behind;
        }
    }
    end
}

struct Reader {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
    end: usize,
    searches: Vec<Search>,
}

/// Operators from those that bind least; `^` is apart.
const LEVELS: [&[(&str, Binary)]; 5] = [
    &[("||", Binary::Or), ("OR", Binary::Or)],
    &[("&&", Binary::And), ("AND", Binary::And)],
    &[
        ("==", Binary::Equal),
        ("!=", Binary::NotEqual),
        ("<=", Binary::LessOrEqual),
        (">=", Binary::GreaterOrEqual),
        ("<", Binary::Less),
        (">", Binary::Greater),
    ],
    &[("+", Binary::Add), ("-", Binary::Subtract)],
    &[("*", Binary::Multiply), ("/", Binary::Divide)],
];

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn bad(&self, why: &str) -> Bad {
        Bad::at(self.tokens.get(self.next).map_or(self.end, |(at, _)| *at), why)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let is_it = match self.peek() {
            Some(Token::Sign(own)) => *own == sign,
            Some(Token::Word(own)) => own == sign,
            _ => false,
        };
        self.next += usize::from(is_it);
        is_it
    }

    fn wants(&mut self, sign: &str) -> Result<(), Bad> {
        match self.takes(sign) {
            true => Ok(()),
            false => Err(self.bad(&format!("{sign} is expected"))),
        }
    }

    fn level(&mut self, level: usize) -> Result<Term, Bad> {
        let Some(operators) = LEVELS.get(level) else { return self.signed() };
        let mut left = self.level(level + 1)?;
        while let Some((_, operator)) = operators.iter().find(|(sign, _)| self.takes(sign)) {
            let right = self.level(level + 1)?;
            left = Term::Binary(*operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    /// A sign binds less than `^`, and that is read from the right.
    fn signed(&mut self) -> Result<Term, Bad> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.bad("the expression is nested too deeply"));
        }
        let term = if self.takes("-") {
            Term::Negative(Box::new(self.signed()?))
        } else {
            let base = self.single()?;
            match self.takes("^") {
                true => {
                    let power = self.signed()?;
                    Term::Binary(Binary::Power, Box::new(base), Box::new(power))
                }
                false => base,
            }
        };
        self.depth -= 1;
        Ok(term)
    }

    fn single(&mut self) -> Result<Term, Bad> {
        if self.takes("(") {
            let inner = self.level(0)?;
            self.wants(")")?;
            return Ok(inner);
        }
        if self.takes("[") {
            return Ok(Term::List(self.several("]")?));
        }
        let Some(token) = self.peek().cloned() else {
            return Err(self.bad("the expression ends here"));
        };
        let term = match token {
            Token::Number(value) => Term::Number(value),
            Token::Text(text) => Term::Text(text),
            Token::Word(word) if word.starts_with(|c: char| c.is_ascii_lowercase()) => {
                Term::Id(word)
            }
            Token::Word(word) => {
                self.next += 1;
                if !self.takes("(") {
                    return Ok(Term::Word(word));
                }
                let items = self.several(")")?;
                return if word == "SEARCH" {
                    self.search(&items)
                } else {
                    Ok(Term::Call(word, items))
                };
            }
            Token::Sign(_) => return Err(self.bad("a value is expected")),
        };
        self.next += 1;
        Ok(term)
    }

    fn search(&mut self, items: &[Term]) -> Result<Term, Bad> {
        let search = match items {
            [Term::Text(text), Term::Text(statistic)] => Search::read(text, statistic, None)?,
            [Term::Text(text), Term::Text(statistic), Term::Number(period)] => {
                Search::read(text, statistic, Some(*period))?
            }
            _ => {
                let why = "SEARCH takes a search and a statistic in quotes, and perhaps a period";
                return Err(Bad::new(why));
            }
        };
        self.searches.push(search);
        Ok(Term::Search(self.searches.len() - 1))
    }

    /// Values between commas, up to a sign.
    fn several(&mut self, end: &str) -> Result<Vec<Term>, Bad> {
        let mut all = Vec::new();
        if self.takes(end) {
            return Ok(all);
        }
        loop {
            all.push(self.level(0)?);
            if !self.takes(",") {
                self.wants(end)?;
                return Ok(all);
            }
        }
    }
}
