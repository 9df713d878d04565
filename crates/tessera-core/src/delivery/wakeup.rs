//! The wakeup: rung after a commit that made deliveries, and heard by everyone who waits for them.

use tokio::sync::watch;

/// Wakes everyone who waits for deliveries; whoever is busy meanwhile hears it as soon as they listen.
#[derive(Debug)]
pub struct Wakeup(watch::Sender<()>);

/// One who waits for deliveries.
#[derive(Debug)]
pub struct Listener(watch::Receiver<()>);

impl Default for Wakeup {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl Wakeup {
    /// Rings.
    pub fn wake(&self) {
        self.0.send_modify(|()| {});
    }

    /// Listens from now on.
    pub fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

impl Listener {
    /// Until it rings, or has rung since the last time. Safe to drop: nothing is missed.
    pub async fn woken(&mut self) {
        if self.0.changed().await.is_err() {
            // Whoever rang is gone, and with them everything that could be made.
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
