//! The end of every request: counted once, logged once.

use std::{sync::Arc, time::Instant};

use super::exchange::Exchange;
use crate::{
    base::{
        ids::{EndpointIndex, RouteIndex, StatsSlot, UpstreamIndex},
        reason::Reason,
    },
    dataplane::{
        downstream::Downstream,
        shard::{Shard, Table},
    },
    proto::h1::{Method, Version},
    rt,
    snapshot::{AccessLog, Listener, split::Split},
    telemetry::{AccessRecord, core_stats::ROUTE_NONE},
};

/// What the log and the metrics are told of a request.
pub(super) struct Record {
    pub(super) started: Instant,
    pub(super) route: Option<RouteIndex>,
    pub(super) upstream: Option<UpstreamIndex>,
    pub(super) endpoint: Option<EndpointIndex>,
    pub(super) status: u16,
    pub(super) reason: Option<Reason>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) upstream_micros: Option<u64>,
    pub(super) retries: u8,
}

impl Record {
    /// The record of a request whose head has just arrived.
    pub(super) fn new() -> Self {
        Self {
            started: rt::turn_time(),
            route: None,
            upstream: None,
            endpoint: None,
            status: 0,
            reason: None,
            bytes_in: 0,
            bytes_out: 0,
            upstream_micros: None,
            retries: 0,
        }
    }
}

/// The method of a request whose head could not be read.
const METHOD_UNKNOWN: u8 = Method::Other as u8;

fn micros_since(start: Instant) -> u64 {
    let passed = rt::turn_time().duration_since(start);
    u64::try_from(passed.as_micros()).unwrap_or(u64::MAX)
}

/// Counts and logs a request whose head could not be read.
pub(super) fn refused(
    shard: &Shard,
    client: &Downstream,
    table: &Table,
    listener: &Listener,
    reason: Reason,
) {
    let stats = &shard.stats;
    stats.requests_total.inc();
    stats.reason(reason);
    stats.route(ROUTE_NONE).record(METHOD_UNKNOWN, reason.status(), 0);
    let Some(log) = &table.snapshot.access_log else { return };
    if log.keep_errors || shard.random() % 10_000 < u64::from(log.sample_per_10k) {
        shard.log(
            &AccessRecord {
                unix_micros: shard.date.unix_micros(rt::turn_time()),
                listener: &listener.name,
                route: None,
                upstream: None,
                endpoint: None,
                client: client.peer,
                method: b"",
                host: b"",
                target: b"",
                version: "",
                status: reason.status(),
                reason: Some(reason),
                bytes_in: client.input_bytes().len() as u64,
                bytes_out: 0,
                duration_us: 0,
                upstream_us: None,
                retries: 0,
                user_agent: None,
                referer: None,
                core: shard.core,
            },
            log.format,
        );
    }
}

/// What the log and the metrics are told of a connection that was passed through.
pub(super) struct Passed {
    started: Instant,
    /// Where it came in.
    pub(super) listener: Box<str>,
    /// The name its client asked for.
    pub(super) name: Option<Box<str>>,
    /// The id of its route.
    pub(super) route: Option<Arc<str>>,
    /// Where that is counted, once it is.
    pub(super) route_stats: Option<StatsSlot>,
    /// The name of its upstream.
    pub(super) upstream: Option<Box<str>>,
    /// The endpoint tried last.
    pub(super) endpoint: Option<Box<str>>,
    /// Why it was not passed on.
    pub(super) reason: Option<Reason>,
    /// Bytes from the client.
    pub(super) bytes_in: u64,
    /// Bytes to the client.
    pub(super) bytes_out: u64,
    /// Whether one of the two ends has failed.
    pub(super) is_cut: bool,
}

impl Passed {
    /// One that has just been accepted.
    pub(super) fn begin() -> Self {
        Self {
            started: rt::turn_time(),
            listener: Box::default(),
            name: None,
            route: None,
            route_stats: None,
            upstream: None,
            endpoint: None,
            reason: None,
            bytes_in: 0,
            bytes_out: 0,
            is_cut: false,
        }
    }
}

/// Counts and logs a connection that was passed through, or was to be.
pub(super) fn passed(shard: &Shard, client: &Downstream, passed: &Passed) {
    let stats = &shard.stats;
    let micros = micros_since(passed.started);
    stats.downstream_bytes_in.add(passed.bytes_in);
    stats.downstream_bytes_out.add(passed.bytes_out);
    if let Some(slot) = passed.route_stats {
        stats.route(slot).tcp().end(passed.bytes_in, passed.bytes_out);
    }
    if let Some(reason) = passed.reason {
        stats.reason(reason);
    }
    let table = shard.table();
    let status = passed.reason.map_or(200, Reason::status);
    let Some(log) = &table.snapshot.access_log else { return };
    if !is_logged(shard, log, status, micros) {
        return;
    }
    let name = passed.name.as_deref().unwrap_or_default().as_bytes();
    shard.log(
        &AccessRecord {
            unix_micros: shard.date.unix_micros(passed.started),
            listener: &passed.listener,
            route: passed.route.as_deref(),
            upstream: passed.upstream.as_deref(),
            endpoint: passed.endpoint.as_deref(),
            client: client.peer,
            method: b"TCP",
            host: name,
            target: b"",
            version: "TCP",
            status,
            reason: passed.reason,
            bytes_in: passed.bytes_in,
            bytes_out: passed.bytes_out,
            duration_us: micros,
            upstream_us: None,
            retries: 0,
            user_agent: None,
            referer: None,
            core: shard.core,
        },
        log.format,
    );
}

fn is_logged(shard: &Shard, log: &AccessLog, status: u16, micros: u64) -> bool {
    let kept = (log.keep_errors && status >= 400)
        || log.keep_slower_than.is_some_and(|slow| u128::from(micros) >= slow.as_micros());
    kept || log.sample_per_10k >= 10_000 || shard.random() % 10_000 < u64::from(log.sample_per_10k)
}

impl Exchange<'_> {
    /// Copies what the access log wants of the head, which is about to be overwritten.
    pub(super) fn remember_head(&mut self) {
        if self.table.snapshot.access_log.is_none() {
            return;
        }
        let bytes = self.client.input_bytes();
        let head = &self.context.head;
        let logged = self.context.logged.get_or_insert_default();
        logged.method.extend_from_slice(head.method_bytes(bytes));
        logged.target.extend_from_slice(head.target(bytes));
        logged.host.extend_from_slice(head.host(bytes).unwrap_or_default());
        if let Some(value) = head.field_values(bytes, b"user-agent").next() {
            logged.user_agent.extend_from_slice(value);
        }
        if let Some(value) = head.field_values(bytes, b"referer").next() {
            logged.referer.extend_from_slice(value);
        }
    }

    /// Counts and logs the request.
    pub(super) fn finish(&self) {
        let stats = &self.shard.stats;
        let record = &self.record;
        let micros = micros_since(record.started);
        stats.requests_total.inc();
        stats.requests_in_flight.dec();
        stats.downstream_bytes_in.add(record.bytes_in);
        stats.downstream_bytes_out.add(record.bytes_out);
        let snapshot = &self.table.snapshot;
        let route = record.route.map(|route| snapshot.route(route));
        let slot = route.map_or(ROUTE_NONE, |route| route.stats);
        let method = u8::try_from(self.context.head.method().index()).unwrap_or(u8::MAX);
        stats.route(slot).record(method, record.status, micros);
        if let Some(reason) = record.reason {
            stats.reason(reason);
            if reason == Reason::ClientGone {
                stats.client_gone.inc();
            }
        }
        if let Some(split) = route.and_then(|route| route.extra.as_deref()?.split.as_deref())
            && split.is_watched
        {
            self.note_version(split, micros);
        }
        if let Some(log) = &snapshot.access_log
            && is_logged(self.shard, log, record.status, micros)
        {
            self.log(log, micros);
        }
    }

    /// Counts the request for the rollout of its route. One whose client has left says only how long
    /// it had waited.
    fn note_version(&self, split: &Split, micros: u64) {
        let record = &self.record;
        let choice = split.choices.iter().position(|one| Some(one.upstream) == record.upstream);
        let is_cut = record.reason == Some(Reason::UpstreamTruncated);
        if let Some(choice) = choice {
            let micros = record.upstream_micros.unwrap_or(micros);
            let is_error = record.status >= 500 || is_cut || self.progress.call_failed;
            split.cell.record(self.shard.core, choice, is_error, micros);
        }
    }

    fn log(&self, log: &AccessLog, micros: u64) {
        let snapshot = &self.table.snapshot;
        let record = &self.record;
        let Some(logged) = &self.context.logged else { return };
        let upstream = record.upstream.map(|index| snapshot.upstream(index));
        let endpoint = upstream
            .zip(record.endpoint)
            .and_then(|(upstream, index)| upstream.endpoints.get(usize::from(index.0)));
        self.shard.log(
            &AccessRecord {
                unix_micros: self.shard.date.unix_micros(record.started),
                listener: &self.listener.name,
                route: record.route.map(|index| &*snapshot.route(index).id),
                upstream: upstream.map(|upstream| &*upstream.name),
                endpoint: endpoint.map(|endpoint| &*endpoint.authority),
                client: self.client.peer,
                method: &logged.method,
                host: &logged.host,
                target: &logged.target,
                version: match self.context.head.version() {
                    _ if self.context.head.is_over_http2() => "HTTP/2.0",
                    Version::Http10 => "HTTP/1.0",
                    Version::Http11 => "HTTP/1.1",
                },
                status: record.status,
                reason: record.reason,
                bytes_in: record.bytes_in,
                bytes_out: record.bytes_out,
                duration_us: micros,
                upstream_us: record.upstream_micros,
                retries: record.retries,
                user_agent: (!logged.user_agent.is_empty()).then_some(&logged.user_agent),
                referer: (!logged.referer.is_empty()).then_some(&logged.referer),
                core: self.shard.core,
            },
            log.format,
        );
    }
}
