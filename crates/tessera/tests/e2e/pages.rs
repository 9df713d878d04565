//! The documentation pages: every command in them runs. `tidy` compares their lists.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Server, run};

/// The pages whose commands need a running server.
const PAGES: [&str; 5] =
    ["README.md", "docs/scrips.md", "docs/ticketsql.md", "docs/architecture.md", "docs/operating.md"];
/// The page whose commands build a program, and need a directory and `tessera` on the PATH.
const CONNECTORS: &str = "docs/connectors.md";
/// Identifies commands that set up a machine; scripts/test.sh is one of them.
const SET_UP: &str = "./scripts/";

#[tokio::test]
async fn every_command_of_the_pages_runs() {
    for page in PAGES {
        let mut server = Server::start(&[]).await;
        follow(page, &server, Command::new("bash"));
        server.stop().await;
        server.check();
    }
}

#[tokio::test]
async fn the_connector_on_the_page_can_be_written_built_and_run() {
    let (mut server, place) = (Server::start(&[]).await, TempDir::new().unwrap());
    std::fs::create_dir(place.path().join("board")).unwrap();
    std::fs::write(place.path().join("board/main.go"), blocks(&read(CONNECTORS), "go").concat()).unwrap();

    let tessera = server.tessera(&[]);
    let mut reader = Command::new("bash");
    reader.current_dir(place.path()).env("CLONE", root()).env("ADDRESS", server.grpc_address());
    reader.envs(tessera.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let programs = Path::new(tessera.get_program()).parent().unwrap();
    reader.env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()));
    follow(CONNECTORS, &server, reader);

    let board = std::fs::read_to_string(place.path().join("board/board.txt")).unwrap();
    let lines: Vec<&str> = board.lines().filter_map(|line| Some(line.split_once('\t')?.1)).collect();
    assert_eq!(lines.len(), 3, "{board}");
    server.stop().await;
    server.check();
}

/// Runs the commands of a page.
fn follow(page: &str, server: &Server, mut reader: Command) {
    let script = commands(&read(page));
    assert!(!script.is_empty(), "{page} has no commands");
    reader.args(["-euo", "pipefail", "-c", &script]);
    let ran = run(reader.env("TESSERA", server.url()).env("TOKEN", &server.token));
    assert!(ran.ok, "{page}\n{}\n{}", ran.stdout, ran.stderr);
}

/// Returns the commands in the fenced blocks of a page.
fn commands(page: &str) -> String {
    blocks(page, "sh").into_iter().filter(|block| !block.contains(SET_UP)).collect()
}

/// Returns the fenced blocks of a page in a language.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    page.split(&format!("```{language}\n")).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

fn read(page: &str) -> String {
    std::fs::read_to_string(root().join(page)).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}
