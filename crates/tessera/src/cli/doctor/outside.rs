//! Checks of other servers: Tessera's own, the mail server, the receivers of webhooks. They connect but send nothing.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tessera_core::delivery::guard::Guard;
use tessera_core::delivery::smtp::SmtpTransport;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use url::{Host, Url};

use super::{CHECK_MAX, Finding, silence};
use crate::config::Config;

/// Time limit for the health check of Tessera's own server.
const HEALTH_MAX: Duration = Duration::from_secs(3);
/// Time limit for resolving a receiver's name and for connecting to it, the same as for attempts.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Checks that Tessera's own server responds.
pub(super) async fn server(config: &Config) -> Vec<Finding> {
    let mut address = config.listen;
    match address.port() {
        0 => return vec![Finding::good("server", "http.listen uses any free port, so it was not checked")],
        _ if address.ip().is_unspecified() => {
            address.set_ip(if address.is_ipv4() {
                Ipv4Addr::LOCALHOST.into()
            } else {
                Ipv6Addr::LOCALHOST.into()
            });
        }
        _ => {}
    }
    let url = format!("http://{address}/api/health");
    vec![match health(&url).await {
        Ok(200) => Finding::good("server", format!("{url} responds")),
        Ok(status) => Finding::failed(
            "server",
            format!("{url} responds with {status}"),
            "the database does not respond, or another program listens there: see the server's log",
        ),
        Err(error) => Finding::warning(
            "server",
            format!("{url}: {error}"),
            "if it should be running, start it: systemctl start tessera",
        ),
    }]
}

async fn health(url: &str) -> Result<u16, String> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(HEALTH_MAX)
        .build()
        .map_err(|error| error.to_string())?;
    match client.get(url).send().await {
        Ok(answer) => Ok(answer.status().as_u16()),
        Err(error) if error.is_connect() => Err("no server responds".into()),
        Err(error) if error.is_timeout() => Err(format!("no response within {} s", HEALTH_MAX.as_secs())),
        Err(error) => Err(error.without_url().to_string()),
    }
}

/// Checks that the mail server accepts mail.
pub(super) async fn mail(config: &Config) -> Vec<Finding> {
    let Some(url) = &config.smtp_url else {
        let seen = format!(
            "no mail server is configured: mail is written to files in {}",
            config.data_dir.join("mail").display()
        );
        return vec![Finding::warning("mail", seen, "set mail.smtp_url to send mail")];
    };
    let advice = "mail is retried for 5 days: check the server, mail.smtp_url and its certificate";
    let transport = SmtpTransport::new(url.expose(), "localhost").map_err(|error| error.to_string());
    vec![match transport {
        Ok(transport) => match transport.probe().await {
            Ok(seen) => Finding::good("mail", seen),
            Err(seen) => Finding::failed("mail", seen, advice),
        },
        Err(seen) => Finding::failed("mail", seen, advice),
    }]
}

/// Checks that each receiver that an enabled scrip uses is allowed and reachable.
pub(super) async fn webhooks(config: &Config, urls: &[String]) -> Vec<Finding> {
    let origins: BTreeSet<String> = urls
        .iter()
        .filter_map(|url| Url::parse(url).ok())
        .map(|url| url.origin().ascii_serialization())
        .collect();
    if origins.is_empty() {
        return vec![Finding::good("webhooks", "no enabled scrip sends webhooks")];
    }
    let guard = Guard::new(config.webhook_allow.clone());
    let Ok(Ok(tls)) = timeout(CHECK_MAX, spawn_blocking(tls)).await else {
        return vec![silence("webhooks", "the certificates of this machine")];
    };
    join_all(origins.into_iter().map(|origin| endpoint(origin, &guard, &tls))).await
}

/// Checks one receiver within the time limit of a check, however many addresses it has.
async fn endpoint(origin: String, guard: &Guard, tls: &Arc<ClientConfig>) -> Finding {
    let reached = timeout(CHECK_MAX, reach(&origin, guard, tls)).await;
    match reached
        .unwrap_or_else(|_| Err(Unreached::Away(format!("no response within {} s", CHECK_MAX.as_secs()))))
    {
        Ok(seen) => Finding::good("webhooks", format!("{origin}: {seen}")),
        // The guard's message already says how to allow an address.
        Err(Unreached::Refused(seen)) => Finding::failed(
            "webhooks",
            format!("{origin}: {seen}"),
            "allow the address if it is intended, or correct the scrip",
        ),
        Err(Unreached::Away(seen)) => Finding::warning(
            "webhooks",
            format!("{origin}: {seen}"),
            "its webhooks are retried for days: contact its administrator",
        ),
    }
}

/// Why a webhook would not arrive.
enum Unreached {
    /// It would not be attempted.
    Refused(String),
    /// The attempt would fail.
    Away(String),
}

/// Does what an attempt does before it sends anything: checks the guard, resolves the name, connects and negotiates TLS.
async fn reach(origin: &str, guard: &Guard, tls: &Arc<ClientConfig>) -> Result<String, Unreached> {
    let url = Url::parse(origin).map_err(|error| Unreached::Refused(error.to_string()))?;
    guard.check_url_at_save(&url).map_err(Unreached::Refused)?;
    let host = url.host().ok_or_else(|| Unreached::Refused("it names no host".into()))?.to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let mut refusal = None;
    let mut last = "the name has no address".to_owned();
    for address in addresses(&host, port).await.map_err(Unreached::Away)? {
        match guard.check(address.ip()) {
            Ok(()) => match shake_hands(address, &url, tls).await {
                Ok(how) => return Ok(format!("{address} accepts connections{how}")),
                Err(error) => last = format!("{address}: {error}"),
            },
            Err(refused) => refusal = Some(refused.to_string()),
        }
    }
    match refusal {
        Some(refused) => Err(Unreached::Refused(refused)),
        None => Err(Unreached::Away(last)),
    }
}

async fn addresses(host: &Host<String>, port: u16) -> Result<Vec<SocketAddr>, String> {
    let name = match host {
        Host::Ipv4(ip) => return Ok(vec![SocketAddr::from((*ip, port))]),
        Host::Ipv6(ip) => return Ok(vec![SocketAddr::from((*ip, port))]),
        Host::Domain(name) => name.as_str(),
    };
    match timeout(CONNECT_MAX, lookup_host((name, port))).await {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(error)) => Err(format!("the name cannot be resolved: {error}")),
        Err(_) => Err(format!("the name could not be resolved within {} s", CONNECT_MAX.as_secs())),
    }
}

async fn shake_hands(
    address: SocketAddr,
    url: &Url,
    tls: &Arc<ClientConfig>,
) -> Result<&'static str, String> {
    let connected = timeout(CONNECT_MAX, TcpStream::connect(address)).await;
    let stream = connected
        .map_err(|_| format!("no connection within {} s", CONNECT_MAX.as_secs()))?
        .map_err(|error| error.to_string())?;
    if url.scheme() != "https" {
        return Ok("");
    }
    let name = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    let session = ClientConnection::new(Arc::clone(tls), name).map_err(|error| error.to_string())?;
    let shaken = timeout(CONNECT_MAX, handshake(stream, session)).await;
    shaken
        .map_err(|_| format!("no TLS handshake within {} s", CONNECT_MAX.as_secs()))?
        .map_err(|error| format!("TLS: {error}"))?;
    Ok(", with TLS and a valid certificate")
}

/// Runs the handshake alone, on a blocking thread; no byte of a request follows it.
async fn handshake(stream: TcpStream, mut session: ClientConnection) -> io::Result<()> {
    let mut stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(CONNECT_MAX))?;
    stream.set_write_timeout(Some(CONNECT_MAX))?;
    let shaken = spawn_blocking(move || {
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        session.send_close_notify();
        session.write_tls(&mut stream).map(drop)
    });
    shaken.await.map_err(io::Error::other)?
}

/// TLS as for webhooks: with the certificate authorities of this machine.
fn tls() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
