//! Tells systemd how the service stands (sd_notify), where systemd wants to know; elsewhere nothing happens.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable by which systemd says where it listens.
const SOCKET: &str = "NOTIFY_SOCKET";

/// The server answers.
pub fn ready() {
    tell("READY=1");
}

/// The server finishes what is under way and ends.
pub fn stopping() {
    tell("STOPPING=1");
}

fn tell(state: &str) {
    let Some(place) = std::env::var_os(SOCKET) else { return };
    if let Err(error) = send(&place, state) {
        tracing::warn!(%error, "systemd could not be told {state}");
    }
}

fn send(place: &OsStr, state: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address(place)?)?;
    Ok(())
}

/// A path; or, after an @, a name of the kernel's that no file has.
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

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn systemd_hears_what_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        assert_eq!(heard(&socket), "READY=1");
        assert!(send(OsStr::new("/nowhere/notify"), "READY=1").is_err());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn systemd_may_listen_under_a_name_that_no_file_has() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("tessera-notify-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        assert_eq!(heard(&socket), "STOPPING=1");
    }
}
