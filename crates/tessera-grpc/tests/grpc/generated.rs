//! Compares the committed generated code with the contract.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The first lines of the generated code.
const OPENING: &str =
    "//! Generated from proto/tessera/v1: `UPDATE=1 cargo test -p tessera-grpc` regenerates it.\n\n";

#[test]
fn the_committed_code_and_descriptors_are_those_of_the_contract() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gen");
    let (code, descriptors) = generate();
    for (name, made) in [("tessera.v1.rs", code), ("tessera.v1.bin", descriptors)] {
        let path = committed.join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &made).unwrap();
        }
        let same = fs::read(&path).is_ok_and(|there| there == made);
        assert!(same, "src/gen/{name} is out of date: UPDATE=1 cargo test -p tessera-grpc regenerates it");
    }
}

/// Generates the Rust code and the encoded descriptors, with comments for clients of the reflection service.
fn generate() -> (Vec<u8>, Vec<u8>) {
    let protos: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let mut compiler = protox::Compiler::new([&protos]).unwrap();
    compiler.include_source_info(true).include_imports(true);
    let files = fs::read_dir(protos.join("tessera/v1")).unwrap().map(|file| file.unwrap().path());
    let files: BTreeSet<PathBuf> = files.collect();
    compiler.open_files(files).unwrap();
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .btree_map(".")
        .skip_debug(["tessera.v1.WebhookRequest"])
        .emit_rerun_if_changed(false)
        .out_dir(out.path())
        .compile_fds(compiler.file_descriptor_set())
        .unwrap();
    let code = fs::read_to_string(out.path().join("tessera.v1.rs")).unwrap();
    ((OPENING.to_owned() + &code).into_bytes(), compiler.encode_file_descriptor_set())
}
