//! Breakers: when one opens, what it lets through, and when it closes.

use super::*;
use crate::db::deliveries::{OPENS_AFTER, PROBE_FIRST, PROBE_MAX};

/// An attempt of this delivery that says this of its endpoint.
async fn says(pool: &PgPool, leased: &Leased, health: Health, again: Option<Duration>) -> Vec<BreakerChange> {
    let outcome = if health == Health::Works { AttemptOutcome::Delivered } else { AttemptOutcome::Retry };
    let mut settlement = ended(leased, outcome, again, leased.token.unsigned_abs());
    settlement.attempt.health = health;
    settle(pool, &[settlement]).await.unwrap()
}

/// Failures in a row, the pause in seconds, and whether the breaker is open; `None` where nothing is known.
async fn breaker(pool: &PgPool, endpoint: &str) -> Option<(i32, f64, bool)> {
    sqlx::query_as(
        "SELECT failures, extract(epoch FROM pause)::float8, probe_at IS NOT NULL FROM delivery_endpoints WHERE endpoint = $1",
    )
    .bind(endpoint)
    .fetch_optional(pool)
    .await
    .unwrap()
}

/// Ends the pause of every open breaker.
async fn pauses_pass(pool: &PgPool) {
    sqlx::query("UPDATE delivery_endpoints SET probe_at = now() WHERE probe_at IS NOT NULL")
        .execute(pool)
        .await
        .unwrap();
}

const SICK: &str = "https://sick.example";

/// Deliveries to an endpoint whose breaker is open after enough of them have failed.
async fn open_breaker(pool: &PgPool, more: usize) -> Vec<DeliveryId> {
    let opens = usize::try_from(OPENS_AFTER).unwrap();
    let ids = queue(pool, (0..opens + more).map(|n| webhook(&format!("{SICK}/{n}"))).collect()).await;
    let leased =
        lease(pool, Holder::Worker, &room(OPENS_AFTER.into(), OPENS_AFTER.into()), LEASE).await.unwrap();
    assert_eq!(leased.len(), opens);
    for (n, one) in leased.iter().enumerate() {
        let turned = says(pool, one, Health::Fails, Some(Duration::ZERO)).await;
        let opened = vec![BreakerChange { endpoint: SICK.to_owned(), is_open: true }];
        assert_eq!(turned, if n + 1 == opens { opened } else { vec![] }, "after {} failures", n + 1);
    }
    ids
}

#[tokio::test]
async fn a_breaker_opens_after_ten_failures_in_a_row_and_what_waits_burns_no_attempt() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    open_breaker(&pool, 3).await;
    assert_eq!(breaker(&pool, SICK).await, Some((10, 30.0, true)));
    queue(&pool, vec![webhook("https://well.example/")]).await;
    let next = take(&pool).await;
    assert_eq!(next.len(), 1, "others go on");
    assert_eq!(next[0].endpoint, "https://well.example");
    let page = list(&pool, &Filter { state: Some(DeliveryState::Held), ..Filter::default() }, 50, None)
        .await
        .unwrap();
    assert_eq!(page.items.len(), 13);
    let hold = page.items[0].hold.clone().unwrap();
    assert_eq!((hold.reason, hold.by), (HoldReason::Breaker, None));
    assert!(hold.until.unwrap() > hold.since.unwrap());
    assert_eq!(page.items.iter().map(|one| one.attempts).sum::<i32>(), 10);
}

#[tokio::test]
async fn one_success_among_failures_ends_the_row_of_them() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    queue(&pool, (0..12).map(|n| webhook(&format!("{SICK}/{n}"))).collect()).await;
    let leased = lease(&pool, Holder::Worker, &room(12, 12), LEASE).await.unwrap();
    for one in &leased[..9] {
        says(&pool, one, Health::Fails, MINUTE).await;
    }
    assert_eq!(breaker(&pool, SICK).await.unwrap().0, 9);
    assert_eq!(says(&pool, &leased[9], Health::Unknown, MINUTE).await, [], "it was not asked");
    assert_eq!(breaker(&pool, SICK).await, Some((9, 0.0, false)));
    assert_eq!(says(&pool, &leased[10], Health::Works, None).await, [], "it was not open");
    assert_eq!(breaker(&pool, SICK).await, Some((0, 0.0, false)));
    says(&pool, &leased[11], Health::Fails, MINUTE).await;
    assert_eq!(breaker(&pool, SICK).await.unwrap().0, 1);
}

#[tokio::test]
async fn a_batch_of_failures_counts_each_and_a_success_in_it_counts_more() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let to =
        |host: &str| (0..11).map(|n| webhook(&format!("https://{host}.example/{n}"))).collect::<Vec<_>>();
    queue(&pool, [to("bad"), to("mixed")].concat()).await;
    let leased = lease(&pool, Holder::Worker, &room(22, 11), LEASE).await.unwrap();
    let batch: Vec<Settlement> = leased
        .iter()
        .map(|one| {
            let works = one.delivery.payload.endpoint() == "https://mixed.example"
                && one.delivery.payload == webhook("https://mixed.example/3");
            let outcome = if works { AttemptOutcome::Delivered } else { AttemptOutcome::Retry };
            let mut settlement = ended(one, outcome, MINUTE, one.token.unsigned_abs());
            settlement.attempt.health = if works { Health::Works } else { Health::Fails };
            settlement
        })
        .collect();
    let turned = settle(&pool, &batch).await.unwrap();
    assert_eq!(turned, [BreakerChange { endpoint: "https://bad.example".to_owned(), is_open: true }]);
    assert_eq!(breaker(&pool, "https://bad.example").await, Some((11, 30.0, true)));
    assert_eq!(breaker(&pool, "https://mixed.example").await, None);
}

#[tokio::test]
async fn an_open_breaker_lets_one_through_at_a_time_and_waits_longer_after_each_that_fails() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    open_breaker(&pool, 0).await;
    for (failures, pause) in [(11, 60.0), (12, 120.0), (13, 240.0), (14, 300.0), (15, 300.0)] {
        assert!(take(&pool).await.is_empty(), "not before its pause");
        pauses_pass(&pool).await;
        let probe = take(&pool).await;
        assert_eq!(probe.len(), 1);
        pauses_pass(&pool).await;
        assert!(take(&pool).await.is_empty(), "one at a time");
        assert_eq!(says(&pool, &probe[0], Health::Fails, Some(Duration::ZERO)).await, []);
        assert_eq!(breaker(&pool, SICK).await, Some((failures, pause, true)));
    }
    pauses_pass(&pool).await;
    let probe = take(&pool).await.remove(0);
    let closed = BreakerChange { endpoint: SICK.to_owned(), is_open: false };
    assert_eq!(says(&pool, &probe, Health::Works, None).await, [closed]);
    assert_eq!(breaker(&pool, SICK).await, Some((0, 0.0, false)));
    assert_eq!(take(&pool).await.len(), 9, "all the others go");
}

#[tokio::test]
async fn nodes_that_probe_at_once_send_one() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    open_breaker(&pool, 10).await;
    for _ in 0..5 {
        pauses_pass(&pool).await;
        let room = room(10, 10);
        let leases = (0..8).map(|_| lease(&pool, Holder::Worker, &room, LEASE));
        let taken: Vec<Leased> =
            futures::future::join_all(leases).await.into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(taken.len(), 1);
        says(&pool, &taken[0], Health::Fails, MINUTE).await;
    }
}

#[tokio::test]
async fn a_probe_whose_worker_died_is_followed_by_another() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    open_breaker(&pool, 0).await;
    pauses_pass(&pool).await;
    assert_eq!(take(&pool).await.len(), 1);
    time_passes(&pool).await;
    assert!(take(&pool).await.is_empty(), "its lease ran out, and the pause has not passed");
    pauses_pass(&pool).await;
    assert_eq!(take(&pool).await.len(), 1);
}

#[tokio::test]
async fn a_probe_that_says_nothing_of_its_endpoint_leaves_the_breaker_as_it_is() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    open_breaker(&pool, 0).await;
    pauses_pass(&pool).await;
    let probe = take(&pool).await.remove(0);
    says(&pool, &probe, Health::Unknown, MINUTE).await;
    assert_eq!(breaker(&pool, SICK).await, Some((10, 30.0, true)));
    pauses_pass(&pool).await;
    assert_eq!(take(&pool).await.len(), 1);
}

#[tokio::test]
async fn a_late_failure_of_before_the_opening_does_not_make_the_pause_longer() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let ids = queue(&pool, (0..12).map(|n| webhook(&format!("{SICK}/{n}"))).collect()).await;
    let leased = lease(&pool, Holder::Worker, &room(12, 12), LEASE).await.unwrap();
    assert_eq!(ids.len(), leased.len());
    for one in &leased {
        says(&pool, one, Health::Fails, MINUTE).await;
    }
    assert_eq!(breaker(&pool, SICK).await, Some((12, 30.0, true)));
}

#[tokio::test]
async fn a_healthy_settling_writes_nothing_about_endpoints() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    queue(&pool, vec![webhook("https://a.example/"), mail(&["a@example.org"])]).await;
    for one in take(&pool).await {
        says(&pool, &one, Health::Works, None).await;
    }
    let rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM delivery_endpoints").fetch_one(&pool).await.unwrap();
    assert_eq!(rows, 0);
    // The same for one that had trouble and is well again.
    queue(&pool, vec![webhook(SICK), webhook(SICK), webhook(SICK)]).await;
    let leased = take(&pool).await;
    says(&pool, &leased[0], Health::Fails, MINUTE).await;
    says(&pool, &leased[1], Health::Works, None).await;
    let before: String =
        sqlx::query_scalar("SELECT xmin::text FROM delivery_endpoints").fetch_one(&pool).await.unwrap();
    says(&pool, &leased[2], Health::Works, None).await;
    let after: String =
        sqlx::query_scalar("SELECT xmin::text FROM delivery_endpoints").fetch_one(&pool).await.unwrap();
    assert_eq!(before, after);
}

/// The expected state of an endpoint's breaker after these attempts, settled one at a time: the rule without a database.
fn model(attempts: &[Health]) -> (i32, f64, bool) {
    let (mut failures, mut pause, mut is_open) = (0, 0.0, false);
    for health in attempts {
        match health {
            Health::Works => (failures, pause, is_open) = (0, 0.0, false),
            Health::Unknown => {}
            Health::Fails => {
                failures += 1;
                if is_open {
                    pause = f64::min(pause * 2.0, PROBE_MAX.as_secs_f64());
                } else if failures >= OPENS_AFTER {
                    (pause, is_open) = (PROBE_FIRST.as_secs_f64(), true);
                }
            }
        }
    }
    (failures, pause, is_open)
}

#[tokio::test]
async fn the_statement_keeps_the_breaker_as_the_rule_says() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    queue(&pool, (0..200).map(|n| webhook(&format!("{SICK}/{n}"))).collect()).await;
    let (mut attempts, mut bits) = (Vec::new(), 7_u64);
    while attempts.len() < 150 {
        pauses_pass(&pool).await;
        let one = lease(&pool, Holder::Worker, &room(1, 1), LEASE).await.unwrap().remove(0);
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Mostly failures, so that it opens now and then.
        let health = match bits >> 59 {
            0 => Health::Works,
            1..=3 => Health::Unknown,
            _ => Health::Fails,
        };
        says(&pool, &one, health, MINUTE).await;
        attempts.push(health);
        let found = breaker(&pool, SICK).await.unwrap_or_default();
        assert_eq!(found, model(&attempts), "after {attempts:?}");
    }
    assert!(attempts.contains(&Health::Works));
}

#[tokio::test]
async fn two_settlings_that_close_and_count_crosswise_do_not_wait_for_each_other() {
    let db = TestDb::new().await;
    let pool = db.pools.write.clone();
    let to_all = || (0..40).map(|n| webhook(&format!("https://h{n}.example/"))).collect::<Vec<_>>();
    queue(&pool, [to_all(), to_all(), to_all()].concat()).await;
    let leased = lease(&pool, Holder::Worker, &room(120, 3), LEASE).await.unwrap();
    // One attempt to each endpoint, of which some say that it works and the others that it does not.
    let batch = |nth: usize, works: &dyn Fn(usize) -> bool| -> Vec<Settlement> {
        let mut seen = std::collections::BTreeMap::<&str, usize>::new();
        let nth_of = leased.iter().filter(|one| {
            let count = seen.entry(&one.endpoint).or_default();
            *count += 1;
            *count == nth + 1
        });
        let told = |one: &Leased| {
            let number: usize =
                one.endpoint.trim_start_matches("https://h").trim_end_matches(".example").parse().unwrap();
            let outcome = if works(number) { AttemptOutcome::Delivered } else { AttemptOutcome::Retry };
            let mut settlement = ended(one, outcome, MINUTE, one.token.unsigned_abs());
            settlement.attempt.health = if works(number) { Health::Works } else { Health::Fails };
            settlement
        };
        nth_of.map(told).collect()
    };
    settle(&pool, &batch(0, &|_| false)).await.unwrap();
    let (even, odd) = (batch(1, &|n| n % 2 == 0), batch(2, &|n| n % 2 == 1));
    let (a, b) = tokio::join!(settle(&pool, &even), settle(&pool, &odd));
    a.unwrap();
    b.unwrap();
    // Of each endpoint one works and one fails, in whichever order.
    for n in 0..40 {
        assert!(breaker(&pool, &format!("https://h{n}.example")).await.unwrap().0 <= 1, "h{n}");
    }
}
