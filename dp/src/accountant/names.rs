//! Windows and measures by names that never change: what is stored and hashed.

use super::calendar::{CalendarUnit, timestamp};
use super::cap::Measure;
use super::window::{Rolling, Window};

impl Measure {
    /// The name that is stored and hashed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epsilon => "epsilon",
            Self::Rho => "rho",
        }
    }

    /// The measure with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Epsilon, Self::Rho].into_iter().find(|measure| measure.name() == name)
    }
}

impl Window {
    /// The name that is stored and hashed: `lifetime`, `calendar:month`, or `rolling:` with length and epoch in seconds.
    pub fn name(self) -> String {
        match self {
            Self::Lifetime => "lifetime".to_owned(),
            Self::Calendar(unit) => format!("calendar:{}", unit.name()),
            Self::Rolling(rolling) => format!("rolling:{}:{}", rolling.length(), rolling.epoch()),
        }
    }

    /// The window with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "lifetime" {
            return Some(Self::Lifetime);
        }
        if let Some(unit) = name.strip_prefix("calendar:") {
            return CalendarUnit::EVERY.into_iter().find(|it| it.name() == unit).map(Self::Calendar);
        }
        let (length, epoch) = name.strip_prefix("rolling:")?.split_once(':')?;
        let window = Self::Rolling(Rolling::new(length.parse().ok()?, epoch.parse().ok()?).ok()?);
        // One spelling only.
        (window.name() == name).then_some(window)
    }
}

/// A second of data time as programs write it: `2026-12-01T00:00:00Z`.
pub fn format_second(at: i64) -> String {
    timestamp(at).to_string()
}

/// The second that [`format_second`] writes so; nothing for any other spelling.
pub fn parse_second(text: &str) -> Option<i64> {
    let at = text.parse::<jiff::Timestamp>().ok()?.as_second();
    (format_second(at) == text).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_name_is_found_by_it_and_by_no_other() {
        let rolling = Window::Rolling(Rolling::new(2_592_000, 86_400).unwrap());
        let calendars = CalendarUnit::EVERY.map(Window::Calendar);
        for window in calendars.into_iter().chain([Window::Lifetime, rolling]) {
            assert_eq!(Window::from_name(&window.name()), Some(window));
        }
        assert_eq!(rolling.name(), "rolling:2592000:86400");
        for name in
            ["", "calendar:", "calendar:fortnight", "rolling:0:0", "rolling:05:1", "rolling:5:2", "Lifetime"]
        {
            assert_eq!(Window::from_name(name), None, "{name}");
        }
        assert_eq!([Measure::from_name("rho"), Measure::from_name("Rho")], [Some(Measure::Rho), None]);
        assert_eq!(format_second(1_796_083_200), "2026-12-01T00:00:00Z");
        assert_eq!(parse_second("2026-12-01T00:00:00Z"), Some(1_796_083_200));
        for other in ["", "2026-12-01", "2026-12-01T01:00:00+01:00", "2026-12-01T00:00:00.5Z"] {
            assert_eq!(parse_second(other), None, "{other}");
        }
    }
}
