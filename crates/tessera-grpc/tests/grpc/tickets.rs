//! Tickets over gRPC: creating, changing, previewing, finding and reading them, and errors.

use crate::desk::{Client, Desk, new};
use std::collections::BTreeMap;
use tessera_grpc::v1::preview_ticket_request::Command;
use tessera_grpc::v1::{
    AddMessageRequest, Audience, CreateTicketRequest, Difference, DueChange, FieldChange, FieldValues,
    GetTicketRequest, ListTransactionsRequest, Message, NewTicket, PreviewTicketRequest,
    SearchTicketsRequest, Ticket, TicketChange, UpdateTicketRequest,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

#[tokio::test]
async fn a_ticket_is_created_changed_and_returned_with_its_history() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    let due = prost_types::Timestamp { seconds: 1_900_000_000, nanos: 5_000 };
    let content = Some(message("It drips."));
    let asked = NewTicket { content, due_at: Some(due), priority: 3, ..new("Kettle leaks") };
    let request = CreateTicketRequest { ticket: Some(asked), ..Default::default() };
    let made = client.tickets.create_ticket(request).await.unwrap().into_inner();
    assert!(!made.replayed);
    let made = made.ticket.unwrap();
    assert_eq!(
        (made.number, made.version, made.queue.as_str(), made.status.as_str()),
        (1, 1, "General", "new")
    );
    assert_eq!((made.creator.as_str(), made.owner.as_str(), made.priority), ("admin", "", 3));
    assert_eq!(made.requestors, ["eve@example.net"]);
    assert_eq!((made.due_at, made.resolved_at), (Some(due), None));
    assert_eq!(made.url, "http://desk.example/t/1");

    let change = TicketChange {
        status: Some("open".to_owned()),
        owner: Some("admin".to_owned()),
        due: Some(DueChange { at: None }),
        cc: Some(Difference { add: vec!["bob@example.net".to_owned()], remove: Vec::new() }),
        reply: Some(message("We look at it.")),
        ..Default::default()
    };
    let changed = update(&mut client, "1", change).await.unwrap();
    assert_eq!((changed.status.as_str(), changed.owner.as_str()), ("open", "admin"));
    assert_eq!((changed.due_at, changed.cc.as_slice()), (None, &["bob@example.net".to_owned()][..]));
    let nobody = TicketChange { owner: Some(String::new()), ..Default::default() };
    let changed = update(&mut client, &made.id, nobody).await.unwrap();
    assert_eq!(changed.owner, "");
    let read = client.tickets.get_ticket(GetTicketRequest { ticket: "#1".to_owned() }).await.unwrap();
    assert_eq!(read.into_inner().ticket.unwrap(), changed);

    let mut history = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListTransactionsRequest { ticket: "1".to_owned(), page_size: 2, page_token };
        let page = client.tickets.list_transactions(request).await.unwrap().into_inner();
        history.extend(page.transactions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let numbered: Vec<_> = history.iter().filter(|one| one.seq > 0).map(|one| one.seq).collect();
    assert_eq!(numbered, Vec::from_iter(1..=changed.version));
    let first = &history[0];
    assert_eq!((first.r#type.as_str(), first.content.as_str()), ("Create", "It drips."));
    assert_eq!((first.content_type.as_str(), first.creator.as_str()), ("text/plain", "admin"));
    let status = history.iter().find(|one| one.r#type == "Status").unwrap();
    assert_eq!((status.old_value.as_str(), status.new_value.as_str()), ("new", "open"));
}

#[tokio::test]
async fn a_preview_has_the_effects_and_its_hash_pins_the_change_to_them() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    let command = Some(Command::Create(new("Kettle")));
    let shown =
        client.tickets.preview_ticket(PreviewTicketRequest { command, ..Default::default() }).await.unwrap();
    let shown = shown.into_inner();
    let ticket = shown.ticket.unwrap();
    assert_eq!((ticket.number, ticket.url.as_str(), ticket.subject.as_str()), (0, "", "Kettle"));
    assert_eq!(shown.transactions[0].r#type, "Create");
    let mails: Vec<_> =
        shown.deliveries.iter().map(|one| (one.kind.as_str(), one.endpoint.as_str())).collect();
    assert!(mails.contains(&("email", "smtp")), "{mails:?}");
    let maker = &shown.deliveries[0].scrip;
    let of = |name: &str| shown.scrips.iter().find(|one| one.scrip == name).unwrap();
    assert_eq!((of(maker).verdict.as_str(), of(maker).reason.as_str()), ("fired", ""));
    let idle = shown.scrips.iter().find(|one| one.verdict == "declined" || one.verdict == "not_applicable");
    assert!(idle.is_none_or(|one| !one.reason.is_empty()), "{idle:?}");
    assert_eq!(client.create("Kettle").await.number, 1, "a preview draws no number");

    let hash = async |client: &mut Client, subject: &str| {
        let change = TicketChange { subject: Some(subject.to_owned()), ..Default::default() };
        let command = Some(Command::Change(change));
        let request = PreviewTicketRequest { ticket: "1".to_owned(), command };
        client.tickets.preview_ticket(request).await.unwrap().into_inner().plan_hash
    };
    let change = |plan_hash: &str| UpdateTicketRequest {
        ticket: "1".to_owned(),
        change: Some(TicketChange { subject: Some("Pot".to_owned()), ..Default::default() }),
        plan_hash: plan_hash.to_owned(),
        ..Default::default()
    };
    let other = hash(&mut client, "Another").await;
    let refused = client.tickets.update_ticket(change(&other)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "plan_changed"));
    let right = hash(&mut client, "Pot").await;
    assert!(refused.message().contains(&right), "{}", refused.message());
    let made = client.tickets.update_ticket(change(&right)).await.unwrap().into_inner();
    assert_eq!(made.ticket.unwrap().subject, "Pot");
    let malformed = client.tickets.update_ticket(change("x")).await.unwrap_err();
    assert_eq!(fields(&malformed), ["plan_hash"]);
}

#[tokio::test]
async fn the_same_key_and_request_create_one_ticket_and_get_the_same_response() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    let request = |subject: &str| CreateTicketRequest {
        ticket: Some(NewTicket {
            custom_fields: BTreeMap::new(),
            content: Some(message("It drips.")),
            ..new(subject)
        }),
        idempotency_key: "<4711@mail.example>".to_owned(),
        ..Default::default()
    };
    let first = client.tickets.create_ticket(request("Kettle")).await.unwrap().into_inner();
    let ticket = first.ticket.clone().unwrap();
    update(&mut client, "1", TicketChange { priority: Some(9), ..Default::default() }).await.unwrap();
    let again = client.tickets.create_ticket(request("Kettle")).await.unwrap().into_inner();
    assert!(!first.replayed && again.replayed);
    assert_eq!(again.ticket.unwrap(), ticket, "the answer of then");
    let other = client.tickets.create_ticket(request("Pot")).await.unwrap_err();
    assert_eq!((other.code(), reason(&other).as_str()), (Code::InvalidArgument, "idempotency_key_reused"));
    let long = CreateTicketRequest { idempotency_key: "x".repeat(256), ..request("Kettle") };
    assert_eq!(fields(&client.tickets.create_ticket(long).await.unwrap_err()), ["idempotency_key"]);

    // The same key with another method is another request.
    let added = AddMessageRequest {
        ticket: "1".to_owned(),
        audience: Audience::Team.into(),
        message: Some(message("It drips.")),
        idempotency_key: "<4711@mail.example>".to_owned(),
    };
    assert_eq!(
        reason(&client.tickets.add_message(added.clone()).await.unwrap_err()),
        "idempotency_key_reused"
    );
    let added = AddMessageRequest { idempotency_key: "note-1".to_owned(), ..added };
    let first = client.tickets.add_message(added.clone()).await.unwrap().into_inner();
    let again = client.tickets.add_message(added).await.unwrap().into_inner();
    assert!(!first.replayed && again.replayed);
    let request = ListTransactionsRequest { ticket: "1".to_owned(), ..Default::default() };
    let history = client.tickets.list_transactions(request).await.unwrap().into_inner().transactions;
    assert_eq!(history.iter().filter(|one| one.r#type == "Comment").count(), 1);
}

#[tokio::test]
async fn a_message_goes_to_the_team_or_to_the_requestor_and_to_nobody_by_default() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    client.create("Kettle").await;
    for (audience, expected) in [(Audience::Team, "Comment"), (Audience::Requestor, "Correspond")] {
        let message = Message { content_type: "text/html".to_owned(), ..message("<b>Look</b>") };
        let request = AddMessageRequest {
            ticket: "1".to_owned(),
            audience: audience.into(),
            message: Some(message),
            ..Default::default()
        };
        client.tickets.add_message(request).await.unwrap();
        let request = ListTransactionsRequest { ticket: "1".to_owned(), ..Default::default() };
        let history = client.tickets.list_transactions(request).await.unwrap().into_inner().transactions;
        let told = history.iter().rev().find(|one| one.content_type == "text/html").unwrap();
        assert_eq!((told.r#type.as_str(), told.content.as_str()), (expected, "Look"));
    }
    let nobody =
        AddMessageRequest { ticket: "1".to_owned(), message: Some(message("x")), ..Default::default() };
    assert_eq!(fields(&client.tickets.add_message(nobody).await.unwrap_err()), ["audience"]);
    let mut odd = message("x");
    odd.content_type = "text/rtf".to_owned();
    let odd = AddMessageRequest {
        ticket: "1".to_owned(),
        audience: Audience::Team.into(),
        message: Some(odd),
        ..Default::default()
    };
    assert_eq!(fields(&client.tickets.add_message(odd).await.unwrap_err()), ["message.content_type"]);
}

#[tokio::test]
async fn a_search_returns_pages_in_order() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    for (subject, priority) in [("a", 2), ("b", 3), ("c", 1)] {
        let ticket = Some(NewTicket { priority, ..new(subject) });
        client.tickets.create_ticket(CreateTicketRequest { ticket, ..Default::default() }).await.unwrap();
    }
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = SearchTicketsRequest {
            query: "Queue = 'General' AND Priority > 1".to_owned(),
            page_size: 1,
            page_token,
            order: "-priority".to_owned(),
        };
        let page = client.tickets.search_tickets(request).await.unwrap().into_inner();
        found.extend(page.tickets.into_iter().map(|ticket| ticket.subject));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found, ["b", "a"]);
    let all = client.tickets.search_tickets(SearchTicketsRequest::default()).await.unwrap().into_inner();
    assert_eq!(all.tickets.len(), 3);

    let wrong = SearchTicketsRequest { query: "Statsu = 'open'".to_owned(), ..Default::default() };
    let refused = client.tickets.search_tickets(wrong).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "invalid_query"));
    assert_eq!(fields(&refused), ["query"]);
    assert_eq!(refused.get_details_error_info().unwrap().metadata["start"], "0");
    for page_size in [-1, 101] {
        let wrong = SearchTicketsRequest { page_size, ..Default::default() };
        assert_eq!(fields(&client.tickets.search_tickets(wrong).await.unwrap_err()), ["page_size"]);
    }
    let wrong = SearchTicketsRequest { page_token: "x".to_owned(), ..Default::default() };
    assert_eq!(reason(&client.tickets.search_tickets(wrong).await.unwrap_err()), "malformed_cursor");
}

#[tokio::test]
async fn errors_have_the_code_the_reason_and_the_allowed_values() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    client.create("Kettle").await;
    let missing = client.tickets.get_ticket(GetTicketRequest { ticket: "99".to_owned() }).await.unwrap_err();
    assert_eq!((missing.code(), reason(&missing).as_str()), (Code::NotFound, "not_found"));

    let stale = UpdateTicketRequest {
        ticket: "1".to_owned(),
        change: Some(TicketChange { priority: Some(1), ..Default::default() }),
        version: 7,
        ..Default::default()
    };
    let refused = client.tickets.update_ticket(stale).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "version_mismatch"));

    let deleted = NewTicket { status: "deleted".to_owned(), ..new("x") };
    let request = CreateTicketRequest { ticket: Some(deleted), ..Default::default() };
    let denied = client.tickets.create_ticket(request).await.unwrap_err();
    assert_eq!((denied.code(), reason(&denied).as_str()), (Code::FailedPrecondition, "transition_denied"));
    assert!(denied.get_details_error_info().unwrap().metadata["allowed"].contains("open"));

    let faulty = NewTicket {
        queue: "Nowhere".to_owned(),
        custom_fields: BTreeMap::from([(
            "Severity".to_owned(),
            FieldValues { values: vec!["high".to_owned()] },
        )]),
        ..new("x")
    };
    let request = CreateTicketRequest { ticket: Some(faulty), ..Default::default() };
    let refused = client.tickets.create_ticket(request).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "invalid"));
    assert!(fields(&refused).contains(&"queue".to_owned()), "{:?}", fields(&refused));

    let nothing = CreateTicketRequest::default();
    assert_eq!(fields(&client.tickets.create_ticket(nothing).await.unwrap_err()), ["ticket"]);
    let empty = TicketChange {
        custom_fields: BTreeMap::from([("Severity".to_owned(), FieldChange { change: None })]),
        ..Default::default()
    };
    let refused = update(&mut client, "1", empty).await.unwrap_err();
    assert_eq!(fields(&refused), ["custom_fields.Severity"]);
    let endless = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
    let late = TicketChange { due: Some(DueChange { at: Some(endless) }), ..Default::default() };
    assert_eq!(fields(&update(&mut client, "1", late).await.unwrap_err()), ["due.at"]);
}

#[tokio::test]
async fn a_token_without_a_user_reads_and_changes_no_ticket() {
    let desk = Desk::open().await;
    let token = desk.token("mailer", &["email"], None).await;
    let mut client = Client::new(desk.channel().await, &token);
    let refused = client.tickets.get_ticket(GetTicketRequest { ticket: "1".to_owned() }).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "forbidden"));
    let request = CreateTicketRequest { ticket: Some(new("x")), ..Default::default() };
    assert_eq!(client.tickets.create_ticket(request).await.unwrap_err().code(), Code::PermissionDenied);
    let search = client.tickets.search_tickets(SearchTicketsRequest::default()).await.unwrap_err();
    assert_eq!(search.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_chain_of_deliveries_ends_whatever_depth_a_caller_sends() {
    let desk = Desk::open().await;
    let token = desk.token("chain", &[], Some("admin")).await;
    let authorization = format!("Bearer {token}");
    let at_depth = async |depth: &str| {
        let metadata = [("authorization", authorization.as_str()), ("tessera-depth", depth)];
        let mut client = Client::with(desk.channel().await, &metadata);
        let command = Some(Command::Create(new("Kettle")));
        let request = PreviewTicketRequest { command, ..Default::default() };
        client.tickets.preview_ticket(request).await.map(tonic::Response::into_inner)
    };
    assert!(!at_depth("4").await.unwrap().deliveries.is_empty());
    let last = at_depth("5").await.unwrap();
    assert!(last.deliveries.is_empty());
    let stopped = last.scrips.iter().find(|scrip| scrip.verdict == "stopped").unwrap();
    assert!(!stopped.reason.is_empty());
    for wrong in ["-1", "1001", "many"] {
        let refused = at_depth(wrong).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "malformed_header"));
    }
}

#[tokio::test]
async fn an_unreachable_database_is_not_an_error_of_the_caller() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    desk.lose_database().await;
    let away = client.tickets.get_ticket(GetTicketRequest { ticket: "1".to_owned() }).await.unwrap_err();
    assert_eq!((away.code(), reason(&away).as_str()), (Code::Unavailable, "database_unavailable"));
    assert!(away.get_details_retry_info().unwrap().retry_delay.is_some());
}

async fn update(client: &mut Client, ticket: &str, change: TicketChange) -> Result<Ticket, Status> {
    let request =
        UpdateTicketRequest { ticket: ticket.to_owned(), change: Some(change), ..Default::default() };
    Ok(client.tickets.update_ticket(request).await?.into_inner().ticket.unwrap())
}

fn message(content: &str) -> Message {
    Message { content: content.to_owned(), ..Default::default() }
}

/// Returns the code in `docs/api.md`.
fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap_or_else(|| panic!("{status:?}")).reason
}

/// Returns the invalid fields.
fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let faults = status.get_details_bad_request().unwrap_or_else(|| panic!("{status:?}"));
    faults.field_violations.into_iter().map(|fault| fault.field).collect()
}
