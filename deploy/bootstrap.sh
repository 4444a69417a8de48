#!/bin/sh
# Installs what the local stack and the tests need: servers from the distribution's packages, Python
# packages into .venv by the hashes in requirements.lock. Quick when nothing has changed.
#
# Progress goes to stderr, so that the output of `make env` stays clean.
set -eu

cd "$(dirname "$0")/.."
root=$(pwd -P)

say() { printf '%s\n' "$*" >&2; }
fail() {
    printf '\n' >&2
    printf '%s\n' "$@" >&2
    exit 1
}

# --- what is there ---------------------------------------------------------------------------------

# The distribution's Python goes first: it is built with profile-guided optimisation, which those
# compiled by a version manager mostly are not; the same code takes up to half as long again there.
# MOVIEMETRIC_PYTHON=python3.12 chooses another for a .venv that is yet to be made.
python=
find_python() {
    names=${MOVIEMETRIC_PYTHON:-/usr/bin/python3 python3 python3.11 python3.12 python3.13 python3.14}
    for name in $names; do
        candidate=$(command -v "$name" 2>/dev/null) || continue
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
            >/dev/null 2>&1; then
            python=$candidate
            return 0
        fi
    done
    return 1
}

have_postgres() {
    for program in /usr/lib/postgresql/*/bin/initdb; do
        [ -x "$program" ] && return 0
    done
    command -v initdb >/dev/null 2>&1
}

have_rabbitmq() {
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null 2>&1
}

have_redis() { [ -x /usr/bin/redis-server ] || command -v redis-server >/dev/null 2>&1; }

old_rabbitmq() {
    for folder in /usr/lib/rabbitmq/lib/rabbitmq_server-*; do
        version=${folder##*rabbitmq_server-}
        case $version in
        [012].* | 3.[0-9].*) printf '%s\n' "$version" && return 0 ;;
        esac
    done
    return 1
}

missing_packages() {
    packages=
    find_python || [ -z "${MOVIEMETRIC_PYTHON:-}" ] ||
        fail "MOVIEMETRIC_PYTHON=$MOVIEMETRIC_PYTHON is no Python 3.11 or newer with venv and ensurepip." \
            "Name one that is, or leave MOVIEMETRIC_PYTHON out."
    [ -n "$python" ] || packages="python3 python3-venv"
    have_postgres || packages="$packages postgresql"
    have_rabbitmq || packages="$packages rabbitmq-server"
    have_redis || packages="$packages redis-server"
    packages=$(printf '%s' "$packages" | sed 's/^ *//')
    [ -n "$packages" ]
}

# --- installing packages ---------------------------------------------------------------------------

policy=/usr/sbin/policy-rc.d
policy_is_ours=

# Runs a command as root.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

remove_policy() {
    if [ -n "$policy_is_ours" ]; then
        policy_is_ours=
        as_root rm -f "$policy"
    fi
}

# The packages start their servers at once, on the standard ports. Private instances are used here,
# so the new ones stay off; those that run already are not touched.
forbid_autostart() {
    [ -e "$policy" ] && return 0
    policy_is_ours=yes
    trap remove_policy EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
}

apt_install() {
    # shellcheck disable=SC2086 # a list of package names
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1 </dev/null
}

install_packages() {
    hint="Install it yourself, for example on Debian or Ubuntu:
    apt-get install $packages
and run this again. Needed: Python 3.11 or newer with venv, PostgreSQL 13 or newer,
RabbitMQ 3.10 or newer, Redis 6 or newer."
    command -v apt-get >/dev/null 2>&1 ||
        fail "Missing: $packages; and there is no apt-get here to install it with." "$hint"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 ||
            fail "Missing: $packages; and this account is not root and has no sudo." "$hint"
        if ! sudo -n true 2>/dev/null; then
            [ -t 0 ] && [ -t 2 ] ||
                fail "Missing: $packages; and sudo asks for a password, but nobody is there to type it." \
                    "$hint"
            say "sudo is needed to install: $packages"
            sudo -v || fail "Missing: $packages; and sudo was refused." "$hint"
        fi
    fi
    say "installing $packages"
    log=$(mktemp)
    forbid_autostart
    # shellcheck disable=SC2086 # a list of package names
    if ! apt_install $packages; then
        say "updating the package lists"
        as_root apt-get update -o DPkg::Lock::Timeout=300 >>"$log" 2>&1 </dev/null || true
        if ! apt_install $packages; then
            remove_policy
            tail -n 15 "$log" >&2
            fail "apt-get could not install: $packages (the whole log: $log)." "$hint"
        fi
    fi
    remove_policy
    rm -f "$log"
    find_python || true
}

# --- Python packages -------------------------------------------------------------------------------

# The folders of the workspace's packages, one a line.
members() { sed -n '/^members = \[/,/^\]/s/^ *"\(.*\)",\{0,1\}$/\1/p' pyproject.toml; }

fingerprint() {
    {
        printf '%s\n' "$root"
        cat requirements.lock deploy/bootstrap.lock deploy/bootstrap.sh
        members | while IFS= read -r member; do
            printf '%s\n' "$member"
            cat "$member/pyproject.toml"
        done
    } | sha256sum
}

# Behind a proxy with a certificate authority of its own, or a mirror of the registry, pip usually
# knows both; uv asks the environment.
follow_pip() {
    certificates=${PIP_CERT:-${REQUESTS_CA_BUNDLE:-$(.venv/bin/python -m pip config get global.cert \
        2>/dev/null || true)}}
    if [ -z "${SSL_CERT_FILE:-}" ] && [ -n "$certificates" ]; then
        export SSL_CERT_FILE="$certificates"
    fi
    index=${PIP_INDEX_URL:-$(.venv/bin/python -m pip config get global.index-url 2>/dev/null || true)}
    if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ] && [ -n "$index" ]; then
        export UV_DEFAULT_INDEX="$index"
    fi
}

install_python_packages() {
    [ -n "$python" ] || find_python || fail "Python 3.11 or newer with the module venv is needed." \
        "Install it (on Debian and Ubuntu: apt-get install python3 python3-venv) and run this again."
    say "installing the Python packages into .venv"
    rm -f .venv/bootstrap-stamp
    # a folder that was moved, or whose Python is gone, is no use
    if [ "$(.venv/bin/python -c 'import sys, pip; print(sys.prefix)' 2>/dev/null)" != "$root/.venv" ]
    then
        "$python" -m venv --clear .venv >&2
    fi
    follow_pip
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
        -r deploy/bootstrap.lock >&2
    .venv/bin/uv pip install --quiet --python .venv/bin/python --compile-bytecode \
        --require-hashes -r requirements.lock >&2
    set --
    while IFS= read -r member; do
        set -- "$@" --editable "./$member"
    done <<MEMBERS
$(members)
MEMBERS
    .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation \
        "$@" >&2
}

# ---------------------------------------------------------------------------------------------------

up_to_date() {
    ! missing_packages && [ -x .venv/bin/python ] &&
        [ "$(cat .venv/bootstrap-stamp 2>/dev/null)" = "$(fingerprint)" ]
}

if up_to_date; then
    exit 0
fi

# one at a time; the lock ends with this process
exec 9<.
flock 9

if missing_packages; then
    install_packages
    # apt-get may have succeeded with something too old
    if missing_packages; then
        fail "Still missing after the installation: $packages." \
            "Python must be 3.11 or newer; this system's packages may be too old."
    fi
fi
if version=$(old_rabbitmq); then
    fail "RabbitMQ $version is installed; 3.10 or newer is needed." \
        "Install a newer rabbitmq-server and run this again."
fi
if ! up_to_date; then
    install_python_packages
    fingerprint >.venv/bootstrap-stamp
fi
