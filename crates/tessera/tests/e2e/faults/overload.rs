//! More than the desk can bear, and a configuration that changes all the while.

use std::time::Duration;

use super::rounds;
use crate::load::{Load, STEADY, Size};
use crate::mail::MailServer;
use crate::receiver::Receiver;
use crate::support::Server;

/// Ten times as many clients as there are connections to the database, and none of them pauses.
const CROWD: Size = Size { clients: 160, pace: Duration::ZERO, apart: false };

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_too_much_is_told_and_loses_nothing() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let mut server = Server::start(&[("TESSERA_MAIL__SMTP_URL", mail.url())]).await;
    let load = Load::begin(&[&server], &receiver, CROWD).await;
    for _ in rounds((10, 30)) {
        load.goes_on(100).await;
    }
    let ledger = load.finish().await;
    ledger.was_always_answered();
    ledger.holds("ten times overload", &mut server, &receiver, &mail).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_changes_under_load_is_the_one_in_force_in_every_delivery() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let mut server = Server::start(&[("TESSERA_MAIL__SMTP_URL", mail.url())]).await;
    let load = Load::begin(&[&server], &receiver, STEADY).await;
    for _ in rounds((40, 100)) {
        load.edit().await;
        load.goes_on(5).await;
    }
    let ledger = load.finish().await;
    ledger.was_always_answered();
    ledger.holds("configuration edited under load", &mut server, &receiver, &mail).await;
}
