//! The server under test in a separate process and directory, and a client of its API.

use std::fs::{File, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::time::{interval, timeout};

/// Time limit for everything that does not wait on purpose; only failing tests take this long.
pub const SOON: Duration = Duration::from_secs(60);
/// Interval at which a condition is checked.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time limit of a request; above every limit of the server.
const REQUEST_MAX: Duration = Duration::from_secs(40);
/// Bytes of the server's log that a failed test shows.
const LOG_SHOWN: usize = 8 * 1024;

/// Waits until `look` returns a value.
pub async fn eventually<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut looks = interval(LOOK_EVERY);
    let seen = timeout(limit, async {
        loop {
            looks.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    });
    seen.await.unwrap_or_else(|_| panic!("{what}: not within {} s", limit.as_secs()))
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; null if empty.
    pub body: Value,
}

/// A client with the administrator token.
#[derive(Debug, Clone)]
pub struct Api {
    client: reqwest::Client,
    address: SocketAddr,
    /// The administrator token.
    pub token: String,
}

impl Api {
    /// Returns the URL of the server.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends a request; a null body means no body.
    ///
    /// # Errors
    /// There is no response, or it is not JSON.
    pub async fn try_api(
        &self,
        method: &str,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> reqwest::Result<Answer> {
        let method: Method = method.parse().unwrap();
        let mut request =
            self.client.request(method, format!("{}{path}", self.url())).bearer_auth(&self.token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_null() {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let bytes = answer.bytes().await?;
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Ok(Answer { status, headers, body })
    }

    /// Sends a request that gets a response.
    pub async fn api(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.try_api(method, path, body, &[]).await.unwrap()
    }

    /// Sends a request that succeeds, and returns the response.
    pub async fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.api(method, path, body).await;
        assert!(answer.status.is_success(), "{method} {path} {body}: {} {:#}", answer.status, answer.body);
        answer.body
    }

    /// Reads an existing object; retries while the server is unavailable.
    pub async fn read(&self, path: &str) -> Value {
        let answer = eventually("a read is answered", SOON, async || {
            let answer = self.api("GET", path, &Value::Null).await;
            (answer.status != StatusCode::SERVICE_UNAVAILABLE).then_some(answer)
        });
        let answer = answer.await;
        assert!(answer.status.is_success(), "GET {path}: {} {:#}", answer.status, answer.body);
        answer.body
    }

    /// Returns all items of a list, page by page.
    pub async fn list(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.read(&format!("{path}?limit=200{cursor}")).await;
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    /// Returns a ticket's complete history.
    pub async fn history(&self, ticket: &Value) -> Vec<Value> {
        self.list(&format!("/api/tickets/{ticket}/transactions")).await
    }

    /// Reads the deliveries of a list, each with its message.
    pub async fn deliveries(&self, path: &str) -> Vec<Value> {
        let mut whole = Vec::new();
        for listed in self.list(path).await {
            whole.push(self.read(&format!("/api/deliveries/{}", listed["id"].as_str().unwrap())).await);
        }
        whole
    }

    /// Waits until every delivery of a ticket has ended.
    pub async fn delivered_of(&self, ticket: &Value, limit: Duration) {
        eventually("every delivery of a ticket has ended", limit, async || {
            let all = self.list(&format!("/api/tickets/{ticket}/deliveries")).await;
            let is_over = |one: &Value| one["state"] == "completed" || one["state"] == "discarded";
            all.iter().all(is_over).then_some(())
        })
        .await;
    }

    /// Waits until every delivery has ended.
    pub async fn delivered(&self, limit: Duration) {
        eventually("every delivery has ended", limit, async || {
            for state in ["held", "available", "running"] {
                let path = format!("/api/deliveries?state={state}&limit=1");
                let left = self.read(&path).await;
                if left["items"].as_array().is_some_and(|items| !items.is_empty()) {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }
}

/// `tessera serve` with the embedded PostgreSQL, or as a second node on another's database. Also a client of it.
pub struct Server {
    api: Api,
    place: TempDir,
    child: Option<Child>,
    vars: Vec<(&'static str, String)>,
    /// The options to connect to the database.
    pub database: PgConnectOptions,
}

impl Deref for Server {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Server {
    /// Starts a server on an empty directory and waits until it responds.
    pub async fn start(settings: &[(&'static str, String)]) -> Self {
        let mut server = Self::new(settings);
        server.restart().await;
        server.log_in();
        server
    }

    /// Creates a server on an empty directory without starting it.
    pub fn new(settings: &[(&'static str, String)]) -> Self {
        Self::new_in(place(), settings)
    }

    /// Creates a server in a given directory without starting it.
    pub fn new_in(place: TempDir, settings: &[(&'static str, String)]) -> Self {
        // It fails only if another test in this process has already installed a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (address, grpc) = (free_address(), free_address());
        let socket = place.path().join("data/postgres/run");
        let database = PgConnectOptions::new_without_pgpass().socket(socket).port(5432);
        let mut vars = vec![
            ("TESSERA_DATA_DIR", place.path().join("data").display().to_string()),
            ("TESSERA_HTTP__LISTEN", address.to_string()),
            ("TESSERA_WEBHOOK__ALLOW", "127.0.0.0/8".to_owned()),
        ];
        // The port after a free one may be in use; a test that sets the gRPC address keeps it.
        if !settings.iter().any(|(name, _)| name.starts_with("TESSERA_GRPC__")) {
            vars.push(("TESSERA_GRPC__LISTEN", grpc.to_string()));
        }
        vars.extend_from_slice(settings);
        let api = Api { client: client().build().unwrap(), address, token: String::new() };
        let database = database.username("tessera").database("tessera");
        Self { api, place, child: None, vars, database }
    }

    /// Returns the address for connectors.
    pub fn grpc_address(&self) -> String {
        let listen = self.vars.iter().rfind(|(name, _)| *name == "TESSERA_GRPC__LISTEN");
        listen.map(|(_, address)| address.clone()).expect("an address for connectors")
    }

    /// Uses the token that the first start created.
    pub fn log_in(&mut self) {
        self.api.token = self.command(&["token"]).trim().to_owned();
    }

    /// Starts another node on this one's database, with the same token.
    pub async fn node(&self, settings: &[(&'static str, String)]) -> Self {
        let mut node = self.stranger("tessera", settings);
        node.restart().await;
        node
    }

    /// Creates a server on a database of this one's PostgreSQL, with the same token, without starting it.
    pub fn stranger(&self, database: &str, settings: &[(&'static str, String)]) -> Self {
        let socket = self.data().join("postgres/run");
        let url = format!("postgres://tessera@localhost:5432/{database}?host={}", socket.display());
        let shared = [("TESSERA_DATABASE__URL", url), ("TESSERA_AUTH__ADMIN_TOKEN", self.token.clone())];
        let mut node = Self::new(&[&shared, settings].concat());
        node.database = self.database.clone().database(database);
        node.api.token.clone_from(&self.api.token);
        node
    }

    /// Returns a client that tasks can own.
    pub fn client(&self) -> Api {
        self.api.clone()
    }

    /// Returns a client that opens a connection for each request, as curl does.
    pub fn client_of_new_connections(&self) -> Api {
        Api { client: client().pool_max_idle_per_host(0).build().unwrap(), ..self.api.clone() }
    }

    /// Starts the process with the existing data, and waits until it responds.
    pub async fn restart(&mut self) {
        self.begin(&[]);
        assert!(self.answers().await, "the server exited");
    }

    /// Starts the process with additional variables, and does not wait.
    pub fn begin(&mut self, more: &[(&str, String)]) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let vars = more.iter().map(|(name, value)| (name, value));
        self.child = Some(self.tessera(&["serve"]).envs(vars).stderr(log).spawn().unwrap());
    }

    /// Waits until the process responds. Returns false if it exited instead.
    pub async fn answers(&mut self) -> bool {
        let (api, child) = (self.api.clone(), self.child.as_mut().unwrap());
        let answers = eventually("the server answers", SOON, async || {
            if child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let answer = api.try_api("GET", "/api/health", &Value::Null, &[]).await.ok()?;
            (answer.status == StatusCode::OK).then_some(true)
        });
        answers.await
    }

    /// Waits until the process has exited, and returns its status.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("a server that runs");
        let ended = eventually("the server ends", SOON, async || child.try_wait().unwrap()).await;
        self.child = None;
        ended
    }

    /// Kills the process, and no other.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("a server that runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops the process gracefully.
    pub async fn stop(&mut self) {
        self.signal_stop();
        let ended = self.ended().await;
        assert!(ended.success(), "the server ended with {ended}");
    }

    /// Sends the process SIGTERM.
    pub fn signal_stop(&self) {
        terminate(self.child.as_ref().expect("a server that runs"));
    }

    /// Connects to the database directly.
    pub async fn connection(&self) -> PgConnection {
        PgConnection::connect_with(&self.database).await.unwrap()
    }

    /// Runs statements on the database directly.
    pub async fn sql(&self, statements: &str) {
        let mut db = self.connection().await;
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
    }

    /// Makes every waiting delivery due and every lease expire.
    pub async fn time_passes(&self) {
        self.sql("UPDATE delivery_queue SET due_at = now() WHERE due_at > now()").await;
    }

    /// Returns the pid of the process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a server that runs").id()
    }

    /// Returns the memory of the process, in KiB.
    pub fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Returns the log of the process.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap()
    }

    /// Verifies the invariants with `tessera check`.
    pub fn check(&self) {
        let said = self.command(&["check"]);
        assert!(said.starts_with("All invariants hold"), "{said}");
    }

    /// Runs another command on the same data, which succeeds, and returns its output.
    pub fn command(&self, args: &[&str]) -> String {
        let output = self.tessera(args).output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "tessera {args:?}: {}\n{stdout}{stderr}", output.status);
        stdout
    }

    /// Returns the pid of the embedded PostgreSQL.
    pub fn postmaster(&self) -> Option<Pid> {
        let file = self.place.path().join("data/postgres/data/postmaster.pid");
        std::fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok().map(Pid::from_raw)
    }

    /// Returns the log of the embedded PostgreSQL.
    pub fn postgres_log(&self) -> String {
        std::fs::read_to_string(self.place.path().join("data/postgres/postgres.log")).unwrap()
    }

    /// Runs another command on the same data with additional settings, and returns the result.
    pub fn run(&self, args: &[&str], vars: &[(&str, &str)]) -> Ran {
        run(self.tessera(args).envs(vars.iter().copied()))
    }

    /// Runs another command with a limit on the size of files in KiB, as on a full disk.
    pub fn run_limited(&self, args: &[&str], kib: u32) -> Ran {
        let tessera = self.tessera(args);
        let mut command = Command::new("bash");
        // Ignore the signal, which would end the program: as on a full disk, writing must fail instead.
        command.args(["-c", &format!("trap '' XFSZ; ulimit -f {kib}; exec \"$@\""), "bash"]);
        command
            .arg(tessera.get_program())
            .args(tessera.get_args())
            .env_clear()
            .current_dir(self.place.path());
        command.envs(tessera.get_envs().filter_map(|(name, value)| Some((name, value?))));
        run(&mut command)
    }

    /// Returns another command on the same data, without starting it.
    pub fn tessera(&self, args: &[&str]) -> Command {
        let mut command = tessera(args);
        command.envs(self.vars.iter().map(|(name, value)| (name, value))).current_dir(self.place.path());
        command
    }

    /// Returns the data directory.
    pub fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }

    /// Returns the path of the server's log.
    pub fn log(&self) -> PathBuf {
        self.place.path().join("log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            terminate(child);
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = std::fs::read(self.log()).unwrap_or_default();
            let end = &log[log.len().saturating_sub(LOG_SHOWN)..];
            eprintln!("The end of the server's log:\n{}", String::from_utf8_lossy(end));
        }
    }
}

/// The result of a command.
#[derive(Debug)]
pub struct Ran {
    /// Whether it succeeded.
    pub ok: bool,
    /// Its output.
    pub stdout: String,
    /// Its error output.
    pub stderr: String,
}

/// Runs a command until it ends.
pub fn run(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { ok: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Returns a command that runs `tessera` with only `PATH` from our environment.
pub fn tessera(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tessera"));
    command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().timeout(REQUEST_MAX)
}

/// Creates an empty directory that PostgreSQL's own user can enter.
pub fn place() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap()
}

/// Sends a process SIGTERM.
pub fn terminate(child: &Child) {
    // A process that has exited needs no signal.
    let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
}

/// Returns an address where nobody listens, which stays the same over restarts.
fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}
