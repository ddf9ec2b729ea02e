#!/bin/sh
# What `rollcall patch` runs on a machine: on_machine.sh inspect | upgrade | state | reboot.
#
# The last line of standard output has what the command on the operator's computer reads. The output of apt goes to standard error. Everything
# is found below $ROOT, and with ROLLCALL_SOURCED set nothing runs: tests do both.
set -u
ROOT=${ROOT:-}

run() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# - `update` fails where a mirror is out of reach only with Error-Mode=any (https://manpages.debian.org/apt-get.8, --error-on).
# - No question about a changed file is asked, and no needrestart restarts services before the machine is checked.
apt() {
    run env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C apt-get -q -y \
        -o APT::Update::Error-Mode=any -o DPkg::Lock::Timeout=300 -o DPkg::Options::=--force-confold \
        -o Acquire::Retries=2 -o Acquire::http::Timeout=10 "$@"
}

# report PACKAGES: how many can be upgraded, whether a reboot is needed, and the id of this boot.
report() {
    reboot=no
    [ -e "$ROOT/run/reboot-required" ] && reboot=yes
    echo "packages=$1 reboot=$reboot boot=$(cat "$ROOT/proc/sys/kernel/random/boot_id")"
}

inspect() {
    apt update >&2 || return
    listed=$(apt --simulate --with-new-pkgs upgrade) || return
    report "$(printf '%s\n' "$listed" | grep -c '^Inst ')"
}

# An apt that was interrupted leaves packages unconfigured, and the next one does nothing until they are.
upgrade() {
    run dpkg --configure -a >&2 && apt update >&2 && apt --with-new-pkgs upgrade >&2 && report 0
}

# The id of this boot, and the status of the agent in the next line.
state() {
    report 0
    run rollcall status 2>/dev/null | tr -d '\n'
    echo
}

reboot() {
    run systemctl reboot
}

[ -n "${ROLLCALL_SOURCED:-}" ] || {
    "$@"
    exit
}
