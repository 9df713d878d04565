//! The log lines of calls, and the details that appear only in the log.

use crate::desk::{Desk, new};
use serde_json::Value;
use std::io;
use std::sync::{Arc, LazyLock, Mutex};
use tessera_grpc::v1::{CreateTicketRequest, GetTicketRequest, ListKindsRequest};
use tonic::Code;
use tracing_subscriber::fmt::MakeWriter;

/// The lines of this program's log, which all tests share.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

impl Lines {
    /// Starts the log, once.
    fn begun() -> Self {
        static LINES: LazyLock<Lines> = LazyLock::new(|| {
            let lines = Lines::default();
            let subscriber = tracing_subscriber::fmt().json().with_writer(lines.clone()).finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
            lines
        });
        LINES.clone()
    }

    /// Returns the lines of the call with this id.
    fn of(&self, id: &str) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["fields"]["request_id"] == id).collect()
    }
}

#[tokio::test]
async fn an_internal_error_is_logged_once_with_its_causes_which_the_client_does_not_receive() {
    let lines = Lines::begun();
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    sqlx::query("ALTER TABLE tickets RENAME TO elsewhere").execute(desk.pool()).await.unwrap();
    let failed = client.tickets.get_ticket(GetTicketRequest { ticket: "1".to_owned() }).await.unwrap_err();
    assert_eq!(failed.code(), Code::Internal);
    assert!(!format!("{failed:?}").contains("relation"), "{failed:?}");
    let id = failed.metadata().get("x-request-id").unwrap().to_str().unwrap();
    let [told] = lines.of(id).try_into().unwrap();
    assert_eq!((told["level"].as_str(), told["fields"]["code"].as_str()), (Some("ERROR"), Some("INTERNAL")));
    assert_eq!(told["fields"]["method"], "tessera.v1.TicketsService/GetTicket");
    assert!(told["fields"]["causes"].as_str().unwrap().contains("relation"), "{told}");
}

#[tokio::test]
async fn calls_are_logged_at_info_level_except_those_that_connectors_make_all_the_time() {
    let lines = Lines::begun();
    let desk = Desk::open().await;
    let mut client = desk.client().await;
    let id = |metadata: &tonic::metadata::MetadataMap| {
        metadata.get("x-request-id").unwrap().to_str().unwrap().to_owned()
    };
    let request = CreateTicketRequest { ticket: Some(new("Kettle")), ..Default::default() };
    let made = client.tickets.create_ticket(request).await.unwrap();
    let [told] = lines.of(&id(made.metadata())).try_into().unwrap();
    assert_eq!((told["level"].as_str(), told["fields"]["code"].as_str()), (Some("INFO"), Some("OK")));
    let listed = client.scrips.list_kinds(ListKindsRequest {}).await.unwrap();
    assert_eq!(lines.of(&id(listed.metadata())).len(), 1);
    let extended = client.actions.extend(crate::actions::nothing_held()).await.unwrap();
    assert_eq!(lines.of(&id(extended.metadata())).len(), 0);
}
