#!/usr/bin/env bash
# Builds the Debian package for this machine's architecture into target/debian. An argument names another profile than
# dist, which is for packages that are published: `release` is quicker to build.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

profile=${1:-dist}
has cargo-deb || die "cargo-deb is not installed: cargo install --locked cargo-deb"
has dpkg-deb || die "packages for Debian are made on Debian; here is no dpkg-deb"

export SQLX_OFFLINE=true
say "building Tessera ($profile)"
cargo build --profile "$profile" --locked -p tessera
say "making the package"
cargo deb --no-build --locked -p tessera --profile "$profile"
for package in "${CARGO_TARGET_DIR:-target}"/debian/tessera_*.deb; do
    say "$package: $(dpkg-deb --field "$package" Version) for $(dpkg-deb --field "$package" Architecture)"
done
