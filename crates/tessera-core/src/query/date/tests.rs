//! Dates in zones whose clocks change at unusual times and by unusual amounts.

use super::*;

/// A zone, and the day on which its clocks change.
const CHANGES: [(&str, &str); 8] = [
    ("Europe/Berlin", "2025-10-26"),
    ("Europe/Berlin", "2026-03-29"),
    // Half an hour.
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    // Midnight comes twice, never, or only at the end of a day that has 23:00 twice.
    ("America/Havana", "2025-11-02"),
    ("Asia/Beirut", "2026-03-29"),
    ("America/Sao_Paulo", "2018-02-17"),
    // A day that never came.
    ("Pacific/Apia", "2011-12-30"),
];

#[test]
fn a_moment_is_before_within_or_after_a_date_as_the_clock_of_the_zone_shows() {
    for (name, day) in CHANGES {
        let zone = Zone::parse(name).unwrap();
        let day: Date = day.parse().unwrap();
        let first = day.yesterday().unwrap().to_datetime(civil::Time::midnight());
        let step = |minutes: i32| SignedDuration::from_mins(i64::from(minutes));
        let minutes = (0..3 * 24 * 60).step_by(30).map(|minutes| (first + step(minutes), Precision::Minute));
        let days = (0..3).map(|days| (first + step(days * 24 * 60), Precision::Day));
        let dates: Vec<(civil::DateTime, Precision)> = minutes.chain(days).collect();
        let begin = zone.0.to_timestamp(first).unwrap();
        for (from, precision) in dates {
            let until = from + precision.length();
            let format = if precision == Precision::Day { "%Y-%m-%d" } else { "%Y-%m-%d %H:%M" };
            let text = from.strftime(format).to_string();
            let date = DateExpr::parse(&text).unwrap();
            let orders = Order::ALL.map(|order| date.in_order(order, OffsetDateTime::UNIX_EPOCH, &zone));
            let within = date.within(OffsetDateTime::UNIX_EPOCH, &zone);
            for at in (0..3 * 24 * 60).step_by(15).map(|minutes| begin + step(minutes)) {
                let shown = zone.0.to_datetime(at);
                let is_in = |ranges: &[Range]| ranges.iter().any(|range| range.contains(time(at)));
                let [less, at_most, more, at_least] = orders.each_ref().map(|ranges| is_in(ranges));
                let expected = (shown < from, shown < until, shown >= until, shown >= from);
                assert_eq!(
                    (less, at_most, more, at_least),
                    expected,
                    "{at} is {shown} in {name}, not {text}"
                );
                assert_eq!(is_in(&within), at_least && at_most, "{at} is {shown} in {name}, not {text}");
            }
        }
    }
}

#[test]
fn a_date_with_an_offset_is_one_stretch_of_time_in_every_zone() {
    let berlin = Zone::parse("Europe/Berlin").unwrap();
    for (text, seconds) in
        [("2025-10-26 00:30Z", 60), ("2025-10-26 03:30:00+02:00", 1), ("2025-10-26T01:30:00.5Z", 0)]
    {
        let [range] =
            DateExpr::parse(text).unwrap().within(OffsetDateTime::UNIX_EPOCH, &berlin).try_into().unwrap();
        let Range { from: Some(from), until: Some(until) } = range else { panic!("{text} has no end") };
        assert_eq!((until - from).whole_seconds(), seconds, "{text}");
    }
}
