//! SORT and SLICE: the first few of several series, by what each comes to.
//!
//! Source: CloudWatch user guide, "Functions supported for metric math". **Invariant:** series that
//! come to nothing, because they are empty, are behind the others in either order.

use super::{Bad, Line, Scope, Term, Value, summary};

impl Scope<'_> {
    /// `SORT(several, AVG | MAX | MIN | SUM, ASC | DESC[, how many])`.
    pub(super) fn sort(&self, items: &[Term]) -> Result<Value, Bad> {
        let lines = self.several("SORT", &items[0])?;
        let function = match &items[1] {
            Term::Word(word) if ["AVG", "MAX", "MIN", "SUM"].contains(&word.as_str()) => word,
            _ => return Err(Bad::new("SORT sorts by AVG, MAX, MIN or SUM")),
        };
        let falls = match &items[2] {
            Term::Word(word) if word == "ASC" => false,
            Term::Word(word) if word == "DESC" => true,
            _ => return Err(Bad::new("SORT sorts ASC or DESC")),
        };
        let value = |line: &Line| match line.points.is_empty() {
            true => f64::NAN,
            false => summary(function, &line.values().collect::<Vec<_>>()),
        };
        let mut sorted: Vec<_> = lines.into_iter().map(|line| (value(&line), line)).collect();
        sorted.sort_by(|(a, _), (b, _)| {
            let order = a.total_cmp(b);
            a.is_nan().cmp(&b.is_nan()).then(if falls { order.reverse() } else { order })
        });
        if let Some(most) = items.get(3) {
            sorted.truncate(self.number("SORT", most)?);
        }
        Ok(Value::Lines(sorted.into_iter().map(|(_, line)| line).collect()))
    }

    /// `SLICE(several, first[, behind the last])`, counted from 0.
    pub(super) fn slice(&self, items: &[Term]) -> Result<Value, Bad> {
        let mut lines = self.several("SLICE", &items[0])?;
        if let Some(end) = items.get(2) {
            lines.truncate(self.number("SLICE", end)?);
        }
        let first = self.number("SLICE", &items[1])?.min(lines.len());
        Ok(Value::Lines(lines.split_off(first)))
    }

    fn several(&self, name: &str, term: &Term) -> Result<Vec<Line>, Bad> {
        match self.evaluate(term)? {
            Value::Lines(lines) => Ok(lines),
            _ => Err(Bad::new(format!("{name} takes a list of time series"))),
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
    fn number(&self, name: &str, term: &Term) -> Result<usize, Bad> {
        match self.evaluate(term)? {
            Value::Scalar(number) if number >= 0.0 => Ok(number as usize),
            _ => Err(Bad::new(format!("{name} counts with numbers that are not negative"))),
        }
    }
}
