//! Why the process cannot start or had to end. Each names what to do about it.

use std::{fmt, io, net::SocketAddr};

use crate::{controlplane::config::ConfigErrors, rt::DriverError};

/// Why the process cannot start or had to end.
#[derive(Debug)]
pub enum ServerError {
    /// The configuration has mistakes; each with its place and remedy.
    Config(ConfigErrors),
    /// An address cannot be listened on.
    Listen {
        /// Whose: ``listener `edge` `` or `the admin API`.
        whose: String,
        /// Which.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The access log cannot be opened.
    AccessLog {
        /// Path, or standard output.
        target: String,
        /// What the system said.
        error: io::Error,
    },
    /// The kernel does not give us what the loops are built on.
    Driver(DriverError),
    /// The control side could not be set up.
    Control(io::Error),
    /// What a predecessor or systemd passed on cannot be used.
    Inherit(io::Error),
    /// The predecessor was stopped while this process was starting.
    Orphaned,
    /// Not all workers accept connections in time.
    Late {
        /// How many do.
        ready: usize,
        /// How many should.
        cores: usize,
    },
    /// A worker could not start, or its loop ended with an error.
    Worker {
        /// The number of its CPU.
        core: usize,
        /// Which step failed.
        step: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// A worker's thread ended without a word: a defect.
    WorkerLost {
        /// The number of its CPU.
        core: usize,
    },
}

impl std::error::Error for ServerError {}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(errors) => write!(f, "{errors}"),
            Self::Listen { whose, address, error } => {
                write!(f, "{whose}: cannot listen on {address}: ")?;
                write_listen_error(f, *address, error)
            }
            Self::AccessLog { target, error } => write!(
                f,
                "access log: cannot open {target}: {error}; \
                 create the directory, give this user the right to write there, or set \
                 `access = \"stdout\"` in [log]"
            ),
            Self::Driver(error) => write!(
                f,
                "{error}; or set `driver = \"auto\"` in [runtime], which takes epoll where \
                 io_uring is refused"
            ),
            Self::Control(error) => write!(
                f,
                "the control thread could not be set up: {error}; see `ulimit -n` (open files) and \
                 `ulimit -u` (threads)"
            ),
            Self::Inherit(error) => write!(
                f,
                "the sockets passed to this process cannot be used: {error}; they have to be TCP \
                 sockets that listen"
            ),
            Self::Orphaned => f.write_str(
                "the process this one was to take over from was stopped meanwhile, so this one ends \
                 too; start it anew if that was not meant",
            ),
            Self::Late { ready, cores } => write!(
                f,
                "only {ready} of {cores} cores were ready in time; the machine is overloaded: try \
                 again, or name fewer `cores` in [runtime]"
            ),
            Self::Worker { core, step, error } => {
                write!(f, "core {core}: {step}: {error}")?;
                write_worker_hint(f, error)
            }
            Self::WorkerLost { core } => write!(
                f,
                "core {core}: its worker ended without a word; this is a defect of ringway, \
                 please report it with the lines above"
            ),
        }
    }
}

/// What is wrong with an address, and what to do.
fn write_listen_error(
    f: &mut fmt::Formatter<'_>,
    address: SocketAddr,
    error: &io::Error,
) -> fmt::Result {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => write!(
            f,
            "the address is in use; `ss -ltnp 'sport = :{port}'` shows by whom; stop that, or take \
             another address"
        ),
        io::ErrorKind::PermissionDenied if port < 1024 => write!(
            f,
            "ports below 1024 need a right; `sudo setcap cap_net_bind_service=+ep $(command -v \
             ringway)` gives it to the program, `sudo sysctl \
             net.ipv4.ip_unprivileged_port_start={port}` to everybody; or take a port from 1024 on"
        ),
        io::ErrorKind::AddrNotAvailable => write!(
            f,
            "this machine has no such address; `ip address` lists those it has, 0.0.0.0 (or [::]) \
             means all"
        ),
        _ => write!(f, "{error}; try another address"),
    }
}

/// Errors of a worker's start that have a well-known remedy.
fn write_worker_hint(f: &mut fmt::Formatter<'_>, error: &io::Error) -> fmt::Result {
    match error.raw_os_error() {
        Some(libc::ENOMEM) => f.write_str(
            "; the ring does not fit into the locked memory allowed: raise `ulimit -l` \
             (LimitMEMLOCK= in systemd), or set a smaller `ring_entries`, or `driver = \"epoll\"`, \
             in [runtime]",
        ),
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => f.write_str(
            "; io_uring is refused here: allow it in the container's seccomp profile, and see \
             `sysctl kernel.io_uring_disabled`",
        ),
        Some(libc::EMFILE | libc::ENFILE) => {
            f.write_str("; too many open files: raise `ulimit -n` (LimitNOFILE= in systemd)")
        }
        Some(libc::EAGAIN) => {
            f.write_str("; no more threads: raise `ulimit -u` (TasksMax= in systemd)")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(address: &str, error: i32) -> String {
        ServerError::Listen {
            whose: "listener `edge`".into(),
            address: address.parse().expect("an address"),
            error: io::Error::from_raw_os_error(error),
        }
        .to_string()
    }

    #[test]
    fn each_error_names_the_fix() {
        let busy = listen("0.0.0.0:8080", libc::EADDRINUSE);
        assert!(busy.starts_with("listener `edge`: cannot listen on 0.0.0.0:8080: "), "{busy}");
        assert!(busy.contains("ss -ltnp 'sport = :8080'"), "{busy}");
        let low = listen("0.0.0.0:80", libc::EACCES);
        assert!(low.contains("setcap") && low.contains("ip_unprivileged_port_start=80"), "{low}");
        assert!(listen("192.0.2.1:80", libc::EADDRNOTAVAIL).contains("ip address"));
        let ring = ServerError::Worker {
            core: 1,
            step: "io_uring",
            error: io::Error::from_raw_os_error(libc::ENOMEM),
        };
        assert!(ring.to_string().contains("ulimit -l"));
    }

    #[test]
    fn every_error_is_one_line() {
        for error in [libc::EADDRINUSE, libc::EACCES, libc::EADDRNOTAVAIL, libc::EINVAL] {
            assert_eq!(listen("0.0.0.0:80", error).lines().count(), 1);
        }
    }
}
