//! Wakeup of workers and connectors that wait for deliveries, after a commit that created some.

use tokio::sync::watch;

/// Wakes all listeners. A listener that is not waiting at that moment is woken as soon as it waits.
#[derive(Debug)]
pub struct Wakeup(watch::Sender<()>);

/// A listener that waits for deliveries.
#[derive(Debug)]
pub struct Listener(watch::Receiver<()>);

impl Default for Wakeup {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl Wakeup {
    /// Wakes all listeners.
    pub fn wake(&self) {
        self.0.send_modify(|()| {});
    }

    /// Creates a listener for wakeups from now on.
    pub fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

impl Listener {
    /// Waits for a wakeup, or returns immediately if there was one since the last call. Cancel safe: no wakeup is missed.
    pub async fn woken(&mut self) {
        if self.0.changed().await.is_err() {
            // The sender is gone, so no more deliveries will be created.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn everyone_hears_it_once_also_who_was_busy_while_it_rang() {
        let wakeup = Wakeup::default();
        let (mut one, mut other) = (wakeup.listen(), wakeup.listen());
        assert!(one.woken().now_or_never().is_none());
        wakeup.wake();
        wakeup.wake();
        for listener in [&mut one, &mut other] {
            assert!(listener.woken().now_or_never().is_some());
            assert!(listener.woken().now_or_never().is_none());
        }
        assert!(wakeup.listen().woken().now_or_never().is_none());
        drop(wakeup);
        assert!(one.woken().now_or_never().is_none());
    }
}
