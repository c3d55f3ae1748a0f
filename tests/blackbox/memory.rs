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

/// The rules of the start are let go of like those of any change: 4 MB of targets, which nothing else
/// holds, are gone after they were replaced.
#[test]
fn the_first_rules_are_let_go_of_too() {
    let origin = Origin::echo();
    let small = Conf::to(origin.address).one_core();
    let target = "x".repeat(20_000);
    let routes = (0..200).map(|number| {
        format!("[[route]]\npath = \"/{number}\"\nrewrite = \"/{target}\"\nupstream = \"origin\"\n")
    });
    let large = small.text() + &routes.collect::<String>();
    let proxy = Ringway::start_text(&large);
    let held = || status_bytes(proxy.pid(), "RssAnon");
    let before = held();
    proxy.reload(&small.text()).wait_until_applied_on_all_cores();
    eventually("as much is given back as was held", PATIENCE, || {
        (held() + (6 << 20) < before).then_some(())
    });
}
