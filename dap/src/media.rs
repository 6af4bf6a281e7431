//! Media types of the messages (DAP 9.1), written and recognised.
//!
//! They are the only thing besides method and path that tells messages apart, so they are parsed, not
//! searched.

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Media {
    /// [`crate::hpke_config::HpkeConfigList`].
    HpkeConfigList,
    /// [`crate::report::UploadRequest`].
    UploadReq,
    /// [`crate::report::UploadErrors`].
    UploadErrors,
    /// [`crate::aggregation::AggregationJobInitReq`].
    AggregationJobInitReq,
    /// [`crate::aggregation::AggregationJobContinueReq`].
    AggregationJobContinueReq,
    /// [`crate::aggregation::AggregationJobResp`].
    AggregationJobResp,
    /// [`crate::collection::CollectionJobReq`].
    CollectionJobReq,
    /// [`crate::collection::CollectionJobResp`].
    CollectionJobResp,
    /// [`crate::collection::AggregateShareReq`].
    AggregateShareReq,
    /// [`crate::collection::AggregateShare`].
    AggregateShare,
    /// [`crate::problem::ProblemDocument`].
    Problem,
}

impl Media {
    /// Every media type.
    pub const ALL: [Self; 11] = [
        Self::HpkeConfigList,
        Self::UploadReq,
        Self::UploadErrors,
        Self::AggregationJobInitReq,
        Self::AggregationJobContinueReq,
        Self::AggregationJobResp,
        Self::CollectionJobReq,
        Self::CollectionJobResp,
        Self::AggregateShareReq,
        Self::AggregateShare,
        Self::Problem,
    ];

    /// The value of a `Content-Type` header.
    pub const fn header(self) -> &'static str {
        match self {
            Self::HpkeConfigList => "application/ppm-dap;message=hpke-config-list",
            Self::UploadReq => "application/ppm-dap;message=upload-req",
            Self::UploadErrors => "application/ppm-dap;message=upload-errors",
            Self::AggregationJobInitReq => "application/ppm-dap;message=aggregation-job-init-req",
            Self::AggregationJobContinueReq => "application/ppm-dap;message=aggregation-job-continue-req",
            Self::AggregationJobResp => "application/ppm-dap;message=aggregation-job-resp",
            Self::CollectionJobReq => "application/ppm-dap;message=collection-job-req",
            Self::CollectionJobResp => "application/ppm-dap;message=collection-job-resp",
            Self::AggregateShareReq => "application/ppm-dap;message=aggregate-share-req",
            Self::AggregateShare => "application/ppm-dap;message=aggregate-share",
            Self::Problem => "application/problem+json",
        }
    }

    /// Whether the value of a `Content-Type` header says this.
    ///
    /// Letter case of the type and of parameter names, order of parameters, quotes and white space do not
    /// matter; `version` and unknown parameters are passed over, a `message` given twice is refused.
    pub fn matches(self, header: &str) -> bool {
        Self::parse(header) == Some(self)
    }

    /// What the value of a `Content-Type` header says, if it is one of ours.
    pub fn parse(header: &str) -> Option<Self> {
        let (essence, parameters) = header.split_once(';').unwrap_or((header, ""));
        let essence = essence.trim_matches(WHITE_SPACE);
        let mut rest = skip_empty(parameters);
        let mut message = None;
        while !rest.is_empty() {
            let (name, value, after) = next_parameter(rest)?;
            if name.eq_ignore_ascii_case("message") && message.replace(value).is_some() {
                return None;
            }
            rest = skip_empty(after);
        }
        if essence.eq_ignore_ascii_case("application/problem+json") {
            return Some(Self::Problem);
        }
        if !essence.eq_ignore_ascii_case("application/ppm-dap") {
            return None;
        }
        let message = message?;
        Self::ALL.into_iter().find(|media| media.message() == Some(message.as_str()))
    }

    fn message(self) -> Option<&'static str> {
        self.header().split_once("message=").map(|(_, message)| message)
    }
}

/// The next `name=value` of a parameter list that is not empty, and what follows it, as RFC 9110 5.6.6 has it.
fn next_parameter(list: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = list.split_once('=')?;
    if !is_token(name) {
        return None;
    }
    let (value, after) = if let Some(quoted) = rest.strip_prefix('"') {
        unquote(quoted)?
    } else {
        let (value, after) = rest.split_at(rest.find([';', ' ', '\t']).unwrap_or(rest.len()));
        (is_token(value).then(|| value.to_owned())?, after)
    };
    let after = after.trim_start_matches(WHITE_SPACE);
    (after.is_empty() || after.starts_with(';')).then_some((name, value, after))
}

/// A parameter list without the empty parameters that it begins with.
fn skip_empty(list: &str) -> &str {
    list.trim_start_matches(|letter| letter == ';' || WHITE_SPACE.contains(&letter))
}

/// The text up to the closing quote, and what follows it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = quoted.chars();
    loop {
        match letters.next()? {
            '"' => return Some((value, letters.as_str())),
            '\\' => value.push(letters.next()?),
            letter if letter.is_control() && letter != '\t' => return None,
            letter => value.push(letter),
        }
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

const WHITE_SPACE: &[char] = &[' ', '\t'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_media_type_recognises_itself_only() {
        for media in Media::ALL {
            for other in Media::ALL {
                assert_eq!(media.matches(other.header()), media == other);
            }
        }
    }

    #[test]
    fn spelling_does_not_matter_where_the_rules_say_so() {
        for header in [
            "Application/PPM-DAP; Message=upload-req",
            "application/ppm-dap ;\tmessage=\"upload-req\"",
            "application/ppm-dap;version=18;message=upload-req",
            "application/ppm-dap;message=upload-req ; version=\"a;b\\\"c\"",
            "application/ppm-dap;;message=upload-req;",
            "application/ppm-dap;message=\"upload\\-req\"",
        ] {
            assert!(Media::UploadReq.matches(header), "{header}");
        }
        assert!(Media::Problem.matches("application/problem+json; charset=utf-8"));
    }

    #[test]
    fn what_is_not_a_media_type_of_ours_is_refused() {
        for header in [
            "",
            ";",
            "application/ppm-dap",
            "application/ppm-dap;message",
            "application/ppm-dap;message=",
            "application/ppm-dap;message=upload-req x",
            "application/ppm-dap;message=\"upload-req",
            "application/ppm-dap;message=\"upload-req\"x",
            "application/ppm-dap;message=UPLOAD-REQ",
            "application/ppm-dap;message=upload-req;message=upload-req",
            "application/ppm-dap;message=upload-req2",
            "application/ppm-dapx;message=upload-req",
            "application/ppm-dap,message=upload-req",
            "application/ppm-dap;message = upload-req",
            "application/dap-report;message=upload-req",
        ] {
            assert_eq!(Media::parse(header), None, "{header}");
        }
    }
}
