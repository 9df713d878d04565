//! An SMTP session: commands and replies. The three digits at the beginning of a reply decide; its text, or the lack of one, and
//! its encoding never do (RFC 5321, 4.2).

use super::server::{Encryption, Login, Server, Tls};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// The timeout for connecting to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The part of a reply's line that is kept, in bytes. The rest is skipped.
const LINE_MAX: usize = 1_000;
/// The maximum length of a reply, in bytes.
const REPLY_MAX: usize = 100_000;
/// The maximum number of challenges during a login.
const CHALLENGES_MAX: usize = 10;
/// "Closing": the server closes the connection, for example because it was idle for too long.
pub(super) const CLOSING: u16 = 421;
/// The reply that asks for the next part of a login.
const CHALLENGE: u16 = 334;

/// The kind of reply that a command must get: its first digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// The command is done.
    Done = 2,
    /// The server waits for more.
    More = 3,
}

/// The reply to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// The three digits.
    pub code: u16,
    /// The text of each line, without the digits. Bytes that are not UTF-8 are read as Latin-1.
    lines: Vec<String>,
}

impl Reply {
    /// The code and the text. An enhanced status code (RFC 2034) that is repeated on each line is included once.
    pub fn words(&self) -> String {
        let mut words = self.code.to_string();
        let enhanced = self.enhanced_code();
        for (index, line) in self.lines.iter().enumerate() {
            let rest = if index > 0 { enhanced.and_then(|code| line.strip_prefix(code)) } else { None };
            let line = rest.filter(|rest| rest.starts_with([' ', '\t'])).unwrap_or(line).trim_start();
            if !line.is_empty() {
                words.push(' ');
                words.push_str(line);
            }
        }
        words
    }

    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// The enhanced status code at the beginning, if it agrees with the code.
    fn enhanced_code(&self) -> Option<&str> {
        let word = self.first_word();
        let mut parts = word.split('.');
        let class = parts.next().filter(|class| *class == (self.code / 100).to_string())?;
        let is_number =
            |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_digit());
        let is_whole = parts.clone().count() == 2 && parts.all(is_number);
        (is_whole && matches!(class, "2" | "4" | "5")).then_some(word)
    }

    fn first_word(&self) -> &str {
        self.lines.first().and_then(|line| line.split_whitespace().next()).unwrap_or("")
    }
}

/// The reason why a command had no effect.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server rejected the command, or its reply does not fit.
    Refused(Reply),
    /// The connection broke, or the peer does not speak SMTP. The text says how.
    Broken(String),
}

impl Fault {
    /// The code of the reply, if there is one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(reply) => Some(reply.code),
            Self::Broken(_) => None,
        }
    }

    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused(reply) if reply.is_permanent())
    }

    fn because(words: &str) -> Self {
        Self::Broken(words.to_owned())
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// A connection, with or without TLS.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection to a mail server after the greeting.
pub(super) struct Session {
    wire: BufReader<Box<dyn Wire>>,
    /// The extensions that the server offers, in capitals; AUTH once more with each mechanism, as in `AUTH PLAIN`.
    offers: BTreeSet<String>,
    pub is_encrypted: bool,
    /// False after an error that leaves the connection in an unknown state.
    pub is_usable: bool,
}

impl Session {
    /// Connects, with encryption and login as configured. `hello` is the name for EHLO.
    pub async fn open(server: &Server, hello: &str) -> Result<Self, Fault> {
        let socket = connect(&server.host, server.port).await?;
        let mut session = Self {
            wire: BufReader::new(Box::new(socket)),
            offers: BTreeSet::new(),
            is_encrypted: false,
            is_usable: true,
        };
        if let Encryption::Wrapped(tls) = &server.encryption {
            session = session.encrypt(tls).await?;
        }
        let greeting = session.reply().await?;
        session.check(Expected::Done, greeting)?;
        session.hello(hello).await?;
        match &server.encryption {
            Encryption::Opportunistic(tls) if session.offers("STARTTLS") => {
                session = session.start_tls(tls, hello).await?;
            }
            // Fails before anything confidential is sent if the server does not offer it.
            Encryption::Required(tls) => session = session.start_tls(tls, hello).await?,
            _ => {}
        }
        if let Some(login) = &server.login {
            session.log_in(login).await?;
        }
        Ok(session)
    }

    /// Whether the server offers an extension.
    pub fn offers(&self, keyword: &str) -> bool {
        self.offers.contains(keyword)
    }

    /// Sends one line and returns the reply.
    pub async fn command(&mut self, line: &str, expected: Expected) -> Result<Reply, Fault> {
        let reply = self.exchange(format!("{line}\r\n").as_bytes()).await?;
        self.check(expected, reply)
    }

    /// Sends a message, dot-stuffed, and returns the reply. The message has CRLF line endings.
    pub async fn message(&mut self, message: &[u8]) -> Result<Reply, Fault> {
        self.command("DATA", Expected::More).await?;
        let mut stuffed = Vec::with_capacity(message.len() + message.len() / 50);
        for line in message.split_inclusive(|byte| *byte == b'\n') {
            if line.starts_with(b".") {
                stuffed.push(b'.');
            }
            stuffed.extend_from_slice(line);
        }
        stuffed.extend_from_slice(b"\r\n.\r\n");
        let reply = self.exchange(&stuffed).await?;
        self.check(Expected::Done, reply)
    }

    /// Ends the session. The outcome of what was sent does not depend on the reply.
    pub async fn quit(mut self) {
        let _ = self.command("QUIT", Expected::Done).await;
    }

    async fn hello(&mut self, name: &str) -> Result<(), Fault> {
        let said = match self.command(&format!("EHLO {name}"), Expected::Done).await {
            Ok(said) => said,
            Err(fault) => return Err(self.give_up(fault).await),
        };
        self.offers.clear();
        for line in said.lines.iter().skip(1) {
            let line = line.to_ascii_uppercase().replace("AUTH=", "AUTH ");
            let mut words = line.split_whitespace();
            let Some(keyword) = words.next() else { continue };
            self.offers.extend(words.map(|parameter| format!("{keyword} {parameter}")));
            self.offers.insert(keyword.to_owned());
        }
        Ok(())
    }

    async fn start_tls(mut self, tls: &Tls, hello: &str) -> Result<Self, Fault> {
        if !self.offers("STARTTLS") {
            return Err(Fault::because("STARTTLS is not supported on this server"));
        }
        if let Err(fault) = self.command("STARTTLS", Expected::Done).await {
            return Err(self.give_up(fault).await);
        }
        let mut encrypted = self.encrypt(tls).await?;
        encrypted.hello(hello).await?;
        Ok(encrypted)
    }

    /// Starts TLS. Discards what was read ahead, which an attacker may have injected.
    async fn encrypt(self, tls: &Tls) -> Result<Self, Fault> {
        let stream = tls.connector.connect(tls.name.clone(), self.wire.into_inner()).await?;
        Ok(Self { wire: BufReader::new(Box::new(stream)), is_encrypted: true, ..self })
    }

    async fn log_in(&mut self, login: &Login) -> Result<(), Fault> {
        if self.offers("AUTH PLAIN") {
            let response = STANDARD.encode(format!("\0{}\0{}", login.user, login.password));
            let reply = self.exchange(format!("AUTH PLAIN {response}\r\n").as_bytes()).await?;
            if reply.code == CHALLENGE {
                return Err(Fault::because("This mechanism does not expect a challenge"));
            }
            return self.check(Expected::Done, reply).map(drop);
        }
        if !self.offers("AUTH LOGIN") {
            return Err(Fault::because("No compatible authentication mechanism was found"));
        }
        let mut reply = self.exchange(b"AUTH LOGIN\r\n").await?;
        for round in 0..CHALLENGES_MAX {
            if reply.code != CHALLENGE {
                return match self.check(Expected::Done, reply) {
                    Err(fault) if round > 0 => Err(self.give_up(fault).await),
                    checked => checked.map(drop),
                };
            }
            let response = STANDARD.encode(respond(&reply, login)?);
            reply = self.exchange(format!("{response}\r\n").as_bytes()).await?;
        }
        Err(Fault::because("Unexpected number of challenges"))
    }

    /// Sends QUIT after a rejection, which is returned.
    async fn give_up(&mut self, fault: Fault) -> Fault {
        if matches!(fault, Fault::Refused(_)) {
            let _ = self.command("QUIT", Expected::Done).await;
        }
        fault
    }

    fn check(&mut self, expected: Expected, reply: Reply) -> Result<Reply, Fault> {
        let class = reply.code / 100;
        if class == expected as u16 {
            return Ok(reply);
        }
        self.is_usable &= reply.code != CLOSING && matches!(class, 4 | 5);
        Err(Fault::Refused(reply))
    }

    /// Sends bytes and returns the reply, whatever its code.
    async fn exchange(&mut self, bytes: &[u8]) -> Result<Reply, Fault> {
        let sent = async {
            self.wire.write_all(bytes).await?;
            self.wire.flush().await
        };
        let reply = match sent.await {
            Ok(()) => self.reply().await,
            Err(error) => Err(error.into()),
        };
        self.is_usable &= reply.is_ok();
        reply
    }

    /// Reads a reply of one or more lines. The last line decides. A server that closes the connection after at least one line
    /// has answered.
    async fn reply(&mut self) -> Result<Reply, Fault> {
        let (mut lines, mut code, mut left) = (Vec::new(), None, REPLY_MAX);
        while let Some(line) = self.line(&mut left).await? {
            let (digits, rest) = parse(&line)
                .ok_or_else(|| Fault::Broken(format!("not an SMTP reply: {:?}", decode(&line).trim())))?;
            code = Some(digits);
            lines.push(decode(rest.strip_prefix(b"-").unwrap_or(rest)).trim().to_owned());
            if !rest.starts_with(b"-") {
                return Ok(Reply { code: digits, lines });
            }
        }
        self.is_usable = false;
        code.map(|code| Reply { code, lines }).ok_or_else(|| Fault::because("incomplete response"))
    }

    /// Reads a line without its end, or its first [`LINE_MAX`] bytes. Returns `None` at the end of the connection.
    async fn line(&mut self, left: &mut usize) -> Result<Option<Vec<u8>>, Fault> {
        let mut line = Vec::new();
        loop {
            let read = self.wire.fill_buf().await?;
            if read.is_empty() {
                return Ok((!line.is_empty()).then_some(line));
            }
            let part = read.split(|byte| *byte == b'\n').next().unwrap_or_default();
            line.extend(part.iter().take(LINE_MAX - line.len().min(LINE_MAX)));
            let (used, is_whole) =
                if part.len() < read.len() { (part.len() + 1, true) } else { (part.len(), false) };
            self.wire.consume(used);
            *left = left.checked_sub(used).ok_or_else(|| Fault::because("SMTP response too large"))?;
            if is_whole {
                return Ok(Some(line));
            }
        }
    }
}

/// Returns the code of a line, and the rest of the line, which begins with a hyphen if another line follows.
fn parse(line: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    let is_code = matches!(digits, [b'2'..=b'5', more @ ..] if more.iter().all(u8::is_ascii_digit));
    let is_end = !rest.first().is_some_and(u8::is_ascii_digit);
    let code = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (is_code && is_end).then_some((code, rest))
}

/// Decodes the text of a reply as UTF-8, or as Latin-1 if it is not UTF-8.
fn decode(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

/// Returns the response to a challenge of AUTH LOGIN.
fn respond<'l>(asked: &Reply, login: &'l Login) -> Result<&'l str, Fault> {
    if asked.first_word().is_empty() {
        return Err(Fault::because("Could not read auth challenge"));
    }
    let question = STANDARD.decode(asked.first_word()).map_err(|error| Fault::Broken(error.to_string()))?;
    match decode(&question).trim_end_matches([':', '\0']).to_ascii_lowercase().as_str() {
        "user name" | "username" => Ok(&login.user),
        "password" => Ok(&login.password),
        _ => Err(Fault::because("Unrecognized challenge")),
    }
}

/// Connects to the first address of the host that accepts the connection.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::other("the name of the mail server has no address");
    for address in lookup_host((host, port)).await? {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                // Every command waits for its reply, so Nagle's algorithm would hold back the end of a message until the
                // server's delayed acknowledgement: 40 ms for each mail.
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::Error::new(io::ErrorKind::TimedOut, "connection timed out"),
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16, lines: &[&str]) -> Reply {
        Reply { code, lines: lines.iter().map(|line| (*line).to_owned()).collect() }
    }

    #[test]
    fn the_digits_of_a_line_decide_and_nothing_after_them_does() {
        type Parsed<'l> = Option<(u16, &'l [u8])>;
        let cases: [(&[u8], Parsed<'_>); 12] = [
            (b"250 ok", Some((250, b" ok"))),
            (b"250", Some((250, b""))),
            (b"250-", Some((250, b"-"))),
            (b"250-more", Some((250, b"-more"))),
            (b"250\t\xff", Some((250, b"\t\xff"))),
            (b"299 any second and third digit", Some((299, b" any second and third digit"))),
            (b"2500", None),
            (b"150 no reply has a 1", None),
            (b"650", None),
            (b"25", None),
            (b"", None),
            (b"HTTP/1.1 200 OK", None),
        ];
        for (line, parsed) in cases {
            assert_eq!(parse(line), parsed, "{line:?}");
        }
    }

    #[test]
    fn an_enhanced_code_that_is_repeated_is_shown_once() {
        let cases: [(u16, &[&str], &str); 7] = [
            (550, &["5.1.1 no", "5.1.1 user"], "550 5.1.1 no user"),
            (550, &["5.1.1 no", "5.1.2 user"], "550 5.1.1 no 5.1.2 user"),
            (550, &["4.1.1 no", "4.1.1 user"], "550 4.1.1 no 4.1.1 user"),
            (550, &["5.1.1 no", "5.1.1x user"], "550 5.1.1 no 5.1.1x user"),
            (550, &["5.1.1111 no", "5.1.1111 user"], "550 5.1.1111 no 5.1.1111 user"),
            (250, &["", ""], "250"),
            (250, &["", "ok"], "250 ok"),
        ];
        for (code, lines, words) in cases {
            assert_eq!(reply(code, lines).words(), words);
        }
    }

    #[tokio::test]
    async fn no_connection_waits_for_acknowledgements() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = connect("127.0.0.1", listener.local_addr().unwrap().port()).await.unwrap();
        assert!(socket.nodelay().unwrap());
    }
}
