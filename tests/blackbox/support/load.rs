//! Clients in a loop: keep-alive connections that ask, check each answer, and connect anew only when
//! they were told to.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::JoinHandle,
};

use super::{Client, Random, wire::Message};

/// What one request asks, and what is wrong with its answer.
pub(crate) trait Ask: Send + Sync + 'static {
    /// What is known when a request is sent.
    type Sent;

    /// The path of the next request.
    fn path(&self, random: &mut Random) -> (String, Self::Sent);

    /// Why an answer is wrong, if it is.
    fn check(&self, path: &str, sent: Self::Sent, answer: &Message) -> Result<(), String>;
}

/// Any path, and an echo.
pub(crate) struct Echo;

impl Ask for Echo {
    type Sent = ();

    fn path(&self, random: &mut Random) -> (String, ()) {
        (format!("/{}", random.below(1_000_000)), ())
    }

    fn check(&self, path: &str, (): (), answer: &Message) -> Result<(), String> {
        match answer.text() == format!("GET {path}") {
            true => Ok(()),
            false => Err(format!("{path} was answered {}", answer.text())),
        }
    }
}

/// Clients that run until they are stopped.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    failures: Arc<Mutex<Vec<String>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts so many clients.
    pub(crate) fn start(to: SocketAddr, clients: u64, ask: impl Ask) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let failures = Arc::<Mutex<Vec<String>>>::default();
        let ask = Arc::new(ask);
        let client = |number| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            let (failures, ask) = (Arc::clone(&failures), Arc::clone(&ask));
            std::thread::spawn(move || {
                let mut random = Random(number);
                while !stop.load(SeqCst) {
                    if let Err(failure) = converse(to, &stop, &done, &*ask, &mut random) {
                        failures.lock().expect("no panic while locked").push(failure);
                    }
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, done, failures, clients }
    }

    /// Requests answered as they should be.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(SeqCst)
    }

    /// Ends the clients and fails if anything was not as it should be. How many requests there were.
    #[track_caller]
    pub(crate) fn stop(self) -> u64 {
        self.stop.store(true, SeqCst);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        let failures = self.failures.lock().expect("no panic while locked");
        let some: Vec<&String> = failures.iter().take(10).collect();
        let done = self.done.load(SeqCst);
        assert!(failures.is_empty(), "{} failures beside {done}: {some:#?}", failures.len());
        done
    }
}

/// Asks over one connection until it is told that it ends.
fn converse<A: Ask>(
    to: SocketAddr,
    stop: &AtomicBool,
    done: &AtomicU64,
    ask: &A,
    random: &mut Random,
) -> Result<(), String> {
    let stream = std::net::TcpStream::connect(to).map_err(|error| format!("connect: {error}"))?;
    let _ = stream.set_nodelay(true);
    let mut client = Client::over(stream);
    while !stop.load(SeqCst) {
        let (path, sent) = ask.path(random);
        if !client.try_send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")) {
            return Err(format!("{path} could not be sent"));
        }
        let answer = client.try_response("GET").map_err(|error| format!("{path}: {error:?}"))?;
        if answer.status() != 200 {
            return Err(format!("{path}: {} {}", answer.status(), answer.text()));
        }
        ask.check(&path, sent, &answer)?;
        done.fetch_add(1, SeqCst);
        if answer.head.get("connection") == Some("close") {
            return Ok(());
        }
    }
    Ok(())
}
