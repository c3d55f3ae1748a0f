//! The floor of the house: everything that touches the kernel on the data path.
//!
//! The only room that names `io_uring`, and the only one with `unsafe`; the rest of ringway sees
//! buffers, streams and deadlines. One copy of all this lives on each core and nothing here is
//! shared between cores but [`doorbell`], which is how the control plane reaches one. How the loop
//! works, and why it is our own, is in `docs/adr/0009-a-driver-of-our-own.md`.
//!
//! What must hold, for every caller:
//! - the kernel owns a buffer until the operation on it completes: [`Stream::recv`] and
//!   [`Stream::send`] take the buffer and give it back;
//! - a send, or a receive into a buffer of one's own, of a connection that lives on is never
//!   dropped: a [`Deadline`] shuts the socket down and the operation then ends by itself.
//!   [`Stream::fill`] and [`Stream::next`] may be dropped;
//! - tasks, streams and futures stay on the thread they were made on; another thread that wakes
//!   one of them panics.
//!
//! Unit tests lie in each file, tests with a whole runtime in `tests/rt_*.rs`.

pub mod buf;
pub mod clock;
pub mod connect;
mod core;
pub mod deadline;
pub mod doorbell;
mod driver;
mod drivers;
mod epoll;
mod executor;
pub mod join;
pub mod latch;
pub mod listener;
mod loan;
pub mod machine;
pub mod memory;
mod op;
pub mod pipe;
pub mod placed;
pub mod probe;
pub mod relay;
mod ring_fd;
pub mod runtime;
pub mod service;
mod slots;
pub mod splice;
pub mod stream;
mod sys;
pub mod task;
mod timers;

pub use buf::{Buf, BufPool, BufStats};
pub use connect::{ConnectError, connect};
pub use deadline::{Deadline, Deadlines, Shut};
pub use doorbell::{Mailbox, MailboxSender, Undelivered, mailbox};
pub use driver::Receive;
pub use join::{Either, join, race};
pub use latch::{Handle, Latch, LatchId, Latches};
pub use listener::{Accepted, Bound, Listener, bind, probe_free, share_port};
pub use pipe::{Pipe, PipePool};
pub use placed::{FuturePool, Placed};
pub use probe::{Choice, DriverError, choose};
pub use relay::{Relayed, relay};
pub use runtime::{DriverKind, RuntimeSettings, pin_to_core, run};
pub use splice::{Progress, SpliceError, splice_exact, splice_until_eof};
pub use stream::{PeerState, Stream, TcpInfo, poll_gone, shutdown, shutdown_read};
pub use task::{PanicPlace, sleep, spawn_guarded, turn_time, yield_now};
