//! For tests: databases, cloned from a migrated template on a private server that all test programs share; and properties that
//! hold for any input.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests report failures by panicking"
)]

pub(crate) mod desk;
pub mod properties;

use crate::db::connections::Connections;
use crate::db::session::HURRIED;
use crate::db::{PoolSizes, Pools, migrate, search};
use crate::delivery::guard::Guard;
use crate::desk::Tessera;
use crate::plan::Installation;
use crate::query::sql::Statement;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The user of the private server and of its databases.
const USER: &str = "tessera";
/// The time limit for starting the server.
const START_MAX: Duration = Duration::from_secs(60);

/// A database for one test. It is dropped with this value; databases of killed test programs are dropped by the next program.
#[derive(Debug)]
pub struct TestDb {
    name: String,
    server: PgConnectOptions,
    /// The connection options.
    pub options: PgConnectOptions,
    /// The connection pools.
    pub pools: Pools,
}

impl TestDb {
    /// Clones the migrated template.
    ///
    /// # Panics
    /// If PostgreSQL is not installed or does not start.
    pub async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
        let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut db = PgConnection::connect_with(&server.options("postgres")).await.unwrap();
        let template = server.template(&mut db).await;
        run(&mut db, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        run(&mut db, format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")).await;
        let options = server.options(&name);
        Self {
            name,
            server: server.options("postgres"),
            pools: Pools::new(&options, PoolSizes::DEFAULT),
            options,
        }
    }

    /// Gives searches so little time that one that waits for a lock takes too long.
    pub fn hurry(&mut self) {
        let (options, reserved) = (self.options.clone(), self.pools.reserved.clone());
        self.pools.searches = Connections::new(options, &HURRIED, 4, reserved);
    }
}

/// Runs a statement of the query compiler and returns its rows.
///
/// # Errors
/// Those of the database.
pub async fn fetch(pool: &PgPool, statement: &Statement) -> sqlx::Result<Vec<PgRow>> {
    search::run(&statement.text, &statement.binds).fetch_all(pool).await
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let (server, drop) =
            (self.server.clone(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        // The runtime of the test is shutting down, so this needs its own thread and runtime.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime
                .block_on(async { run(&mut PgConnection::connect_with(&server).await.unwrap(), drop).await });
        });
        let _ = dropped.join();
    }
}

/// A core on a database of its own, for tests of the layers above it.
#[derive(Debug)]
pub struct Desk {
    /// The database.
    pub db: TestDb,
    /// The core, which may send webhooks to no private network.
    pub tessera: Arc<Tessera>,
}

impl Desk {
    /// Opens the core on a database, and writes the default configuration if the database has none.
    ///
    /// # Panics
    /// The core cannot be opened.
    pub async fn open(db: TestDb) -> Self {
        let tessera = node(&db).await;
        Self { db, tessera }
    }

    /// Returns the pool for direct access to the database.
    pub fn pool(&self) -> &PgPool {
        &self.db.pools.write
    }

    /// Closes all connections to the database, so that the core cannot reach it any more.
    pub async fn lose_database(&self) {
        self.db.pools.close().await;
    }
}

impl std::ops::Deref for Desk {
    type Target = Arc<Tessera>;

    fn deref(&self) -> &Arc<Tessera> {
        &self.tessera
    }
}

/// Opens a core on a database, which may have others already, as the nodes of one installation do.
///
/// # Panics
/// The core cannot be opened.
pub async fn node(db: &TestDb) -> Arc<Tessera> {
    let installation = Installation {
        name: "desk".to_owned(),
        base_url: "http://desk.example".to_owned(),
        mail_from: "desk@desk.example".to_owned(),
    };
    let guard = Arc::new(Guard::new(Vec::new()));
    Arc::new(Tessera::open(db.pools.clone(), installation, guard).await.unwrap())
}

async fn run(db: &mut PgConnection, statement: String) {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(db).await.unwrap();
}

/// The private server: without fsync, on a Unix socket only. It is reused if it is already running.
struct Server {
    dir: PathBuf,
}

impl Server {
    fn start() -> Self {
        let uid = fs::metadata("/proc/self").map_or(0, |own| own.uid());
        let dir = std::env::temp_dir().join(format!("tessera-test-postgres-{uid}"));
        fs::create_dir_all(&dir).unwrap();
        let lock = File::create(dir.join("lock")).unwrap();
        lock.lock().unwrap();
        let server = Self { dir };
        if !server.is_ready() {
            server.launch(uid == 0);
        }
        server
    }

    fn socket_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// True if the server accepts queries: its pid file has the line `ready`.
    fn is_ready(&self) -> bool {
        let state = fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap_or_default();
        state.lines().any(|line| line.trim() == "ready")
            && std::os::unix::net::UnixStream::connect(self.socket_dir().join(".s.PGSQL.5432")).is_ok()
    }

    fn launch(&self, is_root: bool) {
        let bin = programs();
        let owner = is_root.then(postgres_user);
        let run = self.socket_dir();
        let data = self.dir.join("data");
        // What a killed run left behind is not worth recovering.
        let _ = fs::remove_dir_all(&data);
        let _ = fs::remove_dir_all(&run);
        fs::create_dir_all(&run).unwrap();
        fs::set_permissions(&run, fs::Permissions::from_mode(0o700)).unwrap();
        if let Some((uid, gid)) = owner {
            fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o711)).unwrap();
            chown(&run, Some(uid), Some(gid)).unwrap();
            fs::create_dir_all(&data).unwrap();
            chown(&data, Some(uid), Some(gid)).unwrap();
        }
        let command = |program: &str| {
            let mut command = Command::new(bin.join(program));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
            if let Some((uid, gid)) = owner {
                command.uid(uid).gid(gid);
            }
            command
        };
        let initialized = command("initdb")
            .args(["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-D"])
            .arg(&data)
            .status();
        assert!(initialized.is_ok_and(|status| status.success()), "initdb failed in {}", data.display());
        let mut postgres = command("postgres");
        postgres.arg("-D").arg(&data).arg("-k").arg(&run).process_group(0);
        for setting in [
            "listen_addresses=",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "max_connections=400",
            "shared_preload_libraries=pg_stat_statements",
            "pg_stat_statements.track=top",
        ] {
            postgres.args(["-c", setting]);
        }
        #[expect(
            clippy::zombie_processes,
            reason = "the server outlives this program and is reused by the next one"
        )]
        postgres.spawn().expect("postgres starts");
        let started = std::time::Instant::now();
        while !self.is_ready() {
            assert!(started.elapsed() < START_MAX, "PostgreSQL did not start in {}", self.dir.display());
            std::thread::yield_now();
        }
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass().socket(self.socket_dir()).username(USER).database(database)
    }

    /// Returns the name of the migrated template, which the first test program creates.
    async fn template(&self, db: &mut PgConnection) -> String {
        // Test programs that start meanwhile wait until the template is created.
        const TEMPLATE_LOCK: i64 = 7_465_737_365_726_101;
        sqlx::query("SELECT pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut *db).await.unwrap();
        let checksums = sqlx::migrate!("../../migrations").iter().fold(0_u64, |sum, migration| {
            migration
                .checksum
                .iter()
                .fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
        });
        let name = format!("template_{checksums:x}");
        let databases: Vec<String> =
            sqlx::query_scalar("SELECT datname FROM pg_database").fetch_all(&mut *db).await.unwrap();
        for old in databases.iter().filter(|name| is_left_behind(name)) {
            run(db, format!("DROP DATABASE IF EXISTS {old} WITH (FORCE)")).await;
        }
        if !databases.contains(&name) {
            run(db, format!("DROP DATABASE IF EXISTS {name}_new WITH (FORCE)")).await;
            run(db, format!("CREATE DATABASE {name}_new")).await;
            let fresh =
                PgPoolOptions::new().connect_with(self.options(&format!("{name}_new"))).await.unwrap();
            migrate(&fresh).await.unwrap();
            sqlx::raw_sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").execute(&fresh).await.unwrap();
            fresh.close().await;
            run(db, format!("ALTER DATABASE {name}_new RENAME TO {name}")).await;
        }
        sqlx::query("SELECT pg_advisory_unlock($1)").bind(TEMPLATE_LOCK).execute(&mut *db).await.unwrap();
        name
    }
}

/// True for the database of a test program that has ended.
fn is_left_behind(database: &str) -> bool {
    let program = database.strip_prefix("test_").and_then(|rest| rest.split('_').next());
    program.is_some_and(|program| !Path::new("/proc").join(program).exists())
}

/// Returns the directory with `initdb` and `postgres`.
fn programs() -> PathBuf {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    versions.sort();
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut places = versions.into_iter().rev().chain(std::env::split_paths(&paths));
    let found = places.find(|place| place.join("initdb").exists() && place.join("postgres").exists());
    found.unwrap_or_else(|| panic!("PostgreSQL is not installed: run scripts/dev-setup.sh"))
}

/// Returns the user and group that run the server if this process is root, because PostgreSQL refuses to run as root.
fn postgres_user() -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).filter_map(|id| id.parse().ok());
        Some((ids.next()?, ids.next()?))
    };
    of("postgres").or_else(|| of("nobody")).expect("a user postgres or nobody")
}
