//! kill -9 of the server and of its PostgreSQL, at random during a load with deliveries.

use nix::sys::signal::{Signal, kill};

use super::{Random, rounds};
use crate::load::{Load, STEADY};
use crate::mail::MailServer;
use crate::receiver::Receiver;
use crate::support::{SOON, Server, eventually};

/// Minimum number of kills, in the short and in the long form.
const KILLS: (usize, usize) = (4, 100);

/// The parent death signal makes PostgreSQL shut down.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn postgresql_shuts_down_cleanly_when_its_server_is_killed() {
    let mut server = Server::start(&[]).await;
    let first = server.postmaster();
    server.kill9();
    // The next start waits for the end of the old server.
    server.restart().await;
    assert_ne!(server.postmaster(), first);
    let log = server.postgres_log();
    assert!(
        log.contains("received fast shutdown request") && log.contains("database system is shut down"),
        "{log}"
    );
    assert!(!log.contains("was not properly shut down"), "{log}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let mut server = Server::start(&[("TESSERA_MAIL__SMTP_URL", mail.url())]).await;
    let load = Load::begin(&[&server], &receiver, STEADY).await;
    let (mut random, mut kills) = (Random::new(), 0);
    for round in rounds(KILLS) {
        load.goes_on(20 + random.below(60)).await;
        if round % 4 == 2 {
            kill_postgres(&server).await;
        } else {
            server.kill9();
            server.restart().await;
        }
        kills += 1;
    }
    load.goes_on(20).await;
    let ledger = load.finish().await;
    server.time_passes().await;
    ledger.holds(&format!("kill -9 at random ({kills} times)"), &mut server, &receiver, &mail).await;
}

/// Kills PostgreSQL, and waits until it was restarted.
pub async fn kill_postgres(server: &Server) {
    end_postgres(server, Signal::SIGKILL).await;
}

/// Ends PostgreSQL with a signal, and waits until it was restarted.
pub async fn end_postgres(server: &Server, signal: Signal) {
    let ended = eventually("PostgreSQL runs", SOON, async || server.postmaster()).await;
    kill(ended, signal).unwrap();
    eventually("PostgreSQL is started again", SOON, async || {
        server.postmaster().filter(|postmaster| *postmaster != ended)
    })
    .await;
}
