//! What one budget has paid for: releases of a task, grouped by when their reports were made.

use std::num::NonZeroU32;

use super::span::Span;
use super::window::{Window, grid_cell};

/// What a privacy unit contributes to a task at most.
///
/// An assumption about the world that somebody enforces: at most `per_batch` of its reports are in one batch, and at
/// most `per_window` of them have timestamps in any one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caps {
    /// The most reports of one unit in one batch: `c`.
    pub per_batch: NonZeroU32,
    /// The most reports of one unit in one window: `k`.
    pub per_window: NonZeroU32,
    /// The window of `per_window`. A rolling one holds wherever it begins, on a grid or not.
    pub window: Window,
}

impl Caps {
    /// The caps of the unit `report`: a report is one report, and in one batch, ever.
    pub const ONE_REPORT: Self =
        Self { per_batch: NonZeroU32::MIN, per_window: NonZeroU32::MIN, window: Window::Lifetime };
}

/// Releases of one task that a budget has paid for and that cost the same, of the same piece of data time.
///
/// Grouping them keeps what an aggregator stores in proportion to the length of a window, not to the number of
/// releases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The budget that paid.
    pub budget_id: String,
    /// The task.
    pub task: [u8; 32],
    /// When their reports were made, on the grid of the budget.
    pub span: Span,
    /// What a unit with `per_batch` reports in one of them loses, in the budget's units; below zero counts as zero.
    pub units: i64,
    /// The same as pure epsilon, when the noise was Laplace.
    pub epsilon_units: Option<i64>,
    /// What a unit contributes at most.
    pub caps: Caps,
    /// How many releases.
    pub releases: u64,
}

impl Use {
    /// Whether two groups can be one, with the sum of their releases.
    pub fn is_like(&self, other: &Self) -> bool {
        self.span == other.span && self.costs_as(other)
    }

    /// Whether both are of the same kind, whenever their reports were made.
    pub(super) fn costs_as(&self, other: &Self) -> bool {
        let key = |usage: &Self| (usage.task, usage.units, usage.epsilon_units, usage.caps);
        key(self) == key(other) && self.budget_id == other.budget_id
    }
}

/// The pieces of data time that a budget need not tell apart: cells of its own grid, cut where reports are counted
/// anew.
///
/// Where the cap on reports is counted in a shorter window than the budget, time is divided into blocks, each within
/// one window of the cap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) budget: Window,
    pub(super) contribution: Window,
}

/// How a cap limits a release in a window of the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Block {
    /// Together with all other releases wholly inside the window of the budget.
    Window,
    /// Together with all other releases wholly inside this piece of time.
    Fixed(Span),
    /// Not at all: a unit may have had more reports beyond an edge, and losses of one release do not add up to the
    /// loss of its parts.
    None,
}

impl Grid {
    /// `span` with both ends moved outwards to the grid.
    pub(super) fn snap(self, span: Span) -> Span {
        self.cell(span.from()).with(self.cell(span.to() - 1))
    }

    /// The piece that holds the second `at`.
    pub(super) fn cell(self, at: i64) -> Span {
        let cell = self.budget.cell(at);
        let block = match self.contribution {
            Window::Lifetime => Span::ALL,
            Window::Calendar(unit) => unit.containing(at),
            Window::Rolling(cap) => match self.budget {
                Window::Rolling(rolling) if rolling.length() <= cap.length() => cell,
                Window::Calendar(_) if cell.seconds() <= cap.length() => cell,
                Window::Calendar(_) => grid_cell(cell.from(), cap.length(), at),
                Window::Lifetime | Window::Rolling(_) => grid_cell(0, cap.length(), at),
            },
        };
        cell.common(block).unwrap_or(cell)
    }

    /// How the cap limits a release of `span` in windows of the budget that meet it.
    ///
    /// # Privacy
    /// All reports of a unit in releases with the same [`Block`] were made in one window of the cap: a block is
    /// contained in such a window, and the releases are contained in the block. A block is never wider than it need
    /// be, so two releases may be under different caps that the unit in truth shares; that only charges more.
    pub(super) fn block(self, span: Span) -> Block {
        let fixed = |block: Span| if block.contains(span) { Block::Fixed(block) } else { Block::None };
        match self.contribution {
            Window::Lifetime => Block::Fixed(Span::ALL),
            Window::Calendar(unit) => fixed(unit.containing(span.from())),
            Window::Rolling(cap) => match self.budget {
                Window::Rolling(rolling) if rolling.length() <= cap.length() => Block::Window,
                Window::Calendar(unit) => {
                    let window = unit.containing(span.from());
                    if !window.contains(span) {
                        return Block::None;
                    }
                    if window.seconds() <= cap.length() {
                        return Block::Window;
                    }
                    fixed(grid_cell(window.from(), cap.length(), span.from()))
                }
                Window::Lifetime | Window::Rolling(_) => fixed(grid_cell(0, cap.length(), span.from())),
            },
        }
    }
}
