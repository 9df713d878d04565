//! Retry schedules: when a failed delivery is tried again, and when it is given up.

use crate::models::delivery::DeliveryKind;
use crate::models::id::DeliveryId;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// Seconds before each attempt of a webhook or connector delivery: the example schedule of Standard Webhooks (75 h 35 min).
const WEBHOOK: [u64; 10] =
    [0, 5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];
/// Seconds before the first attempts of an email; further attempts follow every hour.
const EMAIL: [u64; 6] = [0, MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR];
/// The time after which an email is given up (RFC 5321, 4.5.4.1: at least four to five days).
const EMAIL_FOR: u64 = 5 * 24 * HOUR;
/// The maximum jitter of a delay in percent, in both directions, so that deliveries that failed together are not retried
/// together.
const JITTER_PERCENT: u64 = 20;

/// The minimum delay before a retry to a receiver that is overloaded (429) or timed out.
pub const TROUBLE_WAIT: Duration = Duration::from_secs(MINUTE);
/// The maximum delay beyond the schedule that a receiver can request.
pub const ASKED_MAX: Duration = Duration::from_secs(HOUR);

/// Returns the delay for a `scheduled` delay and one that the receiver `asked` for: the longer one, but at most [`ASKED_MAX`]
/// longer than the schedule, so that no receiver delays its deliveries forever.
pub fn wait(scheduled: Duration, asked: Duration) -> Duration {
    scheduled.max(asked.min(scheduled + ASKED_MAX))
}

/// Returns the delay in a `Retry-After` header (RFC 9110, 10.2.3): seconds, or a date relative to `now`. `None` if it is neither.
pub fn retry_after(value: &str, now: OffsetDateTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large becomes a long delay, which `wait` limits.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let date = OffsetDateTime::parse(value, &Rfc2822).ok()?;
    Some(Duration::try_from(date - now).unwrap_or_default())
}

/// Returns the delay after a failed `attempt` of a schedule (from 1); `None` if it was the last one.
///
/// The jitter depends only on the delivery and the attempt, so the same failure always gets the same delay.
pub fn next(kind: &DeliveryKind, attempt: i32, delivery: DeliveryId) -> Option<Duration> {
    let failed = usize::try_from(attempt).ok()?;
    let base = match kind {
        DeliveryKind::Webhook | DeliveryKind::Connector(_) => *WEBHOOK.get(failed)?,
        DeliveryKind::Email => match EMAIL.get(failed) {
            Some(delay) => *delay,
            None if failed < email_attempts() => HOUR,
            None => return None,
        },
    };
    Some(jittered(Duration::from_secs(base), delivery, attempt))
}

/// The number of attempts for an email: the first ones, then one per hour until [`EMAIL_FOR`] has passed.
fn email_attempts() -> usize {
    let first: u64 = EMAIL.iter().sum();
    EMAIL.len() + usize::try_from((EMAIL_FOR - first) / HOUR).unwrap_or(usize::MAX)
}

fn jittered(delay: Duration, delivery: DeliveryId, attempt: i32) -> Duration {
    let (high, low) = delivery.0.as_u64_pair();
    let spread =
        mix(high ^ low.rotate_left(32) ^ u64::from(attempt.unsigned_abs())) % (2 * JITTER_PERCENT * 100 + 1);
    let parts = 10_000 - JITTER_PERCENT * 100 + spread;
    delay.mul_f64(parts as f64 / 10_000.0)
}

/// The finalizer of SplitMix64: similar inputs give unrelated outputs.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn delays(kind: &DeliveryKind, id: u128) -> Vec<u64> {
        (1..=1_000)
            .map_while(|attempt| next(kind, attempt, Uuid::from_u128(id).into()))
            .map(|d| d.as_secs())
            .collect()
    }

    fn near(delays: &[u64], schedule: &[u64]) -> bool {
        delays.len() == schedule.len()
            && delays
                .iter()
                .zip(schedule)
                .all(|(delay, base)| (base * 8 / 10..=base * 12 / 10).contains(delay))
    }

    #[test]
    fn a_webhook_is_tried_ten_times_and_then_given_up() {
        let got = delays(&DeliveryKind::Webhook, 7);
        assert!(near(&got, &[5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]), "{got:?}");
    }

    #[test]
    fn a_mail_is_tried_hourly_until_five_days_have_passed() {
        let got = delays(&DeliveryKind::Email, 7);
        let mut schedule = vec![60, 300, 900, 1800, 3600];
        schedule.extend(std::iter::repeat_n(3600, 118));
        assert!(near(&got, &schedule), "{} delays: {:?}", got.len(), &got[..8]);
        let days = got.iter().sum::<u64>() as f64 / 86_400.0;
        assert!((4.5..5.5).contains(&days), "{days} days");
    }

    #[test]
    fn jitter_repeats_for_a_delivery_and_spreads_over_many() {
        assert_eq!(delays(&DeliveryKind::Webhook, 7), delays(&DeliveryKind::Webhook, 7));
        let second =
            |id: u128| next(&DeliveryKind::Webhook, 9, Uuid::from_u128(id).into()).unwrap().as_secs();
        let spread: std::collections::BTreeSet<u64> = (0..1_000).map(second).collect();
        assert!(spread.len() > 500 && *spread.first().unwrap() < 72_000 && *spread.last().unwrap() > 100_000);
    }

    #[test]
    fn the_longer_of_schedule_and_wish_is_waited_within_an_hour_of_the_schedule() {
        let table = [
            (5, 0, 5),
            (5, 5, 5),
            (5, 60, 60),
            (300, 60, 300),
            (5, 3_605, 3_605),
            (5, 3_606, 3_605),
            (5, 86_400, 3_605),
            (7_200, 10_799, 10_799),
            (7_200, 20_000, 10_800),
            (86_400, 3_600, 86_400),
            (0, 0, 0),
            (0, u64::MAX / 4, 3_600),
        ];
        for (scheduled, asked, waited) in table {
            let [scheduled, asked, waited] = [scheduled, asked, waited].map(Duration::from_secs);
            assert_eq!(wait(scheduled, asked), waited, "{scheduled:?} {asked:?}");
        }
    }

    #[test]
    fn a_retry_after_is_read_as_seconds_or_as_a_date() {
        let now = time::macros::datetime!(2026-11-23 12:00 UTC);
        let table = [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("007", Some(7)),
            ("99999999999999999999999", Some(u64::from(u32::MAX))),
            ("Mon, 23 Nov 2026 12:02:00 GMT", Some(120)),
            ("Mon, 23 Nov 2026 13:00:00 +0100", Some(0)),
            ("Mon, 23 Nov 2026 11:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("", None),
            ("-5", None),
            ("+5", None),
            ("1.5", None),
            ("soon", None),
            ("2026-11-23T12:02:00Z", None),
            ("5, 6", None),
        ];
        for (value, seconds) in table {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }

    #[test]
    fn an_attempt_that_cannot_be_is_not_tried_again() {
        assert_eq!(next(&DeliveryKind::Webhook, -1, Uuid::nil().into()), None);
        assert_eq!(next(&DeliveryKind::Email, i32::MAX, Uuid::nil().into()), None);
    }
}
