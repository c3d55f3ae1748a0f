//! The admin API's sockets: a bounded number of connections, none silent for long.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

use crate::base::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_IDLE_MAX, TICK};

/// Serves until the future is dropped.
pub async fn serve(listener: TcpListener, router: Router) {
    serve_within(listener, router, ADMIN_CONNECTIONS_MAX, ADMIN_IDLE_MAX).await;
}

/// The same with bounds of the caller's choice.
pub(super) async fn serve_within(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    silence_max: Duration,
) {
    let free = Arc::new(Semaphore::new(connections_max));
    let service = router.into_make_service_with_connect_info::<Peer>();
    // Ends only with an error of the listener, and `Bounded::accept` retries those.
    let _ = axum::serve(Bounded { listener, free, silence_max }, service).await;
}

/// The address of a caller, as handlers ask for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// A listener that accepts only while there is a free place.
struct Bounded {
    listener: TcpListener,
    free: Arc<Semaphore>,
    silence_max: Duration,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok(permit) = Arc::clone(&self.free).acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    return (Connection::new(stream, permit, self.silence_max), peer);
                }
                // Out of descriptors, or the caller left already: try again a little later.
                Err(_) => sleep(TICK).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// One caller. Silence longer than `silence_max` ends the connection, whoever is silent: a
/// caller that sends nothing, or one that does not read its answer.
struct Connection {
    stream: TcpStream,
    silence_max: Duration,
    silence_ends: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit, silence_max: Duration) -> Self {
        Self { stream, silence_max, silence_ends: Box::pin(sleep(silence_max)), _place: place }
    }

    /// Passes a result on; while there is none, watches the clock.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            let end = Instant::now() + self.silence_max;
            self.silence_ends.as_mut().reset(end);
            return result;
        }
        self.silence_ends.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watch(context, result)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
