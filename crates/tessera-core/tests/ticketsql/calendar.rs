//! A second calendar that shares no code with the first: three time zones and the few forms of dates.

use time::format_description::well_known::Iso8601;
use time::{Date, Duration, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset, Weekday};

/// A date: its beginning, and its end.
pub enum Stretch {
    /// In time.
    Time(OffsetDateTime, OffsetDateTime),
    /// On the clock of the zone.
    Clock(PrimitiveDateTime, PrimitiveDateTime),
}

impl Stretch {
    /// Whether a moment is before the beginning, and whether it is before the end.
    pub fn is_before(&self, own: OffsetDateTime, zone: &str) -> (bool, bool) {
        match self {
            Self::Time(from, until) => (own < *from, own < *until),
            Self::Clock(from, until) => (local(own, zone) < *from, local(own, zone) < *until),
        }
    }

    /// The day of its beginning.
    pub fn date(&self, zone: &str) -> Date {
        match self {
            Self::Time(from, _) => local(*from, zone).date(),
            Self::Clock(from, _) => from.date(),
        }
    }
}

const MICROSECOND: Duration = Duration::MICROSECOND;

/// The date with which RT compares by < and >.
pub fn rt_second(text: &str, now: OffsetDateTime, zone: &str) -> Stretch {
    match text.trim().to_lowercase().as_str() {
        "today" => stretch("now", now, zone),
        "yesterday" => stretch("1 day ago", now, zone),
        "tomorrow" => stretch("in 1 day", now, zone),
        text if !text.starts_with(|c: char| c.is_ascii_digit()) || text.contains("ago") => {
            stretch(text, now, zone)
        }
        text => match stretch(text, now, zone) {
            Stretch::Time(from, until) if until - from > Duration::SECOND => {
                Stretch::Time(from, from + Duration::SECOND)
            }
            Stretch::Clock(from, until) if until - from > Duration::SECOND => {
                Stretch::Clock(from, from + Duration::SECOND)
            }
            other => other,
        },
    }
}

/// The stretch of time of a date in a zone.
pub fn stretch(text: &str, now: OffsetDateTime, zone: &str) -> Stretch {
    let text = text.trim().to_lowercase();
    if let Some(inner) = text.strip_prefix("day of ") {
        return day(stretch(inner, now, zone).date(zone));
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let moment = |at: OffsetDateTime| Stretch::Time(at, at + MICROSECOND);
    let today = local(now, zone).date();
    match words.as_slice() {
        ["now"] => moment(now),
        ["today"] => day(today),
        ["yesterday"] => day(today - Duration::DAY),
        ["tomorrow"] => day(today + Duration::DAY),
        [amount, unit, "ago"] => moment(shifted(now, -amount_of(amount), unit, zone)),
        ["in", amount, unit] => moment(shifted(now, amount_of(amount), unit, zone)),
        [edge, "of", rest @ ..] => {
            let (which, unit) = match rest {
                ["today"] => (0, "day"),
                ["yesterday"] => (-1, "day"),
                ["tomorrow"] => (1, "day"),
                [unit] | ["this" | "the", unit] => (0, *unit),
                ["last" | "previous", unit] => (-1, *unit),
                ["next", unit] => (1, *unit),
                other => panic!("{other:?}"),
            };
            match *edge {
                "end" => moment(begin(now, which + 1, unit, zone) - MICROSECOND),
                _ => moment(begin(now, which, unit, zone)),
            }
        }
        _ => written(&text),
    }
}

fn amount_of(word: &str) -> i64 {
    if ["a", "an", "one"].contains(&word) { 1 } else { word.parse().unwrap() }
}

/// A date of the calendar: a day, a minute, a second or a fraction of one.
fn written(text: &str) -> Stretch {
    let text = text.to_uppercase().replace(',', ".");
    if text.len() == 10 {
        return day(Date::parse(&text, &Iso8601::DATE).unwrap());
    }
    let (date, rest) = text.split_at(10);
    let rest = rest.trim_start_matches(['T', ' ']);
    let end = rest.find(['Z', '+', '-', ' ']).unwrap_or(rest.len());
    let (clock, place) = (rest[..end].trim(), rest[end..].trim());
    let time = Time::parse(clock, &Iso8601::TIME).unwrap();
    let at = PrimitiveDateTime::new(Date::parse(date, &Iso8601::DATE).unwrap(), time);
    let length = match clock.len() {
        5 => Duration::MINUTE,
        8 => Duration::SECOND,
        _ => MICROSECOND,
    };
    let from = match place {
        "" => {
            let from = at - Duration::nanoseconds(i64::from(at.nanosecond() % 1_000));
            return Stretch::Clock(from, from + length);
        }
        "Z" => at.assume_utc(),
        place => {
            let digits: Vec<i8> = place[1..]
                .replace(':', "")
                .as_bytes()
                .chunks(2)
                .map(|two| std::str::from_utf8(two).unwrap().parse().unwrap())
                .collect();
            let sign = if place.starts_with('-') { -1 } else { 1 };
            at.assume_offset(UtcOffset::from_hms(sign * digits[0], sign * digits[1], 0).unwrap())
        }
    };
    let from = from - Duration::nanoseconds(i64::from(from.nanosecond() % 1_000));
    Stretch::Time(from, from + length)
}

fn day(date: Date) -> Stretch {
    Stretch::Clock(date.midnight(), (date + Duration::DAY).midnight())
}

/// The beginning of a unit of time, `which` units after the current one.
fn begin(now: OffsetDateTime, which: i64, unit: &str, zone: &str) -> OffsetDateTime {
    let here = local(now, zone);
    let date = match unit.trim_end_matches('s') {
        "minute" | "hour" => {
            let seconds = if unit.starts_with("hour") { 3_600 } else { 60 };
            // All offsets here are multiples of 30 minutes, so an hour begins when the local clock shows minute 0.
            let past = Duration::seconds(
                i64::from(here.minute()) * 60 * i64::from(seconds == 3_600) + i64::from(here.second()),
            ) + Duration::nanoseconds(here.nanosecond().into());
            return now - past + Duration::seconds(which * seconds);
        }
        "day" => here.date() + Duration::days(which),
        "week" => {
            let mut monday = here.date();
            while monday.weekday() != Weekday::Monday {
                monday -= Duration::DAY;
            }
            monday + Duration::weeks(which)
        }
        "month" => months_later(here.date().replace_day(1).unwrap(), which),
        _ => months_later(
            here.date().replace_day(1).unwrap().replace_month(Month::January).unwrap(),
            12 * which,
        ),
    };
    instant(date.midnight(), zone)
}

fn shifted(now: OffsetDateTime, amount: i64, unit: &str, zone: &str) -> OffsetDateTime {
    let here = local(now, zone);
    let on = |date: Date| instant(PrimitiveDateTime::new(date, here.time()), zone);
    match unit.trim_end_matches('s') {
        "minute" => now + Duration::minutes(amount),
        "hour" => now + Duration::hours(amount),
        "day" => on(here.date() + Duration::days(amount)),
        "week" => on(here.date() + Duration::weeks(amount)),
        "month" => on(months_later(here.date(), amount)),
        _ => on(months_later(here.date(), 12 * amount)),
    }
}

/// The same day of another month, or its last.
fn months_later(date: Date, months: i64) -> Date {
    let count = i64::from(date.year()) * 12 + i64::from(u8::from(date.month())) - 1 + months;
    let year = i32::try_from(count.div_euclid(12)).unwrap();
    let month = Month::try_from(u8::try_from(count.rem_euclid(12) + 1).unwrap()).unwrap();
    Date::from_calendar_date(year, month, date.day().min(month.length(year))).unwrap()
}

/// The local time in a zone.
fn local(at: OffsetDateTime, zone: &str) -> PrimitiveDateTime {
    let there = at.to_offset(offset(at, zone));
    PrimitiveDateTime::new(there.date(), there.time())
}

/// The moment of a local time: the first one if there are two, and the moment after a gap for a time in the gap.
fn instant(local: PrimitiveDateTime, zone: &str) -> OffsetDateTime {
    let with = |offset: UtcOffset| local.assume_offset(offset).to_offset(UtcOffset::UTC);
    let around = [-1, 1].map(|days| offset(local.assume_utc() + Duration::days(days), zone));
    let fits =
        around.into_iter().map(|offset| (offset, with(offset))).filter(|(own, at)| offset(*at, zone) == *own);
    fits.map(|(_, at)| at).min().unwrap_or_else(|| with(around[0]))
}

fn offset(at: OffsetDateTime, zone: &str) -> UtcOffset {
    let hours = |hours, minutes| UtcOffset::from_hms(hours, minutes, 0).unwrap();
    match zone {
        "UTC" => UtcOffset::UTC,
        "Asia/Kolkata" => hours(5, 30),
        "Europe/Berlin" => {
            let turn = |month: Month| {
                let mut date =
                    Date::from_calendar_date(at.to_offset(UtcOffset::UTC).year(), month, 31).unwrap();
                while date.weekday() != Weekday::Sunday {
                    date -= Duration::DAY;
                }
                date.with_hms(1, 0, 0).unwrap().assume_utc()
            };
            let is_summer = turn(Month::March) <= at && at < turn(Month::October);
            hours(if is_summer { 2 } else { 1 }, 0)
        }
        other => panic!("no rules for {other}"),
    }
}
