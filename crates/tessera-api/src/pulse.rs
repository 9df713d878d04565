//! The health of the database, checked by one ping at a time however many ask.

use tokio::sync::Mutex;
use tokio::time::Instant;

/// The last ping of the database. Anybody may call the health check at any rate, so there is one ping at a time, and its
/// result serves all callers that started before it ended.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<Option<(Instant, bool)>>);

impl Pulse {
    pub(crate) async fn check<F: Future<Output = bool>>(&self, ping: impl FnOnce() -> F) -> bool {
        let asked = Instant::now();
        let mut last = self.0.lock().await;
        if let Some((ended, answers)) = *last
            && ended >= asked
        {
            return answers;
        }
        let answers = ping().await;
        *last = Some((Instant::now(), answers));
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn one_ping_serves_all_concurrent_callers_and_no_later_one() {
        let (pulse, pings, answer) = (Pulse::default(), AtomicUsize::new(0), Notify::new());
        let ping = || async {
            pings.fetch_add(1, Ordering::Relaxed);
            answer.notified().await;
            true
        };
        // Polled in this order: three callers, and then the database responds.
        let asked = async {
            tokio::join!(biased; pulse.check(ping), pulse.check(ping), pulse.check(ping), async { answer.notify_one() })
        };
        assert_eq!(asked.await, (true, true, true, ()));
        assert_eq!(pings.load(Ordering::Relaxed), 1);

        answer.notify_one();
        assert!(pulse.check(ping).await);
        assert_eq!(pings.load(Ordering::Relaxed), 2);
    }
}
