//! What the tests are made of: tasks, reports built by hand, servers on a port of their own, a scripted leader, a scripted
//! helper.

pub(crate) mod act;
pub(crate) mod helper;
pub(crate) mod honest;
pub(crate) mod leader;
mod ledgers;
pub(crate) mod pair;
pub(crate) mod report;
pub(crate) mod server;
pub(crate) mod task;
pub(crate) mod world;

pub(crate) use self::act::Act;
pub(crate) use self::helper::ScriptedHelper;
pub(crate) use self::leader::ScriptedLeader;
pub(crate) use self::report::{Crafted, Flaw};
pub(crate) use self::server::Server;
pub(crate) use self::task::TestTask;
pub(crate) use self::world::World;

/// When every test begins, in seconds since the Unix epoch.
pub(crate) const NOW: u64 = 1_780_000_000;

/// One unit of time.
pub(crate) const PRECISION: u64 = 3_600;
