#!/bin/bash
# One run on a Ray cluster of its own inside a Slurm allocation, started at the root of a checkout on a file system that all nodes share:
#   sbatch cluster/deploy/slurm.sh my.yaml run.steps=500
#   sbatch cluster/deploy/slurm.sh --resume runs/NAME
# The job has one component a role, in the order of `roles` below; their sizes are the lines after each `hetjob`. Ten minutes before its time is
# over, Slurm sends SIGTERM: the run writes a checkpoint and ends.
#SBATCH --job-name=cupel --output=cupel-%j.log --time=1-00:00:00 --signal=B:TERM@600
#SBATCH --nodes=1 --ntasks-per-node=1 --cpus-per-task=16 --mem=64G
#SBATCH hetjob
#SBATCH --nodes=1 --ntasks-per-node=1 --cpus-per-task=64 --mem=512G --gpus-per-node=8
#SBATCH hetjob
#SBATCH --nodes=4 --ntasks-per-node=1 --cpus-per-task=64 --mem=256G --gpus-per-node=8
#SBATCH hetjob
#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=32 --mem=64G
set -euo pipefail

roles=(head learner engine executor)
port=${CUPEL_RAY_PORT:-6379}
start_seconds=${CUPEL_START_SECONDS:-600}

say() { echo "cupel: $*" >&2; }

cd "${SLURM_SUBMIT_DIR:?start this script with sbatch}"
PATH=$PWD/.venv/bin:$PATH

nodes_of() { # component
    local list=SLURM_JOB_NODELIST_HET_GROUP_$1
    scontrol show hostnames "${!list:?the job has no such component: keep the hetjob lines}"
}

head_node=$(nodes_of 0)
head_address=$(getent ahostsv4 "$head_node" | awk 'NR == 1 { print $1 }')
[ -n "$head_address" ] || { say "the head node $head_node has no IPv4 address"; exit 2; }
address=$head_address:$port

# --block: a step lives as long as Ray on its node, and ends with the job. No binding: Ray's workers spread over all cores of the node.
step() { # component, arguments of ray start
    srun --het-group="$1" --ntasks-per-node=1 --cpu-bind=none --kill-on-bad-exit=0 \
        ray start --block --disable-usage-stats --labels "cupel-role=${roles[$1]}" "${@:2}" &
}

say "head on $head_node ($address)"
step 0 --head --node-ip-address="$head_address" --port="$port" --dashboard-host=0.0.0.0 --num-cpus=0
deadline=$((SECONDS + start_seconds))
until ray health-check --address "$address" >/dev/null 2>&1; do
    if ((SECONDS >= deadline)); then
        say "gave up after $start_seconds s waiting for Ray's head on $head_node; CUPEL_START_SECONDS for more"
        exit 2
    fi
    sleep 2
done

wanted=()
for component in "${!roles[@]}"; do
    ((component > 0)) || continue
    nodes=$(nodes_of "$component")
    step "$component" --address="$address"
    wanted+=("${roles[$component]}=$(wc -l <<<"$nodes")")
done
python -m cluster.nodes --address "$address" --seconds "$start_seconds" "${wanted[@]}" || exit 2

RAY_ADDRESS=$address python -m cluster train "$@" &
run=$!
trap 'kill -TERM "$run" 2>/dev/null || true' TERM INT
# A signal ends `wait`, not the run: it is waited for until it has ended.
code=0
while :; do
    wait "$run" && code=0 || code=$?
    kill -0 "$run" 2>/dev/null || break
done
exit "$code"
