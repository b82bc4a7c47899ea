#!/usr/bin/env bash
# Kills `smolt train recipes/tests/kill-resume.toml` twenty times with kill -9, each time after a new checkpoint and
# before the end, goes on with --resume, and compares the result with an undisturbed run: for 1 and for 2 threads.
#   recipes/tests/kill-resume.sh [SMOLT] [FOLDER]
# SMOLT: the binary [default: target/release/smolt]; FOLDER: where to work [default: a new one under /tmp]
set -euo pipefail
cd "$(dirname "$0")/../.."
smolt=${1:-target/release/smolt}
folder=${2:-$(mktemp -d)}
recipe=recipes/tests/kill-resume.toml
kills_wanted=20
last=$(sed -n 's/^train_steps = //p' "$recipe")

newest() { # the newest checkpoint of run $1, 0 if there is none
    ls "$1/checkpoints" 2>/dev/null | sed -n 's/^step-//p' | sort -n | tail -n 1 | grep . || echo 0
}

fail() {
    echo "FAIL: $*"
    exit 1
}

train() { # run $1 on $2 threads; call it in a subshell or in the background, whose process it becomes
    exec "$smolt" train "$recipe" --out "$1" --resume --threads "$2" --json
}

for threads in 1 2; do
    undisturbed=$folder/undisturbed-$threads
    killed=$folder/killed-$threads
    (train "$undisturbed" "$threads") >"$folder/undisturbed-$threads.json"
    for ((kills = 0; kills < kills_wanted; kills++)); do
        known=$(newest "$killed")
        train "$killed" "$threads" >/dev/null 2>"$folder/log" &
        pid=$!
        while [ "$(newest "$killed")" -le "$known" ]; do
            kill -0 "$pid" 2>/dev/null || fail "it ended without a new checkpoint: $(cat "$folder/log")"
            sleep 0.02
        done
        sleep "0.$((RANDOM % 3))$((RANDOM % 10))"
        [ "$(newest "$killed")" -lt "$last" ] || fail "only $kills kills fitted before the end"
        kill -9 "$pid"
        wait "$pid" 2>/dev/null || true
    done
    (train "$killed" "$threads") >"$folder/killed-$threads.json"
    diff -r "$undisturbed/checkpoints/step-$last" "$killed/checkpoints/step-$last" || fail "the bytes differ"
    diff <(seq 1 "$last") <(sed -n 's/.*"step":\([0-9]*\).*/\1/p' "$killed/metrics.jsonl") || fail "steps are not 1 to $last"
    diff <(sed 's/"\(tokens_per_second\|data_wait_ms\)":[^,}]*//g' "$undisturbed/metrics.jsonl") \
        <(sed 's/"\(tokens_per_second\|data_wait_ms\)":[^,}]*//g' "$killed/metrics.jsonl") || fail "the metrics differ"
    echo "PASS: $kills_wanted kills on $threads thread(s), same bytes"
done
diff -r "$folder/undisturbed-1/checkpoints/step-$last" "$folder/undisturbed-2/checkpoints/step-$last" \
    || fail "1 and 2 threads differ"
echo "PASS: 1 and 2 threads, same bytes"
