//! Sockets: binding, the limit on connections, timeouts, graceful shutdown.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum_server::accept::Accept;
use axum_server::{AddrListener, Address, Handle, Server};
use futures_util::future::BoxFuture;
use futures_util::future::try_join_all;
use hyper_util::rt::TokioTimer;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use super::access::AccessSource;
use super::router::router;
use super::state::ApiState;

/// How long requests may still run once the server stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// How long a client may take to agree on TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the server could not listen or had to stop.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error("listen tcp {address}: {cause}{advice}")]
    Bind { address: String, cause: io::Error, advice: &'static str },
    #[error("HTTP server failed: {0}")]
    Serve(#[from] io::Error),
}

/// Binds an address as `--web.listen-address` has it: `127.0.0.1:9090`, `[::1]:9090`,
/// `localhost:9090`, or `:9090` for every interface.
pub fn bind(address: &str) -> Result<StdListener, ServeError> {
    let bound = match address.strip_prefix(':') {
        // A dual-stack socket, or IPv4 alone where the host has no IPv6.
        Some(port) => {
            bind_first(&format!("[::]:{port}")).or_else(|_| bind_first(&format!("0.0.0.0:{port}")))
        }
        None => bind_first(address),
    };
    bound.map_err(|cause| {
        let advice = match cause.kind() {
            io::ErrorKind::AddrInUse => {
                ": another program listens there; stop it or choose another address with \
                 --web.listen-address"
            }
            io::ErrorKind::PermissionDenied => {
                ": ports below 1024 need a privilege; choose another address with \
                 --web.listen-address"
            }
            io::ErrorKind::InvalidInput => ": expected HOST:PORT in --web.listen-address",
            _ => "",
        };
        ServeError::Bind { address: address.to_owned(), cause, advice }
    })
}

fn bind_first(address: &str) -> io::Result<StdListener> {
    let addresses: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    let listener = StdListener::bind(&addresses[..])?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves on these sockets until `shutdown` is cancelled: then no connection is accepted
/// any more, running requests get ten seconds, and the function returns.
pub async fn serve(
    listeners: Vec<StdListener>,
    state: Arc<ApiState>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let slots = Arc::new(Semaphore::new(state.options.max_connections));
    let routes = router(Arc::clone(&state));
    let tls = tls_source(&state)?;
    let mut servers = Vec::with_capacity(listeners.len());
    for listener in listeners {
        listener.set_nonblocking(true)?;
        let inner = TcpListener::from_std(listener)?;
        let handle = Handle::new();
        let listener = LimitedListener { inner, slots: Arc::clone(&slots) };
        let mut server: Server<Limited, Secured> = Server::<Limited>::from_listener(listener)
            .acceptor(Secured { tls: tls.clone() })
            .handle(handle.clone());
        // Covers the headers of a request, and the wait for the next one.
        server
            .http_builder()
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(state.options.read_timeout);
        let service = routes.clone().into_make_service_with_connect_info::<Peer>();
        let shutdown = shutdown.clone();
        servers.push(async move {
            let serving = server.serve(service);
            let stopping = async {
                shutdown.cancelled().await;
                handle.graceful_shutdown(Some(SHUTDOWN_GRACE));
                std::future::pending::<()>().await;
            };
            tokio::select! {
                result = serving => result,
                () = stopping => Ok(()),
            }
        });
    }
    try_join_all(servers).await?;
    Ok(())
}

/// Where the settings of TLS come from, if connections are to be encrypted. That stays as
/// it is at the start; certificates may change.
fn tls_source(state: &ApiState) -> Result<Option<AccessSource>, ServeError> {
    let Some(source) = &state.options.access else { return Ok(None) };
    let web = (source.0)().map_err(io::Error::other)?;
    Ok(web.tls.is_some().then(|| source.clone()))
}

/// Agrees on TLS with each connection, by the settings that hold when it comes.
#[derive(Clone)]
struct Secured {
    tls: Option<AccessSource>,
}

impl<S: Send + 'static> Accept<LimitedStream, S> for Secured {
    type Stream = Either<LimitedStream, Box<TlsStream<LimitedStream>>>;
    type Service = S;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, S)>>;

    fn accept(&self, stream: LimitedStream, service: S) -> Self::Future {
        let tls = self.tls.clone();
        Box::pin(async move {
            let Some(source) = tls else { return Ok((Either::Left(stream), service)) };
            let web = (source.0)().map_err(|error| {
                tracing::error!(err = error, "Cannot serve HTTPS (--web.config.file)");
                io::Error::other(error)
            })?;
            // Nobody gets in clear what was to be encrypted.
            let config = web.tls.clone().ok_or_else(|| io::Error::other("TLS is gone"))?;
            let agreed = TlsAcceptor::from(config).accept(stream);
            let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, agreed).await??;
            Ok((Either::Right(Box::new(stream)), service))
        })
    }
}

/// Who is at the other end of a connection that holds a slot.
#[derive(Clone, Debug)]
struct Limited(Option<SocketAddr>);

/// The address of whoever sends a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(Option<SocketAddr>);

impl Peer {
    /// In words. A socket for both protocols shows clients of the older one as of the newer.
    pub(super) fn ip(self) -> String {
        self.0.map_or_else(String::new, |peer| peer.ip().to_canonical().to_string())
    }
}

impl Connected<Limited> for Peer {
    fn connect_info(connection: Limited) -> Self {
        Self(connection.0)
    }
}

impl Address for Limited {
    type Stream = LimitedStream;
    type Listener = LimitedListener;
}

/// Accepts only while a slot is free; the kernel queues the rest.
struct LimitedListener {
    inner: TcpListener,
    slots: Arc<Semaphore>,
}

impl AddrListener<LimitedStream, Limited> for LimitedListener {
    async fn bind_to(_: Limited) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "sockets are bound before serving"))
    }

    async fn accept_stream(&self) -> io::Result<(LimitedStream, Limited)> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = self.inner.accept().await?;
        stream.set_nodelay(true)?;
        Ok((LimitedStream { stream, _slot: slot }, Limited(Some(peer))))
    }

    fn get_local_addr(&self) -> io::Result<Limited> {
        Ok(Limited(None))
    }
}

/// A connection with its slot.
struct LimitedStream {
    stream: TcpStream,
    _slot: OwnedSemaphorePermit,
}

impl AsyncRead for LimitedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_a_clear_error() {
        let first = bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap().to_string();
        let error = bind(&address).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("listen tcp {address}: Address already in use")),
            "{error}"
        );
        assert!(error.ends_with("choose another address with --web.listen-address"), "{error}");
        assert!(bind("nonsense").unwrap_err().to_string().contains("listen tcp nonsense: "));
    }
}
