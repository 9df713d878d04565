//! The address for connectors: loopback TCP, a Unix socket, or TLS; never unencrypted outside this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;
use tessera_grpc::{Address, TlsFiles};

use super::Reader;

/// The settings of `[grpc]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Grpc {
    pub enabled: bool,
    pub listen: Option<String>,
    pub socket: Option<String>,
    pub tls_cert_file: Option<String>,
    pub tls_key_file: Option<String>,
    pub client_ca_file: Option<String>,
}

impl Default for Grpc {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: None,
            socket: None,
            tls_cert_file: None,
            tls_key_file: None,
            client_ca_file: None,
        }
    }
}

impl Reader {
    /// Returns the address for connectors, by default next to HTTP's; `None` if disabled.
    pub(super) fn grpc(&self, grpc: &Grpc, http: SocketAddr) -> Option<Address> {
        // Settings that are not used are also validated.
        let listen = self.kept(self.grpc_listen(grpc.listen.as_deref()), None);
        let socket = self.kept(self.path("grpc.socket", grpc.socket.as_deref()), None);
        let tls = self.kept(self.tls(grpc), None);
        let address = match socket {
            Some(socket) => self.at_socket(grpc, socket, tls.as_ref()),
            None => self.at_port(grpc, listen, http, tls),
        };
        self.kept(address.map(Some), None).filter(|_| grpc.enabled)
    }

    fn at_socket(&self, grpc: &Grpc, socket: PathBuf, tls: Option<&TlsFiles>) -> Result<Address, String> {
        if grpc.listen.is_some() {
            return Err(self.fault("grpc.socket", "grpc.listen is also set; remove one of them"));
        }
        if tls.is_some() {
            let problem = "grpc.tls_cert_file is also set; a socket needs no TLS, so remove one of them";
            return Err(self.fault("grpc.socket", problem));
        }
        Ok(Address::Unix(socket))
    }

    fn at_port(
        &self,
        grpc: &Grpc,
        listen: Option<SocketAddr>,
        http: SocketAddr,
        tls: Option<TlsFiles>,
    ) -> Result<Address, String> {
        let listen = match listen {
            Some(listen) => listen,
            // Its fault was already recorded.
            None if grpc.listen.is_some() => beside(http).unwrap_or(http),
            None => beside(http).ok_or_else(|| {
                "grpc.listen: cannot use the port after http.listen, which is the last one; set an address".to_owned()
            })?,
        };
        match tls {
            Some(tls) => Ok(Address::Tls(listen, tls)),
            None if listen.ip().is_loopback() => Ok(Address::Tcp(listen)),
            None => Err(self.fault(
                "grpc.listen",
                format_args!(
                    "{listen} is not a loopback address, and without TLS others could read tokens and messages; set \
                      grpc.tls_cert_file and grpc.tls_key_file, or listen on 127.0.0.1 or at grpc.socket"
                ),
            )),
        }
    }

    fn grpc_listen(&self, text: Option<&str>) -> Result<Option<SocketAddr>, String> {
        let key = "grpc.listen";
        let Some(text) = self.text(key, text)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            self.fault(key, format_args!("\"{text}\" is not an address with a port, such as 127.0.0.1:8081"))
        })
    }

    fn tls(&self, grpc: &Grpc) -> Result<Option<TlsFiles>, String> {
        let certificate = self.path("grpc.tls_cert_file", grpc.tls_cert_file.as_deref())?;
        let key = self.path("grpc.tls_key_file", grpc.tls_key_file.as_deref())?;
        let client_ca = self.path("grpc.client_ca_file", grpc.client_ca_file.as_deref())?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key, client_ca })),
            (Some(_), None) => {
                Err(self.fault("grpc.tls_cert_file", "grpc.tls_key_file is not set; set both"))
            }
            (None, Some(_)) => {
                Err(self.fault("grpc.tls_key_file", "grpc.tls_cert_file is not set; set both"))
            }
            (None, None) if client_ca.is_some() => {
                let problem = "grpc.tls_cert_file is not set, and client certificates need TLS";
                Err(self.fault("grpc.client_ca_file", problem))
            }
            (None, None) => Ok(None),
        }
    }

    fn path(&self, key: &str, text: Option<&str>) -> Result<Option<PathBuf>, String> {
        let Some(text) = self.text(key, text)? else { return Ok(None) };
        std::path::absolute(text).map(Some).map_err(|error| self.fault(key, format_args!("{text}: {error}")))
    }
}

/// Returns the port after that of HTTP, on the loopback address: a public address must be configured.
fn beside(http: SocketAddr) -> Option<SocketAddr> {
    let port = if http.port() == 0 { 0 } else { http.port().checked_add(1)? };
    let ip = match http.ip() {
        ip if ip.is_loopback() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    Some((ip, port).into())
}
