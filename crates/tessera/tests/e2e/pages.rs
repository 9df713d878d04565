//! The pages of the documentation: every command in them runs. What they list is compared in `tidy`.

use std::path::Path;
use std::process::Command;

use crate::support::Server;

/// The pages whose commands are for a server that runs.
const PAGES: [&str; 5] =
    ["README.md", "docs/scrips.md", "docs/ticketsql.md", "docs/architecture.md", "docs/operating.md"];
/// What marks the commands that set up a machine; scripts/test.sh is one of them.
const SET_UP: &str = "./scripts/";

#[tokio::test]
async fn every_command_of_the_pages_runs() {
    for page in PAGES {
        let mut server = Server::start(&[]).await;
        let script = commands(&read(page));
        assert!(!script.is_empty(), "{page} has no commands");
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .env("TESSERA", server.url())
            .env("TOKEN", &server.token)
            .output()
            .unwrap();
        let [said, complained] =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success(), "{page}: {}\n{said}\n{complained}", output.status);
        server.stop().await;
        server.check();
    }
}

/// The fenced commands of a page, one after the other.
fn commands(page: &str) -> String {
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| !block.contains(SET_UP)).collect()
}

fn read(page: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(page)).unwrap()
}
