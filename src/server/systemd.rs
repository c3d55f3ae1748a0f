//! What systemd wants to know, and what it gives: notifications and sockets. Silent where there is no
//! systemd. Source: sd_notify(3), sd_listen_fds(3), systemd.service(5).

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use crate::{
    controlplane::log,
    rt::{Bound, service},
};

/// All cores serve.
pub(super) fn ready() {
    tell("READY=1");
}

/// The rules are being read again.
pub(super) fn reloading() {
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", service::monotonic_micros()));
}

/// The end has begun.
pub(super) fn stopping() {
    tell("STOPPING=1");
}

/// Another process is the service from now on.
pub(super) fn main_pid(pid: u32) {
    tell(&format!("MAINPID={pid}"));
}

/// The control loop turns.
pub(super) fn alive() {
    tell("WATCHDOG=1");
}

/// Whether systemd waits for [`alive`], and how often at least.
pub(super) fn watchdog() -> Option<Duration> {
    let micros = env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    Some(Duration::from_micros(micros))
}

/// One datagram; nobody who does not listen is worth an error.
fn tell(what: &str) {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(name.as_bytes(), what.as_bytes()) {
        log::debug(format_args!("systemd was not told {what}: {error}"));
    }
}

fn send(name: &[u8], what: &[u8]) -> io::Result<()> {
    let address = match name.split_first() {
        Some((b'@', rest)) => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    UnixDatagram::unbound()?.send_to_addr(what, &address).map(drop)
}

/// The sockets of `ringway.socket`, if it started this process. Call it once, before anything else
/// opens a descriptor.
///
/// # Errors
/// When one of them is no TCP socket that listens.
pub(super) fn sockets() -> io::Result<Vec<Bound>> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or(0);
    let fds = service::take_listen_fds(count as usize)?;
    fds.into_iter().map(|fd| Bound::adopt(fd, true)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_reach_paths_and_abstract_names() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let named = UnixDatagram::bind(&path).expect("bound");
        send(path.as_os_str().as_bytes(), b"READY=1").expect("sent");
        let mut bytes = [0; 64];
        assert_eq!(named.recv(&mut bytes).expect("received"), 7);
        let name = format!("ringway-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let hidden = UnixDatagram::bind_addr(&address).expect("bound");
        send(format!("@{name}").as_bytes(), b"STOPPING=1").expect("sent");
        assert_eq!(hidden.recv(&mut bytes).expect("received"), 10);
        assert!(send(b"/nowhere/at/all", b"x").is_err());
    }
}
