//! One TLS connection as a machine: records in, plaintext out, plaintext in, records out.
//!
//! Called by `dataplane::socket` with its pooled buffers. rustls' unbuffered interface works in the
//! caller's input and keeps positions in it while a handshake message is incomplete: so every call
//! is given all input that was not used up, and what is used up is removed before the next one.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, ContentType, Error, HandshakeKind, InvalidMessage, PeerIncompatible,
    PeerMisbehaved, ProtocolVersion, ServerConfig,
    client::{ClientConnectionData, UnbufferedClientConnection},
    pki_types::{CertificateDer, ServerName},
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, ReadEarlyData, UnbufferedStatus,
        WriteTraffic,
    },
};

use super::{alert, records};

/// Bytes a record needs beside its plaintext, at most: header, nonce, type, tag.
const RECORD_OVERHEAD: usize = 5 + 8 + 1 + 16;

/// The protocol that was agreed on for the time after the handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `http/1.1`, or nothing.
    #[default]
    Http11,
    /// `h2`.
    Http2,
}

impl Alpn {
    /// Its name on the wire. Source: RFC 7301 §6, RFC 9113 §3.1.
    pub const fn name(self) -> &'static [u8] {
        match self {
            Self::Http11 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// Why a session cannot go on. The peer is told by an alert, which lies among the bytes to be sent.
#[derive(Clone, Debug)]
pub struct Failure(pub(super) Error);

/// The kinds of [`Failure`], for metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// No version, suite, key exchange, signature or protocol that both know.
    Incompatible,
    /// The peer's certificate was not accepted, or it had none.
    Certificate,
    /// The peer ended the handshake with an alert.
    Alert,
    /// The peer broke the protocol.
    Protocol,
    /// Anything else, on our side.
    Other,
}

impl Kind {
    /// All kinds, in the order of their discriminants.
    pub const ALL: [Self; 5] =
        [Self::Incompatible, Self::Certificate, Self::Alert, Self::Protocol, Self::Other];

    /// The word in metrics and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Incompatible => "incompatible",
            Self::Certificate => "certificate",
            Self::Alert => "alert",
            Self::Protocol => "protocol",
            Self::Other => "other",
        }
    }
}

impl Failure {
    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        match &self.0 {
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Kind::Incompatible,
            Error::InvalidCertificate(_)
            | Error::NoCertificatesPresented
            | Error::InvalidCertRevocationList(_)
            | Error::UnsupportedNameType => Kind::Certificate,
            Error::AlertReceived(_) => Kind::Alert,
            Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::InvalidMessage(_)
            | Error::PeerMisbehaved(_)
            | Error::DecryptError
            | Error::PeerSentOversizedRecord => Kind::Protocol,
            _ => Kind::Other,
        }
    }

    /// The alert for it, where rustls has none. Source: RFC 8446 §6.2, §4.1.2, §4.2.
    fn alert(&self) -> Option<u8> {
        match &self.0 {
            Error::InvalidMessage(_) => Some(alert::DECODE_ERROR),
            Error::PeerSentOversizedRecord => Some(alert::RECORD_OVERFLOW),
            Error::PeerMisbehaved(PeerMisbehaved::ServerNameDifferedOnRetry) => {
                Some(alert::ILLEGAL_PARAMETER)
            }
            Error::PeerMisbehaved(PeerMisbehaved::UnsolicitedCertExtension) => {
                Some(alert::UNSUPPORTED_EXTENSION)
            }
            Error::PeerMisbehaved(_) | Error::InappropriateMessage { .. } => {
                Some(alert::UNEXPECTED_MESSAGE)
            }
            _ => None,
        }
    }

    /// The alert that says more than that of rustls, as long as nothing is encrypted, or comes before what it
    /// does not belong behind. Source: RFC 8446 §9.2, §4.4.2.2; RFC 5246 §7.1.
    fn better_alert(&self) -> Option<u8> {
        match &self.0 {
            Error::PeerIncompatible(PeerIncompatible::KeyShareExtensionRequired) => {
                Some(alert::MISSING_EXTENSION)
            }
            Error::PeerIncompatible(PeerIncompatible::NoSignatureSchemesInCommon) => {
                Some(alert::HANDSHAKE_FAILURE)
            }
            Error::InvalidMessage(InvalidMessage::TrailingData("ChangeCipherSpecPayload")) => {
                Some(alert::UNEXPECTED_MESSAGE)
            }
            _ => None,
        }
    }

    pub(super) fn ours(what: &str) -> Self {
        Self(Error::General(what.into()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One end of a TLS connection.
pub struct Session {
    connection: Connection,
    /// Records of the handshake, alerts and key updates that go before anything else.
    pending: Vec<u8>,
    /// The peer has ended its side with a close_notify.
    peer_closed: bool,
    /// Whether plaintext came as early data, before the handshake had ended.
    early: bool,
    /// Whether our own close_notify is among what was to be sent.
    closed: bool,
    /// An error has ended it: the connection inside must not be asked any more.
    failed: bool,
    /// Whether something of what was pending has gone.
    has_sent: bool,
    /// Whether a key update was to be answered that has perhaps not been.
    owes_answer: bool,
    /// Whether data has come since one was answered at once.
    may_answer: bool,
}

enum Connection {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// Runs a block with the connection, whichever end it is.
macro_rules! either {
    ($self:expr, $connection:ident => $body:expr) => {
        match $self {
            Connection::Server($connection) => $body,
            Connection::Client($connection) => $body,
        }
    };
}

/// What a look at the input brought.
enum Step {
    /// There may be more.
    Again,
    /// Plaintext was given out: there is more only if input is left.
    Read,
    /// All of the input that is complete is used up.
    Done,
}

impl Session {
    /// The end that is connected to.
    ///
    /// # Errors
    /// When the configuration can't be used.
    pub fn server(config: &Arc<ServerConfig>) -> Result<Self, Failure> {
        let connection = UnbufferedServerConnection::new(Arc::clone(config)).map_err(Failure)?;
        Ok(Self::new(Connection::Server(Box::new(connection))))
    }

    /// The end that connects, to a peer that must prove to be `name`.
    ///
    /// # Errors
    /// When the configuration can't be used.
    pub fn client(config: &Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Failure> {
        let connection =
            UnbufferedClientConnection::new(Arc::clone(config), name).map_err(Failure)?;
        Ok(Self::new(Connection::Client(Box::new(connection))))
    }

    fn new(connection: Connection) -> Self {
        let pending = Vec::new();
        Self {
            connection,
            pending,
            peer_closed: false,
            early: false,
            closed: false,
            failed: false,
            has_sent: false,
            owes_answer: false,
            may_answer: false,
        }
    }

    /// Takes in what has arrived: all input that was not used up by earlier calls. Plaintext goes to
    /// `plain`, in order. Returns the bytes at the front of `input` that are used up; the caller
    /// removes them. What is left is less than a record, or than a handshake message.
    ///
    /// There may be something to send afterwards ([`Session::pending`]), an error included.
    ///
    /// # Errors
    /// The session is over.
    pub fn receive(
        &mut self,
        input: &mut [u8],
        plain: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, Failure> {
        if self.failed {
            return Err(Failure::ours("the session is over"));
        }
        let mut used = 0;
        loop {
            match self.step(&mut input[used..], plain) {
                Ok((discard, step)) => {
                    used += discard;
                    self.may_answer |= matches!(step, Step::Read);
                    match step {
                        Step::Again => {}
                        Step::Read if used < input.len() => {}
                        Step::Read | Step::Done => break,
                    }
                }
                Err(error) => {
                    self.failed = true;
                    return Err(self.tell(error, &mut input[used..]));
                }
            }
        }
        self.owes_answer |= records::take_has_sealed_update();
        if self.owes_answer && self.may_answer {
            self.answer_update(&mut input[used..]);
        }
        Ok(used)
    }

    /// Takes in records. Those that rustls has skipped are used up too: it would skip them again, and count
    /// them again, each time it finds them.
    fn step(
        &mut self,
        input: &mut [u8],
        plain: &mut dyn FnMut(&[u8]),
    ) -> Result<(usize, Step), Error> {
        if records::is_overlong(input) {
            return Err(Error::PeerSentOversizedRecord);
        }
        if !self.is_handshaking() {
            // Whatever it says; RFC 8446 §5. rustls reads it first, and would tell what it can't read.
            if input.first() == Some(&20) && self.is_tls13() {
                return Err(records::out_of_place(ContentType::ChangeCipherSpec));
            }
            return self.process(input, plain);
        }
        let (result, skips) = records::skips(|| self.process(input, plain));
        let (mut used, step) = result?;
        if skips {
            used += records::whole_bytes(&input[used..]);
        }
        Ok((used, step))
    }

    fn process(
        &mut self,
        input: &mut [u8],
        plain: &mut dyn FnMut(&[u8]),
    ) -> Result<(usize, Step), Error> {
        let Self { connection, pending, peer_closed, early, .. } = self;
        match connection {
            Connection::Server(connection) => {
                let status = connection.process_tls_records(input);
                handle(status, pending, peer_closed, plain, |mut state, plain| {
                    *early = true;
                    while let Some(record) = state.next_record() {
                        plain(record?.payload);
                    }
                    Ok(())
                })
            }
            Connection::Client(connection) => {
                let status = connection.process_tls_records(input);
                handle(status, pending, peer_closed, plain, |_, _| Ok(()))
            }
        }
    }

    /// Has rustls give out the answer to key updates that ask for one: it keeps it for the next data, and takes it
    /// out before it sees that there is no room for these. Once for what was read since, and not as long as
    /// something else waits: a peer that asks and does not read can't have answers pile up.
    /// Source: RFC 8446 §4.6.3.
    #[cold]
    fn answer_update(&mut self, input: &mut [u8]) {
        if self.is_handshaking() || self.closed || self.peer_closed || !self.pending.is_empty() {
            return;
        }
        (self.owes_answer, self.may_answer) = (false, false);
        let _ = self.encrypt(input, &[0], &mut []);
        self.collect(input);
    }

    /// Takes what rustls wants to be sent, an alert mostly. Nothing more is taken in: after a fatal alert a
    /// connection must not be asked to.
    fn collect(&mut self, input: &mut [u8]) {
        let Self { connection, pending, .. } = self;
        either!(connection, connection => {
            while connection.wants_write() {
                let state = connection.process_tls_records(input).state;
                let Ok(ConnectionState::EncodeTlsData(state)) = state else { return };
                if encode(state, pending).is_err() {
                    return;
                }
            }
        });
    }

    /// Has rustls tell an error that it leaves without an alert: nobody else can encrypt one. It has one for
    /// zeros, which are no record, behind the messages that are here already.
    #[cold]
    fn provoke_alert(&mut self, description: u8, input_bytes: usize) {
        let mut zeros = vec![0; input_bytes + records::HEADER_BYTES];
        records::describe_next(description);
        either!(&mut self.connection, connection => {
            for _ in 0..=input_bytes / records::MESSAGE_HEADER_BYTES {
                let _ = connection.process_tls_records(&mut zeros);
                if connection.wants_write() {
                    break;
                }
            }
        });
        records::take_description();
        self.collect(&mut zeros);
        alert::describe(&mut self.pending, description);
    }

    /// Puts the alert that tells the peer of an error among what is to be sent.
    #[cold]
    fn tell(&mut self, error: Error, input: &mut [u8]) -> Failure {
        let is_told = either!(&self.connection, connection => connection.wants_write());
        self.collect(input);
        let failure = Failure(error);
        let better = records::take_description().or_else(|| failure.better_alert());
        match (better, failure.alert()) {
            (Some(description), _) if !self.has_sent => {
                self.pending = alert::record(description).into();
            }
            (Some(description), _) => alert::describe(&mut self.pending, description),
            (None, Some(description)) if !is_told && !self.closed => {
                self.provoke_alert(description, input.len());
            }
            _ => {}
        }
        failure
    }

    /// Encrypts plaintext into `out`, as much as fits, in records of at most `record` plaintext
    /// bytes; what is pending goes first. `input` is the input that was not used up. Returns the
    /// bytes of `plain` that were used and those of `out` that are to be sent.
    ///
    /// # Errors
    /// The session is over, or the handshake is not.
    pub fn seal(
        &mut self,
        input: &mut [u8],
        plain: &[u8],
        record: usize,
        out: &mut [u8],
    ) -> Result<(usize, usize), Failure> {
        let mut filled = self.take_pending(out);
        let mut taken = 0;
        while taken < plain.len() && self.pending.is_empty() {
            let room = out.len() - filled;
            let one = record.min(room.saturating_sub(RECORD_OVERHEAD));
            let next = &plain[taken..];
            let next = &next[..next.len().min(one)];
            if next.is_empty() || (next.len() < record.min(plain.len() - taken) && filled > 0) {
                break; // it is for the next buffer
            }
            match self.encrypt(input, next, &mut out[filled..])? {
                Some(count) => filled += count,
                None if filled > 0 => break,
                None => return Err(Failure::ours("no room for a record")),
            }
            taken += next.len();
        }
        Ok((taken, filled))
    }

    /// Encrypts one piece; `None` if it does not fit.
    fn encrypt(
        &mut self,
        input: &mut [u8],
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<Option<usize>, Failure> {
        self.write(input, |state| match state {
            Write::Server(mut state) => state.encrypt(plain, out),
            Write::Client(mut state) => state.encrypt(plain, out),
        })
    }

    /// Ends our side: a close_notify is pending then. Nothing can be sealed afterwards.
    pub fn close(&mut self, input: &mut [u8]) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let mut alert = [0; 64];
        let written = self.write(input, |state| match state {
            Write::Server(mut state) => state.queue_close_notify(&mut alert),
            Write::Client(mut state) => state.queue_close_notify(&mut alert),
        });
        if let Ok(Some(count)) = written {
            self.pending.extend_from_slice(&alert[..count]);
        }
    }

    /// Brings the connection to where it can write, and does so.
    fn write(
        &mut self,
        input: &mut [u8],
        with: impl FnOnce(Write<'_>) -> Result<usize, EncryptError>,
    ) -> Result<Option<usize>, Failure> {
        if self.failed {
            return Err(Failure::ours("the session is over"));
        }
        let result = loop {
            // A step of the connection that is not about writing leaves it one step further.
            let step = match &mut self.connection {
                Connection::Server(connection) => {
                    let status = connection.process_tls_records(input);
                    match status.state {
                        Ok(ConnectionState::WriteTraffic(state)) => {
                            break with(Write::Server(state));
                        }
                        state => other(state, &mut self.pending, &mut self.peer_closed),
                    }
                }
                Connection::Client(connection) => {
                    let status = connection.process_tls_records(input);
                    match status.state {
                        Ok(ConnectionState::WriteTraffic(state)) => {
                            break with(Write::Client(state));
                        }
                        state => other(state, &mut self.pending, &mut self.peer_closed),
                    }
                }
            };
            if let Err(failure) = step {
                self.failed = true;
                return Err(failure);
            }
        };
        match result {
            Ok(count) => Ok(Some(count)),
            Err(EncryptError::InsufficientSize(_)) => Ok(None),
            Err(error) => Err(Failure::ours(&error.to_string())),
        }
    }

    /// Moves what is pending to the front of `out`, as much as fits; how much that was.
    pub fn take_pending(&mut self, out: &mut [u8]) -> usize {
        let count = self.pending.len().min(out.len());
        out[..count].copy_from_slice(&self.pending[..count]);
        self.sent(count);
        count
    }

    /// What has to be sent before anything else.
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Forgets the first `count` bytes of [`Session::pending`]; their memory too, once all are gone.
    pub fn sent(&mut self, count: usize) {
        self.has_sent |= count > 0;
        if count == self.pending.len() {
            self.pending = Vec::new();
        } else {
            self.pending.drain(..count);
        }
    }

    /// Whether the handshake is still going on.
    pub fn is_handshaking(&self) -> bool {
        either!(&self.connection, connection => connection.is_handshaking())
    }

    /// Whether plaintext was given out that came as early data, and the handshake has not ended:
    /// it may have been sent by anybody who saw the client send it once. Source: RFC 8446 §8.
    pub fn is_early(&self) -> bool {
        self.early && self.is_handshaking()
    }

    /// Whether the peer has ended its side in order.
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// The protocol that was agreed on.
    pub fn alpn(&self) -> Alpn {
        match either!(&self.connection, connection => connection.alpn_protocol()) {
            Some(b"h2") => Alpn::Http2,
            _ => Alpn::Http11,
        }
    }

    /// Whether the session is a resumed one; known once the handshake has ended.
    pub fn is_resumed(&self) -> bool {
        either!(&self.connection, connection => connection.handshake_kind())
            == Some(HandshakeKind::Resumed)
    }

    /// Whether this is the end that was connected to.
    pub fn is_server(&self) -> bool {
        matches!(self.connection, Connection::Server(_))
    }

    /// Whether the hellos have been exchanged.
    pub fn has_begun(&self) -> bool {
        either!(&self.connection, connection => connection.protocol_version()).is_some()
    }

    /// Whether TLS 1.3 is spoken.
    pub fn is_tls13(&self) -> bool {
        either!(&self.connection, connection => connection.protocol_version())
            == Some(ProtocolVersion::TLSv1_3)
    }

    /// The peer's certificates, its own first; empty if it has none.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        either!(&self.connection, connection => connection.peer_certificates()).unwrap_or_default()
    }
}

/// The state in which a connection can write.
enum Write<'c> {
    Server(WriteTraffic<'c, ServerConnectionData>),
    Client(WriteTraffic<'c, ClientConnectionData>),
}

/// Does what a state asks for.
fn handle<D>(
    status: UnbufferedStatus<'_, '_, D>,
    pending: &mut Vec<u8>,
    peer_closed: &mut bool,
    plain: &mut dyn FnMut(&[u8]),
    early: impl FnOnce(ReadEarlyData<'_, '_, D>, &mut dyn FnMut(&[u8])) -> Result<(), Error>,
) -> Result<(usize, Step), Error> {
    let mut discard = status.discard;
    let step = match status.state? {
        ConnectionState::ReadTraffic(mut state) => {
            while let Some(record) = state.next_record() {
                let record = record?;
                plain(record.payload);
                discard += record.discard;
            }
            Step::Read
        }
        ConnectionState::ReadEarlyData(state) => {
            early(state, plain)?;
            Step::Again
        }
        ConnectionState::EncodeTlsData(state) => {
            encode(state, pending)?;
            Step::Again
        }
        ConnectionState::TransmitTlsData(state) => {
            state.done(); // it is pending
            Step::Again
        }
        ConnectionState::PeerClosed => {
            *peer_closed = true;
            Step::Again
        }
        ConnectionState::BlockedHandshake
        | ConnectionState::WriteTraffic(_)
        | ConnectionState::Closed => Step::Done,
        _ => return Err(Error::General("a state this version does not know".into())),
    };
    Ok((discard, step))
}

/// Does what a state asks for that is on the way to writing. All complete input was used up by
/// [`Session::receive`], so that nothing else can come.
fn other<D>(
    state: Result<ConnectionState<'_, '_, D>, Error>,
    pending: &mut Vec<u8>,
    peer_closed: &mut bool,
) -> Result<(), Failure> {
    match state.map_err(Failure)? {
        ConnectionState::EncodeTlsData(state) => encode(state, pending).map_err(Failure),
        ConnectionState::TransmitTlsData(state) => {
            state.done();
            Ok(())
        }
        ConnectionState::PeerClosed => {
            *peer_closed = true;
            Ok(())
        }
        _ => Err(Failure::ours("nothing can be written now")),
    }
}

/// Appends a record that rustls has made.
fn encode<D>(mut state: EncodeTlsData<'_, D>, pending: &mut Vec<u8>) -> Result<(), Error> {
    let start = pending.len();
    loop {
        match state.encode(&mut pending[start..]) {
            Ok(_) => return Ok(()),
            Err(EncodeError::InsufficientSize(size)) => {
                pending.resize(start + size.required_size, 0);
            }
            Err(EncodeError::AlreadyEncoded) => return Ok(()),
        }
    }
}
