"""Machines that really boot: `NspawnHypervisor`, and what the daemon needs beside it."""

from localcloud.machines.hypervisor.container import enter_command
from localcloud.machines.hypervisor.disk import REPOSITORY
from localcloud.machines.hypervisor.metadata import MetadataServer, MetadataSide
from localcloud.machines.hypervisor.nspawn import HypervisorError, MachineStatus, NspawnHypervisor, check_host, cleanup

__all__ = [
    "REPOSITORY",
    "HypervisorError",
    "MachineStatus",
    "MetadataServer",
    "MetadataSide",
    "NspawnHypervisor",
    "check_host",
    "cleanup",
    "enter_command",
]
