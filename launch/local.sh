#!/usr/bin/env bash
# One run as several processes on this machine, started again when one of them is lost.
#
#   launch/local.sh --processes 2 -- --config=experiments/grpo_think.py:micro --config.mesh.fsdp=-1
#
# What follows -- goes to `python -m lwz.launch`. A machine's GPUs need no second process; on CPUs
# each process is a device, and the mesh must take in all of them (--config.mesh.fsdp=-1).
cd "$(dirname "$0")/.." && exec "${PYTHON:-python}" launch/supervisor.py "$@"
