#!/usr/bin/env bash
# ConsensusLLM on a fresh machine: sets up .venv beside this file, then runs the demo or the tests.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
venv=${CONSENSUSLLM_VENV:-$root/.venv}
data_dir=${CONSENSUSLLM_DATA_DIR:-$root/consensusllm-data}
session=${CONSENSUSLLM_SESSION:-consensusllm}
# Panes and tests begin in other directories than the one where this was typed.
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac
case $data_dir in /*) ;; *) data_dir=$PWD/$data_dir ;; esac
session=${session//[.:]/_}  # as tmux calls it

say() { printf 'run.sh: %s\n' "$*" >&2; }
fail() { say "$1"; exit "${2:-1}"; }

usage() {
    cat <<'TEXT'
usage: ./run.sh                                start three nodes and a REPL; in tmux where it is there
       ./run.sh < commands                     the same, with the REPL's commands from standard input
       ./run.sh test [--full] [pytest args]    run the checks and the tests; --full searches longer
       ./run.sh help                           show this

environment:
  CONSENSUSLLM_BASE_PORT   orchestrator's port; node i has this plus i (5100, or the next free ones)
  CONSENSUSLLM_DATA_DIR    where the nodes keep their data (consensusllm-data beside run.sh)
  CONSENSUSLLM_VENV        the virtual environment to use (.venv beside run.sh)
  CONSENSUSLLM_SESSION     the tmux session's name (consensusllm)
  CONSENSUSLLM_SEED        the seed of a test run
TEXT
}

find_python() {
    local name
    for name in python3.13 python3.12 python3.11 python3.10 python3.14 python3 python; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' \
                >/dev/null 2>&1; then
            printf '%s\n' "$name"
            return
        fi
    done
    fail "needs Python 3.10 or later with its venv module: install python3 and python3-venv"
}

# install EXTRA: make the environment, unless it was made for this pyproject.toml and this extra.
install() {
    local extra=$1 stamp wanted python
    stamp=$venv/.consensusllm-$extra
    wanted="$(cksum <"$root/pyproject.toml") $root"
    if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 &&
        ! "$venv/bin/python" -m ensurepip >/dev/null 2>&1; then
        python=$(find_python)
        if [ -e "$venv/pyvenv.cfg" ]; then
            ls "$venv"/.consensusllm-* >/dev/null 2>&1 ||
                fail "$venv has no pip that runs, and is not run.sh's own: mend it, or set CONSENSUSLLM_VENV"
            rm -rf "$venv"
        fi
        say "making $venv with $("$python" --version)"
        mkdir -p "$venv" && touch "$venv/.consensusllm-made"
        "$python" -m venv "$venv" || fail "cannot make $venv: see the lines above"
    fi
    say "installing (a minute or so the first time)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$root[$extra]" ||
        fail "the installation failed: see the lines above, then run this again"
    # Once here, since an environment may forbid what runs to write its byte code: a third of a start.
    "$venv/bin/python" -m compileall -q "$root/consensusllm" "$root/cli" || true
    printf '%s\n' "$wanted" >"$stamp"
    if [ "$extra" = test ]; then cp "$stamp" "$venv/.consensusllm-providers"; fi  # it is among them
    say "installed"
}

# base_port: the one that was asked for, or the first of 5100, 5110, ... whose ports are all free.
base_port() {
    if [ -n "${CONSENSUSLLM_BASE_PORT:-}" ]; then
        printf '%s\n' "$CONSENSUSLLM_BASE_PORT"
        return
    fi
    "$venv/bin/python" - <<'PYTHON' || fail "no free ports from 5100 to 5999: set CONSENSUSLLM_BASE_PORT"
import contextlib, socket, sys

def free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False

for base in range(5100, 5990, 10):
    if all(free(base + offset) for offset in range(10)):
        if base != 5100:
            print(f"run.sh: port 5100 or one above it is in use: using {base}", file=sys.stderr)
        print(base)
        break
else:
    sys.exit(1)
PYTHON
}

# The same cluster without tmux: the REPL in this terminal, or reading standard input.
demo_here() {
    local port
    port=$(base_port)
    exec "$venv/bin/consensusllm" up --repl --base-port "$port" --data-dir "$data_dir"
}

# In tmux: the REPL on the left; the launcher and the nodes' logs on the right -----------------------

# pane_lives PID: as tmux says. The process may be gone and not reaped yet, so it is not asked.
pane_lives() {
    tmux list-panes -s -t "=$session" -F '#{pane_dead} #{pane_pid}' 2>/dev/null | grep -qx "0 $1"
}

# server_ended: wait until tmux's server has gone, which ends with its last session; or has others.
# Who comes while it goes is told that it "exited unexpectedly".
server_ended() {
    local answer
    for _ in $(seq 100); do
        answer=$(tmux list-sessions 2>&1) && return 0
        case $answer in *"no server running"* | *"error connecting"*) return 0 ;; esac
        sleep 0.05
    done
}

# end_session: stop the session's cluster first, so that its ports are free, then the session.
end_session() {
    local launcher
    launcher=$(tmux show-environment -t "=$session" CONSENSUSLLM_LAUNCHER 2>/dev/null) || true
    launcher=${launcher#*=}
    if [ -n "$launcher" ] && pane_lives "$launcher"; then
        kill -TERM "$launcher" 2>/dev/null || true
        for _ in $(seq 100); do
            pane_lives "$launcher" || break
            sleep 0.1
        done
    fi
    tmux kill-session -t "=$session" 2>/dev/null || true
    server_ended
}

# pane NAME COMMAND...: a script that runs the command with this shell's environment, which a tmux
# server that runs already does not have. It removes itself first: there are keys in it.
pane() {
    local script=$scratch/$1
    shift
    {
        printf 'rm -f %q\n' "$script"
        export -p | grep -Ev '^(declare -x|export) (TERM|TMUX|TMUX_PANE|LINES|COLUMNS)='
        printf '%q ' "$@"
        printf '\n'
    } >"$script"
    printf 'exec bash %q' "$script"
}

# in_session COMMAND...: of tmux's, once the session is there; somebody may end it at any moment.
in_session() {
    tmux "$@" 2>/dev/null || fail "the session '$session' was ended from elsewhere: run this again"
}

demo_in_tmux() {
    local port up repl log number columns lines
    columns=$(tput cols) lines=$(tput lines)
    if tmux has-session -t "=$session" 2>/dev/null; then
        say "ending the session '$session' that was left from before"
        end_session
    fi
    port=$(base_port)
    export CONSENSUSLLM_VENV=$venv  # for the REPL's pane, which runs this file again
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"; end_session' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM

    say "starting the cluster"
    up=$(tmux new-session -d -P -F '#{pane_id}' -s "$session" -n demo -c "$root" \
        -x "$columns" -y "$lines" "exec sleep 60")
    in_session set-option -w -t "$up" remain-on-exit on
    in_session respawn-pane -k -t "$up" \
        "$(pane up exec "$venv/bin/consensusllm" up --base-port "$port" --data-dir "$data_dir")"
    in_session set-environment -t "=$session" CONSENSUSLLM_LAUNCHER \
        "$(tmux display-message -p -t "$up" '#{pane_pid}' 2>/dev/null)"
    # From the start of its history (-S -): what a pane shows moves up when its program ends.
    until tmux capture-pane -p -S - -t "$up" 2>/dev/null | grep -q '^ready: '; do
        case $(tmux display-message -p -t "$up" '#{pane_dead}' 2>/dev/null) in
            0) sleep 0.1 ;;
            1)
                tmux capture-pane -p -J -S - -t "$up" | grep -E '^consensusllm: ' >&2 || true
                fail "the cluster did not start: see the lines above and the logs in $data_dir/logs"
                ;;
            *) fail "the session '$session' was ended from elsewhere: run this again" ;;
        esac
    done

    repl=$(in_session split-window -h -b -P -F '#{pane_id}' -t "$up" -c "$root" \
        "$(pane repl bash "$root/run.sh" in-pane "$data_dir/running-config.json" "$scratch/status")")
    in_session set-option -p -t "$repl" remain-on-exit off
    in_session set-option -w -t "$up" main-pane-width $((columns * 6 / 10))
    in_session set-option -w -t "$up" pane-border-status top
    in_session set-option -w -t "$up" pane-border-format ' #{pane_title} '
    in_session select-pane -t "$repl" -T "REPL"
    in_session select-pane -t "$up" -T "launcher"
    for number in 3 2 1; do
        log=$(in_session split-window -v -P -F '#{pane_id}' -t "$up" \
            "exec tail -n 50 -F $(printf %q "$data_dir/logs/node-$number.log")")
        in_session select-pane -t "$log" -T "node $number"
        in_session select-layout -t "$up" main-vertical
    done
    in_session select-pane -t "$repl"

    if [ -n "${TMUX:-}" ] && [ -n "$(tmux list-clients -t "${TMUX_PANE:-}" 2>/dev/null)" ]; then
        tmux set-option -t "=$session:" detach-on-destroy off
        tmux switch-client -t "=$session"
        while tmux has-session -t "=$session" 2>/dev/null; do sleep 0.3; done
    else  # also in a tmux that nobody looks at: there is no client to switch
        env -u TMUX tmux attach-session -t "=$session" >/dev/null || true
    fi
    if tmux has-session -t "=$session" 2>/dev/null; then
        trap 'rm -rf "$scratch"' EXIT
        say "detached; the cluster goes on: tmux attach -t $session, or ./run.sh to start anew"
        exit 0
    fi
    exit "$(cat "$scratch/status" 2>/dev/null || echo 1)"
}

# repl_in_pane CONFIG STATUS: the REPL of the tmux demo; the whole session ends with it. The directory
# of STATUS is gone when nobody waits for it any more.
repl_in_pane() {
    local status=0
    trap : INT  # of a program that is interrupted as it starts: this shell has the session to end
    "$venv/bin/consensusllm" repl --config "$1" || status=$?
    printf '%s\n' "$status" 2>/dev/null >"$2" || true
    end_session
}

fits_tmux() {
    [ -t 0 ] && [ -t 1 ] && [ "${TERM:-dumb}" != dumb ] && command -v tmux >/dev/null 2>&1 &&
        [ "$(tput cols)" -ge 80 ] && [ "$(tput lines)" -ge 20 ]
}

run_tests() {
    local argument marks="not full" arguments=()
    for argument in "$@"; do
        if [ "$argument" = --full ]; then marks="full or not full"; else arguments+=("$argument"); fi
    done
    install test
    cd "$root"
    exec "$venv/bin/python" -m pytest -m "$marks" --numprocesses auto --maxprocesses 4 \
        --dist loadscope ${arguments[@]+"${arguments[@]}"}
}

case ${1:-demo} in
    demo)
        install providers
        if fits_tmux; then demo_in_tmux; else demo_here; fi
        ;;
    test) shift; run_tests "$@" ;;
    in-pane) shift; repl_in_pane "$@" ;;
    help | -h | --help) usage ;;
    *) usage >&2; fail "unknown command '$1': see the lines above" 2 ;;
esac
