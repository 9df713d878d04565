//! A load: clients that make and change tickets while something goes wrong, and their own book of what they were answered.

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
/// How long the deliveries may take after the last fault.
const DELIVERED: Duration = Duration::from_secs(120);
/// How long one request may take to be acknowledged, with all its attempts.
const ACKNOWLEDGED: Duration = Duration::from_secs(120);

/// How soon a request is sent again.
const AGAIN: Duration = Duration::from_millis(20);

/// How much is asked.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Clients at the same time.
    pub clients: usize,
    /// How often each begins a request, at most.
    pub pace: Duration,
    /// Whether each request has a connection of its own.
    pub apart: bool,
}

/// What a desk bears with ease while it is disturbed.
pub const STEADY: Size = Size { clients: 6, pace: Duration::from_millis(100), apart: false };

/// The clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    /// The nodes; every attempt goes to the next one.
    nodes: Vec<Api>,
    receiver: String,
    tickets: Vec<Value>,
    /// The scrip whose text is edited.
    scrip: Value,
    next: AtomicUsize,
    stop: AtomicBool,
    book: Mutex<Book>,
    /// The newest edition of the scrip that may stand, and the newest that does.
    begun: AtomicUsize,
    standing: AtomicUsize,
}

/// What the clients were answered; no fault of the server reaches it.
#[derive(Debug, Default)]
struct Book {
    /// By number: the editions of the scrip that may have been in force.
    acknowledged: BTreeMap<usize, (usize, usize)>,
    /// How often each kind of answer came.
    answers: BTreeMap<String, usize>,
    /// Requests that were begun and not answered.
    broken: Vec<String>,
    /// Answers that there should not be.
    unexplained: Vec<String>,
}

/// What a request of the load asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// A ticket; a webhook tells of it.
    Create,
    /// A new priority; a webhook tells of it.
    Priority,
    /// A comment; a mail tells of it.
    Comment,
    /// A new subject, of which nobody is told.
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
    /// Makes tickets and scrips on the first of the nodes, and begins to ask all of them.
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

    /// The tickets that are changed.
    pub fn tickets(&self) -> &[Value] {
        &self.shared.tickets
    }

    /// Waits until so many more requests are acknowledged.
    pub async fn goes_on(&self, by: usize) {
        let now = self.acknowledged();
        eventually("the load goes on", SOON, async || (self.acknowledged() >= now + by).then_some(())).await;
    }

    /// How many requests are acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.shared.book.lock().unwrap().acknowledged.len()
    }

    /// How often an answer of this kind has come: `200`, `503 busy`, `refused`, `broken`.
    pub fn answers(&self, kind: &str) -> usize {
        self.shared.book.lock().unwrap().answers.get(kind).copied().unwrap_or_default()
    }

    /// Changes the text of the webhook, and waits until that is acknowledged.
    pub async fn edit(&self) {
        eventually("an edit is acknowledged", ACKNOWLEDGED, async || self.try_edit().await.then_some(()))
            .await;
    }

    /// Changes the text of the webhook, if that can be done now; whether it is acknowledged.
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

    /// Lets every client end what it has begun, and closes the book.
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

/// The scrips that tell of what the load does; answers the id of the one that is edited.
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

/// Asks until it is told to stop, each request again and again until it is acknowledged.
async fn client(shared: Arc<Shared>, pace: Duration) {
    let mut paces = interval(pace.max(Duration::from_micros(1)));
    while !shared.stop.load(Ordering::SeqCst) {
        paces.tick().await;
        let number = shared.next.fetch_add(1, Ordering::SeqCst);
        let (method, path, body) = shared.request(number);
        let key = format!("load-{number}");
        let from = shared.standing.load(Ordering::SeqCst);
        // Not `eventually`: the compiler cannot see that what it borrows may go to another thread.
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

    /// One attempt at a request, on one of the nodes: whether it needs no other. Every answer is noted.
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
            // Nobody listens.
            Err(error) if error.is_connect() => ("refused".to_owned(), false),
            // The server died before it had answered.
            Err(error) => {
                book.broken.push(format!("{method} {path}: {error:?}"));
                ("broken".to_owned(), false)
            }
        };
        *book.answers.entry(kind).or_default() += 1;
        done
    }
}

/// The closed book of a load.
pub struct Ledger {
    book: Book,
    editions: usize,
}

impl Ledger {
    /// How often an answer of this kind came.
    pub fn answers(&self, kind: &str) -> usize {
        self.book.answers.get(kind).copied().unwrap_or_default()
    }

    /// Requests that were begun and not answered, and why.
    pub fn broken(&self) -> &[String] {
        &self.book.broken
    }

    /// Nobody was left without an answer: the server was there all the time.
    pub fn was_always_answered(&self) {
        assert_eq!((self.broken(), self.answers("refused")), (&[][..], 0));
    }

    /// Waits until everything is delivered, stops the server, and holds the book against the database, the receivers and
    /// the invariants. Prints one line of what there was.
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

    /// I1 and I16: what was acknowledged is there, and what was asked for twice under one key is there once.
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

    /// I5 to I9: one delivery for each change that asks for one, made by a scrip that was in force, arrived at least once
    /// under one id with the same bytes, and recorded exactly once. Answers how many, and in how many attempts.
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
        for delivery in server.list("/api/deliveries").await {
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

    /// Which request the webhook with this body tells of; its text is of an edition that may have been in force.
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

/// The number of a request of the load, in whatever it has left behind.
fn number_in(text: &str) -> usize {
    text.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap()
}

/// The outcomes in the histories, by delivery.
async fn records(server: &Server) -> BTreeMap<String, Vec<String>> {
    let facts = "SELECT delivery_id::text, transaction_type FROM transactions WHERE delivery_id IS NOT NULL";
    let mut records: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in sqlx::query(facts).fetch_all(&mut server.connection().await).await.unwrap() {
        records.entry(row.get(0)).or_default().push(row.get(1));
    }
    records
}
