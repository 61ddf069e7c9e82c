//! Schedules: `at(…)`, `rate(…)` and `cron(…)`, and when they come next. Pure.
//!
//! Source: Application Auto Scaling's page on cron and rate expressions. Not here: `L`, `W` and
//! `#`. **Invariant:** a time that a clock change leaves out comes as much later as the clock
//! jumps, one that comes twice comes once.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan as _};

use crate::clock::Timestamp;

/// The last year of a cron expression.
const LAST_YEAR: i16 = 2199;
const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A text that names no schedule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    #[error("schedule {0:?} is no at(yyyy-mm-ddThh:mm:ss), rate(value unit) or cron(fields)")]
    Form(String),
    #[error("{0:?} is no value of a schedule's {1}")]
    Value(String, &'static str),
    #[error("timezone {0:?} is unknown")]
    Timezone(String),
}

#[derive(Clone, Debug)]
pub struct Schedule {
    kind: Kind,
    zone: TimeZone,
}

#[derive(Clone, Debug)]
enum Kind {
    At(DateTime),
    Rate(Duration),
    Cron(Box<Cron>),
}

#[derive(Clone, Debug)]
struct Cron {
    minutes: BTreeSet<i16>,
    hours: BTreeSet<i16>,
    /// None: the other one of these two counts.
    days: Option<BTreeSet<i16>>,
    months: BTreeSet<i16>,
    /// 1: Sunday.
    weekdays: Option<BTreeSet<i16>>,
    years: BTreeSet<i16>,
}

impl Schedule {
    /// # Errors
    /// The text is no schedule, or the zone has no such name.
    pub fn parse(text: &str, timezone: Option<&str>) -> Result<Self, BadSchedule> {
        let name = timezone.unwrap_or("UTC");
        let zone = TimeZone::get(name).map_err(|_| BadSchedule::Timezone(name.to_owned()))?;
        let form = || BadSchedule::Form(text.to_owned());
        let (kind, inner) = text.trim().split_once('(').ok_or_else(form)?;
        let inner = inner.strip_suffix(')').ok_or_else(form)?;
        let kind = match kind {
            "at" => Kind::At(inner.parse().map_err(|_| form())?),
            "rate" => Kind::Rate(rate(inner).ok_or_else(form)?),
            "cron" => Kind::Cron(Box::new(Cron::parse(inner, form)?)),
            _ => return Err(form()),
        };
        Ok(Self { kind, zone })
    }

    /// The first time behind `after`; `base` is where a rate begins. None: there is none any more.
    #[must_use]
    pub fn next(&self, after: Timestamp, base: Timestamp) -> Option<Timestamp> {
        match &self.kind {
            Kind::At(at) => self.stamp(*at).filter(|at| *at > after),
            Kind::Rate(every) => {
                let every = u64::try_from(every.as_micros()).ok()?;
                let passed = after.0.checked_sub(base.0).map_or(0, |passed| passed / every + 1);
                Some(Timestamp(base.0 + passed.max(1) * every))
            }
            Kind::Cron(cron) => {
                let micros = i64::try_from(after.0).ok()?;
                let instant = jiff::Timestamp::from_microsecond(micros).ok()?;
                let local = instant.to_zoned(self.zone.clone()).datetime();
                // The hour before: what a clock set back repeats is found and left out below.
                let mut from = local.checked_sub(Span::new().hours(2)).ok()?;
                loop {
                    let found = cron.next(from)?;
                    match self.stamp(found) {
                        Some(at) if at > after => return Some(at),
                        _ => from = found,
                    }
                }
            }
        }
    }

    fn stamp(&self, at: DateTime) -> Option<Timestamp> {
        let instant = self.zone.to_ambiguous_timestamp(at).compatible().ok()?;
        u64::try_from(instant.as_microsecond()).ok().map(Timestamp)
    }
}

/// `5 minutes`
fn rate(text: &str) -> Option<Duration> {
    let (value, unit) = text.trim().split_once(' ')?;
    let value: u32 = value.parse().ok().filter(|value| *value > 0)?;
    let seconds = match unit.trim() {
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3600,
        "day" | "days" => 24 * 3600,
        _ => return None,
    };
    Some(Duration::from_secs(u64::from(value) * seconds))
}

impl Cron {
    fn parse(text: &str, form: impl Fn() -> BadSchedule) -> Result<Self, BadSchedule> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays, years] = fields[..] else {
            return Err(form());
        };
        if (days == "?") == (weekdays == "?") && days != "*" && weekdays != "*" {
            return Err(form());
        }
        let set = |text, what, first, last, names| field(text, what, first, last, names);
        let day = |text, what, first, last, names| match text {
            "?" => Ok(None),
            text => field(text, what, first, last, names).map(Some),
        };
        Ok(Self {
            minutes: set(minutes, "minutes", 0, 59, &[])?,
            hours: set(hours, "hours", 0, 23, &[])?,
            days: day(days, "day of month", 1, 31, &[])?,
            months: set(months, "month", 1, 12, &MONTHS)?,
            weekdays: day(weekdays, "day of week", 1, 7, &DAYS)?,
            years: set(years, "year", 1970, LAST_YEAR, &[])?,
        })
    }

    /// The first time behind `after` on the wall.
    fn next(&self, after: DateTime) -> Option<DateTime> {
        let mut date = after.date();
        let mut least = after.time();
        let mut fresh = false;
        loop {
            if !self.years.contains(&date.year()) {
                let year = *self.years.range(date.year() + 1..).next()?;
                date = Date::new(year, 1, 1).ok()?;
                fresh = true;
            }
            if self.is_day(date) {
                for hour in &self.hours {
                    for minute in &self.minutes {
                        let (hour, minute) =
                            (i8::try_from(*hour).ok()?, i8::try_from(*minute).ok()?);
                        let time = jiff::civil::time(hour, minute, 0, 0);
                        if fresh || time > least {
                            return Some(date.to_datetime(time));
                        }
                    }
                }
            }
            date = date.checked_add(1.day()).ok()?;
            (fresh, least) = (true, jiff::civil::time(0, 0, 0, 0));
        }
    }

    fn is_day(&self, date: Date) -> bool {
        let weekday = i16::from(date.weekday().to_sunday_one_offset());
        self.months.contains(&i16::from(date.month()))
            && self.days.as_ref().is_none_or(|days| days.contains(&i16::from(date.day())))
            && self.weekdays.as_ref().is_none_or(|days| days.contains(&weekday))
    }
}

/// `*`, `1,3`, `1-5`, `*/15`, `0/15`, `MON-FRI`
fn field(
    text: &str,
    what: &'static str,
    first: i16,
    last: i16,
    names: &[&str],
) -> Result<BTreeSet<i16>, BadSchedule> {
    let bad = || BadSchedule::Value(text.to_owned(), what);
    let value = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = match named.map(|at| i16::try_from(at).unwrap_or(0) + 1) {
            Some(named) => Some(named),
            None => text.parse().ok(),
        };
        value.filter(|value| (first..=last).contains(value)).ok_or_else(bad)
    };
    let mut set = BTreeSet::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse().map_err(|_| bad())?)),
            None => (part, None),
        };
        let step: usize = step.unwrap_or(1);
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (value(from)?, value(to)?),
            None if range == "*" => (first, last),
            None if part.contains('/') => (value(range)?, last),
            None => (value(range)?, value(range)?),
        };
        if step == 0 || from > to {
            return Err(bad());
        }
        set.extend((from..=to).step_by(step));
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(text: &str) -> Timestamp {
        let at: jiff::Timestamp = text.parse().unwrap();
        Timestamp(u64::try_from(at.as_microsecond()).unwrap())
    }

    /// The next two times behind `after`.
    fn check(schedule: &str, zone: Option<&str>, after: &str, expected: &str) {
        let schedule = Schedule::parse(schedule, zone).unwrap();
        let base = stamp("2026-01-01T00:00:00Z");
        let first = schedule.next(stamp(after), base);
        let second = first.and_then(|first| schedule.next(first, base));
        let shown = [first, second].map(|at| {
            at.map_or_else(|| "-".to_owned(), |at| at.to_string().replace(":00.000000Z", ""))
        });
        assert_eq!(shown.join(" "), expected, "{schedule:?} after {after}");
    }

    #[test]
    fn cron_expressions_name_minutes() {
        let after = "2026-11-20T08:10:30Z";
        check("cron(*/30 * * * ? *)", None, after, "2026-11-20T08:30 2026-11-20T09:00");
        check("cron(0 6 * * ? *)", None, after, "2026-11-21T06:00 2026-11-22T06:00");
        check("cron(15 10 ? * MON-FRI *)", None, after, "2026-11-20T10:15 2026-11-23T10:15");
        check("cron(0 18 ? * 2-6 *)", None, after, "2026-11-20T18:00 2026-11-23T18:00");
        check("cron(0 8 1 * ? *)", None, after, "2026-12-01T08:00 2027-01-01T08:00");
        check("cron(0 0 31 12 ? 2027,2029)", None, after, "2027-12-31T00:00 2029-12-31T00:00");
        check("cron(0 0 29 2 ? *)", None, after, "2028-02-29T00:00 2032-02-29T00:00");
        check("cron(5,10 8/12 * * ? *)", None, after, "2026-11-20T20:05 2026-11-20T20:10");
        check(
            "cron(10 8 * * ? *)",
            None,
            "2026-11-20T08:10:00Z",
            "2026-11-21T08:10 2026-11-22T08:10",
        );
        check("cron(0 0 1 1 ? 2025)", None, after, "- -");
        check("cron(0 0 31 2 ? *)", None, after, "- -");
    }

    #[test]
    fn times_are_of_their_zone() {
        let berlin = Some("Europe/Berlin");
        let summer = "2026-07-01T00:00:00Z";
        check("cron(0 9 * * ? *)", berlin, summer, "2026-07-01T07:00 2026-07-02T07:00");
        let winter = "2026-12-01T00:00:00Z";
        check("cron(0 9 * * ? *)", berlin, winter, "2026-12-01T08:00 2026-12-02T08:00");
        check("at(2026-07-01T09:00:00)", berlin, summer, "2026-07-01T07:00 -");
        check("at(2026-07-01T09:00:00)", None, summer, "2026-07-01T09:00 -");
        check("at(2026-06-01T09:00:00)", None, summer, "- -");
        // 02:30 is left out on 29 March, and comes twice on 25 October.
        let march = "2026-03-28T12:00:00Z";
        check("cron(30 2 * * ? *)", berlin, march, "2026-03-29T01:30 2026-03-30T00:30");
        let october = "2026-10-24T12:00:00Z";
        check("cron(30 2 * * ? *)", berlin, october, "2026-10-25T00:30 2026-10-26T01:30");
        check(
            "cron(30 2 * * ? *)",
            berlin,
            "2026-10-25T00:30:00Z",
            "2026-10-26T01:30 2026-10-27T01:30",
        );
    }

    #[test]
    fn rates_count_from_their_beginning() {
        check("rate(5 minutes)", None, "2026-01-01T00:00:00Z", "2026-01-01T00:05 2026-01-01T00:10");
        check("rate(1 hour)", None, "2026-01-01T05:30:00Z", "2026-01-01T06:00 2026-01-01T07:00");
        check("rate(2 days)", None, "2025-12-01T00:00:00Z", "2026-01-03T00:00 2026-01-05T00:00");
    }

    #[test]
    fn what_is_no_schedule_is_refused_by_name() {
        let check = |text: &str, zone: Option<&str>, expected: &str| {
            let error = Schedule::parse(text, zone).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("every day", None, "is no at(");
        check("cron(0 0 * *)", None, "is no at(");
        check("cron(0 0 ? * ? *)", None, "is no at(");
        check("cron(0 0 1 * MON *)", None, "is no at(");
        check("cron(60 0 * * ? *)", None, "\"60\" is no value of a schedule's minutes");
        check("cron(0 0 L * ? *)", None, "\"L\" is no value of a schedule's day of month");
        check("cron(0 0 ? * FRI-MON *)", None, "day of week");
        check("cron(0/0 0 * * ? *)", None, "minutes");
        check("rate(0 minutes)", None, "is no at(");
        check("rate(5 weeks)", None, "is no at(");
        check("at(tomorrow)", None, "is no at(");
        check("rate(1 hour)", Some("Europe/Atlantis"), "timezone \"Europe/Atlantis\"");
    }
}
