//! The sockets, bound before any worker starts, so that a busy port is an error at start.

use std::{
    io,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use crate::{
    rt::{self, Bound},
    server::error::ServerError,
    snapshot::{AdminSettings, Snapshot},
};

/// How long an address is waited for that is in use. A process that is killed is gone before the
/// kernel has taken down its rings, and they hold its sockets: whoever starts the next one at once
/// must not fail.
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// Between two looks at an address that is in use.
const BUSY_STEP: Duration = Duration::from_millis(10);

/// Binds every listener once per core: the inner lists have one socket per listener, in the order
/// of the snapshot.
///
/// # Errors
/// The first address that cannot be had, by listener.
pub(super) fn bind_all(snapshot: &Snapshot, cores: usize) -> Result<Vec<Vec<Bound>>, ServerError> {
    let mut per_core: Vec<Vec<Bound>> = (0..cores).map(|_| Vec::new()).collect();
    for listener in &snapshot.listeners {
        let fail = |error| ServerError::Listen {
            whose: format!("listener `{}`", listener.name),
            address: listener.address,
            error,
        };
        wait_until_free(listener.address).map_err(fail)?;
        let mut address = listener.address;
        for sockets in &mut per_core {
            let socket = rt::bind(address).map_err(fail)?;
            address = socket.local_addr(); // of port 0 the kernel makes one port for all cores
            sockets.push(socket);
        }
    }
    Ok(per_core)
}

/// Waits for an address in use to be given back, but not long.
///
/// # Errors
/// `AddrInUse` if somebody else keeps it; else as [`rt::probe_free`].
fn wait_until_free(address: SocketAddr) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match rt::probe_free(address) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < BUSY_WAIT =>
            {
                thread::sleep(BUSY_STEP);
            }
            other => return other,
        }
    }
}

/// Binds the admin API's address.
///
/// # Errors
/// As [`bind_all`].
pub(super) fn bind_admin(settings: &AdminSettings) -> Result<std::net::TcpListener, ServerError> {
    let address = settings.address;
    bind_plain(address).map_err(|error| ServerError::Listen {
        whose: "the admin API".into(),
        address,
        error,
    })
}

fn bind_plain(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?; // with SO_REUSEADDR
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controlplane::fixtures;

    fn rules(address: SocketAddr) -> Snapshot {
        let mut snapshot = fixtures::snapshot(1);
        snapshot.listeners[0].address = address;
        snapshot
    }

    #[test]
    fn all_cores_share_the_port_that_the_kernel_chose() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let sockets = bind_all(&rules(any), 3).expect("bound");
        let ports: Vec<u16> =
            sockets.iter().map(|sockets| sockets[0].local_addr().port()).collect();
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }

    #[test]
    fn a_busy_port_is_an_error_with_its_listener() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = other.local_addr().expect("an address");
        let error = bind_all(&rules(address), 1).expect_err("busy").to_string();
        assert!(error.starts_with("listener `edge`: cannot listen on 127.0.0.1:"), "{error}");
        assert!(error.contains("ss -ltnp"), "{error}");
    }

    #[test]
    fn a_port_that_is_given_back_soon_is_waited_for() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = other.local_addr().expect("an address");
        let killed = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            drop(other);
        });
        bind_all(&rules(address), 1).expect("free after a while");
        killed.join().expect("no panic");
    }

    #[test]
    fn another_ringway_on_the_port_is_an_error_too() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let first = bind_all(&rules(any), 2).expect("bound");
        bind_all(&rules(first[0][0].local_addr()), 2).expect_err("SO_REUSEPORT must not share it");
    }

    #[test]
    fn a_busy_admin_port_says_so() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = other.local_addr().expect("an address");
        let error = bind_admin(&AdminSettings { address, token: None }).expect_err("busy");
        assert!(error.to_string().starts_with("the admin API: cannot listen on"));
    }
}
