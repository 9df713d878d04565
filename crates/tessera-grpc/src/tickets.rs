//! Tickets: read, searched, created and changed as the user that the connector is bound to.

use crate::convert::{create, given, message, preview, recorded, ticket, update};
use crate::status::status;
use crate::v1::preview_ticket_request::Command;
use crate::v1::tickets_service_server::{SERVICE_NAME, TicketsService};
use crate::{Services, connector, v1};
use prost::Message;
use sha2::{Digest as _, Sha256};
use tessera_core::desk::reads::{Count, Search};
use tessera_core::desk::{
    Caller, Committed, Conditions, IdempotencyKey, KEY_MAX, Outcome, clock, parse_depth,
};
use tessera_core::error::{Code, Error, Fault, Result};
use tessera_core::models::delivery::DEPTH_HEADER;
use tessera_core::models::page::LIMIT_DEFAULT;
use tessera_core::plan::command::UpdateTicket;
use tessera_core::plan::{Names, PlanHash};
use tessera_core::query::sql::{Asker, Sorted};
use tessera_core::query::{Dialect, Zone};
use tonic::{Request, Response, Status};

/// The most tickets or transactions on a page.
const PAGE_MAX: i32 = 100;

#[tonic::async_trait]
impl TicketsService for Services {
    async fn get_ticket(
        &self,
        request: Request<v1::GetTicketRequest>,
    ) -> Result<Response<v1::GetTicketResponse>, Status> {
        self.get(request).await.map(Response::new).map_err(status)
    }

    async fn search_tickets(
        &self,
        request: Request<v1::SearchTicketsRequest>,
    ) -> Result<Response<v1::SearchTicketsResponse>, Status> {
        self.search(request).await.map(Response::new).map_err(status)
    }

    async fn list_transactions(
        &self,
        request: Request<v1::ListTransactionsRequest>,
    ) -> Result<Response<v1::ListTransactionsResponse>, Status> {
        self.history(request).await.map(Response::new).map_err(status)
    }

    async fn create_ticket(
        &self,
        request: Request<v1::CreateTicketRequest>,
    ) -> Result<Response<v1::CreateTicketResponse>, Status> {
        self.create(request).await.map(Response::new).map_err(status)
    }

    async fn update_ticket(
        &self,
        request: Request<v1::UpdateTicketRequest>,
    ) -> Result<Response<v1::UpdateTicketResponse>, Status> {
        self.update(request).await.map(Response::new).map_err(status)
    }

    async fn add_message(
        &self,
        request: Request<v1::AddMessageRequest>,
    ) -> Result<Response<v1::AddMessageResponse>, Status> {
        self.write(request).await.map(Response::new).map_err(status)
    }

    async fn preview_ticket(
        &self,
        request: Request<v1::PreviewTicketRequest>,
    ) -> Result<Response<v1::PreviewTicketResponse>, Status> {
        self.preview(request).await.map(Response::new).map_err(status)
    }
}

impl Services {
    async fn get(&self, request: Request<v1::GetTicketRequest>) -> Result<v1::GetTicketResponse> {
        let caller = self.caller(&request).await?;
        let read = self.tessera.ticket(&caller, request.get_ref().ticket.parse()?).await?;
        Ok(v1::GetTicketResponse { ticket: Some(ticket(&read.ticket, read.names())) })
    }

    async fn search(&self, request: Request<v1::SearchTicketsRequest>) -> Result<v1::SearchTicketsResponse> {
        let caller = self.caller(&request).await?;
        let asked = request.into_inner();
        let cursor = given(asked.page_token);
        let search = Search {
            query: &asked.query,
            dialect: Dialect::default(),
            order: &given(asked.order).map(|order| Sorted::list(&order)).unwrap_or_default(),
            limit: page_size(asked.page_size)?,
            cursor: cursor.as_deref(),
            count: Count::None,
            asker: Asker { user: caller.user.id, now: clock::now(), zone: Zone::utc() },
        };
        let catalog = self.tessera.configuration(&caller).await?;
        let found = self.tessera.search(&caller, &catalog, &search).await?;
        let names = Names { catalog: &catalog, people: &found.people, actor: Some(&caller.user) };
        Ok(v1::SearchTicketsResponse {
            tickets: found.page.items.iter().map(|one| ticket(one, names)).collect(),
            next_page_token: found.page.next_cursor.unwrap_or_default(),
        })
    }

    async fn history(
        &self,
        request: Request<v1::ListTransactionsRequest>,
    ) -> Result<v1::ListTransactionsResponse> {
        let caller = self.caller(&request).await?;
        let asked = request.into_inner();
        let (named, limit) = (asked.ticket.parse()?, page_size(asked.page_size)?);
        let cursor = given(asked.page_token);
        let page = self.tessera.history(&caller, named, limit, cursor.as_deref()).await?;
        Ok(v1::ListTransactionsResponse {
            transactions: page.items.into_iter().map(recorded).collect(),
            next_page_token: page.next_cursor.unwrap_or_default(),
        })
    }

    async fn create(&self, request: Request<v1::CreateTicketRequest>) -> Result<v1::CreateTicketResponse> {
        let caller = self.caller(&request).await?;
        let mut asked = request.into_inner();
        let key = std::mem::take(&mut asked.idempotency_key);
        let conditions = Conditions {
            version: None,
            plan: plan_hash(&asked.plan_hash)?,
            key: idempotency_key(key, "CreateTicket", &asked)?,
        };
        let command = create(asked.ticket.ok_or_else(|| missing("ticket"))?)?;
        let committed = committed(self.tessera.create(&caller, command, &conditions).await?)?;
        Ok(v1::CreateTicketResponse { ticket: Some(after(&committed)), replayed: committed.is_replayed })
    }

    async fn update(&self, request: Request<v1::UpdateTicketRequest>) -> Result<v1::UpdateTicketResponse> {
        let caller = self.caller(&request).await?;
        let mut asked = request.into_inner();
        let key = std::mem::take(&mut asked.idempotency_key);
        let conditions = Conditions {
            version: (asked.version != 0).then_some(asked.version),
            plan: plan_hash(&asked.plan_hash)?,
            key: idempotency_key(key, "UpdateTicket", &asked)?,
        };
        let (named, command) =
            (asked.ticket.parse()?, update(asked.change.ok_or_else(|| missing("change"))?)?);
        let committed = committed(self.tessera.update(&caller, named, command, &conditions).await?)?;
        Ok(v1::UpdateTicketResponse { ticket: Some(after(&committed)), replayed: committed.is_replayed })
    }

    async fn write(&self, request: Request<v1::AddMessageRequest>) -> Result<v1::AddMessageResponse> {
        let caller = self.caller(&request).await?;
        let mut asked = request.into_inner();
        let key = std::mem::take(&mut asked.idempotency_key);
        let conditions =
            Conditions { key: idempotency_key(key, "AddMessage", &asked)?, ..Conditions::default() };
        let (named, audience) = (asked.ticket.parse()?, asked.audience());
        let content = message(asked.message, "message").map_err(|fault| Error::invalid(vec![fault]))?;
        let content = Some(content.ok_or_else(|| missing("message"))?);
        let command = match audience {
            v1::Audience::Team => UpdateTicket { comment: content, ..UpdateTicket::default() },
            v1::Audience::Requestor => UpdateTicket { reply: content, ..UpdateTicket::default() },
            v1::Audience::Unspecified => {
                let message = "is missing; send AUDIENCE_TEAM or AUDIENCE_REQUESTOR";
                return Err(Error::invalid_field("audience", message));
            }
        };
        let committed = committed(self.tessera.update(&caller, named, command, &conditions).await?)?;
        Ok(v1::AddMessageResponse { ticket: Some(after(&committed)), replayed: committed.is_replayed })
    }

    async fn preview(&self, request: Request<v1::PreviewTicketRequest>) -> Result<v1::PreviewTicketResponse> {
        let caller = self.caller(&request).await?;
        let asked = request.into_inner();
        let prepared = match asked.command {
            Some(Command::Create(_)) if !asked.ticket.is_empty() => {
                let message = "cannot be combined with create: a new ticket has no number yet";
                return Err(Error::invalid_field("ticket", message));
            }
            Some(Command::Create(new)) => self.tessera.preview_create(&caller, create(new)?).await?,
            Some(Command::Change(change)) => {
                let (named, command) = (asked.ticket.parse()?, update(change)?);
                self.tessera.preview_update(&caller, named, command).await?
            }
            None => return Err(missing("create or change")),
        };
        Ok(preview(&prepared))
    }

    /// The user of the connector, at the depth of `Tessera-Depth`. This is the one place of this edge that decides as whom a
    /// call reads and changes tickets.
    async fn caller<T: Sync>(&self, request: &Request<T>) -> Result<Caller> {
        let caller = self.tessera.caller_of(&connector(request)?).await?;
        // Metadata keys are lower-case.
        let Some(depth) = request.metadata().get(DEPTH_HEADER.to_ascii_lowercase()) else {
            return Ok(caller);
        };
        // A value that is not ASCII is not a number either.
        Ok(caller.at_depth(parse_depth(depth.to_str().unwrap_or("?"))?))
    }
}

/// The ticket in the response to a change.
fn after(committed: &Committed) -> v1::Ticket {
    ticket(&committed.summary.ticket, committed.names())
}

fn committed(outcome: Outcome) -> Result<Committed> {
    match outcome {
        Outcome::Committed(committed) => Ok(*committed),
        Outcome::PlanChanged(prepared) => {
            let detail = format!(
                "Nothing was written: the same request would now have a different effect, with the plan_hash {}. Preview it \
                 again.",
                prepared.plan.hash
            );
            Err(Error::new(Code::PlanChanged, detail))
        }
    }
}

fn plan_hash(text: &str) -> Result<Option<PlanHash>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Error::invalid_field(
            "plan_hash",
            "is not a plan_hash: send the 64 hex digits that a preview returned",
        )
    })
}

/// The idempotency key of a request, with the hash of the rest of the request: method and message.
fn idempotency_key(key: String, method: &str, asked: &impl Message) -> Result<Option<IdempotencyKey>> {
    if key.is_empty() {
        return Ok(None);
    }
    if key.len() > KEY_MAX || key.contains(char::is_control) {
        let message = format!("must be 1 to {KEY_MAX} bytes without control characters");
        return Err(Error::invalid_field("idempotency_key", message));
    }
    let mut hasher = Sha256::new();
    hasher.update(SERVICE_NAME);
    hasher.update([b'/']);
    hasher.update(method);
    hasher.update([0]);
    hasher.update(asked.encode_to_vec());
    Ok(Some(IdempotencyKey { key, body_hash: hasher.finalize().to_vec() }))
}

fn page_size(asked: i32) -> Result<i64> {
    match asked {
        0 => Ok(LIMIT_DEFAULT),
        1..=PAGE_MAX => Ok(asked.into()),
        _ => Err(Error::invalid_field("page_size", format!("is {asked}; it must be 1 to {PAGE_MAX}"))),
    }
}

fn missing(field: &str) -> Error {
    Error::invalid(vec![Fault::new(field, "is missing")])
}
