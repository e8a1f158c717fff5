#!/bin/sh
# Makes nginx's configuration from the templates beside this file: render.sh FOLDER. Reads the environment:
#   COMPOSE_PROFILES  which services there are, see config/example.env
#   SERVERS           addresses of the server processes; made from COMPOSE_PROFILES where it is empty
#   TLS               off | letsencrypt | own; with one of these DOMAIN, and the certificate under CERTIFICATES
#   FRONT_PROXIES     networks whose X-Forwarded-For is believed
# and what differs outside of containers: RUN, FILES, ACME, CERTIFICATES, ACCESS_LOG and the ..._LISTEN below.
# Exit status 1, with one line a mistake, where something is wrong; then nothing is written.
set -eu

mkdir -p "${1:?usage: render.sh FOLDER}"
OUT=$(cd "$1" && pwd)
HERE=$(cd "$(dirname "$0")" && pwd)
export OUT HERE
problems=""
problem() {
    echo "nginx: $1" >&2
    problems=yes
}
has() {
    case ",${COMPOSE_PROFILES:-}," in *",$1,"*) return 0 ;; *) return 1 ;; esac
}
matches() { # value, extended regular expression
    printf '%s\n' "$1" | grep -Eqx "$2"
}

: "${TLS:=off}" "${DOMAIN:=}" "${HTTPS_PORT:=443}" "${RUN:=/tmp/nginx}" "${FILES:=/srv/files}" "${ACME:=/srv/acme}"
: "${HTTP_LISTEN:=8080}" "${HTTPS_LISTEN:=8443}" "${OBJECTS_LISTEN:=9443}" "${S3_BUCKET:=hypersend}"
: "${FRONT_PROXIES:=}" "${SERVERS:=}" "${OBJECTS_AT:=minio:9000}" "${ACCESS_LOG:=/dev/stdout}"

if [ -z "$SERVERS" ]; then
    if has standard && has lite; then
        problem "COMPOSE_PROFILES must have one of standard and lite, not both"
    elif has standard; then
        SERVERS="server:8000"
        if has scale; then SERVERS="server:8000 server-2:8000"; fi
    elif has lite; then
        SERVERS="server-lite:8000"
        if has scale; then problem "COMPOSE_PROFILES: scale needs standard, since SQLite takes one server"; fi
    else
        problem "COMPOSE_PROFILES must have standard or lite"
    fi
fi
OBJECTS="" OBJECTS_TLS=""
if has s3; then OBJECTS=$OBJECTS_AT; fi
BUCKET=$S3_BUCKET
matches "$BUCKET" '[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]' || problem "S3_BUCKET must be 3 to 63 small letters, digits, dots and hyphens"
matches "$HTTPS_PORT" '[0-9]{1,5}' || problem "HTTPS_PORT must be a port"
FRONT_PROXIES=$(printf '%s' "$FRONT_PROXIES" | tr ',' ' ')
for network in $FRONT_PROXIES; do
    matches "$network" '[0-9a-fA-F.:]+(/[0-9]{1,3})?' || problem "FRONT_PROXIES must be addresses or networks, not '$network'"
done

PLAIN="" PENDING="" REDIRECT="" CERTIFICATE="" CERTIFICATE_KEY="" HTTPS_SUFFIX=""
if [ "$HTTPS_PORT" != 443 ]; then HTTPS_SUFFIX=":$HTTPS_PORT"; fi
case "$TLS" in
    off) PLAIN=yes ;;
    letsencrypt) : "${CERTIFICATES:=/etc/letsencrypt/live/$DOMAIN}" ;;
    own) : "${CERTIFICATES:=/etc/hypersend/certificates}" ;;
    *) problem "TLS must be one of off, letsencrypt, own, not '$TLS'" ;;
esac
if [ -z "$PLAIN" ]; then
    matches "$DOMAIN" '[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?' || problem "TLS=$TLS needs DOMAIN, such as chat.example.org"
    if [ "$TLS" = letsencrypt ] && ! has letsencrypt; then
        problem "TLS=letsencrypt needs letsencrypt in COMPOSE_PROFILES"
    fi
    CERTIFICATE=${CERTIFICATES:-}/fullchain.pem
    CERTIFICATE_KEY=${CERTIFICATES:-}/privkey.pem
    if [ -r "$CERTIFICATE" ] && [ -r "$CERTIFICATE_KEY" ]; then
        REDIRECT=yes
        OBJECTS_TLS=" ssl"
    elif [ "$TLS" = letsencrypt ]; then
        PENDING=yes CERTIFICATE="" OBJECTS=""
    else
        problem "TLS=own needs $CERTIFICATE and $CERTIFICATE_KEY, readable by user $(id -u)"
    fi
fi
[ -z "$problems" ] || exit 1

# What the nginx at hand can do: names looked up again (`resolve`) since 1.27.3.
version=$(nginx -v 2>&1 | sed -n 's|.*nginx/\([0-9]*\)\.\([0-9]*\)\.\([0-9]*\).*|\1 \2 \3|p')
version=$(printf '%s' "$version" | awk '{ printf "%d%03d%03d", $1, $2, $3 }')
RESOLVE="" RESOLVER=""
if [ "$version" -ge 1027003 ]; then
    RESOLVER=$(awk '$1 == "nameserver" { print ($2 ~ /:/) ? "[" $2 "]" : $2; exit }' /etc/resolv.conf)
    if [ -n "$RESOLVER" ]; then RESOLVE=" resolve"; fi
fi

export RUN FILES ACME DOMAIN HTTPS_SUFFIX HTTP_LISTEN HTTPS_LISTEN OBJECTS_LISTEN ACCESS_LOG SERVERS BUCKET
export FRONT_PROXIES OBJECTS OBJECTS_TLS PLAIN PENDING REDIRECT CERTIFICATE CERTIFICATE_KEY
export RESOLVE RESOLVER

fill() { # template, result
    awk '
        function filled(line,    at, name) {
            while (match(line, /@[A-Z0-9_]+@/)) {
                name = substr(line, RSTART + 1, RLENGTH - 2)
                at = RSTART
                line = substr(line, 1, at - 1) ENVIRON[name] substr(line, at + RLENGTH)
            }
            return line
        }
        function each(text, values,    n, i, all, one) {
            n = split(values, all, " ")
            for (i = 1; i <= n; i++) { one = text; gsub(/@EACH@/, all[i], one); print filled(one) }
        }
        /^#if / {
            wanted = substr($2, 1, 1) != "!"
            name = wanted ? $2 : substr($2, 2)
            depth++
            if (!skipping && (ENVIRON[name] != "") != wanted) skipping = depth
            next
        }
        /^#end/ { if (skipping == depth) skipping = 0; depth--; next }
        skipping { next }
        /^#each / { name = $2; sub(/^#each [A-Z_]+/, ""); each($0, ENVIRON[name]); next }
        /^ *server 10\.0\.0\.2:8000/ { sub(/10\.0\.0\.2:8000/, "@EACH@"); sub(/;/, "@RESOLVE@;"); each($0, ENVIRON["SERVERS"]); next }
        /^ *server 10\.0\.0\.3:8000/ { next }
        /^upstream / && ENVIRON["RESOLVE"] != "" { print filled($0); print "    zone " $2 " 64k;"; next }
        { print filled($0) }
    ' "$1" >"$2.new"
    mv "$2.new" "$2"
}

mkdir -p "$RUN"
fill "$HERE/upstreams.conf" "$OUT/upstreams.conf"
fill "$HERE/files.conf.template" "$OUT/files.conf"
fill "$HERE/nginx.conf.template" "$OUT/nginx.conf"
