#!/usr/bin/env bash
# Build the image from this checkout and try it, all as its non-root user: the digits run, its report
# and the tests of the commands inside it, and the digits run once more with nothing to write to but
# what docs/container.md mounts. Ends with the image's size and the build time.
#
#     scripts/build_container.sh [TAG]
#
# ENGINE=docker|podman|buildah   which one to use; found when not given
# BASE_IMAGE=NAME                replaces the Dockerfile's base image
#
# Where neither docker nor podman runs, buildah does it with chroot isolation, as root; without
# BASE_IMAGE, over a base made by debootstrap from the host's own apt mirror. That image is
# removed at the end. pip's settings on the host reach the build, and stay out of the image.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit 1
}

find_engine() {
    local candidate
    for candidate in docker podman; do
        if "$candidate" info >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    command -v buildah >/dev/null || fail "no container engine is running" \
        "start docker or podman, or install buildah and debootstrap"
    echo buildah
}

# buildah keeps everything in the workspace, so that nothing of it stays on the host.
buildah() {
    BUILDAH_ISOLATION=chroot command buildah --root "$workspace/storage" --runroot "$workspace/run" "$@"
}

clean_up() {
    if [[ $engine == buildah ]]; then
        buildah rm --all >/dev/null || true
        buildah rmi --all --force >/dev/null || true
    fi
    rm -rf "$workspace"
}

make_base() {
    local targets mirror components container root
    command -v debootstrap >/dev/null || fail "buildah has no base image" \
        "install debootstrap, or name a base image: BASE_IMAGE=NAME $0"
    # shellcheck source=/dev/null
    . /etc/os-release
    # shellcheck disable=SC2016  # apt's own placeholders
    targets="$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' \
        'Created-By: Packages' "Codename: $VERSION_CODENAME")"
    mirror="$(awk '$2 == "main" { print $1; exit }' <<<"$targets")"
    components="$(awk -v mirror="$mirror" '$1 == mirror { print $2 }' <<<"$targets" | sort -u | paste -sd,)"
    container="$(buildah from scratch)"
    root="$(buildah mount "$container")"
    debootstrap --variant=minbase --components="$components" \
        "$VERSION_CODENAME" "$root" "$mirror"
    buildah umount "$container" >/dev/null
    base_image=localhost/ramda-base
    buildah commit --quiet --rm "$container" "$base_image" >/dev/null
}

build_image() {
    local options=(--tag "$tag" --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)")
    options+=(--secret "id=pip_config,src=$workspace/pip/pip_config")
    if [[ -e $workspace/pip/pip_certificates ]]; then
        options+=(--secret "id=pip_certificates,src=$workspace/pip/pip_certificates")
    fi
    if [[ -n $base_image ]]; then
        options+=(--build-arg "BASE_IMAGE=$base_image")
    fi
    if [[ $engine == docker ]]; then
        [[ ${#package_directories[@]} == 0 ]] || fail \
            "pip is configured with local package directories, which docker cannot mount into a build" \
            "ENGINE=podman or ENGINE=buildah can"
        DOCKER_BUILDKIT=1 docker build "${options[@]}" .
    elif [[ $engine == podman ]]; then
        podman build "${options[@]}" "${package_directories[@]}" .
    else
        buildah bud --layers=false "${options[@]}" "${package_directories[@]}" .
    fi
}

# The tests run against the package in the image: the checkout's own copy stays outside.
try_image() {
    local mounts=("${package_directories[@]}" --volume "$workspace/source:/mnt/source:ro")
    local script=/mnt/source/scripts/container/try_image.sh container file
    for file in "$workspace"/pip/*; do
        mounts+=(--volume "$file:/run/secrets/${file##*/}:ro")
    done
    if [[ $engine == buildah ]]; then
        container="$(buildah from "$tag")"
        buildah run "${mounts[@]}" "$container" -- bash "$script"
    else
        "$engine" run --rm "$tag" # the entry point and its default argument
        "$engine" run --rm "${mounts[@]}" --entrypoint bash "$tag" "$script"
    fi
}

# With a root file system that cannot be written, as docs/container.md runs it.
try_read_only() {
    local run=(ramda prune digits-resnet --data digits --target macs=0.5 -o /work/out --epochs 1 --device cpu)
    local container root
    printf '\n== read-only: %s\n' "${run[*]}"
    if [[ $engine != buildah ]]; then
        "$engine" run --rm --read-only --tmpfs /tmp --tmpfs /cache:mode=1777 --tmpfs /work:mode=1777 \
            --cap-drop ALL --security-opt no-new-privileges "$tag" "${run[@]:1}"
        return
    fi
    container="$(buildah from "$tag")"
    root="$(buildah mount "$container")"
    # shellcheck disable=SC2016  # expanded inside
    ROOT="$root" unshare --mount bash -euc '
        mount --bind "$ROOT" "$ROOT" && mount -o remount,bind,ro "$ROOT"
        for place in tmp cache work; do mount -t tmpfs -o mode=1777 tmpfs "$ROOT/$place"; done
        mount -t proc proc "$ROOT/proc" && mount --rbind /dev "$ROOT/dev"
        if touch "$ROOT/usr/written" 2>/dev/null; then echo "error: the root can be written" >&2; exit 1; fi
        exec setpriv --no-new-privs chroot --userspec=ramda:ramda "$ROOT" "$@"
    ' bash env --ignore-environment HOME=/home/ramda PATH=/opt/ramda/bin:/usr/bin:/bin \
        MPLCONFIGDIR=/cache/matplotlib HF_HOME=/cache/huggingface TORCH_HOME=/cache/torch \
        TORCHINDUCTOR_CACHE_DIR=/cache/inductor XDG_CACHE_HOME=/cache HF_HUB_OFFLINE=1 "${run[@]}"
}

image_size() {
    if [[ $engine == buildah ]]; then
        buildah images --format '{{.Size}}' "$tag"
    else
        "$engine" image ls --format '{{.Size}}' "$tag"
    fi
}

tag="${1:-ramda:latest}"
base_image="${BASE_IMAGE:-}"
engine="${ENGINE:-$(find_engine)}"

workspace="$(mktemp -d "${TMPDIR:-/var/tmp}/ramda-image.XXXXXX")"
trap clean_up EXIT
mkdir "$workspace/pip" "$workspace/source"
cp -r README.md configs docs pyproject.toml scripts tests "$workspace/source"
chmod -R a+rX "$workspace/source"

package_directories=()
listing="$(python3 scripts/container/pip_settings.py "$workspace/pip")"
while read -r mount; do
    package_directories+=(${mount:+--volume "$mount:ro"})
done <<<"$listing"
chmod a+r "$workspace"/pip/*

if [[ $engine == buildah && -z $base_image ]]; then
    make_base
fi
SECONDS=0
build_image
build_seconds=$SECONDS
try_image
try_read_only
printf '\n%s with %s: %s, built in %d s\n' "$tag" "$engine" "$(image_size)" "$build_seconds"
