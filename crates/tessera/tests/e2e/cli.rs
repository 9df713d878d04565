//! The commands, as a person or a script runs them: what they print, where, and how they end.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// What a command printed, and whether it succeeded.
struct Ran {
    ok: bool,
    stdout: String,
    stderr: String,
}

/// Runs `tessera` in an environment of its own, with its data in `place`.
fn tessera(place: &Path, args: &[&str], vars: &[(&str, &str)]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_tessera"))
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("TESSERA_DATA_DIR", place.join("data"))
        .envs(vars.iter().copied())
        .current_dir(place)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { ok: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A directory that the server's user can enter.
fn place() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap()
}

#[test]
fn migrate_makes_the_embedded_database_leaves_nothing_running_and_runs_twice() {
    let place = place();
    for _ in 0..2 {
        let ran = tessera(place.path(), &["migrate"], &[]);
        assert!(ran.ok, "{}", ran.stderr);
        assert!(ran.stderr.contains("the database is up to date"), "{}", ran.stderr);
    }
    assert!(!place.path().join("data/postgres/data/postmaster.pid").exists());
}

#[test]
fn token_prints_the_configured_one_and_makes_none() {
    let place = place();
    let ran = tessera(place.path(), &["token"], &[("TESSERA_AUTH__ADMIN_TOKEN", "1234567890123456")]);
    assert!(ran.ok, "{}", ran.stderr);
    assert_eq!(ran.stdout, "1234567890123456\n");

    let ran = tessera(place.path(), &["token"], &[]);
    assert!(!ran.ok && ran.stdout.is_empty());
    assert!(ran.stderr.contains("Start `tessera serve` once"), "{}", ran.stderr);
}

#[test]
fn a_wrong_setting_is_one_line_on_stderr() {
    let place = place();
    let ran = tessera(place.path(), &["migrate"], &[("TESSERA_HTTP__PORT", "1"), ("RUST_BACKTRACE", "1")]);
    assert!(!ran.ok);
    assert_eq!(
        ran.stderr,
        "tessera: TESSERA_HTTP__PORT: there is no such setting; here are listen, connections_max\n"
    );

    std::fs::write(place.path().join("tessera.toml"), "[http]\nlisten = \"x\"\n").unwrap();
    let ran = tessera(place.path(), &["token"], &[]);
    let expected =
        "tessera: http.listen in tessera.toml: \"x\" is no address and port, as in 127.0.0.1:8080\n";
    assert_eq!(ran.stderr, expected);
}

#[test]
fn a_database_that_is_not_there_is_said_without_its_password() {
    let place = place();
    let url = "postgres://tessera:hunter2@127.0.0.1:1/tessera";
    let ran = tessera(place.path(), &["migrate"], &[("TESSERA_DATABASE__URL", url)]);
    assert!(!ran.ok);
    assert!(ran.stderr.contains("cannot connect to the database"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
}
