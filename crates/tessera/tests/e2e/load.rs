//! A load: clients that create and change tickets during a fault, and keep their own records of the responses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::Row as _;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use crate::mail::MailServer;
use crate::receiver::Receiver;
use crate::support::{Api, SOON, Server, eventually};

/// Tickets that the changes are spread over.
const TICKETS: usize = 20;
/// Time limit for the deliveries after the last fault.
const DELIVERED: Duration = Duration::from_secs(120);
/// Time limit for one request to be acknowledged, with all its attempts.
const ACKNOWLEDGED: Duration = Duration::from_secs(120);

/// Interval between attempts of a request.
const AGAIN: Duration = Duration::from_millis(20);

/// The size of a load.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Number of concurrent clients.
    pub clients: usize,
    /// Minimum interval between the requests of one client.
    pub pace: Duration,
    /// Whether each request uses a new connection.
    pub apart: bool,
}

/// A load that the server can handle easily during a fault.
pub const STEADY: Size = Size { clients: 6, pace: Duration::from_millis(100), apart: false };

/// The running clients.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    /// The nodes; each attempt uses the next one.
    nodes: Vec<Api>,
    receiver: String,
    tickets: Vec<Value>,
    /// The scrip that is edited.
    scrip: Value,
    next: AtomicUsize,
    stop: AtomicBool,
    book: Mutex<Book>,
    /// The newest edition of the scrip that may be in force, and the newest acknowledged one.
    begun: AtomicUsize,
    standing: AtomicUsize,
}

/// The responses that the clients received, kept outside the server so that no fault can affect them.
#[derive(Debug, Default)]
struct Book {
    /// By request number: the range of editions of the scrip that may have been in force.
    acknowledged: BTreeMap<usize, (usize, usize)>,
    /// Number of responses of each kind.
    answers: BTreeMap<String, usize>,
    /// Requests without a response.
    broken: Vec<String>,
    /// Unexpected responses.
    unexplained: Vec<String>,
}

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// Creates a ticket; a webhook reports it.
    Create,
    /// Changes the priority; a webhook reports it.
    Priority,
    /// Adds a comment; a mail reports it.
    Comment,
    /// Changes the subject; nothing is sent.
    Subject,
}

impl Sort {
    fn of(number: usize) -> Self {
        match number % 10 {
            0 => Self::Comment,
            1 | 6 => Self::Create,
            3 | 5 | 7 | 9 => Self::Priority,
            _ => Self::Subject,
        }
    }

    fn has_webhook(self) -> bool {
        matches!(self, Self::Create | Self::Priority)
    }
}

impl Load {
    /// Creates tickets and scrips on the first node, and starts to send requests to all of them.
    pub async fn begin(nodes: &[&Server], receiver: &Receiver, size: Size) -> Self {
        let api = |node: &&Server| if size.apart { node.client_of_new_connections() } else { node.client() };
        let nodes: Vec<Api> = nodes.iter().map(api).collect();
        let mut tickets = Vec::new();
        for _ in 0..TICKETS {
            let ticket = json!({"queue": "General", "subject": "Of the load"});
            tickets.push(nodes[0].done("POST", "/api/tickets", &ticket).await["ticket"]["number"].clone());
        }
        let scrip = scrips(&nodes[0], &receiver.url).await;
        let shared = Arc::new(Shared {
            nodes,
            receiver: receiver.url.clone(),
            tickets,
            scrip,
            next: AtomicUsize::new(1),
            stop: AtomicBool::new(false),
            book: Mutex::default(),
            begun: AtomicUsize::new(0),
            standing: AtomicUsize::new(0),
        });
        let client = |_| tokio::spawn(client(Arc::clone(&shared), size.pace));
        Self { clients: (0..size.clients).map(client).collect(), shared }
    }

    /// Returns the tickets that are changed.
    pub fn tickets(&self) -> &[Value] {
        &self.shared.tickets
    }

    /// Waits until the given number of further requests is acknowledged.
    pub async fn goes_on(&self, by: usize) {
        let now = self.acknowledged();
        eventually("the load continues", SOON, async || (self.acknowledged() >= now + by).then_some(()))
            .await;
    }

    /// Returns the number of acknowledged requests.
    pub fn acknowledged(&self) -> usize {
        self.shared.book.lock().unwrap().acknowledged.len()
    }

    /// Returns the number of responses of a kind: `200`, `503 busy`, `refused`, `broken`.
    pub fn answers(&self, kind: &str) -> usize {
        self.shared.book.lock().unwrap().answers.get(kind).copied().unwrap_or_default()
    }

    /// Edits the text of the webhook, and waits until that is acknowledged.
    pub async fn edit(&self) {
        eventually("an edit is acknowledged", ACKNOWLEDGED, async || self.try_edit().await.then_some(()))
            .await;
    }

    /// Edits the text of the webhook if possible now. Returns whether that was acknowledged.
    pub async fn try_edit(&self) -> bool {
        let edition = self.shared.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let path = format!("/api/scrips/{}", self.shared.scrip.as_str().unwrap());
        let body = json!({"action_config": config(&self.shared.receiver, edition)});
        let is_done = self.shared.ask(edition, "PATCH", &path, &body, None).await;
        if is_done {
            self.shared.standing.fetch_max(edition, Ordering::SeqCst);
        }
        is_done
    }

    /// Waits until every client has finished its request, and returns the records.
    pub async fn finish(self) -> Ledger {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.unwrap();
        }
        let book = std::mem::take(&mut *self.shared.book.lock().unwrap());
        assert!(book.unexplained.is_empty(), "{:#?}", book.unexplained);
        Ledger { book, editions: self.shared.begun.load(Ordering::SeqCst) }
    }
}

/// Creates the scrips that report the load's changes, and returns the id of the one that is edited.
async fn scrips(api: &Api, receiver: &str) -> Value {
    let created = json!({"name": "Load: a ticket", "queue": "General", "condition_type": "OnCreate", "action_type": "Webhook",
        "action_config": {"url": format!("{receiver}/load/{{{{ ticket.number }}}}"),
            "body": "{\"of\": \"{{ ticket.subject }}\"}"}});
    let changed = json!({"name": "Load: a priority", "queue": "General", "condition_type": "OnPriorityChange",
        "action_type": "Webhook", "action_config": config(receiver, 0)});
    let mail = json!({"name": "Load: a comment", "queue": "General", "condition_type": "OnComment", "action_type": "SendEmail",
        "action_config": {"to": ["load@example.net"]}, "template": "Transaction"});
    for scrip in [created, mail] {
        api.done("POST", "/api/scrips", &scrip).await;
    }
    api.done("POST", "/api/scrips", &changed).await["id"].clone()
}

fn config(receiver: &str, edition: usize) -> Value {
    let body = format!("{{\"of\": {{{{ transaction.new_value }}}}, \"edition\": {edition}}}");
    json!({"url": format!("{receiver}/load/{{{{ ticket.number }}}}"), "body": body})
}

/// Sends requests until the load stops, and repeats each one until it is acknowledged.
async fn client(shared: Arc<Shared>, pace: Duration) {
    let mut paces = interval(pace.max(Duration::from_micros(1)));
    while !shared.stop.load(Ordering::SeqCst) {
        paces.tick().await;
        let number = shared.next.fetch_add(1, Ordering::SeqCst);
        let (method, path, body) = shared.request(number);
        let key = format!("load-{number}");
        let from = shared.standing.load(Ordering::SeqCst);
        // Not `eventually`, because the compiler cannot prove that its closure's future is `Send`.
        let insist = timeout(ACKNOWLEDGED, async {
            let mut attempts = interval(AGAIN);
            for node in number.. {
                attempts.tick().await;
                if shared.ask(node, method, &path, &body, Some(&key)).await {
                    return;
                }
            }
        });
        insist.await.unwrap_or_else(|_| panic!("{method} {path} {body} is not acknowledged"));
        let editions = (from, shared.begun.load(Ordering::SeqCst));
        shared.book.lock().unwrap().acknowledged.insert(number, editions);
    }
}

impl Shared {
    fn request(&self, number: usize) -> (&'static str, String, Value) {
        let ticket = format!("/api/tickets/{}", self.tickets[number % self.tickets.len()]);
        let subject = format!("change {number}");
        match Sort::of(number) {
            Sort::Create => {
                let body = json!({"queue": "General", "subject": format!("made {number}")});
                ("POST", "/api/tickets".to_owned(), body)
            }
            Sort::Priority => ("PATCH", ticket, json!({"subject": subject, "priority": number})),
            Sort::Comment => ("PATCH", ticket, json!({"subject": subject, "comment": "Look at this."})),
            Sort::Subject => ("PATCH", ticket, json!({"subject": subject})),
        }
    }

    /// Makes one attempt at a request on one of the nodes, and records the response. Returns whether no further one is needed.
    async fn ask(&self, node: usize, method: &str, path: &str, body: &Value, key: Option<&str>) -> bool {
        let node = &self.nodes[node % self.nodes.len()];
        let headers: Vec<_> = key.map(|key| ("Idempotency-Key", key)).into_iter().collect();
        let answer = node.try_api(method, path, body, &headers).await;
        let mut book = self.book.lock().unwrap();
        let (kind, done) = match answer {
            Ok(answer) if answer.status.is_success() => (answer.status.as_str().to_owned(), true),
            Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
                let code = answer.body["code"].as_str().unwrap_or_default();
                let is_explained = !code.is_empty()
                    && answer.body["detail"].as_str().is_some_and(|detail| !detail.is_empty())
                    && answer.headers.contains_key("retry-after");
                if !is_explained {
                    book.unexplained.push(format!("{method} {path}: 503 {:#}", answer.body));
                }
                (format!("503 {code}"), false)
            }
            Ok(answer) => {
                book.unexplained.push(format!("{method} {path}: {} {:#}", answer.status, answer.body));
                (answer.status.as_str().to_owned(), true)
            }
            // The server is not listening.
            Err(error) if error.is_connect() => ("refused".to_owned(), false),
            // The server died before it responded.
            Err(error) => {
                book.broken.push(format!("{method} {path}: {error:?}"));
                ("broken".to_owned(), false)
            }
        };
        *book.answers.entry(kind).or_default() += 1;
        done
    }
}

/// The complete records of a load.
pub struct Ledger {
    book: Book,
    editions: usize,
}

impl Ledger {
    /// Returns the number of responses of a kind.
    pub fn answers(&self, kind: &str) -> usize {
        self.book.answers.get(kind).copied().unwrap_or_default()
    }

    /// Returns the requests without a response, with the errors.
    pub fn broken(&self) -> &[String] {
        &self.book.broken
    }

    /// Asserts that every request got a response, as the server was never down.
    pub fn was_always_answered(&self) {
        assert_eq!((self.broken(), self.answers("refused")), (&[][..], 0));
    }

    /// Waits until everything is delivered, stops the server, and compares the records with the database, the receivers and
    /// the invariants. Prints one line of results.
    pub async fn holds(self, fault: &str, server: &mut Server, receiver: &Receiver, mail: &MailServer) {
        server.delivered(DELIVERED).await;
        self.every_change_is_there_once(server).await;
        let (deliveries, attempts) =
            self.every_delivery_arrived_and_is_recorded_once(server, receiver, mail).await;
        server.stop().await;
        server.check();
        let answers: Vec<String> =
            self.book.answers.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
        println!(
            "fault {fault}: {} acknowledged, none lost, none twice; answers {}; {deliveries} deliveries arrived in {attempts} \
             attempts, each recorded once; {} edits; the check holds",
            self.book.acknowledged.len(),
            answers.join(", "),
            self.editions,
        );
    }

    /// I1 and I16: acknowledged changes exist, and a change requested twice under one key exists once.
    async fn every_change_is_there_once(&self, server: &Server) {
        let mut written: BTreeMap<usize, usize> = BTreeMap::new();
        let facts = "SELECT new_value FROM transactions WHERE transaction_type = 'Set' AND new_value LIKE 'change %' \
                     UNION ALL SELECT subject FROM tickets WHERE subject LIKE 'made %'";
        for row in sqlx::query(facts).fetch_all(&mut server.connection().await).await.unwrap() {
            let text: String = row.get(0);
            *written.entry(number_in(&text)).or_default() += 1;
        }
        let acknowledged: BTreeSet<usize> = self.book.acknowledged.keys().copied().collect();
        let lost: Vec<_> = acknowledged.iter().filter(|number| !written.contains_key(number)).collect();
        let twice: Vec<_> = written.iter().filter(|(_, count)| **count != 1).collect();
        let strange: Vec<_> = written.keys().filter(|number| !acknowledged.contains(number)).collect();
        assert!(
            lost.is_empty() && twice.is_empty() && strange.is_empty(),
            "lost {lost:?}, twice {twice:?}, strange {strange:?}"
        );
    }

    /// I5 to I9: one delivery for each change that causes one, created by a scrip that was in force, arrived at least once
    /// under one id with the same bytes, and recorded exactly once. Returns their number, and that of the attempts.
    async fn every_delivery_arrived_and_is_recorded_once(
        &self,
        server: &Server,
        receiver: &Receiver,
        mail: &MailServer,
    ) -> (usize, usize) {
        let mut records = records(server).await;
        let bodies = receiver.bodies();
        let mut mails: BTreeMap<String, usize> = BTreeMap::new();
        for taken in mail.taken() {
            *mails.entry(format!("<{}>", taken.id())).or_default() += 1;
        }
        let (mut made, mut comments, mut attempts) = (BTreeSet::new(), 0, 0);
        for delivery in server.deliveries("/api/deliveries").await {
            let name = delivery["scrip"]["name"].as_str().unwrap_or_default();
            if !name.starts_with("Load: ") {
                continue;
            }
            let id = delivery["id"].as_str().unwrap();
            assert_eq!(delivery["state"], "completed", "{delivery:#}");
            let recorded = records.remove(id).unwrap_or_default();
            if delivery["kind"] == "webhook" {
                let [first, others @ ..] = bodies.get(id).map_or(&[][..], Vec::as_slice) else {
                    panic!("{delivery:#} never arrived");
                };
                attempts += 1 + others.len();
                assert!(others.iter().all(|other| other == first), "{id}: {first:?} {others:?}");
                assert_eq!(delivery["body"].as_str().unwrap().as_bytes(), first);
                assert_eq!(recorded, ["WebhookDelivery"], "{delivery:#}");
                assert!(made.insert(self.cause(first)), "two deliveries of one change: {delivery:#}");
            } else {
                comments += 1;
                let copies = mails.get(delivery["headers"]["Message-ID"].as_str().unwrap());
                attempts += copies.unwrap_or_else(|| panic!("{delivery:#} never arrived"));
                assert_eq!(recorded, ["EmailRecord"], "{delivery:#}");
            }
        }
        let asked = |of: fn(&Sort) -> bool| {
            let numbers = self.book.acknowledged.keys().copied();
            numbers.filter(move |number| of(&Sort::of(*number)))
        };
        assert_eq!(made, asked(|sort| sort.has_webhook()).collect::<BTreeSet<usize>>());
        assert_eq!(comments, asked(|sort| *sort == Sort::Comment).count());
        (made.len() + comments, attempts)
    }

    /// Returns the request that the webhook with this body reports; its text is from an edition that may have been in force.
    fn cause(&self, body: &[u8]) -> usize {
        let body: Value = serde_json::from_slice(body).unwrap();
        let number = number_in(body["of"].as_str().unwrap());
        if let Some(edition) = body["edition"].as_u64() {
            let (from, to) = self.book.acknowledged[&number];
            assert!((from as u64..=to as u64).contains(&edition), "{number}: {body}, not of {from} to {to}");
        }
        number
    }
}

/// Returns the number of a request of the load, in any text that it wrote.
fn number_in(text: &str) -> usize {
    text.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap()
}

/// Returns the recorded outcomes by delivery.
async fn records(server: &Server) -> BTreeMap<String, Vec<String>> {
    let facts = "SELECT delivery_id::text, transaction_type FROM transactions WHERE delivery_id IS NOT NULL";
    let mut records: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in sqlx::query(facts).fetch_all(&mut server.connection().await).await.unwrap() {
        records.entry(row.get(0)).or_default().push(row.get(1));
    }
    records
}
