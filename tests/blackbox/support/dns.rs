//! A small name server: answers what the test says, over UDP, and counts what it was asked.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
};

/// Types of records. Source: RFC 1035 §3.2.2, RFC 2782, RFC 3596.
const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// What a name is.
#[derive(Clone, Debug)]
pub(crate) enum Zone {
    /// Addresses, with a time to live in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// (priority, weight, port, target), with a time to live in seconds.
    Services(Vec<(u16, u16, u16, String)>, u32),
    /// A code instead of an answer: 2 is SERVFAIL, 3 NXDOMAIN.
    Code(u8),
    /// No answer at all.
    Silence,
}

#[derive(Debug, Default)]
struct Shared {
    zones: Mutex<HashMap<String, Zone>>,
    asked: Mutex<Vec<String>>,
}

/// A name server on a port of its own; ends with the test's process.
#[derive(Debug)]
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Dns {
    /// A server that knows nothing: everything is NXDOMAIN.
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = socket.local_addr().expect("its address");
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut query = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut query) {
                if let Some(reply) = of_thread.reply(&query[..length]) {
                    let _ = socket.send_to(&reply, client);
                }
            }
        });
        Self { address, shared }
    }

    /// From now on this is what a name is.
    pub(crate) fn set(&self, name: &str, zone: Zone) {
        self.shared.zones.lock().expect("no panic while locked").insert(name.to_owned(), zone);
    }

    /// The same for IPv4 addresses, which are young for one second.
    pub(crate) fn addresses(&self, name: &str, addresses: &[[u8; 4]]) {
        let addresses = addresses.iter().map(|ip| IpAddr::from(*ip)).collect();
        self.set(name, Zone::Addresses(addresses, 1));
    }

    /// How often a name was asked for.
    pub(crate) fn asked(&self, name: &str) -> usize {
        let asked = self.shared.asked.lock().expect("no panic while locked");
        asked.iter().filter(|one| *one == name).count()
    }
}

impl Shared {
    fn reply(&self, query: &[u8]) -> Option<Vec<u8>> {
        let (name, end) = read_name(query, 12)?;
        let kind = u16::from_be_bytes([*query.get(end)?, *query.get(end + 1)?]);
        self.asked.lock().expect("no panic while locked").push(name.clone());
        let zone = self.zones.lock().expect("no panic while locked").get(&name).cloned();
        let mut records: Vec<(u16, u32, Vec<u8>)> = Vec::new();
        let mut code = 0;
        match zone {
            Some(Zone::Addresses(addresses, ttl)) => {
                for address in addresses {
                    match address {
                        IpAddr::V4(ip) => records.push((A, ttl, ip.octets().to_vec())),
                        IpAddr::V6(ip) => records.push((AAAA, ttl, ip.octets().to_vec())),
                    }
                }
            }
            Some(Zone::Services(services, ttl)) => {
                for (priority, weight, port, target) in services {
                    let mut data = Vec::new();
                    for number in [priority, weight, port] {
                        data.extend(number.to_be_bytes());
                    }
                    data.extend(name_bytes(&target));
                    records.push((SRV, ttl, data));
                }
            }
            Some(Zone::Code(other)) => code = other,
            Some(Zone::Silence) => return None,
            None => code = 3,
        }
        records.retain(|(of, _, _)| *of == kind);
        let mut reply = query[..2].to_vec(); // its id
        reply.extend([0x81, 0x80 | code, 0, 1]);
        reply.extend((records.len() as u16).to_be_bytes());
        reply.extend([0, 0, 0, 0]);
        reply.extend(&query[12..end + 4]);
        for (kind, ttl, data) in records {
            reply.extend([0xC0, 12]); // the name of the question
            reply.extend(kind.to_be_bytes());
            reply.extend([0, 1]);
            reply.extend(ttl.to_be_bytes());
            reply.extend((data.len() as u16).to_be_bytes());
            reply.extend(data);
        }
        Some(reply)
    }
}

/// A name without compression, and where it ends.
fn read_name(query: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
}

fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}
