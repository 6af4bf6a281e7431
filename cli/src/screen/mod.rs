//! What people see: charts with their uncertainty, plain tables, progress.
//!
//! Everything here takes finished numbers and returns text; it decides nothing. Colour is not used, so nothing can
//! depend on it (help and usage errors have it from their library, but for `--no-color` and `NO_COLOR`), and where the locale does not say UTF-8 every sign is ASCII.

mod chart;
mod number;
mod progress;
mod table;

pub(crate) use chart::{Row, chart};
pub(crate) use number::thousands;
pub(crate) use progress::Progress;
pub(crate) use table::table;

/// The signs a terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signs {
    /// Block elements, ticks, ±.
    Unicode,
    /// Nothing beyond ASCII.
    Ascii,
}

impl Signs {
    /// What the locale of the process says: the first of `LC_ALL`, `LC_CTYPE` and `LANG` that is set decides.
    pub(crate) fn of_locale() -> Self {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::of(["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).as_deref())
    }

    fn of(locale: Option<&str>) -> Self {
        let encoding = locale.unwrap_or_default().to_ascii_lowercase().replace('-', "");
        if encoding.contains("utf8") { Self::Unicode } else { Self::Ascii }
    }

    /// The first for a terminal that can show it, the second for one that cannot.
    pub(crate) fn choose<T>(self, unicode: T, ascii: T) -> T {
        match self {
            Self::Unicode => unicode,
            Self::Ascii => ascii,
        }
    }

    /// Something worked.
    pub(crate) fn tick(self) -> &'static str {
        self.choose("✓", "ok")
    }

    /// Something was refused.
    pub(crate) fn cross(self) -> &'static str {
        self.choose("✗", "x")
    }

    /// Something to know.
    pub(crate) fn warning(self) -> &'static str {
        self.choose("⚠", "!")
    }

    /// In front of a half-width.
    pub(crate) fn plus_minus(self) -> &'static str {
        self.choose("±", "+-")
    }

    /// Between two facts on a line.
    pub(crate) fn dot(self) -> &'static str {
        self.choose("·", "-")
    }
}

#[cfg(test)]
mod tests {
    use super::Signs;

    #[test]
    fn only_a_locale_that_says_so_gets_signs_beyond_ascii() {
        for unicode in ["C.UTF-8", "de_DE.utf8", "en_GB.UTF-8@euro"] {
            assert_eq!(Signs::of(Some(unicode)), Signs::Unicode, "{unicode}");
        }
        for ascii in [None, Some("C"), Some("POSIX"), Some("de_DE.ISO-8859-1")] {
            assert_eq!(Signs::of(ascii), Signs::Ascii, "{ascii:?}");
        }
    }
}
