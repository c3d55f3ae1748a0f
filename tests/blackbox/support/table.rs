//! Tables of raw requests: each row says what is sent, what the client must get, what the origin must
//! have seen, and whether the connection lives on. All failing rows are told at once.
//!
//! After each row another client asks for a page of its own: a request smuggled by the row, or an
//! answer that belongs to somebody else, shows there.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use super::{
    Client, Conf, Message, Origin, Ringway,
    origin::Seen,
    show,
    wire::{End, ReadError},
};

/// What a row expects of the request the origin sees.
#[derive(Clone, Debug)]
enum Check {
    Line(String),
    Field(String, String),
    Absent(String),
    Body(Vec<u8>),
    Trailer(String, String),
    NoTrailer(String),
}

/// One row of a table. By default: answered 200 by the origin, and the connection is kept.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    name: String,
    bytes: Vec<u8>,
    method: &'static str,
    statuses: Vec<u16>,
    reasons: Vec<&'static str>,
    requests: usize,
    reaches_origin: bool,
    closes: Option<bool>,
    checks: Vec<Check>,
    response: Vec<Check>,
}

/// A row that passes: 200 from the origin, connection kept.
pub(crate) fn row(name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Row {
    Row {
        name: name.into(),
        bytes: bytes.as_ref().to_owned(),
        method: "GET",
        statuses: vec![200],
        reasons: Vec::new(),
        requests: 1,
        reaches_origin: true,
        closes: Some(false),
        checks: Vec::new(),
        response: Vec::new(),
    }
}

impl Row {
    /// Refused by ringway with one of these; nothing whole reaches the origin; connection closed.
    pub(crate) fn refused(mut self, statuses: &[u16]) -> Self {
        self.statuses = statuses.to_vec();
        self.reaches_origin = false;
        self.closes = Some(true);
        self
    }

    /// Answered by ringway itself; whether the connection is kept is free.
    pub(crate) fn own(mut self, statuses: &[u16]) -> Self {
        self.statuses = statuses.to_vec();
        self.reaches_origin = false;
        self.closes = None;
        self
    }

    /// The reason code, if ringway answers itself.
    pub(crate) fn reason(mut self, code: &'static str) -> Self {
        self.reasons.push(code);
        self
    }

    /// The method of the request, for the framing of its response.
    pub(crate) fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    /// How many requests the row holds.
    pub(crate) fn requests(mut self, count: usize) -> Self {
        self.requests = count;
        self
    }

    /// The connection is closed after the answer.
    pub(crate) fn closes(mut self) -> Self {
        self.closes = Some(true);
        self
    }

    /// The request line the origin sees (of the first request).
    pub(crate) fn line(mut self, line: &str) -> Self {
        self.checks.push(Check::Line(line.to_owned()));
        self
    }

    /// All values of a field the origin sees, joined with `, `.
    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.checks.push(Check::Field(name.to_owned(), value.to_owned()));
        self
    }

    /// A field the origin must not see.
    pub(crate) fn absent(mut self, name: &str) -> Self {
        self.checks.push(Check::Absent(name.to_owned()));
        self
    }

    /// The body the origin sees.
    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.checks.push(Check::Body(body.as_ref().to_owned()));
        self
    }

    /// A trailer the origin sees.
    pub(crate) fn trailer(mut self, name: &str, value: &str) -> Self {
        self.checks.push(Check::Trailer(name.to_owned(), value.to_owned()));
        self
    }

    /// A trailer the origin must not see.
    pub(crate) fn no_trailer(mut self, name: &str) -> Self {
        self.checks.push(Check::NoTrailer(name.to_owned()));
        self
    }

    /// A field the client sees in the response.
    pub(crate) fn answers_field(mut self, name: &str, value: &str) -> Self {
        self.response.push(Check::Field(name.to_owned(), value.to_owned()));
        self
    }

    fn run(&self, proxy: &Ringway, origin: &Origin, index: usize) -> Result<(), String> {
        let before = origin.seen_count();
        let mut client = proxy.connect();
        client.patience = Duration::from_secs(4);
        client.try_send(&self.bytes);
        for number in 0..self.requests {
            let answer = client.try_response(self.method).map_err(|error| match error {
                ReadError::Silent(part) => format!("no answer {number} in time: {}", show(&part)),
                other => format!("no answer {number}: {other:?}"),
            })?;
            self.check_answer(&answer)?;
        }
        let kept = self.check_connection(&mut client, index)?;
        self.check_probe(proxy, index)?;
        let seen = origin.seen_since(before);
        self.check_seen(&seen, kept, index)
    }

    fn check_answer(&self, answer: &Message) -> Result<(), String> {
        if !self.statuses.contains(&answer.status()) {
            return Err(format!(
                "status {} ({:?}), wanted one of {:?}",
                answer.status(),
                answer.reason(),
                self.statuses
            ));
        }
        if answer.end != End::Complete {
            return Err(format!("the answer ends {:?}", answer.end));
        }
        if self.reaches_origin == answer.reason().is_some() {
            return Err(format!("answered by the wrong side: reason {:?}", answer.reason()));
        }
        if !self.reasons.is_empty() && !self.reasons.contains(&answer.reason().unwrap_or_default())
        {
            return Err(format!("reason {:?}, wanted {:?}", answer.reason(), self.reasons));
        }
        self.response.iter().try_for_each(|check| holds(check, &answer.head.fields, answer, ""))
    }

    /// Whether the connection is kept, after finding out that this is as wanted.
    fn check_connection(&self, client: &mut Client, index: usize) -> Result<bool, String> {
        match self.closes {
            Some(true) => {
                let (rest, _) = client.read_to_end();
                if !rest.is_empty() {
                    return Err(format!("bytes behind the answer: {}", show(&rest)));
                }
                Ok(false)
            }
            Some(false) => {
                let path = format!("/kept-{index}");
                let line = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
                if !client.leftover().is_empty() || !client.try_send(line) {
                    return Err("the connection is not usable any more".to_owned());
                }
                match client.try_response("GET") {
                    Ok(answer) if answer.text() == format!("GET {path}") => Ok(true),
                    Ok(answer) => Err(format!("the next request got {:?}", answer.text())),
                    Err(error) => Err(format!("the next request got no answer: {error:?}")),
                }
            }
            None => Ok(false),
        }
    }

    fn check_probe(&self, proxy: &Ringway, index: usize) -> Result<(), String> {
        let mut other = proxy.connect();
        let path = format!("/probe-{index}");
        other.get(&path);
        match other.try_response("GET") {
            Ok(answer) if answer.text() == format!("GET {path}") => Ok(()),
            Ok(answer) => {
                Err(format!("ANOTHER CLIENT got {} {:?}", answer.status(), answer.text()))
            }
            Err(error) => Err(format!("another client got no answer: {error:?}")),
        }
    }

    /// The origin saw exactly the row's requests, the one that shows the connection is kept, and the
    /// probe: nothing smuggled, nothing twice.
    fn check_seen(&self, seen: &[Seen], kept: bool, index: usize) -> Result<(), String> {
        let whole: Vec<&Seen> = seen.iter().filter(|seen| seen.whole).collect();
        let own = if self.reaches_origin { self.requests } else { 0 };
        let expected = own + usize::from(kept) + 1;
        if whole.len() != expected {
            let lines: Vec<&str> = whole.iter().map(|seen| seen.head.start.as_str()).collect();
            return Err(format!("the origin saw {lines:?}, wanted {expected} requests"));
        }
        if kept && whole[own].head.word(1) != format!("/kept-{index}") {
            return Err(format!("the origin saw {:?} as next request", whole[own].head.start));
        }
        let Some(first) = whole.first().filter(|_| own > 0) else { return Ok(()) };
        let message = Message {
            head: first.head.clone(),
            body: first.body.clone(),
            trailers: first.trailers.clone(),
            end: End::Complete,
            interim: Vec::new(),
        };
        let start = first.head.start.clone();
        self.checks.iter().try_for_each(|check| holds(check, &first.head.fields, &message, &start))
    }
}

fn holds(
    check: &Check,
    fields: &[(String, String)],
    message: &Message,
    start: &str,
) -> Result<(), String> {
    let joined = |fields: &[(String, String)], name: &str| {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        let all: Vec<&str> = fields.iter().filter(same).map(|field| field.1.as_str()).collect();
        (!all.is_empty()).then(|| all.join(", "))
    };
    let (wanted, got) = match check {
        Check::Line(line) => (format!("line {line:?}"), format!("line {start:?}")),
        Check::Field(name, value) => (
            format!("{name}: {:?}", Some(value)),
            format!("{name}: {:?}", joined(fields, name).as_ref()),
        ),
        Check::Absent(name) => (
            format!("{name}: {:?}", None::<&String>),
            format!("{name}: {:?}", joined(fields, name).as_ref()),
        ),
        Check::Body(body) => (show(body), show(&message.body)),
        Check::Trailer(name, value) => (
            format!("trailer {name}: {:?}", Some(value)),
            format!("trailer {name}: {:?}", joined(&message.trailers, name).as_ref()),
        ),
        Check::NoTrailer(name) => (
            format!("trailer {name}: {:?}", None::<&String>),
            format!("trailer {name}: {:?}", joined(&message.trailers, name).as_ref()),
        ),
    };
    if wanted == got { Ok(()) } else { Err(format!("{got}, wanted {wanted}")) }
}

/// Runs all rows against one ringway with one worker and an origin that echoes; tells all failures.
pub(crate) fn run_rows(rows: Vec<Row>) {
    let origin = Origin::echo();
    run_rows_with(&Ringway::start(&Conf::to(origin.address).one_core()), &origin, rows);
}

/// The same with a ringway of the test's own.
pub(crate) fn run_rows_with(proxy: &Ringway, origin: &Origin, rows: Vec<Row>) {
    let (count, mut failures) = (rows.len(), Vec::new());
    for (index, row) in rows.iter().enumerate() {
        let run = AssertUnwindSafe(|| row.run(proxy, origin, index));
        let result = catch_unwind(run).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Err(text.unwrap_or_else(|| "panicked".to_owned()))
        });
        let garbage = origin.take_garbage();
        let result = match result {
            Ok(()) if garbage.is_empty() => continue,
            Ok(()) => format!("the origin received {garbage:?}"),
            Err(what) if garbage.is_empty() => what,
            Err(what) => format!("{what}; the origin received {garbage:?}"),
        };
        failures.push(format!("{}: {result}\n    sent {}", row.name, show(&row.bytes)));
    }
    assert!(
        failures.is_empty(),
        "{} of {count} rows fail:\n  {}",
        failures.len(),
        failures.join("\n  ")
    );
}
