#!/usr/bin/env bash
# An outage of a remote-write receiver at scale: 50,000 samples a second for SECONDS (600
# unless given), the receiver away all that time, the sender killed in the middle and again
# while it catches up. Everything must arrive, in order and once. Then the same with a queue
# of QUOTA (40MB): what was lost must be the oldest, and counted.
# tests/outage.sh [SECONDS [QUOTA]]     (WATCHFIRE_OUTAGE_PROFILE=dev for a quick build)
set -euo pipefail
cd "$(dirname "$0")/.."
export WATCHFIRE_OUTAGE_SECONDS=${1:-600} WATCHFIRE_OUTAGE_QUOTA=${2:-40MB}
profile=${WATCHFIRE_OUTAGE_PROFILE:-release}
exec cargo test --locked --profile "$profile" --test it remote_write::outage -- --nocapture --test-threads=1
