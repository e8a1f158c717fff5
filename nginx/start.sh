#!/bin/sh
# The nginx container's command: renders, checks, serves; a certificate that was made or renewed is taken up within 10 s.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-/tmp/nginx}

fingerprint() {
    cat "/etc/letsencrypt/live/${DOMAIN:-}/fullchain.pem" /etc/hypersend/certificates/fullchain.pem 2>/dev/null | cksum
}
render_and_check() {
    "$here/render.sh" "$out" && nginx -t -q -c "$out/nginx.conf"
}

render_and_check
if [ "${TLS:-off}" != off ]; then
    known=$(fingerprint)
    while sleep 10; do
        now=$(fingerprint)
        if [ "$now" != "$known" ]; then
            known=$now
            if render_and_check; then
                kill -HUP "$(cat "$out/nginx.pid")"
            fi
        fi
    done &
fi
exec nginx -c "$out/nginx.conf" -g 'daemon off;'
