//! The pool beside a gateway inside of the process, with orders drawn from a seed.

use std::sync::atomic::AtomicU32;

use mica_service::testing::{Carried, Network};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;

/// Who was seen in which order at one place, in one round.
type Order = Arc<Mutex<Vec<usize>>>;

/// A pool that draws from a seed, and the order in which the gateway sees what it sends.
struct World {
    pool: Arc<Pool>,
    sent: Order,
    room: Arc<Room>,
    shutdown: Shutdown,
}

impl World {
    /// Its gateway answers each request after so many milliseconds, with so many bytes.
    fn new(seed: u64, mixing: Option<Mixing>, pause: fn(usize) -> u64, length: usize) -> Self {
        let sent = Order::default();
        let order = Arc::clone(&sent);
        let network = Network::new(move |request| {
            let who = request.body().first().copied().map_or(0, usize::from);
            order.lock().unwrap().push(who);
            answer(who, pause(who), length)
        });
        let room = Arc::new(Room::new(1_000, 1 << 20));
        let gateway = HttpClient::through(network);
        let rng = StdRng::seed_from_u64(seed);
        let pool = Pool::drawing_from(rng, mixing, gateway, Arc::clone(&room), Counters::default());
        let (pool, shutdown) = (Arc::new(pool), Shutdown::new());
        tokio::spawn(Arc::clone(&pool).keep_time(shutdown.clone()));
        Self { pool, sent, room, shutdown }
    }

    /// One request of somebody, until it is answered.
    async fn exchange(pool: Arc<Pool>, who: usize) -> Bytes {
        let body = Bytes::from(vec![u8::try_from(who).unwrap(); 512]);
        let place = pool.room.take(body.len()).unwrap();
        let request = Request::post("http://gateway.example/").body(body).unwrap();
        pool.exchange(request, place).await.unwrap().unwrap().into_body()
    }

    fn come(&self, who: usize) -> tokio::task::JoinHandle<Bytes> {
        tokio::spawn(Self::exchange(Arc::clone(&self.pool), who))
    }

    async fn until_waiting(&self, many: usize) {
        while self.pool.waiting() != many {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn answer(who: usize, pause: u64, length: usize) -> Carried {
    Box::pin(async move {
        if pause > 0 {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Ok(Response::new(Bytes::from(vec![u8::try_from(who).unwrap(); length])))
    })
}

fn mixing(requests: usize, wait: u64) -> Mixing {
    Mixing { requests, wait: Duration::from_millis(wait) }
}

/// For each of so many: how often it was seen at each place.
struct Places {
    many: usize,
    counts: Vec<u32>,
    rounds: u32,
}

impl Places {
    fn new(many: usize) -> Self {
        Self { many, counts: vec![0; many * many], rounds: 0 }
    }

    /// `first` tells who was where before, `then` where they were afterwards.
    fn note(&mut self, first: &[usize], then: &[usize]) {
        self.rounds += 1;
        for (from, who) in first.iter().enumerate() {
            let to = then.iter().position(|other| other == who).unwrap();
            self.counts[from * self.many + to] += 1;
        }
    }

    /// Of uniformly drawn orders this has the chi-square distribution of `(many - 1)²` degrees of freedom.
    fn chi_square(&self) -> f64 {
        let many = self.many();
        let expected = f64::from(self.rounds) / many;
        let sum: f64 =
            self.counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        sum * (many - 1.0) / many
    }

    /// What uniform orders exceed once in a million times (Wilson and Hilferty's approximation).
    fn limit(&self) -> f64 {
        let freedom = (self.many() - 1.0).powi(2);
        let spread = 2.0 / (9.0 * freedom);
        freedom * (1.0 - spread + ONE_IN_A_MILLION * spread.sqrt()).powi(3)
    }

    fn many(&self) -> f64 {
        f64::from(u32::try_from(self.many).unwrap())
    }

    /// How often somebody is right who takes the order before for the order afterwards.
    fn matched_by_order(&self) -> f64 {
        let right: u32 = (0..self.many).map(|place| self.counts[place * self.many + place]).sum();
        f64::from(right) / (f64::from(self.rounds) * self.many())
    }
}

/// So many standard deviations from the middle.
const ONE_IN_A_MILLION: f64 = 4.76;

#[tokio::test]
async fn an_order_tells_nothing_of_another_and_whoever_matches_by_it_guesses() {
    const MANY: usize = 5;
    const ROUNDS: u32 = 10_000;
    let world = World::new(20_261_121, Some(mixing(MANY, 5_000)), |_| 0, 64);
    let came: Vec<usize> = (0..MANY).collect();
    let mut comparisons =
        [("came, sent"), ("sent, answered"), ("came, answered")].map(|name| (name, Places::new(MANY)));
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
        for ((_, places), (first, then)) in comparisons.iter_mut().zip(orders) {
            places.note(first, then);
        }
    }
    let five = 5.0;
    // The number of guesses that are right in a round has mean 1 and variance 1.
    let luck = ONE_IN_A_MILLION / (five * f64::from(ROUNDS).sqrt());
    for (name, places) in &comparisons {
        let (found, limit) = (places.chi_square(), places.limit());
        assert!(found < limit, "{name}: chi-square {found} of at most {limit}");
        let matched = places.matched_by_order();
        assert!(matched <= 1.0 / five + luck, "{name}: {matched}");
    }
    assert_eq!(world.pool.released(Release::Full), u64::from(ROUNDS));
}

#[tokio::test]
async fn the_test_of_orders_notices_a_pool_that_swaps_neighbours_only() {
    let mut places = Places::new(4);
    for round in 0..1_000 {
        places.note(&[0, 1, 2, 3], if round % 2 == 0 { &[0, 1, 2, 3] } else { &[1, 0, 3, 2] });
    }
    assert!(places.chi_square() > places.limit() && places.matched_by_order() > 0.4);
}

#[tokio::test]
async fn without_mixing_nobody_waits_for_anybody() {
    let world = World::new(1, None, |_| 0, 64);
    timeout(Duration::from_secs(5), world.come(7)).await.unwrap().unwrap();
    assert_eq!(Release::ALL.map(|why| world.pool.released(why)), [0, 0, 0]);
}

#[tokio::test]
async fn no_request_waits_longer_than_it_may() {
    let wait = Duration::from_millis(200);
    let world = World::new(2, Some(mixing(200, 200)), |_| 0, 64);
    let mut clients = JoinSet::new();
    for who in 0..100 {
        let pool = Arc::clone(&world.pool);
        clients.spawn(async move {
            tokio::time::sleep(Duration::from_millis(7 * who as u64)).await;
            let since = Instant::now();
            World::exchange(pool, who).await;
            since.elapsed()
        });
    }
    let waited = clients.join_all().await;
    let (longest, shortest) = (waited.iter().max().unwrap(), waited.iter().min().unwrap());
    // The answers are there at once; how busy the machine is decides the rest.
    assert!(*longest < wait + Duration::from_secs(5), "{longest:?}");
    assert!(*longest >= wait, "the oldest of each pool waits for the whole time: {longest:?}");
    assert!(*shortest < wait, "{shortest:?}");
    assert!(world.pool.released(Release::Time) >= 2 && world.pool.released(Release::Full) == 0);
}

#[tokio::test]
async fn a_client_that_goes_away_is_not_counted_and_its_request_never_leaves() {
    let world = World::new(3, Some(mixing(3, 10_000)), |_| 0, 64);
    let first = world.come(0);
    world.until_waiting(1).await;
    let second = world.come(1);
    world.until_waiting(2).await;
    first.abort();
    world.until_waiting(1).await;
    let third = world.come(2);
    world.until_waiting(2).await;
    assert!(world.sent.lock().unwrap().is_empty(), "two of three are there");
    let fourth = world.come(3);
    for client in [second, third, fourth] {
        client.await.unwrap();
    }
    let mut sent = world.sent.lock().unwrap().clone();
    sent.sort_unstable();
    assert_eq!(sent, [1, 2, 3]);
    assert_eq!(world.pool.counters.count(Outcome::Left), 1);
    assert_eq!(world.room.free_bytes(), 1 << 20, "all of the room is given back");
}

#[tokio::test]
async fn a_client_that_goes_away_later_changes_nothing_of_what_the_gateway_sees() {
    static ANSWERED: AtomicU32 = AtomicU32::new(0);
    let network = Network::new(|_| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            ANSWERED.fetch_add(1, Ordering::SeqCst);
            Ok(Response::new(Bytes::new()))
        })
    });
    for mixing in [None, Some(mixing(2, 5_000))] {
        ANSWERED.store(0, Ordering::SeqCst);
        let (room, gateway) = (Arc::new(Room::new(10, 1 << 20)), HttpClient::through(network.clone()));
        let pool = Arc::new(Pool::new(mixing, gateway, room, Counters::default()));
        let clients = [0, 1].map(|who| tokio::spawn(World::exchange(Arc::clone(&pool), who)));
        tokio::time::sleep(Duration::from_millis(30)).await;
        clients.iter().for_each(tokio::task::JoinHandle::abort);
        timeout(Duration::from_secs(5), async {
            while ANSWERED.load(Ordering::SeqCst) < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("both exchanges come to their ends");
    }
}

#[tokio::test]
async fn answers_wait_for_each_other_and_not_for_ever() {
    let pause = |who| if who == 0 { 4_000 } else { 0 };
    let world = World::new(4, Some(mixing(3, 300)), pause, 64);
    let since = Instant::now();
    let [slow, quick, other] = [0, 1, 2].map(|who| world.come(who));
    for client in [quick, other] {
        client.await.unwrap();
        assert!((300..3_900).contains(&since.elapsed().as_millis()), "{:?}", since.elapsed());
    }
    slow.await.unwrap();
    assert!(since.elapsed() >= Duration::from_secs(4));
}

#[tokio::test]
async fn answers_that_there_is_no_room_for_do_not_wait_and_are_not_lost() {
    let world = World::new(5, Some(mixing(4, 10_000)), |who| 20 * who as u64, 400 << 10);
    let since = Instant::now();
    for client in [0, 1, 2, 3].map(|who| world.come(who)) {
        assert_eq!(client.await.unwrap().len(), 400 << 10);
    }
    assert!(since.elapsed() < Duration::from_secs(9));
    assert_eq!(world.room.free_bytes(), 1 << 20);
}

#[tokio::test]
async fn whoever_waits_is_sent_off_when_the_relay_stops_or_mixes_otherwise() {
    let world = World::new(6, Some(mixing(10, 10_000)), |_| 0, 64);
    let clients = [0, 1, 2].map(|who| world.come(who));
    world.until_waiting(3).await;
    world.pool.adopt(Some(mixing(9, 10_000)));
    for client in clients {
        timeout(Duration::from_secs(5), client).await.expect("it is sent off").unwrap();
    }
    let clients = [0, 1].map(|who| world.come(who));
    world.until_waiting(2).await;
    world.shutdown.trigger();
    for client in clients {
        timeout(Duration::from_secs(5), client).await.expect("it is sent off").unwrap();
    }
    let straggler = world.come(5);
    timeout(STRAGGLERS_WAIT * 5, straggler).await.expect("it does not wait for long").unwrap();
    assert_eq!(world.pool.released(Release::Flush), 2);
}
