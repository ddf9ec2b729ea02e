#!/bin/sh
# Rollcall's userdata: the same bytes for every cloud. Makes this machine serve its workloads and register itself.
#
# It may run at every boot (Triton) or once (cloud-init), so each step looks before it acts, and what must run at every boot
# is a systemd unit. Everything is found below $ROOT, and with ROLLCALL_SOURCED set nothing runs: tests do both.
set -u

ROOT=${ROOT:-}
LIB=$ROOT/usr/local/lib/rollcall
LOG=$ROOT/var/log/rollcall.log
KEPT=$ROOT/var/lib/rollcall
CHANGED=

say() {
    printf '%s INFO boot: %s\n' "$(date '+%Y-%m-%d %H:%M:%S')" "$*" | tee -a "$LOG"
}

die() {
    printf '%s ERROR boot: %s look=%s\n' "$(date '+%Y-%m-%d %H:%M:%S')" "$*" "$LOG" | tee -a "$LOG" >&2
    exit 1
}

# put PATH MODE: the file below $ROOT gets what is on standard input; CHANGED names what was different. Never at the end of a
# pipe: that is a shell of its own, whose CHANGED is lost.
put() {
    mkdir -p "$(dirname "$ROOT$1")"
    cat >"$ROOT$1.rollcall-new"
    chmod "$2" "$ROOT$1.rollcall-new"
    if cmp -s "$ROOT$1.rollcall-new" "$ROOT$1"; then
        rm "$ROOT$1.rollcall-new"
    else
        mv "$ROOT$1.rollcall-new" "$ROOT$1"
        CHANGED="$CHANGED $1"
    fi
}

# The builder puts the agent, the units and the workloads here, packed. CHANGED names what was different.
put_files() {
    CHANGED="$CHANGED $("$ROOT/usr/bin/python3" -c '
import base64, bz2, os, sys
words = bz2.decompress(base64.b64decode(sys.stdin.read())).decode().split("\0")
for path, text in zip(words[::2], words[1::2]):
    place = sys.argv[1] + path
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if not os.path.exists(place) or open(place).read() != text:
        with open(place + ".rollcall-new", "w") as file:
            file.write(text)
        os.chmod(file.name, 0o644)
        os.replace(file.name, place)
        print(path)
' "$ROOT" <<'END_OF_FILES'
#FILES
END_OF_FILES
    )" || die "reason=files-not-written"
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Once in a machine's life. A repository that is out of reach delays nobody: what is needed may be installed already.
update_system() {
    [ -e "$KEPT/updated" ] && return
    if run_apt 120 update; then
        run_apt 900 upgrade || say "the upgrade did not finish: reason=apt exit=$?"
    else
        say "no package lists: reason=repository-out-of-reach; going on with what is installed"
    fi
    touch "$KEPT/updated"
}

run_apt() {
    bound=$1
    shift
    DEBIAN_FRONTEND=noninteractive timeout "$bound" apt-get -qq -y -o DPkg::Lock::Timeout=120 \
        -o Acquire::Retries=2 -o Acquire::http::Timeout=10 "$@" >>"$LOG" 2>&1
}

need() {
    for package in "$@"; do
        installed "$package" || run_apt 600 install --no-install-recommends "$package" ||
            die "reason=package-missing package=$package"
    done
}

# Who we are, as the agent sees it: CLOUD INSTANCE WORKLOAD…; metadata may take a moment to answer.
whoami_line() {
    tries=0
    until line=$(PYTHONPATH=$LIB "$ROOT/usr/bin/python3" -m rollcall whoami 2>>"$LOG"); do
        tries=$((tries + 1))
        [ "$tries" -lt 30 ] || return 1
        sleep 2
    done
    printf '%s\n' "$line"
}

set_up_site() {
    need nginx
    rm -f "$ROOT/etc/nginx/sites-enabled/default"
    put /etc/nginx/conf.d/rollcall.conf 644 <<END
$(sed -e "s/@INSTANCE@/$instance/g" "$LIB/site/nginx.conf")
END
    put /var/www/rollcall/index.html 644 <<END
$(sed -e "s/@INSTANCE@/$instance/g" -e "s/@CLOUD@/$cloud/g" "$LIB/site/index.html")
END
    # Without ranges no header is believed: an empty file is the safe one, until the agent has read them.
    [ -e "$ROOT/etc/nginx/rollcall-edge.conf" ] || put /etc/nginx/rollcall-edge.conf 644 </dev/null
    systemctl enable -q nginx.service
    case $CHANGED in
        *nginx/*) systemctl restart nginx.service ;;
        *) systemctl start nginx.service ;;
    esac || die "reason=nginx-not-started"
}

set_up_service() {
    put /etc/default/the-service 644 <<END
INSTANCE=$instance
END
    systemctl enable -q the-service.service
    case $CHANGED in
        *the-service*) systemctl restart the-service.service ;;
        *) systemctl start the-service.service ;;
    esac || die "reason=the-service-not-started"
}

main() {
    mkdir -p "$KEPT" "$(dirname "$LOG")"
    update_system
    need python3 python3-requests
    put_files
    line=$(whoami_line) || die "reason=unknown-machine"
    # shellcheck disable=SC2086 # words are what is wanted
    set -- $line
    cloud=$1 instance=$2
    shift 2
    say "cloud=$cloud instance=$instance workloads=$*"
    need python3-boto3 python3-dnspython
    systemctl daemon-reload
    for workload in "$@"; do
        case $workload in
            site) set_up_site ;;
            the-service) set_up_service ;;
            *) die "reason=unknown-workload workload=$workload" ;;
        esac
    done
    systemctl enable -q rollcall.service
    case $CHANGED in
        *lib/rollcall/* | *rollcall.service*) systemctl restart rollcall.service ;;
        *) systemctl start rollcall.service ;;
    esac || die "reason=agent-not-started look='systemctl status rollcall'"
    say "done"
}

[ -n "${ROLLCALL_SOURCED:-}" ] || main
