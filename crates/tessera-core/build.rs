//! Says to cargo what the `migrate!` macro reads, so that a new migration is seen.
fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
