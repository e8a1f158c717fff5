#!/bin/sh
# Installs the real servers that the tests run against, as root on Debian; elsewhere tests that need a missing one
# skip and say so. HYPERSEND_REQUIRE_PARTS=1 turns those skips into failures.
set -eu
packages="nginx-light curl chromium fonts-noto-core"
commands="nginx curl chromium"

missing=""
for command in $commands; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null 2>&1 || missing="$missing $command"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing what the tests run against:$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $packages >/dev/null
else
    echo "Missing for some tests:$missing (on Debian, as root: apt-get install $packages)"
fi
