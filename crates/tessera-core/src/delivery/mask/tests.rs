//! Secrets as receivers may send them back, and texts that contain none.

use super::*;
use crate::models::delivery::AttemptOutcome;
use base64::engine::general_purpose::URL_SAFE;

const TOKEN: &str = "T0ken-4f9a/Zq+é&\"x";

fn token() -> Mask {
    Mask::new([("token", TOKEN)])
}

fn spread(text: &str, between: &str) -> String {
    text.chars().map(|c| format!("{c}{between}")).collect()
}

fn percent(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn a_secret_is_masked_in_whatever_form_it_comes_back() {
    let bytes = TOKEN.as_bytes();
    let reversed: String = TOKEN.chars().rev().collect();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let json = serde_json::to_string(TOKEN).unwrap();
    let escaped: String = TOKEN.chars().map(|c| format!("\\u{:04x}", c as u32)).collect();
    let html: String = TOKEN.chars().map(|c| format!("&#{};", c as u32)).collect();
    let in_form =
        percent_encoding::utf8_percent_encode(TOKEN, percent_encoding::NON_ALPHANUMERIC).to_string();
    let mut forms: Vec<_> = [
        TOKEN.to_owned(),
        TOKEN.to_uppercase(),
        TOKEN.to_lowercase(),
        reversed.clone(),
        reversed.to_uppercase(),
        hex.clone(),
        hex.to_uppercase(),
        spread(&hex, " "),
        bytes.iter().map(|byte| format!("{byte:02X}:")).collect(),
        bytes.iter().map(|byte| format!("0x{byte:02x}, ")).collect(),
        bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect(),
        format!("{bytes:?}"),
        percent(bytes),
        percent(percent(bytes).as_bytes()),
        in_form,
        json.clone(),
        serde_json::to_string(&json).unwrap(),
        escaped,
        html,
        spread(TOKEN, "\n"),
        spread(TOKEN, "\r\n "),
        spread(TOKEN, "=\r\n"),
        spread(TOKEN, "-"),
        STANDARD.encode(hex),
        STANDARD.encode(reversed),
        STANDARD.encode(TOKEN.to_uppercase()),
        STANDARD.encode(STANDARD.encode(TOKEN)),
        STANDARD.encode(TOKEN).chars().rev().collect(),
    ]
    .into_iter()
    // Padding that was encoded again.
    .map(|form| (form, 2))
    .collect();
    for before in ["", "u", "us", "user:", "Bearer "] {
        let text = format!("{before}{TOKEN}");
        // The letters of what comes before it stay, and padding.
        let left = (before.len() * 4 / 3).max(2);
        for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&text);
            // In a URL, two letters for each of them.
            forms.push((percent(encoded.as_bytes()), 2 * left));
            forms.extend([spread(&encoded, "\n"), encoded.to_lowercase(), encoded].map(|form| (form, left)));
        }
        forms.push((STANDARD.encode(format!("{text} and more")), left + STANDARD.encode(" and more").len()));
    }
    for (form, most) in forms {
        let masked = token().text(&format!("you sent <{form}> to us"));
        assert!(masked.starts_with("you sent <") && masked.ends_with("> to us"), "{form:?}: {masked:?}");
        // What else stays are marks around it and the padding.
        let left = masked["you sent <".len()..masked.len() - "> to us".len()].replace("(secret token)", "");
        assert!(letters(&left).len() <= most, "{form:?}: {masked:?}");
    }
}

#[test]
fn of_credentials_the_password_alone_is_a_secret_too_and_so_is_the_word_after_a_scheme() {
    let basic = format!("Basic {}", STANDARD.encode("reporter:h0rse-staple"));
    let signing = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let key: String =
        STANDARD.decode(&signing[6..]).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let table = [
        (basic.as_str(), "h0rse-staple"),
        (&basic, "reporter:h0rse-staple"),
        (&basic, "H0RSE-STAPLE"),
        (&basic, "elpats-esr0h"),
        ("reporter:h0rse-staple", "h0rse-staple"),
        ("Bearer abcdefgh1234", "ABCDEFGH1234"),
        ("Token token=\"abcdefgh1234\"", "abcdefgh1234"),
        (signing, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        (signing, key.as_str()),
    ];
    for (secret, echo) in table {
        let masked = Mask::new([("s", secret)]).text(&format!("got: {echo}!"));
        assert_eq!(masked, "got: (secret s)!", "{secret}");
    }
    let kept = Mask::new([("s", basic.as_str())]).text("Basic authentication for reporter");
    assert_eq!(kept, "Basic authentication for reporter");
}

#[test]
fn what_holds_no_secret_stays_as_it_is() {
    let plain = [
        "",
        "ok",
        "{\"ok\": true, \"id\": 4711, \"url\": \"https://chat.example/a?b=%20c\"}",
        "<p>T&eacute;l&#233;phone &amp; mail</p> =C3=A9 50 % \\ \\u12 %",
        "the token is wrong",
        "ünïcödé – é&",
    ];
    for text in plain {
        assert_eq!(token().text(text), text);
        assert_eq!(Mask::default().text(text), text);
        assert_eq!(Mask::new([("none", ""), ("marks", "?!")]).text(text), text);
    }
    assert_eq!(Mask::new([("short", "a!")]).text("a! and A!"), "(secret short) and A!", "only byte for byte");
}

#[test]
fn a_secret_at_the_end_of_a_truncated_text_does_not_begin_to_show() {
    let long = "0123456789abcdef".repeat(8);
    let mask = Mask::new([("long", long.as_str())]);
    for end in [20, 60, 127] {
        let shown = mask.text(&format!("you sent {}…", &long[..end]));
        assert_eq!(shown, "you sent (secret long)…");
    }
    // Masked secrets are shorter, so that what is beyond the limit could move up.
    let many = format!("{}{}", long.repeat(TEXT_MAX / long.len()), long);
    assert_eq!(mask.text(&many), "(secret long)");
    let shifted = format!("xyz {many}");
    assert_eq!(mask.text(&shifted), "xyz (secret long)");
}

#[test]
fn every_text_of_an_attempt_is_masked() {
    let mut attempt = Attempt::new(AttemptOutcome::Retry, format!("535 no, {}", STANDARD.encode(TOKEN)));
    attempt.response = Some(TOKEN.to_uppercase());
    attempt.recipients = vec![RecipientAnswer {
        address: "a@example.org".into(),
        outcome: AttemptOutcome::Retry,
        answer: format!("450 {TOKEN}"),
    }];
    let masked = token().attempt(attempt);
    assert!(masked.detail.starts_with("535 no, (secret token)"), "{}", masked.detail);
    assert!(masked.response.unwrap().starts_with("(secret token)"));
    assert_eq!(masked.recipients[0].answer, "450 (secret token)");
}
