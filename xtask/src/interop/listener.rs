//! What stands between two parties and keeps what passes, or stands at the end and answers.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use super::http::Message;

/// A port that keeps every exchange.
pub(super) struct Listener {
    pub(super) port: u16,
    shared: Arc<Shared>,
}

/// One request and its answer.
#[derive(Clone)]
pub(super) struct Exchange {
    pub(super) asked: Message,
    pub(super) answered: Message,
}

struct Shared {
    answer: Box<dyn Fn(&Message) -> Message + Send + Sync>,
    kept: Mutex<Vec<Exchange>>,
    /// How many answers are still to be lost.
    lose: AtomicUsize,
    stopped: AtomicBool,
}

impl Listener {
    /// Passes everything on to a port of this machine, and the answers back.
    pub(super) fn before(port: u16) -> Result<Self> {
        Self::start(move |asked| {
            asked.ask(port).unwrap_or_else(|error| Message::answer(502, "text/plain", format!("{error:#}")))
        })
    }

    /// Keeps what comes and says how much it was.
    pub(super) fn target() -> Result<Self> {
        Self::start(|asked| Message::answer(201, "text/plain", format!("kept {} bytes", asked.body.len())))
    }

    fn start(answer: impl Fn(&Message) -> Message + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
        let port = listener.local_addr().context("cannot tell the port")?.port();
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            kept: Mutex::default(),
            lose: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let serving = Arc::clone(&serving);
                std::thread::spawn(move || serving.serve(&stream));
            }
        });
        Ok(Self { port, shared })
    }

    /// From here on, the answer to the next request is lost: who asked is told 503.
    pub(super) fn lose_one(&self) {
        self.shared.lose.store(1, Ordering::SeqCst);
    }

    /// Its URL.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// All exchanges so far.
    pub(super) fn kept(&self) -> Vec<Exchange> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those of them in which something was posted: a client may also have asked for keys.
    pub(super) fn posted(&self) -> Vec<Exchange> {
        self.kept().into_iter().filter(|exchange| exchange.asked.line.starts_with("POST ")).collect()
    }

    /// The contents of all that was posted.
    pub(super) fn bodies(&self) -> Vec<Vec<u8>> {
        self.posted().into_iter().map(|exchange| exchange.asked.body).collect()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the one that waits for a connection.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) {
        // Somebody who only looks whether there is anybody sends nothing.
        let Ok(Some(asked)) = Message::read(stream) else { return };
        let answered = (self.answer)(&asked);
        let exchange = Exchange { asked, answered: answered.clone() };
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(exchange);
        let is_sealed = answered.field("content-type") == Some("message/ohttp-res");
        let one_less = |left: usize| left.checked_sub(1);
        let is_lost =
            is_sealed && self.lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
        let answer = if is_lost { Message::answer(503, "text/plain", "lost") } else { answered };
        // Who asked may be gone by now.
        let _ = answer.write(stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_kept_and_comes_through_as_it_is() {
        let target = Listener::target().unwrap();
        let between = Listener::before(target.port).unwrap();
        let answer = Message::sealed("/kept", vec![0, 255]).ask(between.port).unwrap();
        assert_eq!((answer.status(), answer.body.as_slice()), (201, b"kept 2 bytes".as_slice()));
        assert_eq!(target.bodies(), [[0, 255]]);
        assert_eq!(between.bodies(), target.bodies());
        assert_eq!(target.kept()[0].asked.line, "POST /kept HTTP/1.1");
    }

    #[test]
    fn one_sealed_answer_is_lost_and_the_next_is_not() {
        let sealed = Listener::start(|_| Message::answer(200, "message/ohttp-res", "sealed")).unwrap();
        sealed.lose_one();
        let ask = || Message::sealed("/", Vec::new()).ask(sealed.port).unwrap().status();
        assert_eq!([ask(), ask()], [503, 200]);
        assert_eq!(sealed.kept().len(), 2);
    }
}
