//! Where a peer's `Location` leads (DAP 3.2): below the endpoint that was configured and the task, or nowhere.
//!
//! Whoever follows it sends a token along. So nothing that a peer writes chooses scheme, host or port: what comes out
//! always begins with the endpoint as it was configured, and only what follows from the task on is taken over.

use crate::id::TaskId;
use crate::resource::join;

/// The URL of the resource that a peer's `Location` names in its answer to `asked`, always below `endpoint`.
///
/// Only what follows from `tasks/{task}/` on is taken from the peer, so a `Location` that lost the base path still
/// works, and none can lead credentials to another place. A reference without it is relative to the URL that was asked
/// (RFC 3986 5.2). Servers choose the identifiers, so they are not looked into beyond being plain.
pub fn follow(endpoint: &str, task: &TaskId, (asked, location): (&str, &str)) -> Option<String> {
    let below = format!("tasks/{task}/");
    if let Some(at) = location.rfind(&below) {
        let (before, tail) = location.split_at(at);
        return ((before.is_empty() || before.ends_with('/')) && plain(tail)).then(|| join(endpoint, tail));
    }
    let resource = asked.rfind(&below).and_then(|at| asked.get(at + below.len()..)).unwrap_or_default();
    let tail = resolve(resource.split('?').next().unwrap_or_default(), location)?;
    plain(&tail).then(|| join(endpoint, &format!("{below}{tail}")))
}

/// What a relative reference means in an answer of `resource`, both below the task: `aggregation_jobs` was asked, or
/// `aggregation_jobs/X`.
///
/// To the letter, `X` in an answer of `aggregation_jobs` would lie beside it, and `aggregation_jobs/X` in an answer of
/// `aggregation_jobs/X` below a second one. Nothing lies there, so both are taken for what they can only mean.
fn resolve(resource: &str, location: &str) -> Option<String> {
    let mut directory: Vec<&str> = resource.split('/').collect();
    directory.pop();
    if location.starts_with('?') {
        return (!directory.is_empty()).then(|| format!("{resource}{location}"));
    }
    let explicit = location.strip_prefix("./");
    let mut relative = explicit.unwrap_or(location);
    while let Some(above) = relative.strip_prefix("../") {
        directory.pop()?;
        relative = above;
    }
    let path = relative.split('?').next().unwrap_or_default();
    let first = path.split('/').next().unwrap_or_default();
    // `job:1` is a URL with the scheme `job`; `./job:1` is not.
    if first == "tasks" || (first.contains(':') && relative == location) {
        return None;
    }
    let kind = resource.split('/').next().unwrap_or_default();
    if first == kind {
        return (path != first).then(|| relative.to_owned());
    }
    if directory.is_empty() && path == first && !kind.is_empty() {
        return Some(format!("{kind}/{relative}"));
    }
    directory.push(relative);
    Some(directory.join("/"))
}

/// The same URL with this `step` in its query, as every question about an aggregation job has it (DAP 4.5.3.2). What the
/// peer wrote beside it stays.
pub fn with_step(url: &str, step: u16) -> String {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let others = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("step="));
    let query: Vec<String> = others.map(str::to_owned).chain([format!("step={step}")]).collect();
    format!("{path}?{}", query.join("&"))
}

/// Whether a URL asks for this step.
pub fn names_step(url: &str, step: u16) -> bool {
    url.split_once('?').is_some_and(|(_, query)| query.split('&').any(|pair| pair == format!("step={step}")))
}

/// Whether a relative path, with or without a query, can mean one thing only. What RFC 3986 allows in a path may be in
/// it, but for `;`: some servers leave out what follows it, and then `..;` leads up.
fn plain(target: &str) -> bool {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let letters =
        |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~%=&:@!$'()*+,".contains(&b));
    path.split('/').all(|part| !matches!(part, "" | "." | "..") && letters(part) && open(part))
        && letters(query)
        && open(query)
}

/// Whether no percent-encoding hides what would change the path: dots, slashes, spaces and what cannot be printed.
fn open(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.is_some_and(|byte| byte.is_ascii_graphic() && !b"./\\%?#".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TASK: TaskId = TaskId::new([0; 32]);
    const ZEROS: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn jobs() -> String {
        format!("https://h/helper/tasks/{ZEROS}/aggregation_jobs")
    }

    #[test]
    fn a_location_is_followed_below_the_endpoint_only() {
        let tail = format!("tasks/{ZEROS}/aggregation_jobs/abc-_?step=0");
        let expected = format!("https://h/helper/{tail}");
        for location in [
            tail.clone(),
            format!("/{tail}"),
            format!("/helper/{tail}"),
            format!("https://h/helper/{tail}"),
            format!("https://elsewhere.example/{tail}"),
            format!("//elsewhere.example/{tail}"),
            format!("http://h/helper/{tail}"),
            format!("https://h:444/{tail}"),
            format!("https://h@elsewhere.example/{tail}"),
            format!("\\\\elsewhere.example/{tail}"),
            format!("../../{tail}"),
            "aggregation_jobs/abc-_?step=0".to_owned(),
            "./aggregation_jobs/abc-_?step=0".to_owned(),
            "abc-_?step=0".to_owned(),
            "./abc-_?step=0".to_owned(),
        ] {
            let followed = follow("https://h/helper/", &TASK, (&jobs(), &location));
            assert_eq!(followed.as_ref(), Some(&expected), "{location}");
        }
    }

    #[test]
    fn a_relative_location_is_held_against_the_url_that_was_asked() {
        let job = format!("{}/abc-_", jobs());
        for asked in [job.clone(), format!("{job}?step=0")] {
            for location in [
                "abc-_?step=1",
                "./abc-_?step=1",
                "?step=1",
                "aggregation_jobs/abc-_?step=1",
                "../aggregation_jobs/abc-_?step=1",
            ] {
                let followed = follow("https://h/helper/", &TASK, (&asked, location));
                assert_eq!(followed, Some(format!("{job}?step=1")), "{location} from {asked}");
            }
            for location in ["../../x", "../../tasks/x", "../", "..", "aggregation_jobs", "x:y"] {
                assert_eq!(follow("https://h/helper/", &TASK, (&asked, location)), None, "{location}");
            }
        }
    }

    #[test]
    fn an_identifier_is_whatever_the_server_likes() {
        for id in ["a:b", "a+b", "a@b", "a,b", "~a", "(a)", "a!b*c'd$e", "a%7Eb", "urn:uuid:1", "a=b&c"] {
            let expected = Some(format!("{}/{id}?step=0", jobs()));
            for location in [
                format!("/helper/tasks/{ZEROS}/aggregation_jobs/{id}?step=0"),
                format!("aggregation_jobs/{id}?step=0"),
                format!("./{id}?step=0"),
            ] {
                let followed = follow("https://h/helper/", &TASK, (&jobs(), &location));
                assert_eq!(followed, expected, "{location}");
            }
        }
    }

    #[test]
    fn a_location_that_is_not_plain_is_not_followed() {
        for location in [
            String::new(),
            "/somewhere/else".to_owned(),
            "https://elsewhere.example/x".to_owned(),
            "//elsewhere.example/x".to_owned(),
            "?step=0".to_owned(),
            "../x".to_owned(),
            format!("/tasks/{}/aggregation_jobs/x", TaskId::new([1; 32])),
            format!("tasks/{}/aggregation_jobs/x", TaskId::new([1; 32])),
            format!("/tasks/{ZEROS}/"),
            format!("/tasks/{ZEROS}/aggregation_jobs/../x"),
            format!("/tasks/{ZEROS}/aggregation_jobs/%2e%2e/x"),
            format!("/tasks/{ZEROS}/aggregation_jobs/a%2Fb"),
            format!("/tasks/{ZEROS}/aggregation_jobs/a%0d%0ab"),
            format!("/tasks/{ZEROS}/aggregation_jobs/a%"),
            format!("/tasks/{ZEROS}//x"),
            format!("/tasks/{ZEROS}/aggregation_jobs/x#y"),
            format!("/tasks/{ZEROS}/aggregation_jobs/..;/x"),
            "aggregation_jobs/..;/x".to_owned(),
            "job:1".to_owned(),
            "aggregation_jobs".to_owned(),
            format!("/tasks/{ZEROS}/aggregation_jobs/x y"),
            format!("/tasks/{ZEROS}/aggregation_jobs/x\\y"),
            format!("/nottasks/{ZEROS}/aggregation_jobs/x"),
        ] {
            assert_eq!(follow("https://h/helper/", &TASK, (&jobs(), &location)), None, "{location}");
        }
    }

    #[test]
    fn a_question_about_a_job_always_names_its_step() {
        for (url, with) in [
            ("https://h/j", "https://h/j?step=1"),
            ("https://h/j?", "https://h/j?step=1"),
            ("https://h/j?a=b", "https://h/j?a=b&step=1"),
            ("https://h/j?step=1", "https://h/j?step=1"),
            ("https://h/j?step=0&a=b", "https://h/j?a=b&step=1"),
            ("https://h/j?misstep=0", "https://h/j?misstep=0&step=1"),
        ] {
            assert_eq!(with_step(url, 1), with);
            assert!(names_step(with, 1) && !names_step(with, 0) && !names_step(with, 11), "{with}");
        }
    }

    /// Pieces that URLs are made of, and those that are mistaken for them.
    fn piece() -> impl Strategy<Value = String> {
        let fixed = [
            "https://",
            "http://",
            "//",
            "/",
            "\\",
            "evil.example",
            "h",
            "@",
            ":",
            ":444",
            "..",
            ".",
            "%2e",
            "%2f",
            "%5c",
            "?",
            "#",
            "&",
            "step=0",
            " ",
            "\t",
            "\n",
            "helper",
            "tasks",
            ZEROS,
            "aggregation_jobs",
            "\u{2025}",
        ];
        let whole = format!("tasks/{ZEROS}/aggregation_jobs/x");
        prop_oneof![
            4 => proptest::sample::select(fixed.map(str::to_owned).to_vec()),
            1 => Just(whole),
            1 => ".{0,4}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_location_leads_a_token_to_another_place(
            pieces in proptest::collection::vec(piece(), 0..9),
            resource in proptest::sample::select(vec!["aggregation_jobs", "aggregation_jobs/x", "aggregation_jobs/x?step=0"]),
        ) {
            let location = pieces.concat();
            for endpoint in ["https://h/helper/", "https://h:8443", "http://127.0.0.1:1/a/b"] {
                let base = format!("{}/tasks/{ZEROS}/", endpoint.trim_end_matches('/'));
                let asked = format!("{base}{resource}");
                let Some(url) = follow(endpoint, &TASK, (&asked, &location)) else { continue };
                let below = url.strip_prefix(&base);
                prop_assert!(below.is_some(), "{location:?} became {url}");
                let path = below.and_then(|below| below.split('?').next()).unwrap_or_default();
                prop_assert!(path.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
                let harmless = |byte: u8| byte.is_ascii_graphic() && !b"\\#;<>\"".contains(&byte);
                prop_assert!(url.bytes().all(harmless), "{url}");
                prop_assert!(with_step(&url, 1).contains("step="));
            }
        }
    }
}
