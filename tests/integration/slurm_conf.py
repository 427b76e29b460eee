"""The configuration of a test's Slurm: as small clusters have it, but quick to schedule and with little to wait for."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping, Sequence

NODES = ("node1", "node2", "node3")  # the last one has two GPUs, as far as Slurm knows
CPUS, MEMORY = 4, 16000  # of each node, in MB, whatever the machine has
CONFIGURATION = {
    "ClusterName": "test", "AuthType": "auth/munge", "CredType": "cred/munge",
    "ProctrackType": "proctrack/linuxproc", "TaskPlugin": "task/none", "SwitchType": "switch/none", "MpiDefault": "none",
    "SelectType": "select/cons_tres", "SelectTypeParameters": "CR_Core_Memory",
    "AccountingStorageType": "accounting_storage/none", "JobCompType": "jobcomp/none",
    "JobAcctGatherType": "jobacct_gather/linux", "JobAcctGatherFrequency": "task=1", "JobAcctGatherParams": "OverMemoryKill",
    "PreemptType": "preempt/partition_prio", "PreemptMode": "REQUEUE", "GresTypes": "gpu",
    "ReturnToService": "2", "KillWait": "5", "MinJobAge": "300", "MaxArraySize": "1001", "MaxJobCount": "10000",
    "DefMemPerCPU": "2000", "SlurmdTimeout": "30", "MailProg": "/bin/true", "PropagateResourceLimits": "NONE",
    "SlurmdParameters": "config_overrides", "SchedulerParameters": "sched_interval=1,bf_interval=1,batch_sched_delay=0",
}
# A job in `low` or `spot` gives way to one in `urgent`: it is queued again, or cancelled.
PARTITIONS = {
    "debug": "Default=YES PriorityTier=10 PreemptMode=OFF",
    "short": "MaxTime=1 DefaultTime=1 PriorityTier=10 PreemptMode=OFF",
    "low": "PriorityTier=1 PreemptMode=REQUEUE",
    "spot": "PriorityTier=1 PreemptMode=CANCEL",
    "urgent": "PriorityTier=100 PreemptMode=OFF",
}


def configuration(settings: Mapping[str, str], nodes: Sequence[str], ports: Sequence[int], gpus: int = 0) -> str:
    """A slurm.conf of these nodes, all on loopback: a port for slurmctld and one for each; the last has GPUs."""
    values = {**CONFIGURATION, "SlurmctldPort": str(ports[0]), **settings}
    lines = [f"{name}={value}" for name, value in values.items() if value]
    for node, port in zip(nodes, ports[1:]):
        devices = f" Gres=gpu:{gpus}" if gpus and node == nodes[-1] else ""
        lines.append(f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} "
                     f"RealMemory={MEMORY}{devices}")
    lines += [f"PartitionName={name} Nodes=ALL {words}" for name, words in PARTITIONS.items()]
    return "\n".join(lines) + "\n"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that the kernel gives to clients."""
    found: list[int] = []
    for port in random.sample(range(20000, 32000), 200):
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("there are no free ports")
