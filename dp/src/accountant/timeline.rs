//! How much every window of a budget holds, without looking at every window.
//!
//! The windows of a budget are told apart by the second they begin at. What a window holds changes only where one
//! begins to meet a group of releases, begins or ceases to contain it, or meets it no more; between such seconds all
//! windows hold the same. For `u` groups that takes `O(u log u)` steps, however fine the grid and however many
//! releases a group counts, and memory in proportion to `u`.

use std::collections::{BTreeSet, HashMap};

use super::cap::{Costs, Measure};
use super::span::Span;
use super::usage::{Block, Caps, Grid, Use};
use super::window::Window;

/// Windows that begin from one second up to, and without, another, and all hold the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) spent: i128,
}

/// Which of a use's two amounts are added up.
pub(super) type Amount = fn(&Use) -> i64;

/// A budget's window and what is added up in it.
#[derive(Clone, Copy)]
pub(super) struct Timeline {
    pub(super) window: Window,
    pub(super) measure: Measure,
    pub(super) amount: Amount,
}

/// Releases under one cap: a task, its caps, and where they are shared.
type Key = ([u8; 32], Option<Caps>, Block);

/// At one second, `releases` of `units` join or leave a group.
struct Change {
    at: i64,
    joins: bool,
    group: usize,
    units: i64,
    releases: u64,
}

#[derive(Default)]
struct Groups {
    index: HashMap<Key, usize>,
    costs: Vec<(Costs, Option<Caps>)>,
}

impl Groups {
    fn of(&mut self, usage: &Use, block: Block) -> usize {
        // What no cap limits is added up in one place.
        let key = match block {
            Block::None => ([0; 32], None, block),
            Block::Window | Block::Fixed(_) => (usage.task, Some(usage.caps), block),
        };
        *self.index.entry(key).or_insert_with(|| {
            self.costs.push((Costs::default(), key.1));
            self.costs.len() - 1
        })
    }

    fn charge(&self, group: usize, measure: Measure) -> i128 {
        self.costs.get(group).map_or(0, |(costs, caps)| match caps {
            Some(caps) => costs.capped(caps, measure),
            None => costs.in_full(),
        })
    }
}

impl Timeline {
    /// The seconds at which windows begin that meet `span`.
    pub(super) fn meeting(&self, span: Span) -> (i64, i64) {
        match self.window {
            Window::Lifetime => (Span::ALL.from(), Span::ALL.from() + 1),
            Window::Calendar(unit) => {
                (unit.containing(span.from()).from(), unit.containing(span.to() - 1).to())
            }
            Window::Rolling(rolling) => {
                let (length, epoch) = (rolling.length(), rolling.epoch());
                ((span.from() - length).div_euclid(epoch) * epoch + epoch, round_up(span.to(), epoch))
            }
        }
    }

    /// The seconds at which windows begin that contain `span`.
    fn containing(&self, span: Span) -> (i64, i64) {
        match self.window {
            Window::Rolling(rolling) => {
                let (length, epoch) = (rolling.length(), rolling.epoch());
                (round_up(span.to() - length, epoch), span.from().div_euclid(epoch) * epoch + epoch)
            }
            // Asked only for a span within one window.
            Window::Lifetime | Window::Calendar(_) => self.meeting(span),
        }
    }

    /// The last window that begins before `to`, by where it begins.
    pub(super) fn last_before(&self, to: i64) -> i64 {
        match self.window {
            Window::Lifetime => Span::ALL.from(),
            Window::Calendar(unit) => unit.containing(to - 1).from(),
            Window::Rolling(rolling) => to - rolling.epoch(),
        }
    }

    /// The window that begins at `start`.
    pub(super) fn window_at(&self, start: i64) -> Span {
        match self.window {
            Window::Lifetime => Span::ALL,
            Window::Calendar(unit) => unit.containing(start),
            Window::Rolling(rolling) => Span::clamped(start, start + rolling.length()),
        }
    }

    /// What every window that meets `span` holds, in the order of time.
    pub(super) fn pieces<'a>(&self, uses: impl Iterator<Item = &'a Use>, span: Span) -> Vec<Piece> {
        let (first, end) = self.meeting(span);
        let mut groups = Groups::default();
        let mut changes = Vec::new();
        for usage in uses {
            for (block, (from, to)) in self.stays(usage) {
                let (from, to) = (from.max(first), to.min(end));
                if from < to {
                    let group = groups.of(usage, block);
                    let (units, releases) = ((self.amount)(usage), usage.releases);
                    changes.push(Change { at: from, joins: true, group, units, releases });
                    changes.push(Change { at: to, joins: false, group, units, releases });
                }
            }
        }
        changes.sort_by_key(|change| change.at);
        let mut pieces = vec![Piece { from: first, to: end, spent: 0 }];
        for together in changes.chunk_by(|a, b| a.at == b.at) {
            let Some(at) = together.first().map(|change| change.at).filter(|at| *at < end) else { break };
            let touched: BTreeSet<usize> = together.iter().map(|change| change.group).collect();
            let sum = |groups: &Groups| -> i128 {
                touched.iter().map(|group| groups.charge(*group, self.measure)).sum()
            };
            let before = sum(&groups);
            for change in together {
                if let Some((costs, _)) = groups.costs.get_mut(change.group) {
                    if change.joins {
                        costs.add(change.units, change.releases);
                    } else {
                        costs.remove(change.units, change.releases);
                    }
                }
            }
            let moved = sum(&groups) - before;
            match pieces.last_mut() {
                Some(last) if last.from == at => last.spent += moved,
                Some(last) => {
                    last.to = at;
                    let spent = last.spent + moved;
                    pieces.push(Piece { from: at, to: end, spent });
                }
                None => {}
            }
        }
        pieces
    }

    /// Under which cap, and in the windows of which beginnings, a use counts.
    fn stays(&self, usage: &Use) -> Vec<(Block, (i64, i64))> {
        let block = Grid { budget: self.window, contribution: usage.caps.window }.block(usage.span);
        let (enters, leaves) = self.meeting(usage.span);
        if block != Block::Window {
            return vec![(block, (enters, leaves))];
        }
        let (from, to) = self.containing(usage.span);
        if from >= to {
            return vec![(Block::None, (enters, leaves))];
        }
        vec![(Block::None, (enters, from)), (block, (from, to)), (Block::None, (to, leaves))]
    }

    /// What the one window `window` holds.
    pub(super) fn spent_in<'a>(&self, uses: impl Iterator<Item = &'a Use>, window: Span) -> i128 {
        let mut groups = Groups::default();
        for usage in uses.filter(|usage| usage.span.meets(window)) {
            let grid = Grid { budget: self.window, contribution: usage.caps.window };
            let block = match grid.block(usage.span) {
                Block::Window if !window.contains(usage.span) => Block::None,
                block => block,
            };
            let group = groups.of(usage, block);
            if let Some((costs, _)) = groups.costs.get_mut(group) {
                costs.add((self.amount)(usage), usage.releases);
            }
        }
        (0..groups.costs.len()).map(|group| groups.charge(group, self.measure)).sum()
    }
}

/// The next multiple of `step` that is not below `number`.
fn round_up(number: i64, step: i64) -> i64 {
    -(-number).div_euclid(step) * step
}
