//! Which window of a budget promises at least what another one does, under the same limit.

use crate::accountant::{CalendarUnit, Window};

/// Whether a limit kept in every `new` window is also kept in every `old` one.
///
/// # Privacy
/// True only where each old window lies within a new one, snapped to the new grid as releases are.
pub(super) fn implies(new: Window, old: Window) -> bool {
    match (new, old) {
        (Window::Lifetime, _) => true,
        (_, Window::Lifetime) | (Window::Calendar(_), Window::Rolling(_)) => false,
        (Window::Calendar(new), Window::Calendar(old)) => nests(old, new),
        (Window::Rolling(new), old) => {
            let (length, step) = match old {
                Window::Rolling(old) => (old.length(), old.epoch()),
                Window::Calendar(unit) => (unit.longest(), CalendarUnit::Day.longest()),
                Window::Lifetime => return false,
            };
            // Where the old grid is not part of the new one, an old window can begin up to an epoch late.
            let late = if step % new.epoch() == 0 { 0 } else { new.epoch() };
            new.length() >= length + late
        }
    }
}

/// Whether every `inner` lies within one `outer`: all but weeks in months, quarters and years.
fn nests(inner: CalendarUnit, outer: CalendarUnit) -> bool {
    inner == outer || (inner.longest() < outer.longest() && inner != CalendarUnit::Week)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accountant::Rolling;

    const DAY: u64 = 86_400;

    fn rolling(length: u64, epoch: u64) -> Window {
        Window::Rolling(Rolling::new(length, epoch).unwrap())
    }

    #[test]
    fn a_longer_window_promises_more_under_the_same_limit() {
        let month = Window::Calendar(CalendarUnit::Month);
        let week = Window::Calendar(CalendarUnit::Week);
        let year = Window::Calendar(CalendarUnit::Year);
        let thirty = rolling(30 * DAY, DAY);
        for (new, old) in [
            (Window::Lifetime, thirty),
            (Window::Lifetime, month),
            (thirty, thirty),
            (rolling(60 * DAY, DAY), thirty),
            (rolling(30 * DAY, 3600), thirty),
            (rolling(31 * DAY, DAY), month),
            (year, month),
            (Window::Calendar(CalendarUnit::Week), Window::Calendar(CalendarUnit::Day)),
        ] {
            assert!(implies(new, old), "{new:?} {old:?}");
        }
        for (new, old) in [
            (thirty, Window::Lifetime),
            (month, Window::Lifetime),
            (thirty, month),
            (month, thirty),
            (month, week),
            (year, week),
            (month, year),
            (rolling(30 * DAY, 2 * DAY), thirty),
            (rolling(7 * DAY, DAY), thirty),
        ] {
            assert!(!implies(new, old), "{new:?} {old:?}");
        }
    }
}
