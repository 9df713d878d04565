//! Restarts during a load: every request gets a response, or its connection is refused; nothing else.

use super::rounds;
use crate::load::{Load, STEADY, Size};
use crate::mail::MailServer;
use crate::receiver::Receiver;
use crate::support::Server;

/// Each request on a new connection: on a persistent one, a client may send a request at the moment when the server closes it,
/// as HTTP allows (RFC 9112, 9.5).
const APART: Size = Size { apart: true, ..STEADY };

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_under_load_loses_nothing_and_leaves_nobody_without_a_reason() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let mut server = Server::start(&[("TESSERA_MAIL__SMTP_URL", mail.url())]).await;
    let load = Load::begin(&[&server], &receiver, APART).await;
    let mut restarts = 0;
    for _ in rounds((4, 20)) {
        load.goes_on(30).await;
        server.stop().await;
        server.restart().await;
        restarts += 1;
    }
    load.goes_on(30).await;
    let ledger = load.finish().await;
    assert_eq!(ledger.broken(), [""; 0]);
    ledger.holds(&format!("restart under load ({restarts} times)"), &mut server, &receiver, &mail).await;
}
