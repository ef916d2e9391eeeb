#!/usr/bin/env bash
# Run inside the image, as its non-root user: the digits run, its report and the tests of the commands.
set -euo pipefail

step() {
    printf '\n== %s\n' "$*"
    "$@"
}

if [[ "$(id --user)" == 0 ]]; then
    echo "error: the image runs as root" >&2
    exit 1
fi

# What the image ships needs no network.
export HF_HUB_OFFLINE=1
step ramda --help
step ramda prune digits-resnet --data digits --target macs=0.5 -o /tmp/out
step ramda report /tmp/out/model.safetensors

# The test tools go into a second environment that also sees the packages of the image.
export PIP_CONFIG_FILE=/run/secrets/pip_config
step python -m venv /tmp/tests
packages='import sysconfig; print(sysconfig.get_path("purelib"))'
python -c "$packages" >"$(/tmp/tests/bin/python -c "$packages")/image.pth"
step /tmp/tests/bin/pip install --quiet --no-cache-dir 'ramda-cli[dev]'
cd /mnt/source
step /tmp/tests/bin/python -m pytest -p no:cacheprovider -m 'not slow and not gpu and not network' \
    tests/cli tests/export tests/pipeline/test_prune.py
