#!/usr/bin/env bash
# Every stage in order, from the prompt set to the report; a stage that is complete is passed over.
#
#   launch/pipeline.sh [SIZE] [--config.key=value ...]     # SIZE is tiny unless given
#
# Run it again after an interruption: it goes on where it was. With PROCESSES=N the stages that train
# run as N processes of this machine, see local.sh.
set -eu

size=tiny
case ${1:-} in '' | --*) ;; *) size=$1 && shift ;; esac
cd "$(dirname "$0")/.."

stage() {
  launch/local.sh --processes "$1" -- "--config=experiments/$2.py:$size" "${@:3}"
}

# A pocket model writes no text of the length that users ask for: it keeps to held-out titles. It
# begins with a model of its own; others are there already, and `small` runs what its GRPO needs.
prompts=()
case $size in
  micro | tiny) before=(base_model pretrain reward_model) ;;
  small) before=() ;;
  *)
    stage 1 prompts "$@"
    prompts=("--config.data.prompts=prompts:$size")
    before=(pretrain reward_model)
    ;;
esac
for experiment in "${before[@]}"; do
  stage "${PROCESSES:-1}" "$experiment" "$@"
done
for experiment in grpo_think grpo_nothink; do
  stage "${PROCESSES:-1}" "$experiment" "${prompts[@]}" "$@"
done
for experiment in eval_arena eval_writingbench export report; do
  stage 1 "$experiment" "${prompts[@]}" "$@"
done
