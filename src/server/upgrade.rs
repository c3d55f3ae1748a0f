//! SIGUSR2: a new process of the binary at the same path takes over.
//!
//! The old process starts it with one end of a socket pair as standard input and sends copies of all
//! listening sockets through it (SCM_RIGHTS), each with the core it belongs to. Both then accept from
//! the same queues until the new one says that all its cores serve; then the old one stops accepting,
//! lets its connections end after their next request, and ends. A new process that ends, or says
//! nothing for [`UPGRADE_MAX`], changes nothing.

use std::{
    env,
    ffi::OsString,
    io,
    net::Shutdown,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
    thread,
    time::Instant,
};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{
    base::{ids::ListenerId, limits::UPGRADE_MAX},
    controlplane::{by_hand::Said, rollout::Saved},
    rt::{
        Bound,
        service::{self, FDS_PER_MESSAGE_MAX},
    },
    server::listen::Inherited,
    snapshot::messages::ListenSocket,
};

/// Tells a process that its standard input is its predecessor.
const VARIABLE: &str = "RINGWAY_TAKES_OVER_FROM";

/// What the successor says when all its cores serve.
const READY: &[u8] = b"ready";

/// Bytes of one message: [`FDS_PER_MESSAGE_MAX`] descriptions of less than 128 bytes.
const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// What a successor goes on from, beside the sockets.
#[derive(Default)]
pub(super) struct Handover {
    /// Of the rules.
    pub(super) version: u64,
    /// What rollouts have come to.
    pub(super) rollouts: Vec<Saved>,
    /// What operators said of endpoints.
    pub(super) by_hand: Vec<Said>,
}

/// A message of the old process; as many descriptors come with it as it describes.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Message {
    sockets: Vec<Described>,
    /// What a rollout has come to.
    #[serde(default)]
    rollout: Option<Saved>,
    /// What an operator said of an endpoint.
    #[serde(default)]
    by_hand: Option<Said>,
    /// Of the last message: the version of the rules.
    last: Option<u64>,
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Described {
    /// The core it served; none for the admin API.
    core: Option<usize>,
    /// It is systemd's.
    foreign: bool,
}

/// How to start this program again; found out at the start, while the path is what it was.
#[derive(Clone, Debug)]
pub(super) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// The path as it was called (a package manager may move what it leads to), else the file that
    /// runs.
    pub(super) fn of_this_process() -> io::Result<Self> {
        let mut arguments = env::args_os();
        let called =
            arguments.next().map(PathBuf::from).filter(|path| path.components().count() > 1);
        let path = match called {
            Some(path) if path.is_absolute() => path,
            Some(path) => env::current_dir()?.join(path),
            None => env::current_exe()?,
        };
        Ok(Self { path, arguments: arguments.collect() })
    }

    /// The path that will be started.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A socket that the successor gets.
pub(super) struct Passed<'a> {
    /// The core it serves; none for the admin API.
    pub(super) core: Option<usize>,
    /// It is systemd's.
    pub(super) foreign: bool,
    /// The socket.
    pub(super) fd: BorrowedFd<'a>,
}

/// A successor that is starting.
#[derive(Debug)]
pub(super) struct Starting {
    /// What it says, or what became of it.
    answer: oneshot::Receiver<Result<u32, String>>,
    way: Arc<OwnedFd>,
}

impl Starting {
    /// Its process id when it is ready, or why there is none.
    ///
    /// # Cancel safety
    /// Cancel safe: an answer is not lost.
    pub(super) async fn answer(&mut self) -> Result<u32, String> {
        let answer = (&mut self.answer).await;
        answer.unwrap_or_else(|_| Err("the thread that waited for it is gone".into()))
    }

    /// Calls it off: it finds nobody to take over from, and ends. Its process id if it was ready before.
    pub(super) fn call_off(mut self) -> Option<u32> {
        let _ = socket2::SockRef::from(&*self.way).shutdown(Shutdown::Both); // it may be gone
        self.answer.try_recv().ok()?.ok()
    }
}

/// Starts the successor and passes the sockets on.
///
/// # Errors
/// When it cannot be started, or does not take the sockets.
pub(super) fn start(
    program: &Program,
    sockets: &[Passed<'_>],
    state: Handover,
) -> io::Result<Starting> {
    let (ours, theirs) = service::message_pair()?;
    let ours = Arc::new(ours);
    let mut child = Command::new(&program.path)
        .args(&program.arguments)
        .env(VARIABLE, std::process::id().to_string())
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_PID")
        .env_remove("WATCHDOG_PID")
        .stdin(theirs)
        .spawn()?;
    let (sender, answer) = oneshot::channel();
    let starting = Starting { answer, way: Arc::clone(&ours) };
    if let Err(error) = pass(&ours, sockets, state) {
        let text = format!("it did not take the sockets: {error}{}", end(&mut child));
        let _ = sender.send(Err(text));
        return Ok(starting);
    }
    thread::Builder::new().name("ringway-upgrade".into()).spawn(move || {
        let _ = sender.send(wait(&ours, &mut child));
    })?;
    Ok(starting)
}

fn pass(to: &OwnedFd, sockets: &[Passed<'_>], state: Handover) -> io::Result<()> {
    for some in sockets.chunks(FDS_PER_MESSAGE_MAX) {
        let described =
            some.iter().map(|one| Described { core: one.core, foreign: one.foreign }).collect();
        let fds: Vec<BorrowedFd<'_>> = some.iter().map(|one| one.fd).collect();
        send(to, &Message { sockets: described, ..Message::default() }, &fds)?;
    }
    for saved in state.rollouts {
        send(to, &Message { rollout: Some(saved), ..Message::default() }, &[])?;
    }
    for said in state.by_hand {
        send(to, &Message { by_hand: Some(said), ..Message::default() }, &[])?;
    }
    send(to, &Message { last: Some(state.version), ..Message::default() }, &[])
}

fn send(to: &OwnedFd, message: &Message, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    service::send_with_fds(to, &serde_json::to_vec(message)?, fds)
}

/// Waits for the successor's word, or its end.
fn wait(from: &OwnedFd, child: &mut Child) -> Result<u32, String> {
    let _ = socket2::SockRef::from(from).set_read_timeout(Some(UPGRADE_MAX));
    let began = Instant::now();
    let mut bytes = [0; 64];
    match service::recv_with_fds(from, &mut bytes) {
        Ok((count, _)) if bytes[..count] == *READY => Ok(child.id()),
        Err(_) if began.elapsed() >= UPGRADE_MAX => {
            Err(format!("it was not ready after {} s{}", UPGRADE_MAX.as_secs(), end(child)))
        }
        _ => Err(format!("it ended before it was ready{}", end(child))),
    }
}

/// Sees to it that a successor that failed is gone, and says how it ended.
fn end(child: &mut Child) -> String {
    // It closed its end: if it has not ended yet it is about to.
    for _ in 0..50 {
        if let Ok(Some(status)) = child.try_wait() {
            return format!(" ({status})");
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    " (it was killed)".to_owned()
}

/// The way back to the old process.
#[derive(Debug)]
pub(super) struct Predecessor(OwnedFd);

impl Predecessor {
    /// All cores serve: it may go.
    ///
    /// # Errors
    /// It is gone: somebody stopped it meanwhile.
    pub(super) fn ready(self) -> io::Result<()> {
        service::send_with_fds(&self.0, READY, &[])
    }
}

/// Takes over from a predecessor, if this process was started by one. Call it once, at the start.
///
/// # Errors
/// When what it sends cannot be understood: it is another ringway.
pub(super) fn take_over() -> io::Result<Option<(Predecessor, Inherited)>> {
    let by = env::var(VARIABLE).ok().and_then(|text| text.parse::<u32>().ok());
    if by.is_none() || by != Some(std::os::unix::process::parent_id()) {
        return Ok(None);
    }
    let socket = service::take_stdin()?;
    let mut inherited = Inherited::default();
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    loop {
        let (count, fds) = service::recv_with_fds(&socket, &mut bytes)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let message: Message = serde_json::from_slice(&bytes[..count])?;
        for (fd, described) in fds.into_iter().zip(message.sockets) {
            match described.core {
                Some(core) => {
                    let bound = Bound::adopt(fd, described.foreign)?;
                    inherited.listeners.push((Some(core), bound));
                }
                None => inherited.admin = Some(admin(fd)?),
            }
        }
        inherited.rollouts.extend(message.rollout);
        inherited.by_hand.extend(message.by_hand);
        if let Some(version) = message.last {
            inherited.version = version;
            return Ok(Some((Predecessor(socket), inherited)));
        }
    }
}

fn admin(fd: OwnedFd) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::from(fd);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A core's socket.
#[derive(Debug)]
struct Kept {
    listener: ListenerId,
    core: usize,
    foreign: bool,
    fd: OwnedFd,
}

/// The sockets a process listens on, kept so that a successor can have them.
#[derive(Debug, Default)]
pub(super) struct Held {
    listeners: Vec<Kept>,
    admin: Option<OwnedFd>,
}

impl Held {
    /// Keeps a copy of a core's socket.
    pub(super) fn keep(&mut self, core: usize, socket: &ListenSocket) -> io::Result<()> {
        let fd = socket.fd.try_clone()?;
        let (listener, foreign) = (socket.listener, socket.foreign);
        self.listeners.push(Kept { listener, core, foreign, fd });
        Ok(())
    }

    /// Keeps a copy of the admin API's socket.
    pub(super) fn keep_admin(&mut self, listener: &std::net::TcpListener) -> io::Result<()> {
        self.admin = Some(listener.as_fd().try_clone_to_owned()?);
        Ok(())
    }

    /// Drops the copies of listeners that are gone: a socket must not outlive its last core, or its
    /// queue would fill with nobody to serve it.
    pub(super) fn keep_only(&mut self, is_there: impl Fn(ListenerId) -> bool) {
        self.listeners.retain(|kept| is_there(kept.listener));
    }

    /// All of them, for a successor.
    pub(super) fn all(&self) -> Vec<Passed<'_>> {
        let listeners = self.listeners.iter().map(|kept| Passed {
            core: Some(kept.core),
            foreign: kept.foreign,
            fd: kept.fd.as_fd(),
        });
        let admin = self.admin.iter();
        let admin = admin.map(|fd| Passed { core: None, foreign: false, fd: fd.as_fd() });
        listeners.chain(admin).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_arrive_with_their_cores() {
        let (ours, theirs) = service::message_pair().expect("a pair");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut held = Held::default();
        let mut socket =
            ListenSocket { listener: ListenerId(0), fd: listener.into(), address, foreign: true };
        for core in 0..300 {
            socket.listener = ListenerId(core as u32 % 3);
            held.keep(core, &socket).expect("a copy");
        }
        held.keep_only(|listener| listener.0 != 2);
        pass(&ours, &held.all(), Handover { version: 9, ..Handover::default() }).expect("passed");
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let (mut seen, mut version) = (Vec::new(), None);
        while version.is_none() {
            let (count, fds) = service::recv_with_fds(&theirs, &mut bytes).expect("received");
            let message: Message = serde_json::from_slice(&bytes[..count]).expect("understood");
            for (fd, described) in fds.into_iter().zip(&message.sockets) {
                assert_eq!(
                    Bound::adopt(fd, described.foreign).expect("listens").local_addr(),
                    address
                );
                assert!(described.foreign);
                seen.push(described.core.expect("a core"));
            }
            version = message.last;
        }
        let expected: Vec<usize> = (0..300).filter(|core| core % 3 != 2).collect();
        assert_eq!((seen, version), (expected, Some(9)));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_and_one_that_ends_is_a_reason() {
        let missing = Program { path: "/nowhere/ringway".into(), arguments: Vec::new() };
        start(&missing, &[], Handover::default()).expect_err("not there");
        let ends = Program { path: "/bin/false".into(), arguments: Vec::new() };
        let starting = start(&ends, &[], Handover::default()).expect("started");
        let reason = starting.answer.blocking_recv().expect("an answer").expect_err("it ended");
        assert!(reason.contains("exit status: 1"), "{reason}");
    }
}
