#!/usr/bin/env bash
# A Slurm cluster of one node, on this machine alone, to try sweeps with hydra/launcher=slurm.
#
#   scripts/slurm_on_loopback.sh demo          a sweep that has one job preempted and one killed
#   scripts/slurm_on_loopback.sh start FOLDER  starts the cluster; its files go into FOLDER
#   scripts/slurm_on_loopback.sh stop FOLDER
#
# As root, with Debian's packages: apt-get install slurmctld slurmd slurm-client munge
# After start: export SLURM_CONF=FOLDER/slurm.conf; then sinfo, squeue and sbatch find the cluster.
# PYTHON says which Python the demo uses; else .venv/bin/python.
set -euo pipefail
PATH=$PATH:/usr/sbin
ROOT=$(cd "$(dirname "$0")/.." && pwd)

fail() {
    echo "error: $*" >&2
    exit 1
}

check() {
    for program in slurmctld slurmd sbatch munged; do
        command -v "$program" >/dev/null ||
            fail "$program is missing: apt-get install slurmctld slurmd slurm-client munge"
    done
    [ "$(id -u)" = 0 ] || fail "Slurm's daemons run as root here: start this as root"
}

start() {
    local folder=$1
    check
    mkdir -p "$folder"/{state,spool}
    chmod 755 "$folder"
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
        --seed-file="$folder/munge.seed"
    # cred_expire is also how long Slurm lets a requeued job wait before it starts again
    cat >"$folder/slurm.conf" <<EOF
ClusterName=loopback
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=${SLURMCTLD_PORT:-16817}
SlurmdPort=${SLURMD_PORT:-16818}
SlurmUser=root
AuthInfo=socket=$folder/munge.socket,cred_expire=10
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
KillWait=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
NodeName=localhost NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
EOF
    export SLURM_CONF=$folder/slurm.conf
    slurmctld -c
    slurmd -N localhost
    for _ in $(seq 60); do
        [ "$(sinfo --noheader --format=%t 2>/dev/null)" = idle ] && return
        sleep 0.5
    done
    tail -n 5 "$folder"/slurm{ctld,d}.log >&2
    stop "$folder"
    fail "the cluster didn't come up within 30 seconds, see above"
}

stop() {
    local name pid
    SLURM_CONF=$1/slurm.conf scancel --user="$(id -un)" 2>/dev/null || true
    for name in slurmd slurmctld munged; do
        pid=$(cat "$1/$name.pid" 2>/dev/null) || continue
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 50); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
    done
}

await() { # SECONDS COMMAND …: until the command prints something
    local seconds=$1 what=${*:2}
    for _ in $(seq $((2 * seconds))); do
        [ -n "$("${@:2}" 2>/dev/null)" ] && return
        sleep 0.5
    done
    fail "waited $seconds seconds in vain for: $what"
}

job_of() { squeue --noheader --array --format="%K %A" | awk -v task="$1" '$1 == task {print $2}'; }

demo() {
    local sweep python=${PYTHON:-$ROOT/.venv/bin/python}
    folder=$(mktemp -d) parent=""
    sweep=$folder/sweep
    trap 'kill $parent 2>/dev/null || true; stop "$folder"; rm -rf "$folder"' EXIT
    echo "== A cluster of one node"
    start "$folder"
    sinfo

    echo "== A sweep of three runs through sbatch"
    "$python" "$ROOT/train.py" -m recipe=smoke loss.lam=0,0.01,0.1 train.max_steps="${STEPS:-250}" \
        train.snapshots=0 hydra.sweep.dir="$sweep" data.root="${DATA:-$ROOT/data}" \
        hydra/launcher=slurm hydra.launcher.cpus_per_task=1 hydra.launcher.mem_gb=2 &
    parent=$!
    # each once it has a checkpoint from which it can go on
    await 120 compgen -G "$sweep/*lam-0_*/checkpoint.pt"
    squeue --array
    echo "== The first job is put back into the queue, as preemption does"
    scontrol requeue "$(job_of 0)"
    await 120 compgen -G "$sweep/*lam-0.01_*/checkpoint.pt"
    echo "== The second job is killed: kill -9"
    scontrol listpids "$(job_of 1)" | awk 'NR > 1 && $1 > 1 {print $1}' | xargs kill -9

    local code=0
    wait "$parent" || code=$?
    echo "== The sweep ended with exit code $code"
    grep --with-filename "going on from step" "$sweep"/*/train.log
    [ "$code" = 0 ] || exit 1
}

case "${1:-}" in
demo) demo ;;
start | stop)
    [ -n "${2:-}" ] || fail "$1 needs a folder: $0 $1 FOLDER"
    "$1" "$(realpath -m "$2")"
    ;;
*) fail "$0 demo, start FOLDER or stop FOLDER" ;;
esac
