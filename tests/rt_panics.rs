//! A panic stays in its task. A program of its own with one test: the panic hook is everybody's.

mod rt_support;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ringway::rt::{self, BufPool, Listener, PanicPlace, Stream};

fn on_core<F: Future>(f: impl FnOnce() -> F) -> F::Output {
    rt::run(rt_support::settings(), f).expect("a ring")
}

/// Echoes one message; panics on `boom`.
async fn serve(stream: Stream, pool: BufPool) {
    let (received, buf) = stream.recv(pool.take().unwrap()).await;
    received.unwrap();
    assert_ne!(buf.data(), b"boom", "a client sent the magic word");
    let n = buf.len();
    stream.send(buf, n).await.0.unwrap();
}

#[test]
fn a_panic_ends_its_task_and_nothing_else() {
    static PRINTED: AtomicUsize = AtomicUsize::new(0);
    std::panic::set_hook(Box::new(|info| {
        PRINTED.fetch_add(1, Ordering::SeqCst);
        eprintln!("{info}");
    }));
    on_core(|| async {
        let bound = rt::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let addr = bound.local_addr();
        let listener = Listener::adopt(bound).unwrap();
        let clients = thread::spawn(move || {
            (0..100)
                .map(|client| talk(addr, if client % 10 == 3 { b"boom" } else { b"ping" }))
                .collect::<Vec<_>>()
        });
        let pool = BufPool::new(1024, 200);
        let places = Rc::new(RefCell::new(Vec::<PanicPlace>::new()));
        let mut accepted = Vec::new();
        let mut served = 0;
        while served < 100 {
            served += listener.accept_batch(&mut accepted, 32).await.unwrap();
            for one in accepted.drain(..) {
                let places = Rc::clone(&places);
                let serving = serve(one.into_stream(), pool.clone());
                rt::spawn_guarded(serving, move |place| places.borrow_mut().push(place));
            }
        }
        while !clients.is_finished() {
            rt::sleep(Duration::from_millis(5)).await;
        }
        for (client, answer) in clients.join().unwrap().into_iter().enumerate() {
            assert_eq!(answer, if client % 10 == 3 { "" } else { "ping" }, "client {client}");
        }
        let places = places.borrow();
        assert_eq!((places.len(), pool.stats().in_use), (10, 0));
        assert!(places[0].message.contains("the magic word"), "{}", places[0]);
        assert!(places[0].file.ends_with("rt_panics.rs") && places[0].line > 10, "{}", places[0]);
        assert_eq!(PRINTED.load(Ordering::SeqCst), 0, "told, not printed");
    });
    let unguarded = std::panic::catch_unwind(|| panic!("this one is printed"));
    assert!(unguarded.is_err());
    assert_eq!(PRINTED.load(Ordering::SeqCst), 1, "others are printed as ever");
}

fn talk(addr: SocketAddr, message: &[u8]) -> String {
    let mut client = TcpStream::connect(addr).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.write_all(message).unwrap();
    let mut answer = String::new();
    let _ = client.read_to_string(&mut answer); // a reset is an answer too
    answer
}
