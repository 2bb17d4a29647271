"""The control of the matrix: punch.py between the homes."""
import itertools

import probe
import punch


class Control:
    tries = 1            # what can be done at all is shown by doing it once
    together = False     # one processor's worth of work: the times would suffer

    def __init__(self, net, args):
        self.net = net
        self.observers = probe.Observers([net.hosts[name] for name in ("relay", "boot", "stranger")])
        # A carrier's homes must not share ports, and a try's holes must not serve the next.
        self.ports = itertools.count(40000)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.observers.close()

    def begin(self, transport):
        pass

    def attempt(self, dialler, listener, transport, wanted):
        """The path, seconds, whether at the first attempt, words."""
        a, b = self.net.hosts[dialler], self.net.hosts[listener]
        plain, both = (punch.plain_udp, punch.punch_udp) if transport == "quic" else (punch.plain_tcp, punch.punch_tcp)
        if plain(a, b, self.observers, next(self.ports)):
            return "dial", 0, True, ""
        if plain(b, a, self.observers, next(self.ports)):
            return "reverse", 0, True, ""
        seconds = both(a, b, self.observers, (next(self.ports), next(self.ports)))
        return ("punch" if seconds else "relay"), seconds, True, ""
