//! Positions in a text, and the nearest known word to a misspelt one.

/// Line and column (both from 1, columns in characters) of a byte offset into `text`.
///
/// An offset beyond the end, or inside a character, is taken as the nearest position before it.
#[must_use]
pub fn locate(text: &str, byte_offset: usize) -> (usize, usize) {
    let mut line = 1;
    let mut col = 1;
    for (at, character) in text.char_indices() {
        if at + character.len_utf8() > byte_offset {
            break;
        }
        if character == '\n' {
            line += 1;
            col = 1;
        } else {
            col += 1;
        }
    }
    (line, col)
}

/// Where the lines of a text begin: for many positions in a text of many lines.
pub struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// Looks through `text` once.
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        let after = |(at, character)| (character == '\n').then_some(at + 1);
        Self { text, starts: std::iter::once(0).chain(text.char_indices().filter_map(after)).collect() }
    }

    /// The same as [`locate`].
    #[must_use]
    pub fn locate(&self, byte_offset: usize) -> (usize, usize) {
        let before = self.starts.partition_point(|start| *start <= byte_offset).saturating_sub(1);
        let start = self.starts.get(before).copied().unwrap_or(0);
        let (_, col) = locate(self.text.get(start..).unwrap_or_default(), byte_offset - start);
        (before + 1, col)
    }
}

/// The candidate a person most likely meant, if one is near enough to be worth suggesting.
#[must_use]
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Below this likeness a suggestion confuses more than it helps.
const NEAR: f64 = 0.8;

#[cfg(test)]
mod tests {
    use super::{Lines, locate, suggest};

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = "a = 1\nµ = 2\n";
        assert_eq!(locate(text, 0), (1, 1));
        assert_eq!(locate(text, 6), (2, 1));
        assert_eq!(locate(text, 8), (2, 2), "two bytes of µ are one column");
        assert_eq!(locate(text, 999), (3, 1));
        let lines = Lines::of(text);
        for at in (0..text.len() + 3).chain([999]) {
            assert_eq!(lines.locate(at), locate(text, at), "{at}");
        }
    }

    #[test]
    fn a_misspelt_word_finds_its_neighbour_and_nonsense_finds_none() {
        let known = ["listen", "database", "epsilon_per_release"];
        assert_eq!(suggest("lisen", known), Some("listen"));
        assert_eq!(suggest("epsilon_per_relase", known), Some("epsilon_per_release"));
        assert_eq!(suggest("zzz", known), None);
    }
}
