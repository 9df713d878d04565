//! The embedded cluster with real PostgreSQL programs: everything that a machine, a crash or a second Tessera can do to it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use super::cluster::{Cluster, Layout, State, check_access};
use super::programs::{Programs, RunAs};
use super::*;

/// Creates a directory that every user can enter, as the server's user must.
fn place() -> TempDir {
    let open = fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().prefix("tessera-").permissions(open).tempdir().unwrap()
}

fn start(place: &TempDir) -> Embedded {
    Embedded::start(&place.path().join("postgres"), None).unwrap()
}

fn layout(place: &TempDir) -> Layout {
    Layout::create(&place.path().join("postgres")).unwrap()
}

fn cluster(place: &TempDir) -> Cluster {
    Cluster::prepare(layout(place), None).unwrap()
}

/// Returns the first column of the first row, as text.
fn ask(options: PgConnectOptions, sql: &'static str) -> sqlx::Result<String> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut connection = PgConnection::connect_with(&options).await?;
        let answer = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(answer)
    })
}

/// Waits for another process; the limit is far above the time that any of it takes.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < limit, "{what}: not within 60 s");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Waits for a postmaster that is ready and not one of `not`.
fn ready(layout: &Layout, not: &[Pid]) -> Pid {
    eventually("a server that is ready", || {
        layout.postmaster().filter(|it| it.state == State::Ready && !not.contains(&it.pid)).map(|it| it.pid)
    })
}

fn log(layout: &Layout) -> String {
    fs::read_to_string(&layout.log).unwrap()
}

#[test]
fn the_cluster_is_private_durable_and_not_owned_by_root() {
    let place = place();
    let embedded = start(&place);
    let setting = |sql| ask(embedded.connect_options(), sql).unwrap();
    assert_eq!(setting("SELECT current_database()::text"), "tessera");
    assert_eq!(setting("SELECT current_setting('application_name')"), "tessera");
    assert_eq!(setting("SHOW fsync"), "on");
    assert_eq!(setting("SHOW synchronous_commit"), "on");
    assert_eq!(setting("SHOW data_checksums"), "on");
    assert_eq!(setting("SHOW listen_addresses"), "");
    assert_eq!(setting("SHOW server_encoding"), "UTF8");
    assert_eq!(setting("SHOW lc_collate"), "C.UTF-8");

    let Layout { data, socket_dir, log, .. } = layout(&place);
    for dir in [&data, &socket_dir] {
        let metadata = fs::metadata(dir).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o700, "{}", dir.display());
        assert_ne!(metadata.uid(), 0, "{} is not root's", dir.display());
    }
    assert_eq!(fs::metadata(log).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_stop_is_orderly_and_the_next_start_finds_the_data() {
    let place = place();
    let embedded = start(&place);
    assert_ne!(ask(embedded.connect_options(), "SELECT lo_create(42)::text").unwrap(), "0");
    let pid = ready(&layout(&place), &[]);
    embedded.stop();
    assert_eq!(kill(pid, None), Err(nix::errno::Errno::ESRCH));
    assert!(log(&layout(&place)).contains("database system is shut down"));

    let again = start(&place);
    let kept = "SELECT oid::text FROM pg_largeobject_metadata";
    assert_eq!(ask(again.connect_options(), kept).unwrap(), "42");
    assert!(!log(&layout(&place)).contains("was not properly shut down"));
}

#[test]
fn a_killed_initdb_does_not_prevent_the_next_start() {
    let place = place();
    let half = place.path().join("postgres/data.init/base");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("1"), "half").unwrap();
    let embedded = start(&place);
    assert_eq!(ask(embedded.connect_options(), "SELECT 'up'").unwrap(), "up");
    assert!(!place.path().join("postgres/data.init").exists());
}

#[test]
fn a_killed_server_is_restarted_with_all_committed_data() {
    let place = place();
    let embedded = start(&place);
    let layout = layout(&place);
    let first = ready(&layout, &[]);
    let filled = "WITH rows AS (SELECT lo_from_bytea(0, decode(repeat('ab', 1000), 'hex')) FROM generate_series(1, 500)) \
                  SELECT count(*)::text FROM rows";
    assert_eq!(ask(embedded.connect_options(), filled).unwrap(), "500");
    kill(first, Signal::SIGKILL).unwrap();
    let second = ready(&layout, &[first]);
    let count = "SELECT count(*)::text FROM pg_largeobject_metadata";
    assert_eq!(ask(embedded.connect_options(), count).unwrap(), "500");

    // A second death soon after the first: the restart waits, and a stop works at any time of the recovery.
    kill(second, Signal::SIGKILL).unwrap();
    embedded.stop();
    assert_eq!(ask(start(&place).connect_options(), count).unwrap(), "500");
}

#[test]
fn waits_between_attempts_double_up_to_a_limit() {
    let waits: Vec<_> = (0..9).map(|failures| supervisor::backoff(failures).as_millis()).collect();
    assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    assert_eq!(supervisor::backoff(u32::MAX).as_secs(), 10);
}

#[test]
fn a_server_that_was_left_behind_is_taken_over_kept_alive_and_stopped() {
    let place = place();
    let mut left = cluster(&place).server().unwrap().spawn().unwrap();
    let pid = Pid::from_raw(left.id().cast_signed());
    let embedded = start(&place);
    assert_eq!(ready(&layout(&place), &[]), pid);
    assert_eq!(ask(embedded.connect_options(), "SELECT 'same'").unwrap(), "same");

    // Its death is noticed although it is not our child.
    kill(pid, Signal::SIGKILL).unwrap();
    let next = ready(&layout(&place), &[pid]);
    embedded.stop();
    assert_eq!(kill(next, None), Err(nix::errno::Errno::ESRCH));
    left.wait().unwrap();
}

#[test]
fn a_server_that_is_still_stopping_is_waited_for() {
    let place = place();
    let mut left = cluster(&place).server().unwrap().spawn().unwrap();
    let pid = ready(&layout(&place), &[]);
    kill(pid, Signal::SIGTERM).unwrap();
    let reaper = std::thread::spawn(move || left.wait().unwrap());
    let embedded = start(&place);
    assert_eq!(ask(embedded.connect_options(), "SELECT 'up'").unwrap(), "up");
    let next = ready(&layout(&place), &[pid]);
    assert_ne!(next, pid);
    reaper.join().unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn a_reused_pid_or_a_zombie_is_not_a_server_and_stale_locks_are_removed() {
    let place = place();
    cluster(&place);
    let layout = layout(&place);
    let stranger = std::process::id();
    let mut zombie = Command::new("true").spawn().unwrap();
    eventually("a zombie", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", zombie.id())).unwrap();
        stat.contains(") Z ").then_some(())
    });
    for stale in [stranger, zombie.id()] {
        let data = layout.data.display();
        let socket_dir = layout.socket_dir.display();
        let text = format!("{stale}\n{data}\n1700000000\n5432\n{socket_dir}\n\n  1234 5678\nready   \n");
        let lock = layout.socket_dir.join(".s.PGSQL.5432.lock");
        for path in [layout.data.join("postmaster.pid"), lock] {
            fs::write(&path, &text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::write(layout.socket_dir.join(".s.PGSQL.5432"), "").unwrap();
        assert_eq!(layout.postmaster(), None);
        let embedded = start(&place);
        assert_eq!(ask(embedded.connect_options(), "SELECT 'up'").unwrap(), "up");
    }
    zombie.wait().unwrap();
}

#[test]
fn a_second_server_is_rejected_and_other_commands_share_the_cluster() {
    let place = place();
    let serving = start(&place);
    let dir = place.path().join("postgres");
    let refused = Embedded::start(&dir, None).unwrap_err();
    assert!(matches!(&refused, PostgresError::Locked { .. }), "{refused}");
    assert!(refused.to_string().contains(dir.to_str().unwrap()));

    let pid = ready(&layout(&place), &[]);
    let sharing = Embedded::adopt_or_start(&dir, None).unwrap();
    assert!(sharing.supervisor.is_none() && serving.supervisor.is_some());
    assert_eq!(ask(sharing.connect_options(), "SELECT 'shared'").unwrap(), "shared");
    sharing.stop();
    assert_eq!(ready(&layout(&place), &[]), pid);
    serving.stop();

    let alone = Embedded::adopt_or_start(&dir, None).unwrap();
    assert!(alone.supervisor.is_some());
    alone.stop();
    assert_eq!(layout(&place).pid_file(), None);
}

#[test]
fn a_path_too_long_for_a_socket_gets_a_short_one() {
    let place = place();
    let deep = place.path().join("d".repeat(60)).join("e".repeat(60));
    let embedded = Embedded::start(&deep, None).unwrap();
    assert_eq!(ask(embedded.connect_options(), "SELECT 'up'").unwrap(), "up");
    let socket_dir = Layout::create(&deep).unwrap().socket_dir;
    assert!(socket_dir.starts_with("/tmp"), "{}", socket_dir.display());
    let metadata = fs::symlink_metadata(&socket_dir).unwrap();
    assert!(metadata.is_dir() && metadata.mode() & 0o777 == 0o700);
    embedded.stop();

    // A path that another user occupies is not used.
    fs::remove_dir_all(&socket_dir).unwrap();
    std::os::unix::fs::symlink(place.path(), &socket_dir).unwrap();
    let refused = Embedded::start(&deep, None).unwrap_err();
    fs::remove_file(&socket_dir).unwrap();
    assert!(matches!(refused, PostgresError::SocketDir { .. }), "{refused}");
}

#[test]
fn the_parent_that_the_servers_user_cannot_enter_is_named() {
    let place = place();
    let closed = place.path().join("closed");
    let dir = closed.join("postgres");
    fs::create_dir_all(&dir).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let own = fs::metadata(&closed).unwrap().uid();
    let other = RunAs { uid: own + 1, gid: own + 1, name: "somebody".into() };
    let refused = check_access(&dir, &other).unwrap_err().to_string();
    assert!(refused.starts_with(&format!("{} (mode 700)", closed.display())), "{refused}");
    assert!(refused.contains("somebody"), "{refused}");
    let owner = RunAs { uid: own, gid: own + 1, name: "owner".into() };
    check_access(&dir, &owner).unwrap();
    if Uid::effective().is_root() {
        let refused = Embedded::start(&dir, None).unwrap_err();
        assert!(matches!(refused, PostgresError::Blocked { .. }), "{refused}");
    }
}

#[test]
fn the_message_about_missing_programs_says_what_to_install() {
    let nothing = Programs::choose(vec![], std::path::Path::new("/nonexistent")).unwrap_err().to_string();
    for part in ["install", "postgresql", "database.embedded.bin_dir", "database.url"] {
        assert!(nothing.contains(part), "{nothing}");
    }
    let place = place();
    let refused =
        Embedded::start(&place.path().join("postgres"), Some(place.path())).unwrap_err().to_string();
    assert!(refused.starts_with("database.embedded.bin_dir is "), "{refused}");
    assert!(refused.contains("does not contain the programs initdb and postgres"), "{refused}");
}

#[test]
fn the_newest_postgresql_creates_a_cluster_and_only_its_own_version_opens_it() {
    let at = |major| Programs { bin: format!("/pg/{major}").into(), major };
    let place = place();
    let choose = || Programs::choose(vec![at(15), at(18), at(17)], place.path());
    assert_eq!(choose().unwrap(), at(18));
    fs::write(place.path().join("PG_VERSION"), "15\n").unwrap();
    assert_eq!(choose().unwrap(), at(15));
    fs::write(place.path().join("PG_VERSION"), "16\n").unwrap();
    let refused = choose().unwrap_err().to_string();
    assert!(refused.contains("created by PostgreSQL 16, but only 18, 17, 15 is installed"), "{refused}");
}

#[test]
fn a_server_that_cannot_start_shows_the_end_of_its_log() {
    let place = place();
    cluster(&place);
    let layout = layout(&place);
    let conf = layout.data.join("postgresql.conf");
    fs::File::options().append(true).open(conf).unwrap().write_all(b"\nwork_mem = 'much'\n").unwrap();
    let refused = Embedded::start(&layout.dir, None).unwrap_err();
    assert!(matches!(refused, PostgresError::Died { .. }), "{refused}");
    assert!(refused.to_string().contains("invalid value for parameter \"work_mem\""), "{refused}");
    assert!(layout.lock().unwrap().is_some(), "the lock is free again");
}

#[test]
fn a_large_log_is_rotated() {
    let place = place();
    let layout = layout(&place);
    fs::File::create(&layout.log).unwrap().set_len(17 * 1024 * 1024).unwrap();
    start(&place).stop();
    assert!(log(&layout).contains("ready to accept connections"));
    assert!(layout.log_bytes() < 1024 * 1024);
    assert!(layout.dir.join("postgres.log.1").exists());
}

#[test]
fn these_tests_pass_for_an_ordinary_user_too() {
    if !Uid::effective().is_root() {
        return;
    }
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let place = place();
    let exe = place.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    let output = {
        use std::os::unix::process::CommandExt as _;
        Command::new(exe)
            .args(["postgres::tests::", "--skip", "ordinary_user"])
            .uid(nobody.uid.as_raw())
            .gid(nobody.gid.as_raw())
            .current_dir("/")
            .output()
            .unwrap()
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("15 passed"), "{text}");
}
