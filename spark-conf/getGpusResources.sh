#!/usr/bin/env bash
# Prints the GPUs of this host as Spark asks for them: {"name": "gpu", "addresses": ["0", "1"]}
set -eu -o pipefail
addresses=$(nvidia-smi --query-gpu=index --format=csv,noheader | sed 's/.*/"&"/' | paste -s -d ,)
echo "{\"name\": \"gpu\", \"addresses\": [$addresses]}"
