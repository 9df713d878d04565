//! Leases over gRPC: leased, extended, settled, returned; and the limits of the contract.

use crate::desk::{Client, Desk};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tessera_core::models::secret::Secret;
use tessera_grpc::v1::actions_service_client::ActionsServiceClient;
use tessera_grpc::v1::delivery::Payload;
use tessera_grpc::v1::{
    AnnounceRequest, Busy, Delivery, ExtendRequest, Health, LeaseKey, LeaseRequest, ListKindsRequest,
    ListTransactionsRequest, Outcome, Receipt, RecipientAnswer, Room, SettleRequest, Settlement,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use tower::service_fn;

#[tokio::test]
async fn a_mail_is_leased_extended_and_settled_once() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    let ticket = client.create("Kettle").await;
    let [mail] = lease(&mut client, "email", 5).await.try_into().unwrap();
    assert_eq!(
        (mail.kind.as_str(), mail.endpoint.as_str(), mail.attempt, mail.depth),
        ("email", "smtp", 1, 1)
    );
    let key = mail.ticket.clone().unwrap();
    assert_eq!((key.id, key.number, key.url), (ticket.id, 1, ticket.url));
    let Some(Payload::Email(email)) = &mail.payload else { panic!("{mail:?}") };
    assert_eq!(email.recipients, ["eve@example.net"]);
    assert_eq!(email.sender, "desk@desk.example");
    let text = String::from_utf8(email.message.clone()).unwrap();
    assert!(text.contains(&mail.id) && text.contains("Subject: ") && text.contains("\r\n"), "{text}");

    let extend = ExtendRequest { leases: vec![key_of(&mail), LeaseKey { lease: 99, ..key_of(&mail) }] };
    let lost = client.actions.extend(extend).await.unwrap().into_inner().lost;
    assert_eq!(lost, [LeaseKey { lease: 99, ..key_of(&mail) }]);

    let answer = RecipientAnswer {
        address: "eve@example.net".to_owned(),
        outcome: Outcome::Delivered.into(),
        answer: "250 ok".to_owned(),
    };
    let settlement = Settlement { recipients: vec![answer], ..settlement(&mail, Outcome::Unspecified) };
    let unknown = Settlement { lease: 99, ..settlement.clone() };
    let receipts = settle(&mut client, vec![settlement.clone(), unknown]).await.unwrap();
    assert_eq!(receipts, [Receipt::Recorded, Receipt::UnknownLease]);
    assert_eq!(settle(&mut client, vec![settlement]).await.unwrap(), [Receipt::AlreadySettled]);
    let request = ListTransactionsRequest { ticket: "1".to_owned(), ..Default::default() };
    let history = client.tickets.list_transactions(request).await.unwrap().into_inner().transactions;
    assert_eq!(history.iter().filter(|one| one.r#type == "EmailRecord").count(), 1);
    assert!(lease(&mut client, "email", 5).await.is_empty());
}

#[tokio::test]
async fn a_returned_lease_is_due_again_and_does_not_count() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    client.create("Kettle").await;
    let [mail] = lease(&mut client, "email", 1).await.try_into().unwrap();
    let back = settlement(&mail, Outcome::Returned);
    assert_eq!(settle(&mut client, vec![back]).await.unwrap(), [Receipt::Recorded]);
    let [again] = lease(&mut client, "email", 1).await.try_into().unwrap();
    assert_eq!((&again.id, again.attempt), (&mail.id, 1));
    assert!(again.lease > mail.lease);
    let failed = Settlement {
        detail: "no route".to_owned(),
        health: Health::Fails.into(),
        retry_after: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
        duration: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..settlement(&again, Outcome::Retry)
    };
    assert_eq!(settle(&mut client, vec![failed]).await.unwrap(), [Receipt::Recorded]);
    let late = "SELECT due_at > now() + interval '80 s' FROM delivery_queue";
    assert!(sqlx::query_scalar::<_, bool>(late).fetch_one(desk.pool()).await.unwrap());
}

#[tokio::test]
async fn a_lease_whose_response_is_not_read_is_given_back_and_was_no_attempt() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    let token = desk.token("unread", &["email"], None).await;
    client.create("Kettle").await;
    // A client that has no room for the response, and hangs up.
    let stream = TokioIo::new(TcpStream::connect(desk.address.unwrap()).await.unwrap());
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (unread, connection) = builder.initial_stream_window_size(0).handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let (head, mut heads) = mpsc::unbounded_channel();
    let send = service_fn(move |request| {
        let (mut unread, head) = (unread.clone(), head.clone());
        async move {
            let response = unread.send_request(request).await;
            let _ = head.send(());
            response
        }
    });
    let mut deaf = ActionsServiceClient::with_origin(send, "http://desk.example".parse().unwrap());
    let asked = LeaseRequest { rooms: vec![room("email", 1)], busy: Vec::new(), wait: Some(NOT_AT_ALL) };
    let mut request = Request::new(asked);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let response = tokio::spawn(async move { deaf.lease(request).await });
    heads.recv().await.unwrap();
    assert!(lease(&mut client, "email", 1).await.is_empty(), "it has the lease");
    response.abort();
    connection.abort();
    let asked = LeaseRequest { rooms: vec![room("email", 1)], busy: Vec::new(), wait: None };
    let [mail] = client.actions.lease(asked).await.unwrap().into_inner().deliveries.try_into().unwrap();
    assert_eq!(mail.attempt, 1);
    let shown = "SELECT count(*) FROM delivery_attempts WHERE given_back_at IS NULL";
    assert_eq!(sqlx::query_scalar::<_, i64>(shown).fetch_one(desk.pool()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_webhook_comes_with_its_secrets_and_none_of_them_is_ever_printed() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    client.create("Kettle").await;
    for (name, value) in [("pager", "k-4711"), ("signing", "whsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u")] {
        desk.tessera
            .put_secret(&desk.tessera.administrator().unwrap(), name, &Secret::new(value))
            .await
            .unwrap();
    }
    // As a scrip would create it.
    let payload = r#"{"kind": "webhook", "method": "POST", "url": "https://pager.example/hook",
        "headers": {"X-Key": {"secret": "pager"}, "Tessera-Depth": "3"}, "secret": "signing"}"#;
    let made = "UPDATE deliveries SET kind = 'webhook', endpoint = 'https://pager.example', payload = $1::jsonb, body = '{}'::bytea";
    sqlx::query(made).bind(payload).execute(desk.pool()).await.unwrap();
    let queued = "UPDATE delivery_queue SET kind = 'webhook', endpoint = 'https://pager.example'";
    sqlx::query(queued).execute(desk.pool()).await.unwrap();
    let token = desk.token("hooks", &["webhook"], None).await;
    let mut client = Client::new(desk.channel().await, &token);
    let [hook] = lease(&mut client, "webhook", 1).await.try_into().unwrap();
    assert_eq!((hook.endpoint.as_str(), hook.depth), ("https://pager.example", 3));
    let Some(Payload::Webhook(webhook)) = &hook.payload else { panic!("no webhook") };
    assert_eq!((webhook.method.as_str(), webhook.body.as_slice()), ("POST", &b"{}"[..]));
    assert_eq!(webhook.signing_key, "whsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1u");
    assert_eq!(webhook.secrets["pager"], "k-4711");
    let header = webhook.headers.iter().find(|header| header.name.eq_ignore_ascii_case("x-key"));
    assert_eq!(header.unwrap().value, "k-4711");
    let printed = format!("{hook:?}");
    assert!(!printed.contains("4711") && !printed.contains("whsec"), "{printed}");
}

#[tokio::test]
async fn a_kind_that_the_token_is_not_bound_to_is_rejected() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    let room = Room { kind: "chat".to_owned(), places: 1, per_endpoint: 0 };
    let asked = LeaseRequest { rooms: vec![room], busy: Vec::new(), wait: Some(NOT_AT_ALL) };
    assert_eq!(client.actions.lease(asked).await.unwrap_err().code(), Code::PermissionDenied);
    let asked =
        AnnounceRequest { kind: "chat".to_owned(), software: "chat 1".to_owned(), ..Default::default() };
    assert_eq!(client.scrips.announce(asked).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_kind_is_announced_with_its_schema_and_listed() {
    let desk = Desk::open().await;
    desk.client().await.create("Kettle").await;
    let token = desk.token("chats", &["chat", "email"], None).await;
    let mut client = Client::new(desk.channel().await, &token);
    let kinds = client.scrips.list_kinds(ListKindsRequest {}).await.unwrap().into_inner().kinds;
    let names: Vec<_> = kinds.iter().map(|kind| kind.name.as_str()).collect();
    assert_eq!(names, ["chat", "email"]);
    assert_eq!((kinds[0].schema.as_str(), kinds[0].announced_at), ("", None));
    assert!(kinds[0].scrips.is_empty() && kinds[0].unfinished == 0);
    assert!(kinds[1].scrips.iter().any(|scrip| scrip.contains("Autoreply")), "{:?}", kinds[1].scrips);
    assert_eq!(kinds[1].unfinished, 1);
    let schema = r#"{"type":"object"}"#;
    let asked = AnnounceRequest {
        kind: "chat".to_owned(),
        schema: schema.to_owned(),
        software: "chat-connector 1.2".to_owned(),
    };
    assert!(client.scrips.announce(asked).await.unwrap().into_inner().misfits.is_empty());
    let kinds = client.scrips.list_kinds(ListKindsRequest {}).await.unwrap().into_inner().kinds;
    assert_eq!(kinds[0].schema, schema);
    assert!(kinds[0].announced_at.is_some());
    let broken = AnnounceRequest { kind: "chat".to_owned(), schema: "{".to_owned(), software: String::new() };
    assert_eq!(fields(&client.scrips.announce(broken).await.unwrap_err()), ["software", "schema"]);
}

#[tokio::test]
async fn the_limits_of_the_contract_are_reported_with_their_fields() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    let email = Room { kind: "email".to_owned(), places: 1, per_endpoint: 0 };
    let leases: [(LeaseRequest, &[&str]); 6] = [
        (LeaseRequest::default(), &["rooms"]),
        (
            LeaseRequest {
                rooms: vec![Room { places: 0, per_endpoint: 1_001, ..email.clone() }],
                ..Default::default()
            },
            &["rooms[0].places", "rooms[0].per_endpoint"],
        ),
        (
            LeaseRequest { rooms: vec![email.clone(), email.clone()], ..Default::default() },
            &["rooms[1].kind"],
        ),
        (
            LeaseRequest {
                rooms: vec![Room { kind: "No".to_owned(), ..email.clone() }],
                ..Default::default()
            },
            &["rooms[0].kind"],
        ),
        (
            LeaseRequest {
                rooms: vec![email.clone()],
                busy: vec![Busy { endpoint: "smtp".to_owned(), running: 0 }],
                wait: Some(prost_types::Duration { seconds: 31, nanos: 0 }),
            },
            &["busy[0].running", "wait"],
        ),
        (
            LeaseRequest {
                rooms: vec![email],
                busy: vec![Busy { endpoint: "smtp".to_owned(), running: 1 }; 1_001],
                wait: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
            },
            &["busy", "wait"],
        ),
    ];
    for (asked, expected) in leases {
        assert_eq!(fields(&client.actions.lease(asked).await.unwrap_err()), expected);
    }
    let none = client.actions.extend(ExtendRequest::default()).await.unwrap_err();
    assert_eq!(fields(&none), ["leases"]);
    let odd = LeaseKey { delivery_id: "7".to_owned(), lease: 1 };
    let odd = client.actions.extend(ExtendRequest { leases: vec![odd] }).await.unwrap_err();
    assert_eq!(fields(&odd), ["leases[0].delivery_id"]);

    let id = "01a211c0-fb30-7001-95a6-d8253df78216".to_owned();
    let mail = Delivery { id, lease: 1, ..Default::default() };
    let answer = RecipientAnswer { outcome: Outcome::Returned.into(), ..Default::default() };
    let settlements = vec![
        settlement(&mail, Outcome::Unspecified),
        Settlement { recipients: vec![answer], ..settlement(&mail, Outcome::Retry) },
        Settlement { delivery_id: String::new(), ..settlement(&mail, Outcome::Delivered) },
        Settlement {
            retry_after: Some(prost_types::Duration { seconds: -5, nanos: 0 }),
            ..settlement(&mail, Outcome::Retry)
        },
    ];
    let expected = [
        "settlements[0].outcome",
        "settlements[1].recipients[0].outcome",
        "settlements[2].delivery_id",
        "settlements[3].retry_after",
    ];
    assert_eq!(fields(&settle(&mut client, settlements).await.unwrap_err()), expected);
    let many = vec![settlement(&mail, Outcome::Returned); 101];
    assert_eq!(fields(&settle(&mut client, many).await.unwrap_err()), ["settlements"]);
}

#[tokio::test]
async fn a_delivery_too_large_for_a_response_is_discarded_and_its_history_says_why() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    client.create("Kettle").await;
    let large =
        "UPDATE deliveries SET payload = jsonb_set(payload, '{text}', to_jsonb(repeat('x', 5000000)))";
    sqlx::query(large).execute(desk.pool()).await.unwrap();
    assert!(lease(&mut client, "email", 10).await.is_empty());
    let request = ListTransactionsRequest { ticket: "1".to_owned(), ..Default::default() };
    let history = client.tickets.list_transactions(request).await.unwrap().into_inner().transactions;
    assert!(history.iter().any(|one| one.r#type == "DeliveryFailed"), "{history:?}");
}

/// An extension of a lease that does not exist.
pub fn nothing_held() -> ExtendRequest {
    let id = "01a211c0-fb30-7001-95a6-d8253df78216".to_owned();
    ExtendRequest { leases: vec![LeaseKey { delivery_id: id, lease: 1 }] }
}

/// No wait.
const NOT_AT_ALL: prost_types::Duration = prost_types::Duration { seconds: 0, nanos: 0 };

fn room(kind: &str, places: i32) -> Room {
    Room { kind: kind.to_owned(), places, per_endpoint: 0 }
}

async fn lease(client: &mut Client, kind: &str, places: i32) -> Vec<Delivery> {
    let asked = LeaseRequest { rooms: vec![room(kind, places)], busy: Vec::new(), wait: Some(NOT_AT_ALL) };
    let leased = client.actions.lease(asked).await.unwrap().into_inner();
    assert_eq!(leased.lease, Some(prost_types::Duration { seconds: 30, nanos: 0 }));
    leased.deliveries
}

async fn settle(client: &mut Client, settlements: Vec<Settlement>) -> Result<Vec<Receipt>, Status> {
    let settled = client.actions.settle(SettleRequest { settlements }).await?.into_inner();
    Ok(settled.receipts().collect())
}

fn key_of(delivery: &Delivery) -> LeaseKey {
    LeaseKey { delivery_id: delivery.id.clone(), lease: delivery.lease }
}

fn settlement(delivery: &Delivery, outcome: Outcome) -> Settlement {
    let LeaseKey { delivery_id, lease } = key_of(delivery);
    Settlement { delivery_id, lease, outcome: outcome.into(), ..Default::default() }
}

/// Returns the invalid fields.
fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let faults = status.get_details_bad_request().unwrap_or_else(|| panic!("{status:?}"));
    faults.field_violations.into_iter().map(|fault| fault.field).collect()
}
