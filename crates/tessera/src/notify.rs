//! Notifies systemd of the service's state (sd_notify), if systemd asks for it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable with the address of systemd's socket.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Reports that the server accepts requests.
pub fn ready() {
    notify("READY=1");
}

/// Reports that the server is finishing its work and will end.
pub fn stopping() {
    notify("STOPPING=1");
}

fn notify(state: &str) {
    let Some(place) = std::env::var_os(SOCKET) else { return };
    if let Err(error) = send(&place, state) {
        tracing::warn!(%error, "cannot notify systemd: {state}");
    }
}

fn send(place: &OsStr, state: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address(place)?)?;
    Ok(())
}

/// Parses a path, or after an `@`, a name in Linux's abstract namespace.
fn address(place: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = place.as_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt as _;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn systemd_receives_the_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        assert_eq!(received(&socket), "READY=1");
        assert!(send(OsStr::new("/nowhere/notify"), "READY=1").is_err());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_socket_can_have_an_abstract_name() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("tessera-notify-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        assert_eq!(received(&socket), "STOPPING=1");
    }
}
