//! Every bound of ringway, with its unit and its reason. A queue, pool, loop or retry without a
//! line here is a defect.

use std::time::Duration;

/// Default bytes of one pooled buffer that hold received data. A 16 KiB response with its head fits, so it
/// moves with one receive and one send.
pub const BUFFER_BYTES: usize = 32 * 1024;

/// Smallest and largest `buffer_bytes` a configuration may ask for.
pub const BUFFER_BYTES_MIN: usize = 16 * 1024;
/// See [`BUFFER_BYTES_MIN`].
pub const BUFFER_BYTES_MAX: usize = 1024 * 1024;

/// Bytes kept free in front of received data, so that a rewritten head (usually a little longer
/// than the original: Via, X-Forwarded-For, ...) fits right before the body that came with it and
/// both leave in one send.
pub const BUFFER_HEADROOM_BYTES: usize = 2 * 1024;

/// Bytes kept free behind received data: the CRLF that ends a re-framed chunk and the last chunk
/// (`\r\n0\r\n\r\n`) are written there.
pub const BUFFER_TAILROOM_BYTES: usize = 16;

/// Default for the request head of a listener (`header_bytes_max`), bytes.
pub const HEADER_BYTES_MAX_DEFAULT: usize = 32 * 1024;

/// Largest `header_bytes_max` a configuration may ask for, bytes. Field offsets are 16 bit, so that
/// the largest head has one byte less.
pub const HEADER_BYTES_MAX_MAX: usize = 64 * 1024;

/// Default for the number of fields in a head (`header_count_max`).
pub const HEADER_COUNT_MAX_DEFAULT: usize = 128;

/// Bytes of a PROXY protocol header with its extensions. Balancers send a few hundred at most.
pub const PROXY_HEADER_BYTES_MAX: usize = 4096;

/// Largest `header_count_max` a configuration may ask for.
pub const HEADER_COUNT_MAX_MAX: usize = 1024;

/// Bytes of a response head from an endpoint; longer ones are answered with 502.
pub const RESPONSE_HEAD_BYTES_MAX: usize = BUFFER_BYTES;

/// Fields of a response head from an endpoint; more are answered with 502.
pub const RESPONSE_HEADER_COUNT_MAX: usize = 256;

/// Interim (1xx) responses passed on for one request; an endpoint that sends more is broken.
pub const INTERIM_RESPONSES_MAX: usize = 16;

/// Length of a body, or of one chunk of it, bytes. More has no meaning, and readers that count in
/// signed 64 bit would take it for a negative or a small number.
pub const BODY_LENGTH_MAX: u64 = i64::MAX as u64;

/// Bytes of one chunk-size line with its extensions. Nobody uses extensions; smugglers do.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;

/// Bytes of chunk extensions in one message, all chunks together.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 4 * 1024;

/// Bytes of a trailer section.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Fields of a trailer section.
pub const TRAILER_COUNT_MAX: usize = 64;

/// Bytes of a method name. The longest registered one (`UPDATEREDIRECTREF`) has 17.
pub const METHOD_BYTES_MAX: usize = 32;

/// Elements of all Connection fields of one head together. Real ones name two or three; the bound
/// keeps the search for nominated fields from costing elements times fields.
pub const CONNECTION_OPTIONS_MAX: usize = 32;

/// Captures of one route (path parameters or named groups).
pub const CAPTURES_MAX: usize = 16;

/// Segments of a `path` with parameters; the walk through the table recurses once for each.
pub const PATTERN_SEGMENTS_MAX: usize = 128;

/// Bytes of a `path`, `path_prefix` or `path_regex`.
pub const PATTERN_BYTES_MAX: usize = 8 * 1024;

/// Different methods in all routes of a table: a set of them is one machine word.
pub const METHODS_DISTINCT_MAX: usize = 64;

/// Bytes of one compiled regex.
pub const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of the state cache that one regex may keep for each thread that runs it.
pub const REGEX_CACHE_BYTES_MAX: usize = 512 * 1024;

/// Nesting of groups in a regex.
pub const REGEX_NESTING_MAX: u32 = 64;

/// Nodes of the routing tree looked at for each place of a route, to see if others shadow it.
pub const SHADOW_NODES_MAX: usize = 256;

/// Routes at one such node that are compared; with more the warning may be missed.
pub const SHADOW_ENTRIES_MAX: usize = 64;

/// Different sets of listeners from which on they are not compared with each other for shadows.
pub const SHADOW_SETS_MAX: usize = 512;

/// Routes with metric series of their own; later ones share the series `other`, so that a scrape
/// stays small however many routes there are.
pub const ROUTE_SERIES_MAX: usize = 1024;

/// Pairs of method and status counted apart within one route; later ones share `other`.
pub const ROUTE_STATUS_SERIES_MAX: usize = 32;

/// Upstreams with metric series of their own; later ones share the series `other`.
pub const UPSTREAM_SERIES_MAX: usize = 256;

/// Routes whose split has metric series; those of further ones are left out.
pub const SPLIT_SERIES_MAX: usize = 256;

/// Copies of requests (`route.mirror`) under way on one core; further requests are not copied. Each
/// holds the bytes of its request: 5 MiB in all where heads and bodies are as long as they may be.
pub const MIRRORS_MAX_PER_CORE: usize = 64;

/// Longest body of a request that is copied: it is received whole before the request leaves.
pub const MIRROR_BODY_BYTES_MAX: usize = RETRY_BODY_BYTES_MAX;

/// Rollouts at once: the state of each is small, and what all of them say is looked at together.
pub const ROLLOUTS_MAX: usize = 64;

/// Stages of one rollout.
pub const ROLLOUT_STAGES_MAX: usize = 20;

/// How often the numbers of rollouts are looked at, at the least and at the most.
pub const ROLLOUT_LOOK_MIN: Duration = Duration::from_millis(20);
/// See [`ROLLOUT_LOOK_MIN`].
pub const ROLLOUT_LOOK_MAX: Duration = Duration::from_secs(1);

/// Largest `weight` of an upstream in a split: a share of one in a million can be written.
pub const SPLIT_WEIGHT_MAX: u32 = 1_000_000;

/// Endpoints tried for one request while none of them accepted a connection. Nothing of the
/// request was sent, so trying is safe; three keep the worst case at three connect timeouts.
pub const CONNECT_TRIES_MAX: usize = 3;

/// Bytes of a request body that ringway reads and drops to keep a client's connection after it
/// answered by itself; a longer body costs the connection.
pub const DISCARD_BYTES_MAX: usize = 64 * 1024;

/// How long a closing connection is read and dropped so that the last answer is not lost to a reset.
pub const LINGER_MAX: Duration = Duration::from_secs(2);

/// How long a request lives on after its client closed its sending side. A client may half-close
/// and wait for the answer, or be gone: the wire shows no difference until we send.
pub const HALF_CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Bytes of a request body that is sent from a copy on a used connection, so that the request can be
/// sent once more should the connection be dead. As much as a context keeps room for.
pub const REPLAY_BYTES_MAX: usize = CONTEXT_BYTES_KEPT_MAX / 2;

/// How often a request that waits for a place looks for one that another core gave back.
pub const PENDING_LOOK: Duration = Duration::from_millis(5);

/// How long the one try of an endpoint that comes back from an ejection is waited for.
pub const TRIAL_MAX: Duration = Duration::from_secs(5);

/// Longest ejection of an endpoint, however often it was ejected before.
pub const EJECT_FOR_MAX: Duration = Duration::from_secs(300);

/// Further tries of one request after the first (`retry.attempts`) that a configuration may ask for.
pub const RETRY_ATTEMPTS_MAX: usize = 10;

/// Longest bound of the pause before a further try, however often it doubled.
pub const RETRY_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How long what requests earned for further tries counts; older earnings fade.
pub const RETRY_BUDGET_MEMORY: Duration = Duration::from_secs(10);

/// Further tries that an upstream has whatever its requests earned: one in this time, for the whole
/// process. Where few requests come, a share of them is less than one.
pub const RETRY_FLOOR_INTERVAL: Duration = Duration::from_millis(100);

/// Of those, how many may come at once.
pub const RETRY_FLOOR_BURST: u64 = 10;

/// Bytes of a request body that a route may keep for further tries (`retry.body_bytes_max`). It fits
/// into a buffer beside its head.
pub const RETRY_BODY_BYTES_MAX: usize = BUFFER_BYTES / 2;

/// How long an endpoint that closed a connection right after a response, without saying so, is
/// expected to do it again.
pub const SILENT_CLOSE_MEMORY: Duration = Duration::from_secs(60);

/// Age from which on an unused connection of such an endpoint may carry a request that can't be
/// repeated: a close that was under way has arrived by then.
pub const SILENT_CLOSE_WAIT: Duration = Duration::from_millis(100);

/// How long a draining ringway accepts whoever had begun to connect: a round trip to clients nearby.
/// Who begins meanwhile is refused a second later, when its kernel tries again.
pub const LISTEN_LINGER: Duration = Duration::from_millis(50);

/// How long a draining ringway still takes a request from a connection it had promised to keep: its
/// client may be sending one just now. Idle connections are closed after it.
pub const DRAIN_IDLE_GRACE: Duration = Duration::from_millis(500);

/// Bytes read and dropped from a closing connection at most. Covers what is under way on a fast and
/// distant network when a client learns that its upload was refused.
pub const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest silence in both directions of an upgraded connection (WebSocket). Peers call it
/// `timeout tunnel` and recommend an hour.
pub const TUNNEL_IDLE_MAX: Duration = Duration::from_secs(3600);

/// Beat of the deadlines, of the pool sweep and of the access log flush on each core.
pub const TICK: Duration = Duration::from_millis(50);

/// Deadlines that pass in one go: each ends a request or a connection, some 30 us of work, and what others wait for
/// has its turn before the next ones.
pub const DEADLINES_FIRED_AT_ONCE: usize = 64;

/// Plaintext bytes of the records that follow a pause: one fits into a segment of an Ethernet.
pub const TLS_SMALL_RECORD_BYTES: usize = 1_350;

/// Plaintext bytes sent in small records after a pause: about what a new TCP connection may send
/// before its peer answers, so that more would not arrive earlier.
pub const TLS_SMALL_RECORDS_BYTES: usize = 8 * 1024;

/// Plaintext bytes of all other records: the largest there are (RFC 8446 §5.1).
pub const TLS_RECORD_BYTES: usize = 16 * 1024;

/// Ticks without a byte sent after which records are small again: a second.
pub const TLS_BURST_PAUSE_TICKS: u64 = 20;

/// How long one signature may hold a core. Signing with ECDSA P-256 takes 20 us, with RSA-2048
/// 600 us, with RSA-4096 4 ms; what takes longer is done by threads of their own.
pub const TLS_SIGN_ON_CORE_MAX: Duration = Duration::from_micros(200);

/// Threads that sign with slow keys, for all cores together.
pub const TLS_SIGNERS: usize = 2;

/// Handshakes that wait for one of these threads; half a second's work with RSA-2048.
pub const TLS_SIGNING_WAITING_MAX: usize = 1_024;

/// TLS handshakes under way on one core; each holds a few KiB, and work that was not asked for yet.
/// Clients that come later are closed at once.
pub const TLS_HANDSHAKES_MAX_PER_CORE: usize = 4_096;

/// Bytes a core has for one handshake message that fits into no ordinary buffer, a hello with thousands of
/// extensions: the longest that rustls takes (64 KiB), and room for the headers of 700 records.
pub const TLS_LARGE_MESSAGE_BYTES: usize = 80 * 1024;

/// Handshakes of one core that may have such a message under way; 5 MiB. Others are refused.
pub const TLS_LARGE_MESSAGES_MAX_PER_CORE: usize = 64;

/// Sessions remembered by each listener that takes early data: tickets that are good once can't be
/// kept by the client alone.
pub const TLS_SESSIONS_MAX: usize = 16 * 1024;

/// Sessions with endpoints that one upstream remembers, all cores together: each endpoint has a few.
pub const TLS_UPSTREAM_SESSIONS_MAX: usize = 1_024;

/// How often a core tells that TLS with an endpoint could not be begun.
pub const TLS_FAILURES_TOLD: Duration = Duration::from_secs(1);

/// Early data of one connection, bytes: a request head, or several.
pub const TLS_EARLY_DATA_BYTES_MAX: u32 = 16 * 1024;

/// How often the watch looks which files the configuration in force names.
pub const WATCH_NAMED: Duration = Duration::from_millis(250);

/// Bytes of a file with certificates or a key: a bundle of all authorities there are has 250 KiB.
pub const CERTIFICATE_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Days before its end from which on a certificate is warned of.
pub const CERTIFICATE_WARN_DAYS: i64 = 30;

/// Certificates of one listener: their index is 16 bit, and each is read and checked at a reload.
pub const CERTIFICATES_MAX: usize = 10_000;

/// Largest `accept_batch` a configuration may ask for: with more, a flood of connections would hold
/// up those that are there for milliseconds.
pub const ACCEPT_BATCH_MAX: usize = 1024;

/// Longest `busy_poll` a configuration may ask for: beyond it a core does nothing else.
pub const BUSY_POLL_MAX: Duration = Duration::from_millis(10);

/// Cores that one which accepts a connection looks at, to find one with fewer: each look may cost a
/// cache miss.
pub const SPREAD_LOOKS_MAX: usize = 16;

/// Ticks a core waits to hear of the listener of a connection that was handed to it.
pub const HANDED_WAIT_TICKS: u32 = 40;

/// Connections that wait for a core to take them over from another; beyond it they stay where they
/// are.
pub const HANDED_MAX: usize = 1024;

/// Bytes of one splice pipe.
pub const PIPE_BYTES: usize = 256 * 1024;

/// Pipes of one core. The kernel grants an unprivileged user 256 pipes of 256 KiB in all.
pub const PIPES_MAX_PER_CORE: usize = 64;

/// Buffers of one core whose memory goes back to the kernel in a second, of those that were not
/// used in it. Each costs a system call of about a microsecond.
pub const BUFFERS_TRIMMED_PER_SWEEP: usize = 512;

/// Largest `buffers_max` a configuration may ask for.
pub const BUFFERS_MAX_PER_CORE_MAX: usize = 1_048_576;

/// Finished request contexts kept for the next request on a core.
pub const CONTEXTS_KEPT_MAX: usize = 1024;

/// Bytes a finished request context may keep in each of its scratch buffers.
pub const CONTEXT_BYTES_KEPT_MAX: usize = 4 * 1024;

/// Streams that one HTTP/2 connection of a client may have open at once. RFC 9113 §6.5.2 recommends no
/// less than 100; each holds at most a buffer and what `H2_SEND_BYTES_MAX` allows.
pub const H2_STREAMS_MAX: u32 = 128;

/// Room for the text of a request of HTTP/2, before it is known how long it is.
pub const SMALL_HEAD_BYTES: usize = 512;

/// Streams that one connection begins in one go, before others have their turn: with a connection to an endpoint for
/// each that is some 2 ms of work.
pub const H2_STREAMS_BEGUN_AT_ONCE: usize = 32;

/// Largest `streams_max` a configuration may ask for.
pub const H2_STREAMS_MAX_MAX: u32 = 4096;

/// Bytes a client may send on one stream before ringway has passed them on.
pub const H2_STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// Bytes a client may send on all streams of a connection before ringway has passed them on: what
/// one connection's uploads can hold in memory.
pub const H2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What DATA frames of less than 256 bytes that wait to be read on a client's connection may cost beside their
/// content, in bytes as the `h2` crate counts: 256 for each, less its length. With more the connection ends. Streams of small
/// gRPC messages fill a window of 64 KiB with up to ten thousand frames, 2.7 MB, when an endpoint falls behind: this is
/// three of them, and no more than the buffers of 128 streams.
pub const H2_SMALL_FRAMES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes that wait on a connection to an endpoint, which requests of many clients share: a window full for each of its
/// streams, so that those whose clients take nothing hold up no other.
pub const H2_LINK_WINDOW_BYTES: u32 = H2_LINK_STREAMS_MAX * H2_STREAM_WINDOW_BYTES;

/// What small DATA frames that wait to be read may cost there, as the `h2` crate counts; with more the connection ends,
/// which none of those that share it may bring about by being slow. So they are put together before it comes to that: this is
/// seven times what `H2_LINK_SMALL_FRAMES` cost with a buffer full of frames of one byte behind these.
pub const H2_LINK_SMALL_FRAMES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of a DATA frame of an endpoint below which it is a small one: in the crate each costs some 300 more, and keeps
/// the memory that it came in.
pub const H2_SMALL_FRAME_BYTES: usize = 1024;

/// Small DATA frames of a connection to an endpoint behind which those that wait on it are put together.
pub const H2_LINK_SMALL_FRAMES: u32 = 1024;

/// Bytes of one stream that wait in its connection to be sent, all of them within the peer's window.
pub const H2_SEND_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a piece of a body from which on its buffer is kept until it is sent; a smaller piece is
/// copied, so that a full `H2_SEND_BYTES_MAX` holds at most eight buffers.
pub const H2_POOLED_BYTES_MIN: usize = 8 * 1024;

/// Bytes of bodies for which their streams have no window from which on, on one client's connection, no more is
/// fetched from endpoints than there is window for; from the first byte on where a buffer for each of its streams would be
/// this much more than it takes. As much as 64 downloads hold whose client is slower than we are, which is nothing unusual
/// and should cost them nothing.
pub const H2_HELD_BYTES_MUCH: usize = 2 * 1024 * 1024;

/// The same for all connections of a core.
pub const H2_HELD_BYTES_MUCH_PER_CORE: usize = 16 * 1024 * 1024;

/// Bytes that are received at once of a response, head included, where that much waits already: most heads fit.
pub const H2_FIRST_BYTES_PRESSED: usize = 1024;

/// Bytes of bodies that wait for windows on one connection from which on its further streams are refused. With
/// endpoints whose answers come in pieces of their own size (records of TLS) it can be reached.
pub const H2_HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The same for all connections of a core that hold some.
pub const H2_HELD_BYTES_MAX_PER_CORE: usize = 64 * 1024 * 1024;

/// Bytes that HTTP/2 endpoints may have sent behind what waits for windows on one connection, from which on its further
/// streams are refused. A stream counts with all that there is window for: this is 256 of them.
pub const H2_BEHIND_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The same for all connections of a core that wait for such bytes. Twice what one endpoint's connections hold at most.
pub const H2_BEHIND_BYTES_MAX_PER_CORE: usize = 128 * 1024 * 1024;

/// Bytes left of a piece of a body that waits for the window up to which they are copied, and their buffer given back.
pub const H2_WAITING_COPIED_MAX: usize = 16 * 1024;

/// Bytes of the text of a message without a body that gets a buffer of one page in place of a large one.
pub const SMALL_BUFFER_BYTES: usize = 4096 - BUFFER_HEADROOM_BYTES - BUFFER_TAILROOM_BYTES;

/// Bytes of frames gathered for the next send of a connection.
pub const H2_OUTBOX_BYTES_MAX: usize = 128 * 1024;

/// Bytes of such memory that is kept for the send after that.
pub const H2_OUTBOX_BYTES_KEPT: usize = 32 * 1024;

/// Streams that a client reset before ringway looked at them; with more the connection ends
/// (CVE-2023-44487, "rapid reset"). A page that is left gives up all it has asked for at once, a hundred streams mostly;
/// no endpoint hears of any of them, and `H2_EMPTY_FRAMES_MAX` bounds how many there are in all.
pub const H2_RESETS_PENDING_MAX: usize = 200;

/// Streams that ringway reset because of what a client did wrong, or because there were too many at once; with
/// more the connection ends (CVE-2025-8671, "made you reset"). As many as a client may reset itself.
pub const H2_RESETS_LOCAL_MAX: usize = 1000;

/// Frames that carry nothing (PING, SETTINGS, PRIORITY, RST_STREAM, unknown ones) a peer may send at once. Empty DATA
/// frames that end nothing, and the resets of endpoints, have an account of their own of this size, which each frame of
/// a message fills by one.
pub const H2_EMPTY_FRAMES_MAX: u32 = 1000;

/// Streams a client has ended, of which a connection remembers the number, to call a frame that comes behind
/// by its name: it comes at once, or the client is broken in other ways too.
pub const H2_ENDED_STREAMS_KEPT: usize = 16;

/// Bytes of a frame's payload that ringway takes, as it never says another number (RFC 9113 §6.5.2). As many are held back of
/// a header block that is not here as a whole.
pub const H2_FRAME_BYTES_MAX: usize = 16 * 1024;

/// Malformed requests of one client that may wait to be given out and refused; more end the connection.
pub const H2_REFUSED_MAX: usize = 200;

/// Streams of a connection to an endpoint of which it is remembered that their response has begun: all that may be open,
/// and some that ringway has reset, of which nothing else is heard; these are forgotten where it is full.
pub const H2_ANSWERED_KEPT: usize = 2 * H2_LINK_STREAMS_MAX as usize;

/// How many of those empty DATA frames the `h2` crate is shown in the life of a connection: the 101st ends it there. It
/// checks that their streams are open, the rest is taken out before it.
pub const H2_EMPTY_DATA_SHOWN: u32 = 64;

/// How many more with each tick: 400 in a second. Programs that measure the path with PING send some
/// tens; a client that cancels each request after it began is slowed to what its endpoints bear.
pub const H2_EMPTY_FRAMES_PER_TICK: u32 = 20;

/// HTTP/2 connections of one core to one endpoint.
pub const H2_LINKS_MAX: usize = 4;

/// Requests at once on one of them, if the endpoint allows that many: what it holds for them is bounded.
pub const H2_LINK_STREAMS_MAX: u32 = 256;

/// How long a client has had no window for a response, after which its request gives up its place on the connections to an
/// endpoint where another one finds none.
pub const H2_STALLED_MIN: Duration = Duration::from_secs(1);

/// How often in a tick such a request is looked for, among all of an endpoint: up to 1,024 on each core.
pub const H2_STALLED_LOOKS_MAX: u32 = 4;

/// Requests of one core that wait for room on the connections to an endpoint; others are refused.
pub const H2_WAITING_MAX: usize = 1024;

/// How long a connection with streams may be silent before it is asked with a PING whether it is
/// still there, and then how long it has to answer.
pub const H2_SILENCE_MAX: Duration = Duration::from_secs(30);

/// Snapshots waiting for one core; the newest wins, so more than a few are never needed.
pub const MAILBOX_MESSAGES_MAX: usize = 64;

/// Reports of all cores waiting for the control thread. A core writes a handful per change of the
/// rules; beyond the bound a report is dropped (a retired snapshot is then freed by its core).
pub const REPORTS_MAX: usize = 4096;

/// Changes of the rules waiting to be prepared: those that wait are applied together, so more than a
/// few are a writer gone wild.
pub const CHANGES_WAITING_MAX: usize = 256;

/// How long the process that takes over after SIGUSR2 may need until all its cores serve.
pub const UPGRADE_MAX: Duration = Duration::from_secs(60);

/// Free bytes of the filesystem of `state_dir` above which a change of endpoints is sent to the cores before
/// its state is written: several times the longest state (`ADMIN_CONFIG_BYTES_MAX`).
pub const STATE_ROOM_BYTES_MIN: u64 = 256 << 20;

/// How long a change is worked at in one go, and how long the thread that does so rests then: a request that
/// waits for it waits no longer than half of what it takes anyway, and 10,000 routes are read in some
/// 30 ms in place of 8.
pub const PACE_PIECE: Duration = Duration::from_micros(150);

/// See [`PACE_PIECE`].
pub const PACE_REST: Duration = Duration::from_micros(200);

/// Rests in one change. Of 10,000 routes some 60 are needed where one in a hundred changes; what takes longer
/// would be in force later still with rests all along (`docs/reload.md` has what it takes).
pub const PACE_RESTS_MAX: u32 = 80;

/// Address space for the text of a large configuration file at least, bytes. The allocator gives blocks of
/// more than 512 KiB pages of their own, which go back to the kernel with them; smaller ones stay
/// resident among others when they are freed. What is not touched costs nothing.
pub const CONFIG_TEXT_ROOM_BYTES: usize = 516 * 1024;

/// Bytes of a configuration file from which on its text has that room.
pub const CONFIG_TEXT_LARGE_BYTES: usize = 64 * 1024;

/// Events of watched files waiting to be looked at; they all say the same.
pub const WATCH_EVENTS_MAX: usize = 64;

/// How long a file that is being written has to hold still before it is read.
pub const WATCH_QUIET: Duration = Duration::from_millis(50);

/// The same for a file that was renamed into place, which is whole: as long as the other events of
/// the same step take.
pub const WATCH_RENAME_QUIET: Duration = Duration::from_millis(3);

/// How often files that never hold still are read all the same.
pub const WATCH_LATE: Duration = Duration::from_millis(250);

/// Access log batches of one core waiting for the writer; beyond it records are dropped and counted.
pub const LOG_BATCHES_MAX: usize = 16;

/// Bytes of one access log batch. Large, as each wakes the writer and is a write(2) of its own.
pub const LOG_BATCH_BYTES: usize = 128 * 1024;

/// Changes of the access log's file waiting for the writer: it hangs in a write, more do not help.
pub const LOG_ORDERS_MAX: usize = 4;

/// Connections to the admin API at once; further ones wait in the accept queue.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Bytes of one object in a call of the admin API.
pub const ADMIN_OBJECT_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a whole configuration in a call of the admin API: 100,000 routes fit. All of it lies in
/// memory while it is checked.
pub const ADMIN_CONFIG_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Calls of the admin API that read a whole configuration at once: the tree of 100,000 routes takes
/// 270 MiB. Further ones wait.
pub const ADMIN_TREES_MAX: usize = 2;

/// Routes or upstreams in one answer of the admin API; for more there are further pages.
pub const ADMIN_PAGE_MAX: usize = 10_000;

/// How many of them unless asked for otherwise.
pub const ADMIN_PAGE_DEFAULT: usize = 1_000;

/// Longest time a call of the admin API waits for the cores; 5 s unless asked for otherwise. Shorter than
/// [`ADMIN_IDLE_MAX`]: its connection is silent meanwhile.
pub const ADMIN_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long a connection to the admin API may be silent.
pub const ADMIN_IDLE_MAX: Duration = Duration::from_secs(60);

/// Names of endpoints that are asked for at once; further ones wait.
pub const DNS_QUERIES_MAX: usize = 64;

/// Addresses, or services, of one answer that are used.
pub const DNS_RECORDS_MAX: usize = 1_024;

/// How long a start or a change waits for names it has not met before.
pub const DNS_FIRST_WAIT: Duration = Duration::from_secs(3);

/// From an unanswered question to the next one; doubles each time.
pub const DNS_RETRY_MIN: Duration = Duration::from_secs(1);

/// Longest time from an unanswered question to the next one.
pub const DNS_RETRY_MAX: Duration = Duration::from_secs(30);

/// Endpoints with metric series of their own; those beyond it have none.
pub const ENDPOINT_SERIES_MAX: usize = 4_096;

/// Endpoints, and names, that `/v1/status` shows, those that are not up before the others.
pub const ENDPOINTS_SHOWN_MAX: usize = 1_000;

/// Largest rate that may be asked of bodies: a gigabyte a second.
pub const BODY_RATE_MAX: u64 = 1 << 30;

/// Shortest time an endpoint is waited for before a second one is asked: below it, chance decides.
pub const HEDGE_AFTER_MIN: Duration = Duration::from_millis(1);

/// What a request of a route with `hedge` and without `retry` earns of a further try, in parts of
/// 10,000: as the default of `retry.budget`.
pub const HEDGE_BUDGET_PER_10K: u16 = 2_000;

/// Shortest interval of health checks: less would be an attack on the endpoint.
pub const HEALTH_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Shortest and longest time that an endpoint counts as up after a heartbeat: below the first the
/// Admin API would be busy with nothing else.
pub const HEARTBEAT_TTL_MIN: Duration = Duration::from_millis(100);
/// See [`HEARTBEAT_TTL_MIN`].
pub const HEARTBEAT_TTL_MAX: Duration = Duration::from_secs(24 * 3600);

/// Largest number of results in a row that a health check may ask for.
pub const HEALTH_RESULTS_MAX: u32 = 1_000;

/// Health checks under way at once: each holds a socket. Further ones wait, and their endpoints stay
/// what they are.
pub const HEALTH_CHECKS_MAX: usize = 256;

/// Bytes of a body that a health check looks at; no answer to one is longer.
pub const HEALTH_BODY_BYTES_MAX: usize = 64 * 1024;

/// Smallest `header_bytes_max` a configuration may ask for, bytes: less refuses the smallest clients.
pub const HEADER_BYTES_MAX_MIN: usize = 256;

/// Bytes of one configuration file. 100,000 routes take about 10 MiB; offsets are 32 bit.
pub const CONFIG_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes of a file named in `${file:...}`: enough for any secret, too little to fill memory.
pub const CONFIG_SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Bytes of a name in the configuration: names are labels of metrics and stand in every log line.
pub const NAME_BYTES_MAX: usize = 255;

/// Listeners of one configuration: their index is 16 bit, and each costs a socket per core.
pub const LISTENERS_MAX: usize = 1024;

/// Routes of one configuration.
pub const ROUTES_MAX: usize = 1_000_000;

/// Upstreams of one configuration.
pub const UPSTREAMS_MAX: usize = 100_000;

/// Endpoints of one upstream: their index is 16 bit.
pub const ENDPOINTS_MAX_PER_UPSTREAM: usize = 16_384;

/// Largest weight of an endpoint. Sums over an upstream stay far from 64 bit.
pub const ENDPOINT_WEIGHT_MAX: u32 = 1_000_000;

/// Smallest submission queue of a core, entries: one batch of accepted connections fits twice.
pub const RING_ENTRIES_MIN: u32 = 64;

/// Largest submission queue of a core, entries: the kernel's own bound.
pub const RING_ENTRIES_MAX: u32 = 32_768;

/// Largest number of client connections on one core a configuration may ask for: the kernel's
/// default bound on file descriptors of a process (`fs.nr_open`).
pub const CONNECTIONS_MAX_PER_CORE_MAX: usize = 1_048_576;

/// How long an endpoint that speaks HTTP/2 may take to say whether it offers tunnels: it is the first
/// thing it says on a connection.
pub const TUNNEL_OFFER_MAX: Duration = Duration::from_secs(1);

/// Largest number of pipes of one core a configuration may ask for.
pub const PIPES_MAX_PER_CORE_MAX: usize = 4096;

/// Largest id of a core: the kernel's bound on CPUs (`CONFIG_NR_CPUS`).
pub const CORE_ID_MAX: usize = 8191;

/// Largest number of unused connections to one endpoint on one core a configuration may ask for.
pub const POOL_IDLE_MAX_PER_CORE_MAX: usize = 65_536;

const _: () = assert!(ADMIN_WAIT_MAX.as_secs() < ADMIN_IDLE_MAX.as_secs());
const _: () = assert!(HEADER_BYTES_MAX_MAX <= 65_536);
const _: () = assert!(HEADER_BYTES_MAX_DEFAULT <= HEADER_BYTES_MAX_MAX);
