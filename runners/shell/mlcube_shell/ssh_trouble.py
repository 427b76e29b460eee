"""What ssh means when it fails: one sentence, and what to do. Data; texts as OpenSSH says them [tried: 9.2]."""

from __future__ import annotations

from mlcube_cli.command import Reason

_CHANGED = ("the host's key is another one than before: somebody else may answer in its place",
            "ask its administrator; where the host was really set up anew, forget the old key with the ssh-keygen -R line "
            "above")
_TOO_MANY = ("the host gave up before the right key was offered: your agent holds too many",
             "say which one it takes: -Prunner.identity_file=FILE -Prunner.ssh_options=IdentitiesOnly=yes")
_UNKNOWN = ("nobody has seen this host's key before, and there is no terminal to ask you on",
            "connect once by hand, 'ssh HOST', and compare the key; or say host_key: accept-new")
_NO_NAME = ("there is no such host, neither for your ssh configuration nor for the name service",
            "check the name, or add it to ~/.ssh/config")
_SILENT = ("the host does not answer in time",
           "check that it is on, the network or VPN, and the port; -Prunner.connect_timeout=SECONDS waits longer")
_NOBODY = ("nothing listens there", "check that the host's ssh server is on, and the port: -Prunner.port=NUMBER")
_CUT = ("the connection was cut", "check the network; what runs there goes on")
_CONFIG = ("ssh does not understand its settings", "its message stands above; look at ~/.ssh/config and 'ssh_options'")
_OPEN_KEY = ("others can read the private key, so ssh does not use it", "chmod 600 the key's file")

# The first that fits counts: what is particular comes before what is general.
REASONS = (
    Reason("remote host identification has changed", *_CHANGED),
    Reason("key has been revoked", "the host's key was revoked", "ask its administrator"),
    Reason("requested strict checking", "nobody has seen this host's key before, and host_key is strict",
           "connect once by hand, 'ssh HOST', and compare the key; or say host_key: accept-new"),
    Reason("host key verification failed", *_UNKNOWN),
    Reason("are too open", *_OPEN_KEY),
    Reason("bad owner or permissions on", "others can write your ssh configuration, so ssh does not use it",
           "chmod 600 the file that it names"),
    Reason("too many authentication failures", *_TOO_MANY),
    Reason("no such identity", "the private key is not there, and the host takes no other",
           "name one that is: -Prunner.identity_file=FILE, or leave it to ssh's own configuration"),
    Reason("permission denied, please try again",
           "the host did not take the password, or there was no terminal to ask for it on",
           "type the command on a terminal; scripts find the connection then, for as long as control_persist says"),
    Reason("permission denied (", "the host does not let you in: wrong user, or a key that it does not know",
           "try it by hand: ssh HOST; -Prunner.user=NAME and -Prunner.identity_file=FILE say who you are there"),
    Reason("account is expired", "your account there has expired", "ask the host's administrator"),
    Reason("could not resolve hostname", *_NO_NAME),
    Reason("name or service not known", *_NO_NAME),
    Reason("stdio forwarding failed", "the host to go through does not reach the other one",
           "check 'host' and 'port' as they are seen from there"),
    Reason("connection refused", *_NOBODY),
    Reason("timed out", *_SILENT),
    Reason("no route to host", "no way leads to the host", "check the network or VPN"),
    Reason("network is unreachable", "no way leads to the host", "check the network or VPN"),
    Reason("too long for unix domain socket", "the name of the connection's socket is too long",
           "unset XDG_RUNTIME_DIR, so that it lies below /tmp"),
    Reason("others could write into", "the directory of our connections cannot be trusted", "remove it, or ask who made it"),
    Reason("bad configuration option", *_CONFIG),
    Reason("bad port", *_CONFIG),
    Reason("can't open user config file", *_CONFIG),
    Reason("extra arguments at end of line", *_CONFIG),
    Reason("no matching host key type found", "ssh and the host share no kind of host key",
           "an old host: -Prunner.ssh_options=HostKeyAlgorithms=+ssh-rsa"),
    Reason("no matching key exchange method found", "ssh and the host share no way to agree on keys",
           "an old host: -Prunner.ssh_options=KexAlgorithms=+diffie-hellman-group14-sha1"),
    Reason("session open refused by peer", "the host allows no further session on this connection",
           "wait for the others, or ask its administrator for a higher MaxSessions"),
    Reason("administratively prohibited", "the host to go through forbids it", "ask its administrator for AllowTcpForwarding"),
    Reason("this account is currently not available", "your account there has no shell", "ask the host's administrator"),
    Reason("broken pipe", *_CUT),
    Reason("not responding", *_CUT),
    Reason("connection reset", *_CUT),
    Reason("closed by unknown port", "the host to go through, or your ProxyCommand, does not get there",
           "what it says against it, 'ssh HOST' shows"),  # with ControlPersist ssh throws that away [tried]
    Reason("closed by", "the host closed the connection before it let you in",
           "try it by hand: ssh -v HOST; it may be full, starting, or refusing your address"),
)
