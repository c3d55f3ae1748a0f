//! The loop: slices, cycles, and what to do when a socket is ready.

use super::connection::{Connection, Progress, Script};
use super::{Outcome, Plan, Slice, Tally, probe};
use crate::procfs;
use crate::scenario::Mode;
use crate::sys::{self, Epoll, Interest, Ready};
use std::collections::VecDeque;
use std::os::fd::AsRawFd;

const MS: u64 = 1_000_000;
/// A proxy that keeps the last answers of a slice for longer is broken, not slow.
const DRAIN_NS_MAX: u64 = 15_000 * MS;
/// Time for a proxy to finish what it does after an answer, before its CPU time is read.
const SETTLE_NS: u64 = MS;
/// At a fixed rate the first moments of a slice find cold caches; their latency is not counted.
const COLD_NS: u64 = 10 * MS;
/// Where a run gives up; single errors are reported and fail the comparison in the end.
const ERRORS_MAX: u64 = 100;
const READ_BYTES: usize = 256 * 1024;

/// Measures what `plan` says.
///
/// # Errors
/// A proxy fails the first, careful request; keeps answers back for 15 s; or makes 100 errors.
pub fn run(plan: &Plan) -> Result<Outcome, String> {
    for target in &plan.targets {
        probe(&plan.scenario, target.port).map_err(|error| format!("{}: {error}", target.name))?;
    }
    let mut engine = Engine::new(plan)?;
    let mut outcome = Outcome::default();
    let forth = 0..plan.targets.len();
    let order: Vec<usize> = forth.clone().chain(forth.rev()).collect();
    for cycle in 0..plan.warmup_cycles + plan.cycles {
        let mut slices = vec![Slice::default(); plan.targets.len()];
        for &target in &order {
            slices[target].merge(&engine.slice(target)?);
        }
        if cycle >= plan.warmup_cycles {
            outcome.cycles.push(slices);
        }
    }
    outcome.tallies = engine.tallies;
    Ok(outcome)
}

struct Engine<'a> {
    plan: &'a Plan,
    script: Script,
    epoll: Epoll,
    room: Vec<u8>,
    /// Those of target t are at t x connections and up; `None` is not open now.
    connections: Vec<Option<Connection>>,
    tallies: Vec<Tally>,
    // The slice that runs now:
    target: usize,
    issuing: bool,
    in_flight: usize,
    current: Slice,
    latency_from_ns: u64,
    /// Fixed rate: connections without a request, longest idle first.
    idle: VecDeque<usize>,
}

impl<'a> Engine<'a> {
    fn new(plan: &'a Plan) -> Result<Self, String> {
        let slots = plan.targets.len() * plan.scenario.connections;
        let mut engine = Self {
            plan,
            script: Script::new(plan.scenario),
            epoll: Epoll::new(1024).map_err(|error| format!("epoll: {error}"))?,
            room: vec![0; READ_BYTES],
            connections: (0..slots).map(|_| None).collect(),
            tallies: vec![Tally::default(); plan.targets.len()],
            target: 0,
            issuing: false,
            in_flight: 0,
            current: Slice::default(),
            latency_from_ns: 0,
            idle: VecDeque::new(),
        };
        if plan.scenario.mode != Mode::Close {
            (0..slots).try_for_each(|slot| engine.open(slot))?;
        }
        Ok(engine)
    }

    fn open(&mut self, slot: usize) -> Result<(), String> {
        let target = &self.plan.targets[slot / self.plan.scenario.connections];
        let place = |error| format!("{}: {error}", target.name);
        let connection = Connection::open(&self.script, target.port).map_err(place)?;
        self.epoll
            .add(connection.stream.as_raw_fd(), slot as u64, Interest::Read)
            .map_err(|error| format!("epoll: {error}"))?;
        self.connections[slot] = Some(connection);
        Ok(())
    }

    /// Loads one target for a slice and reads what it cost.
    fn slice(&mut self, target: usize) -> Result<Slice, String> {
        let pid = self.plan.targets[target].pid;
        let origin_ns = || self.plan.origin_pid.map_or(0, procfs::cpu_ns);
        self.target = target;
        self.current = Slice::default();
        let before = (procfs::cpu_ns(pid), origin_ns(), sys::own_cpu_ns());
        let start_ns = sys::now_ns();
        let end_ns = start_ns + self.plan.slice_ms * MS;
        self.issuing = true;
        match self.plan.scenario.mode {
            Mode::Rate(per_second) => self.paced(start_ns, end_ns, 1_000_000_000 / per_second)?,
            _ => self.saturated(start_ns, end_ns)?,
        }
        self.current.wall_ns = sys::now_ns() - start_ns;
        self.current.client_ns = sys::own_cpu_ns() - before.2;
        sys::sleep_ns(SETTLE_NS);
        self.current.cpu_ns = procfs::cpu_ns(pid).saturating_sub(before.0);
        self.current.origin_ns = origin_ns().saturating_sub(before.1);
        Ok(std::mem::take(&mut self.current))
    }

    /// Every connection asks again as soon as it is answered.
    fn saturated(&mut self, start_ns: u64, end_ns: u64) -> Result<(), String> {
        for slot in self.slots() {
            self.ask(slot, start_ns)?;
        }
        loop {
            let now_ns = sys::now_ns();
            self.issuing = now_ns < end_ns;
            if !self.issuing && self.in_flight == 0 {
                return Ok(());
            }
            self.wait(now_ns, end_ns, end_ns)?;
        }
    }

    /// Asks at fixed moments. A request that finds no idle connection waits for one, and its
    /// latency counts from the moment it was due: nothing is omitted in coordination with a
    /// slow proxy.
    fn paced(&mut self, start_ns: u64, end_ns: u64, interval_ns: u64) -> Result<(), String> {
        self.latency_from_ns = start_ns + COLD_NS.min(self.plan.slice_ms * MS / 2);
        self.idle = self.slots().collect();
        let mut due_ns = start_ns;
        loop {
            let now_ns = sys::now_ns();
            while due_ns <= now_ns && due_ns < end_ns {
                let Some(slot) = self.idle.pop_front() else { break };
                self.ask(slot, due_ns)?;
                due_ns += interval_ns;
            }
            if due_ns >= end_ns && self.in_flight == 0 {
                return Ok(());
            }
            let starved = self.idle.is_empty() || due_ns >= end_ns;
            self.wait(now_ns, if starved { end_ns } else { due_ns }, end_ns)?;
        }
    }

    /// Handles one batch of events, which it awaits until `wake_ns`, or while draining.
    fn wait(&mut self, now_ns: u64, wake_ns: u64, end_ns: u64) -> Result<(), String> {
        let give_up_ns = end_ns + DRAIN_NS_MAX;
        if now_ns >= give_up_ns {
            let name = &self.plan.targets[self.target].name;
            let seconds = DRAIN_NS_MAX / MS / 1000;
            return Err(format!("{name}: {} answers missing after {seconds} s", self.in_flight));
        }
        let until_ns = if wake_ns > now_ns { wake_ns } else { give_up_ns };
        let timeout_ns = (until_ns - now_ns) as i64;
        let count = self.epoll.wait(timeout_ns).map_err(|error| format!("epoll: {error}"))?;
        for index in 0..count {
            let ready = self.epoll.get(index);
            self.advance(ready)?;
        }
        Ok(())
    }

    fn slots(&self) -> std::ops::Range<usize> {
        let connections = self.plan.scenario.connections;
        self.target * connections..(self.target + 1) * connections
    }

    /// Sends a request on a connection, opened first if need be.
    fn ask(&mut self, slot: usize, due_ns: u64) -> Result<(), String> {
        self.in_flight += 1;
        if self.connections[slot].is_none() {
            self.open(slot)?;
        }
        let Some(connection) = &mut self.connections[slot] else { return Ok(()) };
        match connection.begin(&self.script, due_ns) {
            Ok(()) => self.watch(slot),
            Err(error) => self.failed(slot, &error),
        }
    }

    /// Lets epoll watch for room to write exactly while there is something to write.
    fn watch(&mut self, slot: usize) -> Result<(), String> {
        let Some(connection) = &mut self.connections[slot] else { return Ok(()) };
        let sending = connection.is_sending(&self.script);
        if sending == connection.watches_write {
            return Ok(());
        }
        connection.watches_write = sending;
        let interest = if sending { Interest::Both } else { Interest::Read };
        let fd = connection.stream.as_raw_fd();
        self.epoll.modify(fd, slot as u64, interest).map_err(|error| format!("epoll: {error}"))
    }

    fn advance(&mut self, ready: Ready) -> Result<(), String> {
        let slot = ready.token as usize;
        let Some(connection) = &mut self.connections[slot] else { return Ok(()) };
        if ready.writable && connection.is_sending(&self.script) {
            match connection.send(&self.script) {
                Ok(()) => self.watch(slot)?,
                Err(error) => return self.failed(slot, &error),
            }
        }
        if !ready.readable {
            return Ok(());
        }
        let Some(connection) = &mut self.connections[slot] else { return Ok(()) };
        let (due_ns, busy) = (connection.due_ns, connection.is_busy());
        match connection.receive(&self.script, &mut self.room) {
            Ok(Progress::Waiting) => Ok(()),
            Ok(Progress::Answered) => self.answered(slot, due_ns),
            Ok(Progress::AnsweredAndClosed) => {
                self.connections[slot] = None;
                self.answered(slot, due_ns)
            }
            Ok(Progress::ClosedIdle) => {
                self.connections[slot] = None;
                self.tallies[slot / self.plan.scenario.connections].reconnects += 1;
                Ok(())
            }
            Err(error) if busy => self.failed(slot, &error),
            Err(error) => self.stray(slot, &error),
        }
    }

    fn answered(&mut self, slot: usize, due_ns: u64) -> Result<(), String> {
        self.in_flight -= 1;
        self.current.requests += 1;
        if let Mode::Rate(_) = self.plan.scenario.mode {
            if due_ns >= self.latency_from_ns {
                self.current.latency.record(sys::now_ns().saturating_sub(due_ns));
            }
            self.idle.push_back(slot);
            return Ok(());
        }
        if self.issuing { self.ask(slot, due_ns) } else { Ok(()) }
    }

    /// Counts an error and goes on with a new connection, up to a bound.
    fn failed(&mut self, slot: usize, error: &str) -> Result<(), String> {
        self.in_flight -= 1;
        self.stray(slot, error)?;
        match self.plan.scenario.mode {
            Mode::Rate(_) => self.idle.push_back(slot),
            _ if self.issuing => return self.ask(slot, 0),
            _ => {}
        }
        Ok(())
    }

    /// Counts an error on a connection that no request was waiting on.
    fn stray(&mut self, slot: usize, error: &str) -> Result<(), String> {
        self.connections[slot] = None;
        let target = slot / self.plan.scenario.connections;
        let tally = &mut self.tallies[target];
        tally.errors += 1;
        if tally.errors == 1 {
            tally.first_error = error.to_owned();
        }
        if tally.errors < ERRORS_MAX {
            return Ok(());
        }
        let name = &self.plan.targets[target].name;
        Err(format!("{name}: {ERRORS_MAX} errors, the first: {}", tally.first_error))
    }
}
