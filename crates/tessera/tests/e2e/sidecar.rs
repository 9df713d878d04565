//! The Go connectors: built once, and run as processes next to a server.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::mail::MailServer;
use crate::support::{SOON, Server, eventually, run, terminate};

/// The senders of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The workers in the binary.
    Workers,
    /// The two connectors that ship with Tessera.
    Connectors,
}

impl By {
    /// Starts a server whose mails and webhooks are sent this way.
    pub async fn desk(self, mail: &MailServer) -> (Server, Vec<Sidecar>) {
        match self {
            Self::Workers => (Server::start(&[("TESSERA_MAIL__SMTP_URL", mail.url())]).await, Vec::new()),
            Self::Connectors => {
                let server = Server::start(&[("TESSERA_DELIVERY__BUILTIN", String::new())]).await;
                let sidecars =
                    vec![Sidecar::email(&server, "email", mail), Sidecar::webhook(&server, "webhook")];
                (server, sidecars)
            }
        }
    }
}

/// A connector in a separate process.
pub struct Sidecar {
    program: PathBuf,
    vars: Vec<(&'static str, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Sidecar {
    /// Starts an email connector with this name that uses this mail server.
    pub fn email(server: &Server, name: &str, mail: &MailServer) -> Self {
        Self::start(server, name, "email", "email-connector", &[("TESSERA_SMTP_URL", mail.url())])
    }

    /// Starts a webhook connector with this name that may reach the loopback.
    pub fn webhook(server: &Server, name: &str) -> Self {
        let vars = [("TESSERA_WEBHOOK_ALLOW", "127.0.0.0/8".to_owned())];
        Self::start(server, name, "webhook", "webhook-connector", &vars)
    }

    /// Adds a connector with this name and kind, and starts its program.
    pub fn start(
        server: &Server,
        name: &str,
        kind: &str,
        program: &str,
        vars: &[(&'static str, String)],
    ) -> Self {
        let token = server.command(&["connector", "add", name, "--kind", kind]).trim().to_owned();
        let own = [("TESSERA_ADDRESS", server.grpc_address()), ("TESSERA_TOKEN", token)];
        let log = server.data().with_file_name(format!("{name}.log"));
        let mut sidecar =
            Self { program: programs().join(program), vars: [&own, vars].concat(), log, child: None };
        sidecar.begin();
        sidecar
    }

    /// Starts the process again.
    pub fn begin(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.vars.iter().map(|(name, value)| (name, value)));
        self.child = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    /// Kills the process.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("a connector that runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Suspends the process: it keeps its leases and does not respond.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Resumes a suspended process.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a connector that runs");
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    }

    /// Stops the process gracefully.
    pub async fn stop(&mut self) {
        let child = self.child.as_mut().expect("a connector that runs");
        terminate(child);
        let ended = eventually("the connector ends", SOON, async || child.try_wait().unwrap()).await;
        assert!(ended.success(), "{} ended with {ended}:\n{}", self.program.display(), self.log_text());
        self.child = None;
    }

    /// Returns the log of the process.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.log_text());
        }
    }
}

/// Returns the directory of the programs, which the first call builds.
pub fn programs() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let into = Path::new(env!("CARGO_TARGET_TMPDIR")).join("connectors");
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integrations");
        let mut go = Command::new("go");
        go.current_dir(sources).arg("build").arg("-o").arg(&into).arg("./cmd/...");
        std::fs::create_dir_all(&into).unwrap();
        let built = run(&mut go);
        assert!(built.ok, "go build: {}{}", built.stdout, built.stderr);
        into
    })
}
