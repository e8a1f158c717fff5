#!/bin/sh
# The letsencrypt container: one certificate for DOMAIN by the webroot that nginx serves, renewed in time.
set -eu
if [ -z "${DOMAIN:-}" ]; then
    echo "letsencrypt: DOMAIN must be set, such as chat.example.org" >&2
    exit 1
fi
if [ -n "${LETSENCRYPT_EMAIL:-}" ]; then
    set -- --email "$LETSENCRYPT_EMAIL"
else
    set -- --register-unsafely-without-email
fi
trap 'exit 0' TERM INT
while :; do
    pause=43200
    certbot certonly --non-interactive --agree-tos --webroot --webroot-path /srv/acme --keep-until-expiring \
        --cert-name "$DOMAIN" --domain "$DOMAIN" --logs-dir /tmp/log --work-dir /tmp/work "$@" || pause=900
    sleep "$pause" &
    wait $!
done
