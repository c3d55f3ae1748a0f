//! Whatever goes wrong with a change: the old rules serve, and a message names the cause.

use std::{
    fs,
    os::unix::fs::symlink,
    time::{Duration, Instant},
};

use crate::support::{
    Conf, Load, Origin, PATIENCE, Ringway, eventually, load::Echo, process::signal, ringway,
};

fn rules(origin: &Origin, id: &str) -> String {
    let conf = Conf::to(origin.address).more("[log]\naccess = \"off\"");
    conf.text().replace("id = \"all\"", &format!("id = \"{id}\""))
}

/// The last error of the source, if there is one.
fn error(proxy: &Ringway) -> Option<String> {
    proxy.status()["sources"][0]["error"].as_str().map(str::to_owned)
}

fn version(proxy: &Ringway) -> u64 {
    proxy.versions().into_iter().min().expect("a core")
}

#[test]
fn a_broken_file_keeps_the_rules_and_heals() {
    let origin = Origin::echo();
    let proxy = Ringway::start_text(&rules(&origin, "first"));
    let load = Load::start(proxy.address(), 2, Echo);
    let before = version(&proxy);
    let refused = || proxy.metric("ringway_config_reloads_total", "refused");
    for (number, broken) in ["[[route]\n", "[[route]]\nupstraem = 1\n", "\u{0}"].iter().enumerate()
    {
        fs::write(proxy.config(), broken).expect("written");
        let what = format!("the refusal of {broken:?}");
        eventually(&what, PATIENCE, || (refused() > number as f64).then_some(()));
        let error = error(&proxy).expect("an error in /v1/status");
        assert!(error.contains("ringway.toml:1:") || error.contains("ringway.toml:2:"), "{error}");
    }
    assert_eq!(version(&proxy), before);
    proxy.replace(&rules(&origin, "second")).wait_until_applied_on_all_cores();
    assert_eq!(error(&proxy), None);
    load.stop();
}

#[test]
fn a_file_that_is_gone_or_is_none_keeps_the_rules() {
    let origin = Origin::echo();
    let proxy = Ringway::start_text(&rules(&origin, "first"));
    fs::remove_file(proxy.config()).expect("removed");
    proxy.wait_for_line("can't be read");
    assert_eq!(proxy.connect().fetch("/x").status(), 200);
    fs::create_dir(proxy.config()).expect("made");
    proxy.wait_for_line("no *.toml file");
    assert_eq!(proxy.connect().fetch("/x").status(), 200);
    fs::remove_dir(proxy.config()).expect("removed");
    proxy.replace(&rules(&origin, "second")).wait_until_applied_on_all_cores();
    assert_eq!(error(&proxy), None);
}

/// An access log that cannot be opened refuses the change that names it.
#[test]
fn a_log_that_cannot_be_opened_refuses_the_change() {
    let origin = Origin::echo();
    let proxy = Ringway::start_text(&rules(&origin, "first"));
    let before = version(&proxy);
    proxy.replace(&Conf::to(origin.address).more("[log]\naccess = \"/nowhere/at/all.log\"").text());
    proxy.wait_for_line("/nowhere/at/all.log");
    assert_eq!((version(&proxy), proxy.connect().fetch("/x").status()), (before, 200));
}

/// A writer that takes its time is not read in the middle of it.
#[test]
fn a_file_that_is_still_being_written_is_waited_for() {
    use std::io::Write;
    let origin = Origin::echo();
    let proxy = Ringway::start_text(&rules(&origin, "first"));
    let before = version(&proxy);
    let text = proxy.fill(&rules(&origin, "second"));
    let mut file = fs::File::create(proxy.config()).expect("truncated");
    for part in text.as_bytes().chunks(text.len() / 8 + 1) {
        file.write_all(part).expect("written");
        std::thread::park_timeout(Duration::from_millis(10)); // what is tested: a slow writer
    }
    drop(file);
    eventually("the new rules", PATIENCE, || (version(&proxy) > before).then_some(()));
    assert_eq!(proxy.metric("ringway_config_reloads_total", "refused"), 0.0);
}

/// A source that changes a hundred times a second is followed at the pace the cores keep.
#[test]
fn a_flapping_source_is_coalesced() {
    let (blue, green) = (Origin::echo(), Origin::echo());
    let proxy = Ringway::start_text(&rules(&blue, "first"));
    let load = Load::start(proxy.address(), 2, Echo);
    let texts = [&green, &blue].map(|origin| proxy.fill(&rules(origin, "flap")));
    let new = proxy.config().with_file_name("new");
    let begin = Instant::now();
    let mut written = 0u64;
    while begin.elapsed() < Duration::from_secs(3) {
        fs::write(&new, &texts[written as usize % 2]).expect("written");
        fs::rename(&new, proxy.config()).expect("renamed");
        written += 1;
        std::thread::park_timeout(Duration::from_millis(10)); // a hundred times a second
    }
    fs::write(&new, &texts[0]).expect("written");
    fs::rename(&new, proxy.config()).expect("renamed");
    eventually("the last state to be in force", PATIENCE, || {
        let seen = green.seen_count();
        (proxy.connect().fetch("/x").status() == 200
            && green.seen_count() > seen
            && proxy.connect().fetch("/y").status() == 200
            && green.seen_count() > seen + 1)
            .then_some(())
    });
    let versions = version(&proxy);
    assert!(versions <= written + 2, "{versions} versions of {written} writes");
    load.stop();
}

/// Two writers and SIGHUPs at once: each state is whole, the last one stays.
#[test]
fn two_writers_at_once() {
    let origin = Origin::echo();
    let proxy = Ringway::start_text(&rules(&origin, "first"));
    let load = Load::start(proxy.address(), 2, Echo);
    std::thread::scope(|scope| {
        for writer in ["a", "b"] {
            let (proxy, origin) = (&proxy, &origin);
            scope.spawn(move || {
                let new = proxy.config().with_file_name(writer);
                for round in 0..30 {
                    let text = proxy.fill(&rules(origin, &format!("{writer}{round}")));
                    fs::write(&new, text).expect("written");
                    fs::rename(&new, proxy.config()).expect("renamed");
                    signal(proxy.pid(), "HUP");
                }
            });
        }
    });
    proxy.replace(&rules(&origin, "last")).wait_until_applied_on_all_cores();
    assert_eq!(error(&proxy), None);
    assert_eq!(proxy.metric("ringway_config_reloads_total", "refused"), 0.0);
    load.stop();
}

/// Kubernetes: the file is a link to `..data/`, which is a link to a directory that is replaced.
#[test]
fn a_config_map_is_swapped() {
    let origin = Origin::echo();
    let root = tempfile::tempdir().expect("a directory");
    let root = root.path();
    let publish = |number: u32, text: &str| {
        let real = root.join(format!("..{number}"));
        fs::create_dir(&real).expect("made");
        fs::write(real.join("ringway.toml"), text).expect("written");
        symlink(format!("..{number}"), root.join("..data_tmp")).expect("linked");
        fs::rename(root.join("..data_tmp"), root.join("..data")).expect("renamed");
        if number > 0 {
            fs::remove_dir_all(root.join(format!("..{}", number - 1))).expect("removed");
        }
    };
    symlink("..data/ringway.toml", root.join("ringway.toml")).expect("linked");
    let proxy = Ringway::start_as(&rules(&origin, "first"), |config| {
        if !root.join("..data").exists() {
            publish(0, "");
        }
        // The first file is a link to the one that the support writes.
        let _ = fs::remove_file(root.join("..0/ringway.toml"));
        symlink(config, root.join("..0/ringway.toml")).expect("linked");
        ringway::run(&root.join("ringway.toml"))
    });
    for number in 1..6 {
        let before = version(&proxy);
        publish(number, &proxy.fill(&rules(&origin, &format!("r{number}"))));
        eventually("the swap to be noticed", PATIENCE, || (version(&proxy) > before).then_some(()));
    }
    assert_eq!(proxy.metric("ringway_config_reloads_total", "refused"), 0.0);
}

#[test]
fn without_a_watch_only_sighup_counts() {
    let origin = Origin::echo();
    let proxy = Ringway::start_as(&rules(&origin, "first"), |config| {
        let mut command = ringway::run(config);
        command.arg("--no-watch");
        command
    });
    let before = version(&proxy);
    fs::write(proxy.config(), proxy.fill(&rules(&origin, "second"))).expect("written");
    std::thread::park_timeout(Duration::from_millis(300)); // nothing must come
    assert_eq!(version(&proxy), before);
    proxy.reload(&rules(&origin, "third")).wait_until_applied_on_all_cores();
}
