#!/bin/sh
# The server container's entry: settings that follow from COMPOSE_PROFILES, where the operator said nothing else.
set -eu
umask 027

has() {
    case ",${COMPOSE_PROFILES:-}," in *",$1,"*) return 0 ;; *) return 1 ;; esac
}

if has scale; then
    export REDIS_URL="${REDIS_URL:-redis://redis:6379/0}"
fi
if has s3; then
    export STORAGE_BACKEND="${STORAGE_BACKEND:-s3}" S3_ENDPOINT="${S3_ENDPOINT:-http://minio:9000}"
    export S3_BUCKET="${S3_BUCKET:-hypersend}"
    if [ -z "${S3_ACCESS_KEY:-}" ]; then
        export S3_ACCESS_KEY_FILE=/volumes/keys/s3_access_key S3_SECRET_KEY_FILE=/volumes/keys/s3_secret_key
    fi
    if [ -z "${S3_PUBLIC_ENDPOINT:-}" ]; then
        # nginx shows the store at a port of its own, beside the site. Without an address that devices know, all bytes
        # go through the server.
        case "${PUBLIC_URL:-}" in
            "" | *://*:*) export S3_DIRECT=off ;;
            *) export S3_PUBLIC_ENDPOINT="${PUBLIC_URL%/}:${OBJECTS_PORT:-9000}" ;;
        esac
    fi
fi

exec hypersend-server "$@"
