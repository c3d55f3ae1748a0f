//! How work is spread over the cores, and what a core tells of itself.

use crate::support::{Client, Conf, Origin, PATIENCE, Ringway, eventually, skipped};

/// Connections of clients on each core.
fn connections(proxy: &Ringway) -> Vec<u64> {
    let status = proxy.status();
    let cores = status["cores"].as_array().expect("cores");
    cores.iter().map(|core| core["connections"].as_u64().expect("a number")).collect()
}

/// So many clients, each with one request answered.
fn clients(proxy: &Ringway, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.fetch("/");
    }
    clients
}

fn has_one_core() -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        skipped("spread over cores", "the machine has one core");
    }
    cores < 2
}

#[test]
fn ten_long_lived_connections_are_spread_evenly() {
    if has_one_core() {
        return;
    }
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address).runtime("pin = false"));
    for _ in 0..5 {
        let mut clients = clients(&proxy, 10);
        let counts = connections(&proxy);
        let (most, least) = (counts.iter().max(), counts.iter().min());
        let difference = most.zip(least).map_or(0, |(most, least)| most - least);
        assert!(difference <= 1, "10 connections: {counts:?}");
        for client in &mut clients {
            assert_eq!(client.fetch("/again").status(), 200);
        }
        drop(clients);
        eventually("all to have ended", PATIENCE, || {
            (connections(&proxy).iter().sum::<u64>() == 0).then_some(())
        });
    }
    let accepted = proxy.metric("ringway_connections_accepted_total", "");
    assert_eq!(accepted, 50.0, "each is counted where it was accepted, once");
}

#[test]
fn connections_stay_where_they_are_if_told_so() {
    let origin = Origin::echo();
    let conf = Conf::to(origin.address).runtime("pin = false").runtime("spread = \"off\"");
    let proxy = Ringway::start(&conf);
    let _clients = clients(&proxy, 20);
    assert_eq!(proxy.metric("ringway_connections_handed_total", ""), 0.0);
    assert_eq!(connections(&proxy).iter().sum::<u64>(), 20);
}

#[test]
fn a_core_counts_the_time_it_is_busy() {
    let origin = Origin::echo();
    let proxy = Ringway::start(&Conf::to(origin.address).one_core());
    let mut client = proxy.connect();
    eventually("a busy core", PATIENCE, || {
        (0..100).for_each(|_| drop(client.fetch("/")));
        (proxy.metric("ringway_core_busy_seconds_total", "core=\"0\"") > 0.0).then_some(())
    });
}

/// A core that asks the kernel again instead of sleeping serves the same.
#[test]
fn busy_polling_serves_as_well() {
    let origin = Origin::echo();
    let conf = Conf::to(origin.address).one_core().runtime("busy_poll = \"200us\"");
    let proxy = Ringway::start(&conf.runtime("accept_batch = 1"));
    for mut client in clients(&proxy, 5) {
        assert_eq!(client.fetch("/").status(), 200);
    }
}

/// Small buffers, no splicing: bodies still arrive whole.
#[test]
fn other_buffers_carry_the_same_bodies() {
    let origin = Origin::echo();
    let conf = Conf::to(origin.address).one_core().runtime("buffer_bytes = \"16KiB\"");
    let conf = conf.limit("header_bytes_max = \"8KiB\"").runtime("splice_bytes_min = \"1GiB\"");
    let proxy = Ringway::start(&conf);
    let mut client = proxy.connect();
    let body = crate::support::pattern(1_000_000);
    client.post("/up", &body);
    assert_eq!(client.response().status(), 200);
    assert!(origin.seen()[0].body == body);
    assert_eq!(proxy.metric("ringway_spliced_bytes_total", ""), 0.0);
}
