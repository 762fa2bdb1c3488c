#!/usr/bin/env bash
# One run on all hosts of a Cloud TPU slice, started again when a host is lost or maintained.
#
#   launch/tpu_pod.sh NAME ZONE --config=experiments/grpo_think.py:32b \
#     --config.runs_dir=gs://bucket/runs [--config.key=value ...]
#
# Needs gcloud, and this repository with its packages in ~/lwz on every host. Hosts share no disk,
# so runs_dir is a bucket. A maintenance notice reaches the run as SIGTERM: it saves and leaves with
# 75, and is started again here, as after a loss, ATTEMPTS times at most.
set -u

name=$1 zone=$2
shift 2
command="cd ~/lwz && LWZ_PROCESSES=auto exec python3 -m lwz.launch$(printf ' %q' "$@")"
attempts=${ATTEMPTS:-10}

for ((n = 1; n <= attempts; n++)); do
  gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$command"
  status=$?
  case $status in 0 | 2) exit $status ;; esac
  # gcloud gives 1 for any failure of a worker, so a failure of the run's own costs attempts too.
  echo "tpu_pod.sh: attempt $n of $attempts ended with status $status" >&2
  [ "$n" -lt "$attempts" ] && sleep 60
done
exit $status
