//! More load than the server can handle, and a configuration that changes under load.

use std::time::Duration;

use super::rounds;
use crate::load::{Load, STEADY, Size};
use crate::mail::MailServer;
use crate::receiver::Receiver;
use crate::support::Server;

/// Ten times as many clients as connections to the database, without pauses.
const CROWD: Size = Size { clients: 160, pace: Duration::ZERO, apart: false };

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_too_much_load_gets_errors_and_loses_nothing() {
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
