//! How many requests wait for one target: never so many that a target that hangs stops the others.
//!
//! All requests of a relay come over few connections, and each takes a place there until it is answered. It must never
//! learn more of a request than the origin that it goes to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use http::{Uri, uri::Authority};

/// Counts the requests under way to each target.
pub(crate) struct Targets {
    most: usize,
    under_way: Arc<Mutex<HashMap<String, usize>>>,
}

/// One request under way, until it is dropped.
pub(crate) struct UnderWay {
    origin: String,
    all: Arc<Mutex<HashMap<String, usize>>>,
}

impl Targets {
    /// Each target may have half of what one connection carries.
    pub(crate) fn new(streams: u32) -> Self {
        let most = usize::try_from(streams / 2).unwrap_or(usize::MAX).max(1);
        Self { most, under_way: Arc::default() }
    }

    /// One more request to the origin of `target`. Nothing: there are too many already.
    pub(crate) fn enter(&self, target: &Uri) -> Option<UnderWay> {
        let scheme = target.scheme_str().unwrap_or_default();
        let authority = target.authority().map(Authority::as_str).unwrap_or_default();
        let origin = format!("{scheme}://{authority}");
        let mut all = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let many = all.entry(origin.clone()).or_default();
        if *many >= self.most {
            return None;
        }
        *many += 1;
        Some(UnderWay { origin, all: Arc::clone(&self.under_way) })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(many) = all.get_mut(&self.origin) {
            *many = many.saturating_sub(1);
            if *many == 0 {
                all.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_half_and_gives_it_back() {
        let targets = Targets::new(4);
        let slow = Uri::from_static("http://slow.example/a");
        let other = Uri::from_static("https://slow.example/a");
        let first = targets.enter(&slow).expect("nobody waits");
        let _second = targets.enter(&Uri::from_static("http://slow.example/b")).expect("one waits");
        assert!(targets.enter(&slow).is_none() && targets.enter(&other).is_some());
        drop(first);
        assert!(targets.enter(&slow).is_some());
    }
}
