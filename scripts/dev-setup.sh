#!/usr/bin/env bash
# Installs what building, running and testing Tessera needs and this machine does not have. May be run again.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        die "needs root for: $*. Run it as root, or install sudo."
    fi
}

install_packages() {
    if has apt-get; then
        say "installing $* with apt-get"
        as_root apt-get update -q
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
    elif has brew; then
        # Homebrew's Python and compilers are complete; only PostgreSQL has another name there.
        say "installing postgresql@17 with brew"
        brew install postgresql@17
    else
        die "found neither apt-get nor brew; please install what these Debian packages hold: $*"
    fi
}

has cargo || die "there is no Rust toolchain: see https://rustup.rs (Tessera needs Rust 1.95 or newer)"

# A minimal toolchain lacks these two; rustup has them.
if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    has rustup || die "this Rust toolchain has no rustfmt or clippy; install them"
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
postgres_bin >/dev/null || die "PostgreSQL was installed, and its programs are still not found"

# A real SMTP server, for the tests that send mail to something that is not ours, and a fuzzer of APIs.
requirements=scripts/requirements.txt
if ! cmp -s "$requirements" .tools/venv/requirements.txt; then
    say "installing what the tests use ($requirements) into .tools/venv"
    python3 -m venv --clear .tools/venv
    .tools/venv/bin/pip install --quiet --disable-pip-version-check -r "$requirements"
    # Last, so that an installation that was cut short is done again.
    cp "$requirements" .tools/venv/requirements.txt
fi
# What integrations/go.mod pins, the tools of the tests among it. Tessera itself needs no Go.
needed=$(sed -n 's/^go //p' integrations/go.mod)
if ! has go; then
    say "there is no Go toolchain, so the connectors cannot be built or tested: see https://go.dev/doc/install ($needed or newer)"
elif ! (cd integrations && GOTOOLCHAIN=local go list -m >/dev/null 2>&1); then
    say "the connectors need Go $needed or newer, and this is $(go env GOVERSION): see https://go.dev/doc/install"
else
    (cd integrations && go mod download)
fi
say "everything that Tessera needs is here"
