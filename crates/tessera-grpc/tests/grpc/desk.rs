//! A desk served to connectors, and clients of it over every kind of socket.

use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair};
use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tessera_core::desk::configure::NewConnector;
use tessera_core::testing::{self, TestDb};
use tessera_grpc::v1::actions_service_client::ActionsServiceClient;
use tessera_grpc::v1::scrips_service_client::ScripsServiceClient;
use tessera_grpc::v1::tickets_service_client::TicketsServiceClient;
use tessera_grpc::v1::{CreateTicketRequest, NewTicket, Ticket};
use tessera_grpc::{Address, Limits, Listener, TlsFiles};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Uri};
use tonic::{Request, Status};
use tower::service_fn;

/// Time limit for everything; only failing tests take this long.
pub const SOON: Duration = Duration::from_secs(60);

/// A served desk with the default configuration.
pub struct Desk {
    desk: testing::Desk,
    pub stop: CancellationToken,
    /// `grpc://...`
    pub url: String,
    pub address: Option<SocketAddr>,
    serving: JoinHandle<usize>,
}

impl Deref for Desk {
    type Target = testing::Desk;

    fn deref(&self) -> &testing::Desk {
        &self.desk
    }
}

impl Desk {
    /// Serves a desk on the loopback.
    pub async fn open() -> Self {
        Self::open_at(&loopback(), Limits::default()).await
    }

    /// Serves a desk at another address.
    pub async fn open_at(address: &Address, limits: Limits) -> Self {
        let desk = testing::Desk::open(TestDb::new().await).await;
        let (listener, stop) = (Listener::open(address).await.unwrap(), CancellationToken::new());
        let (url, address) = (listener.to_string(), listener.tcp_address());
        let tessera = Arc::clone(&desk.tessera);
        let serving = tokio::spawn(tessera_grpc::serve(listener, tessera, limits, stop.clone()));
        Self { desk, stop, url, address, serving }
    }

    /// Adds a connector for these kinds, which reads and changes tickets as `user`, and returns its token.
    pub async fn token(&self, name: &str, kinds: &[&str], user: Option<&str>) -> String {
        let kinds = kinds.iter().map(ToString::to_string).collect();
        let new = NewConnector { name: name.to_owned(), kinds, user: user.map(str::to_owned) };
        let administrator = self.tessera.administrator().unwrap();
        let (_, token) = self.tessera.add_connector(&administrator, new).await.unwrap();
        token.expose().to_owned()
    }

    /// Returns a client over the loopback, with the token of a connector that reads and changes tickets as the
    /// administrator and delivers mail.
    pub async fn client(&self) -> Client {
        let token = self.token("desk-connector", &["email"], Some("admin")).await;
        Client::new(self.channel().await, &token)
    }

    /// Connects over the loopback.
    pub async fn channel(&self) -> Channel {
        let url = format!("http://{}", self.address.unwrap());
        Endpoint::from_shared(url).unwrap().connect().await.unwrap()
    }

    /// Stops the server, and returns the number of connections that were closed by force.
    pub async fn stopped(self) -> usize {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.serving).await.expect("the server ends").unwrap()
    }
}

/// Returns the address of any free port on the loopback.
pub fn loopback() -> Address {
    Address::Tcp("127.0.0.1:0".parse().unwrap())
}

/// Connects to a Unix socket.
pub async fn socket_channel(path: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = path.to_owned();
    let connect = service_fn(move |_: Uri| {
        let path = path.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
    });
    Endpoint::from_static("http://socket").connect_with_connector(connect).await
}

/// Clients of every service, which send the same metadata with each call.
pub struct Client {
    pub actions: ActionsServiceClient<InterceptedService<Channel, Metadata>>,
    pub scrips: ScripsServiceClient<InterceptedService<Channel, Metadata>>,
    pub tickets: TicketsServiceClient<InterceptedService<Channel, Metadata>>,
}

/// The metadata of each call.
#[derive(Clone)]
pub struct Metadata(Vec<(AsciiMetadataKey, AsciiMetadataValue)>);

impl Interceptor for Metadata {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in &self.0 {
            request.metadata_mut().insert(name.clone(), value.clone());
        }
        Ok(request)
    }
}

impl Client {
    pub fn new(channel: Channel, token: &str) -> Self {
        Self::with(channel, &[("authorization", &format!("Bearer {token}"))])
    }

    /// Creates a client that sends this metadata with each call.
    pub fn with(channel: Channel, metadata: &[(&'static str, &str)]) -> Self {
        let metadata = metadata.iter().map(|(name, value)| {
            (AsciiMetadataKey::from_static(name), AsciiMetadataValue::try_from(*value).unwrap())
        });
        let metadata = Metadata(metadata.collect());
        Self {
            actions: ActionsServiceClient::with_interceptor(channel.clone(), metadata.clone()),
            scrips: ScripsServiceClient::with_interceptor(channel.clone(), metadata.clone()),
            tickets: TicketsServiceClient::with_interceptor(channel, metadata),
        }
    }

    /// Creates a ticket in General with an external requestor.
    pub async fn create(&mut self, subject: &str) -> Ticket {
        let request = CreateTicketRequest { ticket: Some(new(subject)), ..Default::default() };
        self.tickets.create_ticket(request).await.unwrap().into_inner().ticket.unwrap()
    }
}

/// Returns a new ticket in General with an external requestor.
pub fn new(subject: &str) -> NewTicket {
    NewTicket {
        queue: "General".to_owned(),
        subject: subject.to_owned(),
        requestors: vec!["eve@example.net".to_owned()],
        ..Default::default()
    }
}

/// Certificates of an authority, a server and a client.
pub struct Certificates {
    place: TempDir,
    ca: String,
    client: (String, String),
}

impl Certificates {
    /// Creates certificates for `localhost`.
    pub fn create() -> Self {
        let authority = {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let signed = |purpose| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.extended_key_usages = vec![purpose];
            (params.signed_by(&key, &authority).unwrap().pem(), key.serialize_pem())
        };
        let place = tempfile::tempdir().unwrap();
        let (certificate, key) = signed(ExtendedKeyUsagePurpose::ServerAuth);
        let ca = authority.pem();
        for (name, text) in [("ca.pem", &ca), ("server.pem", &certificate), ("key.pem", &key)] {
            fs::write(place.path().join(name), text).unwrap();
        }
        Self { place, ca, client: signed(ExtendedKeyUsagePurpose::ClientAuth) }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// Returns any free port with TLS that requires client certificates.
    pub fn address(&self) -> Address {
        let files = TlsFiles {
            certificate: self.file("server.pem"),
            key: self.file("key.pem"),
            client_ca: Some(self.file("ca.pem")),
        };
        Address::Tls("127.0.0.1:0".parse().unwrap(), files)
    }

    /// Connects to a desk with TLS, with or without a client certificate.
    pub async fn channel(&self, desk: &Desk, shows: bool) -> Result<Channel, tonic::transport::Error> {
        let trusted =
            ClientTlsConfig::new().domain_name("localhost").ca_certificate(Certificate::from_pem(&self.ca));
        let (certificate, key) = &self.client;
        let tls = if shows { trusted.identity(Identity::from_pem(certificate, key)) } else { trusted };
        let url = format!("https://{}", desk.address.unwrap());
        Endpoint::from_shared(url).unwrap().tls_config(tls)?.connect().await
    }
}
