//! Connectors against a real database: the messages they get, and which of their reports are accepted.

use super::*;
use crate::db::deliveries::{Filter, Room, Stored, lease, list, whole};
use crate::db::delivery_fixtures::{NOW, mail, queue, webhook};
use crate::db::{connectors, secrets as stored_secrets};
use crate::models::delivery::{
    AttemptOutcome, Custom, DeliveryState, HeaderValue, Health, KindName, Webhook,
};
use crate::models::{Connector, DeliveryKind};
use crate::testing::TestDb;
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(30);

fn chat() -> Payload {
    let connector = KindName::parse("chat").unwrap();
    Payload::Connector(Custom { connector, json: json!({ "text": "It works", "n": 1 }), depth: 1 })
}

/// A source of ids that no other test has.
fn ids() -> Ids {
    static SEED: AtomicU64 = AtomicU64::new(1);
    Ids::new(NOW, SEED.fetch_add(1, Ordering::Relaxed) << 40)
}

async fn connector(pool: &PgPool, name: &str) -> Holder {
    let kinds = ["chat", "email", "webhook"].into_iter().filter_map(DeliveryKind::parse).collect();
    let connector = Connector { id: ids().draw(), name: name.to_owned(), kinds, user: None };
    let mut db = pool.acquire().await.unwrap();
    connectors::insert(&mut db, &connector, name.as_bytes()).await.unwrap();
    connectors::announce(&mut db, connector.id, "chat", None, "test 1").await.unwrap();
    Holder::Connector(connector.id)
}

fn room(places: i64) -> Room {
    let kinds = ["chat", "email", "webhook"].map(|word| (DeliveryKind::parse(word).unwrap(), places));
    Room { kinds: kinds.clone().into(), per_endpoint: kinds.into(), running: Vec::new() }
}

async fn leased(pool: &PgPool, by: Holder, places: i64) -> Vec<Handed> {
    let leased = lease(pool, by, &room(places), LEASE).await.unwrap();
    hand_over(pool, leased, &mut ids()).await.unwrap()
}

fn says(handed: &Handed, outcome: Outcome) -> Told {
    let attempt = Attempt::new(outcome, "as the connector says").with_status(200).with_health(Health::Works);
    Told { delivery: handed.leased.delivery.id, token: handed.leased.token, said: Said::Attempt(attempt) }
}

async fn tell(pool: &PgPool, by: Holder, told: Vec<Told>) -> Vec<Receipt> {
    take(pool, by, told, &mut ids()).await.unwrap().0
}

async fn state(pool: &PgPool, delivery: DeliveryId) -> (DeliveryState, i32) {
    let listed = whole(pool, delivery).await.unwrap().listed;
    (listed.state, listed.attempts)
}

async fn outcomes(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT transaction_type FROM transactions WHERE delivery_id IS NOT NULL ORDER BY transaction_type",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn two_share_the_work_and_settle_only_what_they_leased() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let (one, other) = (connector(&pool, "one").await, connector(&pool, "other").await);
    queue(&pool, vec![chat(); 4]).await;
    let (mine, theirs) = (leased(&pool, one, 2).await, leased(&pool, other, 9).await);
    assert_eq!((mine.len(), theirs.len()), (2, 2));
    let Message::Json(text) = &mine[0].message else { panic!("JSON") };
    assert_eq!(text, r#"{"n":1,"text":"It works"}"#);
    let told = |handed: &[Handed]| handed.iter().map(|one| says(one, Outcome::Delivered)).collect::<Vec<_>>();
    assert_eq!(tell(&pool, other, told(&mine)).await, [Receipt::UnknownLease; 2]);
    assert_eq!(tell(&pool, Holder::Worker, told(&mine)).await, [Receipt::UnknownLease; 2]);
    assert!(outcomes(&pool).await.is_empty());
    assert_eq!(tell(&pool, one, told(&mine)).await, [Receipt::Recorded; 2]);
    assert_eq!(tell(&pool, one, told(&mine)).await, [Receipt::AlreadySettled; 2], "the answer was lost");
    let twice = [told(&theirs), told(&theirs)].concat();
    use Receipt::{AlreadySettled, Recorded};
    assert_eq!(tell(&pool, other, twice).await, [Recorded, Recorded, AlreadySettled, AlreadySettled]);
    assert_eq!(outcomes(&pool).await, ["ConnectorDelivery"; 4]);
    let completed = list(&pool, &Filter::default(), 10, None).await.unwrap().items;
    assert!(completed.iter().all(|one| one.state == DeliveryState::Completed && one.kind == "chat"));
}

#[tokio::test]
async fn of_a_lease_that_ran_out_a_failure_is_not_believed_and_a_success_is() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let (one, other) = (connector(&pool, "one").await, connector(&pool, "other").await);
    let delivery = queue(&pool, vec![chat()]).await[0];
    let run_out = lease(&pool, one, &room(1), Duration::ZERO).await.unwrap();
    let late = hand_over(&pool, run_out, &mut ids()).await.unwrap();
    let newest = leased(&pool, other, 1).await;
    assert_eq!(tell(&pool, one, vec![says(&late[0], Outcome::Permanent)]).await, [Receipt::Recorded]);
    assert_eq!(state(&pool, delivery).await, (DeliveryState::Running, 2), "the other is still at it");
    assert_eq!(tell(&pool, other, vec![says(&newest[0], Outcome::Permanent)]).await, [Receipt::Recorded]);
    assert_eq!(state(&pool, delivery).await.0, DeliveryState::Discarded);

    let delivery = queue(&pool, vec![chat()]).await[0];
    let run_out = lease(&pool, one, &room(1), Duration::ZERO).await.unwrap();
    let late = hand_over(&pool, run_out, &mut ids()).await.unwrap();
    let newest = leased(&pool, other, 1).await;
    // Both ends of one delivery, in one call each and then again in one.
    assert_eq!(tell(&pool, one, vec![says(&late[0], Outcome::Delivered)]).await, [Receipt::Recorded]);
    assert_eq!(tell(&pool, other, vec![says(&newest[0], Outcome::Permanent)]).await, [Receipt::Recorded]);
    assert_eq!(state(&pool, delivery).await.0, DeliveryState::Completed);
    assert_eq!(outcomes(&pool).await, ["ConnectorDelivery", "DeliveryFailed"]);
}

#[tokio::test]
async fn what_is_returned_is_due_at_once_and_was_no_attempt() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let (one, other) = (connector(&pool, "one").await, connector(&pool, "other").await);
    let delivery = queue(&pool, vec![chat()]).await[0];
    let handed = leased(&pool, one, 1).await;
    let returned = |handed: &Handed| Told { said: Said::Returned, ..says(handed, Outcome::Retry) };
    assert_eq!(tell(&pool, other, vec![returned(&handed[0])]).await, [Receipt::UnknownLease]);
    assert_eq!(state(&pool, delivery).await, (DeliveryState::Running, 1));
    assert_eq!(tell(&pool, one, vec![returned(&handed[0])]).await, [Receipt::Recorded]);
    assert_eq!(tell(&pool, one, vec![returned(&handed[0])]).await, [Receipt::AlreadySettled]);
    assert_eq!(tell(&pool, one, vec![says(&handed[0], Outcome::Permanent)]).await, [Receipt::AlreadySettled]);
    let again = leased(&pool, other, 1).await;
    assert_eq!((again[0].leased.delivery.id, again[0].leased.attempt), (delivery, 1));
    assert_eq!(whole(&pool, delivery).await.unwrap().attempts.len(), 1, "the running one");
    // What it reached before it was interrupted is a fact.
    assert_eq!(tell(&pool, one, vec![says(&handed[0], Outcome::Delivered)]).await, [Receipt::Recorded]);
    assert_eq!(state(&pool, delivery).await.0, DeliveryState::Completed);
}

#[tokio::test]
async fn a_connector_that_returns_everything_is_slowed_down() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let one = connector(&pool, "one").await;
    queue(&pool, vec![chat(); 5]).await;
    let mut leases = 0;
    // Without a delay, this would go on for ever.
    loop {
        let handed = leased(&pool, one, 9).await;
        if handed.is_empty() {
            break;
        }
        leases += handed.len();
        let told = handed.iter().map(|one| Told { said: Said::Returned, ..says(one, Outcome::Retry) });
        tell(&pool, one, told.collect()).await;
    }
    assert!((10..=15).contains(&leases), "{leases}: each at once, then after a second");
}

#[tokio::test]
async fn leases_that_no_connector_received_are_given_back_and_were_no_attempts() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let one = connector(&pool, "one").await;
    let delivery = queue(&pool, vec![chat()]).await[0];
    let wakeup = Arc::new(Wakeup::default());
    let mut given_back = wakeup.listen();
    let lease = async || super::lease(pool.clone(), Arc::clone(&wakeup), one, &room(1), ids()).await.unwrap();
    let (handed, unsent) = lease().await;
    assert_eq!(handed[0].leased.attempt, 1);
    drop(unsent);
    given_back.woken().await;
    assert_eq!(state(&pool, delivery).await, (DeliveryState::Available, 0));
    assert!(whole(&pool, delivery).await.unwrap().attempts.is_empty(), "it leaves no attempt");
    let (handed, unsent) = lease().await;
    assert_eq!(handed[0].leased.attempt, 1);
    unsent.sent();
    drop(unsent);
    assert_eq!(state(&pool, delivery).await, (DeliveryState::Running, 1));
    assert_eq!(tell(&pool, one, vec![says(&handed[0], Outcome::Delivered)]).await, [Receipt::Recorded]);
}

#[tokio::test]
async fn a_failure_waits_for_the_schedule_or_as_long_as_the_connector_says() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let one = connector(&pool, "one").await;
    let delivery = queue(&pool, vec![chat()]).await[0];
    let handed = leased(&pool, one, 1).await;
    let mut told = says(&handed[0], Outcome::Retry);
    if let Said::Attempt(attempt) = &mut told.said {
        attempt.wait = Duration::from_secs(600);
    }
    assert_eq!(tell(&pool, one, vec![told]).await, [Receipt::Recorded]);
    let listed = whole(&pool, delivery).await.unwrap();
    assert_eq!((listed.listed.state, listed.listed.attempts), (DeliveryState::Available, 1));
    assert_eq!(listed.attempts[0].connector.as_deref(), Some("one"));
    let wait: f64 =
        sqlx::query_scalar("SELECT extract(epoch FROM due_at - now())::float8 FROM delivery_queue")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert!((500.0..=600.0).contains(&wait), "{wait}");
    assert!(leased(&pool, one, 1).await.is_empty());
}

#[tokio::test]
async fn a_mail_is_asked_of_those_without_a_final_answer_and_comes_to_what_all_of_them_said() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let one = connector(&pool, "one").await;
    let delivery = queue(&pool, vec![mail(&["a@example.org", "b@example.org", "c@example.org"])]).await[0];
    let answer = |address: &str, outcome, answer: &str| RecipientAnswer {
        address: address.to_owned(),
        outcome,
        answer: answer.to_owned(),
    };
    let handed = leased(&pool, one, 1).await;
    let Message::Email { sender, recipients, message } = &handed[0].message else { panic!("a mail") };
    assert_eq!((sender.as_str(), recipients.len()), ("help@example.com", 3));
    let first_bytes = message.clone();
    let mut told = says(&handed[0], Outcome::Delivered);
    let Said::Attempt(attempt) = &mut told.said else { panic!("an attempt") };
    attempt.recipients = vec![
        answer("a@example.org", AttemptOutcome::Delivered, "250 ok"),
        answer("b@example.org", AttemptOutcome::Permanent, "550 no such user"),
        answer("c@example.org", AttemptOutcome::Retry, "451 later"),
        answer("mallory@example.org", AttemptOutcome::Delivered, "250 of course"),
    ];
    assert_eq!(tell(&pool, one, vec![told]).await, [Receipt::Recorded]);
    assert_eq!(state(&pool, delivery).await.0, DeliveryState::Available, "one may still come");

    sqlx::query("UPDATE delivery_queue SET due_at = now()").execute(&pool).await.unwrap();
    let handed = leased(&pool, one, 1).await;
    let Message::Email { recipients, message, .. } = &handed[0].message else { panic!("a mail") };
    assert_eq!((recipients.as_slice(), message), (&["c@example.org".to_owned()][..], &first_bytes));
    let mut told = says(&handed[0], Outcome::Permanent);
    let Said::Attempt(attempt) = &mut told.said else { panic!("an attempt") };
    attempt.recipients = vec![answer("c@example.org", AttemptOutcome::Permanent, "554 never")];
    assert_eq!(tell(&pool, one, vec![told]).await, [Receipt::Recorded]);
    let whole = whole(&pool, delivery).await.unwrap();
    assert_eq!(whole.listed.state, DeliveryState::Completed, "it reached one of them");
    let known: Vec<_> =
        whole.attempts[0].recipients.iter().map(|one| (one.address.as_str(), one.outcome)).collect();
    let expected = [
        ("a@example.org", AttemptOutcome::Delivered),
        ("b@example.org", AttemptOutcome::Permanent),
        ("c@example.org", AttemptOutcome::Permanent),
    ];
    assert_eq!(known, expected);
}

#[tokio::test]
async fn who_was_not_asked_is_asked_again_and_a_word_for_all_is_one_for_each() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let one = connector(&pool, "one").await;
    let delivery = queue(&pool, vec![mail(&["a@example.org", "b@example.org"])]).await[0];
    let handed = leased(&pool, one, 1).await;
    let mut told = says(&handed[0], Outcome::Delivered);
    let Said::Attempt(attempt) = &mut told.said else { panic!("an attempt") };
    let (address, answer) = ("a@example.org".to_owned(), "250 ok".to_owned());
    attempt.recipients = vec![RecipientAnswer { address, outcome: AttemptOutcome::Delivered, answer }];
    tell(&pool, one, vec![told]).await;
    assert_eq!(state(&pool, delivery).await.0, DeliveryState::Available, "b was not asked");

    sqlx::query("UPDATE delivery_queue SET due_at = now()").execute(&pool).await.unwrap();
    let handed = leased(&pool, one, 1).await;
    let Message::Email { recipients, .. } = &handed[0].message else { panic!("a mail") };
    assert_eq!(recipients.as_slice(), ["b@example.org"]);
    tell(&pool, one, vec![says(&handed[0], Outcome::Delivered)]).await;
    let whole = whole(&pool, delivery).await.unwrap();
    assert_eq!(whole.listed.state, DeliveryState::Completed);
    let known: Vec<_> =
        whole.attempts[0].recipients.iter().map(|one| (one.address.as_str(), one.outcome)).collect();
    assert_eq!(
        known,
        [("a@example.org", AttemptOutcome::Delivered), ("b@example.org", AttemptOutcome::Delivered)]
    );
}

#[tokio::test]
async fn what_no_connector_announced_is_not_given_out() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let one = connector(&pool, "one").await;
    sqlx::query("UPDATE delivery_kinds SET announced_at = NULL").execute(&pool).await.unwrap();
    queue(&pool, vec![chat(), mail(&["a@example.org"])]).await;
    let handed = leased(&pool, one, 9).await;
    assert!(matches!(handed.as_slice(), [Handed { message: Message::Email { .. }, .. }]), "{handed:?}");
}

#[tokio::test]
async fn a_secret_that_a_receiver_sent_back_is_blotted_out_whatever_the_connector_does() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let one = connector(&pool, "one").await;
    stored_secrets::put(&pool, "key", &Secret::new("s3cret")).await.unwrap();
    let Payload::Webhook(plain) = webhook("https://hooks.example/x") else { panic!("a webhook") };
    let headers = BTreeMap::from([("x-key".to_owned(), HeaderValue::Secret { secret: "key".to_owned() })]);
    let delivery = queue(&pool, vec![Payload::Webhook(Webhook { headers, ..plain })]).await[0];
    let handed = leased(&pool, one, 1).await;
    assert!(!format!("{handed:?}").contains("s3cret"));
    let mut told = says(&handed[0], Outcome::Delivered);
    let Said::Attempt(attempt) = &mut told.said else { panic!("an attempt") };
    attempt.response = Some("you sent s3cret".to_owned());
    tell(&pool, one, vec![told]).await;
    let tried = whole(&pool, delivery).await.unwrap().attempts.remove(0);
    assert_eq!(tried.response.as_deref(), Some("you sent (secret key)"));
}

#[tokio::test]
async fn a_webhook_comes_with_its_secrets_and_waits_where_one_is_missing() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let one = connector(&pool, "one").await;
    let Payload::Webhook(plain) = webhook("https://hooks.example/x") else { panic!("a webhook") };
    let with_secrets = Payload::Webhook(Webhook {
        secret: Some("sign".to_owned()),
        headers: BTreeMap::from([("x-key".to_owned(), HeaderValue::Secret { secret: "key".to_owned() })]),
        ..plain
    });
    let delivery = queue(&pool, vec![with_secrets]).await[0];
    assert!(leased(&pool, one, 1).await.is_empty(), "the secrets do not exist");
    let tried = whole(&pool, delivery).await.unwrap().attempts.remove(0);
    assert_eq!(tried.outcome, "retry");
    assert!(tried.detail.unwrap().starts_with("secret \"key\" does not exist"));

    for (name, value) in
        [("sign", "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"), ("key", "s3cret"), ("other", "unused")]
    {
        stored_secrets::put(&pool, name, &Secret::new(value)).await.unwrap();
    }
    sqlx::query("UPDATE delivery_queue SET due_at = now()").execute(&pool).await.unwrap();
    let handed = leased(&pool, one, 1).await;
    let Message::Webhook { method, url, headers, body, signing_key, secrets } = &handed[0].message else {
        panic!("a webhook")
    };
    assert_eq!(
        (method.as_str(), url.as_str(), body.as_slice()),
        ("POST", "https://hooks.example/x", &b"{\"ticket\":1}"[..])
    );
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(headers.as_slice(), [pair("content-type", "application/json"), pair("x-key", "s3cret")]);
    assert_eq!(signing_key.as_ref().unwrap().expose(), "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0");
    assert_eq!(secrets.keys().collect::<Vec<_>>(), ["key", "sign"]);
    let Stored::Kept(payload) = whole(&pool, delivery).await.unwrap().message else { panic!("kept") };
    assert!(!format!("{payload:?}").contains("s3cret"));
}

#[tokio::test]
async fn no_more_is_handed_over_at_once_than_the_other_side_reads() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let one = connector(&pool, "one").await;
    let large = || {
        let Payload::Connector(custom) = chat() else { panic!("JSON") };
        Payload::Connector(Custom { json: json!("x".repeat(HANDED_MAX / 2 - 10)), ..custom })
    };
    queue(&pool, vec![large(), large(), large()]).await;
    assert_eq!(leased(&pool, one, 9).await.len(), 2);
    let last = leased(&pool, one, 9).await;
    assert_eq!(
        (last.len(), last[0].leased.attempt),
        (1, 1),
        "it was given back, which does not count as an attempt"
    );
}

#[tokio::test]
async fn a_lease_is_extended_for_its_holder_and_not_for_ever() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let (one, other) = (connector(&pool, "one").await, connector(&pool, "other").await);
    queue(&pool, vec![chat()]).await;
    let handed = leased(&pool, one, 1).await;
    let keys = [(handed[0].leased.delivery.id, handed[0].leased.token)];
    let extend = async |by| deliveries::extend(&pool, by, &keys, LEASE).await.unwrap();
    assert_eq!(extend(one).await, keys);
    assert!(extend(other).await.is_empty() && extend(Holder::Worker).await.is_empty());
    let old = "UPDATE delivery_attempts SET started_at = started_at - interval '20 min'";
    sqlx::query(old).execute(&pool).await.unwrap();
    assert!(extend(one).await.is_empty());
}

#[tokio::test]
async fn who_is_revoked_gets_nothing_more_and_what_it_did_still_counts() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let one = connector(&pool, "one").await;
    queue(&pool, vec![chat(), chat()]).await;
    let handed = leased(&pool, one, 1).await;
    assert!(connectors::revoke(&pool, "one").await.unwrap());
    assert!(!connectors::revoke(&pool, "one").await.unwrap(), "it is revoked already");
    assert!(leased(&pool, one, 1).await.is_empty());
    assert_eq!(tell(&pool, one, vec![says(&handed[0], Outcome::Delivered)]).await, [Receipt::Recorded]);
}
