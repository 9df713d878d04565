//! Dates in queries: a closed grammar, parsed once and turned into a stretch of time when the query runs.

use jiff::civil::{self, Date};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, ZonedDateTime};
use regex::Regex;
use std::sync::LazyLock;
use time::OffsetDateTime;

/// The largest amount in `5 minutes ago`. Each unit is limited to about 2,000 years.
const AMOUNT_MAX: i64 = 1_000_000_000;
/// The last year of a date.
const YEAR_MAX: i16 = 9_000;

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

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The first moment.
    pub from: OffsetDateTime,
    /// The first moment after it.
    pub until: OffsetDateTime,
}

/// A date as written. Its time depends on the current time and the time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DateExpr(Form);

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
pub const DATE_HINT: &str = "write a date as '2026-11-23', '2026-11-23 10:00', '2026-11-23T10:00:00Z', 'now', 'today', 'yesterday', 'tomorrow', '2 days ago', 'in 3 hours', 'beginning of last month' or 'end of this week'";

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
            _ => calendar(&text)?,
        };
        Ok(Self(form))
    }

    /// Returns the stretch of time of the date.
    pub fn stretch(&self, now: OffsetDateTime, zone: &Zone) -> Stretch {
        self.try_stretch(now, zone).unwrap_or(Stretch { from: now, until: now })
    }

    /// `None` only for years that the limits exclude.
    fn try_stretch(&self, now: OffsetDateTime, Zone(zone): &Zone) -> Option<Stretch> {
        let micros = i64::try_from(now.unix_timestamp_nanos() / 1_000).ok()?;
        let now = Timestamp::from_microsecond(micros).ok()?.to_zoned_datetime(zone.clone());
        match &self.0 {
            Form::Now => Some(moment(now.timestamp())),
            Form::Day(days) => {
                day(now.date().checked_add(jiff::Span::new().try_days(*days).ok()?).ok()?, zone)
            }
            Form::Shift(amount, unit) => Some(moment(shifted(&now, *amount, *unit)?.timestamp())),
            Form::Edge { is_end, which, unit } => {
                let begin = shifted(&beginning(&now, *unit)?, *which, *unit)?;
                let begin = beginning(&begin, *unit)?;
                if !is_end {
                    return Some(moment(begin.timestamp()));
                }
                let next = beginning(&shifted(&begin, 1, *unit)?, *unit)?.timestamp();
                Some(moment(next.checked_sub(SignedDuration::from_micros(1)).ok()?))
            }
            Form::Calendar { at, precision, offset } => {
                if *precision == Precision::Day {
                    return day(at.date(), zone);
                }
                let from = match offset {
                    Some(seconds) => Offset::from_seconds(*seconds).ok()?.to_timestamp(*at).ok()?,
                    None => zone.to_timestamp(*at).ok()?,
                };
                Some(stretch(from, from.checked_add(precision.length()).ok()?))
            }
        }
    }
}

impl Precision {
    fn length(self) -> SignedDuration {
        match self {
            Self::Day => SignedDuration::from_hours(24),
            Self::Minute => SignedDuration::from_secs(60),
            Self::Second => SignedDuration::from_secs(1),
            Self::Moment => SignedDuration::from_micros(1),
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
    let nanos = part(7).and_then(|digits| format!("{digits:0<9}").parse().ok()).unwrap_or(0);
    let time = civil::Time::new(small(4).unwrap_or(0), small(5).unwrap_or(0), small(6).unwrap_or(0), nanos)
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

fn day(date: Date, zone: &TimeZone) -> Option<Stretch> {
    let begin = |date: Date| date.to_zoned_datetime(zone.clone()).ok()?.start_of_day().ok();
    Some(stretch(begin(date)?.timestamp(), begin(date.tomorrow().ok()?)?.timestamp()))
}

fn moment(at: Timestamp) -> Stretch {
    let until = at.checked_add(SignedDuration::from_micros(1)).unwrap_or(at);
    stretch(at, until)
}

fn stretch(from: Timestamp, until: Timestamp) -> Stretch {
    let time = |at: Timestamp| {
        // Rounded down to what the database keeps; every timestamp of jiff is a time of `time`.
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.as_microsecond()) * 1_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    };
    Stretch { from: time(from), until: time(until) }
}
