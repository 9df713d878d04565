//! Mails as built, read back by another implementation.

use super::*;
use mail_parser::{MessageParser, MimeHeaders};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use uuid::Uuid;

const CREATED: OffsetDateTime = time::macros::datetime!(2026-11-23 12:34:56 UTC);

/// An edit of a harmless email.
type Edit = Box<dyn FnOnce(&mut Email)>;

fn id() -> DeliveryId {
    Uuid::from_u128(0x0193_5b0c_9f00_7000_8000_0000_0000_0001).into()
}

fn email() -> Email {
    Email {
        from: "\"Help, Desk\" <help@example.com>".into(),
        to: vec!["a@example.org".into(), "b@example.org".into()],
        cc: vec!["c@example.org".into(), "a@example.org".into()],
        bcc: vec!["hidden@example.org".into()],
        subject: "[tessera #7] It works".into(),
        headers: BTreeMap::from([
            ("Message-ID".into(), "<tessera-7-1@example.com>".into()),
            ("In-Reply-To".into(), "<root-7@example.com>".into()),
            ("Auto-Submitted".into(), "auto-generated".into()),
        ]),
        text: "Hello,\n.\nbye".into(),
        html: None,
        recipients: Vec::new(),
        as_comment: false,
    }
}

fn built(email: &Email) -> String {
    String::from_utf8(build(id(), CREATED, email).unwrap().message).unwrap()
}

/// The head of the mail, line by line, folded lines put together.
fn head(message: &str) -> Vec<String> {
    let (head, _) = message.split_once("\r\n\r\n").unwrap();
    head.replace("\r\n ", " ").split("\r\n").map(str::to_owned).collect()
}

#[test]
fn a_mail_has_its_parts_and_keeps_bcc_to_the_envelope() {
    let mail = build(id(), CREATED, &email()).unwrap();
    let text = String::from_utf8(mail.message.clone()).unwrap();
    insta::assert_snapshot!(text.replace("\r\n", "\n"), @r#"
    Date: Mon, 23 Nov 2026 12:34:56 +0000
    From: "Help, Desk" <help@example.com>
    To: a@example.org, b@example.org
    Cc: c@example.org, a@example.org
    Subject: [tessera #7] It works
    Auto-Submitted: auto-generated
    In-Reply-To: <root-7@example.com>
    Message-ID: <tessera-7-1@example.com>
    MIME-Version: 1.0
    Content-Type: text/plain; charset=utf-8
    Content-Transfer-Encoding: quoted-printable

    Hello,
    .
    bye
    "#);
    assert_eq!(mail.sender, "help@example.com");
    let to: Vec<&str> = mail.receivers.iter().map(|receiver| receiver.address.as_str()).collect();
    assert_eq!(to, ["a@example.org", "b@example.org", "c@example.org", "hidden@example.org"]);
    assert!(!text.contains("hidden"));
    let read = MessageParser::default().parse(&mail.message).unwrap();
    assert_eq!(read.from().unwrap().first().unwrap().name(), Some("Help, Desk"));
    assert_eq!(read.message_id(), Some("tessera-7-1@example.com"));
    assert_eq!(read.body_text(0).unwrap(), "Hello,\r\n.\r\nbye\r\n");
}

#[test]
fn every_attempt_has_the_same_bytes() {
    let mail = Email { html: Some("<p>Grüße</p>".into()), ..email() };
    assert_eq!(build(id(), CREATED, &mail), build(id(), CREATED, &mail));
    let other = build(Uuid::from_u128(9).into(), CREATED, &mail).unwrap();
    assert_ne!(
        other.message,
        build(id(), CREATED, &mail).unwrap().message,
        "the boundary follows from the delivery"
    );
}

#[test]
fn an_html_mail_carries_both_parts() {
    let html = format!("<p>Grüße, =_{} --</p>\n", id().0.simple());
    let mail = built(&Email { text: "Grüße".into(), html: Some(html.clone()), ..email() });
    let read = MessageParser::default().parse(mail.as_bytes()).unwrap();
    assert_eq!(read.content_type().unwrap().subtype(), Some("alternative"));
    assert_eq!((read.text_body_count(), read.html_body_count()), (1, 1));
    assert_eq!(read.body_text(0).unwrap().trim_end(), "Grüße");
    assert_eq!(read.body_html(0).unwrap().trim_end(), html.trim_end());
}

#[test]
fn a_foreign_subject_arrives_as_it_was_and_in_short_lines() {
    let long = "x".repeat(990);
    for subject in [
        "Grüße aus Köln \u{1f980} und mehr, viel mehr als auf eine Zeile passt, wirklich",
        "=?utf-8?q?evil?=",
        &long,
        "",
    ] {
        let mail = built(&Email { subject: subject.into(), ..email() });
        let read = MessageParser::default().parse(mail.as_bytes()).unwrap();
        assert_eq!(read.subject().unwrap_or_default(), subject);
        assert!(mail.is_ascii() && mail.lines().all(|line| line.len() <= 998), "{mail}");
    }
}

/// The longest line of the head, and the longest of those with encoded words.
fn longest_lines(message: &str) -> (usize, usize) {
    let (head, _) = message.split_once("\r\n\r\n").unwrap();
    let length = |lines: &mut dyn Iterator<Item = &str>| lines.map(str::len).max().unwrap_or(0);
    (length(&mut head.split("\r\n")), length(&mut head.split("\r\n").filter(|line| line.contains("=?"))))
}

#[test]
fn every_header_is_folded_and_read_back_as_it_was() {
    let people: Vec<String> =
        (0..300).map(|n| format!("person{n}.with.a.long.name@department{n}.example.net")).collect();
    let long_url = format!("<https://desk.example.org/{}>", "a".repeat(600));
    let subjects = [
        "Störung im Büro, dritter Stock, bitte bald kommen".to_owned(),
        "日本語の件名がとても長い場合でも行は短い、".repeat(9),
        "Ü".to_owned(),
        "🦀".repeat(200),
        "word ".repeat(300).trim_end().to_owned(),
    ];
    for subject in subjects {
        let mail = Email {
            from: "\"Größte Abteilung für alles, was sonst niemand macht, GmbH\" <help@example.com>".into(),
            to: people.clone(),
            subject: subject.clone(),
            headers: BTreeMap::from([
                ("List-Unsubscribe".into(), long_url.clone()),
                (format!("X-{}", "N".repeat(70)), "ü".repeat(100)),
            ]),
            ..email()
        };
        let text = built(&mail);
        let (longest, encoded) = longest_lines(&text);
        assert!(longest <= 998 && encoded <= 76, "{longest} and {encoded} bytes: {text}");
        assert!(text.is_ascii() && text.contains(&long_url));
        let read = MessageParser::default().parse(text.as_bytes()).unwrap();
        assert_eq!(read.subject().unwrap(), subject);
        assert_eq!(read.to().unwrap().iter().filter_map(|one| one.address()).collect::<Vec<_>>(), people);
        let from = read.from().unwrap().first().unwrap();
        assert_eq!(from.name(), Some("Größte Abteilung für alles, was sonst niemand macht, GmbH"));
        assert_eq!(from.address(), Some("help@example.com"));
    }
}

#[test]
fn a_domain_that_is_not_ascii_is_written_in_ascii_and_a_local_part_in_a_group() {
    let mail = Email {
        from: "Büro <büro@münchen.example>".into(),
        to: vec!["info@münchen.example".into(), "ü@example.org".into(), "a@example.org".into()],
        cc: vec!["info@xn--mnchen-3ya.example".into()],
        bcc: Vec::new(),
        ..email()
    };
    let made = build(id(), CREATED, &mail).unwrap();
    let mailboxes: Vec<_> = made.receivers.iter().map(|one| one.mailbox.clone().unwrap()).collect();
    assert_eq!(mailboxes, ["info@xn--mnchen-3ya.example", "ü@example.org", "a@example.org"], "no duplicate");
    assert_eq!(made.receivers[0].address, "info@münchen.example", "answers are known by the stored address");
    assert_eq!(made.sender, "büro@xn--mnchen-3ya.example");
    let text = String::from_utf8(made.message).unwrap();
    assert!(
        head(&text).contains(&"From: =?utf-8?b?QsO8cm8=?= <büro@xn--mnchen-3ya.example>".to_owned()),
        "{text}"
    );
    let to = "To: info@xn--mnchen-3ya.example, =?utf-8?b?w7xAZXhhbXBsZS5vcmc=?= :;, a@example.org";
    assert!(head(&text).contains(&to.to_owned()), "{text}");
}

#[test]
fn an_address_that_is_none_is_refused_alone() {
    let mail = Email {
        to: vec!["a@b\r\nRCPT TO:<c@d>".into(), "a@example.org".into()],
        bcc: vec!["x y@example.org".into()],
        ..email()
    };
    let made = build(id(), CREATED, &mail).unwrap();
    let refused: Vec<_> = made.receivers.iter().filter_map(|one| one.mailbox.clone().err()).collect();
    assert_eq!(
        refused,
        ["\"a@b RCPT TO:<c@d>\" is not a mail address", "\"x y@example.org\" is not a mail address"]
    );
    let text = String::from_utf8(made.message).unwrap();
    assert!(head(&text).contains(&"To: a@example.org".to_owned()), "{text}");
}

#[test]
fn a_name_is_written_so_that_it_is_one() {
    for (from, written) in [
        ("Desk <help@example.com>", "Desk <help@example.com>"),
        ("help@example.com", "help@example.com"),
        ("<help@example.com>", "help@example.com"),
        ("\"a \\\"b\\\" \\\\c\" <help@example.com>", "\"a \\\"b\\\" \\\\c\" <help@example.com>"),
        ("Help, Desk <help@example.com>", "\"Help, Desk\" <help@example.com>"),
        ("=?utf-8?q?x?= <help@example.com>", "=?utf-8?b?PT91dGYtOD9xP3g/PQ==?= <help@example.com>"),
    ] {
        let mail = built(&Email { from: from.into(), ..email() });
        assert!(head(&mail).contains(&format!("From: {written}")), "{from}: {mail}");
    }
}

#[test]
fn what_breaks_a_line_in_a_header_is_one_space() {
    let mail = built(&Email { subject: " a\r\n \tb\0c  d ".into(), ..email() });
    assert!(head(&mail).contains(&"Subject: a b c d".to_owned()), "{mail}");
}

#[test]
fn a_text_is_readable_in_the_mail_unless_more_than_a_sixth_of_it_is_foreign() {
    let encoding = |text: &str| {
        let mail = built(&Email { text: text.into(), ..email() });
        head(&mail).last().unwrap().split_once(": ").unwrap().1.to_owned()
    };
    assert_eq!(encoding("ü and so on"), "quoted-printable", "2 bytes of 12");
    assert_eq!(encoding("ü and more"), "base64", "2 bytes of 11");
}

#[test]
fn nothing_in_a_mail_can_add_a_header_or_end_the_message() {
    let hostile = "a\r\nBcc: evil@example.net\r\n\r\n.\r\nMAIL FROM:<evil@example.net>\n.\nQUIT\r.\r\0";
    let mut mail = Email {
        subject: hostile.into(),
        text: format!("{hostile}\n.\nMAIL FROM:<x@y>\r\n.\r\n"),
        html: Some(hostile.into()),
        ..email()
    };
    mail.headers.insert("X-Note".into(), hostile.into());
    mail.headers.insert("BCC".into(), "evil@example.net".into());
    mail.headers.insert("Content-Type".into(), "text/evil".into());
    let text = built(&mail);
    let plain = built(&Email { html: Some("x".into()), ..email() });
    let names = |message: &str| -> Vec<String> {
        head(message)
            .iter()
            .map(|line| line.split_once(": ").unwrap().0.to_owned())
            .filter(|name| name != "X-Note")
            .collect()
    };
    assert_eq!(names(&text), names(&plain), "the same headers as a harmless mail, besides X-Note");
    assert!(
        !text.replace("\r\n", "").contains(['\r', '\n']),
        "a bare CR or LF would do what a line end does"
    );
    let read = MessageParser::default().parse(text.as_bytes()).unwrap();
    assert!(
        read.body_text(0).unwrap().contains("MAIL FROM:<x@y>\r\n.\r\n"),
        "and the text is still what it was"
    );
}

#[test]
fn what_cannot_be_an_address_or_a_header_is_refused_in_a_sentence() {
    let cases: [(Edit, &str); 5] = [
        (Box::new(|m| m.from = "nobody".into()), "From: \"nobody\" is not a mail address"),
        (
            Box::new(|m| drop(m.headers.insert("X A".into(), "1".into()))),
            "\"X A\" is not a valid header name",
        ),
        (Box::new(|m| drop(m.headers.insert("X:\r\nBcc".into(), "1".into()))), "is not a valid header name"),
        (Box::new(|m| drop(m.headers.insert("X\r\nBcc".into(), "1".into()))), "is not a valid header name"),
        (Box::new(|m| (m.to, m.cc, m.bcc) = Default::default()), "no recipient"),
    ];
    for (change, words) in cases {
        let mut mail = email();
        change(&mut mail);
        let fault = build(id(), CREATED, &mail).unwrap_err();
        assert!(fault.contains(words), "{fault}");
    }
}

proptest! {
    #[test]
    fn any_text_comes_back_and_only_in_its_place(subject in any::<String>(), body in any::<String>(), note in any::<String>()) {
        let mut mail = Email { subject: subject.clone(), text: body.clone(), ..email() };
        mail.headers.insert("X-Note".into(), note);
        let text = built(&mail);
        prop_assert!(text.is_ascii() && !text.replace("\r\n", "").contains(['\r', '\n']));
        prop_assert_eq!(head(&text).len(), head(&built(&email())).len() + 1);
        let read = MessageParser::default().parse(text.as_bytes()).unwrap();
        prop_assert_eq!(read.subject().unwrap_or_default(), head::one_line(&subject));
        let lines = body.replace("\r\n", "\n").replace(['\r', '\n'], "\r\n");
        // The parser leaves the line end before the end of the message in, but for base64.
        let text = read.body_text(0).unwrap().into_owned();
        prop_assert!(text == lines || text == format!("{lines}\r\n"), "{text:?}");
    }
}

#[tokio::test]
async fn without_a_mail_server_a_mail_is_a_file_that_is_there_whole() {
    let folder = tempfile::tempdir().unwrap();
    let transport = FileTransport::new(folder.path().join("mail"));
    let delivery = crate::models::delivery::Delivery {
        id: id(),
        ticket: Uuid::nil().into(),
        transaction: Uuid::nil().into(),
        scrip_version: Uuid::nil().into(),
        payload: Payload::Email(email()),
        created_at: CREATED,
    };
    let mut leased = Leased {
        endpoint: delivery.payload.endpoint(),
        delivery,
        attempt: 1,
        in_schedule: 1,
        token: 5,
        answered: Vec::new(),
    };
    for token in [5, 6] {
        leased.token = token;
        let attempt = transport.send(&leased).await;
        assert_eq!(attempt.outcome, Outcome::Delivered, "{attempt:?}");
    }
    let files: Vec<_> =
        std::fs::read_dir(folder.path().join("mail")).unwrap().map(|file| file.unwrap()).collect();
    assert_eq!(files.len(), 1, "a second attempt writes the same file");
    assert_eq!(files[0].file_name().to_string_lossy(), format!("{}.eml", id()));
    assert_eq!(std::fs::read(files[0].path()).unwrap(), build(id(), CREATED, &email()).unwrap().message);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&folder.path().join("mail")), mode(&files[0].path())),
        (0o700, 0o600),
        "for its owner alone"
    );

    std::fs::write(folder.path().join("file"), "").unwrap();
    let attempt = FileTransport::new(folder.path().join("file")).send(&leased).await;
    assert_eq!(attempt.outcome, Outcome::Retry);
    assert!(attempt.detail.contains("cannot be written"), "{}", attempt.detail);
}

#[test]
fn a_mail_without_a_subject_is_sound() {
    crate::testing::properties::addresses(b"");
}
