//! The commands as people and scripts run them: their output, and their exit codes.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

use crate::support::{self, Ran};

/// Runs `tessera` in a clean environment, with its data in `place`.
fn tessera(place: &Path, args: &[&str], vars: &[(&str, &str)]) -> Ran {
    let mut command = support::tessera(args);
    command.env("TESSERA_DATA_DIR", place.join("data")).envs(vars.iter().copied()).current_dir(place);
    support::run(&mut command)
}

/// A directory that the server's user can enter.
fn place() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap()
}

#[test]
fn migrate_creates_the_embedded_database_leaves_nothing_running_and_can_run_twice() {
    let place = place();
    for _ in 0..2 {
        let ran = tessera(place.path(), &["migrate"], &[]);
        assert!(ran.ok, "{}", ran.stderr);
        assert!(ran.stderr.contains("the database schema is up to date"), "{}", ran.stderr);
    }
    assert!(!place.path().join("data/postgres/data/postmaster.pid").exists());
}

#[test]
fn token_prints_the_configured_one_and_creates_none() {
    let place = place();
    let ran = tessera(place.path(), &["token"], &[("TESSERA_AUTH__ADMIN_TOKEN", "1234567890123456")]);
    assert!(ran.ok, "{}", ran.stderr);
    assert_eq!(ran.stdout, "1234567890123456\n");

    let ran = tessera(place.path(), &["token"], &[]);
    assert!(!ran.ok && ran.stdout.is_empty());
    assert!(ran.stderr.contains("Run `tessera serve` once"), "{}", ran.stderr);
}

#[test]
fn an_invalid_setting_is_one_line_on_stderr() {
    let place = place();
    let ran = tessera(place.path(), &["migrate"], &[("TESSERA_HTTP__PORT", "1"), ("RUST_BACKTRACE", "1")]);
    assert!(!ran.ok);
    assert_eq!(
        ran.stderr,
        "tessera: TESSERA_HTTP__PORT: is not a known setting; known here: listen, connections_max\n"
    );

    std::fs::write(place.path().join("tessera.toml"), "[http]\nlisten = \"x\"\n").unwrap();
    let ran = tessera(place.path(), &["token"], &[]);
    let expected =
        "tessera: http.listen in tessera.toml: \"x\" is not an address with a port, such as 127.0.0.1:8080\n";
    assert_eq!(ran.stderr, expected);
}

#[test]
fn an_unreachable_database_is_reported_without_its_password() {
    let place = place();
    let url = "postgres://tessera:hunter2@127.0.0.1:1/tessera";
    let ran = tessera(place.path(), &["migrate"], &[("TESSERA_DATABASE__URL", url)]);
    assert!(!ran.ok);
    assert!(ran.stderr.contains("cannot connect to the database"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
}

#[test]
fn the_settings_are_shown_and_validated_completely() {
    let place = place();
    std::fs::write(
        place.path().join("tessera.toml"),
        "[mail]\nsmtp_url = \"smtp://user:hunter2@localhost\"\n",
    )
    .unwrap();
    let ran = tessera(place.path(), &["config", "show"], &[("TESSERA_NAME", "desk")]);
    assert!(ran.ok, "{ran:?}");
    assert!(ran.stdout.contains("name = \"desk\"") && ran.stdout.contains("# TESSERA_NAME"), "{ran:?}");
    assert!(ran.stdout.contains("# smtp_url = (set)") && !ran.stdout.contains("hunter2"), "{ran:?}");

    let ran = tessera(place.path(), &["config", "check"], &[]);
    assert!(ran.ok && ran.stdout.starts_with("The settings are valid: tessera.toml and 1 "), "{ran:?}");
    let ran =
        tessera(place.path(), &["config", "check"], &[("TESSERA_HTTP__LISTEN", "x"), ("TESSERA_NAMES", "y")]);
    assert!(!ran.ok && ran.stdout.lines().count() == 2, "{ran:?}");
    assert_eq!(ran.stderr, "tessera: 2 problems in the settings\n");
}
