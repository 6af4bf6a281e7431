//! One line of `mica doctor`.

use std::fmt;

use crate::exit::Exit;

/// How grave it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grade {
    Ok,
    Warn,
    Fail,
}

impl Grade {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What was looked at, what was found, and what to do.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) grade: Grade,
    /// A word for scripts.
    pub(super) check: &'static str,
    pub(super) what: String,
    /// Empty when there is nothing to do.
    pub(super) todo: String,
    exit: Exit,
}

impl Finding {
    pub(super) fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self { grade: Grade::Ok, check, what: what.into(), todo: String::new(), exit: Exit::NotReady }
    }

    pub(super) fn warn(check: &'static str, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { grade: Grade::Warn, todo: todo.into(), ..Self::ok(check, what) }
    }

    pub(super) fn fail(
        check: &'static str,
        what: impl Into<String>,
        todo: impl Into<String>,
        exit: Exit,
    ) -> Self {
        Self { grade: Grade::Fail, todo: todo.into(), exit, ..Self::ok(check, what) }
    }

    /// How the command ends on its account.
    pub(super) fn exit(&self) -> Option<Exit> {
        (self.grade == Grade::Fail).then_some(self.exit)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<4}  {:<9} {}", self.grade.word(), self.check, self.what)?;
        if self.todo.is_empty() { Ok(()) } else { write!(f, "; {}", self.todo) }
    }
}
