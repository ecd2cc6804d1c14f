//! The HTTP server of one machine: what stands before the router when anybody can connect.
//!
//! In: a listener, the router, and when to end. A client gets so long to send a request's head and so many
//! connections are held at once, so that clients that send nothing, or byte after byte, hold up nobody for
//! long; asked to end, it lets the answers on their way finish, but not for ever.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use axum::Router;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};

/// What a client may ask of the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Time for the head of a request, and between two requests of a connection.
    pub(crate) head: Duration,
    /// Connections held at once; more wait to be accepted.
    pub(crate) connections: usize,
    /// Time that answers on their way get when the server ends.
    pub(crate) farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: Duration::from_secs(15), connections: 512, farewell: Duration::from_secs(10) }
    }
}

/// Serves until `until` is done.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    until: impl Future<Output = ()> + Send,
) -> Result<()> {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head);
    let places = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut until = std::pin::pin!(until);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, stream) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut until => break,
        };
        let place = place?;
        let stream = match stream {
            Ok((stream, _)) => stream,
            Err(e) => {
                // As when no file handles are left: the connections held will give some back.
                tracing::warn!(error = %e, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!(error = %e, "a connection broke off");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.farewell, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were still open at the end");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Instant};

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::oneshot,
        task::JoinHandle,
    };

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    async fn server(limits: Limits) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let slow = || async {
            tokio::time::sleep(Duration::from_hours(1)).await;
            "late"
        };
        let router = Router::new().route("/", get(|| async { "here" })).route("/slow", get(slow));
        let until = async {
            let _ = stopped.await;
        };
        (address, stop, tokio::spawn(serve(listener, router, limits, until)))
    }

    fn quick() -> Limits {
        Limits { head: Duration::from_millis(200), connections: 2, farewell: Duration::from_millis(300) }
    }

    #[tokio::test]
    async fn who_sends_no_request_is_hung_up_on_and_the_next_gets_the_place() {
        let (address, _stop, _server) = server(quick()).await;
        let mut dawdlers = Vec::new();
        for start in [&b""[..], b"GET / HTTP/1.1\r\nHo"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(start).await.unwrap();
            dawdlers.push(stream);
        }
        let mut late = TcpStream::connect(address).await.unwrap();
        late.write_all(REQUEST).await.unwrap();
        let mut answer = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(10), late.read_exact(&mut answer)).await;
        read.expect("the places were never given back").unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        for mut stream in dawdlers {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert!(!rest.starts_with(b"HTTP/1.1 200"));
        }
    }

    #[tokio::test]
    async fn it_ends_though_an_answer_never_comes() {
        let (address, stop, server) = server(quick()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let start = Instant::now();
        stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(10), server).await.expect("it hangs").unwrap().unwrap();
        assert!(start.elapsed() >= Duration::from_millis(300), "an answer on its way gets its time");
    }
}
