//! Workers against a real database and real receivers on loopback. What happens is waited for, never slept for.

use super::super::guard::Guard;
use super::*;
use crate::db::deliveries::{Filter, list};
use crate::db::delivery_fixtures::{NOW, mail, queue, webhook};
use crate::models::delivery::HoldReason;
use crate::testing::TestDb;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// An HTTP receiver that reports every request, and responds while it is open.
struct Receiver {
    url: String,
    arrivals: mpsc::UnboundedReceiver<String>,
    open: watch::Sender<bool>,
}

impl Receiver {
    async fn start(status: &'static str, open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (tell, arrivals) = mpsc::unbounded_channel();
        let (open, door) = watch::channel(open);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, status, tell.clone(), door.clone()));
            }
        });
        Self { url, arrivals, open }
    }

    /// The `webhook-id`s of the next arrivals.
    async fn next(&mut self, n: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..n {
            ids.push(self.arrivals.recv().await.unwrap());
        }
        ids
    }
}

async fn serve(
    mut socket: TcpStream,
    status: &str,
    tell: mpsc::UnboundedSender<String>,
    mut door: watch::Receiver<bool>,
) {
    let mut got = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&got).into_owned();
        // The test webhook's body ends in the only brace of the request.
        let Some((request, rest)) = text.split_once('}') else {
            if socket.read_buf(&mut got).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        let id = request.lines().find_map(|line| line.strip_prefix("webhook-id: ")).unwrap();
        let _ = tell.send(id.to_owned());
        if door.wait_for(|open| *open).await.is_err() {
            return;
        }
        got = rest.as_bytes().to_vec();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn tools(pool: &PgPool, folder: &tempfile::TempDir, drain: Duration) -> Tools {
    static SEED: AtomicU64 = AtomicU64::new(1);
    let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap()]);
    Tools {
        pool: pool.clone(),
        transports: Arc::new(Transports {
            mail: MailTransport::File(FileTransport::new(folder.path())),
            webhook: WebhookTransport::new(guard).unwrap(),
        }),
        kinds: DeliveryKind::BUILTIN.into(),
        wakeup: Arc::default(),
        clock: || NOW,
        seed: || SEED.fetch_add(1, Ordering::Relaxed),
        drain,
    }
}

/// The numbers of deliveries by state, and of outcomes in the history by type.
async fn tally(pool: &PgPool) -> (BTreeMap<&'static str, usize>, BTreeMap<String, i64>) {
    let mut states = BTreeMap::new();
    for listed in list(pool, &Filter::default(), 1_000, None).await.unwrap().items {
        *states.entry(listed.state.as_str()).or_default() += 1;
    }
    let outcomes: Vec<(String, i64)> = sqlx::query_as(
        "SELECT transaction_type, count(*) FROM transactions WHERE delivery_id IS NOT NULL GROUP BY transaction_type",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    (states, outcomes.into_iter().collect())
}

#[tokio::test]
async fn what_is_queued_before_and_after_the_start_arrives_and_is_recorded_once() {
    let db = TestDb::new().await;
    let (pool, folder) = (db.pools.write.clone(), tempfile::tempdir().unwrap());
    let mut receiver = Receiver::start("200 OK", true).await;
    let mut expected: Vec<String> =
        queue(&pool, vec![webhook(&receiver.url); 30]).await.iter().map(ToString::to_string).collect();
    let tools = tools(&pool, &folder, DRAIN);
    let wakeup = Arc::clone(&tools.wakeup);
    let workers = Workers::start(tools);
    let mut arrived = receiver.next(30).await;
    let later = queue(&pool, vec![webhook(&receiver.url), mail(&["a@example.org"])]).await;
    expected.push(later[0].to_string());
    wakeup.wake();
    arrived.extend(receiver.next(1).await);
    workers.stop().await;
    arrived.sort();
    expected.sort();
    assert_eq!(arrived, expected);
    let (states, outcomes) = tally(&pool).await;
    assert_eq!(states, BTreeMap::from([("completed", 32)]));
    assert_eq!(outcomes, BTreeMap::from([("EmailRecord".into(), 1), ("WebhookDelivery".into(), 31)]));
    assert!(folder.path().join(format!("{}.eml", later[1])).exists());
}

#[tokio::test]
async fn a_receiver_that_hangs_holds_its_share_and_nobody_else_up() {
    let db = TestDb::new().await;
    let (pool, folder) = (db.pools.write.clone(), tempfile::tempdir().unwrap());
    let mut hanging = Receiver::start("200 OK", false).await;
    let mut healthy = Receiver::start("200 OK", true).await;
    queue(&pool, vec![webhook(&hanging.url); 30]).await;
    queue(&pool, vec![webhook(&healthy.url); 20]).await;
    let workers = Workers::start(tools(&pool, &folder, DRAIN));
    // All of the healthy one's arrive while the other has not answered one.
    healthy.next(20).await;
    assert!(hanging.arrivals.len() <= WEBHOOKS_PER_ENDPOINT);
    hanging.open.send(true).unwrap();
    hanging.next(30).await;
    workers.stop().await;
    assert_eq!(tally(&pool).await.1, BTreeMap::from([("WebhookDelivery".into(), 50)]));
    assert!(hanging.arrivals.is_empty(), "each arrived once");
}

#[tokio::test]
async fn a_failure_is_put_off_by_the_schedule_and_a_410_is_final() {
    let db = TestDb::new().await;
    let (pool, folder) = (db.pools.write.clone(), tempfile::tempdir().unwrap());
    let mut failing = Receiver::start("500 Oh", true).await;
    let mut gone = Receiver::start("410 Gone", true).await;
    queue(&pool, vec![webhook(&failing.url)]).await;
    queue(&pool, vec![webhook(&gone.url)]).await;
    let workers = Workers::start(tools(&pool, &folder, DRAIN));
    failing.next(1).await;
    gone.next(1).await;
    workers.stop().await;
    let (states, outcomes) = tally(&pool).await;
    assert_eq!(states, BTreeMap::from([("available", 1), ("discarded", 1)]));
    assert_eq!(outcomes, BTreeMap::from([("DeliveryFailed".into(), 1)]));
    let soon: bool = sqlx::query_scalar(
        "SELECT due_at BETWEEN now() + '1 s' AND now() + '6 s' AND attempts = 1 FROM delivery_queue",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert!(soon, "about 5 s later");
}

#[tokio::test]
async fn a_stop_gives_back_what_receivers_hold_up() {
    let db = TestDb::new().await;
    let (pool, folder) = (db.pools.write.clone(), tempfile::tempdir().unwrap());
    let mut hanging = Receiver::start("200 OK", false).await;
    queue(&pool, vec![webhook(&hanging.url); 3]).await;
    let workers = Workers::start(tools(&pool, &folder, Duration::ZERO));
    let mut first = hanging.next(3).await;
    workers.stop().await;
    let (states, _) = tally(&pool).await;
    assert_eq!(states, BTreeMap::from([("available", 3)]), "due at once, for whoever comes next");
    let counted: Vec<i32> = list(&pool, &Filter::default(), 10, None)
        .await
        .unwrap()
        .items
        .iter()
        .map(|one| one.attempts)
        .collect();
    assert_eq!(counted, [0; 3], "no attempt ended");
    hanging.open.send(true).unwrap();
    let workers = Workers::start(tools(&pool, &folder, DRAIN));
    let mut second = hanging.next(3).await;
    workers.stop().await;
    first.sort();
    second.sort();
    assert_eq!(first, second, "the same ids at every attempt");
    for listed in list(&pool, &Filter::default(), 10, None).await.unwrap().items {
        let attempts = deliveries::whole(&pool, listed.id).await.unwrap().attempts;
        let shown: Vec<_> = attempts.iter().map(|one| (one.attempt, one.outcome.as_str())).collect();
        assert_eq!(shown, [(1, "delivered")], "what was given back is not shown as lost");
    }
    assert_eq!(tally(&pool).await.1, BTreeMap::from([("WebhookDelivery".into(), 3)]));
}

#[tokio::test]
async fn the_lease_of_an_attempt_that_ended_is_extended_until_it_is_settled() {
    let db = TestDb::new().await;
    let (pool, folder) = (db.pools.write.clone(), tempfile::tempdir().unwrap());
    let mut receiver = Receiver::start("200 OK", true).await;
    queue(&pool, vec![webhook(&receiver.url)]).await;
    let (ended, mut unsettled) = mpsc::channel(UNSETTLED_MAX);
    let (tools, leases) = (tools(&pool, &folder, DRAIN), Leases::default());
    let mut leaser = Leaser {
        wakeup: tools.wakeup.listen(),
        tools,
        leases: leases.clone(),
        ended,
        running: JoinSet::new(),
        slots: HashMap::new(),
        brought: 0,
        ended_since: 0,
        broken: None,
    };
    leaser.lease().await;
    receiver.next(1).await;
    let done = leaser.running.join_next_with_id().await.unwrap();
    leaser.vacate(done).await;
    assert!(leaser.slots.is_empty());
    let expire =
        async || sqlx::query("UPDATE delivery_queue SET due_at = now()").execute(&pool).await.unwrap();
    // The database rejects settlements for longer than a lease lasts.
    expire().await;
    leaser.extend().await;
    assert_eq!(tally(&pool).await.0, BTreeMap::from([("running", 1)]), "nobody else sends it");
    let (leased, attempt) = unsettled.recv().await.unwrap();
    let settled = [settlement(leased, attempt, &mut Ids::new(NOW, 7))];
    persist(&pool, &settled).await;
    leases.end(&settled);
    assert!(leases.all().is_empty());
    assert_eq!(tally(&pool).await.0, BTreeMap::from([("completed", 1)]));
}

#[tokio::test]
async fn what_a_killed_process_held_is_delivered_by_another_and_recorded_once() {
    let db = TestDb::new().await;
    let (pool, folder) = (db.pools.write.clone(), tempfile::tempdir().unwrap());
    let mut receiver = Receiver::start("200 OK", false).await;
    queue(&pool, vec![webhook(&receiver.url); 5]).await;
    let killed = Workers::start(tools(&pool, &folder, DRAIN));
    receiver.next(5).await;
    killed.leaser.abort();
    killed.settler.abort();
    assert!(killed.leaser.await.unwrap_err().is_cancelled());
    assert_eq!(tally(&pool).await.0, BTreeMap::from([("running", 5)]));
    receiver.open.send(true).unwrap();
    // The leases run out.
    sqlx::query("UPDATE delivery_queue SET due_at = now()").execute(&pool).await.unwrap();
    let workers = Workers::start(tools(&pool, &folder, DRAIN));
    receiver.next(5).await;
    workers.stop().await;
    let (states, outcomes) = tally(&pool).await;
    assert_eq!(states, BTreeMap::from([("completed", 5)]));
    assert_eq!(outcomes, BTreeMap::from([("WebhookDelivery".into(), 5)]));
}

#[tokio::test]
async fn a_database_that_drops_every_connection_loses_nothing() {
    let db = TestDb::new().await;
    let (pool, folder) = (db.pools.write.clone(), tempfile::tempdir().unwrap());
    let mut receiver = Receiver::start("200 OK", false).await;
    queue(&pool, vec![webhook(&receiver.url); 8]).await;
    let workers = Workers::start(tools(&pool, &folder, DRAIN));
    receiver.next(8).await;
    let options = (*pool.connect_options()).clone();
    let own = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .execute(&own)
    .await
    .unwrap();
    // What is settled over a broken connection is settled again over another.
    receiver.open.send(true).unwrap();
    queue(&own, vec![webhook(&receiver.url)]).await;
    receiver.next(1).await;
    workers.stop().await;
    assert_eq!(tally(&own).await.1, BTreeMap::from([("WebhookDelivery".into(), 9)]));
}

#[tokio::test]
async fn a_secret_is_read_at_the_moment_of_sending() {
    let db = TestDb::new().await;
    let (pool, folder) = (db.pools.write.clone(), tempfile::tempdir().unwrap());
    let mut receiver = Receiver::start("200 OK", true).await;
    let mut signed = webhook(&receiver.url);
    let Payload::Webhook(inner) = &mut signed else { unreachable!() };
    inner.secret = Some("sign".into());
    let secret = crate::models::secret::Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    assert!(crate::db::secrets::put(&pool, "sign", &secret).await.unwrap());
    assert!(!crate::db::secrets::put(&pool, "sign", &secret).await.unwrap(), "it already exists");
    queue(&pool, vec![signed]).await;
    let workers = Workers::start(tools(&pool, &folder, DRAIN));
    receiver.next(1).await;
    workers.stop().await;
    assert_eq!(tally(&pool).await.0, BTreeMap::from([("completed", 1)]));
    let stored: String = sqlx::query_scalar("SELECT string_agg(to_jsonb(d)::text, '') FROM deliveries d")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(stored.contains("sign") && !stored.contains("MfKQ9r8"));
}

#[test]
fn a_delivery_that_ended_twice_is_settled_in_two_batches() {
    let of = |id: u128, token: i64| -> Ended {
        let delivery = crate::models::delivery::Delivery {
            id: uuid::Uuid::from_u128(id).into(),
            ticket: uuid::Uuid::nil().into(),
            transaction: uuid::Uuid::nil().into(),
            scrip_version: uuid::Uuid::nil().into(),
            payload: webhook("http://a.example/"),
            created_at: NOW,
        };
        (
            Arc::new(Leased {
                endpoint: delivery.payload.endpoint(),
                delivery,
                attempt: 1,
                in_schedule: 1,
                token,
                answered: Vec::new(),
            }),
            Attempt::new(Outcome::Delivered, ""),
        )
    };
    let (batch, later) = without_duplicates(vec![of(1, 1), of(2, 2), of(1, 3)]);
    let tokens = |ended: &[Ended]| ended.iter().map(|(leased, _)| leased.token).collect::<Vec<_>>();
    assert_eq!((tokens(&batch), tokens(&later)), (vec![1, 2], vec![3]));
}

#[tokio::test]
async fn one_settlement_that_the_database_refuses_holds_up_no_other() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, (0..3).map(|n| webhook(&format!("http://h{n}.example/"))).collect()).await;
    let room = Room {
        kinds: vec![(DeliveryKind::Webhook, 3)],
        per_endpoint: vec![(DeliveryKind::Webhook, 1)],
        running: Vec::new(),
    };
    let mut outcomes = Ids::new(NOW, u64::MAX);
    let mut batch: Vec<Settlement> = deliveries::lease(&pool, Holder::Worker, &room, LEASE)
        .await
        .unwrap()
        .into_iter()
        .map(|leased| settlement(Arc::new(leased), Attempt::new(Outcome::Delivered, "200 OK"), &mut outcomes))
        .collect();
    // Takes the id of a transaction that is there already.
    batch[1].transaction = batch[1].leased.delivery.transaction;
    persist(&pool, &batch).await;
    let held: Vec<_> = list(&pool, &Filter::default(), 10, None)
        .await
        .unwrap()
        .items
        .into_iter()
        .filter_map(|one| one.hold.map(|hold| (one.id, hold.reason)))
        .collect();
    assert_eq!(held, [(ids[1], HoldReason::Unrecorded)], "or it would be attempted again for ever");
    let done: Vec<(String, Option<String>)> =
        sqlx::query_as("SELECT action, reason FROM delivery_actions").fetch_all(&pool).await.unwrap();
    assert_eq!(done, [("hold".to_owned(), Some("unrecorded".to_owned()))]);
    assert_eq!(tally(&pool).await.1, BTreeMap::from([("WebhookDelivery".into(), 2)]));
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_alone_and_others_are_not() {
    let db = TestDb::new().await;
    let (pool, folder) = (db.pools.write.clone(), tempfile::tempdir().unwrap());
    let mut failing = Receiver::start("503 Down", true).await;
    let mut healthy = Receiver::start("200 OK", true).await;
    queue(&pool, vec![webhook(&failing.url); 400]).await;
    let workers = Workers::start(tools(&pool, &folder, DRAIN));
    failing.next(10).await;
    queue(&pool, vec![webhook(&healthy.url); 5]).await;
    healthy.next(5).await;
    workers.stop().await;
    let (states, outcomes) = tally(&pool).await;
    assert_eq!(states, BTreeMap::from([("completed", 5), ("held", 400)]));
    assert_eq!(outcomes, BTreeMap::from([("WebhookDelivery".into(), 5)]));
    // Eight run at a time, so some more than ten were made before the breaker opened.
    let tried: i64 =
        sqlx::query_scalar("SELECT sum(attempts) FROM delivery_queue").fetch_one(&pool).await.unwrap();
    assert!((10..400).contains(&tried), "{tried} attempts");
}

#[test]
fn what_a_receiver_asks_for_is_waited_when_there_is_a_next_time() {
    let leased = |in_schedule| {
        let delivery = crate::models::delivery::Delivery {
            id: uuid::Uuid::from_u128(1).into(),
            ticket: uuid::Uuid::nil().into(),
            transaction: uuid::Uuid::nil().into(),
            scrip_version: uuid::Uuid::nil().into(),
            payload: webhook("http://a.example/"),
            created_at: NOW,
        };
        let endpoint = delivery.payload.endpoint();
        Arc::new(Leased { delivery, endpoint, attempt: 30, in_schedule, token: 1, answered: Vec::new() })
    };
    let mut ids = Ids::new(NOW, 1);
    let mut again = |in_schedule, outcome, wait| {
        let attempt = Attempt::new(outcome, "").with_wait(Duration::from_secs(wait));
        settlement(leased(in_schedule), attempt, &mut ids).again.map(|again| again.as_secs())
    };
    assert!((4..=6).contains(&again(1, Outcome::Retry, 0).unwrap()), "the schedule counts from the resend");
    assert_eq!(again(1, Outcome::Retry, 120), Some(120));
    assert!(again(9, Outcome::Retry, 120).unwrap() > 60_000);
    assert_eq!(again(10, Outcome::Retry, 120), None, "no wish makes an attempt more");
    assert_eq!(again(1, Outcome::Permanent, 120), None);
}
