//! What PostgreSQL is asked for a whole group of requests: one statement to claim them, one to leave their answers.
//!
//! A round trip and a value that is bound cost a gateway more than a row costs the server, so a group goes as one array.
//! Each statement takes effect only in the generation that its caller believes to be the current one.

use std::fmt::Write as _;

use mica_envelope::EncDigest;
use mica_service::store::{Fields, StoreError, Tx, signed};

use super::Answer;
use super::table::{Current, Left, Row, Table};

/// What became of a group.
pub(super) struct Claimed {
    /// Those that are ours now.
    pub(super) ours: Vec<EncDigest>,
    /// What is stored of others.
    pub(super) found: Vec<Row>,
}

/// Looks the requests up and claims those that nobody has claimed; a request that is in neither list was claimed by
/// somebody else meanwhile, or the generation is over. A claim that is lost in a crash is a claim nobody works on: its
/// commit need not wait for the disk.
pub(super) async fn claim(
    tx: &mut Tx,
    current: Current,
    encs: &[EncDigest],
    until: u64,
) -> Result<Claimed, StoreError> {
    let statement = match current.table {
        Table::Even => CLAIM_EVEN,
        Table::Odd => CLAIM_ODD,
    };
    let wanted = array(encs.iter().map(|enc| &enc.as_bytes()[..]));
    let query = sqlx::query(statement).bind(wanted).bind(signed(until)?).bind(current.generation);
    let mut claimed = Claimed { ours: Vec::new(), found: Vec::new() };
    for row in query.fetch_all(tx.connection()).await? {
        let fields = Fields::of("gateway_answers", &row);
        if fields.integer("claimed_until")? < 0 {
            let all = fields.optional_bytes("enc")?.unwrap_or_default();
            claimed.ours.extend(all.as_chunks().0.iter().copied().map(EncDigest::from_bytes));
        } else {
            claimed.found.push(Row {
                enc: EncDigest::from_bytes(fields.array("enc")?),
                answer: fields.optional_bytes("answer")?.map(Answer::from),
                claimed_until: fields.unsigned("claimed_until")?,
            });
        }
    }
    Ok(claimed)
}

/// Stores the answers, unless the generation is over. One that is there already stays. Whether it is done.
pub(super) async fn leave(tx: &mut Tx, current: Current, answers: &[Left]) -> Result<bool, StoreError> {
    let statement = match current.table {
        Table::Even => LEAVE_EVEN,
        Table::Odd => LEAVE_ODD,
    };
    let encs = array(answers.iter().map(|left| left.enc.as_slice()));
    let contents = array(answers.iter().map(|left| left.answer.as_slice()));
    let query = sqlx::query(statement).bind(encs).bind(contents).bind(current.generation);
    let done = query.execute(tx.connection()).await?;
    Ok(done.rows_affected() > 0)
}

/// `{"\\x0a","\\x0b"}`: an array of bytes as text.
fn array<'b>(elements: impl Iterator<Item = &'b [u8]>) -> String {
    let mut text = String::from("{");
    for (at, element) in elements.enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(text, "{comma}\"\\\\x{}\"", hex::encode(element)).expect("a string can always be written to");
    }
    text.push('}');
    text
}

macro_rules! claim_in {
    ($table:literal) => {
        concat!(
            "-- claim_group\nWITH found AS (\
             SELECT enc, answer, claimed_until FROM gateway_answers_even WHERE enc = ANY(CAST($1 AS BYTEA[])) \
             UNION ALL \
             SELECT enc, answer, claimed_until FROM gateway_answers_odd WHERE enc = ANY(CAST($1 AS BYTEA[]))\
             ), claimed AS (INSERT INTO ",
            $table,
            " (enc, claimed_until) \
             SELECT enc, $2 FROM UNNEST(CAST($1 AS BYTEA[])) AS wanted (enc) \
             WHERE enc NOT IN (SELECT enc FROM found) \
             AND (SELECT generation FROM gateway_memory WHERE id = 1) = $3 \
             ORDER BY enc ON CONFLICT (enc) DO NOTHING RETURNING enc) \
             SELECT enc, answer, claimed_until FROM found UNION ALL \
             SELECT (SELECT STRING_AGG(enc, CAST('' AS BYTEA)) FROM claimed), CAST(NULL AS BYTEA), CAST(-1 AS BIGINT) \
             WHERE SET_CONFIG('synchronous_commit', 'off', TRUE) = 'off'"
        )
    };
}

macro_rules! leave_in {
    ($table:literal) => {
        concat!(
            "-- leave_group\nINSERT INTO ",
            $table,
            " AS kept (enc, answer, claimed_until) \
             SELECT enc, answer, 0 FROM UNNEST(CAST($1 AS BYTEA[]), CAST($2 AS BYTEA[])) AS given (enc, answer) \
             WHERE (SELECT generation FROM gateway_memory WHERE id = 1) = $3 \
             ORDER BY enc ON CONFLICT (enc) DO UPDATE SET answer = COALESCE(kept.answer, excluded.answer)"
        )
    };
}

const CLAIM_EVEN: &str = claim_in!("gateway_answers_even");
const CLAIM_ODD: &str = claim_in!("gateway_answers_odd");
const LEAVE_EVEN: &str = leave_in!("gateway_answers_even");
const LEAVE_ODD: &str = leave_in!("gateway_answers_odd");

#[cfg(test)]
mod tests {
    use super::array;

    #[test]
    fn an_array_is_written_as_the_server_reads_it() {
        assert_eq!(array([&[10, 255][..], &[]].into_iter()), r#"{"\\x0aff","\\x"}"#);
        assert_eq!(array(std::iter::empty()), "{}");
    }
}
