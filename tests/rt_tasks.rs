//! Tasks of a core: yielding lets others run, a mailbox loses no wake.

mod rt_support;

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use ringway::rt::{self, Either, Undelivered, mailbox};

fn on_core<F: Future>(f: impl FnOnce() -> F) -> F::Output {
    rt::run(rt_support::settings(), f).expect("a ring")
}

/// Ends the test with an error instead of waiting for a wake that was lost.
async fn within<F: Future>(limit: Duration, future: F) -> F::Output {
    match rt::race(pin!(future), pin!(rt::sleep(limit))).await {
        Either::Left(output) => output,
        Either::Right(()) => panic!("not within {limit:?}"),
    }
}

#[test]
fn a_task_that_yields_forever_starves_nobody() {
    on_core(|| async {
        let turns = Rc::new(Cell::new(0u64));
        let counted = Rc::clone(&turns);
        let stop = Rc::new(Cell::new(false));
        let stopped = Rc::clone(&stop);
        rt::spawn_guarded(
            async move {
                while !stopped.get() {
                    counted.set(counted.get() + 1);
                    rt::yield_now().await;
                }
            },
            |place| panic!("{place}"),
        );
        let (sender, mailbox) = mailbox::<u32>(20);
        let foreign = thread::spawn(move || {
            for message in 0..20 {
                thread::sleep(Duration::from_millis(5));
                sender.send(message).unwrap();
            }
        });
        let started = Instant::now();
        for expected in 0..20 {
            let received = within(Duration::from_secs(10), mailbox.recv()).await;
            assert_eq!(received, Some(expected));
        }
        for _ in 0..10 {
            rt::sleep(Duration::from_millis(5)).await;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert!(turns.get() > 100, "it runs as well: {}", turns.get());
        stop.set(true);
        foreign.join().unwrap();
    });
}

/// Senders that race with the core falling asleep: every message arrives, in order per sender.
#[test]
fn a_mailbox_loses_no_wake() {
    const SENDERS: u64 = 3;
    const MESSAGES: u64 = 30_000;
    on_core(|| async {
        let (sender, mailbox) = mailbox::<(u64, u64)>(8);
        let threads: Vec<_> = (0..SENDERS)
            .map(|who| {
                let sender = sender.clone();
                thread::spawn(move || send_all(who, MESSAGES, &sender))
            })
            .collect();
        drop(sender);
        let mut next = [0; SENDERS as usize];
        while let Some((who, message)) = within(Duration::from_secs(20), mailbox.recv()).await {
            assert_eq!(message, next[who as usize], "sender {who}");
            next[who as usize] += 1;
        }
        assert_eq!(next, [MESSAGES; SENDERS as usize], "and the end is seen too");
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

fn send_all(who: u64, count: u64, sender: &rt::MailboxSender<(u64, u64)>) {
    for message in 0..count {
        while let Err(refused) = sender.send((who, message)) {
            assert_eq!(refused, Undelivered::Full((who, message)));
            thread::yield_now();
        }
        if message % 64 == who {
            thread::sleep(Duration::from_micros(50)); // let the core fall asleep now and then
        }
    }
}

#[test]
fn a_mailbox_says_when_it_is_full_and_when_the_core_is_gone() {
    let (sender, mailbox) = mailbox(1);
    sender.send("first").unwrap();
    assert_eq!(sender.send("second"), Err(Undelivered::Full("second")));
    assert_eq!(mailbox.try_recv(), Some("first"));
    assert_eq!(mailbox.try_recv(), None);
    drop(mailbox);
    assert_eq!(sender.send("third"), Err(Undelivered::Closed("third")));
}

#[test]
fn a_mailbox_travels_to_its_core() {
    let (sender, mailbox) = mailbox(4);
    let core = thread::spawn(move || on_core(|| async move { mailbox.recv().await }));
    thread::sleep(Duration::from_millis(20));
    sender.send(7).unwrap();
    assert_eq!(core.join().unwrap(), Some(7));
}

#[test]
fn only_one_loop_runs_on_a_thread() {
    on_core(|| async {
        let nested = std::panic::catch_unwind(|| on_core(|| async {}));
        assert!(nested.is_err());
    });
    on_core(|| async {}); // one after the other is fine
}

#[test]
fn whoever_is_due_first_wakes_first_however_late_he_lies_down() {
    on_core(|| async {
        for _ in 0..3 {
            let mut long = pin!(rt::sleep(Duration::from_secs(3600)));
            let soon = async {
                rt::sleep(Duration::from_millis(2)).await; // the long one has set its alarm by now
                rt::sleep(Duration::from_millis(2)).await;
            };
            match rt::race(long.as_mut(), pin!(soon)).await {
                Either::Right(()) => {}
                Either::Left(()) => panic!("an hour has passed"),
            }
        }
        // The alarms of those who left ring for nobody.
        within(Duration::from_secs(60), rt::sleep(Duration::from_millis(5))).await;
    });
}

#[test]
fn the_time_of_a_turn_stands_still_within_it() {
    on_core(|| async {
        let before = Instant::now();
        rt::yield_now().await;
        let first = rt::turn_time();
        thread::sleep(Duration::from_millis(2));
        assert_eq!(rt::turn_time(), first);
        rt::yield_now().await;
        assert!(first >= before && rt::turn_time() > first);
    });
    assert!(rt::turn_time() <= Instant::now());
}
