//! A real mail server in a process of its own: aiosmtpd.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mail_parser::{Message, MessageParser};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::support::{SOON, eventually};

/// The server, until the value is dropped.
pub struct MailServer {
    directory: TempDir,
    child: Child,
    port: u16,
}

/// How the server behaves at a command; smtp_server.py says what the members mean.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Manner {
    /// `MAIL`, `RCPT` or `DATA`.
    pub at: &'static str,
    /// What the address or the message has in it.
    #[serde(rename = "match")]
    pub having: &'static str,
    /// What it says.
    pub answer: &'static str,
    /// How often.
    pub times: usize,
    /// `hang up` instead of saying it, or nothing.
    pub then: &'static str,
}

/// A message that the server took.
#[derive(Debug, Deserialize)]
pub struct Taken {
    /// Whom the envelope names.
    pub to: Vec<String>,
    /// The message, a character for each byte.
    data: String,
}

impl Taken {
    /// The message, read by a library that is not ours.
    pub fn message(&self) -> Message<'_> {
        MessageParser::default().parse(self.data.as_bytes()).expect("a mail")
    }

    /// The message as it came.
    pub fn text(&self) -> &str {
        &self.data
    }

    /// Its Message-ID, without the angle brackets.
    pub fn id(&self) -> String {
        self.message().message_id().expect("a Message-ID").to_owned()
    }
}

impl MailServer {
    /// One that takes whatever it is given.
    pub async fn start() -> Self {
        Self::run(&[]).await
    }

    /// One that takes the text of a message and then says nothing until it is let go.
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

    /// What `mail.smtp_url` is set to.
    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// Whether it keeps somebody waiting, or did.
    pub fn is_holding(&self) -> bool {
        self.directory.path().join("holding").exists()
    }

    /// Ends its silence.
    pub fn let_go(&self) {
        std::fs::write(self.directory.path().join("let-go"), "").unwrap();
    }

    /// Tells it how to behave from now on; a manner at the same place of the list goes on counting.
    pub fn behave(&self, manners: &[Manner]) {
        let (aside, place) =
            (self.directory.path().join("manners"), self.directory.path().join("manners.json"));
        std::fs::write(&aside, serde_json::to_vec(manners).unwrap()).unwrap();
        std::fs::rename(aside, place).unwrap();
    }

    /// Every message taken so far.
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

/// A Python that has aiosmtpd: the one that the set-up made, else the machine's.
fn python(root: &Path) -> PathBuf {
    let has_aiosmtpd = |python: &PathBuf| {
        let asked = Command::new(python).args(["-c", "import aiosmtpd"]).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    let found =
        [root.join(".tools/venv/bin/python"), PathBuf::from("python3")].into_iter().find(has_aiosmtpd);
    found.expect("a Python with aiosmtpd: run scripts/dev-setup.sh, which installs it into .tools/venv")
}
