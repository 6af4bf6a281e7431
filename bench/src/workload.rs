//! What is measured: invented measurements whose totals are known, and the reports made of them beforehand.

use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use mica_client::ReportBuilder;
use mica_dap::codec::Encode as _;
use mica_dap::media::Media;
use mica_dap::resource::Resource;
use mica_dap::vdaf::Measurement;
use mica_dap::vdaf_config::VdafConfig;
use mica_envelope::{ClientEnvelope, InnerRequest, KeyConfigList, Opener};

use crate::parties::Task;

/// The measurement of client `number`: never random, so that everybody knows the total.
pub(crate) fn measurement(config: &VdafConfig, number: u32) -> Measurement {
    let spread = |at: u32| number.wrapping_mul(37).wrapping_add(at.wrapping_mul(11));
    match *config {
        VdafConfig::Count => Measurement::Bool(number.is_multiple_of(3)),
        VdafConfig::Sum { max_measurement } => {
            Measurement::Integer(u64::from(spread(1)) % (max_measurement + 1))
        }
        VdafConfig::SumVec { length, max_measurement, .. } => {
            Measurement::Vector((0..length).map(|at| u64::from(spread(at)) % (max_measurement + 1)).collect())
        }
        VdafConfig::Histogram { length, .. } => Measurement::Bucket(spread(0) % length),
        VdafConfig::MultihotCountVec { length, max_weight, .. } => {
            let chosen = |at: u32| u64::from((at + length - number % length) % length) < max_weight;
            Measurement::Set((0..length).map(chosen).collect())
        }
        VdafConfig::Poplar1 { bits } => {
            Measurement::Bits((0..u32::from(bits)).map(|at| spread(at) % 2 == 1).collect())
        }
    }
}

/// The sum over the first `reports` clients, coordinate by coordinate.
pub(crate) fn expected(config: &VdafConfig, reports: u32) -> Vec<i128> {
    let mut sum = vec![0_i128; config.length()];
    for number in 0..reports {
        match measurement(config, number) {
            Measurement::Bool(yes) => add(&mut sum, 0, u64::from(yes)),
            Measurement::Integer(value) => add(&mut sum, 0, value),
            Measurement::Vector(values) => {
                values.into_iter().enumerate().for_each(|(at, value)| add(&mut sum, at, value));
            }
            Measurement::Bucket(bucket) => add(&mut sum, usize::try_from(bucket).unwrap_or(usize::MAX), 1),
            Measurement::Set(set) | Measurement::Bits(set) => {
                set.into_iter().enumerate().for_each(|(at, chosen)| add(&mut sum, at, u64::from(chosen)));
            }
        }
    }
    sum
}

fn add(sum: &mut [i128], at: usize, value: u64) {
    if let Some(coordinate) = sum.get_mut(at) {
        *coordinate += i128::from(value);
    }
}

/// Reports as clients upload them, one per request, made on all cores.
pub(crate) fn reports(builder: &ReportBuilder, task: &Task, count: u32) -> Result<Vec<Bytes>> {
    let config = task.configuration.vdaf();
    on_all_cores(count, |number| {
        let report = builder.report(&measurement(config, number), task.time)?;
        Ok(Bytes::from(report.encoded()))
    })
}

/// The same requests inside envelopes, and what opens the answers.
pub(crate) fn envelopes(
    reports: &[Bytes],
    task: &Task,
    keys: &KeyConfigList,
) -> Result<Vec<(Bytes, Opener)>> {
    let count = u32::try_from(reports.len()).context("too many reports")?;
    on_all_cores(count, |number| {
        let report = usize::try_from(number).ok().and_then(|number| reports.get(number));
        let request = inner_request(task, report.cloned().unwrap_or_default())?;
        let (sealed, opener) = ClientEnvelope::seal(keys, &request)?;
        Ok((Bytes::from(sealed), opener))
    })
}

/// Makes sure that every envelope came back with a success and nothing to say inside.
pub(crate) fn open_answers(openers: Vec<Opener>, answers: Vec<(usize, Bytes)>) -> Result<()> {
    let (sent, answered) = (openers.len(), answers.len());
    ensure!(answered == sent, "{} envelopes came back empty", sent.saturating_sub(answered));
    let mut openers: Vec<Option<Opener>> = openers.into_iter().map(Some).collect();
    for (number, sealed) in answers {
        let opener = openers.get_mut(number).and_then(Option::take).context("an answer nobody asked for")?;
        let answer = opener.open(&sealed).context("an answer does not open")?;
        if answer.status != 200 || !answer.body.is_empty() {
            bail!("an upload was answered with {} inside the envelope", answer.status);
        }
    }
    Ok(())
}

/// An upload as the gateway finds it in the envelope.
pub(crate) fn inner_request(task: &Task, report: Bytes) -> Result<InnerRequest> {
    let url = Resource::Reports(task.id).url(task.configuration.leader_url());
    let url: http::Uri = url.parse().context("the leader's URL")?;
    Ok(InnerRequest {
        method: "POST".to_owned(),
        scheme: "http".to_owned(),
        authority: url.authority().context("the leader's URL has no host")?.as_str().to_owned(),
        path: url.path().to_owned(),
        headers: vec![("content-type".to_owned(), Media::UploadReq.header().as_bytes().to_vec())],
        body: report,
    })
}

/// `make` of each number below `count`, in order.
fn on_all_cores<T: Send>(count: u32, make: impl Fn(u32) -> Result<T> + Sync) -> Result<Vec<T>> {
    let cores = thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    let share = count.div_ceil(cores).max(1);
    let make = &make;
    thread::scope(|scope| {
        let part = |core: u32| {
            let numbers = core * share..count.min((core + 1) * share);
            scope.spawn(move || numbers.map(make).collect::<Result<Vec<T>>>())
        };
        let parts: Vec<_> = (0..cores).map(part).collect();
        let mut all = Vec::new();
        for part in parts {
            all.extend(part.join().map_err(|_| anyhow::anyhow!("a thread that makes reports has failed"))??);
        }
        Ok(all)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measurement_fits_its_task_and_the_total_follows() {
        for config in [
            VdafConfig::Count,
            VdafConfig::Sum { max_measurement: 9 },
            VdafConfig::sum_vec(7, 3),
            VdafConfig::histogram(7),
            VdafConfig::multihot(7, 3),
        ] {
            for number in 0..100 {
                measurement(&config, number).check(&config).unwrap();
            }
            assert_eq!(expected(&config, 0), vec![0; config.length()]);
        }
        assert_eq!(expected(&VdafConfig::Count, 9), [3]);
        assert_eq!(expected(&VdafConfig::histogram(7), 700), [100; 7]);
        assert_eq!(expected(&VdafConfig::multihot(7, 3), 7), [3; 7]);
    }

    #[test]
    fn what_all_cores_make_is_in_order() {
        let made = on_all_cores(1_001, |number| Ok(number * 2)).unwrap();
        assert_eq!(made, (0..1_001).map(|number| number * 2).collect::<Vec<_>>());
        assert!(
            on_all_cores(10, |number| if number == 7 { Err(anyhow::anyhow!("no")) } else { Ok(()) }).is_err()
        );
    }
}
