//! The sockets, bound before anybody hears of their listener, so that a busy port is an error while
//! nothing has changed yet.
//!
//! Each listener has one socket per core. Those of a predecessor or of systemd are used first, one by
//! one, so that connections in their queues find a core.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use crate::{
    base::ids::ListenerId,
    controlplane::{by_hand::Said, carry, rollout::Saved},
    rt::{self, Bound},
    server::error::ServerError,
    snapshot::{AdminSettings, Listener, Snapshot, messages::ListenSocket},
};

/// How long an address is waited for that is in use. A process that is killed is gone before the
/// kernel has taken down its rings, and they hold its sockets: whoever starts the next one at once
/// must not fail.
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// Between two looks at an address that is in use.
const BUSY_STEP: Duration = Duration::from_millis(10);

/// Sockets somebody else bound, in the order they came.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    /// Of listeners, with the core they served.
    pub(super) listeners: Vec<(Option<usize>, Bound)>,
    /// Of the admin API.
    pub(super) admin: Option<std::net::TcpListener>,
    /// The version of the rules that the predecessor obeyed; 0 without one.
    pub(super) version: u64,
    /// What its rollouts had come to.
    pub(super) rollouts: Vec<Saved>,
    /// What operators said of its endpoints.
    pub(super) by_hand: Vec<Said>,
}

/// The sockets of one core: position of the listener in the snapshot, and the socket.
type OfCore = Vec<(usize, Bound)>;

/// New sockets, for each core.
#[derive(Debug)]
pub(super) struct Sockets(Vec<OfCore>);

impl Sockets {
    /// Says whose they are, once their listeners have ids.
    pub(super) fn name(self, snapshot: &Snapshot) -> Vec<Vec<ListenSocket>> {
        let name = |(position, bound): (usize, Bound)| ListenSocket {
            listener: snapshot.listener_ids.get(position).copied().unwrap_or(ListenerId(0)),
            address: bound.local_addr(),
            foreign: bound.is_foreign(),
            fd: bound.into_fd(),
        };
        self.0.into_iter().map(|of_core| of_core.into_iter().map(name).collect()).collect()
    }
}

/// Binds what `new` listens on and `old` does not, once for each core.
///
/// # Errors
/// The first address that cannot be had, by listener; everything bound so far is given up.
pub(super) fn bind_new(
    old: Option<&Snapshot>,
    new: &Snapshot,
    cores: &[usize],
    inherited: &mut Inherited,
) -> Result<Sockets, ServerError> {
    let mut sockets: Vec<OfCore> = cores.iter().map(|_| Vec::new()).collect();
    for (position, listener) in new.listeners.iter().enumerate() {
        if old.is_some_and(|old| carry::find_listener(old, listener).is_some()) {
            continue;
        }
        let is_ours = old.is_some_and(|old| is_among(listener.address, old));
        let found = take_inherited(inherited, listener.address);
        let bound = match found.is_empty() {
            true => bind_all(listener.address, cores.len(), is_ours),
            false => spread(found, cores),
        };
        let bound = bound.map_err(|error| ServerError::Listen {
            whose: format!("listener `{}`", listener.name),
            address: listener.address,
            error,
        })?;
        for (of_core, bound) in sockets.iter_mut().zip(bound) {
            of_core.extend(bound.into_iter().map(|bound| (position, bound)));
        }
    }
    Ok(Sockets(sockets))
}

/// Whether a listener of ours has the port already, under an address that overlaps: the one that goes
/// with the change that brings the other. Only a stranger's port is busy.
fn is_among(address: SocketAddr, old: &Snapshot) -> bool {
    let overlaps = |other: &Listener| {
        other.address.port() == address.port()
            && (other.address.ip() == address.ip()
                || other.address.ip().is_unspecified()
                || address.ip().is_unspecified())
    };
    old.listeners.iter().any(overlaps)
}

fn bind_all(address: SocketAddr, cores: usize, is_ours: bool) -> io::Result<Vec<Vec<Bound>>> {
    if !is_ours {
        wait_until_free(address)?;
    }
    let mut address = address;
    let bind = |_| {
        let bound = rt::bind(address)?;
        address = bound.local_addr(); // of port 0 the kernel makes one port for all cores
        Ok(vec![bound])
    };
    (0..cores).map(bind).collect()
}

fn take_inherited(inherited: &mut Inherited, address: SocketAddr) -> Vec<(Option<usize>, Bound)> {
    let is_its = |one: &mut (Option<usize>, Bound)| one.1.local_addr() == address;
    inherited.listeners.extract_if(.., is_its).collect()
}

/// Gives each inherited socket to a core: the one it served if that is still there, else to those that
/// have fewest. Cores that get none bind their own, or share one.
fn spread(found: Vec<(Option<usize>, Bound)>, cores: &[usize]) -> io::Result<Vec<Vec<Bound>>> {
    let mut spread: Vec<Vec<Bound>> = cores.iter().map(|_| Vec::new()).collect();
    let position: HashMap<usize, usize> =
        cores.iter().enumerate().map(|(position, core)| (*core, position)).collect();
    let mut homeless = Vec::new();
    for (core, bound) in found {
        match core.and_then(|core| position.get(&core)) {
            Some(position) if spread[*position].is_empty() => spread[*position].push(bound),
            _ => homeless.push(bound),
        }
    }
    for bound in homeless {
        if let Some(least) = spread.iter_mut().min_by_key(|sockets| sockets.len()) {
            least.push(bound);
        }
    }
    let Some(sample) = spread.iter().flatten().next().map(Bound::try_clone).transpose()? else {
        return Ok(spread);
    };
    for sockets in spread.iter_mut().filter(|sockets| sockets.is_empty()) {
        sockets.push(one_more(&sample)?);
    }
    Ok(spread)
}

/// A socket of the same address with a queue of its own; where whoever bound the first one does not
/// allow that, the same queue.
fn one_more(sample: &Bound) -> io::Result<Bound> {
    let own = rt::share_port(sample).and_then(|()| rt::bind(sample.local_addr()));
    own.or_else(|_| sample.try_clone())
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

/// Binds the admin API's address, or takes over an inherited socket of it.
///
/// # Errors
/// As [`bind_new`].
pub(super) fn bind_admin(
    settings: &AdminSettings,
    inherited: &mut Inherited,
) -> Result<std::net::TcpListener, ServerError> {
    let address = settings.address;
    let is_its = |one: &std::net::TcpListener| one.local_addr().is_ok_and(|its| its == address);
    if let Some(listener) = inherited.admin.take_if(|one| is_its(one)) {
        return Ok(listener);
    }
    if let Some((_, bound)) = take_inherited(inherited, address).pop() {
        return Ok(bound.into_fd().into());
    }
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

    fn bind(address: SocketAddr, cores: &[usize]) -> Result<Sockets, ServerError> {
        bind_new(None, &rules(address), cores, &mut Inherited::default())
    }

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().expect("an address")
    }

    #[test]
    fn all_cores_share_the_port_that_the_kernel_chose() {
        let Sockets(sockets) = bind(any(), &[0, 1, 2]).expect("bound");
        let ports: Vec<u16> =
            sockets.iter().map(|sockets| sockets[0].1.local_addr().port()).collect();
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }

    #[test]
    fn a_busy_port_is_an_error_with_its_listener() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = other.local_addr().expect("an address");
        let error = bind(address, &[0]).expect_err("busy").to_string();
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
        bind(address, &[0]).expect("free after a while");
        killed.join().expect("no panic");
    }

    #[test]
    fn another_ringway_on_the_port_is_an_error_too() {
        let Sockets(first) = bind(any(), &[0, 1]).expect("bound");
        bind(first[0][0].1.local_addr(), &[0, 1]).expect_err("SO_REUSEPORT must not share it");
    }

    #[test]
    fn what_is_listened_on_already_is_not_bound_again() {
        let Sockets(first) = bind(any(), &[0]).expect("bound");
        let old = rules(first[0][0].1.local_addr());
        let mut inherited = Inherited::default();
        let Sockets(none) = bind_new(Some(&old), &old, &[0], &mut inherited).expect("the same");
        assert!(none[0].is_empty());
        let wider = rules(SocketAddr::from(([0, 0, 0, 0], old.listeners[0].address.port())));
        let Sockets(more) = bind_new(Some(&old), &wider, &[0], &mut inherited).expect("ours");
        assert_eq!(more[0].len(), 1, "a listener may widen its address");
    }

    #[test]
    fn inherited_sockets_go_to_their_cores_and_none_is_lost() {
        let Sockets(first) = bind(any(), &[0, 1, 2]).expect("bound");
        let address = first[0][0].1.local_addr();
        let inherit = |sockets: Vec<OfCore>| Inherited {
            listeners: sockets
                .into_iter()
                .flatten()
                .enumerate()
                .map(|(core, (_, bound))| (Some(core), bound))
                .collect(),
            ..Inherited::default()
        };
        let mut inherited = inherit(first);
        let fewer = bind_new(None, &rules(address), &[1], &mut inherited).expect("taken over");
        assert_eq!(fewer.0[0].len(), 3, "one core accepts from all");
        assert!(inherited.listeners.is_empty());
        let mut inherited = inherit(fewer.0);
        let Sockets(more) =
            bind_new(None, &rules(address), &[0, 1, 2, 3], &mut inherited).expect("one more");
        assert!(more.iter().all(|sockets| sockets.len() == 1));
        assert!(more.iter().flatten().all(|(_, bound)| bound.local_addr() == address));
    }

    #[test]
    fn a_socket_without_so_reuseport_serves_all_cores() {
        let plain = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = plain.local_addr().expect("an address");
        let bound = Bound::adopt(plain.into(), true).expect("listens");
        let mut inherited = Inherited { listeners: vec![(None, bound)], ..Inherited::default() };
        let Sockets(sockets) =
            bind_new(None, &rules(address), &[0, 1], &mut inherited).expect("shared");
        assert!(sockets.iter().all(|sockets| sockets[0].1.local_addr() == address));
    }

    #[test]
    fn a_busy_admin_port_says_so() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = other.local_addr().expect("an address");
        let settings = AdminSettings { address, token: None, state_dir: None };
        let error = bind_admin(&settings, &mut Inherited::default()).expect_err("busy");
        assert!(error.to_string().starts_with("the admin API: cannot listen on"));
        let mut inherited = Inherited { admin: Some(other), ..Inherited::default() };
        bind_admin(&settings, &mut inherited).expect("inherited");
    }
}
