//! Whether an order tells something of another: whole orders are counted, since one place may look drawn while all the
//! others follow from it.

use super::*;

/// How often each order of so many was seen, beside how often somebody stayed at the own place.
struct Orders {
    many: usize,
    counts: Vec<u32>,
    stayed: u32,
}

impl Orders {
    fn new(many: usize) -> Self {
        Self { many, counts: vec![0; (1..=many).product()], stayed: 0 }
    }

    /// `first` tells who was where before, `then` where they were afterwards.
    fn note(&mut self, first: &[usize], then: &[usize]) {
        let places: Vec<usize> =
            first.iter().map(|who| then.iter().position(|other| other == who).unwrap()).collect();
        self.stayed +=
            u32::try_from(places.iter().zip(0..).filter(|(to, from)| **to == *from).count()).unwrap();
        self.counts[number(&places)] += 1;
    }

    fn rounds(&self) -> u32 {
        self.counts.iter().sum()
    }

    /// Of uniformly drawn orders this has the chi-square distribution of one degree of freedom less than there are orders.
    fn chi_square(&self) -> f64 {
        let expected = f64::from(self.rounds()) / float(self.counts.len());
        self.counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
    }

    /// What uniform orders exceed once in a million times (Wilson and Hilferty's approximation).
    fn limit(&self) -> f64 {
        let freedom = float(self.counts.len() - 1);
        let spread = 2.0 / (9.0 * freedom);
        freedom * (1.0 - spread + ONE_IN_A_MILLION * spread.sqrt()).powi(3)
    }

    /// How often somebody is right who takes the order before for the order afterwards.
    fn matched_by_order(&self) -> f64 {
        f64::from(self.stayed) / (f64::from(self.rounds()) * float(self.many))
    }
}

/// The number of an order among all of so many: how many of those behind each are smaller, in factorials.
fn number(places: &[usize]) -> usize {
    let mut number = 0;
    for (at, place) in places.iter().enumerate() {
        let rest = &places[at + 1..];
        number = number * (rest.len() + 1) + rest.iter().filter(|other| *other < place).count();
    }
    number
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// So many standard deviations from the middle.
const ONE_IN_A_MILLION: f64 = 4.76;

/// What is drawn follows from the seed, so this passes always or never; another seed would fail it three times in a million.
#[tokio::test]
async fn an_order_tells_nothing_of_another_and_whoever_matches_by_it_guesses() {
    const MANY: usize = 5;
    const ROUNDS: u32 = 10_000;
    let world = World::new(20_261_121, Some(mixing(MANY, 14_000)), |_| 0, 64);
    let came: Vec<usize> = (0..MANY).collect();
    let mut comparisons =
        [("came, sent"), ("sent, answered"), ("came, answered")].map(|name| (name, Orders::new(MANY)));
    for _ in 0..ROUNDS {
        let answered = Order::default();
        let mut clients = JoinSet::new();
        for who in &came {
            let (who, pool, answered) = (*who, Arc::clone(&world.pool), Arc::clone(&answered));
            clients.spawn(async move {
                World::exchange(pool, who).await;
                answered.lock().unwrap().push(who);
            });
        }
        while let Some(done) = clients.join_next().await {
            done.unwrap();
        }
        let sent = std::mem::take(&mut *world.sent.lock().unwrap());
        let answered = answered.lock().unwrap().clone();
        let orders = [(&came, &sent), (&sent, &answered), (&came, &answered)];
        for ((_, seen), (first, then)) in comparisons.iter_mut().zip(orders) {
            seen.note(first, then);
        }
    }
    let five = float(MANY);
    // The number of guesses that are right in a round has mean 1 and variance 1.
    let luck = ONE_IN_A_MILLION / (five * f64::from(ROUNDS).sqrt());
    for (name, seen) in &comparisons {
        assert_eq!((seen.counts.len(), seen.rounds()), (120, ROUNDS));
        let (found, limit) = (seen.chi_square(), seen.limit());
        assert!(found < limit, "{name}: chi-square {found} of at most {limit}");
        let matched = seen.matched_by_order();
        assert!(matched <= 1.0 / five + luck, "{name}: {matched}");
    }
    assert_eq!(world.pool.released(Release::Full), u64::from(ROUNDS));
}

#[test]
fn the_test_of_orders_notices_a_pool_that_swaps_neighbours_only() {
    let mut seen = Orders::new(4);
    for round in 0..1_000 {
        seen.note(&[0, 1, 2, 3], if round % 2 == 0 { &[0, 1, 2, 3] } else { &[1, 0, 3, 2] });
    }
    assert!(seen.chi_square() > seen.limit() && seen.matched_by_order() > 0.4);
}

/// Everybody is at each place equally often, and whoever knows one place knows all.
#[test]
fn the_test_of_orders_notices_a_pool_that_is_turned_round_as_a_whole() {
    let mut seen = Orders::new(5);
    for round in 0..1_000 {
        let mut then = [0, 1, 2, 3, 4];
        then.rotate_left(round % 5);
        seen.note(&[0, 1, 2, 3, 4], &then);
    }
    assert!((seen.matched_by_order() - 0.2).abs() < 0.001, "no place alone tells");
    assert!(seen.chi_square() > seen.limit());
}

/// Each of so many places with each other place: `n` to the power of `n` cases do not spread evenly over `n!` orders.
#[test]
fn the_test_of_orders_notices_a_shuffle_that_is_a_little_uneven() {
    use rand::RngExt as _;
    let (mut seen, mut rng) = (Orders::new(5), StdRng::seed_from_u64(7));
    for _ in 0..10_000 {
        let mut then = [0, 1, 2, 3, 4];
        for at in 0..5 {
            then.swap(at, rng.random_range(0..5));
        }
        seen.note(&[0, 1, 2, 3, 4], &then);
    }
    assert!(seen.chi_square() > seen.limit());
}

#[test]
fn each_order_has_a_number_of_its_own() {
    let mut numbers: Vec<usize> =
        [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].map(|order| number(&order)).into();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    numbers.dedup();
    assert_eq!(numbers.len(), 6);
}
