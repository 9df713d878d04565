//! Connections of connectors: the three listeners, tokens, limits, health, reflection, and the stop.

use crate::desk::{Certificates, Client, Desk, SOON, loopback, new, socket_channel};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};
use tessera_grpc::v1::actions_service_client::ActionsServiceClient;
use tessera_grpc::v1::{
    CreateTicketRequest, GetTicketRequest, LeaseRequest, ListKindsRequest, Message, Room, TicketChange,
    UpdateTicketRequest,
};
use tessera_grpc::{Address, Limits, Listener, MESSAGE_MAX};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use tonic_types::StatusExt as _;
use tower::service_fn;

#[tokio::test]
async fn a_unix_socket_is_for_its_user_and_its_group_and_is_removed_with_the_server() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("grpc.sock");
    // A process that has exited left one behind.
    drop(UnixListener::bind(&path).unwrap());
    let address = Address::Unix(path.clone());
    let desk = Desk::open_at(&address, Limits::default()).await;
    assert_eq!(desk.url, format!("unix:{}", path.display()));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    let token = desk.token("sock", &[], Some("admin")).await;
    let mut client = Client::new(socket_channel(&path).await.unwrap(), &token);
    assert_eq!(client.create("Kettle").await.number, 1);

    let taken = Listener::open(&address).await.unwrap_err();
    assert!(taken.to_string().contains("another process is listening there"), "{taken}");
    drop(client);
    assert_eq!(desk.stopped().await, 0);
    assert!(!path.exists());

    std::fs::write(&path, "a file").unwrap();
    let refused = Listener::open(&address).await.unwrap_err();
    assert!(refused.to_string().contains("not a socket"), "{refused}");
    assert!(path.exists());
}

#[tokio::test]
async fn with_tls_a_client_needs_a_certificate_and_a_token() {
    let certificates = Certificates::create();
    let desk = Desk::open_at(&certificates.address(), Limits::default()).await;
    assert!(desk.url.starts_with("grpcs://127.0.0.1:"), "{}", desk.url);
    let token = desk.token("far", &[], Some("admin")).await;
    let channel = certificates.channel(&desk, true).await.unwrap();
    assert_eq!(Client::new(channel.clone(), &token).create("Kettle").await.number, 1);
    let without = Client::with(channel, &[]).tickets.get_ticket(GetTicketRequest::default()).await;
    assert_eq!(without.unwrap_err().code(), Code::Unauthenticated);
    // With TLS 1.3 a client learns only after its last handshake message that it was rejected.
    if let Ok(channel) = certificates.channel(&desk, false).await {
        let refused = Client::new(channel, &token).tickets.get_ticket(GetTicketRequest::default()).await;
        assert!(matches!(refused.unwrap_err().code(), Code::Unavailable | Code::Unknown));
    }
    assert_eq!(desk.stopped().await, 0);
}

#[tokio::test]
async fn an_invalid_tls_file_is_named() {
    let certificates = Certificates::create();
    let Address::Tls(address, mut files) = certificates.address() else { panic!("not TLS") };
    std::fs::write(&files.key, "no key").unwrap();
    let refused = Listener::open(&Address::Tls(address, files.clone())).await.unwrap_err();
    assert!(refused.to_string().starts_with(&files.key.display().to_string()), "{refused}");
    files.certificate = certificates.file("nowhere.pem");
    let refused = Listener::open(&Address::Tls(address, files.clone())).await.unwrap_err();
    assert!(
        refused.to_string().contains("nowhere.pem") || refused.to_string().contains("key.pem"),
        "{refused}"
    );
}

#[tokio::test]
async fn everything_but_health_and_reflection_needs_a_token() {
    let desk = Desk::open().await;
    let channel = desk.channel().await;
    for metadata in [
        &[][..],
        &[("authorization", "Bearer tsc_guessed")],
        &[("authorization", "Bearer")],
        &[("authorization", "Basic tsc_x")],
    ] {
        let mut client = Client::with(channel.clone(), metadata);
        let statuses = [
            client.tickets.get_ticket(GetTicketRequest::default()).await.map(drop).unwrap_err(),
            client.scrips.list_kinds(ListKindsRequest {}).await.map(drop).unwrap_err(),
            client.actions.lease(LeaseRequest::default()).await.map(drop).unwrap_err(),
        ];
        for status in statuses {
            assert_eq!(status.code(), Code::Unauthenticated, "{metadata:?}");
            let reason = status.get_details_error_info().unwrap().reason;
            assert_eq!(reason, "unauthenticated", "{metadata:?}");
        }
    }
    let token = desk.token("gone", &["email"], None).await;
    let mut client = Client::new(channel, &token);
    client.scrips.list_kinds(ListKindsRequest {}).await.unwrap();
    desk.tessera.revoke_connector(&desk.tessera.administrator().unwrap(), "gone").await.unwrap();
    let revoked = client.scrips.list_kinds(ListKindsRequest {}).await.unwrap_err();
    assert_eq!(revoked.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn every_call_has_an_id_that_is_also_in_the_log() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    let id = |metadata: &tonic::metadata::MetadataMap| {
        metadata.get("x-request-id").unwrap().to_str().unwrap().to_owned()
    };
    let answered = client.scrips.list_kinds(ListKindsRequest {}).await.unwrap();
    let failed = client.tickets.get_ticket(GetTicketRequest { ticket: "7".to_owned() }).await.unwrap_err();
    assert_ne!(id(answered.metadata()), id(failed.metadata()));
}

#[tokio::test]
async fn health_reports_every_service_and_the_stop() {
    let desk = Desk::open().await;
    let mut health = HealthClient::new(desk.channel().await);
    for service in ["", "tessera.v1.ActionsService", "tessera.v1.ScripsService", "tessera.v1.TicketsService"]
    {
        let request = HealthCheckRequest { service: service.to_owned() };
        let told = health.check(request).await.unwrap().into_inner();
        assert_eq!(told.status(), ServingStatus::Serving, "{service}");
    }
    let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watched.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let begun = Instant::now();
    let stopped = tokio::spawn(desk.stopped());
    assert_eq!(watched.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(watched.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert_eq!(stopped.await.unwrap(), 0);
    // A watching client does not delay the stop until the drain time is over.
    assert!(begun.elapsed() < SOON);
}

#[tokio::test]
async fn reflection_lists_the_services_and_resolves_a_message() {
    let desk = Desk::open().await;
    let mut client = ServerReflectionClient::new(desk.channel().await);
    let asked = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol("tessera.v1.LeaseRequest".to_owned()),
        MessageRequest::FileByFilename("google/protobuf/duration.proto".to_owned()),
        MessageRequest::FileContainingSymbol("google.rpc.ErrorInfo".to_owned()),
        MessageRequest::FileContainingSymbol("tessera.v1.Nothing".to_owned()),
    ];
    let asked = asked.map(|message_request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message_request),
    });
    let answers = client.server_reflection_info(tokio_stream::iter(asked)).await.unwrap().into_inner();
    let mut answers: Vec<Result<ServerReflectionResponse, Status>> = answers.collect().await;
    assert_eq!(answers.pop().unwrap().unwrap_err().code(), Code::NotFound);
    let answers: Vec<_> =
        answers.into_iter().map(|answer| answer.unwrap().message_response.unwrap()).collect();
    let MessageResponse::ListServicesResponse(services) = &answers[0] else { panic!("{:?}", answers[0]) };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["tessera.v1.ActionsService", "tessera.v1.TicketsService", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for (answer, file) in answers[1..4].iter().zip([
        "tessera/v1/actions.proto",
        "google/protobuf/duration.proto",
        "error_details.proto",
    ]) {
        let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("{answer:?}") };
        let file_of = |bytes: &Vec<u8>| {
            let file: prost_types::FileDescriptorProto = prost::Message::decode(bytes.as_slice()).unwrap();
            file.name().to_owned()
        };
        assert_eq!(files.file_descriptor_proto.iter().map(file_of).collect::<Vec<_>>(), [file]);
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_rejected_and_the_connection_stays_open() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    let content = Some(Message { content: "x".repeat(MESSAGE_MAX), ..Default::default() });
    let ticket = Some(tessera_grpc::v1::NewTicket { content, ..new("Large") });
    let refused =
        client.tickets.create_ticket(CreateTicketRequest { ticket, ..Default::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    assert_eq!(refused.get_details_error_info().unwrap().reason, "body_too_large");
    assert_eq!(client.create("Small").await.number, 1);
}

#[tokio::test]
async fn a_message_of_another_type_is_the_clients_error() {
    let desk = Desk::open().await;
    let token = desk.token("odd", &[], Some("admin")).await;
    let mut client = tonic::client::Grpc::new(desk.channel().await);
    client.ready().await.unwrap();
    // Its first field is a number, but the name of a ticket is a text.
    let mut request = Request::new(prost_types::Duration { seconds: 7, nanos: 0 });
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let path = PathAndQuery::from_static("/tessera.v1.TicketsService/GetTicket");
    let codec = ProstCodec::<prost_types::Duration, prost_types::Duration>::default();
    let refused = client.unary(request, path, codec).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert_eq!(refused.get_details_error_info().unwrap().reason, "malformed_message");
}

#[tokio::test]
async fn a_call_ends_at_its_clients_timeout() {
    let desk = Desk::open().await;
    let token = desk.token("impatient", &["email"], None).await;
    // tonic's own client would cancel the call; this one only sends the timeout.
    let stream = TcpStream::connect(desk.address.unwrap()).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let send = service_fn(move |request| sender.clone().send_request(request));
    let mut client = ActionsServiceClient::with_origin(send, "http://desk.example".parse().unwrap());
    let mut request = Request::new(lease(Duration::from_secs(20)));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request.metadata_mut().insert("grpc-timeout", "50m".parse().unwrap());
    let begun = Instant::now();
    let ended = client.lease(request).await.unwrap_err();
    assert_eq!(ended.code(), Code::DeadlineExceeded);
    assert_eq!(ended.get_details_error_info().unwrap().reason, "timeout");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_waiting_lease_gets_an_empty_response_when_the_server_stops() {
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    let mut health = HealthClient::new(desk.channel().await);
    let waiting = tokio::spawn(async move { client.actions.lease(lease(Duration::from_secs(30))).await });
    // The call is in progress once the database has recorded the connector.
    crate::eventually("the lease waits", async || {
        let connectors = desk.tessera.connectors(&desk.tessera.administrator().unwrap()).await.unwrap();
        connectors.iter().any(|one| one.last_seen_at.is_some()).then_some(())
    })
    .await;
    health.check(HealthCheckRequest::default()).await.unwrap();
    let begun = Instant::now();
    assert_eq!(desk.stopped().await, 0);
    assert!(begun.elapsed() < Duration::from_secs(10), "it waited for the time of the drain");
    let answered = waiting.await.unwrap().unwrap().into_inner();
    assert!(answered.deliveries.is_empty());
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time_and_frees_its_slot() {
    let short = Duration::from_millis(500);
    let limits = Limits { connections: 1, first_call: short, close: short, ..Limits::default() };
    let desk = Desk::open_at(&loopback(), limits).await;
    let mut silent = TcpStream::connect(desk.address.unwrap()).await.unwrap();
    let token = desk.token("second", &["email"], None).await;
    // It is accepted once the first one was closed.
    let mut client = Client::new(desk.channel().await, &token);
    client.scrips.list_kinds(ListKindsRequest {}).await.unwrap();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(SOON, silent.read_to_end(&mut rest)).await.expect("it is ended");
    assert!(read.is_err() || !rest.is_empty() || read.is_ok_and(|bytes| bytes == 0));
}

#[tokio::test]
async fn a_watching_client_occupies_no_slot() {
    let short = Duration::from_millis(200);
    let limits = Limits { connections: 1, idle: short, close: short, ..Limits::default() };
    let desk = Desk::open_at(&loopback(), limits).await;
    let mut health = HealthClient::new(desk.channel().await);
    let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watched.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let token = desk.token("second", &["email"], None).await;
    let mut client = Client::new(desk.channel().await, &token);
    client.scrips.list_kinds(ListKindsRequest {}).await.unwrap();
    assert!(watched.next().await.unwrap().is_err());
}

#[tokio::test]
async fn a_lease_above_the_limit_must_be_retried() {
    let limits = Limits { leases: 1, ..Limits::default() };
    let desk = Desk::open_at(&loopback(), limits).await;
    let mut client = desk.client().await;
    let mut other = client.actions.clone();
    // Whichever comes second is rejected: the other one waits.
    let long = Duration::from_secs(30);
    let turned_away = tokio::select! {
        answer = client.actions.lease(lease(long)) => answer.unwrap_err(),
        answer = other.lease(lease(long)) => answer.unwrap_err(),
    };
    assert_eq!(turned_away.code(), Code::Unavailable);
    assert_eq!(turned_away.get_details_error_info().unwrap().reason, "overloaded");
    assert!(turned_away.get_details_retry_info().unwrap().retry_delay.is_some());
}

#[tokio::test]
async fn a_call_that_does_not_end_delays_the_stop_only_for_a_while() {
    let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
    let desk = Desk::open_at(&loopback(), limits).await;
    let mut client = desk.client().await;
    client.create("Kettle").await;
    let mut locked = desk.pool().begin().await.unwrap();
    sqlx::query("SELECT FROM tickets FOR UPDATE").execute(&mut *locked).await.unwrap();
    let change = Some(TicketChange { priority: Some(7), ..Default::default() });
    let request = UpdateTicketRequest { ticket: "1".to_owned(), change, ..Default::default() };
    let stuck = tokio::spawn(async move { client.tickets.update_ticket(request).await });
    crate::eventually("the change waits for the row", async || {
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";
        sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut *locked).await.unwrap().then_some(())
    })
    .await;
    assert_eq!(desk.stopped().await, 1);
    assert_eq!(stuck.await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn what_is_no_http_2_is_let_go() {
    let desk = Desk::open().await;
    let mut stream = TcpStream::connect(desk.address.unwrap()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    // A graceful close or a reset, depending on the kernel.
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut rest)).await.expect("it is ended");
}

#[tokio::test]
async fn connections_after_the_stop_are_refused() {
    let desk = Desk::open().await;
    let address = desk.address.unwrap();
    desk.stopped().await;
    let late = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await;
    assert!(late.is_err());
}

fn lease(wait: Duration) -> LeaseRequest {
    let room = Room { kind: "email".to_owned(), places: 1, per_endpoint: 0 };
    LeaseRequest { rooms: vec![room], busy: Vec::new(), wait: Some(wait.try_into().unwrap()) }
}
