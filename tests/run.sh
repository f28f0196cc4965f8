#!/usr/bin/env bash
# Runs everything that must be green before a change lands: format, lints, tests, doc
# tests. Fetches the real programs the tests talk to (Prometheus, Alertmanager,
# node_exporter, Pushgateway, VictoriaMetrics) from Debian into target/tools: nothing is installed into
# the system and no service is started.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/tools
programs=(prometheus promtool prometheus-alertmanager amtool prometheus-node-exporter prometheus-pushgateway victoria-metrics openssl)
packages=(prometheus prometheus-alertmanager prometheus-node-exporter prometheus-pushgateway victoria-metrics openssl)
export PATH="$tools/usr/bin:$PATH"

missing() {
  for program in "${programs[@]}"; do
    command -v "$program" >/dev/null || return 0
  done
  return 1
}

fetch() {
  mkdir -p "$tools"
  (cd "$tools" && rm -f ./*.deb && apt-get -qq download "${packages[@]}" &&
    for deb in ./*.deb; do dpkg -x "$deb" .; done && rm -f ./*.deb)
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

if missing; then
  echo "fetching ${packages[*]} from Debian into target/tools"
  fetch || { as_root apt-get -qq update && fetch; }
  if missing; then
    echo "error: ${programs[*]} are not all there; install the Debian packages ${packages[*]}" >&2
    exit 1
  fi
fi

# With this set, a test whose real counterpart is absent fails instead of being skipped.
export WATCHFIRE_REQUIRE_PROGRAMS=1

cargo fmt --check
cargo clippy --all-targets --locked -- -D warnings
if cargo nextest --version >/dev/null 2>&1; then
  cargo nextest run --locked
else
  cargo test --locked --lib --bins --tests
fi
cargo test --locked --doc
