//! The bell: rung after a commit that made deliveries, and heard by everyone who waits for them.

use tokio::sync::watch;

/// Wakes everyone who waits for deliveries; whoever is busy meanwhile hears it as soon as they listen.
#[derive(Debug)]
pub struct Bell(watch::Sender<()>);

/// One who waits for deliveries.
#[derive(Debug)]
pub struct Listener(watch::Receiver<()>);

impl Default for Bell {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl Bell {
    /// Rings.
    pub fn ring(&self) {
        self.0.send_modify(|()| {});
    }

    /// Listens from now on.
    pub fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

impl Listener {
    /// Until it rings, or has rung since the last time. Safe to drop: nothing is missed.
    pub async fn rung(&mut self) {
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
        let bell = Bell::default();
        let (mut one, mut other) = (bell.listen(), bell.listen());
        assert!(one.rung().now_or_never().is_none());
        bell.ring();
        bell.ring();
        for listener in [&mut one, &mut other] {
            assert!(listener.rung().now_or_never().is_some());
            assert!(listener.rung().now_or_never().is_none());
        }
        assert!(bell.listen().rung().now_or_never().is_none());
        drop(bell);
        assert!(one.rung().now_or_never().is_none());
    }
}
