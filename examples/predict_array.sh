#!/bin/bash
# Predicts a data set as an array job of Slurm, and joins the shards once all of them are done:
#
#   array=$(sbatch --parsable --array=1-16 examples/predict_array.sh STORE CLASSIFIER OUT)
#   sbatch --dependency=afterok:$array examples/predict_array.sh STORE CLASSIFIER OUT
#
# A shard that was interrupted goes on where it stopped: give its number to --array again, as in --array=3, and set
# SHARDS=16. STORE, CLASSIFIER and OUT lie on a disk that all nodes see.
#SBATCH --job-name=lumbar
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=12:00:00
set -euo pipefail

store=$1 classifier=$2 out=$3
shards=${SHARDS:-${SLURM_ARRAY_TASK_COUNT:-}}

if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
  shard=$out/shards/$SLURM_ARRAY_TASK_ID
  lumbar predict "$store" "$shard" --classifier "$classifier" --shard "$SLURM_ARRAY_TASK_ID/$shards" \
    --workers "${SLURM_CPUS_PER_TASK:-1}" --no-pages --resume || [ $? = 3 ]  # 3: done, and failures.csv lists some
else
  lumbar merge "$out/prediction" "$out"/shards/*
fi
