//! What a process holds while it has nothing to do.

use crate::support::{Conf, Origin, PATIENCE, Ringway, eventually, process::status_bytes};

/// Pages of the program that only the start needed are let go of: in a build with debug assertions too,
/// what an idle process needs of it is a small part. Which pages come back with one that is touched is
/// the kernel's choice, so the bound is wide.
#[test]
fn an_idle_process_holds_little_of_its_program() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address));
    let text = std::fs::metadata(env!("CARGO_BIN_EXE_ringway")).expect("the program").len();
    let held = || status_bytes(proxy.pid(), "RssFile");
    let bound = 12 << 20;
    assert!(text > 2 * bound, "a program of {text} bytes proves nothing");
    eventually("little of the program", PATIENCE, || (held() < bound).then_some(()));
    assert_eq!(proxy.connect().fetch("/").status(), 200, "and it runs on");
}
