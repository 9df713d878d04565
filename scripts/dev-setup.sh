#!/usr/bin/env bash
# Installs whatever is missing on this machine to build, run and test Tessera. Safe to run again.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        die "root is needed to run: $*. Run this script as root, or install sudo"
    fi
}

install_packages() {
    if has apt-get; then
        say "installing $* with apt-get"
        as_root apt-get update -q
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
    elif has brew; then
        # Homebrew's Python and compilers are complete; only the name of the PostgreSQL package differs.
        say "installing postgresql@17 with brew"
        brew install postgresql@17
    else
        die "neither apt-get nor brew found; install the equivalents of these Debian packages: $*"
    fi
}

has cargo || die "no Rust toolchain found; Tessera needs Rust 1.95 or newer: see https://rustup.rs"

# A minimal toolchain lacks these two; rustup can add them.
if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    has rustup || die "this Rust toolchain lacks rustfmt or clippy; install them"
    rustup component add rustfmt clippy
fi

missing=()
has cc || missing+=(build-essential)
has curl || missing+=(curl ca-certificates)
postgres_bin >/dev/null || missing+=(postgresql)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
if [ "${#missing[@]}" -gt 0 ]; then
    install_packages "${missing[@]}"
fi
postgres_bin >/dev/null || die "PostgreSQL was installed, but initdb and postgres were not found"

# An independent SMTP server for the tests that send mail, an API fuzzer, and buf for proto/.
requirements=scripts/requirements.txt
if ! cmp -s "$requirements" .tools/venv/requirements.txt; then
    say "installing test tools ($requirements) into .tools/venv"
    python3 -m venv --clear .tools/venv
    .tools/venv/bin/pip install --quiet --disable-pip-version-check -r "$requirements"
    # Last, so that an interrupted installation is repeated.
    cp "$requirements" .tools/venv/requirements.txt
fi
# Modules pinned by integrations/go.mod, including test tools. Tessera itself does not need Go.
needed=$(sed -n 's/^go //p' integrations/go.mod)
if ! has go; then
    say "no Go toolchain found; building and testing the connectors needs Go $needed or newer: see https://go.dev/doc/install"
elif ! (cd integrations && GOTOOLCHAIN=local go list -m >/dev/null 2>&1); then
    say "the connectors need Go $needed or newer, but this is $(go env GOVERSION): see https://go.dev/doc/install"
else
    (cd integrations && go mod download)
fi
say "everything that Tessera needs is installed"
