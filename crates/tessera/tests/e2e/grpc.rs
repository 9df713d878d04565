//! Connectors and the server's gRPC listener: its address, its behavior at a stop, and no unencrypted access from outside.

use std::pin::pin;
use std::time::Instant;

use futures::future::join;
use futures::poll;
use serde_json::json;
use tessera_grpc::v1::actions_service_client::ActionsServiceClient;
use tessera_grpc::v1::{LeaseRequest, Room};
use tokio::net::UnixStream;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::support::{SOON, Server, eventually};

/// Creates a request for a lease of mails that waits for a number of seconds.
fn lease(token: &str, seconds: i64) -> Request<LeaseRequest> {
    let room = Room { kind: "email".to_owned(), places: 10, per_endpoint: 0 };
    let wait = Some(prost_types::Duration { seconds, nanos: 0 });
    let mut request = Request::new(LeaseRequest { rooms: vec![room], busy: Vec::new(), wait });
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// Connects to the gRPC address in the log.
async fn connect(server: &Server) -> Channel {
    let log = server.log_text();
    let (_, rest) = log.rsplit_once("listening for connectors at grpc://").expect("the log says where");
    let address: String = rest.chars().take_while(|c| !matches!(c, '"' | ' ' | '\n')).collect();
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn a_connector_leases_deliveries_and_its_waiting_call_ends_when_the_server_stops() {
    let mut server = Server::start(&[("TESSERA_DELIVERY__BUILTIN", String::new())]).await;
    let token = server.command(&["connector", "add", "mails", "--kind", "email"]).trim().to_owned();
    let new = json!({ "queue": "General", "subject": "Kettle", "requestors": ["eve@example.net"] });
    server.done("POST", "/api/tickets", &new).await;
    let mut client = ActionsServiceClient::new(connect(&server).await);
    let leased = client.lease(lease(&token, 20)).await.unwrap().into_inner();
    assert_eq!(leased.deliveries.len(), 1);
    let refused = client.lease(lease("tsc_guessed", 0)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);

    let measured = reqwest::Client::new().get(format!("{}/metrics", server.url()));
    let measured = measured.bearer_auth(&server.token).send().await.unwrap().text().await.unwrap();
    let counted =
        r#"tessera_grpc_calls_total{method="tessera.v1.ActionsService/Lease",code="UNAUTHENTICATED"} 1"#;
    assert!(measured.contains(counted), "{measured}");

    let begun = Instant::now();
    let mut other = client.clone();
    let mut waiting = pin!(other.lease(lease(&token, 30)));
    assert!(poll!(waiting.as_mut()).is_pending());
    // A later call on the same connection was answered, so the server has received the earlier one.
    client.lease(lease("tsc_guessed", 0)).await.unwrap_err();
    let (answered, ()) = join(waiting, server.stop()).await;
    assert!(answered.unwrap().into_inner().deliveries.is_empty());
    assert!(begun.elapsed() < SOON);
    assert!(!server.log_text().contains("closed connections"), "{}", server.log_text());
}

#[tokio::test]
async fn a_socket_exists_only_while_the_server_is_running() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("grpc.sock");
    let mut server = Server::new(&[("TESSERA_GRPC__SOCKET", path.display().to_string())]);
    server.begin(&[]);
    assert!(server.answers().await);
    eventually("the socket is listened at", SOON, async || UnixStream::connect(&path).await.ok()).await;
    server.kill9();
    // The killed server left it behind; the next one replaces it.
    assert!(path.exists());
    server.begin(&[]);
    assert!(server.answers().await);
    eventually("the socket is listened at", SOON, async || UnixStream::connect(&path).await.ok()).await;
    server.stop().await;
    assert!(!path.exists());
}

#[test]
fn connectors_are_not_served_unencrypted_outside_this_machine() {
    let server = Server::new(&[]);
    let ran = server.run(&["serve"], &[("TESSERA_GRPC__LISTEN", "0.0.0.0:0")]);
    assert!(!ran.ok);
    assert!(
        ran.stderr.contains("TESSERA_GRPC__LISTEN: 0.0.0.0:0 is not a loopback address"),
        "{}",
        ran.stderr
    );
    assert!(!server.data().exists(), "nothing was written before it failed");
}

#[tokio::test]
async fn a_port_in_use_is_reported_before_anything_is_written() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let server = Server::new(&[]);
    let ran = server.run(&["serve"], &[("TESSERA_GRPC__LISTEN", address.as_str())]);
    let says = format!("cannot serve connectors at {address} (grpc.listen, TESSERA_GRPC__LISTEN)");
    assert!(!ran.ok && ran.stderr.contains(&says), "{}", ran.stderr);
    assert!(!server.data().exists());
}
