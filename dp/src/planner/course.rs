//! A budget under a steady stream of releases: day by day, until it is exhausted or the time is over.

use std::num::NonZeroU32;

use super::Paying;
use crate::accountant::{Filled, Measure, Span, TooWide, Use, Window, Within};
use crate::conversion::reported_epsilon;
use crate::plan::ReleasePlan;

/// So many batches a day, each of its own piece of the day, for so many days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Releases a day.
    pub per_day: NonZeroU32,
    /// Days.
    pub days: NonZeroU32,
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

fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Workload {
    /// The most releases that are played through.
    pub const MOST: u64 = 50_000;

    /// How many releases that is.
    pub fn releases(self) -> u64 {
        u64::from(self.per_day.get()) * u64::from(self.days.get())
    }

    /// Into how many equal batches a day is cut at least, so that each lies where a batch of `plan` must: one for each of
    /// the pieces in which clients count, as far as they are whole parts of a day.
    pub fn fewest_a_day(plan: &ReleasePlan) -> NonZeroU32 {
        let batches = match plan.within() {
            Within::Cell(cells) => DAY / common_divisor(DAY, cells.length().unsigned_abs()),
            Within::Window(Window::Rolling(rolling)) => DAY.div_ceil(rolling.length().unsigned_abs()),
            Within::Window(Window::Lifetime | Window::Calendar(_)) => 1,
        };
        u32::try_from(batches).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
    }

    /// Whether each of its batches is one to the release of `plan`.
    pub fn is_of_batches(self, plan: &ReleasePlan) -> Result<(), TooWide> {
        let days = 0..self.days.get();
        let mut spans = days.flat_map(|day| (0..self.per_day.get()).map(move |batch| self.span(day, batch)));
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
        let mut granted = 0;
        for day in 0..self.days.get() {
            for batch in 0..self.per_day.get() {
                granted += u64::from(release(self.span(day, batch), granted, &mut courses, &mut uses));
            }
            let today =
                Span::of_reports(BEGINNING + u64::from(day) * DAY, BEGINNING + u64::from(day + 1) * DAY)
                    .expect("a day of this millennium is a span");
            for (course, uses) in courses.iter_mut().zip(&uses) {
                let account = &course.paying.account;
                let fullest = account.fullest(uses, today);
                let epsilon = course.epsilon_of(uses, fullest);
                course.days.push(Day { day: day + 1, granted, spent: fullest.spent, epsilon });
            }
        }
        for course in &mut courses {
            (course.asked, course.granted) = (self.releases(), granted);
        }
        courses
    }

    fn span(self, day: u32, batch: u32) -> Span {
        let parts = u64::from(self.per_day.get());
        let at = |batch: u64| BEGINNING + u64::from(day) * DAY + batch * DAY / parts;
        let (from, to) = (at(u64::from(batch)), at(u64::from(batch) + 1));
        Span::of_reports(from, to.max(from + 1)).expect("a part of a day is a span")
    }
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
