//! A real mail server in a separate process: aiosmtpd.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mail_parser::{Message, MessageParser};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::support::{SOON, eventually};

/// The server, stopped on drop.
pub struct MailServer {
    directory: TempDir,
    child: Child,
    port: u16,
}

/// The server's behavior at a command; smtp_server.py documents the members.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Manner {
    /// `MAIL`, `RCPT` or `DATA`.
    pub at: &'static str,
    /// A part of the address or the message to match.
    #[serde(rename = "match")]
    pub having: &'static str,
    /// The reply.
    pub answer: &'static str,
    /// How many times the behavior applies.
    pub times: usize,
    /// `hang up` to close the connection instead of replying, or empty.
    pub then: &'static str,
}

/// A message that the server accepted.
#[derive(Debug, Deserialize)]
pub struct Taken {
    /// The recipients of the envelope.
    pub to: Vec<String>,
    /// The message, one character per byte.
    data: String,
}

impl Taken {
    /// Parses the message with an independent library.
    pub fn message(&self) -> Message<'_> {
        MessageParser::default().parse(self.data.as_bytes()).expect("a mail")
    }

    /// Returns the message as received.
    pub fn text(&self) -> &str {
        &self.data
    }

    /// Returns its Message-ID, without the angle brackets.
    pub fn id(&self) -> String {
        self.message().message_id().expect("a Message-ID").to_owned()
    }
}

impl MailServer {
    /// Starts a server that accepts everything.
    pub async fn start() -> Self {
        Self::run(&[]).await
    }

    /// Starts a server that receives a message and does not reply until [`MailServer::let_go`].
    pub async fn start_silent() -> Self {
        Self::run(&["--silent"]).await
    }

    async fn run(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let child = Command::new(python(&here.join("../..")))
            .arg(here.join("tests/e2e/smtp_server.py"))
            .arg(directory.path())
            .args(flags)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let file = directory.path().join("port");
        let port = eventually("the mail server listens", SOON, async || {
            std::fs::read_to_string(&file).ok()?.parse().ok()
        });
        Self { port: port.await, directory, child }
    }

    /// Returns the value for `mail.smtp_url`.
    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// Returns whether it has kept a client waiting.
    pub fn is_holding(&self) -> bool {
        self.directory.path().join("holding").exists()
    }

    /// Sends the replies that it withheld.
    pub fn let_go(&self) {
        std::fs::write(self.directory.path().join("let-go"), "").unwrap();
    }

    /// Sets the behavior from now on; one at the same position of the list keeps its count.
    pub fn behave(&self, manners: &[Manner]) {
        let (aside, place) =
            (self.directory.path().join("manners"), self.directory.path().join("manners.json"));
        std::fs::write(&aside, serde_json::to_vec(manners).unwrap()).unwrap();
        std::fs::rename(aside, place).unwrap();
    }

    /// Returns every message accepted so far.
    pub fn taken(&self) -> Vec<Taken> {
        let files = std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        let is_message = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.strip_suffix(".json").is_some_and(|number| number.parse::<usize>().is_ok())
        };
        let messages = files.filter(is_message);
        messages.map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Finds a Python with aiosmtpd: the one in .tools/venv, else the machine's.
fn python(root: &Path) -> PathBuf {
    let has_aiosmtpd = |python: &PathBuf| {
        let asked = Command::new(python).args(["-c", "import aiosmtpd"]).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    let found =
        [root.join(".tools/venv/bin/python"), PathBuf::from("python3")].into_iter().find(has_aiosmtpd);
    found.expect("a Python with aiosmtpd: run scripts/dev-setup.sh, which installs it into .tools/venv")
}
