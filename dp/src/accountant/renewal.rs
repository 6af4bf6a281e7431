//! What to answer when a release does not fit: when an equal one would, and how much would now.

use super::account::Account;
use super::span::Span;
use super::timeline::Piece;
use super::usage::Use;
use super::window::Window;

/// The largest cost that fits in the place of `refused`.
pub(super) fn fits(account: &Account, uses: &[Use], refused: &Use) -> i64 {
    let fit = |units: i64| {
        let smaller = Use { units, ..refused.clone() };
        account.pieces_with(uses, &smaller).iter().all(|piece| piece.spent <= i128::from(account.limit))
    };
    if !fit(0) {
        return 0;
    }
    // What a window holds grows with the cost, so half the interval can be left out each time.
    let (mut fitting, mut refused) = (0, refused.units);
    while fitting + 1 < refused {
        let middle = fitting + (refused - fitting) / 2;
        if fit(middle) {
            fitting = middle;
        } else {
            refused = middle;
        }
    }
    fitting
}

/// No search for a later time takes more steps than this.
const MOST_STEPS: u32 = 1000;

/// The second from which on a release like `refused` fits, when nothing else is spent meanwhile. `span` is what it was
/// asked for, before it was moved to the grid.
///
/// The earliest on the grid, as long as the cap on reports is counted in no shorter window than the budget; else
/// perhaps a later one, never one that does not fit.
pub(super) fn renews(account: &Account, uses: &[Use], refused: &Use, span: Span) -> Option<i64> {
    if account.window == Window::Lifetime || span == Span::ALL {
        return None;
    }
    let grid = account.grid(&refused.caps);
    let one_cell = grid.cell(span.from()) == refused.span;
    let mut at = refused.span;
    for _ in 0..MOST_STEPS {
        let pieces = account.pieces_with(uses, &Use { span: at, ..refused.clone() });
        let Some(next) = after_the_last_full(account, &pieces, at) else { return Some(at.from()) };
        if next >= Span::ALL.to() {
            return None;
        }
        at = if one_cell {
            grid.cell(next)
        } else {
            grid.snap(Span::new(next, next.checked_add(span.seconds())?).ok()?)
        };
    }
    None
}

/// Where a release at `at` has to move so that none of the windows that are too full now concerns it any more.
fn after_the_last_full(account: &Account, pieces: &[Piece], at: Span) -> Option<i64> {
    let timeline = account.timeline();
    let too_full = pieces.iter().filter(|piece| piece.spent > i128::from(account.limit));
    let moves = too_full.map(|piece| {
        let last = timeline.last_before(piece.to);
        // The last window of the piece that begins no later than the release: it has to be passed.
        let around = last.min(account.window.cell(at.from()).from());
        let passed = (around >= piece.from).then(|| timeline.window_at(around).to());
        // One that begins later: the release may be wholly inside it, further on, and be capped there.
        let inside = (last > at.from()).then_some(last);
        passed.max(inside)
    });
    moves.max().flatten()
}
