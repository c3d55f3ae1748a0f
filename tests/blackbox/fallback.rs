//! Where `io_uring` is refused, as in containers: `auto` takes epoll and says why, `io_uring` is an
//! error that names the remedy.
#![allow(unsafe_code)] // one filter of system calls, set in a child between fork and exec

use std::{io, os::unix::process::CommandExt, path::Path, process::Command};

use crate::support::{
    Conf, Origin, Ringway, Step, pattern,
    ringway::{free_address, run},
};

/// As the seccomp profiles of Docker and containerd do: the calls of `io_uring` fail with EPERM.
fn forbid_io_uring() -> io::Result<()> {
    let load = |at| filter(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    let is = |call: libc::c_long, yes| {
        filter(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, 0, call as u32)
    };
    let answer = |what| filter(libc::BPF_RET | libc::BPF_K, 0, 0, what);
    let mut program = [
        load(0), // the number of the call, in `struct seccomp_data`
        is(libc::SYS_io_uring_setup, 3),
        is(libc::SYS_io_uring_enter, 2),
        is(libc::SYS_io_uring_register, 1),
        answer(libc::SECCOMP_RET_ALLOW),
        answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: both calls read no more than the program, which outlives them.
    let results = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
        ]
    };
    if results == [0, 0] { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn filter(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// `ringway run` where `io_uring` is forbidden.
fn run_confined(config: &Path) -> Command {
    let mut command = run(config);
    // SAFETY: system calls only, no allocation and no lock: fit for the time after a fork.
    unsafe { command.pre_exec(forbid_io_uring) };
    command
}

#[test]
fn auto_takes_epoll_says_why_and_serves() {
    let origin = Origin::auto(|seen| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", seen.body.len());
        vec![Step::Send([head.as_bytes(), &seen.body].concat())]
    });
    let conf = Conf::to(origin.address).one_core().runtime("driver = \"auto\"");
    let proxy = Ringway::start_as(&conf.text(), run_confined);
    let said = proxy.wait_for_line("epoll was taken");
    for words in ["seccomp profile", "io_uring_setup", "driver = \"epoll\""] {
        assert!(said.contains(words), "{words:?} is missing: {said}");
    }
    let status = proxy.status();
    assert!(status["driver"].as_str().is_some_and(|text| text.ends_with(", epoll")), "{status}");
    let reason = status["driver_reason"].as_str().expect("a reason");
    assert!(said.contains(reason), "{reason}");
    assert_eq!(proxy.metric("ringway_runtime_info", "driver=\"epoll\""), 1.0);
    let mut client = proxy.connect();
    for len in [0, 100, 100_000, 2_000_000] {
        let body = pattern(len);
        client.post("/", &body);
        let answer = client.response();
        assert_eq!((answer.status(), answer.body == body), (200, true), "{len}");
    }
    assert!(proxy.stop().status.success());
}

/// Without a reason to fall back `auto` does not, and nothing is said.
#[test]
fn auto_takes_io_uring_where_it_works() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address).one_core().runtime("driver = \"auto\""));
    let status = proxy.status();
    assert!(status["driver"].as_str().is_some_and(|text| text.contains("io_uring")), "{status}");
    assert!(status["driver_reason"].is_null(), "{status}");
    assert_eq!(proxy.metric("ringway_runtime_info", "driver=\"io_uring\""), 1.0);
    assert!(!proxy.stderr().iter().any(|line| line.contains("epoll")), "{:?}", proxy.stderr());
}

/// Who asks for epoll gets it, and needs no reason.
#[test]
fn epoll_can_be_asked_for() {
    let origin = Origin::echo();
    let conf = Conf::to(origin.address).one_core().runtime("driver = \"epoll\"");
    let proxy = Ringway::start(&conf);
    let status = proxy.status();
    assert!(status["driver"].as_str().is_some_and(|text| text.ends_with(", epoll")), "{status}");
    assert!(status["driver_reason"].is_null(), "{status}");
    assert!(!proxy.stderr().iter().any(|line| line.contains("was taken")), "{:?}", proxy.stderr());
}

#[test]
fn io_uring_where_it_is_refused_is_an_error_with_its_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("ringway.toml");
    let text = Conf::to(([127, 0, 0, 1], 9).into()).runtime("driver = \"io_uring\"").text();
    std::fs::write(&config, text.replace("{listen}", &free_address().to_string()))
        .expect("written");
    let output = run_confined(&config).output().expect("the binary under test runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for words in ["io_uring is refused", "seccomp", "driver = \"auto\""] {
        assert!(said.contains(words), "{words:?} is missing: {said}");
    }
}
