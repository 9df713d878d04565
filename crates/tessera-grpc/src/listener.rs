//! Where connectors come in: loopback TCP, a Unix socket, or TLS; bound before anything else is done.

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

/// Who may connect to a Unix socket: its user and its group.
const SOCKET_MODE: u32 = 0o660;
/// The protocol that TLS agrees on.
const HTTP2: &[u8] = b"h2";

/// Where to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP in the clear, for loopback.
    Tcp(SocketAddr),
    /// TCP behind TLS.
    Tls(SocketAddr, TlsFiles),
    /// A Unix socket.
    Unix(PathBuf),
}

/// What TLS needs, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and the one that clients trust.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs the certificates of clients; with it a client without one is refused.
    pub client_ca: Option<PathBuf>,
}

/// A connection that came in, before TLS.
pub(crate) type Incoming = Box<dyn Io>;

/// What a connection is read from and written to.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A bound address on which connectors are served.
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
    /// It is taken, or may not be had; or a file of TLS is none: the message names what.
    pub async fn open(address: &Address) -> io::Result<Self> {
        let (socket, tls) = match address {
            Address::Tcp(address) => (Socket::Tcp(TcpListener::bind(address).await?), None),
            Address::Tls(address, files) => {
                let tls = TlsAcceptor::from(Arc::new(tls(files)?));
                (Socket::Tcp(TcpListener::bind(address).await?), Some(tls))
            }
            Address::Unix(path) => {
                let (listener, file) = listen_at(path).await?;
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

    /// The address, of TCP.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<Incoming> {
        Ok(match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // It fails only on a socket that is gone.
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

/// Listens at a Unix socket. One that a process left behind which is gone is replaced; one that somebody listens at is not.
async fn listen_at(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(io::Error::new(ErrorKind::AddrInUse, "another process listens there"));
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

/// The file of a Unix socket, which goes with it, unless another process has put its own there.
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
                roots.add(certificate).map_err(|error| of_file(path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| of_file(path, error))?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| of_file(&files.key, error))?;
    let mut config = builder
        .with_single_cert(certificates(&files.certificate)?, key)
        .map_err(|error| of_file(&files.certificate, error))?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| of_file(path, error))?;
    if certificates.is_empty() {
        return Err(of_file(path, "holds no certificate in PEM"));
    }
    Ok(certificates)
}

fn of_file(path: &Path, problem: impl fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {problem}", path.display()))
}
