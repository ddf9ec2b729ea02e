"""Say what the system of a machine is set to, besides what it joins: one machine setting for each part.

The program writes these settings, and the boot script applies them by `rollcall prepare` before a workload starts.
"""

from __future__ import annotations

# The further volumes of an EC2 machine, each as DEVICE=FOLDER.
VOLUMES = "rollcall-volumes"

# The time zone, the HTTP proxy, the mirror of apt, and where the journal goes: `syslog=HOST:PORT` or `http=URL`. The boot script reads the
# proxy and the mirror before there is an agent.
TIMEZONE, PROXY, APT_MIRROR, LOGS = "rollcall-timezone", "rollcall-proxy", "rollcall-apt-mirror", "rollcall-logs"
# A machine takes another value of these while it runs.
IN_PLACE = (TIMEZONE, APT_MIRROR, LOGS)
# The ARN of the role with the policies of the fleet. The agent gets credentials of it for workloads with `awsCredentials`.
CREDENTIALS = "rollcall-credentials"
# Where the boot script keeps itself.
SCRIPT = "/usr/local/lib/rollcall/boot.sh"
