//! From a seed to a plan. The generator is written out here, so that a seed means the same for ever.

use mica_dap::Draft;
use mica_dap::task::BatchMode;

use crate::plan::{
    Action, Comes, Counted, Fault, Flaw, How, KeyLives, Noise, Party, Sending, Setting, Step, Stop,
};

/// Throws dice: `SplitMix64`, whose sequence depends on the seed and on nothing else.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.throw() % limit
    }

    fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).expect("it is below a usize")
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// What is simulated under this seed.
    pub(crate) fn setting(&mut self) -> Setting {
        let counted = self.one_of(&[Counted::Buckets, Counted::Buckets, Counted::Vectors, Counted::Strings]);
        // No noise is defined for Poplar1, and no way to name the prefixes of a task that comes with a request.
        let is_prio = counted != Counted::Strings;
        let comes = if is_prio && self.percent(20) { Comes::WithRequests } else { Comes::ByFile };
        // A task that has ended takes no reports that could fill a batch.
        let retires = comes == Comes::ByFile && self.percent(12);
        let helper_behind = if retires { 0 } else { self.one_of(&[0, 0, 0, 60, 400, 700, 1_500]) };
        // A report that was too early comes again with a blank beside it: jobs of one report cannot.
        let helper_takes: &[usize] = if helper_behind > 0 { &[2, 3, 100, 100] } else { &[1, 3, 100, 100] };
        let min_batch_size = match comes {
            _ if retires => 1,
            Comes::ByFile => 1 + self.below(4),
            Comes::WithRequests => 2 + self.below(3),
        };
        Setting {
            counted,
            comes,
            retires,
            noise: if is_prio && self.percent(30) { Noise::Drawn } else { Noise::None },
            keys: if !retires && self.percent(25) { KeyLives::Short } else { KeyLives::Long },
            helper_behind,
            draft: self.one_of(&Draft::ALL),
            batch_mode: self.one_of(&[BatchMode::TimeInterval, BatchMode::LeaderSelected]),
            min_batch_size,
            target_size: min_batch_size + self.below(4),
            deferred: self.percent(50),
            leaders: self.one_of(&[1, 1, 2]),
            job_reports: self.one_of(&[2, 5, 100]),
            helper_takes: self.one_of(helper_takes),
        }
    }

    /// What happens.
    pub(crate) fn steps(&mut self, setting: &Setting) -> Vec<Step> {
        // How often things go wrong differs from run to run: much that happens only when little does.
        let (trouble, stopping) = (self.one_of(&[0, 10, 30, 60]), self.one_of(&[0, 10, 25]));
        let length = 20 + self.index(50);
        (0..length).map(|_| self.step(setting, trouble, stopping)).collect()
    }

    fn step(&mut self, setting: &Setting, trouble: u64, stopping: u64) -> Step {
        let action = self.action(setting);
        let faults = if self.percent(trouble) {
            (0..=self.below(3)).map(|_| self.fault()).collect()
        } else {
            Vec::new()
        };
        let stop = self.percent(stopping).then(|| {
            let edge = u32::try_from(self.below(16)).expect("a small number");
            Stop { edge, how: self.one_of(&[How::Dies, How::HeldUp, How::Breaks]) }
        });
        Step { action, faults, stop }
    }

    fn action(&mut self, setting: &Setting) -> Action {
        let leader = self.index(setting.leaders);
        match self.below(108) {
            0..28 => Action::Upload { leader, reports: self.reports() },
            28..33 if setting.deferred => Action::Answer,
            28..53 => Action::Aggregate { leader },
            53..67 => Action::Collect { leader },
            67..74 => Action::Ask { leader, start: self.below(6), units: 1 + self.below(3) },
            74..79 => Action::Poll { leader, which: self.index(8) },
            79..81 => Action::Delete { leader, which: self.index(8) },
            81..90 => Action::Wait { seconds: self.seconds(setting) },
            90..94 => Action::Arrive { which: self.index(8) },
            94..98 => Action::GoOn { which: self.index(4) },
            98..100 => Action::Die { party: self.party(setting) },
            100..103 => Action::Replay { which: self.index(64) },
            103 | 104 if setting.retires => Action::Retire,
            _ => Action::Renew { party: self.party(setting) },
        }
    }

    fn seconds(&mut self, setting: &Setting) -> u64 {
        match setting.keys {
            KeyLives::Long => self.one_of(&[1, 2, 7, 20, 90, 400]),
            KeyLives::Short => self.one_of(&[1, 2, 7, 20, 90, 400, 2_000, 3_700, 7_500]),
        }
    }

    fn party(&mut self, setting: &Setting) -> Party {
        match self.index(setting.leaders + 1) {
            0 => Party::Helper,
            leader => Party::Leader(leader - 1),
        }
    }

    fn reports(&mut self) -> Vec<Sending> {
        (0..=self.below(4)).map(|_| self.sending()).collect()
    }

    fn sending(&mut self) -> Sending {
        let age = self.below(5);
        match self.below(100) {
            0..70 => Sending::Fresh { age, flaw: None },
            70..82 => Sending::Fresh { age, flaw: Some(self.flaw()) },
            82..96 => Sending::Again { which: self.index(64) },
            _ => Sending::SameName { which: self.index(64) },
        }
    }

    fn flaw(&mut self) -> Flaw {
        self.one_of(&[
            Flaw::BadProof,
            Flaw::DamagedLeaderShare,
            Flaw::DamagedHelperShare,
            Flaw::UnknownKey,
            Flaw::Future,
            Flaw::BeforeTheTask,
        ])
    }

    fn fault(&mut self) -> Fault {
        self.one_of(&[
            Fault::None,
            Fault::Lost,
            Fault::Torn,
            Fault::AnswerLost,
            Fault::Twice,
            Fault::Late,
            Fault::Echo,
            Fault::Busy,
        ])
    }
}
