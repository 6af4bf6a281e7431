//! A stream of HTTP/2 that sends together what is written together.
//!
//! Who speaks HTTP/2 here flushes after every frame of content, and each flush is a call of the operating system that costs as
//! much as all else that is done for a short message. What one task writes while it is looked after, and what others hand
//! it until it is looked after again, goes out with one call: nothing waits for a timer, and one that has nothing else to do
//! writes at once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tower::Service;

use crate::tls::{ConnectError, Connector, PeerStream};

/// A stream, and what was written to it and has not been sent.
pub(crate) struct Gathering<S> {
    stream: S,
    gathered: Vec<u8>,
    /// So much of it has been sent.
    sent: usize,
    /// A flush was asked for, and the task has been woken to do it when it is looked after again.
    promised: bool,
    /// Else everything goes through as it is.
    gathers: bool,
}

impl<S> Gathering<S> {
    /// Gathers only if it pays: HTTP/1.1 writes a message at once by itself.
    pub(crate) fn new(stream: S, gathers: bool) -> Self {
        Self { stream, gathered: Vec::new(), sent: 0, promised: false, gathers }
    }
}

impl<S: Write + Unpin> Gathering<S> {
    /// Sends everything.
    fn send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.gathered.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        // A connection that rests holds nothing.
        (self.gathered, self.sent) = (Vec::new(), 0);
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.promised = false;
        Poll::Ready(Ok(()))
    }

    /// Makes room for as many bytes, or for all that are ever gathered.
    fn make_room(&mut self, context: &mut Context<'_>, bytes: usize) -> Poll<io::Result<()>> {
        if self.gathered.len().saturating_add(bytes) > MOST && !self.gathered.is_empty() {
            ready!(self.send(context))?;
        }
        if self.gathered.capacity() == 0 {
            self.gathered.reserve(USUALLY);
        }
        Poll::Ready(Ok(()))
    }

    fn gather(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.get(..MOST.saturating_sub(self.gathered.len())).unwrap_or(bytes);
        self.gathered.extend_from_slice(taken);
        taken.len()
    }
}

impl<S: Write + Unpin> Write for Gathering<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.gathers {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        ready!(self.make_room(context, bytes.len()))?;
        Poll::Ready(Ok(self.gather(bytes)))
    }

    fn is_write_vectored(&self) -> bool {
        self.gathers || self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.gathers {
            return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        }
        let bytes = slices.iter().map(|slice| slice.len()).fold(0, usize::saturating_add);
        ready!(self.make_room(context, bytes))?;
        Poll::Ready(Ok(slices.iter().map(|slice| self.gather(slice)).sum()))
    }

    /// Done when the task is looked after again, which is seen to.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.gathers {
            return Pin::new(&mut self.stream).poll_flush(context);
        }
        if !self.promised && !self.gathered.is_empty() {
            self.promised = true;
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: Read + Write + Unpin> Read for Gathering<S> {
    /// Looks after what was promised first: whoever looks after a connection reads before it writes. What the other end said
    /// before it went away is heard all the same.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let sent = if self.promised { self.send(context) } else { Poll::Pending };
        match (Pin::new(&mut self.stream).poll_read(context, buffer), sent) {
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            (read, _) => read,
        }
    }
}

impl<S: Connection> Connection for Gathering<S> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

/// Opens connections that gather when HTTP/2 is spoken on them.
#[derive(Clone, Debug)]
pub(crate) struct GatheringConnector {
    connector: Connector,
    /// Without TLS nothing else tells what is spoken.
    always: bool,
}

impl GatheringConnector {
    /// `always` where HTTP/2 is spoken without having been agreed on.
    pub(crate) fn new(connector: Connector, always: bool) -> Self {
        Self { connector, always }
    }
}

impl Service<Uri> for GatheringConnector {
    type Response = Gathering<PeerStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, always) = (self.connector.call(uri), self.always);
        Box::pin(async move {
            let stream = connecting.await?;
            let gathers = always || stream.connected().is_negotiated_h2();
            Ok(Gathering::new(stream, gathers))
        })
    }
}

/// More is never gathered.
const MOST: usize = 64 * 1024;
/// Room that is made at once.
const USUALLY: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, DuplexStream, ReadBuf, duplex};

    use super::*;

    /// A stream that counts how often it is written to.
    struct Counted(DuplexStream, usize);

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1 += 1;
            Pin::new(&mut self.0).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }

    type Near = Gathering<TokioIo<Counted>>;

    /// One end that gathers, and the other, with room for so many bytes between them.
    fn ends(room: usize, gathers: bool) -> (Near, DuplexStream) {
        let (near, far) = duplex(room);
        (Gathering::new(TokioIo::new(Counted(near, 0)), gathers), far)
    }

    async fn write(near: &mut Near, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let slices = [IoSlice::new(bytes)];
            let written = poll_fn(|context| Pin::new(&mut *near).poll_write_vectored(context, &slices)).await;
            bytes = &bytes[written.unwrap()..];
        }
        poll_fn(|context| Pin::new(&mut *near).poll_flush(context)).await.unwrap();
    }

    /// Looks after the connection until the other end has nothing more to say.
    async fn look_after(near: &mut Near) -> io::Result<()> {
        poll_fn(|context| {
            let mut bytes = [0; 16];
            let mut buffer = hyper::rt::ReadBuf::new(&mut bytes);
            Pin::new(&mut *near).poll_read(context, buffer.unfilled())
        })
        .await
    }

    #[tokio::test]
    async fn what_is_written_in_one_turn_leaves_at_once_and_in_order() {
        for (gathers, writes) in [(true, 1), (false, 3)] {
            let (mut near, mut far) = ends(100_000, gathers);
            for frame in [&b"one "[..], b"two ", b"three"] {
                write(&mut near, frame).await;
            }
            let turn = tokio::time::timeout(std::time::Duration::from_millis(1), look_after(&mut near));
            assert!(turn.await.is_err(), "there is nothing to read");
            assert_eq!(near.stream.inner().1, writes);
            assert!(near.gathered.capacity() == 0 && !near.promised);
            let mut heard = [0; 13];
            far.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"one two three");
        }
    }

    #[tokio::test]
    async fn a_flush_is_kept_without_anybody_asking_again() {
        let (mut near, mut far) = ends(100_000, true);
        let mut turns = 0;
        let looking = tokio::spawn(poll_fn(move |context| {
            turns += 1;
            if turns == 1 {
                assert!(Pin::new(&mut near).poll_write(context, b"there").is_ready());
                assert!(Pin::new(&mut near).poll_flush(context).is_ready());
                // Nothing is asked for that could wake this task, but what was promised.
                return Poll::Pending;
            }
            let mut bytes = [0; 16];
            let mut buffer = hyper::rt::ReadBuf::new(&mut bytes);
            Pin::new(&mut near).poll_read(context, buffer.unfilled())
        }));
        let mut heard = [0; 5];
        let hearing = tokio::time::timeout(std::time::Duration::from_secs(20), far.read_exact(&mut heard));
        hearing.await.expect("it is sent").unwrap();
        drop(far);
        assert!(looking.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn what_was_said_before_the_other_end_broke_off_is_heard() {
        use tokio::io::AsyncWriteExt as _;

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let mut near = Gathering::new(TokioIo::new(stream), true);
        poll_fn(|context| Pin::new(&mut near).poll_write(context, b"what nobody reads")).await.unwrap();
        poll_fn(|context| Pin::new(&mut near).poll_flush(context)).await.unwrap();
        let turn = tokio::time::timeout(std::time::Duration::from_millis(1), listen(&mut near));
        assert!(turn.await.is_err(), "there is nothing to read");
        poll_fn(|context| Pin::new(&mut near).poll_write(context, b"and another")).await.unwrap();
        poll_fn(|context| Pin::new(&mut near).poll_flush(context)).await.unwrap();
        far.write_all(b"an answer").await.unwrap();
        // With bytes that were not read: the connection is reset.
        drop(far);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert_eq!(listen(&mut near).await.unwrap(), b"an answer");
    }

    async fn listen(near: &mut Gathering<TokioIo<tokio::net::TcpStream>>) -> io::Result<Vec<u8>> {
        let mut bytes = [0; 16];
        let mut buffer = hyper::rt::ReadBuf::new(&mut bytes);
        poll_fn(|context| Pin::new(&mut *near).poll_read(context, buffer.unfilled())).await?;
        Ok(buffer.filled().to_vec())
    }

    #[tokio::test]
    async fn no_byte_is_lost_however_slowly_the_other_end_reads() {
        let (mut near, mut far) = ends(1_000, true);
        let said: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
        let (expected, saying) = (said.clone(), said);
        let sending = tokio::spawn(async move {
            for piece in saying.chunks(70_001) {
                write(&mut near, piece).await;
                assert!(near.gathered.len() <= MOST);
            }
            poll_fn(|context| Pin::new(&mut near).poll_shutdown(context)).await.unwrap();
        });
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, expected);
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn who_cannot_be_reached_any_more_is_no_promise_kept() {
        let (mut near, far) = ends(100, true);
        write(&mut near, b"there").await;
        drop(far);
        look_after(&mut near).await.expect("it has left, and said so");
        assert!(near.promised);
        assert!(poll_fn(|context| Pin::new(&mut near).poll_shutdown(context)).await.is_err());
    }
}
