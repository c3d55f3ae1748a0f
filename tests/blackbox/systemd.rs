//! What systemd sees and gives: notifications, and sockets that were there before the process.

use std::{
    net::{Ipv4Addr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    process::{Command, Stdio},
};

use crate::support::{Client, Conf, Origin, PATIENCE, Ringway, process::signal, ringway::run};

fn notified(socket: &UnixDatagram, what: &str) -> String {
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut seen = Vec::new();
    loop {
        let mut bytes = [0; 256];
        let Ok(count) = socket.recv(&mut bytes) else { panic!("no {what}, but {seen:?}") };
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        if text.contains(what) {
            return text;
        }
        seen.push(text);
    }
}

#[test]
fn systemd_is_told_what_happens() {
    let origin = Origin::echo();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    let conf = Conf::to(origin.address).one_core().runtime("drain_timeout = \"1s\"");
    let proxy = Ringway::start_as(&conf.text(), |config| {
        let mut command = run(config);
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000000");
        command
    });
    notified(&socket, "READY=1");
    notified(&socket, "WATCHDOG=1");
    signal(proxy.pid(), "HUP");
    assert!(notified(&socket, "RELOADING=1").contains("MONOTONIC_USEC="));
    notified(&socket, "READY=1");
    signal(proxy.pid(), "USR2");
    let successor = notified(&socket, "MAINPID=");
    let pid = proxy.pid_now();
    assert_eq!(successor, format!("MAINPID={pid}"));
    signal(pid, "TERM");
    notified(&socket, "STOPPING=1");
}

/// A connection that was made before the process started is served by it.
#[test]
fn sockets_of_systemd_are_used() {
    let origin = Origin::echo();
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = socket.local_addr().expect("its address");
    let mut early = Client::connect(address);
    early.get("/early");
    let text = Conf::to(origin.address).text().replace("{listen}", &address.to_string());
    let proxy = Ringway::start_as(&text, |config| {
        let script = "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" run -c \"$1\" 3<&0 </dev/null";
        let fd: OwnedFd = socket.try_clone().expect("a copy").into();
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_ringway")]).arg(config);
        command.stdin(Stdio::from(fd));
        command
    });
    assert_eq!(early.response().text(), "GET /early");
    for number in 0..20 {
        let path = format!("/{number}");
        assert_eq!(Client::connect(address).fetch(&path).text(), format!("GET {path}"));
    }
    drop(proxy);
    // The socket is systemd's: it outlives the process.
    let mut late = Client::connect(address);
    late.get("/late");
}
