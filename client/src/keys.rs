//! The gateway's keys, as one client holds them: those of the task bundle, and newer ones by way of the relay.
//!
//! The relay shows everybody the same copy of what the gateway publishes (RFC 9458 7), so the gateway never learns who asks for its
//! keys, and cannot give one client a key of its own. But a relay that could name any key would read everything, so newer
//! keys are believed only if the gateway has signed them: they must be the newest entry of a history that is signed with
//! the `history_key` of the bundle and goes on from what this client knows. Without that key, those of the bundle are
//! used and no others. At most one list is kept, and the end of the history it stands in.

use http::{HeaderValue, Response, StatusCode, Uri, header};
use mica_envelope::history::{self, History};
use mica_envelope::{KeyConfigList, media};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::TaskBundle;
use crate::freshness::{self, UNLESS_TOLD};
use crate::transport::{Transport, origin};

/// The keys that requests are sealed to.
pub(crate) struct Keys {
    /// Where newer ones can be had; nothing where they could not be checked.
    mirror: Option<Mirror>,
    held: Mutex<Held>,
}

struct Mirror {
    keys: String,
    history: String,
    /// Who signs the history.
    signer: [u8; 32],
}

struct Held {
    list: KeyConfigList,
    /// What the mirror calls it.
    tag: Option<HeaderValue>,
    /// When the mirror is to be asked again.
    until: Instant,
    /// Number and hash of the entry of the history that the list was found in.
    entry: Option<(u64, [u8; 32])>,
}

impl Keys {
    /// Those of a bundle. How old they are is not known, so the mirror is asked before they are used.
    pub(crate) fn of(bundle: &TaskBundle) -> Self {
        let relay = origin(&bundle.relay);
        let mirror = bundle.history_key.map(|signer| Mirror {
            keys: format!("{relay}{WELL_KNOWN}"),
            history: format!("{relay}{}", history::PATH),
            signer,
        });
        let list = bundle.ohttp_keys.clone();
        Self { mirror, held: Mutex::new(Held { list, tag: None, until: Instant::now(), entry: None }) }
    }

    /// The keys to seal to now. If newer ones cannot be had, or cannot be believed, the ones that there are.
    pub(crate) async fn current(&self, transport: &Transport) -> KeyConfigList {
        // Many requests that begin at once wait for one fetch.
        let mut held = self.held.lock().await;
        if let Some(mirror) = &self.mirror
            && held.until <= Instant::now()
        {
            // A gateway accepts the old ones for long, and says so when it does not.
            let _ = Box::pin(held.renew(mirror, transport)).await;
        }
        held.list.clone()
    }

    /// Other keys than those that the gateway has refused. The error is the end of a sentence about it.
    pub(crate) async fn instead_of(
        &self,
        refused: &KeyConfigList,
        transport: &Transport,
    ) -> Result<KeyConfigList, String> {
        let Some(mirror) = &self.mirror else { return Err(UNCHECKED.to_owned()) };
        let mut held = self.held.lock().await;
        let is_same = |held: &Held| held.list.encoded() == refused.encoded();
        if is_same(&held) {
            Box::pin(held.renew(mirror, transport)).await?;
        }
        if is_same(&held) {
            return Err("the relay shows no other".to_owned());
        }
        Ok(held.list.clone())
    }
}

impl Held {
    /// Asks the mirror. What it shows replaces what there is if it is new and the gateway has signed it.
    async fn renew(&mut self, mirror: &Mirror, transport: &Transport) -> Result<(), String> {
        // Also when it comes to nothing: a relay without a mirror is not asked for each request.
        self.until = Instant::now() + UNLESS_TOLD;
        let answer = transport.get(&mirror.keys, media::OHTTP_KEYS, self.tag.as_ref(), LARGEST_LIST).await;
        let answer = answer.map_err(|error| format!("its keys cannot be fetched: {error}"))?;
        let lives = freshness::of(answer.headers()).map_err(|why| format!("what the relay shows {why}"))?;
        if answer.status() != StatusCode::NOT_MODIFIED || self.tag.is_none() {
            let list = list(&answer)?;
            if list.encoded() != self.list.encoded() {
                self.entry = Some(mirror.entry_of(&list, self, transport).await?);
                self.list = list;
            }
            self.tag = freshness::tag(answer.headers());
        }
        self.until = Instant::now() + lives;
        Ok(())
    }

    /// Whether a history goes on from what this client knows.
    fn is_in(&self, history: &History) -> bool {
        history.entries.iter().any(|entry| match self.entry {
            Some(known) => (entry.number, entry.hash) == known,
            None => entry.list == self.list.encoded(),
        })
    }
}

impl Mirror {
    /// Where in the signed history a list stands: at its end, or it is not believed.
    async fn entry_of(
        &self,
        list: &KeyConfigList,
        held: &Held,
        transport: &Transport,
    ) -> Result<(u64, [u8; 32]), String> {
        let answer = transport.get(&self.history, "application/json", None, LARGEST_HISTORY).await;
        let answer = answer.map_err(|error| format!("the history of its keys cannot be fetched: {error}"))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("the relay shows no history of its keys ({})", answer.status().as_u16()));
        }
        let wrong = |why: String| format!("the history that the relay shows is not to be believed: {why}");
        let history = History::from_json(answer.body()).map_err(|error| wrong(error.to_string()))?;
        history.verify().map_err(|error| wrong(error.to_string()))?;
        if history.key != self.signer {
            return Err(wrong("it is signed with another key than the bundle names".to_owned()));
        }
        if !held.is_in(&history) {
            return Err(wrong("the keys that were used until now are not in it".to_owned()));
        }
        let newest = history.newest().filter(|newest| newest.list == list.encoded());
        let newest =
            newest.ok_or_else(|| wrong("the keys that the relay shows are not its newest".to_owned()))?;
        Ok((newest.number, newest.hash))
    }
}

/// The list in an answer.
fn list(answer: &Response<bytes::Bytes>) -> Result<KeyConfigList, String> {
    if answer.status() != StatusCode::OK {
        return Err(format!("the relay shows no keys ({})", answer.status().as_u16()));
    }
    let media = answer.headers().get(header::CONTENT_TYPE);
    if !media.is_some_and(|value| media::is(value.as_bytes(), media::OHTTP_KEYS)) {
        return Err("what the relay shows has another media type than keys have".to_owned());
    }
    KeyConfigList::parse(answer.body().clone()).map_err(|error| format!("what the relay shows: {error}"))
}

/// Where the keys are that `url` is about: at the well-known place if it names no other (RFC 9540 5).
pub(crate) fn place(url: &str) -> String {
    match url.parse::<Uri>() {
        Ok(uri) if matches!(uri.path(), "" | "/") && uri.query().is_none() && uri.authority().is_some() => {
            format!("{}{WELL_KNOWN}", origin(url))
        }
        _ => url.to_owned(),
    }
}

/// Where a gateway, and a relay that mirrors it, publish keys (RFC 9540 5).
const WELL_KNOWN: &str = "/.well-known/ohttp-gateway";
const UNCHECKED: &str = "the bundle has no history_key to check another one by";
const LARGEST_LIST: usize = 64 << 10;
const LARGEST_HISTORY: usize = 4 << 20;
