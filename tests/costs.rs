//! What a request costs, as counts: heap allocations, ring operations, system calls. Counts repeat
//! where times don't.
//!
//! Allocations are counted in this process, with the server started through the library; ring
//! operations are counted on the real binary by the kernel's tracepoints.

#![allow(unsafe_code)] // a counting allocator and one affinity call; nothing of it ships

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use ringway::server::{self, Source};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// One test at a time: what one allocates is not the other's.
static TURN: Mutex<()> = Mutex::new(());

// SAFETY: each call is passed on unchanged to the system's allocator; counting touches no memory of
// the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc_zeroed`'s contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REQUEST: &[u8] =
    b"GET /users/7?q=1 HTTP/1.1\r\nHost: api.example.test\r\nUser-Agent: test\r\n\
    Accept: */*\r\nAccept-Encoding: gzip\r\nCookie: session=0123456789abcdef\r\n\r\n";
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!";

/// An origin that answers each head with [`RESPONSE`]; allocates nothing per request.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::Builder::new()
                .stack_size(64 * 1024)
                .spawn(move || answer_all(stream))
                .expect("a thread");
        }
    });
    address
}

fn answer_all(mut stream: TcpStream) {
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let (mut bytes, mut filled) = ([0; 4096], 0);
    loop {
        match stream.read(&mut bytes[filled..]) {
            Ok(0) | Err(_) => return,
            Ok(n) => filled += n,
        }
        if bytes[..filled].ends_with(b"\r\n\r\n") {
            filled = 0;
            if stream.write_all(RESPONSE).is_err() {
                return;
            }
        }
    }
}

/// A client that repeats [`REQUEST`]; allocates nothing per request.
struct Client {
    stream: TcpStream,
    bytes: [u8; 4096],
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("ringway accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        Client { stream, bytes: [0; 4096] }
    }

    fn ask(&mut self) {
        self.stream.write_all(REQUEST).expect("the request goes");
    }

    fn hear(&mut self) {
        let mut filled = 0;
        while !self.bytes[..filled].ends_with(b"Hello, world!") {
            let n = self.stream.read(&mut self.bytes[filled..]).expect("a response");
            assert!(n > 0, "ringway closed the connection");
            filled += n;
        }
        assert!(self.bytes.starts_with(b"HTTP/1.1 200 "));
    }
}

fn config(driver: &str, listen: &str, admin: &str, core: usize, pin: bool) -> String {
    let origin = origin();
    format!(
        "[runtime]\ndriver = \"{driver}\"\ncores = \"{core}\"\npin = {pin}\n[admin]\n{admin}\n\
         [[listener]]\nname = \"edge\"\naddress = \"{listen}\"\n\
         [[route]]\nid = \"users\"\nhosts = [\"api.example.test\"]\npath = \"/users/{{id}}\"\nupstream = \"o\"\n\
         [[route]]\nid = \"rest\"\nupstream = \"o\"\n\
         [[upstream]]\nname = \"o\"\nendpoints = [{{ url = \"http://{origin}\" }}]\n"
    )
}

/// A steady keep-alive GET allocates nothing, with routing, limits, deadlines and metrics on.
#[test]
fn a_steady_request_allocates_nothing() {
    let _turn = TURN.lock();
    for driver in ["io_uring", "epoll"] {
        allocates_nothing(driver);
    }
}

fn allocates_nothing(driver: &str) {
    let listen = free_address().to_string();
    let text = config(driver, &listen, "enabled = false", first_core(), false);
    let (sender, receiver) = mpsc::channel();
    let serving = std::thread::spawn(move || {
        let source = Source::Text { name: "costs.toml".to_owned(), text };
        server::run(source, server::Options::default(), move |running| {
            sender.send(running).expect("the test waits")
        })
    });
    let Ok(running) = receiver.recv_timeout(Duration::from_secs(20)) else {
        panic!("ringway is not ready: {:?}", serving.join());
    };
    let mut clients: Vec<Client> =
        (0..8).map(|_| Client::connect(running.listeners[0].1)).collect();
    let mut rounds = |count: usize| {
        let (before, started) = (ALLOCATIONS.load(Ordering::Relaxed), Instant::now());
        for _ in 0..count {
            clients.iter_mut().for_each(Client::ask);
            clients.iter_mut().for_each(Client::hear);
        }
        (ALLOCATIONS.load(Ordering::Relaxed) - before, started.elapsed())
    };
    rounds(200);
    let (allocations, took) = rounds(500);
    println!("{driver}: {allocations} allocations in 4000 requests");
    // Other threads (the control thread's timers, libtest) may allocate now and then: by the clock, so
    // more of it under a sanitizer.
    let allowed = 40 + took.as_millis() as u64 / 20;
    assert!(allocations < allowed, "{allocations} allocations in 4000 requests");
    drop(clients);
    running.stop.stop();
    let end = Instant::now() + Duration::from_secs(20);
    while !serving.is_finished() {
        assert!(Instant::now() < end, "ringway does not end");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    serving.join().expect("no panic").expect("an orderly end");
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address nobody listens on, below the ports that the kernel gives out by itself to whoever is faster.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let first = u64::from(std::process::id()) * 101;
    loop {
        let port = 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 22_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Binds the calling thread, and those it starts, to one core: generator, origin and ringway then take
/// turns, and what is counted is how ringway batches, not how fast its neighbours are.
fn bind_to(core: usize) {
    // SAFETY: `set` is a plain bit set, valid when zeroed, and outlives the call that reads it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    assert_eq!(result, 0, "binding to core {core}: {}", std::io::Error::last_os_error());
}

fn first_core() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc/self/status");
    let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).expect("a line");
    let list = line.split_whitespace().nth(1).expect("a list");
    list.split(['-', ',']).next().and_then(|core| core.parse().ok()).expect("a core")
}

/// Counts events of a process while `work` runs; `None` where perf isn't there or not permitted.
fn count(pid: u32, events: &[&str], work: impl FnOnce()) -> Option<Vec<u64>> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut perf = Command::new("perf")
        .args(["stat", "-x,", "-e", &events.join(","), "-p", &pid.to_string(), "-o"])
        .arg(file.path())
        .args(["--", "sh", "-c", "echo started; read _"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut line = String::new();
    BufReader::new(perf.stdout.take()?).read_line(&mut line).ok()?;
    if line.trim() != "started" {
        return None;
    }
    work();
    drop(perf.stdin.take());
    perf.wait().ok()?;
    let text = std::fs::read_to_string(file.path()).ok()?;
    let lines = text.lines().filter(|line| events.iter().any(|event| line.contains(event)));
    let counts: Option<Vec<u64>> = lines.map(|line| line.split(',').next()?.parse().ok()).collect();
    counts.filter(|counts| counts.len() == events.len())
}

/// A ringway of its own process on one core, with the generator and the origin on the same.
struct Counted {
    ringway: Killed,
    listen: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Counted {
    fn start(driver: &str) -> Self {
        let core = first_core();
        bind_to(core);
        let (listen, admin) = (free_address(), free_address());
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("costs.toml");
        let section = format!("address = \"{admin}\"");
        let text = config(driver, &listen.to_string(), &section, core, true);
        std::fs::write(&file, text).expect("write");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
        command.args(["run", "-c"]).arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let ringway = Killed(command.spawn().expect("the binary under test starts"));
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(listen).is_err() {
            assert!(Instant::now() < end, "ringway does not listen");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Self { ringway, listen, _directory: directory }
    }

    /// Events per request with so many connections that ask at once; `None` if they can't be counted.
    fn per_request(&self, events: &[&str], connections: usize, rounds: usize) -> Option<Vec<f64>> {
        let mut clients: Vec<Client> =
            (0..connections).map(|_| Client::connect(self.listen)).collect();
        let mut work = |rounds: usize| {
            for _ in 0..rounds {
                clients.iter_mut().for_each(Client::ask);
                clients.iter_mut().for_each(Client::hear);
            }
        };
        work(20);
        let Some(counts) = count(self.ringway.0.id(), events, || work(rounds)) else {
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED counts of system calls per request: perf tracepoints need linux-perf and \
                 root (or kernel.perf_event_paranoid=-1 and a readable tracefs)"
            );
            return None;
        };
        let requests = (connections * rounds) as f64;
        Some(counts.iter().map(|count| *count as f64 / requests).collect())
    }
}

/// Many connections that ask at once, with few rounds, and one that asks again and again.
const LOADS: [(usize, usize); 2] = [(64, 100), (1, 2000)];

/// A request is its two sends, where one receive serves many messages (Linux 6.17), and two receives
/// more elsewhere; and the ring is entered for many requests at once. Alone, each of its two waits is
/// a system call, and each of its two sends is another one.
#[test]
fn ring_operations_and_system_calls_per_request() {
    let _turn = TURN.lock();
    let counted = Counted::start("io_uring");
    let events = [
        "io_uring:io_uring_submit_req",
        "syscalls:sys_enter_io_uring_enter",
        "raw_syscalls:sys_enter",
    ];
    let many = ringway::rt::machine::kernel_version().is_at_least(6, 17);
    let operations_max = if many { 2.05 } else { 4.1 };
    let maxima = [(0.2, 0.5), (if many { 2.1 } else { 4.1 }, 4.3)];
    for ((connections, rounds), (enters_max, calls_max)) in LOADS.into_iter().zip(maxima) {
        let Some(per) = counted.per_request(&events, connections, rounds) else { return };
        println!(
            "{connections} connections: {:.2} ring operations, {:.3} io_uring_enter, {:.3} system calls per request",
            per[0], per[1], per[2]
        );
        assert!(
            per[0] <= operations_max,
            "{connections}: {:.2} ring operations per request",
            per[0]
        );
        assert!(per[1] <= enters_max, "{connections}: {:.3} io_uring_enter per request", per[1]);
        assert!(per[2] <= calls_max, "{connections}: {:.3} system calls per request", per[2]);
    }
}

/// With epoll a request is two receives and two sends, each tried once and not in vain; waits are
/// shared by all requests that are ready.
#[test]
fn system_calls_per_request_with_epoll() {
    let _turn = TURN.lock();
    let counted = Counted::start("epoll");
    let events =
        ["syscalls:sys_enter_epoll_wait", "syscalls:sys_enter_epoll_ctl", "raw_syscalls:sys_enter"];
    for ((connections, rounds), calls_max) in LOADS.into_iter().zip([4.25, 6.3]) {
        let Some(per) = counted.per_request(&events, connections, rounds) else { return };
        println!(
            "{connections} connections: {:.3} epoll_wait, {:.3} epoll_ctl, {:.3} system calls per request",
            per[0], per[1], per[2]
        );
        assert!(per[1] <= 0.02, "{connections}: {:.3} epoll_ctl per request", per[1]);
        assert!(per[2] <= calls_max, "{connections}: {:.3} system calls per request", per[2]);
    }
}
