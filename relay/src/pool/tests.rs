//! The pool beside a gateway inside of the process, with orders drawn from a seed.

mod orders;

use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::task::Poll;

use mica_service::testing::{Carried, Network};
use rand::SeedableRng as _;
use tokio::sync::Semaphore;
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
        match Self::exchange_of(sender(who), pool, who).await {
            Exchanged::Answered(answer) => answer.unwrap().into_body(),
            Exchanged::Failed | Exchanged::Refused => panic!("it is answered"),
        }
    }

    async fn exchange_of(sender: Sender, pool: Arc<Pool>, who: usize) -> Exchanged {
        let body = Bytes::from(vec![u8::try_from(who).unwrap(); 512]);
        let place = pool.room.take(body.len()).unwrap();
        let request = Request::post("http://gateway.example/").body(body).unwrap();
        pool.exchange(sender, request, place).await
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

fn sender(number: usize) -> Sender {
    Sender { address: Some(number as u64), credential: None }
}

fn mixing(requests: usize, wait: u64) -> Mixing {
    Mixing { requests, wait: Duration::from_millis(wait) }
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
    let longest = waited.iter().max().unwrap();
    // The answers are there at once; how busy the machine is decides the rest.
    assert!(*longest < wait + Duration::from_secs(20), "{longest:?}");
    assert!(*longest >= wait, "the oldest of each pool waits for the whole time: {longest:?}");
    assert!(world.pool.released(Release::Time) >= 1 && world.pool.released(Release::Full) == 0);
}

/// 2,000 pools' worth of requests by more clients than fit into one, on several threads: were one pool larger than it
/// should be, or one smaller, so would be the number of pools; and were one left over, its members would wait on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pools_that_leave_as_full_are_full_whatever_happens_at_the_same_time() {
    const MANY: usize = 8;
    const POOLS: usize = 2_000;
    let network = Network::new(move |_| answer(0, 0, 64));
    let room = Arc::new(Room::new(1_000, 1 << 20));
    let mixing = Mixing { requests: MANY, wait: Duration::from_hours(1) };
    let pool = Arc::new(Pool::new(Some(mixing), HttpClient::through(network), room, Counters::default()));
    let keeper = tokio::spawn(Arc::clone(&pool).keep_time(Shutdown::new()));
    let begun = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for who in 0..100 {
        let (pool, begun) = (Arc::clone(&pool), Arc::clone(&begun));
        clients.spawn(async move {
            while begun.fetch_add(1, Ordering::SeqCst) < MANY * POOLS {
                World::exchange(Arc::clone(&pool), who).await;
            }
        });
    }
    timeout(Duration::from_mins(2), clients.join_all()).await.expect("nobody is left over");
    keeper.abort();
    assert_eq!(Release::ALL.map(|why| pool.released(why)), [POOLS as u64, 0, 0]);
    assert_eq!(pool.waiting(), 0);
}

/// Between the last who joins and the leaving there is no moment in which another one could come in or leave.
#[test]
fn a_pool_leaves_in_the_very_step_in_which_it_becomes_full() {
    let room = Room::new(100, 1 << 20);
    let mut queue = Queue::new(Some(mixing(3, 5_000)), StdRng::seed_from_u64(1));
    let mut join = |who: usize| {
        let place = room.take(1).unwrap();
        let parcel = Parcel { request: Request::new(Bytes::new()), place, answer: oneshot::channel().0 };
        let joined = queue.join(Instant::now(), sender(who), parcel);
        (matches!(joined, Joined::Leaves(_)), queue.len())
    };
    for _ in 0..3 {
        assert_eq!([0, 1, 2].map(&mut join), [(false, 1), (false, 2), (true, 0)]);
    }
}

/// Whoever keeps the time wakes up for a pool that has left as full in the meantime.
#[tokio::test]
async fn a_moment_that_was_looked_up_before_a_pool_left_is_not_that_of_the_next_one() {
    let network = Network::new(|_| answer(0, 0, 64));
    let room = Arc::new(Room::new(10, 1 << 20));
    let mixing = Mixing { requests: 2, wait: Duration::from_hours(1) };
    let pool = Arc::new(Pool::new(Some(mixing), HttpClient::through(network), room, Counters::default()));
    let come = |who| tokio::spawn(World::exchange(Arc::clone(&pool), who));
    let first = come(0);
    while pool.waiting() < 1 {
        tokio::task::yield_now().await;
    }
    let looked_up = pool.lock().due().unwrap();
    for client in [first, come(1)] {
        client.await.unwrap();
    }
    let alone = come(2);
    while pool.waiting() < 1 {
        tokio::task::yield_now().await;
    }
    pool.release_due(looked_up);
    assert_eq!((pool.waiting(), pool.released(Release::Time)), (1, 0), "it has waited for nothing yet");
    let due = pool.lock().due().unwrap();
    assert!(due > looked_up);
    pool.release_due(due);
    alone.await.unwrap();
    assert_eq!((pool.waiting(), pool.released(Release::Time)), (0, 1));
}

#[tokio::test]
async fn one_sender_alone_fills_no_pool_and_all_its_requests_leave_with_the_others() {
    let world = World::new(8, Some(mixing(3, 14_000)), |_| 0, 64);
    let come = |sender, who| tokio::spawn(World::exchange_of(sender, Arc::clone(&world.pool), who));
    let mut clients = vec![come(sender(0), 0)];
    clients.extend((1..8).map(|who| come(sender(1), who)));
    world.until_waiting(8).await;
    assert_eq!(world.pool.released(Release::Full), 0, "two senders of three");
    // Somebody with another credential behind the same address is somebody else.
    clients.push(come(Sender { credential: Some(1), ..sender(1) }, 8));
    for client in clients {
        assert!(matches!(client.await.unwrap(), Exchanged::Answered(Ok(_))));
    }
    assert_eq!((world.pool.released(Release::Full), world.pool.waiting()), (1, 0));
    assert_eq!(world.sent.lock().unwrap().len(), 9);
}

#[tokio::test]
async fn a_sender_whose_requests_all_went_away_is_not_counted() {
    let world = World::new(9, Some(mixing(2, 14_000)), |_| 0, 64);
    let come = |sender, who| tokio::spawn(World::exchange_of(sender, Arc::clone(&world.pool), who));
    let leavers = [come(sender(1), 1), come(sender(1), 2)];
    world.until_waiting(2).await;
    leavers.iter().for_each(tokio::task::JoinHandle::abort);
    world.until_waiting(0).await;
    let stays = come(sender(2), 3);
    world.until_waiting(1).await;
    assert_eq!(world.pool.released(Release::Full), 0);
    let other = come(sender(1), 4);
    for client in [stays, other] {
        assert!(matches!(client.await.unwrap(), Exchanged::Answered(Ok(_))));
    }
    assert_eq!(world.pool.released(Release::Full), 1);
}

/// One sender has its limit when there is much; others still come in.
#[tokio::test]
async fn a_sender_cannot_let_more_wait_than_one_connection_carries() {
    let network = Network::new(|_| answer(0, 0, 64));
    let room = Arc::new(Room::new(10_000, 8 << 20));
    let mixing = Mixing { requests: 3, wait: Duration::from_hours(1) };
    let pool = Arc::new(Pool::new(Some(mixing), HttpClient::through(network), room, Counters::default()));
    let come = |who| tokio::spawn(World::exchange_of(sender(who), Arc::clone(&pool), 0));
    let mut clients: Vec<_> = (0..setting::MOST_REQUESTS).map(|_| come(1)).collect();
    while pool.waiting() < setting::MOST_REQUESTS {
        tokio::task::yield_now().await;
    }
    assert!(matches!(come(1).await.unwrap(), Exchanged::Refused));
    clients.extend([come(2), come(3)]);
    for client in clients {
        assert!(matches!(client.await.unwrap(), Exchanged::Answered(Ok(_))));
    }
    assert_eq!(pool.released(Release::Full), 1);
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
async fn what_was_sent_off_for_clients_that_have_gone_is_waited_for() {
    for mixing in [None, Some(mixing(2, 14_000))] {
        let (sent, answering) = (Arc::<AtomicUsize>::default(), Arc::new(Semaphore::new(0)));
        let (seen, gate) = (Arc::clone(&sent), Arc::clone(&answering));
        let network = Network::new(move |_| {
            seen.fetch_add(1, Ordering::SeqCst);
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                gate.acquire().await.expect("it stays open").forget();
                Ok(Response::new(Bytes::new()))
            })
        });
        let (room, gateway) = (Arc::new(Room::new(10, 1 << 20)), HttpClient::through(network));
        let pool = Arc::new(Pool::new(mixing, gateway, room, Counters::default()));
        pool.carried().await;
        let clients = [0, 1].map(|who| tokio::spawn(World::exchange(Arc::clone(&pool), who)));
        while sent.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        for client in clients {
            client.abort();
            assert!(client.await.unwrap_err().is_cancelled());
        }
        let mut carried = std::pin::pin!(pool.carried());
        let is_over = std::future::poll_fn(|cx| Poll::Ready(carried.as_mut().poll(cx).is_ready())).await;
        assert!(!is_over, "{mixing:?}: the gateway has not answered");
        answering.add_permits(2);
        carried.await;
        assert_eq!(pool.room.free_bytes(), 1 << 20);
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
async fn answers_that_there_is_no_room_for_are_refused_and_let_those_go_that_wait() {
    let world = World::new(5, Some(mixing(3, 3_000_000)), |_| 0, 400 << 10);
    let clients = [0, 1, 2].map(|who| {
        let pool = Arc::clone(&world.pool);
        tokio::spawn(async move {
            match World::exchange_of(sender(who), pool, who).await {
                Exchanged::Answered(answer) => answer.map(|answer| answer.body().len()),
                Exchanged::Failed | Exchanged::Refused => panic!("it is answered"),
            }
        })
    });
    let mut answered = Vec::new();
    for client in clients {
        answered.push(client.await.unwrap());
    }
    // Of two at once one finds room.
    let refused = |answer: &&Result<usize, PeerError>| matches!(answer, Err(PeerError::NoRoom { .. }));
    let refused = answered.iter().filter(refused).count();
    assert!((1..=2).contains(&refused), "{answered:?}");
    let whole = answered.iter().filter(|answer| **answer == Ok(400 << 10)).count();
    assert_eq!(refused + whole, 3, "{answered:?}");
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
