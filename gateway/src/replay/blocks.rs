//! How a process that is alone keeps answers, on SQLite: whatever is written together is one row behind the others.
//!
//! A row for each request would be a page of the index for each, written and written again, because digests come in no
//! order. A block is read again when the process starts, and when one of its requests is sent again after that.

use mica_envelope::EncDigest;
use mica_service::store::{Bound, Fields, Line, StoreError, Tx};

use super::Answer;
use super::table::{Current, Left, Table};

/// Where the answer to a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    table: Table,
    row: i64,
}

/// A request that was answered.
pub(super) struct Known {
    pub(super) enc: EncDigest,
    pub(super) place: Place,
    /// Bytes of its locked answer.
    pub(super) bytes: usize,
}

/// One row for all of these.
fn block(answers: &[&Left]) -> Vec<u8> {
    let length = answers.iter().map(|left| HEAD + left.answer.len()).sum();
    let mut block = Vec::with_capacity(length);
    for Left { enc, answer } in answers {
        let length =
            u32::try_from(answer.len()).expect("answers are shorter than the four gigabytes of a message");
        block.extend_from_slice(enc.as_bytes());
        block.extend_from_slice(&length.to_be_bytes());
        block.extend_from_slice(answer);
    }
    block
}

/// The next of a block, and what comes after it.
fn next(block: &[u8]) -> Option<(EncDigest, &[u8], &[u8])> {
    let (enc, rest) = block.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (answer, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    Some((EncDigest::from_bytes(*enc), answer, rest))
}

/// Puts the answers behind the others, unless the generation is over. Whether it is done.
pub(super) async fn leave_at_once(
    line: &Line,
    current: Current,
    answers: &[&Left],
) -> Result<bool, StoreError> {
    let block = block(answers);
    let append = || append(current.table, current.generation, block.clone());
    Ok(line.execute("leave_answers", append).await? > 0)
}

/// The same in a transaction that has looked which generation it is.
pub(super) async fn leave(tx: &mut Tx, current: Current, answers: &[&Left]) -> Result<(), StoreError> {
    if !answers.is_empty() {
        append(current.table, current.generation, block(answers)).execute(tx.connection()).await?;
    }
    Ok(())
}

fn append<'q>(table: Table, generation: i64, block: Vec<u8>) -> Bound<'q> {
    let statement = match table {
        Table::Even => {
            "-- leave_block\nINSERT INTO gateway_blocks_even (answers) \
             SELECT $1 FROM gateway_memory WHERE id = 1 AND generation = $2"
        }
        Table::Odd => {
            "-- leave_block\nINSERT INTO gateway_blocks_odd (answers) \
             SELECT $1 FROM gateway_memory WHERE id = 1 AND generation = $2"
        }
    };
    sqlx::query(statement).bind(block).bind(generation)
}

/// All that is in a table. It is read in pieces.
pub(super) async fn all(tx: &mut Tx, table: Table) -> Result<Vec<Known>, StoreError> {
    let statement = match table {
        Table::Even => {
            "-- blocks\nSELECT rowid AS number, answers FROM gateway_blocks_even WHERE rowid > $1 ORDER BY rowid LIMIT 64"
        }
        Table::Odd => {
            "-- blocks\nSELECT rowid AS number, answers FROM gateway_blocks_odd WHERE rowid > $1 ORDER BY rowid LIMIT 64"
        }
    };
    let (mut known, mut last) = (Vec::new(), i64::MIN);
    loop {
        let rows = sqlx::query(statement).bind(last).fetch_all(tx.connection()).await?;
        if rows.is_empty() {
            return Ok(known);
        }
        for row in rows {
            let fields = Fields::of(TABLE, &row);
            let (number, block) = (fields.integer("number")?, fields.bytes("answers")?);
            let place = Place { table, row: number };
            let mut rest = block.as_slice();
            while !rest.is_empty() {
                let (enc, answer, after) = next(rest).ok_or_else(|| StoreError::corrupt(TABLE, "answers"))?;
                known.push(Known { enc, place, bytes: answer.len() });
                rest = after;
            }
            last = number;
        }
    }
}

/// The locked answer to a request that is in this place, unless that was given to others since.
pub(super) async fn look_up(tx: &mut Tx, place: Place, enc: EncDigest) -> Result<Option<Answer>, StoreError> {
    let statement = match place.table {
        Table::Even => "-- look_up_block\nSELECT answers FROM gateway_blocks_even WHERE rowid = $1",
        Table::Odd => "-- look_up_block\nSELECT answers FROM gateway_blocks_odd WHERE rowid = $1",
    };
    let row = sqlx::query(statement).bind(place.row).fetch_optional(tx.connection()).await?;
    let Some(row) = row else { return Ok(None) };
    let block = Fields::of(TABLE, &row).bytes("answers")?;
    let mut rest = block.as_slice();
    while let Some((found, answer, after)) = next(rest) {
        if found == enc {
            return Ok(Some(Answer::copy_from_slice(answer)));
        }
        rest = after;
    }
    Ok(None)
}

/// Takes over what a version kept that had a row for each request.
pub(super) async fn take_in(tx: &mut Tx, current: Current) -> Result<(), StoreError> {
    for table in [current.table, current.table.other()] {
        let rows = single(tx, table).await?;
        for rows in rows.chunks(TOGETHER) {
            let rows: Vec<&Left> = rows.iter().collect();
            append(table, current.generation, block(&rows)).execute(tx.connection()).await?;
        }
        forget_single(tx, table).await?;
    }
    Ok(())
}

async fn single(tx: &mut Tx, table: Table) -> Result<Vec<Left>, StoreError> {
    let statement = match table {
        Table::Even => "-- single\nSELECT enc, answer FROM gateway_answers_even WHERE answer IS NOT NULL",
        Table::Odd => "-- single\nSELECT enc, answer FROM gateway_answers_odd WHERE answer IS NOT NULL",
    };
    let rows = sqlx::query(statement).fetch_all(tx.connection()).await?;
    let left = |row| {
        let fields = Fields::of("gateway_answers", row);
        Ok(Left { enc: EncDigest::from_bytes(fields.array("enc")?), answer: fields.bytes("answer")? })
    };
    rows.iter().map(left).collect()
}

async fn forget_single(tx: &mut Tx, table: Table) -> Result<(), StoreError> {
    let statement = match table {
        Table::Even => "-- forget_single\nDELETE FROM gateway_answers_even",
        Table::Odd => "-- forget_single\nDELETE FROM gateway_answers_odd",
    };
    sqlx::query(statement).execute(tx.connection()).await?;
    Ok(())
}

const TABLE: &str = "gateway_blocks";
/// Bytes before each answer of a block.
const HEAD: usize = 16 + 4;
const TOGETHER: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_as_it_was_written_and_no_further() {
        let left = |number: u8, answer: &[u8]| Left {
            enc: EncDigest::from_bytes([number; 16]),
            answer: answer.to_vec(),
        };
        let lefts = [left(1, b"one"), left(2, b""), left(3, &[7; 300])];
        let whole = block(&lefts.iter().collect::<Vec<_>>());
        let (mut rest, mut found) = (whole.as_slice(), Vec::new());
        while let Some((enc, answer, after)) = next(rest) {
            found.push((enc.as_bytes()[0], answer.len()));
            rest = after;
        }
        assert_eq!((found, rest.len()), (vec![(1, 3), (2, 0), (3, 300)], 0));
        for cut in 0..HEAD + 3 {
            assert!(next(&whole[..cut]).is_none(), "{cut} bytes are no answer");
        }
        assert!(block(&[]).is_empty());
    }
}
