#!/bin/sh
# Rollcall's userdata: the same bytes for every machine of every cloud. Makes this machine serve its workloads and register itself.
#
# It holds no agent: get_release.py, which the builder puts at the end of this file, gets the release that the machine's settings name.
# The cloud runs it once (EC2, by cloud-init) or at every boot (Triton). Then it keeps itself on the disk and leaves the work to
# the unit rollcall-boot.service, which runs it at every boot and, as long as it fails, again after some seconds. So each step
# checks before it acts. Everything is found below $ROOT, and with ROLLCALL_SOURCED set nothing runs: tests do both.
set -u

ROOT=${ROOT:-}
RELEASE=$ROOT/opt/rollcall/current
LOG=$ROOT/var/log/rollcall.log
KEPT=$ROOT/var/lib/rollcall
CHANGED=
said=

log() {
    printf '%s %s\n' "$(date '+%F %T')" "$*" | tee -a "$LOG"
}

say() {
    log "INFO boot: $*"
}

# The reason goes to where the cloud shows it to the roll call, too: to the console, or to the machine's metadata.
die() {
    log "ERROR boot: $* log=$LOG" >&2
    command -v mdata-put >/dev/null && timeout 9 mdata-put rollcall-status "$*" 2>/dev/null
    exit 1
}

# put PATH MODE: the file below $ROOT gets what is on standard input; CHANGED names what was different. Never at the end of a
# pipe: a pipe is another shell, and its CHANGED would be lost.
put() {
    new=$ROOT$1.rollcall-new
    mkdir -p "${new%/*}"
    cat >"$new"
    chmod "$2" "$new"
    if cmp -s "$new" "$ROOT$1"; then
        rm "$new"
    else
        mv "$new" "$ROOT$1"
        CHANGED="$CHANGED $1"
    fi
}

# What the cloud runs.
keep() {
    put /usr/local/lib/rollcall/boot.sh 700 <"$0"
    put /etc/systemd/system/rollcall-boot.service 644 <<'END'
[Unit]
Description=Rollcall: sets this machine up
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
StandardOutput=journal+console
ExecStart=/bin/sh /usr/local/lib/rollcall/boot.sh main
Restart=on-failure
RestartSec=10

[Install]
WantedBy=multi-user.target
END
    systemctl enable -q --no-reload rollcall-boot.service
    systemctl daemon-reload
    # Not waited for: the network may wait for what runs us.
    systemctl ${CHANGED:+re}start --no-block rollcall-boot.service
}

# run_apt SECONDS WORD…: where it fails, $said has apt's own reason.
#
# - `update` fails where a mirror is out of reach only with Error-Mode=any (https://manpages.debian.org/apt-get.8, --error-on).
# - Lock::Timeout is for dpkg's locks. With the lists' lock in another apt's hand `update` fails at once, and this unit tries again.
# - An apt that was interrupted leaves packages unconfigured, and the next one does nothing until they are.
# - No question about a changed file is asked, and no needrestart restarts this very unit.
run_apt() {
    bound=$1
    shift
    dpkg --configure -a >>"$LOG" 2>&1
    if DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 timeout "$bound" apt-get -qq -y \
        -o APT::Update::Error-Mode=any -o DPkg::Lock::Timeout=120 \
        -o DPkg::Options::=--force-confold -o Acquire::Retries=2 -o Acquire::http::Timeout=10 "$@" >"$KEPT/apt" 2>&1; then
        said=
    else
        cat "$KEPT/apt" >>"$LOG"
        said=$(sed -n "/^E: /{s/.*/ said='&'/p;q}" "$KEPT/apt")
        return 1
    fi
}

# Once in a machine's life, and until it worked once. A repository that is out of reach delays no machine: what is needed may be
# installed already.
update_system() {
    [ -e "$KEPT/updated" ] && return
    if run_apt 120 update && run_apt 900 upgrade; then
        touch "$KEPT/updated"
    else
        say "going on with what is installed: reason=not-updated$said"
        return 1
    fi
}

# The system's own timers upgrade no packages: they would restart services while the machine is in DNS, on all machines at about the same
# time. `rollcall patch` does it batch by batch. (APT::Periodic::Enable: /usr/lib/apt/apt.systemd.daily)
stop_unattended_upgrades() {
    put /etc/apt/apt.conf.d/99rollcall 644 <<'END'
APT::Periodic::Enable "0";
END
}

add() {
    run_apt 600 install --no-install-recommends "$1"
}

need() {
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            add "$package" || { run_apt 120 update && add "$package"; } ||
            die "reason=package-missing package=$package$said"
    done
}

# Packed, since a Triton machine has room for little.
unpack_get_release() {
    sed -n '/^#GET_RELEASE$/{n;p;}' "$0" | "$ROOT/usr/bin/python3" -c '
import base64, bz2, sys
sys.stdout.buffer.write(bz2.decompress(base64.b85decode(sys.stdin.read().strip())))
' >"$KEPT/get_release.py"
}

# SYSTEM
# The proxy and the mirror of apt, which are needed before there is a release. Whatever leaves this machine by HTTP goes by the proxy: apt,
# this script, and from the environment of systemd the agent, podman and workloads.
use_first_settings() {
    unpack_get_release
    line=$(timeout 60 "$ROOT/usr/bin/python3" "$KEPT/get_release.py" first "$0" "$ROOT" 2>>"$LOG")
    [ "$line" ] || return 0
    # shellcheck disable=SC2086,SC2163 # words are what is wanted
    export $line
    # shellcheck disable=SC2086
    systemctl set-environment $line
}

# The agent calls it if a setting of the system has changed.
set_up_system() {
    use_first_settings
    prepare_system
}

# END
# The release that the settings name is in place: with its units, and as $RELEASE. One that is there already needs no store.
get_release() {
    # Five stores, each with a minute and its connections.
    changed=$(timeout 420 "$ROOT/usr/bin/python3" "$KEPT/get_release.py" "$0" "$ROOT" 2>"$KEPT/release") || {
        sed '$d' "$KEPT/release" >>"$LOG"
        said=$(sed -n '$p' "$KEPT/release")
        die "${said:-reason=no-release-in-time}"
    }
    cat "$KEPT/release" >>"$LOG"
    CHANGED="$CHANGED${changed:+ $RELEASE}"
    for unit in "$RELEASE"/units/*.service; do
        put "/etc/systemd/system/${unit##*/}" 644 <"$unit"
    done
    # For whoever is on the machine: rollcall status, leave, join.
    put /usr/local/bin/rollcall 755 <<'END'
#!/bin/sh
export PYTHONPATH=/opt/rollcall/current PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -m rollcall "$@"
END
}

agent_says() {
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$RELEASE "$ROOT/usr/bin/python3" -m rollcall "$@"
}

# Who we are, as the agent sees it: CLOUD INSTANCE WORKLOAD…
whoami_line() {
    agent_says whoami 2>"$KEPT/whoami"
}

# SYSTEM
# The system is set to what the settings say, before anything runs: volumes are mounted.
prepare_system() {
    said=$(agent_says prepare 2>>"$LOG") || die "${said:-reason=not-prepared}"
    [ -z "$said" ] || say "$said"
}

# END
# start UNIT PATTERN [NAME]: from now on at every boot, and again where the release or a file like PATTERN was changed. What is enabled
# is started right here, so systemd need not read all units again for it.
start() {
    systemctl enable -q --no-reload "$1.service"
    case $CHANGED in
        *$2* | *"$RELEASE"*) systemctl "${verb:-restart}" "$1.service" ;;
        *) systemctl start "$1.service" ;;
    esac || die "reason=${3:-$1}-not-started"
}

set_up_site() {
    need nginx
    put /var/www/rollcall/index.html 644 <<END
$(sed -e "s/@INSTANCE@/$instance/g" -e "s/@CLOUD@/$cloud/g" "$RELEASE/workloads/site/index.html")
END
    serve /var/www/rollcall
}

# confine_nginx HOME: to what is below it, as any workload.
confine_nginx() {
    put /etc/systemd/system/nginx.service.d/rollcall.conf 644 <<END
$(sed "s|@HOME@|$1|" "$RELEASE/units/confinement.conf")
ProtectSystem=full
END
}

# serve FOLDER: by nginx.
serve() {
    rm -f "$ROOT/etc/nginx/sites-enabled/default"
    put /etc/nginx/rollcall-site.conf 644 <<END
$(sed -e "s/@INSTANCE@/$instance/g" -e "s|@ROOT@|$1|g" "$RELEASE/workloads/site/nginx.conf")
END
    # The agent writes a server for each closed site beside it.
    put /etc/nginx/conf.d/rollcall.conf 644 <<END
server {
    listen 80 default_server;
    listen [::]:80 default_server;
    include /etc/nginx/rollcall-site.conf;
}
include /etc/nginx/rollcall-origins/*.conf;
END
    # Without ranges no header is believed: an empty file is the safe one, until the agent has read them.
    [ -e "$ROOT/etc/nginx/rollcall-edge.conf" ] || put /etc/nginx/rollcall-edge.conf 644 </dev/null
    start nginx nginx
}

set_up_service() {
    put /etc/default/the-service 644 <<END
INSTANCE=$instance
END
    start the-service the-service
}

# serve_workload NAME FOLDER: by nginx. The agent calls it too, for a release in place with another folder.
serve_workload() {
    before=$CHANGED
    confine_nginx "/opt/rollcall/workloads/$1"
    [ "$CHANGED" = "$before" ] || {
        verb=
        systemctl daemon-reload
    }
    serve "$2"
}

# set_up_workload NAME: one of the operator's. Its release is put in place, and then run or served as its definition says. That it is not
# healthy keeps nothing from going on: the agent says so.
set_up_workload() {
    line=$(PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$RELEASE:$KEPT "$ROOT/usr/bin/python3" \
        -m rollcall.workloads "$1" "$0" "$ROOT" "$instance" 2>"$KEPT/workload") || {
        said=$(sed -n '$p' "$KEPT/workload")
        die "${said:-reason=no-workload workload=$1}"
    }
    cat "$KEPT/workload" >>"$LOG"
    # The agent starts it, when a roll-out says which release it has.
    [ "${line%% *}" != agent ] || return 0
    # shellcheck disable=SC2086 # words are what is wanted
    set -- "$1" $line
    name=$1 kind=$2 state=$3 folder=$4
    shift 4
    need "$@"
    if [ "$kind" = nginx ]; then
        serve_workload "$name" "$folder"
        return
    fi
    systemctl daemon-reload
    # The agent starts it, when it has the workload's secrets.
    if [ "$kind" = secret ]; then
        [ "$state" = same ] || systemctl try-restart --no-block "workload-$name.service"
        return
    fi
    systemctl enable -q --no-reload "workload-$name.service"
    if [ "$state" = changed ]; then
        systemctl restart --no-block "workload-$name.service"
    else
        systemctl start --no-block "workload-$name.service"
    fi || die "reason=workload-not-started workload=$name"
}

# What the unit runs.
main() {
    mkdir -p "$KEPT" "${LOG%/*}"
    stop_unattended_upgrades
# SYSTEM
    [ ! -e "$ROOT/usr/bin/python3" ] || use_first_settings
# END
    # At first before anything serves. Where that failed, from then on afterwards, for some minutes: a machine that has all it
    # needs does not wait for its mirrors, and one that lacks something has failed by then.
    [ -e "$KEPT/tried" ] || {
        update_system
        touch "$KEPT/tried"
    }
    need python3 python3-requests
    unpack_get_release
    get_release
    line=$(whoami_line) || die "reason=unknown-machine said='$(sed -n '$p' "$KEPT/whoami")'"
    # shellcheck disable=SC2086 # words are what is wanted
    set -- $line
    cloud=$1 instance=$2
    shift 2
    say "cloud=$cloud instance=$instance workloads=$*"
# SYSTEM
    prepare_system
# END
    need python3-dnspython
    case " $* " in *" site "*) confine_nginx /var/www/rollcall ;; esac
    systemctl daemon-reload
    for workload in "$@"; do
        case $workload in
            site) set_up_site ;;
            the-service) set_up_service ;;
            *) set_up_workload "$workload" ;;
        esac
    done
    start rollcall 'rollcall.[ps]' agent
    say "done"
    for _ in 1 2 3 4 5 6 7 8; do
        update_system && break
        sleep 30
    done
}

# The agent calls `need` and `serve_workload`.
[ -n "${ROLLCALL_SOURCED:-}" ] || {
    "${@:-keep}"
    exit
}
#GET_RELEASE
#FILES
