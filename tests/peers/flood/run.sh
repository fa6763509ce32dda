#!/usr/bin/env bash
# For each number of connections and each attack, starts `svctok serve` (the binary in $1) with an
# empty store and runs the attack against it.
#
#     tests/peers/flood/run.sh target/release/svctok [CONNECTIONS ...]
set -euo pipefail
folder=$(cd "$(dirname "$0")" && pwd)
svctok=$1
shift
[ $# -gt 0 ] || set -- 60 1000
python=$folder/.venv/bin/python
store=$(mktemp -d)
pid=
cleanup() {
  [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
  rm -rf "$store"
}
trap cleanup EXIT
ulimit -n "$(ulimit -Hn)"

attacks=${ATTACKS:-$("$python" -c 'import sys; sys.path.insert(0, sys.argv[1]); import flood; print(*flood.ATTACKS)' "$folder")}
failed=0
for connections in "$@"; do
  for attack in $attacks; do
    rm -rf "${store:?}"/*
    "$svctok" serve --store "sqlite:$store/tokens.db" --listen 127.0.0.1:0 \
      --bootstrap-token-file "$store/token" 2>"$store/log" &
    pid=$!
    touch "$store/log"
    until address=$(sed -n 's|.*listening on http://\([0-9.:]*\).*|\1|p' "$store/log") && [ -n "$address" ]; do
      kill -0 "$pid"
      sleep 0.05
    done
    "$python" "$folder/flood.py" --pid "$pid" --address "$address" --token "$(cat "$store/token")" \
      --connections "$connections" "$attack" || failed=1
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null || true
    pid=
  done
done
exit $failed
