//! The line that a panic leaves on standard error: once a minute for each place in the program. Where a stranger may find a
//! request that panics, it is the stranger who decides how often.

use std::collections::HashMap;
use std::panic::{self, PanicHookInfo};
use std::sync::{Mutex, PoisonError};

use crate::trouble::Trouble;

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync + 'static>;

/// From now on no place in this process is told more often.
pub(super) fn tell_seldom() {
    panic::set_hook(seldom(panic::take_hook()));
}

/// Does what `tell` does, once a minute for each place.
fn seldom(tell: Hook) -> Hook {
    let places = Mutex::<HashMap<_, Trouble>>::default();
    Box::new(move |panic| {
        let place = panic.location().map(|place| (place.file().to_owned(), place.line()));
        let mut known = places.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told = known.entry(place).or_default().occurs().is_some();
        drop(known);
        if is_told {
            tell(panic);
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn here() {
        panic!("on purpose");
    }

    fn elsewhere() {
        panic!("on purpose too");
    }

    #[test]
    fn a_place_that_panics_again_and_again_has_a_line_a_minute_and_hides_no_other() {
        let (told, before) = (Arc::new(AtomicUsize::new(0)), panic::take_hook());
        let count = Arc::clone(&told);
        panic::set_hook(seldom(Box::new(move |panic| {
            // Those of other tests are not ours.
            let is_ours = panic.location().is_some_and(|place| place.file() == file!());
            count.fetch_add(usize::from(is_ours), Ordering::SeqCst);
            before(panic);
        })));
        for _ in 0..50 {
            assert!(panic::catch_unwind(here).is_err());
        }
        let one = told.load(Ordering::SeqCst);
        assert!((1..10).contains(&one), "{one}");
        assert!(panic::catch_unwind(elsewhere).is_err());
        assert_eq!(told.load(Ordering::SeqCst), one + 1);
        drop(panic::take_hook());
    }
}
