//! `[runtime]` and `[[runtime.core]]`.

use std::time::Duration;

use super::{DAY, Key, Kind, Section, key, required};
use crate::base::limits;

/// `[runtime]`.
pub(in crate::controlplane::config) static RUNTIME: Section = Section {
    path: "runtime",
    doc: "The event loops, one per core. Read at start only, but for `drain_timeout`.",
    keys: &[
        key(
            "cores",
            Kind::Text("0-7,16-23"),
            "all",
            "Cores to run on: a Linux cpu list, or \
            \"all\" that the process may use.",
        )
        .or(&["threads", "worker_processes"]),
        PIN,
        key(
            "driver",
            Kind::Choice(&["auto", "io_uring", "epoll"]),
            "auto",
            "How a core waits for the kernel; \"auto\" takes epoll where io_uring is refused.",
        ),
        RING_ENTRIES,
        CONNECTIONS_MAX,
        ACCEPT_BATCH,
        BUFFER_BYTES,
        BUFFERS_MAX,
        SPLICE_BYTES_MIN,
        PIPES_MAX,
        BUSY_POLL,
        key(
            "spread",
            Kind::Choice(&["connections", "off"]),
            "connections",
            "\"connections\": a core that accepts a connection while another has clearly fewer \
            hands it over. \"off\": it stays where the kernel put it.",
        ),
        key(
            "drain_timeout",
            Kind::Duration(Duration::ZERO, DAY, false),
            "30s",
            "How long requests in flight may take after SIGTERM.",
        ),
        key("core", Kind::Many(&CORE), "", CORE.doc).or(&["worker"]),
    ],
};

/// `[[runtime.core]]`.
pub(in crate::controlplane::config) static CORE: Section = Section {
    path: "runtime.core",
    doc: "Settings of one core, which override those of [runtime].",
    keys: &[
        required(
            "id",
            Kind::Integer(0, limits::CORE_ID_MAX as i64),
            "The core; one of `runtime.cores`.",
        ),
        of_one_core(PIN),
        of_one_core(RING_ENTRIES),
        of_one_core(CONNECTIONS_MAX),
        of_one_core(ACCEPT_BATCH),
        of_one_core(BUFFER_BYTES),
        of_one_core(BUFFERS_MAX),
        of_one_core(SPLICE_BYTES_MIN),
        of_one_core(PIPES_MAX),
        of_one_core(BUSY_POLL),
    ],
};

/// The same key in `[[runtime.core]]`.
const fn of_one_core(key: Key) -> Key {
    Key { default: "", doc: "As in [runtime].", aliases: &[], ..key }
}

const PIN: Key =
    key("pin", Kind::Boolean, "true", "Whether the thread of each core is bound to it.");

const RING_ENTRIES: Key = key(
    "ring_entries",
    Kind::Integer(limits::RING_ENTRIES_MIN as i64, limits::RING_ENTRIES_MAX as i64),
    "1024",
    "Entries of a core's submission queue; a power of two.",
);

const CONNECTIONS_MAX: Key = key(
    "connections_max",
    Kind::Integer(1, limits::CONNECTIONS_MAX_PER_CORE_MAX as i64),
    "65536",
    "Connections of clients on one core, all listeners together. Beyond it new \
    ones are answered 503 and closed.",
)
.or(&["worker_connections", "maxconn"]);

const ACCEPT_BATCH: Key = key(
    "accept_batch",
    Kind::Integer(1, limits::ACCEPT_BATCH_MAX as i64),
    "32",
    "Connections taken from the accept queue before other work gets its turn.",
)
.or(&["multi_accept", "tune.maxaccept"]);

const BUFFER_BYTES: Key = key(
    "buffer_bytes",
    Kind::Size(limits::BUFFER_BYTES_MIN as u64, limits::BUFFER_BYTES_MAX as u64, false),
    "32KiB",
    "One buffer for received bytes; more if a listener takes longer heads. An idle \
    connection holds none.",
)
.or(&["bufsize", "tune.bufsize"]);

const BUFFERS_MAX: Key = key(
    "buffers_max",
    Kind::Integer(64, limits::BUFFERS_MAX_PER_CORE_MAX as i64),
    "65536",
    "Buffers of one core in use at a time. Beyond it requests are answered 503.",
);

const SPLICE_BYTES_MIN: Key = key(
    "splice_bytes_min",
    Kind::Size(16 * 1024, 1 << 30, false),
    "64KiB",
    "Bodies with at least this much to go move inside the kernel by splice(2).",
);

const PIPES_MAX: Key = key(
    "pipes_max",
    Kind::Integer(0, limits::PIPES_MAX_PER_CORE_MAX as i64),
    "64",
    "Pipes of one core for moving bodies inside the kernel; 0 copies instead.",
);

const BUSY_POLL: Key = key(
    "busy_poll",
    Kind::Duration(Duration::ZERO, limits::BUSY_POLL_MAX, false),
    "0s",
    "How long a core that has nothing to do asks the kernel again and again before it \
    sleeps.",
);
