//! `tessera doctor`: reports problems, with and without a running server, and sends nothing.

use std::net::TcpListener;

use serde_json::json;

use crate::mail::MailServer;
use crate::receiver::Receiver;
use crate::support::{Ran, SOON, Server};

/// Returns the lines of a check, without the advice below them.
fn lines<'r>(ran: &'r Ran, about: &str) -> Vec<&'r str> {
    let is_its = |line: &&str| !line.starts_with(' ') && line.split_whitespace().nth(1) == Some(about);
    ran.stdout.lines().filter(is_its).collect()
}

#[tokio::test]
async fn a_healthy_desk_has_no_failures_and_nothing_is_sent() {
    let (mail, receiver) = (MailServer::start().await, Receiver::start().await);
    let mut server = Server::start(&[("TESSERA_MAIL__SMTP_URL", mail.url())]).await;
    let scrip = json!({"name": "Tell the hook", "condition_type": "OnCreate", "action_type": "Webhook",
        "action_config": {"url": format!("{}/{{{{ ticket.number }}}}", receiver.url)}});
    server.done("POST", "/api/scrips", &scrip).await;
    server.delivered(SOON).await;

    for is_running in [true, false] {
        let ran = server.run(&["doctor"], &[]);
        assert!(ran.ok, "{ran:?}");
        assert!(!ran.stdout.contains("failed  "), "{ran:?}");
        let all = [
            "settings",
            "disk",
            "admin",
            "mail",
            "database",
            "safety",
            "connections",
            "session",
            "transactions",
            "clock",
            "versions",
            "schema",
            "deliveries",
            "partitions",
            "webhooks",
        ];
        for about in all {
            assert!(lines(&ran, about).iter().all(|line| line.starts_with("ok ")), "{about}: {ran:?}");
            assert!(!lines(&ran, about).is_empty(), "{about}: {ran:?}");
        }
        let verdict = if is_running { "ok " } else { "warning " };
        assert!(lines(&ran, "server")[0].starts_with(verdict), "{ran:?}");
        if is_running {
            server.stop().await;
        }
    }
    assert!(mail.taken().is_empty() && receiver.seen().is_empty(), "something was sent");
}

#[tokio::test]
async fn every_check_runs_even_if_some_fail_and_each_gives_advice() {
    let receiver = Receiver::start().await;
    let server = Server::start(&[]).await;
    for (name, url) in [("Refused", receiver.url.as_str()), ("Away", "http://127.0.0.2:1")] {
        let scrip = json!({"name": name, "condition_type": "OnCreate", "action_type": "Webhook",
            "action_config": {"url": format!("{url}/{{{{ ticket.number }}}}")}});
        server.done("POST", "/api/scrips", &scrip).await;
    }
    let vars = [
        ("TESSERA_WEBHOOK__ALLOW", "127.0.0.2/32"),
        // Nobody listens on port 1.
        ("TESSERA_MAIL__SMTP_URL", "smtp://user:hunter2@127.0.0.1:1"),
    ];
    let ran = server.run(&["doctor"], &vars);
    assert!(!ran.ok && ran.stderr.contains("2 of 19 checks failed"), "{ran:?}");
    assert!(lines(&ran, "mail")[0].starts_with("failed "), "{ran:?}");
    let [refused, away] = lines(&ran, "webhooks")[..] else { panic!("{ran:?}") };
    assert!(refused.starts_with("failed ") && refused.contains("webhook.allow"), "{ran:?}");
    assert!(away.starts_with("warning ") && away.contains("127.0.0.2:1"), "{ran:?}");
    assert!(lines(&ran, "database")[0].starts_with("ok "), "{ran:?}");
    // Each warning and failure has a line of advice below it.
    let bad = ran.stdout.lines().filter(|line| line.starts_with("failed ") || line.starts_with("warning "));
    assert_eq!(
        bad.count(),
        ran.stdout.lines().filter(|line| line.trim().starts_with("-> ")).count(),
        "{ran:?}"
    );
    assert!(!ran.stdout.contains("hunter2") && !ran.stderr.contains("hunter2"), "{ran:?}");
}

#[tokio::test]
async fn an_unreachable_database_and_an_invalid_setting_are_reported() {
    let server = Server::start(&[]).await;
    let away = [("TESSERA_DATABASE__URL", "postgres://tessera:hunter2@127.0.0.1:1/tessera")];
    let ran = server.run(&["doctor"], &away);
    assert!(!ran.ok && lines(&ran, "database")[0].starts_with("failed "), "{ran:?}");
    assert!(ran.stdout.contains("postgres://tessera@127.0.0.1:1/tessera"), "{ran:?}");
    assert!(!ran.stdout.contains("hunter2"), "{ran:?}");
    assert!(lines(&ran, "server")[0].starts_with("ok "), "{ran:?}");

    let ran = server.run(&["doctor"], &[("TESSERA_HTTP__PORT", "1"), ("TESSERA_NAME", "")]);
    assert!(!ran.ok && lines(&ran, "settings").len() == 2, "{ran:?}");
}

#[tokio::test]
async fn the_checks_end_although_the_database_the_mail_server_and_a_file_do_not_respond() {
    let server = Server::start(&[]).await;
    // They accept connections, and say nothing.
    let (database, mail) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let url = |scheme: &str, silent: &TcpListener| format!("{scheme}://{}", silent.local_addr().unwrap());
    // Opening it for reading waits for a writer, as a network file system waits for its server.
    let token = server.data().join("silent-token");
    nix::unistd::mkfifo(&token, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (database, mail) = (url("postgres", &database), url("smtp", &mail));
    let vars = [("TESSERA_DATABASE__URL", format!("{database}/tessera")), ("TESSERA_MAIL__SMTP_URL", mail)];
    let vars = vars.each_ref().map(|(name, value)| (*name, value.as_str()));
    let ran = server.run(&["doctor"], &vars);
    assert!(!ran.ok, "{ran:?}");
    for about in ["mail", "database"] {
        assert!(lines(&ran, about)[0].starts_with("failed "), "{about}: {ran:?}");
    }
    assert!(lines(&ran, "database")[0].contains("no response from postgres://"), "{ran:?}");
    let token = token.display().to_string();
    let ran = server.run(&["doctor"], &[("TESSERA_AUTH__ADMIN_TOKEN_FILE", token.as_str())]);
    assert!(
        !ran.ok && lines(&ran, "settings")[0].contains("no response from a file of the settings"),
        "{ran:?}"
    );
}
