//! Where a policy was read from, for whoever finds fault with it later than its reader.

use mica_diagnostic::{Diagnostic, Severity, locate};

use super::Policy;

impl Policy {
    /// The text that was read; [`Policy::sha256`] is of these bytes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The file as whoever read it called it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Something wrong with the value at this path of keys, or with the file where there is none. Its severity is that of
    /// an error; whoever means a warning sets it.
    pub fn finding(
        &self,
        path: &[&str],
        code: &str,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> Diagnostic {
        let document = toml_edit::Document::parse(self.text.as_str()).ok();
        let item = document.as_ref().and_then(|document| {
            path.iter().try_fold(document.as_item(), |item, key| item.as_table_like()?.get(key))
        });
        let (line, col) =
            locate(&self.text, item.and_then(toml_edit::Item::span).map_or(0, |span| span.start));
        Diagnostic {
            file: self.file.clone(),
            line,
            col,
            code: code.to_owned(),
            severity: Severity::Error,
            what: what.into(),
            fix: fix.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use mica_dap::vdaf_config::VdafConfig;

    use super::*;

    #[test]
    fn a_finding_about_a_value_has_its_place() {
        let text = Policy::for_demo("t", &VdafConfig::Count, 2, "1/10");
        let policy = Policy::parse("p.toml", &text).unwrap();
        let line = text.lines().position(|line| line.starts_with("version")).unwrap() + 1;
        let finding = policy.finding(&["policy", "version"], "E050", "what", "fix");
        assert_eq!(finding.to_string(), format!("p.toml:{line}:11: E050: what; fix"));
        assert_eq!(policy.finding(&["none"], "E050", "what", "fix").line, 1);
        assert_eq!((policy.text(), policy.file()), (text.as_str(), "p.toml"));
    }
}
