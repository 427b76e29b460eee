"""What singularity and apptainer mean when they fail: one sentence, and what to do. Data; texts as the engines say them."""

from __future__ import annotations

from mlcube_cli.command import Reason

_SPACES = ("this machine gives ordinary users no user namespaces",
           "ask an administrator for 'sysctl user.max_user_namespaces=15000' (Ubuntu: and "
           "'sysctl kernel.apparmor_restrict_unprivileged_userns=0'), or for the package apptainer-suid")
_NO_RANGE = ("you have no range of user ids in /etc/subuid and /etc/subgid, which --fakeroot takes",
             "ask an administrator for 'usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME', or try "
             "-Prunner.build_args='--fakeroot --ignore-fakeroot-command'")
_NO_FUSE = ("the image's file cannot be mounted, since FUSE does not work here (/dev/fuse, squashfuse, fusermount)",
            "unpack it into a directory once, 'apptainer build --sandbox DIRECTORY IMAGE.sif', and name that: "
            "-Prunner.image=DIRECTORY; or -Prunner.run_args=--unsquash")
_FULL = ("the disk is full", "make room where the image goes, or give another place for temporary files: "
                             "-Prunner.tmpdir=DIRECTORY")
_NO_ANSWER = ("the registry does not answer", "check the network and the proxies; a local archive does too: -Prunner.tar_file="
                                              "FILE of 'docker save'")
_NO_IMAGE = ("there is no such image, or it is private", "check its name; for a private one type: apptainer registry login "
                                                         "--username NAME docker://REGISTRY")
_NO_LIMITS = ("this machine lets ordinary users set no limits on memory and processors",
              "it takes systemd, cgroups v2 and a session of yours; leave 'memory', 'cpuset_cpus' and --memory, --cpu out")

# The first that fits counts: what is particular comes before what is general.
_EVERYWHERE = (
    Reason("failed to create user namespace", *_SPACES),
    Reason("failed to create container process", *_SPACES),
    Reason("user namespace not supported", *_SPACES),
    Reason("user namespaces are not supported", *_SPACES),
    Reason("no mapping entry found in /etc/subuid", *_NO_RANGE),
    Reason("no mapping entry found in /etc/subgid", *_NO_RANGE),
    Reason("not listed in /etc/subuid, fakeroot", *_NO_RANGE),
    Reason("libs/faked: not found", *_NO_RANGE),
    Reason("newuidmap was not found", *_NO_RANGE),
    Reason("error while starting the `faked' daemon", *_NO_RANGE),
    Reason("no space left on device", *_FULL),
    Reason("disk quota exceeded", *_FULL),
    Reason("squashfuse", *_NO_FUSE),
    Reason("fusermount", *_NO_FUSE),
    Reason("/dev/fuse", *_NO_FUSE),
)

BUILD_REASONS = (
    *_EVERYWHERE,
    Reason("you must be the root user", "this version builds recipes only with --fakeroot, or as root",
           "-Prunner.build_args=--fakeroot"),
    Reason("reference does not exist", "docker does not have this image", "docker pull it first, or check its name"),
    Reason("unauthorized", *_NO_IMAGE),
    Reason("requested access to the resource is denied", *_NO_IMAGE),
    Reason("authentication required", *_NO_IMAGE),
    Reason("manifest unknown", *_NO_IMAGE),
    Reason("name unknown", *_NO_IMAGE),
    Reason("connection refused", *_NO_ANSWER),
    Reason("no such host", *_NO_ANSWER),
    Reason("i/o timeout", *_NO_ANSWER),
    Reason("network is unreachable", *_NO_ANSWER),
    Reason("tls handshake timeout", *_NO_ANSWER),
    Reason("mksquashfs", "mksquashfs is not here or does not work", "install the package squashfs-tools"),
)

RUN_REASONS = (
    *_EVERYWHERE,
    Reason("image format not recognized", "the image's file is none that this engine knows",
           "build it anew: mlcube configure --force"),
    Reason("network requires root", "an ordinary user gets the network 'none' or the machine's own, and no other",
           "write 'network: none' or leave it out, or ask an administrator to allow the network in apptainer.conf"),
    Reason("cannot use cgroups", *_NO_LIMITS),
    Reason("cgroups config", *_NO_LIMITS),
    Reason("failed to set working directory", "'workdir' is not in the image", "name a directory of the image"),
    Reason("unknown flag", "this version of the engine does not know one of the platform's words",
           "its message stands above; look at 'run_args', or at what --help lists"),
    Reason("unknown shorthand flag", "this version of the engine does not know one of the platform's words",
           "its message stands above; look at 'run_args', or at what --help lists"),
    Reason("mount source", "a path to be mounted is not there", "its message stands above; look at 'binds' and 'run_args'"),
    Reason("mount proc", "this machine allows no process name space of its own (as inside some containers)",
           "-Prunner.run_args=--pid=false; then processes that the task leaves running may outlive it"),
)
