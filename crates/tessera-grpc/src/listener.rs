//! The listener for connectors: loopback TCP, a Unix socket, or TLS; bound before the rest of the server starts.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto::ring};

/// Permissions of a Unix socket: its user and its group may connect.
const SOCKET_MODE: u32 = 0o660;
/// The protocol that TLS negotiates.
const HTTP2: &[u8] = b"h2";

/// An address to serve at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Unencrypted TCP, for loopback.
    Tcp(SocketAddr),
    /// TCP with TLS.
    Tls(SocketAddr, TlsFiles),
    /// A Unix socket.
    Unix(PathBuf),
}

/// The PEM files for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, followed by the intermediate ones.
    pub certificate: PathBuf,
    /// The server's private key.
    pub key: PathBuf,
    /// The certificate authority of clients. If set, a client without a certificate is rejected.
    pub client_ca: Option<PathBuf>,
}

/// A new connection, before TLS.
pub(crate) type Incoming = Box<dyn Io>;

/// A byte stream of a connection.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A bound address for connectors.
pub struct Listener {
    socket: Socket,
    url: String,
    pub(crate) tls: Option<TlsAcceptor>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Listens at an address.
    ///
    /// # Errors
    /// The address is in use or not permitted, or a TLS file is invalid; the message names it.
    pub async fn open(address: &Address) -> io::Result<Self> {
        let (socket, tls) = match address {
            Address::Tcp(address) => (Socket::Tcp(TcpListener::bind(address).await?), None),
            Address::Tls(address, files) => {
                let tls = TlsAcceptor::from(Arc::new(tls(files)?));
                (Socket::Tcp(TcpListener::bind(address).await?), Some(tls))
            }
            Address::Unix(path) => {
                let (listener, file) = bind_unix(path).await?;
                (Socket::Unix(listener, file), None)
            }
        };
        let scheme = if tls.is_some() { "grpcs" } else { "grpc" };
        let url = match &socket {
            Socket::Tcp(listener) => format!("{scheme}://{}", listener.local_addr()?),
            Socket::Unix(_, file) => format!("unix:{}", file.path.display()),
        };
        Ok(Self { socket, url, tls })
    }

    /// Returns the address of a TCP listener.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    /// Accepts the next connection.
    pub(crate) async fn accept(&self) -> io::Result<Incoming> {
        Ok(match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // It fails only if the socket was closed.
                let _ = stream.set_nodelay(true);
                Box::new(stream)
            }
            Socket::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.url).finish()
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// Binds a Unix socket. Replaces the socket of a process that has exited, but not one that a process still listens at.
async fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "a file exists there that is not a socket"));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(io::Error::new(ErrorKind::AddrInUse, "another process is listening there"));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    let inode = fs::symlink_metadata(path)?.ino();
    Ok((listener, SocketFile { path: path.to_owned(), inode }))
}

/// The file of a Unix socket, removed on drop unless another process has replaced it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn tls(files: &TlsFiles) -> io::Result<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| file_error(path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| file_error(path, error))?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| file_error(&files.key, error))?;
    let mut config = builder
        .with_single_cert(certificates(&files.certificate)?, key)
        .map_err(|error| file_error(&files.certificate, error))?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| file_error(path, error))?;
    if certificates.is_empty() {
        return Err(file_error(path, "contains no PEM certificate"));
    }
    Ok(certificates)
}

fn file_error(path: &Path, problem: impl fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {problem}", path.display()))
}
