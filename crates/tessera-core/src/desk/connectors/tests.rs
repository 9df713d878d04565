//! Connectors: authentication, kinds, and the release of held deliveries when a connector announces their kind.

use super::*;
use crate::db::deliveries::{Filter, list};
use crate::delivery::connector::{Message, Said};
use crate::desk::Conditions;
use crate::desk::configure::NewConnector;
use crate::error::Code;
use crate::models::delivery::{Attempt, AttemptOutcome, DeliveryState, HoldReason};
use crate::plan::command::CreateTicket;
use crate::plan::documents::{self, ScripDocument};
use crate::testing::{TestDb, node};
use futures::FutureExt as _;
use serde_json::{Value, json};
use std::sync::Arc;

fn new(name: &str, kinds: &[&str], user: Option<&str>) -> NewConnector {
    NewConnector {
        name: name.to_owned(),
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        user: user.map(str::to_owned),
    }
}

async fn add(desk: &Tessera, new: NewConnector) -> Result<(Connector, Secret)> {
    desk.add_connector(&desk.administrator()?, new).await
}

fn room(kind: &str) -> Room {
    let kind = DeliveryKind::parse(kind).unwrap();
    Room { kinds: vec![(kind.clone(), 9)], per_endpoint: vec![(kind, 9)], running: Vec::new() }
}

/// Creates a ticket, whose requestor gets a mail.
async fn create_ticket(desk: &Tessera) {
    let command = CreateTicket {
        queue: "General".to_owned(),
        subject: "Printer".to_owned(),
        requestors: vec!["eve@example.net".to_owned()],
        ..CreateTicket::default()
    };
    desk.create(&desk.administrator().unwrap(), command, &Conditions::default()).await.unwrap();
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_token_is_valid_for_the_kinds_of_its_connector_until_it_is_renewed_or_revoked() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let (added, token) = add(&desk, new("mailer", &["email"], None)).await.unwrap();
    assert!(token.expose().starts_with(TOKEN_PREFIX) && token.expose().len() > 60);
    assert_eq!(desk.connector(token.expose()).await.unwrap(), added);
    let stored: Vec<u8> =
        sqlx::query_scalar("SELECT token_hash FROM connectors").fetch_one(&db.pools.read).await.unwrap();
    assert_eq!(stored, token_hash(token.expose()));
    for wrong in ["", "tsc_", "admin", &token.expose()[..token.expose().len() - 1], &token.expose()[4..]] {
        assert_eq!(desk.connector(wrong).await.unwrap_err().code(), Code::Unauthenticated, "{wrong}");
    }
    let stop = CancellationToken::new();
    let refused = desk.lease(&added, &room("webhook"), LONG, &stop).await.unwrap_err();
    assert_eq!(refused.code(), Code::Forbidden);
    assert_eq!(
        refused.detail(),
        "The token is not bound to the kind \"webhook\". `tessera connector add NAME --kind webhook` creates one that is. \
         The kinds of the connector \"mailer\": \"email\"."
    );
    assert!(desk.caller_of(&added).await.unwrap_err().detail().contains("--as USER"));

    let renewed = desk.renew_connector(&desk.administrator().unwrap(), "mailer").await.unwrap();
    assert!(desk.connector(token.expose()).await.is_err());
    assert_eq!(desk.connector(renewed.expose()).await.unwrap(), added);
    let listed = desk.connectors(&desk.administrator().unwrap()).await.unwrap().remove(0);
    assert!(listed.last_seen_at.is_some() && listed.connector == added && listed.username.is_none());
    desk.revoke_connector(&desk.administrator().unwrap(), "mailer").await.unwrap();
    assert!(desk.connector(renewed.expose()).await.is_err());
    assert!(desk.connectors(&desk.administrator().unwrap()).await.unwrap().is_empty());
    for missing in [
        desk.revoke_connector(&desk.administrator().unwrap(), "mailer").await.err(),
        desk.renew_connector(&desk.administrator().unwrap(), "mailer").await.err(),
    ] {
        assert_eq!(missing.unwrap().code(), Code::NotFound);
    }
    add(&desk, new("mailer", &["email"], Some("admin"))).await.unwrap();
}

#[tokio::test]
async fn a_connector_acts_as_its_user_as_long_as_the_user_is_enabled() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let (added, _) = add(&desk, new("inbox", &[], Some("admin"))).await.unwrap();
    let caller = desk.caller_of(&added).await.unwrap();
    assert_eq!((caller.user.username.as_str(), caller.channel), ("admin", "grpc"));
    let gone = Connector { user: Some(crate::models::UserId(Uuid::nil())), ..added };
    assert!(
        desk.caller_of(&gone).await.unwrap_err().detail().contains("is disabled or no longer privileged")
    );
}

#[tokio::test]
async fn an_invalid_connector_is_rejected_with_all_reasons() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let table = [
        (new("", &["chat"], None), vec!["name"]),
        (new("a", &[], None), vec!["kinds"]),
        (new("a", &["Chat"], None), vec!["kinds", "kinds"]),
        (new("a", &["chat", "9to5"], None), vec!["kinds"]),
        (new("a", &["chat"], Some("nobody at all")), vec!["user"]),
    ];
    for (new, fields) in table {
        let error = add(&desk, new.clone()).await.unwrap_err();
        let named: Vec<_> = error.faults().iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(named, fields, "{new:?}: {error}");
    }
    let version = desk.fresh_catalog().await.unwrap().version;
    add(&desk, new("a", &["chat", "email"], None)).await.unwrap();
    assert_eq!(desk.fresh_catalog().await.unwrap().version, version + 1, "the kind chat is new");
    assert_eq!(add(&desk, new("a", &["sms"], None)).await.unwrap_err().code(), Code::NameTaken);
    add(&desk, new("b", &["chat"], None)).await.unwrap();
    assert_eq!(desk.fresh_catalog().await.unwrap().version, version + 1, "the kind chat is known");
    let kinds = desk.kinds(&desk.administrator().unwrap()).await.unwrap();
    assert_eq!(kinds.iter().map(|kind| kind.name.as_str()).collect::<Vec<_>>(), ["chat", "email", "webhook"]);
}

#[tokio::test]
async fn deliveries_of_a_kind_are_held_until_a_connector_announces_it() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let (added, _) = add(&desk, new("chatter", &["chat"], None)).await.unwrap();
    let scrip = json!({"name": "Chat", "condition_type": "OnCreate", "action_type": "Connector",
        "action_config": {"kind": "chat", "payload": {"text": "{{ ticket.subject }}"}}});
    let Value::Object(scrip) = scrip else { panic!("an object") };
    let scrip: ScripDocument = documents::read(scrip).unwrap();
    desk.add(&desk.administrator().unwrap(), scrip).await.unwrap();
    create_ticket(&desk).await;
    let chats = Filter { kind: DeliveryKind::parse("chat"), ..Filter::default() };
    let listed = async || list(&db.pools.read, &chats, 9, None).await.unwrap().items.remove(0);
    let held = listed().await;
    assert_eq!((held.state, held.hold.unwrap().reason), (DeliveryState::Held, HoldReason::NoConnector));

    for (kind, schema, software, field) in [
        ("chat", "{", "chat 1", "schema"),
        ("chat", r#"{"type": "text"}"#, "chat 1", "schema"),
        ("chat", r#"{"$ref": "https://example.org/"}"#, "chat 1", "schema"),
        ("chat", "", "", "software"),
        ("chat", "", "a\nb", "software"),
        ("chat", &format!("\"{}\"", "x".repeat(64 * 1024)), "chat 1", "schema"),
    ] {
        let error = desk.announce(&added, kind, schema, software).await.unwrap_err();
        assert_eq!(error.faults()[0].field, field, "{schema:.20} {software}: {error}");
    }
    assert_eq!(desk.announce(&added, "email", "", "chat 1").await.unwrap_err().code(), Code::Forbidden);
    let version = desk.fresh_catalog().await.unwrap().version;
    let schema = r#"{"type": "object"}"#;
    let mut wakeup = desk.wakeup().listen();
    assert!(desk.announce(&added, "chat", schema, "chat 1").await.unwrap().is_empty());
    assert!(wakeup.woken().now_or_never().is_some(), "waiting leases are woken");
    assert_eq!(listed().await.state, DeliveryState::Available);
    desk.announce(&added, "chat", schema, "chat 1.1").await.unwrap();
    assert_eq!(
        desk.fresh_catalog().await.unwrap().version,
        version + 1,
        "an unchanged schema is not a new version"
    );
    assert_eq!(
        desk.connectors(&desk.administrator().unwrap()).await.unwrap()[0].software.as_deref(),
        Some("chat 1.1")
    );

    let (leased, _unsent) = desk.lease(&added, &room("chat"), LONG, &CancellationToken::new()).await.unwrap();
    let Message::Json(text) = &leased[0].message else { panic!("JSON") };
    assert_eq!(text, r#"{"text":"Printer"}"#);
    let key = desk.tickets_of(&leased).await.unwrap().remove(&leased[0].leased.delivery.ticket.0).unwrap();
    assert_eq!(key.url, format!("http://desk.example/t/{}", key.number));
    let (delivery, token) = (leased[0].leased.delivery.id, leased[0].leased.token);
    assert!(desk.extend(&added, &[(delivery, token)]).await.unwrap().is_empty());
    assert_eq!(desk.extend(&added, &[(delivery, token + 1)]).await.unwrap(), [(delivery, token + 1)]);
    let said = Said::Attempt(Attempt::new(AttemptOutcome::Delivered, "posted"));
    let receipts = desk.settle(&added, vec![Told { delivery, token, said }]).await.unwrap();
    assert_eq!((receipts, listed().await.state), (vec![Receipt::Recorded], DeliveryState::Completed));

    let stricter = r#"{"required": ["channel"]}"#;
    assert_eq!(desk.announce(&added, "chat", stricter, "chat 2").await.unwrap(), ["Chat"]);
}

#[tokio::test]
async fn a_lease_waits_for_new_deliveries_until_its_time_is_up_or_it_is_stopped() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let (added, _) = add(&desk, new("mailer", &["email"], None)).await.unwrap();
    let (room, stop) = (room("email"), CancellationToken::new());
    assert!(desk.lease(&added, &room, Duration::ZERO, &stop).await.unwrap().0.is_empty());
    let (leased, ()) = tokio::join!(desk.lease(&added, &room, LONG, &stop), create_ticket(&desk));
    let (handed, _unsent) = leased.unwrap();
    assert_eq!(handed.len(), 1);
    let (leased, ()) = tokio::join!(desk.lease(&added, &room, LONG, &stop), async { stop.cancel() });
    assert!(leased.unwrap().0.is_empty());
}

#[tokio::test]
async fn a_call_that_is_dropped_while_it_leases_gives_the_lease_back() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let (added, _) = add(&desk, new("mailer", &["email"], None)).await.unwrap();
    let (room, stop) = (room("email"), CancellationToken::new());
    create_ticket(&desk).await;
    {
        // Polled once, it has sent the statement; then the client hangs up.
        let mut call = std::pin::pin!(desk.lease(&added, &room, LONG, &stop));
        assert!(futures::poll!(&mut call).is_pending());
    }
    let (handed, _unsent) = desk.lease(&added, &room, LONG, &stop).await.unwrap();
    assert_eq!(handed[0].leased.attempt, 1);
    let shown = desk.delivery(&desk.administrator().unwrap(), handed[0].leased.delivery.id).await.unwrap();
    assert_eq!((shown.listed.attempts, shown.attempts.len()), (1, 1), "only this one");
}

#[tokio::test]
async fn tokens_that_are_looked_up_leave_connections_to_writes() {
    let db = TestDb::new().await;
    let desk = node(&db).await;
    let mut busy = db.pools.write.begin().await.unwrap();
    sqlx::query("LOCK TABLE connectors").execute(&mut *busy).await.unwrap();
    let asked: Vec<_> = (0..50)
        .map(|n| {
            let desk = Arc::clone(&desk);
            tokio::spawn(async move { desk.connector(&format!("{TOKEN_PREFIX}{n}")).await })
        })
        .collect();
    while desk.lookups.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    sqlx::query("SELECT 1").execute(&db.pools.write).await.unwrap();
    let used = db.pools.write.size() as usize - db.pools.write.num_idle();
    assert!(used <= 2 + lookups_max(db.pools.write.options().get_max_connections() as usize), "{used}");
    busy.rollback().await.unwrap();
    for one in asked {
        assert_eq!(one.await.unwrap().unwrap_err().code(), Code::Unauthenticated);
    }
}
