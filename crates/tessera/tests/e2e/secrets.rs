//! Secrets are stored in their own table and sent only in the requests that they are meant for (I18).

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::mail::MailServer;
use crate::receiver::{Manner, Receiver};
use crate::support::{SOON, Server, eventually};

/// The secret of a header, and a signing key, which is the same in both spellings.
const CANARIES: [&str; 2] = ["canary-9c5e1f0b7a", "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5"];
/// The lists of the API.
const LISTS: [&str; 9] = [
    "secrets",
    "scrips",
    "templates",
    "queues",
    "users",
    "lifecycles",
    "custom-fields",
    "tickets",
    "deliveries",
];

#[tokio::test]
async fn a_secret_appears_only_in_its_table_and_in_the_requests_that_need_it() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let mut server =
        Server::start(&[("TESSERA_MAIL__SMTP_URL", mail.url()), ("RUST_LOG", "trace".to_owned())]).await;
    let [header, key] = CANARIES;
    let mut said = Vec::new();
    for (name, value) in [("crm", header.to_owned()), ("signing", format!("whsec_{key}"))] {
        let path = format!("/api/secrets/{name}");
        said.push(server.done("PUT", &path, &json!({"value": value})).await);
    }
    let scrip = json!({"name": "Tell", "condition_type": "OnComment", "action_type": "Webhook",
        "action_config": {"url": format!("{}/hook", receiver.url), "secret": "signing",
            "headers": {"Authorization": {"secret": "crm"}}}});
    said.push(server.done("POST", "/api/scrips", &scrip).await);
    let ticket = json!({"queue": "General", "subject": "Quiet", "requestors": ["eve@example.net"]});
    let path =
        format!("/api/tickets/{}", server.done("POST", "/api/tickets", &ticket).await["ticket"]["number"]);
    said.push(server.done("POST", &format!("{path}/preview"), &json!({"comment": "Psst"})).await);

    // The receiver fails, and responds with the request that it received.
    receiver.behave("/hook", Manner::Echo, 1);
    said.push(server.done("PATCH", &path, &json!({"comment": "Psst"})).await);
    eventually("the first attempt has ended", SOON, async || {
        let list = server.list(&format!("{path}/deliveries")).await;
        list.iter().any(|one| one["last_attempt"]["status_code"] == 500).then_some(())
    })
    .await;
    server.time_passes().await;
    server.delivered(SOON).await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|one| one.headers["authorization"] == header), "it was sent: {seen:?}");

    for list in LISTS {
        said.extend(server.list(&format!("/api/{list}")).await);
    }
    said.extend(server.list(&format!("{path}/transactions")).await);
    said.extend(server.deliveries(&format!("{path}/deliveries")).await);
    let texts = [
        ("the API", Value::from(said).to_string()),
        ("the mails", format!("{:?}", mail.taken())),
        ("the dump", dump(&server)),
        ("the log", std::fs::read_to_string(server.log()).unwrap()),
        ("PostgreSQL's log", server.postgres_log()),
    ];
    server.stop().await;
    for (place, text) in texts {
        assert!(text.len() > 100, "{place} is empty");
        for canary in CANARIES {
            assert!(!text.contains(canary), "{place} has {canary}: {}", around(&text, canary));
        }
    }
    server.check();
}

/// Dumps the database without that table.
fn dump(server: &Server) -> String {
    let url = format!("postgresql://tessera@/tessera?host={}", server.data().join("postgres/run").display());
    let output = Command::new(program("pg_dump"))
        .args(["--exclude-table-data=secrets", "--inserts", "--dbname", &url])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Columns of bytes may contain the secret as text.
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let bytes = text.split("'\\x").skip(1).filter_map(|rest| rest.split('\'').next());
    let decoded: Vec<String> = bytes.map(|hex| String::from_utf8_lossy(&unhex(hex)).into_owned()).collect();
    assert!(
        text.contains("(secret crm)") || decoded.iter().any(|one| one.contains("(secret crm)")),
        "the echo is kept"
    );
    text + &decoded.join("\n")
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |letter: u8| char::from(letter).to_digit(16).unwrap_or_default() as u8;
    hex.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Returns the path of one of PostgreSQL's programs, next to the server's if known.
fn program(name: &str) -> PathBuf {
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        packaged.map(|entry| entry.path().join("bin").join(name)).filter(|path| path.exists()).collect();
    found.sort();
    found.pop().unwrap_or_else(|| Path::new(name).to_owned())
}

fn around<'t>(text: &'t str, word: &str) -> &'t str {
    let at = text.find(word).unwrap_or_default();
    let start =
        (0..=at.saturating_sub(200)).rev().find(|place| text.is_char_boundary(*place)).unwrap_or_default();
    let end = (at + word.len()..text.len()).find(|place| text.is_char_boundary(*place)).unwrap_or(text.len());
    &text[start..end]
}
