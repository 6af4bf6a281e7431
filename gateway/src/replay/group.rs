//! What PostgreSQL is asked for a whole group of requests: one statement to claim them, one to leave their answers.
//!
//! A round trip and a value that is bound cost a gateway more than a row costs the server, so a group goes as one array,
//! and its statement is the whole transaction. Each takes effect only in the generation that its caller believes to be the
//! current one. Arrays are in the order of their digests, so that replicas do not wait for each other in a circle.

use std::fmt::Write as _;

use mica_envelope::EncDigest;
use mica_service::store::{Fields, Line, StoreError, Tx, signed};

use super::Answer;
use super::table::{Current, Left, Row, Table};

/// Claims those requests that nobody has claimed or answered, and returns them; none when the generation is over. A claim
/// that is lost in a crash is a claim nobody works on: its commit need not wait for the disk.
pub(super) async fn claim(
    line: &Line,
    current: Current,
    encs: &[EncDigest],
    until: u64,
) -> Result<Vec<EncDigest>, StoreError> {
    let statement = match current.table {
        Table::Even => CLAIM_EVEN,
        Table::Odd => CLAIM_ODD,
    };
    let (wanted, until) = (digests(encs), signed(until)?);
    let claim = || sqlx::query(statement).bind(wanted.clone()).bind(until).bind(current.generation);
    let mut ours = Vec::with_capacity(encs.len());
    for row in line.fetch_all("claim_answers", claim).await? {
        let all = Fields::of("gateway_answers", &row).optional_bytes("ours")?.unwrap_or_default();
        ours.extend(all.as_chunks().0.iter().copied().map(EncDigest::from_bytes));
    }
    Ok(ours)
}

/// What is stored of these requests.
pub(super) async fn look_up(tx: &mut Tx, encs: &[EncDigest]) -> Result<Vec<Row>, StoreError> {
    let rows = sqlx::query(LOOK_UP).bind(digests(encs)).fetch_all(tx.connection()).await?;
    let read = |row| {
        let fields = Fields::of("gateway_answers", row);
        Ok(Row {
            enc: EncDigest::from_bytes(fields.array("enc")?),
            answer: fields.optional_bytes("answer")?.map(Answer::from),
            claimed_until: fields.unsigned("claimed_until")?,
        })
    };
    rows.iter().map(read).collect()
}

/// Stores the answers, unless the generation is over: then it writes no row. One that is there already stays.
pub(super) async fn leave(line: &Line, current: Current, answers: &[&Left]) -> Result<bool, StoreError> {
    let statement = match current.table {
        Table::Even => LEAVE_EVEN,
        Table::Odd => LEAVE_ODD,
    };
    let encs = array(answers.iter().map(|left| &left.enc.as_bytes()[..]));
    let contents = array(answers.iter().map(|left| left.answer.as_slice()));
    let leave = || sqlx::query(statement).bind(encs.clone()).bind(contents.clone()).bind(current.generation);
    Ok(line.execute("leave_answers", leave).await? > 0)
}

fn digests(encs: &[EncDigest]) -> String {
    array(encs.iter().map(|enc| &enc.as_bytes()[..]))
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

/// Nothing in it is left to what the server believes to know of these tables, which fill and empty faster than it looks: a
/// single row is looked up in the older table, and a row that is there already is met at its key.
macro_rules! claim_in {
    ($table:literal, $older:literal) => {
        concat!(
            "-- claim_group\nWITH claimed AS (INSERT INTO ",
            $table,
            " (enc, claimed_until) \
             SELECT enc, $2 FROM UNNEST(CAST($1 AS BYTEA[])) AS wanted (enc) \
             WHERE (SELECT older.claimed_until FROM ",
            $older,
            " AS older WHERE older.enc = wanted.enc) IS NULL \
             AND (SELECT generation FROM gateway_memory WHERE id = 1) = $3 \
             ON CONFLICT (enc) DO NOTHING RETURNING enc) \
             SELECT (SELECT STRING_AGG(enc, CAST('' AS BYTEA)) FROM claimed) AS ours \
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
             ON CONFLICT (enc) DO UPDATE SET answer = COALESCE(kept.answer, excluded.answer)"
        )
    };
}

const CLAIM_EVEN: &str = claim_in!("gateway_answers_even", "gateway_answers_odd");
const CLAIM_ODD: &str = claim_in!("gateway_answers_odd", "gateway_answers_even");
const LEAVE_EVEN: &str = leave_in!("gateway_answers_even");
const LEAVE_ODD: &str = leave_in!("gateway_answers_odd");
const LOOK_UP: &str = "-- look_up\nSELECT wanted.enc, kept.answer, kept.claimed_until \
    FROM UNNEST(CAST($1 AS BYTEA[])) AS wanted (enc) CROSS JOIN LATERAL (\
    SELECT answer, claimed_until FROM gateway_answers_even AS even WHERE even.enc = wanted.enc UNION ALL \
    SELECT answer, claimed_until FROM gateway_answers_odd AS odd WHERE odd.enc = wanted.enc) AS kept";

#[cfg(test)]
mod tests {
    use mica_service::store::Fields;

    use super::{CLAIM_EVEN, CLAIM_ODD, LOOK_UP, array};

    /// The server was left to choose, and read the whole table for each group while it knew nothing of it.
    #[tokio::test]
    async fn requests_are_looked_up_by_their_key_in_tables_that_nobody_has_analysed() {
        let Some(database) = mica_service::testing::postgres().await else { return };
        let store = database.open(&crate::MIGRATOR).await.unwrap();
        let line = store.line();
        let [even, odd] = ["even", "odd"].map(|name| {
            format!(
                "INSERT INTO gateway_answers_{name} (enc, claimed_until) \
                 SELECT DECODE(MD5('{name}' || number), 'hex'), 0 FROM GENERATE_SERIES(1, 3000) AS all_of (number)"
            )
        });
        // With the older generation empty, and full; and with both full.
        for fill in [None, Some(even), Some(odd)] {
            if let Some(fill) = fill {
                line.execute("fill", || sqlx::query(sqlx::AssertSqlSafe(fill.clone()))).await.unwrap();
            }
            let wanted =
                array((0..40_u8).map(|number| [number; 16]).collect::<Vec<_>>().iter().map(|enc| &enc[..]));
            for statement in [CLAIM_EVEN, CLAIM_ODD, LOOK_UP] {
                let explained = format!("EXPLAIN {statement}");
                let explain = || {
                    let query = sqlx::query(sqlx::AssertSqlSafe(explained.clone())).bind(wanted.clone());
                    if statement == LOOK_UP { query } else { query.bind(1_i64).bind(0_i64) }
                };
                let rows = line.fetch_all("explain", explain).await.unwrap();
                let plan: Vec<String> =
                    rows.iter().map(|row| Fields::of("plan", row).text("QUERY PLAN").unwrap()).collect();
                assert!(
                    plan.len() > 3 && !plan.iter().any(|step| step.contains("Seq Scan on gateway_answers")),
                    "{plan:#?}"
                );
            }
        }
    }

    #[test]
    fn an_array_is_written_as_the_server_reads_it() {
        assert_eq!(array([&[10, 255][..], &[]].into_iter()), r#"{"\\x0aff","\\x"}"#);
        assert_eq!(array(std::iter::empty()), "{}");
    }
}
