//! A budget under a steady stream of releases: day by day, until it is exhausted or the time is over.

use std::fmt;
use std::num::NonZeroU32;

use super::Paying;
use crate::accountant::{BatchWindow, Filled, Measure, Span, TooWide, Use, Window, Within};
use crate::conversion::reported_epsilon;
use crate::plan::ReleasePlan;

/// Batches one after the other for so many days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// How often there is one.
    pub pace: Pace,
    /// Days.
    pub days: NonZeroU32,
}

/// How often there is a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So many a day, each of its own equal part of the day.
    PerDay(NonZeroU32),
    /// One of each of the pieces of time in which clients count their reports, however long those are.
    PerPiece(BatchWindow),
}

impl Pace {
    /// The pace of a collector that leaves nothing out: one batch for each of the pieces in which clients count, and where
    /// there are none, one a day or as many as it takes.
    pub fn of(plan: &ReleasePlan) -> Self {
        match plan.within() {
            Within::Cell(cells) => Self::PerPiece(cells),
            Within::Window(Window::Rolling(rolling)) => {
                let parts = u32::try_from(DAY.div_ceil(rolling.length().unsigned_abs())).ok();
                Self::PerDay(parts.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN))
            }
            Within::Window(Window::Lifetime | Window::Calendar(_)) => Self::PerDay(NonZeroU32::MIN),
        }
    }

    /// Releases a day; nothing where days differ.
    pub fn per_day(self) -> Option<NonZeroU32> {
        match self {
            Self::PerDay(parts) => Some(parts),
            Self::PerPiece(cells) => {
                let length = cells.length().unsigned_abs();
                let parts = if DAY.is_multiple_of(length) { DAY / length } else { 0 };
                u32::try_from(parts).ok().and_then(NonZeroU32::new)
            }
        }
    }
}

impl fmt::Display for Pace {
    /// `1 release a day`, `24 releases a day`, `1 release every 7 days`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.per_day(), self) {
            (Some(NonZeroU32::MIN), _) => f.write_str("1 release a day"),
            (Some(parts), _) => write!(f, "{parts} releases a day"),
            (None, Self::PerPiece(cells)) => write!(f, "1 release every {}", cells.piece()),
            (None, Self::PerDay(parts)) => write!(f, "{parts} releases a day"),
        }
    }
}

/// What a budget looks like at the end of a day.
#[derive(Clone, Debug, PartialEq)]
pub struct Day {
    /// From 1.
    pub day: u32,
    /// Releases granted so far.
    pub granted: u64,
    /// Units spent in the fullest window that meets the day.
    pub spent: i64,
    /// ε of that window, at the delta of the report; nothing when none follows.
    pub epsilon: Option<f64>,
}

/// One budget's part of the story.
#[derive(Clone, Debug)]
pub struct Course {
    /// The budget and the cost.
    pub paying: Paying,
    /// One entry per day.
    pub days: Vec<Day>,
    /// Releases granted before this budget first refused one; nothing when it never did.
    pub until_refused: Option<u64>,
    /// Releases asked for and granted, by all budgets together.
    pub asked: u64,
    /// See [`Self::asked`].
    pub granted: u64,
    /// The ε that was worked out last, and of what: most days are like the day before.
    known: Option<(Losses, Option<f64>)>,
}

/// The loss in units of ρ, and in units of pure ε where that is known.
type Losses = (i64, Option<i64>);

impl Course {
    fn epsilon_of(&mut self, uses: &[Use], fullest: Filled) -> Option<f64> {
        let account = &self.paying.account;
        let (rho, pure) = match account.measure {
            Measure::Epsilon => (i64::MAX, Some(fullest.spent)),
            Measure::Rho => (fullest.spent, account.pure_epsilon_in(uses, fullest.window)),
        };
        match self.known {
            Some((of, epsilon)) if of == (rho, pure) => epsilon,
            _ => {
                let delta = self.paying.report_delta.as_ref().filter(|_| account.measure == Measure::Rho);
                let epsilon = reported_epsilon(rho, pure, delta).ok();
                self.known = Some(((rho, pure), epsilon));
                epsilon
            }
        }
    }
}

/// Monday, 1 January 2024: the imagined batches begin with a week, a month and a year.
const BEGINNING: u64 = 1_704_067_200;
const DAY: u64 = 86_400;

impl Workload {
    /// The most releases that are played through.
    pub const MOST: u64 = 50_000;

    /// How many releases that is; nothing when it is more than [`Self::MOST`].
    pub fn releases(self) -> Option<u64> {
        let most = usize::try_from(Self::MOST).unwrap_or(usize::MAX).saturating_add(1);
        let releases = (0..self.days.get()).flat_map(|day| self.of_day(day)).take(most).count();
        u64::try_from(releases).ok().filter(|releases| *releases <= Self::MOST)
    }

    /// Whether each of its batches is one to the release of `plan`.
    pub fn is_of_batches(self, plan: &ReleasePlan) -> Result<(), TooWide> {
        let mut spans = (0..self.days.get()).flat_map(|day| self.of_day(day));
        spans.try_for_each(|span| plan.one_batch(span))
    }

    /// Plays the workload through for all budgets of a release: a release is granted by all of them, or by none.
    pub fn play(self, paying: &[Paying]) -> Vec<Course> {
        let mut courses: Vec<Course> = paying
            .iter()
            .map(|paying| Course {
                paying: paying.clone(),
                days: Vec::new(),
                until_refused: None,
                asked: 0,
                granted: 0,
                known: None,
            })
            .collect();
        let mut uses: Vec<Vec<Use>> = vec![Vec::new(); paying.len()];
        let (mut asked, mut granted) = (0, 0);
        for day in 0..self.days.get() {
            for span in self.of_day(day) {
                asked += 1;
                granted += u64::from(release(span, granted, &mut courses, &mut uses));
            }
            let today = whole_day(day);
            for (course, uses) in courses.iter_mut().zip(&uses) {
                let account = &course.paying.account;
                let fullest = account.fullest(uses, today);
                let epsilon = course.epsilon_of(uses, fullest);
                course.days.push(Day { day: day + 1, granted, spent: fullest.spent, epsilon });
            }
        }
        for course in &mut courses {
            (course.asked, course.granted) = (asked, granted);
        }
        courses
    }

    /// The batches that begin on a day.
    fn of_day(self, day: u32) -> Box<dyn Iterator<Item = Span>> {
        let today = whole_day(day);
        match self.pace {
            Pace::PerDay(parts) => {
                let parts = i64::from(parts.get());
                let at = move |batch: i64| today.from() + batch * today.seconds() / parts;
                Box::new((0..parts).map(move |batch| {
                    let (from, to) = (at(batch), at(batch + 1));
                    Span::new(from, to.max(from + 1)).expect("a part of a day is a span")
                }))
            }
            Pace::PerPiece(cells) => {
                let met = std::iter::successors(Some(cells.cell(today.from())), move |it| {
                    Some(cells.cell(it.to()))
                });
                let met = met.skip_while(move |it| it.from() < today.from());
                Box::new(met.take_while(move |it| it.from() < today.to()))
            }
        }
    }
}

fn whole_day(day: u32) -> Span {
    let from = BEGINNING + u64::from(day) * DAY;
    Span::of_reports(from, from + DAY).expect("a day of this millennium is a span")
}

/// Whether all budgets grant a release; then, and only then, it is counted.
fn release(span: Span, granted: u64, courses: &mut [Course], uses: &mut [Vec<Use>]) -> bool {
    let mut new = Vec::new();
    let mut refused = false;
    for (course, uses) in courses.iter_mut().zip(uses.iter_mut()) {
        let account = &course.paying.account;
        // Data time goes on: what no window can meet any more need not be looked at again.
        let needed = account.needed_after(span);
        uses.retain(|usage| usage.span.to() > needed);
        if let Some(usage) = account.fits(uses, &course.paying.proposal(span)) {
            new.push(usage);
        } else {
            refused = true;
            course.until_refused.get_or_insert(granted);
        }
    }
    if refused {
        return false;
    }
    for ((course, uses), new) in courses.iter().zip(uses.iter_mut()).zip(new) {
        course.paying.account.count(uses, new);
    }
    true
}
