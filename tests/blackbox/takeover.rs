//! SIGUSR2: a new process of the binary at the same path takes the sockets over, and nobody notices.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    support::{Conf, Load, Origin, PATIENCE, Ringway, eventually, load::Echo, process::signal},
    tcp,
};

/// The binary under test at a path of its own, where another one can be put.
struct Installed {
    directory: tempfile::TempDir,
}

impl Installed {
    fn new() -> Self {
        let installed = Self { directory: tempfile::tempdir().expect("a directory") };
        installed.install();
        installed
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("ringway")
    }

    /// Replaces the binary as a package manager does.
    fn install(&self) {
        self.put(Path::new(env!("CARGO_BIN_EXE_ringway")));
    }

    /// A program that fails at once.
    fn install_broken(&self) {
        let script = self.directory.path().join("broken.sh");
        fs::write(&script, "#!/bin/sh\necho 'a library is missing' >&2\nexit 3\n")
            .expect("written");
        self.put(&script);
    }

    /// The binary, but it starts when there is a file `go` beside it.
    fn install_waiting(&self) {
        let directory = self.directory.path();
        let (script, binary) = (directory.join("waits.sh"), env!("CARGO_BIN_EXE_ringway"));
        let go = directory.join("go");
        let text = format!(
            "#!/bin/sh\nuntil [ -e {go:?} ]; do sleep 0.01; done\nexec {binary:?} \"$@\"\n"
        );
        fs::write(&script, text).expect("written");
        self.put(&script);
    }

    /// Another process writes the copy: what this one has open for writing, a child that another test
    /// starts at that moment has open, too, and "Text file busy" would be the answer to who runs it.
    fn put(&self, from: &Path) {
        let new = self.directory.path().join("new");
        let copied = Command::new("install").args(["-m", "755"]).arg(from).arg(&new).status();
        assert!(copied.expect("coreutils are installed").success());
        fs::rename(new, self.path()).expect("renamed");
    }

    fn start(&self, conf: &Conf) -> Ringway {
        self.start_text(&conf.text())
    }

    fn start_text(&self, text: &str) -> Ringway {
        Ringway::start_as(text, |config| {
            let mut command = Command::new(self.path());
            command.args(["run", "-c"]).arg(config).stdin(Stdio::null());
            command
        })
    }
}

fn rules(origin: &Origin) -> Conf {
    Conf::to(origin.address).runtime("drain_timeout = \"1500ms\"").more("[log]\naccess = \"off\"")
}

/// Upgrades and waits until the successor answers, and it alone: for a moment the kernel shares connections
/// out between both, so that a few answers in a row say little. Its process id, and the version of its rules.
fn upgrade(proxy: &Ringway) -> (u32, u64) {
    let old = proxy.pid_now();
    signal(old, "USR2");
    let mut answers = 0;
    eventually("a successor", PATIENCE * 3, || {
        let (pid, version) = proxy.try_pid_now()?;
        answers = if pid == old { 0 } else { answers + 1 };
        (answers == 20).then_some((pid, version))
    })
}

fn has_ended(pid: u32) -> Option<()> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    (stat.is_empty() || stat.contains(") Z ")).then_some(())
}

#[test]
fn twenty_upgrades_in_a_row_lose_nothing() {
    let origin = Origin::echo();
    let installed = Installed::new();
    let proxy = installed.start(&rules(&origin));
    let keep_alive = Load::start(proxy.address(), 3, Echo);
    let mut version = 0;
    for round in 0..20 {
        let old = proxy.pid_now();
        if round % 5 == 0 {
            installed.install();
        }
        let (pid, now) = upgrade(&proxy);
        assert_ne!(pid, old);
        assert!(now > version, "versions only rise: {version} -> {now}");
        version = now;
        let before = keep_alive.done();
        eventually("requests", PATIENCE, || (keep_alive.done() > before + 10).then_some(()));
    }
    let last = proxy.pid_now();
    let requests = keep_alive.stop();
    assert!(requests > 200, "{requests}");
    eventually("the first process to end", PATIENCE, || has_ended(proxy.pid()));
    assert_eq!(proxy.connect().fetch("/x").status(), 200);
    assert_eq!(proxy.pid_now(), last);
}

/// New connections all the time, none refused or reset: queues are handed over with their sockets.
#[test]
fn no_connection_is_refused_meanwhile() {
    let origin = Origin::echo();
    let installed = Installed::new();
    let proxy = installed.start(&rules(&origin));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for number in 0..600 {
                        let path = format!("/{number}");
                        assert_eq!(proxy.connect().fetch(&path).text(), format!("GET {path}"));
                    }
                })
            })
            .collect();
        while clients.iter().any(|client| !client.is_finished()) {
            upgrade(&proxy);
        }
        for client in clients {
            client.join().expect("each is answered");
        }
    });
}

#[test]
fn a_binary_that_fails_changes_nothing() {
    let origin = Origin::echo();
    let installed = Installed::new();
    let proxy = installed.start(&rules(&origin));
    let load = Load::start(proxy.address(), 2, Echo);
    let old = proxy.pid_now();
    installed.install_broken();
    signal(old, "USR2");
    let line = proxy.wait_for_line("no upgrade:");
    assert!(line.contains("exit status: 3"), "{line}");
    proxy.wait_for_line("a library is missing");
    assert_eq!(proxy.pid_now(), old);
    fs::remove_file(installed.path()).expect("removed");
    signal(old, "USR2");
    proxy.wait_for_line("cannot be started");
    assert_eq!(proxy.pid_now(), old);
    // It still takes changes, and a binary that works.
    proxy
        .replace(&rules(&origin).route("timeout = \"9s\"").text())
        .wait_until_applied_on_all_cores();
    installed.install();
    assert_ne!(upgrade(&proxy).0, old);
    load.stop();
}

/// A successor that finds mistakes in the files does not take over.
#[test]
fn a_wrong_configuration_stops_the_successor_only() {
    let origin = Origin::echo();
    let installed = Installed::new();
    let proxy = installed.start(&rules(&origin));
    let old = proxy.pid_now();
    fs::write(proxy.config(), "[[route]]\nupstraem = 1\n").expect("written");
    proxy.wait_for_line("upstraem");
    signal(old, "USR2");
    let line = proxy.wait_for_line("no upgrade:");
    assert!(line.contains("exit status: 78"), "{line}");
    assert_eq!(proxy.pid_now(), old);
    assert_eq!(proxy.connect().fetch("/x").status(), 200);
}

/// Who stops a process whose successor is starting stops both, however long the first one drains.
#[test]
fn a_stop_while_the_successor_starts_stops_both() {
    let origin = Origin::start();
    let installed = Installed::new();
    let mut proxy = installed.start(&Conf::to(origin.address).runtime("drain_timeout = \"20s\""));
    let mut busy = proxy.connect();
    busy.get("/busy");
    let request = origin.next_request();
    installed.install_waiting();
    signal(proxy.pid(), "USR2");
    proxy.wait_for_line("SIGUSR2: starting");
    proxy.terminate();
    proxy.wait_for_line("SIGTERM: draining");
    fs::write(installed.directory.path().join("go"), "").expect("written");
    // It finds its predecessor stopped, or already the sockets it was to take over.
    proxy.wait_for_line("ringway: error: ");
    request.reply(200, "busy");
    assert_eq!(busy.response().text(), "busy");
    assert!(proxy.wait_ended(PATIENCE).status.success());
    TcpStream::connect(proxy.address()).expect_err("nobody serves");
}

/// What is under way ends in the old process; a WebSocket has `drain_timeout`.
#[test]
fn requests_under_way_are_finished_by_the_old_process() {
    let origin = Origin::start();
    let installed = Installed::new();
    let proxy = installed.start(&rules(&origin));
    let mut busy = proxy.connect();
    busy.get("/busy");
    let request = origin.next_request();
    let mut idle = proxy.connect();
    idle.get("/idle");
    origin.next_request().reply(200, "idle");
    assert_eq!(idle.response().text(), "idle");
    let old = proxy.pid_now();
    upgrade(&proxy);
    request.reply(200, "busy");
    let answer = busy.response();
    assert_eq!((answer.text().as_str(), answer.head.get("connection")), ("busy", Some("close")));
    eventually("the old process to end", Duration::from_secs(6), || has_ended(old));
}

/// Connections that are passed through stay with the old process as long as it drains, new ones go through
/// the new one.
#[test]
fn what_is_passed_through_goes_on_until_the_old_process_ends() {
    let endpoint = tcp::echo("");
    let installed = Installed::new();
    let conf = tcp::conf("", &[("", endpoint)]).replace("300ms", "1500ms");
    let proxy = installed.start_text(&conf);
    let say = |stream: &mut TcpStream, word: &[u8]| {
        stream.write_all(word).expect("sent");
        let mut back = vec![0; word.len()];
        stream.read_exact(&mut back).expect("still served");
        assert_eq!(back, word);
    };
    let mut before = tcp::connect(&proxy);
    say(&mut before, b"before");
    let old = proxy.pid_now();
    upgrade(&proxy);
    let mut after = tcp::connect(&proxy);
    say(&mut after, b"after");
    say(&mut before, b"still there");
    eventually("the old process to end", Duration::from_secs(6), || has_ended(old));
    assert!(matches!(before.read(&mut [0; 9]), Ok(0) | Err(_)), "its time is over");
    say(&mut after, b"the new one goes on");
}

/// Listeners that were added while it ran are handed over like the first ones.
#[test]
fn listeners_added_later_are_handed_over() {
    let origin = Origin::echo();
    let installed = Installed::new();
    let second = "[[listener]]\nname = \"second\"\naddress = \"{listen2}\"\n";
    let proxy = installed.start(&rules(&origin));
    proxy.replace(&rules(&origin).more(second).text()).wait_until_applied_on_all_cores();
    let load = Load::start(proxy.address2(), 2, Echo);
    for _ in 0..3 {
        upgrade(&proxy);
    }
    load.stop();
    let before = proxy.versions();
    proxy.replace(&rules(&origin).text()).wait_until_applied_on_all_cores();
    assert!(proxy.versions() > before);
    eventually("the port to be free", PATIENCE, || {
        std::net::TcpStream::connect(proxy.address2()).is_err().then_some(())
    });
}
