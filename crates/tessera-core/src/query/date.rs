//! Dates in queries: a closed grammar, parsed once and turned into a stretch of time when the query runs.

use super::ast::Order;
use jiff::civil::{self, Date};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, ZonedDateTime};
use regex::Regex;
use std::sync::LazyLock;
use time::OffsetDateTime;

/// The largest amount in `5 minutes ago`. Each unit is limited to about 2,000 years.
const AMOUNT_MAX: i64 = 1_000_000_000;
/// The last year of a date.
const YEAR_MAX: i16 = 9_000;
/// The precision of the times in the database.
const TICK: SignedDuration = SignedDuration::from_micros(1);

/// A time zone, which determines when days begin.
#[derive(Debug, Clone, PartialEq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Returns UTC.
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// Returns the zone with a name from the IANA database, such as `Europe/Berlin`, ignoring case.
    pub fn parse(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    /// Returns the name from the IANA database.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }
}

/// A stretch of time that can be open at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first moment.
    pub from: Option<OffsetDateTime>,
    /// The first moment after it.
    pub until: Option<OffsetDateTime>,
}

impl Range {
    /// Returns true if a moment lies in it.
    pub fn contains(&self, at: OffsetDateTime) -> bool {
        self.from.is_none_or(|from| from <= at) && self.until.is_none_or(|until| at < until)
    }
}

/// A boundary in time: every moment is before it or since it.
///
/// The boundary of a local time follows the clock. When clocks go back past it, the clock shows less than it once more, so the
/// moments before it are two ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bound {
    at: OffsetDateTime,
    /// The moment at which clocks go back past it, and the moment at which they show it again.
    again: Option<(OffsetDateTime, OffsetDateTime)>,
}

impl Bound {
    fn once(at: Timestamp) -> Self {
        Self { at: time(at), again: None }
    }

    fn before(self) -> Vec<Range> {
        let first = Range { from: None, until: Some(self.at) };
        let again = self.again.map(|(turn, at)| Range { from: Some(turn), until: Some(at) });
        [first].into_iter().chain(again).collect()
    }

    fn since(self) -> Vec<Range> {
        let last = |from| Range { from: Some(from), until: None };
        match self.again {
            Some((turn, at)) => vec![Range { from: Some(self.at), until: Some(turn) }, last(at)],
            None => vec![last(self.at)],
        }
    }
}

/// The moments that are in one of these and in one of those.
fn both(these: &[Range], those: &[Range]) -> Vec<Range> {
    let meet = |(one, other): (&Range, &Range)| Range {
        from: one.from.max(other.from),
        until: one.until.into_iter().chain(other.until).min(),
    };
    let pairs = these.iter().flat_map(|one| those.iter().map(move |other| (one, other)));
    let is_empty = |range: &Range| range.from.zip(range.until).is_some_and(|(from, until)| from >= until);
    pairs.map(meet).filter(|range| !is_empty(range)).collect()
}

/// A date as written. Its time depends on the current time and the time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DateExpr {
    form: Form,
    /// `day of …`: the whole day of the form's moment.
    is_day_of: bool,
}

/// The boundaries at the beginning and at the end of a date.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    from: Bound,
    until: Bound,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// A day, a minute, a second or a moment of the calendar.
    Calendar { at: civil::DateTime, precision: Precision, offset: Option<i32> },
    /// `now`
    Now,
    /// `today`, `yesterday` and `tomorrow`, in days from today.
    Day(i64),
    /// `2 days ago`, `in 3 hours`: a signed amount.
    Shift(i64, Unit),
    /// `beginning of last month`, `end of this week`; `which` counts from the current unit.
    Edge { is_end: bool, which: i64, unit: Unit },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precision {
    Day,
    Minute,
    Second,
    Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

/// The hint for an invalid date.
pub const DATE_HINT: &str = "write a date as '2026-11-23', '2026-11-23 10:00', '2026-11-23T10:00:00Z', 'now', 'today', 'yesterday', 'tomorrow', '2 days ago', 'in 3 hours', 'day of 2 days ago', 'beginning of last month' or 'end of this week'";

#[expect(clippy::expect_used, reason = "a constant pattern, compiled by every test of dates")]
static ISO: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)^([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[t ]+([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?\s*(z|[+-][0-9]{2}:?[0-9]{2})?)?$",
    )
    .expect("the pattern of dates")
});

impl DateExpr {
    /// Parses a date.
    ///
    /// # Errors
    /// The reason, as a sentence without its subject.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim().to_lowercase();
        let day = text.strip_prefix("day of ").map(str::trim_start);
        let (is_day_of, text) = (day.is_some(), day.unwrap_or(&text));
        let words: Vec<&str> = text.split_whitespace().collect();
        let form = match words.as_slice() {
            ["now"] => Form::Now,
            ["today"] => Form::Day(0),
            ["yesterday"] => Form::Day(-1),
            ["tomorrow"] => Form::Day(1),
            [amount, unit, "ago"] => shift(amount, unit, -1)?,
            ["in", amount, unit] => shift(amount, unit, 1)?,
            [edge @ ("beginning" | "start" | "end"), "of", unit] => edge_of(edge, "this", unit)?,
            [edge @ ("beginning" | "start" | "end"), "of", which, unit] => edge_of(edge, which, unit)?,
            _ => calendar(text)?,
        };
        Ok(Self { form, is_day_of })
    }

    /// The moments within the date.
    pub fn within(&self, now: OffsetDateTime, zone: &Zone) -> Vec<Range> {
        Self::between(self, self, now, zone)
    }

    /// The moments from the beginning of one date to the end of another.
    pub fn between(low: &Self, high: &Self, now: OffsetDateTime, zone: &Zone) -> Vec<Range> {
        both(&low.stretch(now, zone).from.since(), &high.stretch(now, zone).until.before())
    }

    /// The moments before its beginning (`<`), up to its end (`<=`), after its end (`>`), or from its beginning (`>=`).
    pub fn in_order(&self, order: Order, now: OffsetDateTime, zone: &Zone) -> Vec<Range> {
        let Stretch { from, until } = self.stretch(now, zone);
        match order {
            Order::Less => from.before(),
            Order::AtMost => until.before(),
            Order::More => until.since(),
            Order::AtLeast => from.since(),
        }
    }

    fn stretch(&self, now: OffsetDateTime, Zone(zone): &Zone) -> Stretch {
        let at = Bound { at: now, again: None };
        self.try_stretch(now, zone).unwrap_or(Stretch { from: at, until: at })
    }

    /// `None` only for years that the limits exclude.
    fn try_stretch(&self, now: OffsetDateTime, zone: &TimeZone) -> Option<Stretch> {
        let micros = i64::try_from(now.unix_timestamp_nanos() / 1_000).ok()?;
        let now = Timestamp::from_microsecond(micros).ok()?.to_zoned_datetime(zone.clone());
        let days = |days: i64| now.date().checked_add(jiff::Span::new().try_days(days).ok()?).ok();
        let at = match &self.form {
            Form::Day(away) => {
                return local(days(*away)?.to_datetime(civil::Time::midnight()), Precision::Day, zone);
            }
            Form::Calendar { at, precision, offset: None } => {
                let precision = if self.is_day_of { Precision::Day } else { *precision };
                return local(*at, precision, zone);
            }
            Form::Calendar { at, precision, offset: Some(seconds) } => {
                let from = Offset::from_seconds(*seconds).ok()?.to_timestamp(*at).ok()?;
                if !self.is_day_of {
                    let until = from.checked_add(precision.length()).ok()?;
                    return Some(Stretch { from: Bound::once(from), until: Bound::once(until) });
                }
                from
            }
            Form::Now => now.timestamp(),
            Form::Shift(amount, unit) => shifted(&now, *amount, *unit)?.timestamp(),
            Form::Edge { is_end, which, unit } => {
                let begin = shifted(&beginning(&now, *unit)?, *which, *unit)?;
                let begin = beginning(&begin, *unit)?;
                if *is_end {
                    let next = beginning(&shifted(&begin, 1, *unit)?, *unit)?.timestamp();
                    next.checked_sub(TICK).ok()?
                } else {
                    begin.timestamp()
                }
            }
        };
        if self.is_day_of {
            return local(zone.to_datetime(at), Precision::Day, zone);
        }
        Some(Stretch { from: Bound::once(at), until: Bound::once(at.checked_add(TICK).ok()?) })
    }

    /// The second at which RT compares with a date by `<` and `>`, if that differs from this date: a day without a time is its
    /// midnight, and `yesterday` is now, a day ago. RT: `RT::Date`, `Time::ParseDate`.
    pub(super) fn rt_second(&self) -> Option<String> {
        match (&self.form, self.is_day_of) {
            (Form::Day(0), false) => Some("now".to_owned()),
            (Form::Day(-1), false) => Some("1 day ago".to_owned()),
            (Form::Day(1), false) => Some("in 1 day".to_owned()),
            (Form::Calendar { at, precision: Precision::Day | Precision::Minute, offset }, false) => {
                let offset = offset.map(written_offset).unwrap_or_default();
                Some(format!("{}{offset}", at.strftime("%Y-%m-%d %H:%M:%S")))
            }
            _ => None,
        }
    }

    /// Returns true if the date is a whole day, as RT reads every date after `=`.
    pub(super) fn is_day(&self) -> bool {
        let is_day = matches!(self.form, Form::Day(_) | Form::Calendar { precision: Precision::Day, .. });
        is_day || self.is_day_of
    }
}

impl Precision {
    fn length(self) -> SignedDuration {
        match self {
            Self::Day => SignedDuration::from_hours(24),
            Self::Minute => SignedDuration::from_secs(60),
            Self::Second => SignedDuration::from_secs(1),
            Self::Moment => TICK,
        }
    }
}

impl Unit {
    fn parse(word: &str) -> Result<Self, String> {
        Ok(match word.strip_suffix('s').unwrap_or(word) {
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "year" => Self::Year,
            other => {
                return Err(format!(
                    "has the unknown unit \"{other}\"; the units are minute, hour, day, week, month and year"
                ));
            }
        })
    }
}

fn shift(amount: &str, unit: &str, sign: i64) -> Result<Form, String> {
    let unit = Unit::parse(unit)?;
    let amount = match amount {
        "a" | "an" | "one" => 1,
        digits => {
            digits.parse().map_err(|_| format!("has the amount \"{digits}\", which is not a whole number"))?
        }
    };
    let most = match unit {
        Unit::Minute => AMOUNT_MAX,
        Unit::Hour => AMOUNT_MAX / 60,
        Unit::Day | Unit::Week => AMOUNT_MAX / 10_000,
        Unit::Month => 24_000,
        Unit::Year => 2_000,
    };
    if (0..=most).contains(&amount) {
        return Ok(Form::Shift(sign * amount, unit));
    }
    Err(format!("is out of range; the amount must be 0 to {most}"))
}

fn edge_of(edge: &str, which: &str, unit: &str) -> Result<Form, String> {
    let (which, unit) = match (which, unit) {
        ("this", "today") => (0, "day"),
        ("this", "yesterday") => (-1, "day"),
        ("this", "tomorrow") => (1, "day"),
        ("this" | "the", unit) => (0, unit),
        ("last" | "previous", unit) => (-1, unit),
        ("next", unit) => (1, unit),
        (other, _) => return Err(format!("has the unknown word \"{other}\"; use this, last or next")),
    };
    Ok(Form::Edge { is_end: edge == "end", which, unit: Unit::parse(unit)? })
}

fn calendar(text: &str) -> Result<Form, String> {
    let Some(found) = ISO.captures(text) else { return Err("is not a date".to_owned()) };
    let part = |at: usize| found.get(at).map(|part| part.as_str());
    let number = |at: usize| part(at).and_then(|digits| digits.parse::<i16>().ok());
    let small = |at: usize| number(at).and_then(|number| i8::try_from(number).ok());
    let year = number(1).filter(|year| (1..=YEAR_MAX).contains(year));
    let date = || Date::new(year?, small(2)?, small(3)?).ok();
    let date = date().ok_or_else(|| format!("is not a day in the years 1 to {YEAR_MAX}"))?;
    // Rounded down to what the database keeps.
    let micros: i32 = part(7).and_then(|digits| format!("{digits:0<6.6}").parse().ok()).unwrap_or(0);
    let time =
        civil::Time::new(small(4).unwrap_or(0), small(5).unwrap_or(0), small(6).unwrap_or(0), micros * 1_000)
            .map_err(|_| "has an invalid time of day".to_owned())?;
    let precision = match (part(4), part(6), part(7)) {
        (None, _, _) => Precision::Day,
        (_, None, _) => Precision::Minute,
        (_, _, None) => Precision::Second,
        _ => Precision::Moment,
    };
    let offset = part(8).map(offset).transpose()?;
    Ok(Form::Calendar { at: date.to_datetime(time), precision, offset })
}

/// Seconds east of UTC.
fn offset(text: &str) -> Result<i32, String> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let (hours, minutes) = digits.split_at_checked(2).unwrap_or(("0", "0"));
    let (hours, minutes): (i32, i32) = (hours.parse().unwrap_or(0), minutes.parse().unwrap_or(0));
    if hours > 18 || minutes > 59 {
        return Err(format!("has the offset {text}; offsets range from -18:00 to +18:00"));
    }
    let seconds = hours * 3_600 + minutes * 60;
    Ok(if text.starts_with('-') { -seconds } else { seconds })
}

fn beginning(at: &ZonedDateTime, unit: Unit) -> Option<ZonedDateTime> {
    let day = match unit {
        Unit::Minute | Unit::Hour => {
            let round = jiff::ZonedDateTimeRound::new().mode(jiff::RoundMode::Trunc);
            let smallest = if unit == Unit::Hour { jiff::Unit::Hour } else { jiff::Unit::Minute };
            return at.round(round.smallest(smallest)).ok();
        }
        Unit::Day => at.date(),
        // Weeks begin on Monday.
        Unit::Week => {
            let past = i64::from(at.date().weekday().to_monday_zero_offset());
            at.date().checked_sub(jiff::Span::new().try_days(past).ok()?).ok()?
        }
        Unit::Month => at.date().first_of_month(),
        Unit::Year => at.date().first_of_year(),
    };
    day.to_zoned_datetime(at.time_zone().clone()).ok()?.start_of_day().ok()
}

/// Shifts by the calendar of the zone: a month later is the same day of the next month, or its last day.
fn shifted(at: &ZonedDateTime, amount: i64, unit: Unit) -> Option<ZonedDateTime> {
    let span = jiff::Span::new();
    let span = match unit {
        Unit::Minute => span.try_minutes(amount),
        Unit::Hour => span.try_hours(amount),
        Unit::Day => span.try_days(amount),
        Unit::Week => span.try_weeks(amount),
        Unit::Month => span.try_months(amount),
        Unit::Year => span.try_years(amount),
    };
    at.checked_add(span.ok()?).ok()
}

/// A stretch of local time that begins at `at`, rounded down to the precision.
fn local(at: civil::DateTime, precision: Precision, zone: &TimeZone) -> Option<Stretch> {
    let at = if precision == Precision::Day { at.date().to_datetime(civil::Time::midnight()) } else { at };
    let until = at.checked_add(precision.length()).ok()?;
    Some(Stretch { from: bound(at, zone)?, until: bound(until, zone)? })
}

/// The boundary at which the clock of a zone shows a time.
fn bound(at: civil::DateTime, zone: &TimeZone) -> Option<Bound> {
    let with = |offset: Offset| offset.to_timestamp(at).ok();
    // The last change of the clock up to a moment.
    let turn = |at: Timestamp| Some(zone.preceding(at.checked_add(TICK).ok()?).next()?.timestamp());
    Some(match zone.to_ambiguous_timestamp(at).offset() {
        AmbiguousOffset::Unambiguous { offset } => Bound::once(with(offset)?),
        // The clock jumps over it.
        AmbiguousOffset::Gap { before, .. } => Bound::once(turn(with(before)?)?),
        AmbiguousOffset::Fold { before, after } => {
            let again = with(after)?;
            Bound { again: Some((time(turn(again)?), time(again))), ..Bound::once(with(before)?) }
        }
    })
}

fn time(at: Timestamp) -> OffsetDateTime {
    // Every timestamp of jiff is a time of `time`.
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.as_microsecond()) * 1_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn written_offset(seconds: i32) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.abs() / 60;
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests;
