//! Connectors at a desk: who is let in, what kinds there are, and that what waits goes out when one comes.

use super::*;
use crate::db::deliveries::{Filter, list};
use crate::delivery::connector::{Message, Said};
use crate::desk::Conditions;
use crate::desk::changes::tests::desk;
use crate::desk::configure::NewConnector;
use crate::error::Code;
use crate::models::delivery::{Attempt, AttemptOutcome, DeliveryState, HoldReason};
use crate::plan::command::CreateTicket;
use crate::plan::documents::{self, ScripDocument};
use crate::testing::TestDb;
use futures::FutureExt as _;
use serde_json::{Value, json};

fn wish(name: &str, kinds: &[&str], user: Option<&str>) -> NewConnector {
    NewConnector {
        name: name.to_owned(),
        kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        user: user.map(str::to_owned),
    }
}

async fn add(desk: &Tessera, wish: NewConnector) -> Result<(Connector, Secret)> {
    desk.add_connector(&desk.administrator()?, wish).await
}

fn room(kind: &str) -> Room {
    let kind = DeliveryKind::parse(kind).unwrap();
    Room { kinds: vec![(kind.clone(), 9)], per_endpoint: vec![(kind, 9)], running: Vec::new() }
}

/// Makes a ticket, whose requestor gets a mail.
async fn make(desk: &Tessera) {
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
async fn a_token_opens_what_its_connector_is_bound_to_until_it_is_renewed_or_revoked() {
    let db = TestDb::new().await;
    let desk = desk(&db).await;
    let (added, token) = add(&desk, wish("mailer", &["email"], None)).await.unwrap();
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
    assert!(refused.detail().contains("not bound to \"webhook\", but to \"email\""), "{}", refused.detail());
    assert!(desk.caller_of(&added).await.unwrap_err().detail().contains("--as USER"));

    let renewed = desk.renew_connector(&desk.administrator().unwrap(), "mailer").await.unwrap();
    assert!(desk.connector(token.expose()).await.is_err());
    assert_eq!(desk.connector(renewed.expose()).await.unwrap(), added);
    let seen = desk.connectors(&desk.administrator().unwrap()).await.unwrap().remove(0);
    assert!(seen.last_seen_at.is_some() && seen.connector == added && seen.username.is_none());
    desk.revoke_connector(&desk.administrator().unwrap(), "mailer").await.unwrap();
    assert!(desk.connector(renewed.expose()).await.is_err());
    assert!(desk.connectors(&desk.administrator().unwrap()).await.unwrap().is_empty());
    for missing in [
        desk.revoke_connector(&desk.administrator().unwrap(), "mailer").await.err(),
        desk.renew_connector(&desk.administrator().unwrap(), "mailer").await.err(),
    ] {
        assert_eq!(missing.unwrap().code(), Code::NotFound);
    }
    add(&desk, wish("mailer", &["email"], Some("admin"))).await.unwrap();
}

#[tokio::test]
async fn who_comes_as_a_user_is_that_user_for_as_long_as_there_is_one() {
    let db = TestDb::new().await;
    let desk = desk(&db).await;
    let (added, _) = add(&desk, wish("inbox", &[], Some("admin"))).await.unwrap();
    let caller = desk.caller_of(&added).await.unwrap();
    assert_eq!((caller.user.username.as_str(), caller.channel), ("admin", "grpc"));
    let gone = Connector { user: Some(crate::models::UserId(Uuid::nil())), ..added };
    assert!(desk.caller_of(&gone).await.unwrap_err().detail().contains("disabled, or not privileged"));
}

#[tokio::test]
async fn a_connector_that_cannot_be_is_refused_with_every_reason() {
    let db = TestDb::new().await;
    let desk = desk(&db).await;
    let table = [
        (wish("", &["chat"], None), vec!["name"]),
        (wish("a", &[], None), vec!["kinds"]),
        (wish("a", &["Chat"], None), vec!["kinds", "kinds"]),
        (wish("a", &["chat", "9to5"], None), vec!["kinds"]),
        (wish("a", &["chat"], Some("nobody at all")), vec!["user"]),
    ];
    for (wish, fields) in table {
        let error = add(&desk, wish.clone()).await.unwrap_err();
        let named: Vec<_> = error.faults().iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(named, fields, "{wish:?}: {error}");
    }
    let version = desk.fresh_catalog().await.unwrap().version;
    add(&desk, wish("a", &["chat", "email"], None)).await.unwrap();
    assert_eq!(desk.fresh_catalog().await.unwrap().version, version + 1, "there is a new kind");
    assert_eq!(add(&desk, wish("a", &["sms"], None)).await.unwrap_err().code(), Code::NameTaken);
    add(&desk, wish("b", &["chat"], None)).await.unwrap();
    assert_eq!(desk.fresh_catalog().await.unwrap().version, version + 1, "the kind is known");
    let kinds = desk.kinds(&desk.administrator().unwrap()).await.unwrap();
    assert_eq!(kinds.iter().map(|kind| kind.name.as_str()).collect::<Vec<_>>(), ["chat", "email", "webhook"]);
}

#[tokio::test]
async fn what_nobody_ever_delivered_is_held_until_a_connector_says_that_it_does() {
    let db = TestDb::new().await;
    let desk = desk(&db).await;
    let (added, _) = add(&desk, wish("chatter", &["chat"], None)).await.unwrap();
    let scrip = json!({"name": "Chat", "condition_type": "OnCreate", "action_type": "Connector",
        "action_config": {"kind": "chat", "payload": {"text": "{{ ticket.subject }}"}}});
    let Value::Object(scrip) = scrip else { panic!("an object") };
    let scrip: ScripDocument = documents::read(scrip).unwrap();
    desk.add(&desk.administrator().unwrap(), scrip).await.unwrap();
    make(&desk).await;
    let chats = Filter { kind: DeliveryKind::parse("chat"), ..Filter::default() };
    let seen = async || list(&db.pools.read, &chats, 9, None).await.unwrap().items.remove(0);
    let held = seen().await;
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
    assert!(wakeup.woken().now_or_never().is_some(), "whoever waits may look again");
    assert_eq!(seen().await.state, DeliveryState::Available);
    desk.announce(&added, "chat", schema, "chat 1.1").await.unwrap();
    assert_eq!(desk.fresh_catalog().await.unwrap().version, version + 1, "what is as it was changes nothing");
    assert_eq!(
        desk.connectors(&desk.administrator().unwrap()).await.unwrap()[0].software.as_deref(),
        Some("chat 1.1")
    );

    let handed = desk.lease(&added, &room("chat"), LONG, &CancellationToken::new()).await.unwrap();
    let Message::Json(text) = &handed[0].message else { panic!("JSON") };
    assert_eq!(text, r#"{"text":"Printer"}"#);
    let key = desk.tickets_of(&handed).await.unwrap().remove(&handed[0].leased.delivery.ticket.0).unwrap();
    assert_eq!(key.url, format!("http://desk.example/t/{}", key.number));
    let (delivery, token) = (handed[0].leased.delivery.id, handed[0].leased.token);
    assert!(desk.extend(&added, &[(delivery, token)]).await.unwrap().is_empty());
    assert_eq!(desk.extend(&added, &[(delivery, token + 1)]).await.unwrap(), [(delivery, token + 1)]);
    let said = Said::Attempt(Attempt::new(AttemptOutcome::Delivered, "posted"));
    let receipts = desk.settle(&added, vec![Told { delivery, token, said }]).await.unwrap();
    assert_eq!((receipts, seen().await.state), (vec![Receipt::Recorded], DeliveryState::Completed));

    let stricter = r#"{"required": ["channel"]}"#;
    assert_eq!(desk.announce(&added, "chat", stricter, "chat 2").await.unwrap(), ["Chat"]);
}

#[tokio::test]
async fn a_lease_waits_for_what_is_made_and_no_longer_than_was_said() {
    let db = TestDb::new().await;
    let desk = desk(&db).await;
    let (added, _) = add(&desk, wish("mailer", &["email"], None)).await.unwrap();
    let (room, stop) = (room("email"), CancellationToken::new());
    assert!(desk.lease(&added, &room, Duration::ZERO, &stop).await.unwrap().is_empty());
    let (handed, ()) = tokio::join!(desk.lease(&added, &room, LONG, &stop), make(&desk));
    assert_eq!(handed.unwrap().len(), 1);
    let (handed, ()) = tokio::join!(desk.lease(&added, &room, LONG, &stop), async { stop.cancel() });
    assert!(handed.unwrap().is_empty());
}
