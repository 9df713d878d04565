#!/usr/bin/env bash
# Builds the Debian package for this machine's architecture in target/debian: scripts/package.sh [PROFILE]. The default
# profile, dist, is for published packages; release builds faster.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

profile=${1:-dist}
has cargo-deb || die "cargo-deb is not installed: cargo install --locked cargo-deb"
has dpkg-deb || die "dpkg-deb not found; Debian packages can only be built on Debian or Ubuntu"

export SQLX_OFFLINE=true
say "building Tessera ($profile)"
cargo build --profile "$profile" --locked -p tessera
say "building the package"
cargo deb --no-build --locked -p tessera --profile "$profile"
for package in "${CARGO_TARGET_DIR:-target}"/debian/tessera_*.deb; do
    say "$package: $(dpkg-deb --field "$package" Version) for $(dpkg-deb --field "$package" Architecture)"
done
