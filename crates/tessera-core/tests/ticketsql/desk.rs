//! A desk that is written directly into the tables: the fixed one in `desk.json`, or another one of the same form.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgPool;
use std::collections::BTreeMap;
use tessera_core::db::catalog;
use tessera_core::models::StatusClass;
use tessera_core::models::id::first_id_of;
use tessera_core::models::text::caseless;
use tessera_core::models::user::{ADMIN_USER, SYSTEM_USER};
use tessera_core::plan::{Catalog, Installation};
use tessera_core::query::words;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// The content of `desk.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desk {
    pub lifecycles: BTreeMap<String, Lists>,
    pub fields: Vec<FieldRow>,
    /// The lifecycle of each queue.
    pub queues: BTreeMap<String, String>,
    pub users: Vec<UserRow>,
    pub tickets: Vec<TicketRow>,
}

/// The statuses of a lifecycle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lists {
    pub initial: Vec<String>,
    pub active: Vec<String>,
    pub inactive: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldRow {
    pub name: String,
    field_type: String,
    #[serde(default)]
    pub values: Vec<String>,
    max_values: Option<i32>,
    #[serde(default)]
    disabled: bool,
    queues: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRow {
    pub username: String,
    pub email: Option<String>,
    #[serde(default)]
    privileged: bool,
    #[serde(default)]
    disabled: bool,
}

/// A ticket. Its history begins with its creation, whose text is `says`, and ends with its last update.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TicketRow {
    pub number: i64,
    pub queue: String,
    pub subject: String,
    pub status: String,
    pub owner: Option<String>,
    pub creator: String,
    pub priority: i32,
    pub created: String,
    pub started: Option<String>,
    pub due: Option<String>,
    pub told: Option<String>,
    pub resolved: Option<String>,
    /// Usernames, or addresses of people without a user.
    pub requestors: Vec<String>,
    pub cc: Vec<String>,
    pub admin_cc: Vec<String>,
    pub fields: BTreeMap<String, Vec<String>>,
    pub says: Option<String>,
    /// The time, the user, the type, and the text of a message.
    pub history: Vec<Vec<String>>,
}

/// The kind of an object in its id. The number follows in decimal digits, so that queries can contain the id.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Queue = 2,
    User = 3,
    Field = 4,
    Lifecycle = 5,
}

/// The id of the object with a number: `00000000-0000-7000-8000-200000000001` is the second queue.
pub fn id(kind: Kind, number: usize) -> Uuid {
    Uuid::parse_str(&format!("00000000-0000-7000-8000-{}{number:011}", kind as u8)).unwrap()
}

/// An id that carries a time and ends in a number in decimal digits.
fn timed_id(at: &str, number: usize) -> Uuid {
    let begin = first_id_of(OffsetDateTime::parse(at, &Rfc3339).unwrap()).to_string();
    Uuid::parse_str(&format!("{}-7000-8000-{number:012}", &begin[..13])).unwrap()
}

impl TicketRow {
    /// The id, built from the time of creation and the number.
    pub fn id(&self) -> Uuid {
        timed_id(&self.created, usize::try_from(self.number).unwrap())
    }
}

impl Desk {
    /// The desk of `desk.json`.
    pub fn fixed() -> Self {
        serde_json::from_str(include_str!("desk.json")).unwrap()
    }

    /// Writes the desk and returns its catalog.
    pub async fn write(&self, pool: &PgPool) -> Catalog {
        self.write_configuration(pool).await;
        let mut transactions = 0;
        for ticket in &self.tickets {
            self.write_ticket(pool, ticket, &mut transactions).await;
        }
        let installation = Installation {
            name: "tessera".to_owned(),
            base_url: "https://desk.example".to_owned(),
            mail_from: "desk@desk.example".to_owned(),
        };
        catalog::read(pool, None, installation).await.unwrap()
    }

    pub fn user(&self, username: &str) -> Option<Uuid> {
        let at = self.users.iter().position(|user| user.username == username)?;
        Some(match username {
            "system" => SYSTEM_USER.0,
            "admin" => ADMIN_USER.0,
            _ => id(Kind::User, at),
        })
    }

    fn queue(&self, name: &str) -> Uuid {
        id(Kind::Queue, self.queues.keys().position(|queue| queue == name).unwrap())
    }

    fn lifecycle(&self, name: &str) -> Uuid {
        id(Kind::Lifecycle, self.lifecycles.keys().position(|lifecycle| lifecycle == name).unwrap())
    }

    fn field(&self, name: &str) -> Uuid {
        id(Kind::Field, self.fields.iter().position(|field| field.name == name).unwrap())
    }

    async fn write_configuration(&self, pool: &PgPool) {
        for user in &self.users {
            sqlx::query(
                "INSERT INTO users (id, username, email, privileged, disabled) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(self.user(&user.username))
            .bind(&user.username)
            .bind(&user.email)
            .bind(user.privileged)
            .bind(user.disabled)
            .execute(pool)
            .await
            .unwrap();
        }
        for (name, lists) in &self.lifecycles {
            sqlx::query("INSERT INTO lifecycles (id, name, version, version_id, definition, changed_in) VALUES ($1, $2, 1, $1, $3, 0)")
                .bind(self.lifecycle(name))
                .bind(name)
                .bind(lists.definition())
                .execute(pool)
                .await
                .unwrap();
        }
        for (name, lifecycle) in &self.queues {
            sqlx::query("INSERT INTO queues (id, name, lifecycle_id, changed_in) VALUES ($1, $2, $3, 0)")
                .bind(self.queue(name))
                .bind(name)
                .bind(self.lifecycle(lifecycle))
                .execute(pool)
                .await
                .unwrap();
        }
        for field in &self.fields {
            let max = field.max_values.unwrap_or(i32::from(field.field_type != "SelectMulti"));
            sqlx::query("INSERT INTO custom_fields (id, name, field_type, values, max_values, disabled, changed_in) VALUES ($1, $2, $3, $4, $5, $6, 0)")
                .bind(self.field(&field.name))
                .bind(&field.name)
                .bind(&field.field_type)
                .bind((!field.values.is_empty()).then(|| json!(field.values)))
                .bind(max)
                .bind(field.disabled)
                .execute(pool)
                .await
                .unwrap();
            for queue in &field.queues {
                sqlx::query("INSERT INTO queue_custom_fields (queue_id, custom_field_id) VALUES ($1, $2)")
                    .bind(self.queue(queue))
                    .bind(self.field(&field.name))
                    .execute(pool)
                    .await
                    .unwrap();
            }
        }
    }

    async fn write_ticket(&self, pool: &PgPool, ticket: &TicketRow, transactions: &mut usize) {
        let ticket_id = ticket.id();
        let is_numbered = |line: &&Vec<String>| line[2] != "EmailRecord";
        let numbered = ticket.history.iter().filter(is_numbered);
        let updated = numbered.clone().next_back().map_or(&ticket.created, |line| &line[0]);
        sqlx::query(
            "INSERT INTO tickets (id, number, version, subject, subject_folded, subject_words, queue_id, status, status_class,
                                  owner_id, creator_id, priority, created_at, updated_at, started_at, due_at, told_at, resolved_at)
             VALUES ($1, $2, $3, $4, $5, $6::text::tsvector, $7, $8, $9, $10, $11, $12, $13::text::timestamptz, $14::text::timestamptz,
                     $15::text::timestamptz, $16::text::timestamptz, $17::text::timestamptz, $18::text::timestamptz)",
        )
        .bind(ticket_id)
        .bind(ticket.number)
        .bind(i64::try_from(1 + numbered.count()).unwrap())
        .bind(&ticket.subject)
        .bind(caseless(&ticket.subject))
        .bind(words::vector(&ticket.subject))
        .bind(self.queue(&ticket.queue))
        .bind(&ticket.status)
        .bind(self.class_of(ticket).as_char())
        .bind(ticket.owner.as_ref().map(|owner| self.user(owner).unwrap()))
        .bind(self.user(&ticket.creator).unwrap())
        .bind(ticket.priority)
        .bind(&ticket.created)
        .bind(updated)
        .bind(&ticket.started)
        .bind(&ticket.due)
        .bind(&ticket.told)
        .bind(&ticket.resolved)
        .execute(pool)
        .await
        .unwrap();
        self.write_sets(pool, ticket, ticket_id).await;
        let create =
            [&[ticket.created.clone(), ticket.creator.clone(), "Create".to_owned()], ticket.says.as_slice()]
                .concat();
        let mut seq = 0_i64;
        for line in [&create].into_iter().chain(&ticket.history) {
            *transactions += 1;
            seq += i64::from(is_numbered(&line));
            self.write_transaction(pool, ticket_id, timed_id(&line[0], *transactions), seq, line).await;
        }
    }

    async fn write_sets(&self, pool: &PgPool, ticket: &TicketRow, ticket_id: Uuid) {
        for (role, people) in
            [("requestor", &ticket.requestors), ("cc", &ticket.cc), ("admin_cc", &ticket.admin_cc)]
        {
            for person in people {
                let user = self.user(person);
                sqlx::query(
                    "INSERT INTO ticket_watchers (ticket_id, role, user_id, address) VALUES ($1, $2, $3, $4)",
                )
                .bind(ticket_id)
                .bind(role)
                .bind(user)
                .bind(user.is_none().then_some(person))
                .execute(pool)
                .await
                .unwrap();
            }
        }
        for (field, values) in &ticket.fields {
            for value in values {
                sqlx::query("INSERT INTO custom_field_values (custom_field_id, ticket_id, value, value_folded) VALUES ($1, $2, $3, $4)")
                    .bind(self.field(field))
                    .bind(ticket_id)
                    .bind(value)
                    .bind(caseless(value))
                    .execute(pool)
                    .await
                    .unwrap();
            }
        }
    }

    async fn write_transaction(&self, pool: &PgPool, ticket: Uuid, own: Uuid, seq: i64, line: &[String]) {
        let [at, by, kind, ..] = line else { panic!("{line:?} has too few parts") };
        let is_outcome = kind == "EmailRecord";
        sqlx::query(
            "INSERT INTO transactions (id, ticket_id, seq, request_id, batch_seq, transaction_type, data, creator_id, created_at, delivery_id)
             VALUES ($1, $2, $3, $1, 1, $4, '{}', $5, $6::text::timestamptz, $7)",
        )
        .bind(own)
        .bind(ticket)
        .bind((!is_outcome).then_some(seq))
        .bind(kind)
        .bind(self.user(by).unwrap())
        .bind(at)
        .bind(is_outcome.then_some(own))
        .execute(pool)
        .await
        .unwrap();
        if let Some(text) = line.get(3) {
            sqlx::query(
                "INSERT INTO transaction_contents (transaction_id, ticket_id, content_type, body, words)
                 VALUES ($1, $2, 'text/plain', $3, $4::text::tsvector)",
            )
            .bind(own)
            .bind(ticket)
            .bind(text)
            .bind(words::vector(text))
            .execute(pool)
            .await
            .unwrap();
        }
    }

    fn class_of(&self, ticket: &TicketRow) -> StatusClass {
        self.lifecycles[&self.queues[&ticket.queue]].class_of(&ticket.status)
    }
}

impl Lists {
    /// The list of a status.
    fn class_of(&self, status: &str) -> StatusClass {
        let lists = [&self.initial, &self.active, &self.inactive].into_iter().zip(StatusClass::ALL);
        lists.into_iter().find(|(list, _)| list.iter().any(|one| one == status)).unwrap().1
    }

    /// A definition in which every status can change to every other.
    fn definition(&self) -> Value {
        let all: Vec<&String> = self.initial.iter().chain(&self.active).chain(&self.inactive).collect();
        let others = |from: &str| -> Vec<&String> { all.iter().copied().filter(|to| *to != from).collect() };
        let mut transitions: BTreeMap<&str, Vec<&String>> =
            all.iter().map(|from| (from.as_str(), others(from))).collect();
        transitions.insert("", self.initial.iter().collect());
        json!({"initial": self.initial, "active": self.active, "inactive": self.inactive, "transitions": transitions})
    }
}
