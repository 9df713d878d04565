//! A crash at every label in the code: `Failpoint` lists them, and all are covered.

use std::os::unix::process::ExitStatusExt as _;

use nix::libc::SIGABRT;
use serde_json::json;
use sqlx::{Connection as _, Row as _};
use tessera_core::failpoint::Failpoint;

use super::{Random, rounds};
use crate::load::{Load, STEADY};
use crate::mail::MailServer;
use crate::receiver::{Manner, Receiver};
use crate::support::{SOON, Server, eventually};

/// The way that a server reaches a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A start on an empty directory.
    Start,
    /// The load.
    Load,
    /// A ticket that another transaction locks for a while.
    Lock,
    /// A change of the configuration.
    Edit,
    /// A signal to stop.
    Stop,
    /// A signal to stop, while a receiver does not respond.
    StopInVain,
}

fn way(point: Failpoint) -> Way {
    match point {
        Failpoint::ClusterMade
        | Failpoint::MigrationBegun
        | Failpoint::MigrationDone
        | Failpoint::PartitionMade
        | Failpoint::KeysForgotten
        | Failpoint::SeedWritten
        | Failpoint::SeedCommitted => Way::Start,
        Failpoint::CreateBegun
        | Failpoint::CreateLoaded
        | Failpoint::CreatePrepared
        | Failpoint::CreateWritten
        | Failpoint::UpdateBegun
        | Failpoint::UpdateLoaded
        | Failpoint::UpdatePrepared
        | Failpoint::UpdateWritten
        | Failpoint::DeliveryLeased
        | Failpoint::DeliveryAttempted
        | Failpoint::DeliverySettling
        | Failpoint::DeliverySettled => Way::Load,
        Failpoint::LockTaken | Failpoint::LockedWritten | Failpoint::LockedCommitted => Way::Lock,
        Failpoint::ConfigurationLocked
        | Failpoint::ConfigurationWritten
        | Failpoint::ConfigurationCommitted => Way::Edit,
        Failpoint::Stopping => Way::Stop,
        Failpoint::LeasesHeld => Way::StopInVain,
    }
}

fn points(is_start: bool) -> impl Iterator<Item = Failpoint> {
    Failpoint::ALL.iter().copied().filter(move |point| (way(*point) == Way::Start) == is_start)
}

#[tokio::test]
async fn a_start_that_dies_at_any_label_is_completed_by_the_next() {
    let mut crashes = 0;
    for _ in rounds((1, 3)) {
        let mut server = Server::new(&[]);
        for point in points(true) {
            server.begin(&[armed(point, 0)]);
            crashed(&mut server, point).await;
            crashes += 1;
        }
        server.restart().await;
        server.log_in();
        let ticket = json!({"queue": "General", "subject": "It works", "requestors": ["eve@example.net"]});
        let made = server.done("POST", "/api/tickets", &ticket).await;
        assert_eq!(made["deliveries"].as_array().unwrap().len(), 1, "the default scrips exist: {made:#}");
        server.delivered(SOON).await;
        server.stop().await;
        server.check();
    }
    println!(
        "fault crash at each label of a start: {crashes} crashes, the next start completed each; the check holds"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_label_loses_nothing() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let mut server = Server::start(&[("TESSERA_MAIL__SMTP_URL", mail.url())]).await;
    let load = Load::begin(&[&server], &receiver, STEADY).await;
    server.stop().await;
    let (mut random, mut crashes) = (Random::new(), 0);
    for _ in rounds((1, 3)) {
        for point in points(false) {
            let passes = if way(point) == Way::Load { random.below(12) } else { 0 };
            server.begin(&[armed(point, passes)]);
            bring_to(&mut server, way(point), &load, &receiver).await;
            crashes += 1;
            assert_eq!(server.ended().await.signal(), Some(SIGABRT), "{point:?} was not reached");
            server.check();
        }
    }
    server.restart().await;
    load.goes_on(20).await;
    let ledger = load.finish().await;
    server.time_passes().await;
    ledger.holds(&format!("crash at each label ({crashes} times)"), &mut server, &receiver, &mail).await;
}

/// Returns the variable that makes a process die at a label after the given number of passes.
fn armed(point: Failpoint, passes: usize) -> (&'static str, String) {
    let off = if passes == 0 { String::new() } else { format!("{passes}*off->") };
    ("FAILPOINTS", format!("{}={off}return", point.name()))
}

/// Waits until the process has died at the label.
async fn crashed(server: &mut Server, point: Failpoint) {
    let ended = server.ended().await;
    assert_eq!(ended.signal(), Some(SIGABRT), "{point:?} was not reached: {ended}");
}

/// Makes the server reach the label.
async fn bring_to(server: &mut Server, way: Way, load: &Load, receiver: &Receiver) {
    match way {
        Way::Start | Way::Load => {}
        Way::Lock => {
            assert!(server.answers().await);
            lock_out(server, load).await;
        }
        // Acknowledged or not, the edit is repeated after the crash.
        Way::Edit => {
            assert!(server.answers().await);
            load.try_edit().await;
        }
        Way::Stop => {
            assert!(server.answers().await);
            load.goes_on(5).await;
            server.signal_stop();
        }
        Way::StopInVain => {
            assert!(server.answers().await);
            let stalled = receiver.stalled();
            receiver.behave("/load", Manner::Stall, 1);
            eventually("a receiver does not respond", SOON, async || {
                (receiver.stalled() > stalled).then_some(())
            })
            .await;
            server.signal_stop();
        }
    }
}

/// Locks a ticket until a writer waits for the lock.
async fn lock_out(server: &Server, load: &Load) {
    let mut db = server.connection().await;
    let mut held = db.begin().await.unwrap();
    let ticket = load.tickets()[0].as_i64().unwrap();
    sqlx::query("SELECT FROM tickets WHERE number = $1 FOR UPDATE")
        .bind(ticket)
        .execute(&mut *held)
        .await
        .unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT%FOR NO KEY UPDATE'";
    eventually("a writer waits in the lock", SOON, async || {
        let row = sqlx::query(waiting).fetch_one(&mut server.connection().await).await.unwrap();
        (row.get::<i64, _>(0) > 0).then_some(())
    })
    .await;
    held.rollback().await.unwrap();
}
